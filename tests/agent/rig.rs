//! A cluster, the agent on it, and a pod that asks.

use std::time::Duration;

use dns_user::datapath::{maps::PinnedMaps, pins::Pins};
use harness::{
    agent::Agent,
    client::{Response, UdpClient},
    cluster::Cluster,
    node::{LOCAL_IP, Node, Pod},
    packet::query::Query,
};

/// How long a change may take until a test gives up.
pub const LIMIT: Duration = Duration::from_secs(10);
const ANSWER_LIMIT: Duration = Duration::from_secs(6);

/// The agent on the cluster, and a pod.
pub struct Rig<'node> {
    pub agent: Agent<'node>,
    pub cluster: Cluster<'node>,
    pub pod: Pod,
    client: UdpClient,
    pub maps: PinnedMaps,
}

impl<'node> Rig<'node> {
    /// Starts everything on `node`.
    pub fn start(node: &'node Node) -> Self {
        Self::start_with(node, &[])
    }

    /// The same, with more arguments for the agent.
    pub fn start_with(node: &'node Node, arguments: &[&str]) -> Self {
        let cluster = Cluster::start(node);
        let pod = node.add_pod("pod");
        let flags = cluster.agent_flags();
        let flags = flags.iter().map(String::as_str);
        let flags: Vec<_> = flags.chain(arguments.iter().copied()).collect();
        let agent = Agent::start(node, &flags);
        let server = (LOCAL_IP, 53).into();
        let client = UdpClient::new(pod.namespace(), server).expect("a socket in the pod");
        let maps = PinnedMaps::open(&Pins::new(agent.pin_dir())).expect("the agent's maps");
        Self { agent, cluster, pod, client, maps }
    }

    /// Asks from the pod.
    pub fn ask(&self, name: &str, qtype: u16) -> Response {
        let query = Query::new(name, qtype).octets();
        let response = self.client.exchange(&query, ANSWER_LIMIT);
        response.unwrap_or_else(|error| panic!("no answer to {name} type {qtype}: {error}"))
    }

    /// Returns the number of queries that the kernel has answered.
    pub fn kernel_answers(&self) -> u64 {
        let counts = self.maps.counters.read().expect("the datapath's counters");
        counts.iter().filter(|it| it.outcome.is_answered()).map(|it| it.packets).sum()
    }

    /// Asks from the pod; returns the answers, sorted, if the kernel gave them.
    pub fn ask_kernel(&self, name: &str, qtype: u16) -> Option<Vec<String>> {
        let before = self.kernel_answers();
        let mut answers = self.ask(name, qtype).answers();
        answers.sort();
        (self.kernel_answers() == before + 1).then_some(answers)
    }
}
