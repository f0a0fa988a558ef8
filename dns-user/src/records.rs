//! A Service's owner names and their addresses (Kubernetes DNS specification
//! 1.1.0, as CoreDNS's `kubernetes` plugin does it).

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use crate::{
    index::Index,
    objects::{ObjectName, ServiceKind, is_label},
};

/// Octets of a name as text without the final dot at most: 255 on the wire
/// (RFC 1035 section 2.3.4), less the first length octet and the root.
const MAX_NAME_LEN: usize = 253;

/// Everything that is known about one owner name that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameRecords {
    /// The name in lower case, without a final dot.
    pub name: String,
    /// A records, without duplicates.
    pub a: Vec<Ipv4Addr>,
    /// AAAA records, without duplicates.
    pub aaaa: Vec<Ipv6Addr>,
}

/// The zone that is answered for, as CoreDNS is set up to answer for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterZone {
    /// In lower case, without a final dot.
    pub name: String,
    /// TTL of its records in seconds.
    pub ttl_s: u32,
    /// TTL of the SOA record in a negative response, in seconds.
    pub negative_ttl_s: u32,
    /// The MINIMUM field of the SOA record, in seconds.
    pub soa_minimum_s: u32,
    /// SOA serial: Unix seconds of the last change that was seen.
    pub serial: u32,
}

/// All owner names that are answered from here: the one source of answers for
/// the kernel's map and for the sockets.
#[derive(Debug, Default)]
pub struct Table {
    /// The zone; None while every name is left to CoreDNS.
    pub zone: Option<ClusterZone>,
    /// Owner name -> records.
    pub names: HashMap<String, Arc<NameRecords>>,
}

/// What brings a copy of the [`Table`] to its next state, such as the kernel's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// From now on this zone is answered for, or none.
    Zone(Option<ClusterZone>),
    /// The owner name has these records, whatever it had before.
    Put(Arc<NameRecords>),
    /// The owner name is no longer answered from here.
    Remove(String),
}

impl Table {
    /// Gives `owner` these records, or none; returns the change, if it is one.
    pub fn replace(&mut self, owner: &str, records: Option<NameRecords>) -> Option<Change> {
        let Some(records) = records else {
            let (name, _) = self.names.remove_entry(owner)?;
            return Some(Change::Remove(name));
        };
        debug_assert_eq!(owner, records.name, "records belong to their owner name");
        if self.names.get(owner).is_some_and(|old| **old == records) {
            return None;
        }
        let records = Arc::new(records);
        self.names.insert(owner.to_owned(), Arc::clone(&records));
        Some(Change::Put(records))
    }

    /// Sets the zone; returns the change, if it is one. The names stay.
    pub fn set_zone(&mut self, zone: Option<ClusterZone>) -> Option<Change> {
        if self.zone == zone {
            return None;
        }
        self.zone.clone_from(&zone);
        Some(Change::Zone(zone))
    }
}

/// Returns the owner name `service.namespace.svc.zone` of a Service. None when
/// no Service can have such a name, so that CoreDNS has to say what becomes of it.
pub fn owner_name(service: &ObjectName, zone: &str) -> Option<String> {
    let name = format!("{}.{}.svc.{zone}", service.name, service.namespace);
    let is_name = is_label(&service.name) && is_label(&service.namespace);
    (is_name && name.len() <= MAX_NAME_LEN).then_some(name)
}

/// Returns the records of a Service's own name. None for what is left to
/// CoreDNS: aliases, Services whose clusterIP is not allocated, headless ones
/// without a ready endpoint or with endpoints that are names.
pub fn service_records(
    index: &Index,
    service: &ObjectName,
    zone: &ClusterZone,
) -> Option<NameRecords> {
    if !index.has_namespace(&service.namespace) {
        return None;
    }
    let name = owner_name(service, &zone.name)?;
    let addresses = match &index.service(service)?.kind {
        ServiceKind::ClusterIp(cluster_ips) => cluster_ips.clone(),
        ServiceKind::Headless if !index.has_all_slices(service) => return None,
        ServiceKind::Headless => ready_addresses(index, service)?,
        ServiceKind::ExternalName(_) => return None,
    };
    let mut records = NameRecords { name, a: Vec::new(), aaaa: Vec::new() };
    let mut seen = HashSet::new();
    for ip in addresses.into_iter().filter(|ip| seen.insert(*ip)) {
        match ip {
            IpAddr::V4(ip) => records.a.push(ip),
            IpAddr::V6(ip) => records.aaaa.push(ip),
        }
    }
    (!seen.is_empty()).then_some(records)
}

