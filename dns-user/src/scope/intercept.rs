//! The cluster IPs of the upstream Service, which the programs on the links answer
//! for as well (`--intercept-cluster-ip`).
//!
//! What they pass up goes on to the Service as ever: the agent has no socket there.

use std::net::IpAddr;

use crate::{
    config::DNS_PORT,
    index::Index,
    objects::{ObjectName, Service},
};

/// Returns the cluster IPs of those of `services` that serve DNS over UDP at its port.
pub(super) fn cluster_ips(index: &Index, services: &[ObjectName]) -> Vec<IpAddr> {
    let existing = services.iter().filter_map(|name| index.service(name));
    let serving = existing.filter(|service| {
        let mut ports = service.ports.iter();
        ports.any(|port| port.protocol == "UDP" && port.number == Some(DNS_PORT))
    });
    serving.flat_map(Service::cluster_ips).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::{
        Event, Object, Port,
        builders::{mk_name, mk_service},
    };

    fn service(name: &str, ip: &str, protocol: &str, port: u16) -> Object {
        let Object::Service(service) = mk_service(name, ip) else { panic!("a Service") };
        let port = Port { name: "dns", protocol, number: Some(port) };
        Object::Service(Service { ports: [port].into_iter().collect(), ..service })
    }

    #[test]
    fn only_services_of_dns_are_intercepted() {
        let services = ["kube-system/coredns", "kube-system/kube-dns"].map(mk_name);
        let dns = |name: &str, ip: &str| service(&format!("kube-system/{name}"), ip, "UDP", 53);
        for (case, given, expect) in [
            ("none", vec![], &[][..]),
            ("one", vec![dns("kube-dns", "10.96.0.10")], &["10.96.0.10"]),
            (
                "both families",
                vec![dns("kube-dns", "10.96.0.10,fd00::a")],
                &["10.96.0.10", "fd00::a"],
            ),
            (
                "two",
                vec![dns("kube-dns", "10.96.0.10"), dns("coredns", "10.96.0.3")],
                &["10.96.0.3", "10.96.0.10"],
            ),
            ("another name", vec![dns("dns", "10.96.0.10")], &[]),
            ("headless", vec![dns("kube-dns", "None")], &[]),
            ("TCP", vec![service("kube-system/kube-dns", "10.96.0.10", "TCP", 53)], &[]),
            ("another port", vec![service("kube-system/kube-dns", "10.96.0.10", "UDP", 5353)], &[]),
        ] {
            let mut index = Index::default();
            for object in given {
                index.apply(Event::Apply(object));
            }
            let ips: Vec<_> =
                cluster_ips(&index, &services).iter().map(ToString::to_string).collect();
            assert_eq!(ips, expect, "{case}");
        }
    }
}
