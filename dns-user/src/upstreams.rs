//! Which servers answer what is not answered here: the ready endpoints of the
//! upstream Service, read from the watch like everything else.

use std::{env, net::SocketAddr, sync::Arc};

use crate::{
    config::{DNS_PORT, Upstream},
    index::Index,
    objects::{ObjectName, Ports, Service, ServiceKind},
};

/// Returns the servers as they are known before the first word of the watch: those
/// of the flag, or the clusterIPs that the kubelet put into the environment.
pub fn at_start(upstream: &Upstream) -> Arc<[SocketAddr]> {
    match upstream {
        Upstream::Servers(servers) => servers.as_slice().into(),
        Upstream::Services(services) => services.iter().filter_map(from_environment).collect(),
    }
}

/// Returns the servers to which packets of others may be sent before the watch has
/// said anything: those of the flag, if they can be reached by anyone.
pub fn endpoints_at_start(upstream: &Upstream) -> Arc<[SocketAddr]> {
    let Upstream::Servers(servers) = upstream else { return Arc::from([]) };
    servers.iter().copied().filter(|server| !server.ip().is_loopback()).collect()
}

/// Kubernetes, "Discovering services": `{NAME}_SERVICE_HOST`.
fn from_environment(service: &ObjectName) -> Option<SocketAddr> {
    let name = service.name.to_ascii_uppercase().replace('-', "_");
    let ip = env::var(format!("{name}_SERVICE_HOST")).ok()?.parse().ok()?;
    Some(SocketAddr::new(ip, DNS_PORT))
}

/// Returns the ready endpoints of the first of `services` that has any.
pub fn endpoints(index: &Index, services: &[ObjectName]) -> Vec<SocketAddr> {
    let existing = services.iter().filter_map(|name| index.service(name));
    let mut ready = existing.map(|service| ready_endpoints(index, service));
    ready.find(|servers| !servers.is_empty()).unwrap_or_default()
}

/// Returns the clusterIPs of the first of `services` that exists.
pub fn cluster_ips(index: &Index, services: &[ObjectName]) -> Vec<SocketAddr> {
    let mut existing = services.iter().filter_map(|name| index.service(name));
    existing.next().map_or_else(Vec::new, service_ips)
}

fn service_ips(service: &Service) -> Vec<SocketAddr> {
    let ServiceKind::ClusterIp(ips) = &service.kind else { return Vec::new() };
    ips.iter().map(|ip| SocketAddr::new(*ip, dns_port(&service.ports))).collect()
}

fn ready_endpoints(index: &Index, service: &Service) -> Vec<SocketAddr> {
    let mut servers = Vec::new();
    for slice in index.slices(&service.name).filter(|slice| slice.is_ip) {
        let port = dns_port(&slice.ports);
        servers.extend(slice.endpoints.addresses().map(|ip| SocketAddr::new(ip, port)));
    }
    servers.sort_unstable();
    servers.dedup();
    servers
}

/// The port for UDP queries: the one named `dns`, else the first for UDP.
fn dns_port(ports: &Ports) -> u16 {
    let named = ports.iter().find(|port| port.name == "dns");
    let port = named.or_else(|| ports.iter().find(|port| port.protocol == "UDP"));
    port.and_then(|port| port.number).unwrap_or(DNS_PORT)
}

#[cfg(test)]
mod tests {
    use super::{cluster_ips, endpoints};
    use crate::{
        index::Index,
        objects::{
            Event, Object,
            builders::{mk_name, mk_service, mk_slice},
        },
    };

    struct Case {
        name: &'static str,
        given: Vec<Object>,
        endpoints: &'static [&'static str],
        cluster_ips: &'static [&'static str],
    }

    #[test]
    fn the_first_service_that_exists() {
        let kube_dns = || mk_service("kube-system/kube-dns", "10.96.0.10");
        let cases = [
            Case {
                name: "none",
                given: vec![mk_service("prod/web", "10.96.0.1")],
                endpoints: &[],
                cluster_ips: &[],
            },
            Case {
                name: "no endpoints",
                given: vec![kube_dns()],
                endpoints: &[],
                cluster_ips: &["10.96.0.10:53"],
            },
            Case {
                name: "endpoints",
                given: vec![
                    kube_dns(),
                    mk_slice("kube-system/kube-dns-a", "kube-dns", "10.244.0.3"),
                    mk_slice("kube-system/kube-dns-b", "kube-dns", "10.244.0.2"),
                ],
                endpoints: &["10.244.0.2:53", "10.244.0.3:53"],
                cluster_ips: &["10.96.0.10:53"],
            },
            Case {
                name: "coredns without endpoints, kube-dns with",
                given: vec![
                    kube_dns(),
                    mk_service("kube-system/coredns", "10.96.0.3"),
                    mk_slice("kube-system/kube-dns-a", "kube-dns", "10.244.0.3"),
                ],
                endpoints: &["10.244.0.3:53"],
                cluster_ips: &["10.96.0.3:53"],
            },
            Case {
                name: "coredns before kube-dns",
                given: vec![kube_dns(), mk_service("kube-system/coredns", "10.96.0.3")],
                endpoints: &[],
                cluster_ips: &["10.96.0.3:53"],
            },
        ];
        let services = ["kube-system/coredns", "kube-system/kube-dns"].map(mk_name);
        for Case { name, given, endpoints: expected, cluster_ips: expected_ips } in cases {
            let mut index = Index::default();
            for object in given {
                index.apply(Event::Apply(object));
            }
            let text = |servers: Vec<std::net::SocketAddr>| -> Vec<_> {
                servers.iter().map(ToString::to_string).collect()
            };
            assert_eq!(text(endpoints(&index, &services)), expected, "{name}");
            assert_eq!(text(cluster_ips(&index, &services)), expected_ips, "{name}");
        }
    }
}
