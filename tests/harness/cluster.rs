//! A small cluster: an API server with the objects that every cluster has, and
//! a real CoreDNS that watches it, as kubeadm sets it up.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::{
    coredns::CoreDns,
    corefile::{Corefile, Running},
    kernel::{DATAPATH, Need, require},
    kubernetes::Kubernetes,
    node::{NODE_IP, Node},
    objects::{mk_config_map, mk_endpoint, mk_endpoint_slice, mk_service},
    upstream::{Table, Upstream},
};

/// Address of the CoreDNS pod.
pub const COREDNS_IP: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 10);
/// Where the upstream for names outside the cluster serves.
const UPSTREAM: SocketAddr = SocketAddr::new(IpAddr::V4(NODE_IP), 5300);
const DNS_PORTS: [&str; 2] = ["dns:53/UDP", "dns-tcp:53/TCP"];
/// Ports of the further Corefiles of one CoreDNS.
const MORE_PORTS: u16 = 1053;

/// The running parts. Dropping it ends them.
#[derive(Debug)]
pub struct Cluster<'node> {
    /// Answers for the cluster's names and asks upstream for others.
    pub coredns: CoreDns,
    /// The API server.
    pub kubernetes: Kubernetes<'node>,
    /// The upstream for names outside the cluster.
    pub upstream: Upstream,
}

/// Says whether a cluster with the agent on it can be had here.
#[must_use = "a test whose needs are not met returns early"]
#[track_caller]
pub fn require_cluster() -> bool {
    require(DATAPATH) && require(&["etcd", "kube-apiserver", "coredns"].map(Need::Tool))
}

impl<'node> Cluster<'node> {
    /// Starts everything on `node`, with kubeadm's Corefile.
    #[track_caller]
    pub fn start(node: &'node Node) -> Self {
        Self::start_with(node, &[Corefile::kubeadm()])
    }

    /// Starts everything on `node`. The one CoreDNS answers as each of `corefiles`
    /// says, each at a port of its own; the first is in the ConfigMap, and its
    /// CoreDNS the upstream.
    #[track_caller]
    pub fn start_with(node: &'node Node, corefiles: &[Corefile]) -> Self {
        node.add_address(COREDNS_IP.into());
        let upstream = Upstream::start(node.namespace(), UPSTREAM, Table::example());
        let kubernetes = Kubernetes::start(node.namespace());
        let first = corefiles.first().expect("at least one Corefile");
        kubernetes.apply(&mk_config_map("kube-system", "coredns", &[("Corefile", &first.text())]));
        kubernetes.apply(&mk_service("kube-system", "kube-dns", "10.96.0.10", &DNS_PORTS));
        kubernetes.apply(&upstream_slice(coredns_address(0)));
        let blocks = corefiles.iter().enumerate().map(|(number, corefile)| {
            corefile.running(Running {
                address: coredns_address(number),
                kubeconfig: &kubernetes.kubeconfig(),
                upstream: UPSTREAM,
            })
        });
        let text = blocks.collect::<String>();
        let coredns = CoreDns::start(node.namespace(), coredns_address(0), &text);
        Self { coredns, kubernetes, upstream }
    }

    /// Returns the flags with which the agent watches this cluster.
    pub fn agent_flags(&self) -> [String; 2] {
        ["--kubeconfig".to_owned(), self.kubernetes.kubeconfig().to_string_lossy().into_owned()]
    }

    /// Returns these flags for an agent that is compared with a CoreDNS that stores
    /// nothing: then it stores nothing either, so that all of both is compared.
    pub fn judged_flags(&self) -> [String; 3] {
        let [flag, kubeconfig] = self.agent_flags();
        [flag, kubeconfig, "--cache-size=0".to_owned()]
    }
}

/// Returns where CoreDNS answers as the Corefile of that number says.
pub fn coredns_address(number: usize) -> SocketAddr {
    let more = |number: usize| MORE_PORTS + u16::try_from(number).expect("few Corefiles");
    let port = if number == 0 { 53 } else { more(number) };
    SocketAddr::new(COREDNS_IP.into(), port)
}

/// Returns the EndpointSlice of `kube-dns` that makes that server the upstream.
pub fn upstream_slice(server: SocketAddr) -> EndpointSlice {
    let port = server.port();
    let ports = [format!("dns:{port}/UDP"), format!("dns-tcp:{port}/TCP")];
    let ports = ports.each_ref().map(String::as_str);
    mk_endpoint_slice("kube-system", "kube-dns", "a", vec![mk_endpoint(server.ip())], &ports)
}

/// Returns kubeadm's Corefile with this TTL and one more line for the
/// `kubernetes` plugin.
pub fn corefile(ttl_s: u32, extra: &str) -> String {
    let text = Corefile { ttl_s: Some(ttl_s), ..Corefile::kubeadm() }.text();
    text.replace("pods insecure\n", &format!("pods insecure\n        {extra}\n"))
}
