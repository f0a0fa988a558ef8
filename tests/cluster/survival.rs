//! The agent killed or stopped, and CoreDNS away.

use std::time::Duration;

use harness::{nodes::NODES, steady::Report};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    load::{self, is_of_the_kernel},
    rig::{AGENTS, NAMESPACE, Rig},
};

const A_WHILE: Duration = Duration::from_secs(1);
/// How long the agent is stopped: less than until the kubelet ends it.
const STOPPED: Duration = Duration::from_secs(8);

/// Hits are all answered at once; what is passed up is answered by CoreDNS before a
/// client gives up.
#[track_caller]
fn assert_survived(report: &Report) {
    let hits = report.only(is_of_the_kernel);
    assert_eq!((hits.lost(), hits.wrong(), hits.asked_again()), (0, 0, 0), "{hits}");
    let misses = report.only(|question| !is_of_the_kernel(question));
    assert_eq!((misses.lost(), misses.wrong()), (0, 0), "{misses}");
}

/// Sends a signal to the agent of a node.
#[track_caller]
fn signal(rig: &Rig<'_>, node: &str, signal: Signal) {
    let agents = rig.cluster.ready_pods(NAMESPACE, AGENTS, NODES);
    let agent = agents.iter().find(|agent| agent.node == node).expect("an agent on the node");
    let processes = agent.processes("nodedns");
    let [pid] = processes[..] else { panic!("not one agent: {processes:?}") };
    kill(Pid::from_raw(pid.cast_signed()), signal).expect("the agent's process");
}

/// Kills the agent; the kubelet starts it again.
pub fn killed(rig: &Rig<'_>) {
    let pods = rig.cluster.ready_pods("default", "app=glibc", NODES);
    let pod = pods.first().expect("a pod");
    let restarts = || {
        let agents = rig.cluster.ready_pods(NAMESPACE, AGENTS, NODES);
        agents.iter().map(|agent| agent.restarts).sum::<i32>()
    };
    let before = restarts();
    let steady = load::start(pod, "busybox");
    steady.go_on(A_WHILE);
    signal(rig, &pod.node, Signal::SIGKILL);
    rig.cluster.wait_until("the kubelet has started the agent again", || restarts() > before);
    steady.go_on(A_WHILE);
    let report = steady.finish();
    load::show("agent killed", &report);
    assert_survived(&report);
}

/// Stops the agent for some seconds, as a hung one would be.
pub fn stopped(rig: &Rig<'_>) {
    let pods = rig.cluster.ready_pods("default", "app=glibc", NODES);
    let pod = pods.first().expect("a pod");
    let steady = load::start(pod, "busybox");
    steady.go_on(A_WHILE);
    signal(rig, &pod.node, Signal::SIGSTOP);
    steady.go_on(STOPPED);
    let agents = rig.cluster.pods(NAMESPACE, AGENTS);
    for pid in agents.iter().flat_map(|agent| agent.processes("nodedns")) {
        kill(Pid::from_raw(pid.cast_signed()), Signal::SIGCONT).expect("the agent's process");
    }
    steady.go_on(A_WHILE);
    let report = steady.finish();
    load::show(&format!("agent stopped for {STOPPED:?}"), &report);
    assert_survived(&report);
    rig.cluster.ready_pods(NAMESPACE, AGENTS, NODES);
}

/// Scales CoreDNS to nothing; names of the cluster are resolved all the same.
pub fn without_coredns(rig: &Rig<'_>) {
    let scale = |replicas: &str| {
        let replicas = format!("--replicas={replicas}");
        rig.cluster.kubectl_ok(&["scale", "-n", NAMESPACE, "deployment/coredns", &replicas]);
    };
    scale("0");
    let coredns = || rig.cluster.pods(NAMESPACE, "k8s-app=kube-dns");
    rig.cluster.wait_until("CoreDNS is gone", || coredns().is_empty());
    for (namespace, label, names) in [
        ("shop", "app=musl", ["web", "db", "db-0.db", "kubernetes.default"]),
        ("default", "app=glibc", ["web.shop", "db.shop", "db-0.db.shop", "kubernetes"]),
        ("default", "app=host", ["web.shop", "db.shop", "db-0.db.shop", "kubernetes"]),
    ] {
        for pod in rig.cluster.ready_pods(namespace, label, NODES) {
            let command: Vec<_> = ["lookup"].into_iter().chain(names).collect();
            let answers = rig.cluster.exec_ok(&pod, &command);
            assert_eq!(answers.lines().count(), names.len(), "{label}: {answers}");
        }
    }
    println!("without CoreDNS names of the cluster are resolved, on every node");
    scale("2");
    rig.cluster.rolled_out(NAMESPACE, "deployment/coredns");
}