/// Returns the addresses of all ready endpoints: slices in the order of their
/// names, endpoints in the order of their slice. None when some are not
/// addresses but names.
fn ready_addresses(index: &Index, service: &ObjectName) -> Option<Vec<IpAddr>> {
    let mut addresses = Vec::new();
    for slice in index.slices(service) {
        if !slice.is_ip {
            return None;
        }
        addresses.extend(slice.endpoints.iter().flat_map(|endpoint| &endpoint.addresses));
    }
    Some(addresses)
}

#[cfg(test)]
mod tests {
    use super::{Change, ClusterZone, NameRecords, Table, owner_name, service_records};
    use crate::{
        index::Index,
        objects::{
            Event, Object,
            builders::{mk_external_name, mk_name, mk_namespace, mk_service, mk_slice},
        },
    };

    fn mk_zone() -> ClusterZone {
        ClusterZone {
            name: "cluster.local".into(),
            ttl_s: 30,
            negative_ttl_s: 30,
            soa_minimum_s: 30,
            serial: 1,
        }
    }

    fn mk_records(name: &str, a: &[&str], aaaa: &[&str]) -> NameRecords {
        NameRecords {
            name: name.into(),
            a: a.iter().map(|ip| ip.parse().unwrap()).collect(),
            aaaa: aaaa.iter().map(|ip| ip.parse().unwrap()).collect(),
        }
    }

    fn mk_fqdn_slice(name: &str, service: &str) -> Object {
        let Object::EndpointSlice(mut slice) = mk_slice(name, service, "") else { panic!() };
        slice.is_ip = false;
        Object::EndpointSlice(slice)
    }

