//! CoreDNS's own settings, one after another by a change of its ConfigMap: each
//! time a real CoreDNS that is set up so is the judge.

use std::net::Ipv4Addr;

use harness::{
    cluster::{Cluster, require_cluster},
    coredns::CoreDns,
    kubernetes::Kubernetes,
    node::Node,
    objects::{
        mk_config_map, mk_endpoint, mk_endpoint_slice, mk_external_name_service,
        mk_headless_service, mk_namespace, mk_service,
    },
    packet::query::qtype,
};
use kube::Resource;

use crate::{
    agree::agree,
    ask::{Server, Servers},
    random_questions::Question,
    ways::Ways,
};

/// Where the judge answers.
const JUDGE_IP: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 11);

const OPTIONS: [&str; 11] = [
    "",
    "namespaces red",
    "namespaces red none\n namespaces blue",
    "namespaces Red",
    "namespace_labels team=a",
    "namespace_labels team notin (a, b),!gone",
    "labels team=a",
    "labels team in (,a)\n noendpoints",
    "ignore empty_service",
    "ignore empty_service\n labels !team",
    "ignore empty_service\n noendpoints\n namespaces blue",
];

const NAMES: [&str; 22] = [
    "cluster.local",
    "red.svc.cluster.local",
    "blue.svc.cluster.local",
    "blue.pod.cluster.local",
    "green.svc.cluster.local",
    "10-1-2-3.red.pod.cluster.local",
    "10-1-2-3.blue.pod.cluster.local",
    "full.red.svc.cluster.local",
    "full.blue.svc.cluster.local",
    "empty.red.svc.cluster.local",
    "empty.blue.svc.cluster.local",
    "_http._tcp.empty.blue.svc.cluster.local",
    "db.red.svc.cluster.local",
    "db.blue.svc.cluster.local",
    "10-244-1-2.db.red.svc.cluster.local",
    "10-244-2-3.db.blue.svc.cluster.local",
    "alias.blue.svc.cluster.local",
    "1.1.96.10.in-addr.arpa",
    "2.2.96.10.in-addr.arpa",
    "2.1.244.10.in-addr.arpa",
    "3.2.244.10.in-addr.arpa",
    "9.9.244.10.in-addr.arpa",
];

const TYPES: [u16; 5] = [qtype::A, qtype::AAAA, qtype::SRV, qtype::TXT, qtype::PTR];

/// Returns the Corefile; `running` are lines for the one that runs here, for the
/// server block and for the plugin.
fn corefile(options: &str, running: [&str; 2]) -> String {
    let [of_block, of_plugin] = running;
    format!(
        ".:53 {{\n {of_block}\n errors\n kubernetes cluster.local in-addr.arpa ip6.arpa {{\n \
         pods insecure\n {options}\n {of_plugin}\n }}\n}}\n"
    )
}

fn labelled<K: Resource>(mut object: K, team: &str) -> K {
    let labels = object.meta_mut().labels.get_or_insert_default();
    labels.insert("team".to_owned(), team.to_owned());
    object
}

fn create(kubernetes: &Kubernetes<'_>) {
    kubernetes.apply_global(&labelled(mk_namespace("red"), "a"));
    kubernetes.apply_global(&labelled(mk_namespace("blue"), "b"));
    kubernetes.apply_global(&mk_namespace("green"));
    for (namespace, net) in [("red", 1), ("blue", 2)] {
        let ports = ["http:80/TCP"];
        kubernetes.apply(&labelled(
            mk_service(namespace, "full", &format!("10.96.{net}.1"), &ports),
            "a",
        ));
        kubernetes.apply(&mk_service(namespace, "empty", &format!("10.96.{net}.2"), &ports));
        kubernetes.apply(&labelled(mk_headless_service(namespace, "db", &ports), ""));
        kubernetes.apply(&mk_external_name_service(
            namespace,
            "alias",
            &format!("empty.{namespace}.svc.cluster.local"),
        ));
        let slice = |service: &str, suffix: &str, last: u8| {
            let endpoint = mk_endpoint(Ipv4Addr::new(10, 244, net, last).into());
            mk_endpoint_slice(namespace, service, suffix, vec![endpoint], &ports)
        };
        kubernetes.apply(&slice("full", "a", 1));
        kubernetes.apply(&labelled(slice("db", "a", 2), "a"));
        kubernetes.apply(&slice("db", "b", 3));
    }
}

fn questions() -> Vec<Question> {
    NAMES.into_iter().flat_map(|name| TYPES.map(|qtype| Question::new(name, qtype))).collect()
}

#[test]
fn the_settings_of_coredns_are_followed() {
    if !require_cluster() {
        return;
    }
    let node = Node::new("settings");
    let cluster = Cluster::start(&node);
    node.add_address(JUDGE_IP.into());
    let ways = Ways::new(&node);
    create(&cluster.kubernetes);
    let agent = ways.start_agent(&node, &cluster.judged_flags());
    let questions = questions();
    let bind = format!("bind {JUDGE_IP}");
    let kubeconfig = format!("kubeconfig {}", cluster.kubernetes.kubeconfig().display());
    for options in OPTIONS {
        let text = corefile(options, ["", ""]);
        let map = mk_config_map("kube-system", "coredns", &[("Corefile", text.as_str())]);
        cluster.kubernetes.apply(&map);
        let text = corefile(options, [&bind, &kubeconfig]);
        let coredns = CoreDns::start(node.namespace(), (JUDGE_IP, 53).into(), &text);
        let judge = Server::new(node.namespace(), coredns.address());
        let mut servers = Servers::of(&agent, &ways, judge);
        let mut agree = |when: &str| agree(when, &mut servers, &questions);
        agree(options);
        if options == "namespace_labels team=a" {
            cluster.kubernetes.apply_global(&labelled(mk_namespace("blue"), "a"));
            agree("after a Namespace was labelled");
            cluster.kubernetes.apply_global(&labelled(mk_namespace("blue"), "b"));
            agree("after it was labelled otherwise");
        }
    }
}
