//! What is kept of names outside the cluster: nodedns and a CoreDNS set up as a
//! node-local cache is, each before the same upstream, are asked the same at the
//! same times, and say the same: the agent octet for octet.

mod steps;
mod upstream;

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use harness::{
    agent::Agent,
    client::{UdpClient, exchange_tcp},
    coredns::CoreDns,
    kernel::{DATAPATH, Need, require},
    manifests::Manifests,
    netns::Namespace,
    node::{LOCAL_IP, NODE_IP, Node, Pod},
    wait::{poll_until, wait_until},
};
use hickory_proto::op::Message;

use crate::world::World;
use steps::{Over, Step};
use upstream::answer;

/// The upstreams of nodedns and of the judge, which answer alike.
const OURS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(NODE_IP), 5301);
const THEIRS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(NODE_IP), 5302);
const JUDGE: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 23);
const ANSWER_LIMIT: Duration = Duration::from_secs(15);
/// CoreDNS renews SERVFAIL and NOTIMP before they end, too; each is once, at the
/// last question.
const RENEWED_FAILURES: u64 = 2;
/// How often it is tried to be in time, beside whatever else this machine does.
const TRIES: usize = 10;
/// A step that is later than this may be on the other side of a second.
const LATEST: Duration = Duration::from_millis(180);

/// Who answers of nodedns.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    /// The agent alone.
    Agent,
    /// The kernel what it has, and the agent the rest.
    Kernel,
}

/// What a node-local cache's Corefile has for names outside; `prefetch` is what
/// nodedns does by itself.
fn corefile() -> String {
    format!(
        ".:53 {{
    bind {JUDGE}
    cache 30 {{
        prefetch 1 1m 10%
    }}
    forward . {THEIRS}
}}
"
    )
}

/// A server that is asked, and from where.
struct Server<'a> {
    namespace: &'a Namespace,
    address: SocketAddr,
    udp: UdpClient,
}

impl<'a> Server<'a> {
    fn new(namespace: &'a Namespace, ip: Ipv4Addr) -> Self {
        let address = (ip, 53).into();
        Self { namespace, address, udp: UdpClient::new(namespace, address).unwrap() }
    }

    fn ask(&self, step: &Step) -> Vec<u8> {
        let query = step.query.octets();
        let response = match step.over {
            Over::Udp => self.udp.exchange(&query, ANSWER_LIMIT),
            Over::Tcp => exchange_tcp(self.namespace, self.address, &query, ANSWER_LIMIT),
        };
        response.unwrap_or_else(|error| panic!("{} to {query:02x?}: {error}", self.address)).octets
    }
}

/// What came of asking.
struct Outcome {
    steps: usize,
    differences: Vec<String>,
    /// Queries upstream, ours first.
    upstream: [u64; 2],
    /// How many the kernel answered.
    in_kernel: u64,
    /// By how much the latest step was late.
    late: Duration,
}

/// Asks everything once, of servers that keep nothing yet.
fn ask_all(node: &Node, pod: &Pod, who: Who) -> Outcome {
    let worlds = [OURS, THEIRS].map(|at| World::start(node.namespace(), at, answer));
    let _coredns = CoreDns::start(node.namespace(), (JUDGE, 53).into(), &corefile());
    let manifests = Manifests::examples();
    let upstream = OURS.to_string();
    let datapath = if who == Who::Kernel { "tc" } else { "off" };
    let source = manifests.argument();
    let flags = ["--source", source, "--upstream", &upstream, "--datapath", datapath];
    let agent = Agent::start(node, &flags);
    let servers = [Server::new(pod.namespace(), LOCAL_IP), Server::new(node.namespace(), JUDGE)];
    let before = worlds.each_ref().map(World::queries);
    let (steps, mut starts) = (steps::all(), HashMap::new());
    let (mut differences, mut late) = (Vec::new(), Duration::ZERO);
    for step in &steps {
        let start = *starts.entry(step.group).or_insert_with(Instant::now);
        let at = start + Duration::from_millis(step.at_ms);
        wait_until("it is time", Duration::from_secs(20), || Instant::now() >= at);
        let answers = servers.each_ref().map(|server| server.ask(step));
        // The second question of a kind is not put at a time of its own.
        late = late.max(at.elapsed());
        differences.extend(difference(step, who, &answers));
    }
    let upstream = || [0, 1].map(|n| worlds[n].queries() - before[n]);
    // The last renewals are on their way still.
    poll_until(ANSWER_LIMIT, || upstream()[0] + RENEWED_FAILURES == upstream()[1]);
    let upstream = upstream();
    let in_kernel = if who == Who::Kernel { agent.answered() } else { 0 };
    Outcome { steps: steps.len(), differences, upstream, in_kernel, late }
}

/// Returns what differs. The kernel compresses, and spells names as this client does.
fn difference(step: &Step, who: Who, [ours, theirs]: &[Vec<u8>; 2]) -> Option<String> {
    let is_same = ours == theirs || who == Who::Kernel && says_the_same(ours, theirs);
    let show = |octets: &[u8]| match Message::from_vec(octets) {
        Ok(message) => format!("{message}\n{octets:02x?}"),
        Err(error) => format!("{error}\n{octets:02x?}"),
    };
    let Step { at_ms, over, query, .. } = step;
    let (our, their) = (show(ours), show(theirs));
    let text = format!("after {at_ms} ms, {over:?}, {query:?}:\nours: {our}\ntheirs: {their}");
    (!is_same).then_some(text)
}

/// Whether two messages are the same but for compression and the spelling of names.
fn says_the_same(ours: &[u8], theirs: &[u8]) -> bool {
    let (Ok(ours), Ok(theirs)) = (Message::from_vec(ours), Message::from_vec(theirs)) else {
        return false;
    };
    // Names are equal in any spelling, and records whatever their TTLs are.
    let ttls = |message: &Message| -> Vec<_> {
        let sections = [&message.answers, &message.authorities, &message.additionals];
        sections.into_iter().flatten().map(|record| record.ttl).collect()
    };
    ours == theirs && ttls(&ours) == ttls(&theirs)
}

/// Asks until this machine was in time once.
fn compare(name: &str, who: Who) {
    if !require(DATAPATH) || !require(&[Need::Tool("coredns")]) {
        return;
    }
    let node = Node::new(name);
    let pod = node.add_pod("pod");
    node.add_address(JUDGE.into());
    for _ in 0..TRIES {
        let Outcome { steps, differences, upstream, in_kernel, late } = ask_all(&node, &pod, who);
        if late > LATEST {
            println!("this machine was {late:?} late, which says nothing; once more");
            continue;
        }
        let count = differences.len();
        assert_eq!(count, 0, "of {steps} steps differ:\n{}", differences.join("\n\n"));
        println!("{steps} steps, {in_kernel} in the kernel; queries upstream: {upstream:?}");
        assert_eq!(in_kernel > 0, who == Who::Kernel, "answers of the kernel");
        let [ours, theirs] = upstream;
        assert_eq!(ours + RENEWED_FAILURES, theirs, "queries upstream");
        return;
    }
    panic!("this machine was late each time");
}

#[test]
fn names_outside_are_kept_as_coredns_keeps_them() {
    compare("kept", Who::Agent);
}

#[test]
fn the_kernel_gives_what_is_kept_as_coredns_does() {
    compare("mirrored", Who::Kernel);
}
