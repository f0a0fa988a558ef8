//! What is answered: records, not yet octets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rand::{Rng, seq::SliceRandom as _};

use super::name::Name;
use crate::message::{
    NOERROR, NXDOMAIN, REFUSED, TYPE_A, TYPE_AAAA, TYPE_CNAME, TYPE_PTR, TYPE_SOA, TYPE_SRV,
    TYPE_TXT,
};

/// A response without header, question and OPT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The RCODE.
    pub rcode: u16,
    /// AA.
    pub is_authoritative: bool,
    /// The Answer section.
    pub answers: Vec<Record>,
    /// The Authority section: the SOA record of a negative response.
    pub authority: Option<Record>,
    /// The Additional section without its OPT.
    pub additionals: Vec<Record>,
}

/// A resource record of class IN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its owner name.
    pub owner: Name,
    /// Its TTL in seconds.
    pub ttl_s: u32,
    /// Its type and RDATA.
    pub data: RecordData,
}

/// RDATA.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each field is the one of its record's RFC")]
pub enum RecordData {
    A(Ipv4Addr),
    Aaaa(Ipv6Addr),
    Cname(Name),
    Ptr(Name),
    Txt(&'static str),
    /// Priority is 0.
    Srv {
        weight: u16,
        port: u16,
        target: Name,
    },
    /// REFRESH, RETRY and EXPIRE are CoreDNS's.
    Soa {
        mname: Name,
        rname: Name,
        serial: u32,
        minimum_s: u32,
    },
}

impl RecordData {
    /// Returns an address's record.
    pub(super) fn of_address(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => Self::A(ip),
            IpAddr::V6(ip) => Self::Aaaa(ip),
        }
    }

    /// Returns the type.
    pub fn record_type(&self) -> u16 {
        match self {
            Self::A(_) => TYPE_A,
            Self::Aaaa(_) => TYPE_AAAA,
            Self::Cname(_) => TYPE_CNAME,
            Self::Ptr(_) => TYPE_PTR,
            Self::Txt(_) => TYPE_TXT,
            Self::Srv { .. } => TYPE_SRV,
            Self::Soa { .. } => TYPE_SOA,
        }
    }

    fn is_address(&self) -> bool {
        matches!(self, Self::A(_) | Self::Aaaa(_))
    }
}

impl Reply {
    /// Returns a positive response.
    pub(super) fn data(answers: Vec<Record>, additionals: Vec<Record>) -> Self {
        Self { rcode: NOERROR, is_authoritative: true, answers, authority: None, additionals }
    }

    /// Returns a response to a query for a type that the name does not have.
    pub(super) fn nodata(soa: Record) -> Self {
        Self {
            rcode: NOERROR,
            is_authoritative: true,
            answers: Vec::new(),
            authority: Some(soa),
            additionals: Vec::new(),
        }
    }

    /// Returns a response to a query for a name that does not exist.
    pub(super) fn no_such_name(soa: Record) -> Self {
        Self { rcode: NXDOMAIN, ..Self::nodata(soa) }
    }

    /// Returns a refusal.
    pub(super) fn refused() -> Self {
        Self { rcode: REFUSED, is_authoritative: false, ..Self::data(Vec::new(), Vec::new()) }
    }

    /// Puts the addresses of each section in a random order, all orders being as
    /// likely, after its other records.
    pub fn shuffle(&mut self, rng: &mut impl Rng) {
        for section in [&mut self.answers, &mut self.additionals] {
            section.sort_by_key(|record| record.data.is_address());
            let others = section.partition_point(|record| !record.data.is_address());
            section.get_mut(others..).unwrap_or_default().shuffle(rng);
        }
    }
}
