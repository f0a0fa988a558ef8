//! Names of Pods, while CoreDNS's ConfigMap goes through the modes of `pods`: each
//! time a real CoreDNS that is set up so is the judge. The CoreDNS that is asked
//! for what is not decided here has `pods insecure`, so a query that is forwarded
//! shows.

use std::net::Ipv4Addr;

use harness::{
    cluster::{Cluster, require_cluster},
    coredns::CoreDns,
    kubernetes::Kubernetes,
    node::Node,
    objects::{mk_config_map, mk_namespace, mk_pod, mk_service_account},
    packet::query::qtype,
};
use k8s_openapi::api::core::v1::Pod;

use crate::{
    agree::agree,
    ask::{Server, Servers},
    random_questions::Question,
    ways::Ways,
};

/// Where the judge answers.
const JUDGE_IP: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 11);

/// Left of `pod.cluster.local`.
const NAMES: [&str; 22] = [
    "red",
    "blue",
    "gone",
    "10-1-0-1.red",
    "10-1-0-1.blue",
    "10-1-0-1.gone",
    "10-1-0-2.red",
    "10-1-0-3.red",
    "10-1-0-4.red",
    "10-1-0-5.red",
    "10-1-0-6.red",
    "10-1-0-7.blue",
    "10-9-0-1.red",
    "x.10-1-0-1.red",
    "_a._b.10-1-0-1.red",
    "10-1-0-01.red",
    "fd00--1.blue",
    "FD00--1.blue",
    "fd00-0-0-0-0-0-0-1.blue",
    "fd00-0--1.blue",
    "web.red",
    "10-1-0-1--.red",
];

const TYPES: [u16; 6] = [qtype::A, qtype::AAAA, qtype::SRV, qtype::TXT, qtype::CNAME, qtype::PTR];

fn questions() -> Vec<Question> {
    let names = NAMES.into_iter().map(|name| format!("{name}.pod.cluster.local"));
    names.flat_map(|name| TYPES.map(|qtype| Question::new(&name, qtype))).collect()
}

/// Makes a Pod that is on a node, labelled `team`, with a phase and an address.
fn run(kubernetes: &Kubernetes<'_>, name: &str, team: &str, phase: &str, ip: &str) -> Pod {
    let (namespace, name) = name.split_once('/').unwrap();
    let pod = mk_pod(namespace, name, &[("team", team)], phase, ip);
    kubernetes.apply(&pod);
    kubernetes.apply_status(&pod);
    pod
}

fn create(kubernetes: &Kubernetes<'_>) {
    for namespace in ["red", "blue"] {
        kubernetes.apply_global(&mk_namespace(namespace));
        kubernetes.apply(&mk_service_account(namespace, "default"));
    }
    for (name, team, phase, ip) in [
        ("red/one", "a", "Running", "10.1.0.1"),
        ("red/two", "b", "Pending", "10.1.0.2"),
        ("red/done", "a", "Succeeded", "10.1.0.3"),
        ("red/failed", "a", "Failed", "10.1.0.4"),
        ("red/new", "a", "Pending", ""),
        ("red/host-1", "a", "Running", "10.9.0.1"),
        ("red/host-2", "b", "Running", "10.9.0.1"),
        ("red/host-3", "b", "Running", "10.9.0.1"),
        ("blue/six", "a", "Running", "fd00::1"),
    ] {
        run(kubernetes, name, team, phase, ip);
    }
}

/// What happens to Pods one after another.
fn changes(kubernetes: &Kubernetes<'_>, mut agree: impl FnMut(&str)) {
    run(kubernetes, "red/new", "a", "Running", "10.1.0.5");
    agree("a Pod got its address");
    run(kubernetes, "red/new", "a", "Running", "10.1.0.6");
    agree("another one");
    let pod = run(kubernetes, "blue/old", "a", "Running", "10.1.0.7");
    agree("a Pod came");
    kubernetes.delete(&pod);
    agree("it is being deleted");
    let mut ended = mk_pod("blue", "old", &[], "Running", "10.1.0.3");
    kubernetes.apply_status(&ended);
    agree("it changed while it was being deleted");
    ended.status.as_mut().unwrap().phase = Some("Succeeded".to_owned());
    kubernetes.apply_status(&ended);
    agree("it has ended");
    run(kubernetes, "red/host-2", "b", "Failed", "10.9.0.1");
    agree("one of three at an address has ended");
    run(kubernetes, "red/two", "a", "Running", "10.1.0.2");
    agree("a Pod was labelled otherwise");
}

#[test]
fn pods_are_followed_while_coredns_follows_them() {
    if !require_cluster() {
        return;
    }
    let node = Node::new("pods");
    let cluster = Cluster::start(&node);
    node.add_address(JUDGE_IP.into());
    let ways = Ways::new(&node);
    create(&cluster.kubernetes);
    let agent = ways.start_agent(&node, &cluster.judged_flags());
    let questions = questions();
    let kubeconfig = format!("kubeconfig {}", cluster.kubernetes.kubeconfig().display());
    for options in [
        "pods insecure",
        "pods verified",
        "pods disabled",
        "pods verified\n labels team=a",
        "pods verified\n labels team=b",
        "pods verified\n namespaces blue",
        "pods insecure",
    ] {
        let corefile = |of_block: &str, of_plugin: &str| {
            format!(
                ".:53 {{\n {of_block}\n errors\n kubernetes cluster.local {{\n {options}\n \
                 {of_plugin}\n }}\n}}\n"
            )
        };
        let text = corefile("", "");
        let map = mk_config_map("kube-system", "coredns", &[("Corefile", text.as_str())]);
        cluster.kubernetes.apply(&map);
        let text = corefile(&format!("bind {JUDGE_IP}"), &kubeconfig);
        let coredns = CoreDns::start(node.namespace(), (JUDGE_IP, 53).into(), &text);
        let judge = Server::new(node.namespace(), coredns.address());
        let mut servers = Servers::of(&agent, &ways, judge);
        let mut agree = |when: &str| agree(when, &mut servers, &questions);
        agree(options);
        if options == "pods verified" {
            changes(&cluster.kubernetes, agree);
        }
    }
}
