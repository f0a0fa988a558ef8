//! Names of Pods, while CoreDNS's ConfigMap goes through the modes of `pods`: each
//! time a real CoreDNS that is set up so is the judge. The CoreDNS that is asked
//! for what is not decided here has `pods insecure`, so a query that is forwarded
//! shows.

use std::net::Ipv4Addr;

use harness::{
    agent::Agent,
    cluster::{Cluster, require_cluster},
    coredns::CoreDns,
    kubernetes::Kubernetes,
    node::{LOCAL_IP, Node},
    objects::{mk_config_map, mk_namespace, mk_pod, mk_service_account},
    packet::query::{Query, qtype},
    wait::wait_until,
};
use k8s_openapi::api::core::v1::Pod;

use crate::{AGREE_LIMIT, Server, compare::difference};

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

fn differences(ours: Server<'_>, judge: Server<'_>) -> Vec<String> {
    let questions = NAMES.into_iter().flat_map(|name| TYPES.map(|qtype| (name, qtype)));
    let differ = |(name, qtype)| {
        let query = Query::new(&format!("{name}.pod.cluster.local"), qtype);
        let difference = difference(&ours.ask(&query, false), &judge.ask(&query, false))?;
        Some(format!("{name} type {qtype}: {difference}"))
    };
    questions.filter_map(differ).collect()
}

fn agree(when: &str, ours: Server<'_>, judge: Server<'_>) {
    let mut last = Vec::new();
    wait_until(&format!("both agree: {when}"), AGREE_LIMIT, || {
        last = differences(ours, judge);
        if !last.is_empty() {
            println!("{when}, not yet: {last:#?}");
        }
        last.is_empty()
    });
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
    let pod = node.add_pod("pod");
    create(&cluster.kubernetes);
    let flags = cluster.judged_flags();
    let _agent = Agent::start(&node, &flags.each_ref().map(String::as_str));
    let ours = Server { from: pod.namespace(), address: (LOCAL_IP, 53).into() };
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
        let judge = CoreDns::start(node.namespace(), (JUDGE_IP, 53).into(), &text);
        let server = Server { from: node.namespace(), address: judge.address() };
        agree(options, ours, server);
        if options == "pods verified" {
            changes(&cluster.kubernetes, |when| agree(when, ours, server));
        }
    }
}
