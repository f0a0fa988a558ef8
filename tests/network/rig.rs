//! A node with a pod, an upstream and manifests.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use dns_ebpf::layout::outcome::Outcome;
use dns_user::datapath::mode::Hook;
use harness::{
    agent::Agent,
    client::{LIMIT, Response, exchange_tcp},
    kernel::{self, Need},
    manifests::Manifests,
    netns::Namespace,
    node::{LOCAL_IP, LOCAL_IP6, NODE_IP, Node, Pod},
    packet::query::{Edns, Query, qtype},
    steady::{Question, Report, Steady},
    upstream::{Table, Upstream},
};
use serde_json::Value;

/// Where queries are sent.
pub const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(LOCAL_IP), 53);

/// A local address of each family.
const SERVERS: [IpAddr; 2] = [IpAddr::V4(LOCAL_IP), IpAddr::V6(LOCAL_IP6)];

/// How often a second each question of [`ask_steadily`] is asked.
const RATE: u32 = 200;

/// Asks for two names that the kernel knows, and for one that the agent, which asks
/// upstream, has to be asked for at first.
pub fn ask_steadily(rig: &Rig) -> Steady {
    let question = |name: &str, kind: u16, answer: &str| Question {
        query: Query::new(name, kind),
        expect: vec![vec![answer.to_owned()]],
    };
    let questions = [
        question("web.shop.svc.cluster.local", qtype::A, "10.96.1.1"),
        question("1.1.96.10.in-addr.arpa", qtype::PTR, "web.shop.svc.cluster.local."),
        question("www.example.com", qtype::A, "192.0.2.80"),
    ];
    Steady::start(rig.pod.namespace(), SERVER, &questions, RATE)
}

/// Ends it; every question was answered right, and at once.
#[track_caller]
pub fn assert_nothing_lost(steady: Steady) -> Report {
    let report = steady.finish();
    println!("{report}");
    let (lost, wrong, again) = (report.lost(), report.wrong(), report.asked_again());
    assert_eq!((lost, wrong, again), (0, 0, 0), "{report}");
    report
}

/// Waits for a line of the agent's log.
#[track_caller]
pub fn wait_until_it_says(agent: &Agent<'_>, words: &str) {
    let process = agent.process();
    process.wait_until(&format!("it says {words:?}"), SOON, || process.output().contains(words));
}

/// The addresses at which nftables lets the agent be asked; null without a table.
pub fn alive(agent: &Agent<'_>) -> Value {
    agent.status()["node"]["fall_through"]["alive"].clone()
}

/// Starts an agent that answers at a local address of each family.
#[track_caller]
pub fn start_of_both_families(rig: &Rig) -> Agent<'_> {
    let [v4, v6] = SERVERS.map(|ip| ip.to_string());
    rig.start(&["--local-ip", &v4, "--local-ip", &v6])
}

/// Where clients of such an agent are, and which address they are told to ask.
pub fn places(rig: &Rig) -> impl Iterator<Item = (&Namespace, IpAddr)> {
    let places = [rig.pod.namespace(), rig.node.namespace()];
    places.into_iter().flat_map(|place| SERVERS.map(|server| (place, server)))
}

/// How long may pass until something is so that becomes so by itself.
pub const SOON: Duration = Duration::from_secs(10);

/// Each of these outcomes, counted once.
pub fn once(outcomes: &[Outcome]) -> HashMap<Outcome, u64> {
    outcomes.iter().map(|outcome| (*outcome, 1)).collect()
}

/// Returns a query that programs pass on and the agent answers from its records
/// (with 10.96.1.1): with an EDNS option for local use (RFC 6891 9).
pub fn of_the_agent() -> Query {
    let edns = Edns { options: vec![(65001, Vec::new())], ..Edns::default() };
    Query { edns: Some(edns), ..Query::new("web.shop.svc.cluster.local", qtype::A) }
}

/// Returns the hooks of pods' links that this kernel has.
pub fn hooks() -> Vec<Hook> {
    let tcx = kernel::features().tcx.then_some(Hook::Tcx);
    tcx.into_iter().chain([Hook::Clsact, Hook::XdpGeneric]).collect()
}

/// Returns the value of `--datapath` that leads to a hook.
pub fn datapath(hook: Hook) -> &'static str {
    match hook {
        Hook::Tcx => "tc",
        Hook::Clsact => "clsact",
        Hook::XdpGeneric | Hook::XdpNative => "xdp",
    }
}

/// Everything but the agent.
pub struct Rig {
    pub manifests: Manifests,
    upstream_address: String,
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
    let upstream_address = upstream.address().to_string();
    Some(Rig { manifests: Manifests::examples(), upstream_address, upstream, pod, node })
}

impl Rig {
    /// Starts the agent, with these flags besides those that the rig decides,
    /// and waits until it is ready.
    #[track_caller]
    pub fn start(&self, more: &[&str]) -> Agent<'_> {
        Agent::start(&self.node, &[&self.flags("tc"), more].concat())
    }

    /// Does the same with programs on a certain hook of pods' links.
    #[track_caller]
    pub fn start_on(&self, hook: Hook, more: &[&str]) -> Agent<'_> {
        Agent::start(&self.node, &[&self.flags(datapath(hook)), more].concat())
    }

    /// Returns the flags that the rig decides.
    pub fn flags<'a>(&'a self, datapath: &'a str) -> [&'a str; 6] {
        let source = self.manifests.argument();
        ["--datapath", datapath, "--source", source, "--upstream", &self.upstream_address]
    }

    /// Asks the agent's own socket, over TCP, which no program answers.
    #[track_caller]
    pub fn ask_tcp(&self, query: &Query) -> Response {
        exchange_tcp(self.pod.namespace(), SERVER, &query.octets(), LIMIT)
            .unwrap_or_else(|error| panic!("no response over TCP to {query:?}: {error}"))
    }
}