    struct Case {
        name: &'static str,
        given: Vec<Object>,
        /// The Service `namespace/name` that is asked for.
        query: &'static str,
        /// A and AAAA; None when left to CoreDNS.
        expect: Option<(&'static [&'static str], &'static [&'static str])>,
    }

    #[test]
    fn services_with_cluster_ips() {
        let prod = || mk_namespace("prod");
        let cases = [
            Case {
                name: "one clusterIP",
                given: vec![prod(), mk_service("prod/api", "10.96.1.2")],
                query: "prod/api",
                expect: Some((&["10.96.1.2"], &[])),
            },
            Case {
                name: "both families, endpoints irrelevant",
                given: vec![
                    prod(),
                    mk_service("prod/web", "10.96.1.1,fd00:10:96::1:1"),
                    mk_slice("prod/web-4", "web", "10.244.1.11"),
                ],
                query: "prod/web",
                expect: Some((&["10.96.1.1"], &["fd00:10:96::1:1"])),
            },
            Case {
                name: "IPv6 only",
                given: vec![prod(), mk_service("prod/v6only", "fd00:10:96::2:2")],
                query: "prod/v6only",
                expect: Some((&[], &["fd00:10:96::2:2"])),
            },
            Case {
                name: "not allocated",
                given: vec![prod(), mk_service("prod/new", "")],
                query: "prod/new",
                expect: None,
            },
            Case {
                name: "an alias",
                given: vec![prod(), mk_external_name("prod/ext", "www.example.com")],
                query: "prod/ext",
                expect: None,
            },
            Case {
                name: "no Namespace",
                given: vec![mk_namespace("test"), mk_service("prod/api", "10.96.1.2")],
                query: "prod/api",
                expect: None,
            },
            Case {
                name: "a name that is no label",
                given: vec![prod(), mk_service("prod/a.b", "10.96.1.2")],
                query: "prod/a.b",
                expect: None,
            },
        ];
        check(cases);
    }

    #[test]
    fn headless_services() {
        let prod = || mk_namespace("prod");
        let cases = [
            Case {
                name: "headless, slices by name, without duplicates",
                given: vec![
                    prod(),
                    mk_service("prod/dual", "None"),
                    mk_slice("prod/dual-b", "dual", "10.244.4.1,10.244.4.3"),
                    mk_slice("prod/dual-a", "dual", "10.244.4.2,10.244.4.1"),
                    mk_slice("prod/dual-6", "dual", "fd00:10:244:4::1,fd00:10:244:4::1"),
                ],
                query: "prod/dual",
                expect: Some((&["10.244.4.2", "10.244.4.1", "10.244.4.3"], &["fd00:10:244:4::1"])),
            },
            Case {
                name: "headless without a slice",
                given: vec![prod(), mk_service("prod/gone", "None")],
                query: "prod/gone",
                expect: None,
            },
            Case {
                name: "headless without a ready endpoint",
                given: vec![
                    prod(),
                    mk_service("prod/notready", "None"),
                    mk_slice("prod/notready-x", "notready", ""),
                ],
                query: "prod/notready",
                expect: None,
            },
            Case {
                name: "endpoints that are names, beside addresses",
                given: vec![
                    prod(),
                    mk_service("prod/fq", "None"),
                    mk_slice("prod/fq-a", "fq", "10.244.5.1"),
                    mk_fqdn_slice("prod/fq-b", "fq"),
                ],
                query: "prod/fq",
                expect: None,
            },
            Case {
                name: "a slice of no Service",
                given: vec![prod(), mk_slice("prod/orphan-x", "orphan", "10.244.6.1")],
                query: "prod/orphan",
                expect: None,
            },
        ];
        check(cases);
    }

    fn check<const N: usize>(cases: [Case; N]) {
        for case in cases {
            let mut index = Index::default();
            for object in case.given {
                index.apply(Event::Apply(object));
            }
            let service = mk_name(case.query);
            let name = format!("{}.{}.svc.cluster.local", service.name, service.namespace);
            let expect = case.expect.map(|(a, aaaa)| mk_records(&name, a, aaaa));
            assert_eq!(service_records(&index, &service, &mk_zone()), expect, "{}", case.name);
        }
    }

    #[test]
    fn owner_names_are_plain_and_short_enough() {
        let long = "a".repeat(63);
        let too_long = "a".repeat(64);
        let long_zone = format!("{long}.{long}.{long}");
        let cases = [
            ("web", "prod", "cluster.local", true),
            ("_9-x", "prod", "cluster.local", true),
            (&long, &long, "cluster.local", true),
            (&too_long, "prod", "cluster.local", false),
            (&long, &long, &long_zone, false),
            ("Web", "prod", "cluster.local", false),
            ("", "prod", "cluster.local", false),
            ("web", "", "cluster.local", false),
            ("a.b", "prod", "cluster.local", false),
            ("w\u{e9}b", "prod", "cluster.local", false),
        ];
        for (name, namespace, zone, expect) in cases {
            let service = mk_name(&format!("{namespace}/{name}"));
            let expect = expect.then(|| format!("{name}.{namespace}.svc.{zone}"));
            assert_eq!(owner_name(&service, zone), expect, "{name}.{namespace}.{zone}");
        }
    }

    #[test]
    fn the_table_says_what_changed() {
        let mut table = Table::default();
        let owner = "api.prod.svc.cluster.local";
        let records = || Some(mk_records(owner, &["10.96.1.2"], &[]));
        assert_eq!(table.replace(owner, None), None);
        let put = Change::Put(records().unwrap().into());
        assert_eq!(table.replace(owner, records()), Some(put));
        assert_eq!(table.replace(owner, records()), None);
        assert_eq!(table.replace(owner, None), Some(Change::Remove(owner.into())));
        assert!(table.names.is_empty());

        assert_eq!(table.set_zone(None), None);
        let zone = Some(mk_zone());
        assert_eq!(table.set_zone(zone.clone()), Some(Change::Zone(zone.clone())));
        assert_eq!(table.set_zone(zone), None);
    }
}
