//! What is answered: records, not yet octets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rand::{Rng, seq::SliceRandom as _};

use super::name::Name;
use crate::{
    corefile::TtlRange,
    message::{
        NOERROR, NXDOMAIN, REFUSED, TYPE_A, TYPE_AAAA, TYPE_CNAME, TYPE_DNAME, TYPE_PTR, TYPE_SOA,
        TYPE_SRV, TYPE_TXT,
    },
};

/// What a question leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A response.
    Reply(Reply),
    /// A name outside of the cluster, whose records are part of the response.
    Outside(Outside),
    /// Nothing: the name is none of the cluster's, whatever its objects are.
    Elsewhere,
}

/// Aliases that lead out of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outside {
    /// The aliases, in their order.
    pub(super) aliases: Vec<Record>,
    /// Where the last one leads, spelled as in the object.
    pub target: Name,
    /// What CoreDNS's cache makes of the TTLs; None without one.
    pub(super) cached: Option<TtlRange>,
}

impl Outside {
    /// Returns the response that has the target's records after the aliases,
    /// whatever else was said of the target. TTLs differ only where there is no
    /// cache: it gives all of them the smallest.
    pub fn into_reply(self, records: Vec<Record>, is_truncated: bool) -> Reply {
        let mut answers = self.aliases;
        answers.extend(records);
        let least = answers.iter().map(|record| record.ttl_s).min();
        if let (Some(range), Some(least)) = (self.cached, least) {
            for record in &mut answers {
                record.ttl_s = range.apply(least);
            }
        }
        Reply { is_truncated, ..Reply::data(answers, Vec::new()) }
    }
}

/// A response without header, question and OPT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The RCODE.
    pub rcode: u16,
    /// AA.
    pub is_authoritative: bool,
    /// TC, even if everything fits.
    pub is_truncated: bool,
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
    Dname(Name),
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
            Self::Dname(_) => TYPE_DNAME,
            Self::Ptr(_) => TYPE_PTR,
            Self::Txt(_) => TYPE_TXT,
            Self::Srv { .. } => TYPE_SRV,
            Self::Soa { .. } => TYPE_SOA,
        }
    }

    /// Returns the place of its type in a section that is put in random order.
    fn rank(&self) -> u8 {
        match self {
            Self::Cname(_) => 0,
            Self::A(_) | Self::Aaaa(_) => Self::ADDRESS,
            _ => 1,
        }
    }

    /// The rank of addresses, the last one.
    const ADDRESS: u8 = 2;
}

impl Reply {
    /// Returns a positive response.
    pub(super) fn data(answers: Vec<Record>, additionals: Vec<Record>) -> Self {
        Self {
            rcode: NOERROR,
            is_authoritative: true,
            is_truncated: false,
            answers,
            authority: None,
            additionals,
        }
    }

    /// Returns a response to a query for a type that the name does not have.
    pub(super) fn nodata(soa: Record) -> Self {
        Self { authority: Some(soa), ..Self::data(Vec::new(), Vec::new()) }
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
    /// likely, after its aliases and then its other records.
    pub fn shuffle(&mut self, rng: &mut impl Rng) {
        for section in [&mut self.answers, &mut self.additionals] {
            section.sort_by_key(|record| record.data.rank());
            let others = section.partition_point(|record| record.data.rank() < RecordData::ADDRESS);
            section.get_mut(others..).unwrap_or_default().shuffle(rng);
        }
    }
}
