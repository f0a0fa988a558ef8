//! `cargo xtask demo`: a node and two pods in network namespaces, the agent on
//! the manifests in `examples/`, and typical questions from a pod.
//!
//! Ends with exit code 0 only if every answer was right and came from where it
//! was expected to.
#![expect(unreachable_pub, reason = "in a program, pub says: for the files beside this one")]
#![expect(
    clippy::expect_used,
    reason = "a demo that cannot go on says so and ends; the rig is taken down by its guards"
)]

mod answered_by;
mod changes;
mod load;
mod questions;
mod rig;

use std::{io::stdin, process::ExitCode};

use clap::Parser;
use harness::{kernel, node::Node};

use crate::rig::Rig;

/// Shows nodedns at work.
#[derive(Parser)]
struct Arguments {
    /// Keep the node and its pods until Enter is pressed.
    #[arg(long)]
    stay: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if !kernel::require(kernel::DATAPATH) {
        return ExitCode::FAILURE;
    }
    println!("A node with two pods, the agent on the manifests in examples/.\n");
    let node = Node::new("demo-node");
    let mut rig = Rig::new(&node);
    let checks = [
        questions::ask(&rig),
        load::run(&rig),
        changes::change_a_manifest(&rig),
        changes::dump_an_entry(&rig),
        changes::kill_the_agent(&mut rig),
    ];
    if arguments.stay {
        rig.explain();
        let mut line = String::new();
        stdin().read_line(&mut line).expect("standard input");
    }
    let wrong = checks.iter().filter(|right| !**right).count();
    if wrong == 0 {
        println!("\nEverything was right.");
        ExitCode::SUCCESS
    } else {
        println!("\n{wrong} of {} parts went WRONG, see above.", checks.len());
        ExitCode::FAILURE
    }
}
