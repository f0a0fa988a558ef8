//! What is compared: servers of the same names, each on a node of its own.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use aya::programs::{
    ProgramInfo,
    links::{FdLink, PinnedLink},
    loaded_programs,
};
use dns_ebpf::layout::programs;
use dns_user::datapath::load::Loaded;
use harness::{
    agent::Agent,
    client::ask,
    coredns::CoreDns,
    manifests::Manifests,
    node::{LOCAL_IP, NODE_IP, Node, Pod},
    packet::query::{Query, qtype},
};
use serde::Serialize;

use super::echo::{Echo, Reply};
use crate::{
    attached::Attached,
    machine,
    test_run::{options, subject},
};

/// The number of `lo` in each network namespace.
const LOOPBACK: u32 = 1;
/// Where queries go.
pub(super) const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(LOCAL_IP), 53);
/// Answers for names outside the cluster, as fast as a socket can.
const WORLD: SocketAddr = SocketAddr::new(IpAddr::V4(NODE_IP), 5300);
/// Knows the cluster's names, for CoreDNS's cache.
const CLUSTER: SocketAddr = SocketAddr::new(IpAddr::V4(NODE_IP), 5301);

/// Names that are asked for.
const NAMES: u16 = 1000;
/// Names outside the cluster: more than CoreDNS's cache holds.
const FOREIGN: u32 = 50_000;
/// TTL of the cluster's records, in seconds.
const TTL_S: u32 = 30;

/// A server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) enum Kind {
    /// The ceiling: the program that turns each query around, nothing looked up.
    Reflect,
    /// The agent with its program.
    Nodedns,
    /// The agent alone, `--datapath off`.
    Agent,
    /// A socket and one thread that sends back what it receives.
    Echo,
    /// CoreDNS with `cache`, as NodeLocal `DNSCache` sets it up.
    CoreDns,
}

impl Kind {
    /// All of them, the ceiling first.
    pub(super) const ALL: [Self; 5] =
        [Self::Reflect, Self::Nodedns, Self::Agent, Self::Echo, Self::CoreDns];

    /// Returns its name in tables.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Reflect => "(reflect only)",
            Self::Nodedns => "nodedns",
            Self::Agent => "nodedns, user space only",
            Self::Echo => "(socket echo, one thread)",
            Self::CoreDns => "CoreDNS, cache",
        }
    }

    /// Says whether it answers by what is asked.
    pub(super) fn is_real(self) -> bool {
        !matches!(self, Self::Reflect | Self::Echo)
    }

    /// Says whether it needs no process to answer.
    pub(super) fn is_in_kernel(self) -> bool {
        matches!(self, Self::Reflect | Self::Nodedns)
    }
}

/// A node with a pod for one server.
pub(super) struct Place {
    pub(super) node: Node,
    pub(super) pod: Pod,
    /// Read by the agent.
    manifests: Manifests,
    _world: Echo,
}

impl Place {
    pub(super) fn new(kind: Kind) -> Self {
        let node = Node::new(&format!("bench-{kind:?}").to_lowercase());
        let pod = node.add_pod("pod");
        let manifests = Manifests::examples();
        manifests.write("bench.yaml", &services());
        let world = Echo::start(node.namespace(), WORLD, Reply::Address);
        Self { node, pod, manifests, _world: world }
    }
}

/// A running server.
pub(super) struct Server<'place> {
    pub(super) kind: Kind,
    running: Running<'place>,
}

enum Running<'place> {
    Reflect { loaded: Box<Loaded>, _attached: Attached },
    Agent(Agent<'place>),
    Echo(Echo),
    CoreDns { cache: CoreDns, _cluster: CoreDns },
}

impl<'place> Server<'place> {
    /// Starts it, and checks that it answers as all the others do.
    pub(super) fn start(kind: Kind, place: &'place Place) -> Self {
        let Place { node, pod, manifests, .. } = place;
        if !matches!(kind, Kind::Nodedns | Kind::Agent) {
            node.add_address(LOCAL_IP.into());
        }
        let agent = |datapath| {
            let world = WORLD.to_string();
            let source = ["--source", manifests.argument(), "--upstream", &world];
            Agent::start(node, &[&["--datapath", datapath][..], &source].concat())
        };
        let running = match kind {
            Kind::Reflect => {
                let mut loaded = subject(&options()).with_program(programs::REFLECT).unwrap();
                let attached = Attached::new(&mut loaded, programs::REFLECT, node, pod);
                Running::Reflect { loaded: Box::new(loaded), _attached: attached }
            }
            Kind::Nodedns => Running::Agent(agent("tc")),
            Kind::Agent => Running::Agent(agent("off")),
            Kind::Echo => Running::Echo(Echo::start(node.namespace(), SERVER, Reply::Query)),
            Kind::CoreDns => {
                let cluster = CoreDns::start(node.namespace(), CLUSTER, &cluster_corefile());
                let cache = CoreDns::start(node.namespace(), SERVER, &cache_corefile());
                Running::CoreDns { cache, _cluster: cluster }
            }
        };
        let response = ask(pod.namespace(), SERVER, &Query::new(&name(7), qtype::A));
        if kind.is_real() {
            assert_eq!(response.answers(), [address(7).to_string()], "{}", kind.label());
        }
        Self { kind, running }
    }

