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

/// Updates the DaemonSet while pods on both nodes ask; nothing has to be asked
/// again.
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
        let figures = (report.lost(), report.wrong(), report.asked_again());
        assert_eq!(figures, (0, 0, 0), "{report}");
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
