//! Rolling updates: of the agents, and of pods behind a headless Service.

use std::time::{Duration, Instant};

use harness::{
    client::ask,
    node::LOCAL_IP,
    nodes::{NODES, pods::Pod},
    packet::query::{Query, qtype},
    wait::wait_until,
};

use crate::{
    load,
    rig::{AGENTS, NAMESPACE, Rig},
};

const A_WHILE: Duration = Duration::from_secs(1);
/// How long controllers may take, on a busy machine.
const BEHIND: Duration = Duration::from_secs(10);

/// One of so many questions that the agents answer may have to wait for more than a
/// second, after which clients ask again: with a fiftieth of a CPU as its share, an
/// agent is late when nodes and tests have too little to live on. Where it is alone on
/// a node none is (`tests/network/takeover.rs`).
const LATE_ONE_IN: usize = 100;

/// Updates the DaemonSet while pods on both nodes ask; what the kernel answers is not
/// touched by that, and of the rest nothing is lost.
pub fn agents(rig: &Rig<'_>) {
    let before = rig.cluster.ready_pods(NAMESPACE, AGENTS, NODES);
    let clients = load::start_everywhere(rig);
    let start = Instant::now();
    rig.cluster.kubectl_ok(&["rollout", "restart", "-n", NAMESPACE, "daemonset/nodedns"]);
    rig.cluster.rolled_out(NAMESPACE, "daemonset/nodedns");
    let after = rig.cluster.ready_pods(NAMESPACE, AGENTS, NODES);
    println!("all agents were exchanged after {:?}", start.elapsed());
    let is_old = |pod: &Pod| before.iter().any(|old| old.name == pod.name);
    assert!(!after.iter().any(is_old), "{after:?}");
    for (node, steady) in clients {
        steady.go_on(A_WHILE);
        let report = steady.finish();
        load::show(&format!("agents exchanged, {node}"), &report);
        let hits = report.only(load::is_of_the_kernel);
        assert_eq!((hits.lost(), hits.wrong(), hits.asked_again()), (0, 0, 0), "{hits}");
        let misses = report.only(|question| !load::is_of_the_kernel(question));
        assert_eq!((misses.lost(), misses.wrong()), (0, 0), "{misses}");
        assert!(misses.asked_again() * LATE_ONE_IN <= misses.fates.len(), "{misses}");
    }
}

/// Exchanges the pods of a StatefulSet; each name leads to its new pod.
pub fn stateful_set(rig: &Rig<'_>) {
    let before = rig.cluster.ready_pods("shop", "app=db", 2);
    let clients = load::start_everywhere(rig);
    let from = rig.cluster.ready_pods("shop", "app=musl", NODES);
    rig.cluster.kubectl_ok(&["rollout", "restart", "-n", "shop", "statefulset/db"]);
    rig.cluster.rolled_out("shop", "statefulset/db");
    let after = rig.cluster.ready_pods("shop", "app=db", 2);
    assert!(after.iter().all(|new| before.iter().all(|old| old.ip != new.ip)), "{after:?}");
    for client in &from {
        let network = client.network("busybox");
        let answers = |name: &str| {
            let name = format!("{name}.shop.svc.cluster.local");
            let mut answers =
                ask(&network, (LOCAL_IP, 53).into(), &Query::new(&name, qtype::A)).answers();
            answers.sort();
            answers
        };
        // The endpoint controller may be some time behind the pods.
        let leads_to = |name: &str, expect: &[&str]| {
            let what = format!("{name} leads to {expect:?} on {}", client.node);
            wait_until(&what, BEHIND, || answers(name) == expect);
        };
        for pod in &after {
            leads_to(&format!("{}.db", pod.name), &[&pod.ip]);
        }
        let mut all: Vec<_> = after.iter().map(|pod| pod.ip.as_str()).collect();
        all.sort_unstable();
        leads_to("db", &all);
    }
    for (node, steady) in clients {
        let report = steady.finish();
        load::show(&format!("StatefulSet exchanged, {node}"), &report);
        assert_eq!(report.lost(), 0, "{report}");
    }
}
