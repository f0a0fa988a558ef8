//! A node and its pods: namespaces joined by veth pairs, routed as Calico and
//! the `ptp` CNI plugin do.
//!
//! ```text
//! pod: eth0 10.244.0.N/32, default via 169.254.1.1 === vethN of the node, 169.254.1.1/32
//! node: route 10.244.0.N dev vethN, lo 10.99.0.1/32 (the node's own address)
//!
//! the same with fd00:10:244::N, fd00:169:254:1::1, fd00:10:99::1
//! ```

use std::{
    ffi::OsStr,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    process::Command,
    sync::atomic::{AtomicU8, Ordering},
};

use crate::{netns::Namespace, resolver::ResolverFiles};

/// The address that nodedns answers on unless told otherwise.
pub const LOCAL_IP: Ipv4Addr = Ipv4Addr::new(169, 254, 25, 10);
/// The node's own address.
pub const NODE_IP: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
/// An address of IPv6 that nodedns can be told to answer on.
pub const LOCAL_IP6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x169, 0x254, 0x25, 0, 0, 0, 0x10);
/// The node's own address of IPv6.
pub const NODE_IP6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x10, 0x99, 0, 0, 0, 0, 1);
/// The node's end of every veth pair, the pods' gateway.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x169, 0x254, 1, 0, 0, 0, 1);

/// A namespace that plays the node.
#[derive(Debug)]
pub struct Node {
    namespace: Namespace,
    pods: AtomicU8,
}

impl Node {
    /// Makes a node that forwards between its pods.
    #[track_caller]
    pub fn new(name: &str) -> Self {
        let namespace = Namespace::new(name);
        namespace.ip(&format!(
            "address add {NODE_IP}/32 dev lo\n\
             address add {NODE_IP6}/128 dev lo nodad"
        ));
        namespace.run(|| {
            for setting in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
                fs::write(format!("/proc/sys/net/{setting}"), "1")
                    .expect("forwarding can be enabled");
            }
        });
        Self { namespace, pods: AtomicU8::new(0) }
    }

    /// Returns the node's namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Returns a command that will run on the node.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        self.namespace.command(program)
    }

    /// Puts an address on the node's `lo`: for tests without the agent, which
    /// adds its local IP itself.
    #[track_caller]
    pub fn add_address(&self, address: IpAddr) {
        let prefix = if address.is_ipv4() { 32 } else { 128 };
        self.namespace.ip(&format!("address add {address}/{prefix} dev lo"));
    }

    /// Makes a pod and joins it to the node; at most 254 pods to a node.
    #[track_caller]
    pub fn add_pod(&self, name: &str) -> Pod {
        self.add_linked_pod(name, "")
    }

    /// Makes a pod whose host link has a certain index.
    #[track_caller]
    pub fn add_pod_with_ifindex(&self, name: &str, ifindex: u32) -> Pod {
        self.add_linked_pod(name, &format!("index {ifindex}"))
    }

    /// Makes a pod; `option` is one of `ip link add` for its host link.
    #[track_caller]
    fn add_linked_pod(&self, name: &str, option: &str) -> Pod {
        let number = self.pods.fetch_add(1, Ordering::Relaxed) + 1;
        let pod = Pod {
            namespace: Namespace::new(name),
            address: Ipv4Addr::new(10, 244, 0, number),
            address6: Ipv6Addr::new(0xfd00, 0x10, 0x244, 0, 0, 0, 0, number.into()),
            link: format!("veth{number}"),
            resolver: ResolverFiles::for_pod(LOCAL_IP.into()),
        };
        let Pod { namespace, address, address6, link, .. } = &pod;
        self.namespace.ip(&format!(
            "link add {link} {option} type veth peer name eth0 netns {}\n\
             address add {GATEWAY}/32 dev {link}\n\
             address add {GATEWAY6}/128 dev {link} nodad\n\
             link set {link} up\n\
             route add {address}/32 dev {link}\n\
             route add {address6}/128 dev {link}",
            namespace.name()
        ));
        namespace.ip(&format!(
            "address add {address}/32 dev eth0\n\
             address add {address6}/128 dev eth0 nodad\n\
             link set eth0 up\n\
             route add {GATEWAY} dev eth0 scope link\n\
             route add default via {GATEWAY} dev eth0\n\
             route add {GATEWAY6} dev eth0\n\
             route add default via {GATEWAY6} dev eth0"
        ));
        pod
    }
}

/// A namespace that plays a pod.
#[derive(Debug)]
pub struct Pod {
    namespace: Namespace,
    address: Ipv4Addr,
    address6: Ipv6Addr,
    link: String,
    resolver: ResolverFiles,
}

impl Pod {
    /// Returns the pod's namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Returns the pod's address, on its `eth0`.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Returns the pod's address of IPv6.
    pub fn address6(&self) -> Ipv6Addr {
        self.address6
    }

    /// Returns the name of the node's end of the veth pair.
    pub fn host_link(&self) -> &str {
        &self.link
    }

    /// Returns a command that will run in the pod, with the `resolv.conf` that
    /// the kubelet would give it.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        self.namespace.command_with_resolver(program, &self.resolver)
    }
}

#[cfg(test)]
mod tests {
    use std::{net::UdpSocket, time::Duration};

    use super::*;
    use crate::{
        kernel::{NETWORK, require},
        process::run_ok,
        wait::restarted,
    };

    /// Sends a datagram and gets it back.
    fn exchange(from: &Namespace, to: &Namespace, address: IpAddr) -> IpAddr {
        let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let server = to.run(|| UdpSocket::bind((address, 5353)).unwrap());
        let client = from.run(|| UdpSocket::bind(any).unwrap());
        for socket in [&server, &client] {
            socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        }
        let mut octets = [0; 8];
        client.send_to(b"ping", (address, 5353)).unwrap();
        let (length, source) = restarted(|| server.recv_from(&mut octets)).unwrap();
        server.send_to(&octets[..length], source).unwrap();
        assert_eq!(restarted(|| client.recv(&mut octets)).unwrap(), 4);
        assert_eq!(&octets[..4], b"ping");
        source.ip()
    }

    #[test]
    fn pods_reach_the_node_and_each_other() {
        if !require(NETWORK) {
            return;
        }
        let node = Node::new("node");
        node.add_address(LOCAL_IP.into());
        let (one, other) = (node.add_pod("one"), node.add_pod("other"));
        for address in [LOCAL_IP.into(), NODE_IP6.into()] {
            let source = exchange(one.namespace(), node.namespace(), address);
            assert!([IpAddr::from(one.address()), one.address6().into()].contains(&source));
        }
        let source = exchange(one.namespace(), other.namespace(), other.address().into());
        assert_eq!(source, one.address());
        let source = exchange(one.namespace(), other.namespace(), other.address6().into());
        assert_eq!(source, one.address6());
    }

    #[test]
    fn the_host_link_is_in_the_nodes_namespace() {
        if !require(NETWORK) {
            return;
        }
        let node = Node::new("links");
        let pod = node.add_pod("pod");
        let name = pod.host_link().to_owned();
        let index = node.namespace().run(|| nix::net::if_::if_nametoindex(name.as_str()));
        assert!(index.unwrap() > 0);
    }

    #[test]
    fn a_pods_command_reads_the_pods_resolver_settings() {
        if !require(NETWORK) {
            return;
        }
        let node = Node::new("resolver");
        let pod = node.add_pod("pod");
        let text = run_ok(pod.command("cat").arg("/etc/resolv.conf"));
        assert!(text.starts_with("nameserver 169.254.25.10\n"), "{text}");
    }
}
