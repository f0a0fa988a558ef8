//! What the kernel answers: names of Services with their addresses, and records
//! of other types (Kubernetes DNS specification 1.1.0).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

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
    /// An alias; the addresses that it leads to are looked up in user space.
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
    /// Whether the kernel is to have all its names, so that others do not exist, and no
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

/// REFRESH, RETRY and EXPIRE of the SOA record of CoreDNS's `kubernetes` plugin, in seconds.
pub const SOA_TIMES_S: [u32; 3] = [7200, 1800, 86400];

/// All that is answered from here, which the kernel's maps are brought to. It is made
/// of the objects when it is asked for: a copy would take more memory than they do.
pub trait Wanted {
    /// Returns the zone; None while every name is left to CoreDNS.
    fn zone(&self) -> Option<&ClusterZone>;
    /// Returns every owner name with its records. Names come before the one that they
    /// are below, which may say that these are all.
    fn names(&self) -> impl Iterator<Item = NameRecords>;
    /// Returns the records of other types, those of shared addresses more than once.
    fn answers(&self) -> impl Iterator<Item = Answer>;
    /// Returns the records of an owner name, if it is one.
    fn name(&self, name: &str) -> Option<NameRecords>;
    /// Returns the records of that name and type, if there are some.
    fn answer(&self, key: &AnswerKey) -> Option<Answer>;
}

/// What brings the kernel's maps to what is [`Wanted`] next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// From now on this zone is answered for, or none.
    Zone(Option<ClusterZone>),
    /// The owner name has these records, whatever it had before.
    Put(NameRecords),
    /// The owner name is no longer answered from here.
    Remove(String),
    /// The records of that name and type may be others than before, or gone.
    Answer(AnswerKey),
    /// Every name and answer may be another, or gone.
    All,
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
    use super::owner_name;
    use crate::objects::builders::mk_name;

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
}
