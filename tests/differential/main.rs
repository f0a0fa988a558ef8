//! The same questions to nodedns, from a pod, and to a real CoreDNS that watches
//! the same API server: their answers cannot be told apart.
#![expect(unreachable_pub, reason = "in a test, pub says: for the files beside this one")]
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on panics with a message"
)]

mod ask;
mod compare;
mod convergence;
mod faults;
mod found;
mod judged;
mod kept;
mod kernel_map;
mod objects;
mod orders;
mod outside;
mod pods;
mod profiles;
mod proof;
mod questions;
mod random;
mod random_objects;
mod random_questions;
mod settings;
mod shrink;
mod world;

use std::time::Duration;

use harness::{
    agent::Agent,
    client::{UdpClient, exchange_tcp},
    cluster::{Cluster, require_cluster},
    netns::Namespace,
    node::{LOCAL_IP, Node},
    packet::query::Query,
    wait::wait_until,
};
use hickory_proto::op::Message;

use crate::compare::difference;

const ANSWER_LIMIT: Duration = Duration::from_secs(6);
const AGREE_LIMIT: Duration = Duration::from_secs(30);

/// Whom a question is put to.
#[derive(Clone, Copy)]
struct Server<'a> {
    from: &'a Namespace,
    address: std::net::SocketAddr,
}

impl Server<'_> {
    fn ask(self, query: &Query, tcp: bool) -> Message {
        let octets = query.octets();
        let response = if tcp {
            exchange_tcp(self.from, self.address, &octets, ANSWER_LIMIT)
        } else {
            UdpClient::new(self.from, self.address)
                .and_then(|client| client.exchange(&octets, ANSWER_LIMIT))
        };
        let response =
            response.unwrap_or_else(|error| panic!("{query:?} to {}: {error}", self.address));
        response.message()
    }
}

/// Returns what differs between the answers to all questions.
fn differences(ours: Server<'_>, judge: Server<'_>) -> Vec<String> {
    let mut differences = Vec::new();
    for (name, query) in questions::all() {
        for tcp in [false, true] {
            let answers = (ours.ask(&query, tcp), judge.ask(&query, tcp));
            if let Some(difference) = difference(&answers.0, &answers.1) {
                differences.push(format!("{name}, TCP {tcp}: {difference}"));
            }
        }
    }
    differences
}

#[test]
fn nodedns_answers_as_coredns_does() {
    if !require_cluster() {
        return;
    }
    let node = Node::new("differential");
    let cluster = Cluster::start(&node);
    let pod = node.add_pod("pod");
    let flags = cluster.judged_flags();
    let agent = Agent::start(&node, &flags.each_ref().map(String::as_str));
    let ours = Server { from: pod.namespace(), address: (LOCAL_IP, 53).into() };
    let judge = Server { from: node.namespace(), address: cluster.coredns.address() };

    assert_eq!(differences(judge, judge), Vec::<String>::new(), "CoreDNS against itself");
    objects::create(&cluster.kubernetes);
    agree("after everything was created", ours, judge);
    for (what, change) in objects::changes() {
        change(&cluster.kubernetes);
        agree(what, ours, judge);
    }
    let packets = agent.status()["packets"].clone();
    println!("{} questions each time; outcomes in the kernel: {packets}", questions::all().len());
}

/// Both agree before the deadline: each follows the watch at its own pace.
fn agree(when: &str, ours: Server<'_>, judge: Server<'_>) {
    let mut last = Vec::new();
    wait_until(&format!("both agree {when}"), AGREE_LIMIT, || {
        last = differences(ours, judge);
        if !last.is_empty() {
            println!("{when}, not yet: {last:#?}");
        }
        last.is_empty()
    });
}
