//! kubespray's NodeLocal `DNSCache` exchanged for nodedns on a running cluster, and
//! back, while pods on both nodes ask.

use std::time::{Duration, Instant};

use harness::{node::LOCAL_IP, nodes::NODES};

use crate::{
    load, removal,
    rig::{AGENTS, NAMESPACE, PIN_DIR, Rig},
};

const INCUMBENT: &str = include_str!("manifests/incumbent.yaml");
/// The label of the pods of both.
const PODS: &str = "k8s-app=node-local-dns";
const DAEMON_SET: &str = "daemonset/nodelocaldns";
const A_WHILE: Duration = Duration::from_secs(1);

/// Installs the stand-in.
#[track_caller]
pub fn install(rig: &Rig<'_>) {
    rig.cluster.apply(INCUMBENT);
    rig.cluster.rolled_out(NAMESPACE, DAEMON_SET);
    rig.cluster.ready_pods(NAMESPACE, PODS, NODES);
}

/// The stand-in makes way for nodedns.
pub fn there(rig: &Rig<'_>) {
    let clients = load::start_everywhere(rig);
    let start = Instant::now();
    rig.deploy("kubespray", DAEMON_SET);
    rig.cluster.ready_pods(NAMESPACE, PODS, NODES);
    println!("nodedns was in the place of NodeLocal DNSCache after {:?}", start.elapsed());
    for (node, steady) in clients {
        steady.go_on(A_WHILE);
        let report = steady.finish();
        load::show(&format!("NodeLocal DNSCache exchanged for nodedns, {node}"), &report);
        assert_eq!((report.lost(), report.wrong()), (0, 0), "{report}");
        assert!(rig.answered(&node) > 0, "the kernel of {node} answers");
    }
}

/// nodedns makes way for the stand-in.
pub fn back(rig: &Rig<'_>) {
    let clients = load::start_everywhere(rig);
    let start = Instant::now();
    rig.cluster.apply(INCUMBENT);
    rig.cluster.rolled_out(NAMESPACE, DAEMON_SET);
    rig.cluster
        .wait_until("the agents are gone", || rig.cluster.pods(NAMESPACE, AGENTS).is_empty());
    rig.cluster.ready_pods(NAMESPACE, PODS, NODES);
    removal::uninstall(rig);
    for machine in rig.cluster.machines() {
        assert!(!machine.path(PIN_DIR).exists(), "{PIN_DIR} of {}", machine.name());
        let address = LOCAL_IP.to_string();
        assert!(machine.run("ip", &["address"]).contains(&address), "{address} stays");
    }
    println!("NodeLocal DNSCache was back after {:?}", start.elapsed());
    for (node, steady) in clients {
        steady.go_on(A_WHILE);
        let report = steady.finish();
        load::show(&format!("and back, {node}"), &report);
        assert_eq!((report.lost(), report.wrong()), (0, 0), "{report}");
    }
}
