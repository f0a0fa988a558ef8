//! The node, its pods, the upstream for names outside the cluster, the agent.

use std::{fs, net::SocketAddr, path::Path};

use dns_ebpf::layout::maps;
use dns_user::datapath::{maps::PinnedMaps, pins::Pins};
use harness::{
    agent::Agent,
    node::{LOCAL_IP, NODE_IP, Node, Pod},
    upstream::{Table, Upstream},
};
use tempfile::TempDir;

/// Everything that the demo needs; taken down when dropped.
pub struct Rig<'node> {
    // Dropped in this order: the agent before what it runs on.
    pub agent: Agent<'node>,
    pub pods: [Pod; 2],
    /// A copy of `examples/`, since the demo changes a manifest.
    pub manifests: TempDir,
    _upstream: Upstream,
    node: &'node Node,
}

impl<'node> Rig<'node> {
    /// Builds it and waits until the agent is ready.
    pub fn new(node: &'node Node) -> Self {
        let manifests = TempDir::new().expect("a scratch folder");
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
        for file in fs::read_dir(&examples).expect("the folder examples/") {
            let file = file.expect("a file in examples/");
            fs::copy(file.path(), manifests.path().join(file.file_name())).expect("a copy");
        }
        let address = SocketAddr::new(NODE_IP.into(), 5300);
        let upstream = Upstream::start(node.namespace(), address, Table::example());
        let pods = ["demo-pod", "demo-other"].map(|name| node.add_pod(name));
        let source = manifests.path().to_string_lossy().into_owned();
        let agent = Agent::start(node, &["--source", &source, "--upstream", &address.to_string()]);
        Self { agent, pods, manifests, _upstream: upstream, node }
    }

    /// Opens the agent's pinned maps.
    pub fn maps(&self) -> PinnedMaps {
        PinnedMaps::open(&Pins::new(self.agent.pin_dir())).expect("the agent's pinned maps")
    }

    /// Prints how to play with it.
    pub fn explain(&self) {
        let pins = self.agent.pin_dir().display();
        let names = self.agent.pins().map(maps::NAMES);
        let names = names.display();
        let (pod, node) = (self.pods[0].namespace().name(), self.node.namespace().name());
        println!(
            "\nThe rig stays up. In another shell:\n\
             \n  nsenter --net=/run/netns/{pod} dig +nocookie @{LOCAL_IP} web.shop.svc.cluster.local\
             \n  nsenter --net=/run/netns/{node} nodedns status --pin-dir {pins}\
             \n  nodedns dump --pin-dir {pins}\
             \n  bpftool map dump pinned {names}\
             \n  nsenter --net=/run/netns/{node} curl -s {LOCAL_IP}:9253/metrics\
             \n  $EDITOR {}/shop.yaml\
             \n\n(nodedns is target/debug/nodedns.) Press Enter to take it down.",
            self.manifests.path().display()
        );
    }
}
