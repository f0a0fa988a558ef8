//! A real cluster with two nodes, the image, and the manifests of `deploy/`: what
//! an operator does, and what pods see of it.
//!
//! Run by `cargo xtask test --cluster`, which packs the images first. A cluster
//! takes 10 seconds to start, so each test has several checks one after another.
#![expect(unreachable_pub, reason = "in a test, pub says: for the files beside this one")]
#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on panics with a message"
)]

use harness::{
    node::LOCAL_IP,
    nodes::{Lan, Plugin, ProxyMode, Settings},
};
use rig::{Rig, require_nodes};

mod answers;
mod rig;
mod rights;

#[test]
fn with_nftables_and_a_bridge() {
    if !require_nodes() {
        return;
    }
    let lan = Lan::new();
    let settings =
        Settings { proxy: ProxyMode::Nftables, plugin: Plugin::Bridge, cluster_dns: LOCAL_IP };
    let mut rig = Rig::start(&lan, settings);
    rig.deploy("base", "daemonset/nodedns");
    rig.check("rights", rights::check);
    rig.check("answers", answers::check);
    rig.conclude();
}

#[test]
fn with_iptables_and_routes() {
    if !require_nodes() {
        return;
    }
    let lan = Lan::new();
    let settings =
        Settings { proxy: ProxyMode::Iptables, plugin: Plugin::Ptp, cluster_dns: LOCAL_IP };
    let mut rig = Rig::start(&lan, settings);
    rig.deploy("kubeadm", "daemonset/nodedns");
    rig.check("answers", answers::check);
    rig.conclude();
}
