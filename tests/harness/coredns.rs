//! A real CoreDNS: the judge of our answers, and an upstream.

use std::{fs, net::SocketAddr, time::Duration};

use tempfile::TempDir;

use crate::{
    client::UdpClient,
    netns::Namespace,
    packet::query::{Query, qtype},
    process::Child,
    tools,
};

/// How long CoreDNS may take until it answers; with the kubernetes plugin it
/// waits up to five seconds for its first lists.
const READY_LIMIT: Duration = Duration::from_secs(20);
/// How long one try may take.
const TRY_LIMIT: Duration = Duration::from_millis(100);

/// A running CoreDNS. Dropping it ends it.
#[derive(Debug)]
pub struct CoreDns {
    address: SocketAddr,
    child: Child,
    /// Holds the Corefile; removed when dropped.
    _folder: TempDir,
}

impl CoreDns {
    /// Starts CoreDNS in `namespace` and waits until it answers at `address`,
    /// where `corefile` makes it listen.
    #[track_caller]
    pub fn start(namespace: &Namespace, address: SocketAddr, corefile: &str) -> Self {
        let folder = TempDir::new().expect("a scratch folder");
        let path = folder.path().join("Corefile");
        fs::write(&path, corefile).expect("a scratch file");
        let mut command = namespace.command(tools::expect("coredns"));
        command.arg("-conf").arg(&path);
        let child = Child::start("coredns", command);
        // Any response will do, even that it refuses.
        let query = Query::new("ready.invalid", qtype::A).octets();
        child.wait_until("it answers", READY_LIMIT, || {
            UdpClient::new(namespace, address)
                .and_then(|client| client.exchange(&query, TRY_LIMIT))
                .is_ok()
        });
        Self { address, child, _folder: folder }
    }

    /// Returns where it answers.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the process.
    pub fn process(&self) -> &Child {
        &self.child
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        client::ask,
        kernel::{NETWORK, Need, require},
        node::Node,
    };

    #[test]
    fn it_answers_a_pod() {
        if !require(NETWORK) || !require(&[Need::Tool("coredns")]) {
            return;
        }
        let node = Node::new("coredns");
        let pod = node.add_pod("pod");
        let corefile = "example.test {\n  bind 10.99.0.1\n  \
                        hosts {\n    192.0.2.7 a.example.test\n  }\n}\n";
        let server = "10.99.0.1:53".parse().unwrap();
        let coredns = CoreDns::start(node.namespace(), server, corefile);
        let query = Query::new("a.example.test", qtype::A);
        let response = ask(pod.namespace(), coredns.address(), &query);
        assert_eq!(response.answers(), ["192.0.2.7"], "{response}");
    }
}
