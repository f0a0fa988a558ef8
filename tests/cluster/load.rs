//! A pod that asks 200 names a second while something changes.

use harness::{
    node::LOCAL_IP,
    nodes::pods::Pod,
    packet::query::{Query, qtype},
    steady::{Question, Report, Steady},
};

use crate::rig::Rig;

const RATE: u32 = 200;

/// Questions of [`questions`] that the kernel answers, and those that it passes up.
pub const IN_KERNEL: std::ops::Range<usize> = 0..4;
pub const PASSED_UP: std::ops::Range<usize> = 4..8;

/// Returns four questions that the kernel answers and four that it passes up:
/// names of the cluster that only the agent knows, and one from outside.
fn questions() -> Vec<Question> {
    let name = |name: &str| Question {
        query: Query::new(name, qtype::A),
        expect: vec![vec!["10.96.7.1".to_owned()]],
    };
    let any =
        |name: &str, kind: u16| Question { query: Query::new(name, kind), expect: Vec::new() };
    let outside = Question {
        query: Query::new("www.example.com", qtype::A),
        expect: vec![vec!["192.0.2.80".to_owned()]],
    };
    vec![
        name("web.shop.svc.cluster.local"),
        any("db.shop.svc.cluster.local", qtype::A),
        any("web.shop.svc.cluster.local", qtype::AAAA),
        any("kubernetes.default.svc.cluster.local", qtype::A),
        outside.clone(),
        any("_http._tcp.web.shop.svc.cluster.local", qtype::SRV),
        any("1.7.96.10.in-addr.arpa", qtype::PTR),
        outside,
    ]
}

/// Starts asking from a pod.
#[track_caller]
pub fn start(pod: &Pod, program: &str) -> Steady {
    Steady::start(&pod.network(program), (LOCAL_IP, 53).into(), &questions(), RATE)
}

/// Starts asking from one pod on each node.
#[track_caller]
pub fn start_everywhere(rig: &Rig<'_>) -> Vec<(String, Steady)> {
    let pods = rig.cluster.ready_pods("default", "app=glibc", harness::nodes::NODES);
    pods.iter().map(|pod| (pod.node.clone(), start(pod, "busybox"))).collect()
}

/// Prints what became of the questions, those of the kernel and the others.
pub fn show(what: &str, report: &Report) {
    println!("{what}: in the kernel: {}", report.only(IN_KERNEL));
    println!("{what}: passed up: {}", report.only(PASSED_UP));
}
