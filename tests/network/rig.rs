//! A node with a pod, an upstream and manifests.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use dns_ebpf::layout::outcome::Outcome;
use harness::{
    agent::Agent,
    client::{LIMIT, Response, exchange_tcp},
    kernel::{self, Need},
    manifests::Manifests,
    node::{LOCAL_IP, NODE_IP, Node, Pod},
    packet::query::Query,
    upstream::{Table, Upstream},
};

/// Where queries are sent.
pub const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(LOCAL_IP), 53);

/// How long may pass until something is so that becomes so by itself.
pub const SOON: Duration = Duration::from_secs(10);

/// Each of these outcomes, counted once.
pub fn once(outcomes: &[Outcome]) -> HashMap<Outcome, u64> {
    outcomes.iter().map(|outcome| (*outcome, 1)).collect()
}

/// Everything but the agent.
pub struct Rig {
    pub manifests: Manifests,
    pub upstream: Upstream,
    pub pod: Pod,
    pub node: Node,
}

/// Makes a node with a pod, for a test that also needs these programs; None
/// when it cannot be run here.
#[track_caller]
pub fn rig(name: &str, tools: &[&'static str]) -> Option<Rig> {
    let tools = tools.iter().map(|tool| Need::Tool(tool));
    let needs: Vec<_> = kernel::DATAPATH.iter().copied().chain(tools).collect();
    if !kernel::require(&needs) {
        return None;
    }
    let node = Node::new(name);
    let pod = node.add_pod("pod");
    // A port of the kernel's choice: 53 on a local address is the agent's.
    let address = SocketAddr::new(NODE_IP.into(), 0);
    let upstream = Upstream::start(node.namespace(), address, Table::example());
    Some(Rig { manifests: Manifests::examples(), upstream, pod, node })
}

impl Rig {
    /// Starts the agent, with these flags besides those that the rig decides,
    /// and waits until it is ready.
    #[track_caller]
    pub fn start(&self, more: &[&str]) -> Agent<'_> {
        let upstream = self.upstream.address().to_string();
        let flags =
            ["--datapath", "tc", "--source", self.manifests.argument(), "--upstream", &upstream];
        Agent::start(&self.node, &[&flags[..], more].concat())
    }

    /// Asks the agent's own socket, over TCP, which no program answers.
    #[track_caller]
    pub fn ask_tcp(&self, query: &Query) -> Response {
        exchange_tcp(self.pod.namespace(), SERVER, &query.octets(), LIMIT)
            .unwrap_or_else(|error| panic!("no response over TCP to {query:?}: {error}"))
    }
}
