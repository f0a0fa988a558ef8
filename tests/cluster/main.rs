//! A real cluster with two nodes, the image, and the manifests of `deploy/`: what
//! an operator does, and what pods see of it.
//!
//! Run by `cargo xtask test --cluster`, which packs the images first. A cluster
//! takes 10 seconds to start, so each test has several checks one after another.
//! [`briefly`] stands for the others where there is no time for them.
#![expect(unreachable_pub, reason = "in a test, pub says: for the files beside this one")]
#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on panics with a message"
)]

use std::net::Ipv4Addr;

use harness::{
    node::LOCAL_IP,
    nodes::{Lan, Plugin, ProxyMode, Settings},
};
use rig::{Rig, require_nodes};

mod answers;
mod environment;
mod exchange;
mod load;
mod removal;
mod rig;
mod rights;
mod rollout;
mod survival;

const NFTABLES_AND_A_BRIDGE: Settings =
    Settings { proxy: ProxyMode::Nftables, plugin: Plugin::Bridge, cluster_dns: LOCAL_IP };

/// Starts a cluster, deploys that overlay, does the checks, and fails when one of them did.
#[track_caller]
fn on_a_cluster(settings: Settings, overlay: &str, checks: impl FnOnce(&mut Rig<'_>)) {
    if !require_nodes() {
        return;
    }
    let lan = Lan::new();
    let mut rig = Rig::start(&lan, settings);
    rig.deploy(overlay, "daemonset/nodedns");
    checks(&mut rig);
    rig.conclude();
}

/// Nothing of it depends on how quick the machine is, or on what else it does.
#[test]
fn briefly() {
    on_a_cluster(NFTABLES_AND_A_BRIDGE, "base", |rig| {
        rig.check("rights", rights::check);
        rig.check("answers", answers::check);
        rig.check("removal", |rig| removal::check(rig, "base"));
    });
}

#[test]
fn with_nftables_and_a_bridge() {
    on_a_cluster(NFTABLES_AND_A_BRIDGE, "base", |rig| {
        rig.check("rights", rights::check);
        rig.check("answers", answers::check);
        rig.check("at once in a new pod", answers::at_once);
        rig.check("environment", environment::check);
        rig.check("a StatefulSet is exchanged", rollout::stateful_set);
        rig.check("the agent is killed", survival::killed);
        rig.check("the agent is stopped", survival::stopped);
        rig.check("the agents are exchanged", rollout::agents);
        rig.check("without CoreDNS", survival::without_coredns);
        rig.check("removal", |rig| removal::check(rig, "base"));
    });
}

#[test]
fn with_iptables_and_routes() {
    let settings =
        Settings { proxy: ProxyMode::Iptables, plugin: Plugin::Ptp, cluster_dns: LOCAL_IP };
    on_a_cluster(settings, "kubeadm", |rig| {
        rig.check("answers", answers::check);
        rig.check("removal", |rig| removal::check(rig, "kubeadm"));
        exchange::install(rig);
        rig.check("in the place of NodeLocal DNSCache", exchange::there);
        rig.check("answers in its place", answers::check);
        rig.check("and back", exchange::back);
    });
}

#[test]
fn with_the_cluster_ip_of_kube_dns() {
    let cluster_dns = Ipv4Addr::new(10, 96, 0, 10);
    let settings = Settings { proxy: ProxyMode::Nftables, plugin: Plugin::Ptp, cluster_dns };
    on_a_cluster(settings, "transparent", |rig| {
        rig.check("answers", answers::check_intercepted);
        rig.check("removal", |rig| removal::check(rig, "transparent"));
        rig.check("privileged", |rig| {
            rig.deploy("privileged", "daemonset/nodedns");
            rollout::agents(rig);
        });
    });
}