    /// Returns the CPU time of the server's process or thread.
    pub(super) fn cpu_time(&self) -> Duration {
        match &self.running {
            Running::Reflect { .. } => Duration::ZERO,
            Running::Agent(agent) => machine::cpu_time(agent.process().pid()),
            Running::Echo(echo) => echo.cpu_time(),
            Running::CoreDns { cache, .. } => machine::cpu_time(cache.process().pid()),
        }
    }

    /// Returns the program on the pod's link, with its statistics.
    pub(super) fn program(&mut self) -> Option<ProgramInfo> {
        match &mut self.running {
            Running::Reflect { loaded, .. } => {
                loaded.program_mut(programs::REFLECT).unwrap().info().ok()
            }
            Running::Agent(agent) if self.kind == Kind::Nodedns => {
                let pins = agent.pins();
                let mut links = pins.pinned_links().ok()?.into_iter();
                let ifindex = links.find(|ifindex| *ifindex != LOOPBACK)?;
                let link = FdLink::from(PinnedLink::from_pin(pins.link(ifindex)).ok()?);
                let id = link.info().ok()?.program_id();
                loaded_programs().filter_map(Result::ok).find(|program| program.id() == id)
            }
            _ => None,
        }
    }

    /// Returns how many queries the kernel has answered from the maps.
    pub(super) fn answered_in_kernel(&self) -> Option<u64> {
        match &self.running {
            Running::Agent(agent) if self.kind == Kind::Nodedns => Some(agent.answered()),
            _ => None,
        }
    }
}

/// Returns the name with that number.
pub(super) fn name(number: u16) -> String {
    format!("service-{number}.bench.svc.cluster.local")
}

fn address(number: u16) -> Ipv4Addr {
    let [high, low] = number.to_be_bytes();
    Ipv4Addr::new(10, 97, high, low)
}

/// Returns questions that all are in the caches.
pub(super) fn hits() -> impl Iterator<Item = String> {
    (0..NAMES).map(|number| format!("{} A", name(number)))
}

/// Returns questions of which every tenth leads out of the cluster.
pub(super) fn mostly_hits() -> impl Iterator<Item = String> {
    let names: Vec<_> = hits().collect();
    let nine = move |group: u32| {
        let at = move |n: u32| ((group * 9 + n) % u32::from(NAMES)) as usize;
        (0..9).map(|n| names[at(n)].clone()).collect::<Vec<_>>()
    };
    let foreign = |group: u32| format!("host-{group}.example.com A");
    (0..FOREIGN).flat_map(move |group| nine(group).into_iter().chain([foreign(group)]))
}

/// The manifests of all names.
fn services() -> String {
    let service = |number| {
        let ip = address(number);
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: service-{number}, namespace: bench}}\n\
             spec: {{clusterIP: {ip}, clusterIPs: [{ip}], ports: [{{port: 80}}]}}\n"
        )
    };
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: bench}\n".to_owned();
    [namespace].into_iter().chain((0..NAMES).map(service)).collect::<Vec<_>>().join("---\n")
}

/// A CoreDNS that knows the same names; it stands for the cluster's.
fn cluster_corefile() -> String {
    let hosts = (0..NAMES).map(|number| format!("    {} {}\n", address(number), name(number)));
    let (ip, port) = (CLUSTER.ip(), CLUSTER.port());
    format!(
        "cluster.local:{port} {{\n  bind {ip}\n  hosts {{\n{}    ttl {TTL_S}\n  }}\n}}\n",
        hosts.collect::<String>()
    )
}

/// The server blocks that NodeLocal `DNSCache` comes with, for these addresses.
fn cache_corefile() -> String {
    let block = |zone: &str, cache: &str, forward: &str| {
        format!(
            "{zone}:53 {{\n  errors\n  cache {cache}\n  reload\n  bind {LOCAL_IP}\n  \
             forward . {forward}\n  prometheus {NODE_IP}:9253\n}}\n"
        )
    };
    let cluster = block(
        "cluster.local",
        "{\n    success 9984 30\n    denial 9984 5\n  }",
        &format!("{CLUSTER} {{\n    force_tcp\n  }}"),
    );
    cluster + &block(".", "30", &WORLD.to_string())
}
