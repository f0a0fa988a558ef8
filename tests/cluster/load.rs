//! A pod that asks 200 names a second while something changes.

use harness::{
    node::LOCAL_IP,
    nodes::{OUTSIDE, outside, pods::Pod},
    packet::query::{Edns, Query, qtype},
    steady::{Question, Report, Steady},
};

use crate::rig::Rig;

const RATE: u32 = 200;

/// Questions in a row, of which the kernel answers the first half.
const ROW: usize = 8;

/// Whether the kernel answers a question; else it is passed up.
pub fn is_of_the_kernel(question: usize) -> bool {
    question % ROW < ROW / 2
}

/// Returns questions in rows: four that the kernel answers and four that it passes up.
/// Of the latter two are about the cluster, which the agent knows, and two about names
/// outside, each of which comes again only when no cache has it any more.
fn questions() -> Vec<Question> {
    let one =
        |query: Query, answer: &str| Question { query, expect: vec![vec![answer.to_owned()]] };
    let any = |name: &str, kind| Question { query: Query::new(name, kind), expect: Vec::new() };
    let web = || Query::new("web.shop.svc.cluster.local", qtype::A);
    // For local use (RFC 6891 9), which the kernel does not look into.
    let edns = Edns { options: vec![(65001, Vec::new())], ..Edns::default() };
    let pod = Query::new("10-244-9-9.default.pod.cluster.local", qtype::A);
    let outside = |number| {
        let (name, address) = outside(number);
        one(Query::new(&name, qtype::A), &address.to_string())
    };
    let row = |number| {
        [
            one(web(), "10.96.7.1"),
            any("db.shop.svc.cluster.local", qtype::A),
            any("web.shop.svc.cluster.local", qtype::AAAA),
            any("kubernetes.default.svc.cluster.local", qtype::A),
            outside(2 * number),
            one(web().with_edns(edns.clone()), "10.96.7.1"),
            outside(2 * number + 1),
            one(pod.clone(), "10.244.9.9"),
        ]
    };
    (0..OUTSIDE / 2).flat_map(row).collect()
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
    println!("{what}: in the kernel: {}", report.only(is_of_the_kernel));
    println!("{what}: passed up: {}", report.only(|question| !is_of_the_kernel(question)));
}
