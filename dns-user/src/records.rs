//! A Service's owner names and their addresses (Kubernetes DNS specification
//! 1.1.0, as CoreDNS's `kubernetes` plugin does it).

use std::{
    collections::HashMap,
    net::{Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

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

/// A change of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The name is new, or its records are.
    Put(Arc<NameRecords>),
    /// The name is gone.
    Remove(String),
    /// The zone, or what all its records share, is now like this.
    Zone(Option<ClusterZone>),
}
