//! Which servers answer what is not answered here: the ready endpoints of the
//! upstream Service, read from the watch like everything else.

use std::net::SocketAddr;

use crate::{
    index::Index,
    objects::{ObjectName, Port, ServiceKind},
};

const DNS_PORT: u16 = 53;

/// Returns the servers behind the first of `services` that exists: its ready
/// endpoints, or its clusterIPs while it has none.
pub fn endpoints(index: &Index, services: &[ObjectName]) -> Vec<SocketAddr> {
    let Some(service) = services.iter().find_map(|name| index.service(name)) else {
        return Vec::new();
    };
    let mut servers = Vec::new();
    for slice in index.slices(&service.name).filter(|slice| slice.is_ip) {
        let port = dns_port(&slice.ports);
        let addresses = slice.endpoints.iter().flat_map(|endpoint| &endpoint.addresses);
        servers.extend(addresses.map(|ip| SocketAddr::new(*ip, port)));
    }
    if let (true, ServiceKind::ClusterIp(ips)) = (servers.is_empty(), &service.kind) {
        servers.extend(ips.iter().map(|ip| SocketAddr::new(*ip, dns_port(&service.ports))));
    }
    servers.sort_unstable();
    servers.dedup();
    servers
}

/// The port for UDP queries: the one named `dns`, else the first for UDP.
fn dns_port(ports: &[Port]) -> u16 {
    let named = ports.iter().find(|port| port.name == "dns");
    let port = named.or_else(|| ports.iter().find(|port| port.protocol == "UDP"));
    port.and_then(|port| port.number).unwrap_or(DNS_PORT)
}

#[cfg(test)]
mod tests {
    use super::endpoints;
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
        expect: &'static [&'static str],
    }

    #[test]
    fn the_first_service_that_exists() {
        let kube_dns = || mk_service("kube-system/kube-dns", "10.96.0.10");
        let cases = [
            Case { name: "none", given: vec![mk_service("prod/web", "10.96.0.1")], expect: &[] },
            Case { name: "no endpoints", given: vec![kube_dns()], expect: &["10.96.0.10:53"] },
            Case {
                name: "endpoints",
                given: vec![
                    kube_dns(),
                    mk_slice("kube-system/kube-dns-a", "kube-dns", "10.244.0.3"),
                    mk_slice("kube-system/kube-dns-b", "kube-dns", "10.244.0.2"),
                ],
                expect: &["10.244.0.2:53", "10.244.0.3:53"],
            },
            Case {
                name: "coredns before kube-dns",
                given: vec![kube_dns(), mk_service("kube-system/coredns", "10.96.0.3")],
                expect: &["10.96.0.3:53"],
            },
        ];
        let services = ["kube-system/coredns", "kube-system/kube-dns"].map(mk_name);
        for Case { name, given, expect } in cases {
            let mut index = Index::default();
            for object in given {
                index.apply(Event::Apply(object));
            }
            let servers: Vec<_> =
                endpoints(&index, &services).iter().map(ToString::to_string).collect();
            assert_eq!(servers, expect, "{name}");
        }
    }
}
