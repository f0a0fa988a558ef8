//! A cluster with CoreDNS, workloads and the agent as `deploy/` installs it.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    time::Instant,
};

use dns_user::datapath::{maps::PinnedMaps, pins::Pins};
use harness::{
    kernel::{DATAPATH, Need, require},
    nodes::{Lan, NODES, Nodes, Settings, machine::Machine, pods::Pod},
};

const COREDNS: &str = include_str!("manifests/coredns.yaml");
const WORKLOAD: &str = include_str!("manifests/workload.yaml");
/// Where the agents are.
pub const NAMESPACE: &str = "kube-system";
/// The label of the agents, in every overlay.
pub const AGENTS: &str = "app.kubernetes.io/name=nodedns";
/// Where the agents pin.
pub const PIN_DIR: &str = "/sys/fs/bpf/nodedns";

/// The cluster. Dropping it ends everything.
pub struct Rig<'lan> {
    pub cluster: Nodes<'lan>,
    failed: Vec<&'static str>,
}

/// Says whether a cluster of nodes can be had here.
#[must_use = "a test whose needs are not met returns early"]
#[track_caller]
pub fn require_nodes() -> bool {
    let programs = ["etcd", "kube-apiserver", "kubelet", "containerd", "runc", "nft", "nsenter"];
    require(DATAPATH) && require(&programs.map(Need::Tool))
}

/// Returns the path of an overlay below `deploy/`.
pub fn overlay(name: &str) -> String {
    format!("{}/../deploy/{name}", env!("CARGO_MANIFEST_DIR"))
}

impl<'lan> Rig<'lan> {
    /// Starts a cluster with CoreDNS and workloads, and waits for them.
    #[track_caller]
    pub fn start(lan: &'lan Lan, settings: Settings) -> Self {
        let cluster = Nodes::start(lan, settings);
        cluster.apply(COREDNS);
        cluster.apply(WORKLOAD);
        cluster.rolled_out(NAMESPACE, "deployment/coredns");
        for (namespace, what) in [
            ("shop", "deployment/web"),
            ("shop", "statefulset/db"),
            ("shop", "daemonset/musl"),
            ("default", "daemonset/glibc"),
            ("default", "daemonset/host"),
        ] {
            cluster.rolled_out(namespace, what);
        }
        Self { cluster, failed: Vec::new() }
    }

    /// Applies an overlay of `deploy/` and waits until its agents are ready on
    /// every node.
    #[track_caller]
    pub fn deploy(&self, name: &str, daemon_set: &str) -> Vec<Pod> {
        let start = Instant::now();
        self.cluster.kubectl_ok(&["apply", "-k", &overlay(name)]);
        self.cluster.rolled_out(NAMESPACE, daemon_set);
        let agents = self.cluster.ready_pods(NAMESPACE, AGENTS, NODES);
        println!("deploy/{name} was rolled out after {:?}", start.elapsed());
        agents
    }

    /// Does a check; when it fails the others are done all the same.
    pub fn check(&mut self, name: &'static str, check: impl FnOnce(&Self)) {
        let start = Instant::now();
        println!("-- {name}");
        if catch_unwind(AssertUnwindSafe(|| check(self))).is_err() {
            println!("-- {name} failed\n{}", self.cluster.explain(NAMESPACE));
            self.failed.push(name);
        }
        println!("-- {name}: {:.1} s", start.elapsed().as_secs_f64());
    }

    /// Ends everything. Panics when a check has failed.
    #[track_caller]
    pub fn conclude(self) {
        let Self { cluster, failed } = self;
        drop(cluster);
        assert!(failed.is_empty(), "failed: {}", failed.join(", "));
    }

    /// Returns the node of that name.
    #[track_caller]
    pub fn machine(&self, name: &str) -> &Machine<'lan> {
        let mut machines = self.cluster.machines().iter();
        machines.find(|machine| machine.name() == name).expect("a node of that name")
    }

    /// Returns how many queries the kernel has answered, on all nodes.
    #[track_caller]
    pub fn answered_everywhere(&self) -> u64 {
        self.cluster.machines().iter().map(|machine| self.answered(&machine.name())).sum()
    }

    /// Returns how many queries the kernel of a node has answered.
    #[track_caller]
    pub fn answered(&self, node: &str) -> u64 {
        let pins = Pins::new(&self.machine(node).path(PIN_DIR));
        let maps = PinnedMaps::open(&pins).expect("the node's maps");
        let counts = maps.counters.read().expect("the node's COUNTERS");
        counts.iter().filter(|it| it.outcome.is_answered()).map(|it| it.packets).sum()
    }
}

/// Returns the static agent, for its verbs on a node.
pub fn nodedns() -> &'static Path {
    harness::agent::binary()
}
