//! The ways on which a question gets to nodedns: over the datapath, from a pod whose link
//! has its programs, and past it to the sockets, from a pod whose link has none.

use harness::{
    agent::Agent,
    node::{LOCAL_IP, Node, Pod},
};

use crate::ask::Server;

/// The two pods.
pub struct Ways {
    covered: Pod,
    bare: Pod,
}

impl Ways {
    /// Makes both pods.
    pub fn new(node: &Node) -> Self {
        Self { covered: node.add_pod("covered"), bare: node.add_pod("bare") }
    }

    /// Starts an agent on the pods' node, with these flags besides the one that leaves the
    /// second pod's link alone.
    #[track_caller]
    pub fn start_agent<'node>(&self, node: &'node Node, flags: &[impl AsRef<str>]) -> Agent<'node> {
        let bare = format!("!{}", self.bare.host_link());
        let more = ["--interfaces", bare.as_str()];
        let flags: Vec<_> = flags.iter().map(AsRef::as_ref).chain(more).collect();
        Agent::start(node, &flags)
    }

    /// The pod on whose link programs are.
    pub fn covered(&self) -> &Pod {
        &self.covered
    }

    /// The pod on whose link there are none.
    pub fn bare(&self) -> &Pod {
        &self.bare
    }

    /// A client that asks over the datapath.
    pub fn over_datapath(&self) -> Server<'_> {
        Server::new(self.covered.namespace(), (LOCAL_IP, 53).into())
    }

    /// A client that asks the agent's sockets.
    pub fn to_sockets(&self) -> Server<'_> {
        Server::new(self.bare.namespace(), (LOCAL_IP, 53).into())
    }
}
