//! A small cluster: an API server with the objects that every cluster has, and
//! a real CoreDNS that watches it, as kubeadm sets it up.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::{
    coredns::CoreDns,
    kernel::{DATAPATH, Need, require},
    kubernetes::Kubernetes,
    node::{NODE_IP, Node},
    objects::{mk_config_map, mk_endpoint, mk_endpoint_slice, mk_service},
    upstream::{Table, Upstream},
};

/// Address of the CoreDNS pod.
pub const COREDNS_IP: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 10);
/// TTL of the cluster's records in [`corefile`].
pub const TTL_S: u32 = 30;
/// Where the upstream for names outside the cluster serves.
const UPSTREAM: SocketAddr = SocketAddr::new(IpAddr::V4(NODE_IP), 5300);
const DNS_PORTS: [&str; 2] = ["dns:53/UDP", "dns-tcp:53/TCP"];

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
    /// Starts everything on `node`.
    #[track_caller]
    pub fn start(node: &'node Node) -> Self {
        node.add_address(COREDNS_IP.into());
        let upstream = Upstream::start(node.namespace(), UPSTREAM, Table::example());
        let kubernetes = Kubernetes::start(node.namespace());
        kubernetes.apply(&mk_config_map(
            "kube-system",
            "coredns",
            &[("Corefile", &corefile(TTL_S, ""))],
        ));
        kubernetes.apply(&mk_service("kube-system", "kube-dns", "10.96.0.10", &DNS_PORTS));
        let endpoints = vec![mk_endpoint(COREDNS_IP.into())];
        kubernetes.apply(&mk_endpoint_slice("kube-system", "kube-dns", "a", endpoints, &DNS_PORTS));
        let running = Corefile {
            bind: format!("bind {COREDNS_IP}"),
            extra: format!("kubeconfig {}", kubernetes.kubeconfig().display()),
            // A judge must not be late.
            uncached: "cluster.local in-addr.arpa ip6.arpa",
            forward: UPSTREAM.to_string(),
            ttl_s: TTL_S,
        };
        let coredns = CoreDns::start(
            node.namespace(),
            SocketAddr::new(COREDNS_IP.into(), 53),
            &running.text(),
        );
        Self { coredns, kubernetes, upstream }
    }

    /// Returns the flags with which the agent watches this cluster.
    pub fn agent_flags(&self) -> [String; 2] {
        ["--kubeconfig".to_owned(), self.kubernetes.kubeconfig().to_string_lossy().into_owned()]
    }
}

/// Returns kubeadm's Corefile, without what opens ports beside DNS, with this
/// TTL and one more line for the `kubernetes` plugin.
pub fn corefile(ttl_s: u32, extra: &str) -> String {
    let corefile = Corefile {
        bind: String::new(),
        extra: extra.to_owned(),
        uncached: "cluster.local",
        forward: "/etc/resolv.conf".to_owned(),
        ttl_s,
    };
    corefile.text()
}

/// What differs between the Corefile in the ConfigMap and that of the CoreDNS that
/// runs here: where it listens, whom it watches and asks, what it remembers.
struct Corefile {
    bind: String,
    extra: String,
    uncached: &'static str,
    forward: String,
    ttl_s: u32,
}

impl Corefile {
    fn text(&self) -> String {
        let Self { bind, extra, uncached, forward, ttl_s } = self;
        format!(
            ".:53 {{
    {bind}
    errors
    kubernetes cluster.local in-addr.arpa ip6.arpa {{
       pods insecure
       fallthrough in-addr.arpa ip6.arpa
       ttl {ttl_s}
       {extra}
    }}
    forward . {forward} {{
       max_concurrent 1000
    }}
    cache 30 {{
       disable success {uncached}
       disable denial {uncached}
    }}
    loadbalance
}}
"
        )
    }
}
