//! The names that the kernel answers for: those of Services, with their
//! addresses (Kubernetes DNS specification 1.1.0).

use std::{
    collections::HashMap,
    net::{Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use crate::objects::{ObjectName, is_label};

/// Octets of a name as text without the final dot at most: 255 on the wire
/// (RFC 1035 section 2.3.4), less the first length octet and the root.
const MAX_NAME_LEN: usize = 253;

/// What stands behind a name, and so which queries for it, or for names below
/// it, only user space answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameKind {
    /// The zone itself.
    Apex,
    /// Nothing of its own, but other names are below it: `svc`, Namespaces.
    Empty,
    /// A Service with cluster IPs. Its ports and the names of its endpoints are in
    /// user space.
    ClusterIp,
    /// A headless Service. Its ports are in user space, its endpoints have names
    /// here, all of them.
    Headless,
    /// An endpoint of a headless Service. Its ports are in user space.
    Endpoint,
    /// An alias, with nothing below it; it is resolved in user space.
    Alias,
    /// Everything about it, and about names below it, is in user space.
    Unknown,
}

/// Everything that is known about one owner name that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameRecords {
    /// The name in lower case, without a final dot.
    pub name: String,
    /// What stands behind it.
    pub kind: NameKind,
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
    /// Whether the table has all its names, so that others do not exist, and no
    /// other zone is below this one.
    pub is_complete: bool,
    /// Whether addresses are put in random order.
    pub shuffles: bool,
    /// Whether queries for DS are left to CoreDNS.
    pub forwards_ds: bool,
    /// TTL of its records in seconds.
    pub ttl_s: u32,
    /// TTL of its SOA record, when that is asked for, in seconds.
    pub soa_ttl_s: u32,
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

#[cfg(test)]
mod tests {
    use super::{Change, ClusterZone, NameKind, NameRecords, Table, owner_name};
    use crate::objects::builders::mk_name;

    fn mk_zone() -> ClusterZone {
        ClusterZone {
            name: "cluster.local".into(),
            is_complete: true,
            shuffles: false,
            forwards_ds: false,
            ttl_s: 30,
            soa_ttl_s: 30,
            negative_ttl_s: 30,
            soa_minimum_s: 30,
            serial: 1,
        }
    }

    fn mk_records(name: &str, a: &[&str], aaaa: &[&str]) -> NameRecords {
        NameRecords {
            name: name.into(),
            kind: NameKind::ClusterIp,
            a: a.iter().map(|ip| ip.parse().unwrap()).collect(),
            aaaa: aaaa.iter().map(|ip| ip.parse().unwrap()).collect(),
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
