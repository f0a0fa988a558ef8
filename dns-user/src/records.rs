//! What the kernel answers: names of Services with their addresses, and records
//! of other types (Kubernetes DNS specification 1.1.0).

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    iter,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
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
    /// A Service with cluster IPs. The names of its endpoints are in user space.
    ClusterIp,
    /// A headless Service. Its endpoints have names here, all of them.
    Headless,
    /// An endpoint of a headless Service.
    Endpoint,
    /// An alias without endpoints; it is resolved in user space.
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
    /// Whether it has SRV records, which are an [`Answer`] or in user space.
    pub has_ports: bool,
}

impl NameRecords {
    /// Returns a name without records.
    pub fn without(name: String, kind: NameKind) -> Self {
        Self { name, kind, a: Vec::new(), aaaa: Vec::new(), has_ports: false }
    }

    /// Adds an address, unless it is there.
    pub fn add(&mut self, ip: IpAddr) {
        match ip {
            IpAddr::V4(ip) if !self.a.contains(&ip) => self.a.push(ip),
            IpAddr::V6(ip) if !self.aaaa.contains(&ip) => self.aaaa.push(ip),
            IpAddr::V4(_) | IpAddr::V6(_) => {}
        }
    }
}

/// Owner name and type of records.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AnswerKey {
    /// The name in lower case, without a final dot.
    pub name: String,
    /// The type.
    pub qtype: u16,
}

/// Records of one name and type in the form in which a response has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What was asked.
    pub key: AnswerKey,
    /// How many there are in the Answer and in the Additional section.
    pub counts: [u16; 2],
    /// What follows the question, with pointers that are right there.
    pub body: Box<[u8]>,
    /// Whether it holds parts of the name, which are spelled in lower case.
    pub is_lower_case: bool,
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
    /// Records of other types.
    pub answers: HashMap<AnswerKey, Arc<Answer>>,
    /// Service -> which answers it has a part in.
    asked: HashMap<ObjectName, BTreeSet<AnswerKey>>,
    /// Owner name of a Service -> the names of its endpoints.
    endpoints: HashMap<String, Vec<String>>,
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
    /// These are the records of that name and type, whatever they were before.
    PutAnswer(Arc<Answer>),
    /// There are no such records any more, or they are in user space.
    RemoveAnswer(AnswerKey),
}

impl Table {
    /// Gives `owner`, and the names of endpoints below it, these records and no
    /// others. Returns the changes: names come before the one that they are below,
    /// which may say that these are all.
    pub fn replace(&mut self, owner: &str, records: Vec<NameRecords>) -> Vec<Change> {
        let old = self.endpoints.remove(owner).unwrap_or_default();
        let old: Vec<_> = iter::once(owner.to_owned()).chain(old).collect();
        let names: HashSet<_> = records.iter().map(|records| records.name.clone()).collect();
        let endpoints: Vec<_> = names.iter().filter(|name| *name != owner).cloned().collect();
        if !endpoints.is_empty() {
            self.endpoints.insert(owner.to_owned(), endpoints);
        }
        let mut changes = Vec::new();
        for records in records.into_iter().rev() {
            if self.names.get(&records.name).is_some_and(|old| **old == records) {
                continue;
            }
            let records = Arc::new(records);
            self.names.insert(records.name.clone(), Arc::clone(&records));
            changes.push(Change::Put(records));
        }
        for name in old.into_iter().filter(|name| !names.contains(name)) {
            if let Some((name, _)) = self.names.remove_entry(&name) {
                changes.push(Change::Remove(name));
            }
        }
        changes
    }

    /// Notes in which answers a Service has a part. Returns all that may be others
    /// now: those, and those in which it had one.
    pub fn ask(&mut self, service: &ObjectName, keys: BTreeSet<AnswerKey>) -> BTreeSet<AnswerKey> {
        let mut all = self.asked.remove(service).unwrap_or_default();
        if !keys.is_empty() {
            all.extend(keys.iter().cloned());
            self.asked.insert(service.clone(), keys);
        }
        all
    }

    /// Gives a name these records of one type, or none; returns the change, if it
    /// is one.
    pub fn set_answer(&mut self, key: AnswerKey, answer: Option<Answer>) -> Option<Change> {
        let Some(answer) = answer else {
            return self.answers.remove(&key).map(|_| Change::RemoveAnswer(key));
        };
        if self.answers.get(&key).is_some_and(|old| **old == answer) {
            return None;
        }
        let answer = Arc::new(answer);
        self.answers.insert(key, Arc::clone(&answer));
        Some(Change::PutAnswer(answer))
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

/// Returns the name `label.service` of an endpoint of the Service with that owner
/// name. None when it is none that a query could ask for in a usual way.
pub fn endpoint_name(label: &str, service: &str) -> Option<String> {
    let name = format!("{label}.{service}");
    (is_label(label) && name.len() <= MAX_NAME_LEN).then_some(name)
}

/// Returns the owner name `namespace.svc.zone` of a Namespace; None as with
/// [`owner_name`].
pub fn namespace_owner_name(namespace: &str, zone: &str) -> Option<String> {
    let name = format!("{namespace}.svc.{zone}");
    (is_label(namespace) && name.len() <= MAX_NAME_LEN).then_some(name)
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
            has_ports: true,
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
        let own = || mk_records(owner, &["10.96.1.2"], &[]);
        let endpoint = |n: u8| mk_records(&format!("e{n}.{owner}"), &[], &[]);
        let put = |records: NameRecords| Change::Put(records.into());
        assert_eq!(table.replace(owner, vec![]), []);
        assert_eq!(table.replace(owner, vec![own()]), [put(own())]);
        assert_eq!(table.replace(owner, vec![own()]), []);
        assert_eq!(
            table.replace(owner, vec![own(), endpoint(1)]),
            [put(endpoint(1))],
            "only what is new"
        );
        assert_eq!(
            table.replace(owner, vec![own(), endpoint(2)]),
            [put(endpoint(2)), Change::Remove(endpoint(1).name)]
        );
        let other = mk_records(owner, &["10.96.1.3"], &[]);
        assert_eq!(
            table.replace(owner, vec![other.clone(), endpoint(3)]),
            [put(endpoint(3)), put(other), Change::Remove(endpoint(2).name)],
            "an endpoint comes before the name it is below"
        );
        let mut changes = table.replace(owner, vec![]);
        changes.sort_by_key(|change| format!("{change:?}"));
        assert_eq!(changes, [Change::Remove(owner.into()), Change::Remove(endpoint(3).name)]);
        assert!(table.names.is_empty());

        assert_eq!(table.set_zone(None), None);
        let zone = Some(mk_zone());
        assert_eq!(table.set_zone(zone.clone()), Some(Change::Zone(zone.clone())));
        assert_eq!(table.set_zone(zone), None);
    }
}
