//! The same questions to nodedns, from a pod, and to a real CoreDNS that watches
//! the same API server: their answers cannot be told apart.
#![expect(unreachable_pub, reason = "in a test, pub says: for the files beside this one")]
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on panics with a message"
)]

mod agree;
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
mod recorded;
mod settings;
mod shapes;
mod shares;
mod shrink;
mod ways;
mod world;

use harness::{
    cluster::{Cluster, require_cluster},
    node::Node,
};

use crate::{
    agree::agree,
    ask::{Server, Servers},
    ways::Ways,
};

#[test]
fn nodedns_answers_as_coredns_does() {
    if !require_cluster() {
        return;
    }
    let node = Node::new("differential");
    let cluster = Cluster::start(&node);
    let ways = Ways::new(&node);
    let agent = ways.start_agent(&node, &cluster.judged_flags());
    let judge = || Server::new(node.namespace(), cluster.coredns.address());
    let questions = questions::all();

    let itself = Servers::new(judge(), judge()).differences(&questions);
    assert_eq!(itself, Vec::new(), "CoreDNS against itself");
    let mut servers = Servers::of(&agent, &ways, judge());
    objects::create(&cluster.kubernetes);
    agree("after everything was created", &mut servers, &questions);
    for (what, change) in objects::changes() {
        change(&cluster.kubernetes);
        agree(what, &mut servers, &questions);
    }
    let packets = agent.status()["packets"].clone();
    println!("{} questions each time; outcomes in the kernel: {packets}", questions.len());
}
