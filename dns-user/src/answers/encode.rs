//! Writing the response (RFC 1035 4.1, 4.1.4; RFC 6891), as CoreDNS does.
//!
//! A response that fits is written with full names. One that does not fit, or
//! that would not fit one packet of an Ethernet link, is written with pointers:
//! all its names are the question's or end in the question's zone. If it still
//! does not fit, it has as many records as do, and TC.
//! When hickory-proto compresses, what it drops and which options it can echo are
//! not CoreDNS's rules, so the octets are written here.

use std::net::{Ipv4Addr, Ipv6Addr};

use rand::{Rng, seq::SliceRandom as _};

use super::{
    Arrival, Family, Transport,
    query::{Edns, OPT, Query},
};
use crate::{
    message::{
        AA, CD, CLASS_IN, HEADER, Header, NOERROR, OPCODE, QR, Question, RD, SERVFAIL, TC, TYPE_A,
        TYPE_AAAA, TYPE_OPT, TYPE_SOA,
    },
    records::{ClusterZone, NameRecords},
};

/// Octets of TYPE, CLASS, TTL and RDLENGTH.
const RECORD_FIXED: usize = 10;
/// Octets of a pointer.
const POINTER: usize = 2;
/// The labels before the zone in the SOA's MNAME and RNAME.
const MNAME: &[u8] = b"\x02ns\x03dns";
const RNAME: &[u8] = b"\x0ahostmaster";
/// Octets of the SOA's five numbers.
const SOA_NUMBERS: usize = 20;

/// What a response says.
#[derive(Clone, Debug)]
pub(super) enum Records {
    /// A records.
    A(Vec<Ipv4Addr>),
    /// AAAA records.
    Aaaa(Vec<Ipv6Addr>),
    /// The SOA in Authority: the name has no data of that type.
    Nodata,
}

impl Records {
    /// Returns what `name` has of `qtype`. None for types that are not decided here.
    pub(super) fn select(qtype: u16, name: &NameRecords) -> Option<Self> {
        match qtype {
            TYPE_A if !name.a.is_empty() => Some(Self::A(name.a.clone())),
            TYPE_AAAA if !name.aaaa.is_empty() => Some(Self::Aaaa(name.aaaa.clone())),
            TYPE_A | TYPE_AAAA => Some(Self::Nodata),
            _ => None,
        }
    }

    /// Puts the addresses in a random order, all orders being as likely.
    pub(super) fn shuffle(&mut self, rng: &mut impl Rng) {
        match self {
            Self::A(addresses) => addresses.shuffle(rng),
            Self::Aaaa(addresses) => addresses.shuffle(rng),
            Self::Nodata => {}
        }
    }

    fn count(&self) -> usize {
        match self {
            Self::A(addresses) => addresses.len(),
            Self::Aaaa(addresses) => addresses.len(),
            Self::Nodata => 1,
        }
    }
}

/// How much may be sent.
struct Budget {
    /// Most octets of a response.
    most: usize,
    /// Most octets of a response with full names.
    most_uncompressed: usize,
}

impl Budget {
    fn new(arrival: Arrival, edns: Option<&Edns>) -> Self {
        /// Without EDNS (RFC 1035 4.2.1).
        const UDP_LEAST: usize = 512;
        /// Most octets that a datagram carries; a larger one could not be sent at all.
        const UDP_MOST: usize = 65507;
        match (arrival.transport, arrival.family) {
            (Transport::Tcp, _) => Self { most: 65535, most_uncompressed: 65535 },
            (Transport::Udp, family) => {
                let asked = edns.map_or(UDP_LEAST, |edns| usize::from(edns.size));
                let most = asked.clamp(UDP_LEAST, UDP_MOST);
                let one_packet = match family {
                    Family::V4 => 1480,
                    Family::V6 => 1220,
                };
                Self { most, most_uncompressed: most.min(one_packet) }
            }
        }
    }
}

/// Names written in full, or as pointers into the question.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Names {
    Full,
    Pointers,
}

/// One response being written.
struct Writer<'a> {
    query: &'a Query<'a>,
    zone: &'a ClusterZone,
    /// Where the zone starts in the question's name.
    zone_start: usize,
    names: Names,
    octets: Vec<u8>,
}

/// Returns the response to `query` with `records`; `zone` starts at
/// `zone_start` in the question's name.
pub(super) fn build(
    query: &Query<'_>,
    arrival: Arrival,
    records: &Records,
    zone: &ClusterZone,
    zone_start: usize,
) -> Vec<u8> {
    let budget = Budget::new(arrival, query.edns.as_ref());
    let opt = opt_octets(query.edns.as_ref());
    let fixed = HEADER + query.question.octets.len() + opt;
    let mut writer = Writer { query, zone, zone_start, names: Names::Full, octets: Vec::new() };
    let count = records.count();
    let mut fitting = count;
    let mut length = fixed + count * writer.record_octets(records);
    if length > budget.most_uncompressed {
        writer.names = Names::Pointers;
        let each = writer.record_octets(records);
        fitting = count.min(budget.most.saturating_sub(fixed) / each);
        length = fixed + fitting * each;
    }
    writer.octets.reserve_exact(length);
    writer.write_head(records, fitting, count);
    match records {
        Records::A(addresses) => {
            for address in addresses.iter().take(fitting) {
                writer.write_address(TYPE_A, &address.octets());
            }
        }
        Records::Aaaa(addresses) => {
            for address in addresses.iter().take(fitting) {
                writer.write_address(TYPE_AAAA, &address.octets());
            }
        }
        Records::Nodata if fitting > 0 => writer.write_soa(),
        Records::Nodata => {}
    }
    if let Some(edns) = &query.edns {
        write_opt(&mut writer.octets, edns);
    }
    writer.octets
}

impl Writer<'_> {
    /// Returns the octets of one of `records`.
    fn record_octets(&self, records: &Records) -> usize {
        let question = self.query.question.name.len();
        let (name, zone) = match self.names {
            Names::Full => (question, question - self.zone_start),
            Names::Pointers => (POINTER, POINTER),
        };
        RECORD_FIXED
            + match records {
                Records::A(_) => name + size_of::<Ipv4Addr>(),
                Records::Aaaa(_) => name + size_of::<Ipv6Addr>(),
                Records::Nodata => zone + Self::soa_rdata_octets(zone),
            }
    }

    fn soa_rdata_octets(zone: usize) -> usize {
        MNAME.len() + zone + RNAME.len() + zone + SOA_NUMBERS
    }

    /// Writes header and question; of `count` records, `fitting` will follow.
    fn write_head(&mut self, records: &Records, fitting: usize, count: usize) {
        let truncated = if fitting < count { TC } else { 0 };
        let fitting = u16::try_from(fitting).unwrap_or(u16::MAX);
        let (answers, authorities) = match records {
            Records::A(_) | Records::Aaaa(_) => (fitting, 0),
            Records::Nodata => (0, fitting),
        };
        let header = Header {
            id: self.query.header.id,
            flags: QR | AA | truncated | self.query.header.flags & (RD | CD) | NOERROR,
            questions: 1,
            answers,
            authorities,
            additionals: self.query.edns.is_some().into(),
        };
        write_header(&mut self.octets, header);
        self.octets.extend_from_slice(self.query.question.octets);
    }

    fn write_address(&mut self, rtype: u16, rdata: &[u8]) {
        self.write_name(0);
        self.write_fixed(rtype, self.zone.ttl_s, rdata.len());
        self.octets.extend_from_slice(rdata);
    }

    /// Writes the zone's SOA, its names spelled as in the question.
    fn write_soa(&mut self) {
        let zone = match self.names {
            Names::Full => self.query.question.name.len() - self.zone_start,
            Names::Pointers => POINTER,
        };
        self.write_name(self.zone_start);
        self.write_fixed(TYPE_SOA, self.zone.negative_ttl_s, Self::soa_rdata_octets(zone));
        for labels in [MNAME, RNAME] {
            self.octets.extend_from_slice(labels);
            self.write_name(self.zone_start);
        }
        // Serial, refresh, retry, expire, minimum.
        for number in [self.zone.serial, 7200, 1800, 86400, self.zone.soa_minimum_s] {
            self.octets.extend_from_slice(&number.to_be_bytes());
        }
    }

    /// Writes the question's name from its octet `start` on.
    fn write_name(&mut self, start: usize) {
        match self.names {
            Names::Full => {
                let name = self.query.question.name.get(start..).unwrap_or_default();
                self.octets.extend_from_slice(name);
            }
            Names::Pointers => {
                // A name is at most 255 octets, so this stays below 2^14.
                let at = u16::try_from(HEADER + start).unwrap_or(u16::MAX);
                self.octets.extend_from_slice(&(0xc000 | at).to_be_bytes());
            }
        }
    }

    fn write_fixed(&mut self, rtype: u16, ttl_s: u32, rdlength: usize) {
        self.octets.extend_from_slice(&rtype.to_be_bytes());
        self.octets.extend_from_slice(&CLASS_IN.to_be_bytes());
        self.octets.extend_from_slice(&ttl_s.to_be_bytes());
        write_length(&mut self.octets, rdlength);
    }
}

/// Returns SERVFAIL for whatever query, so that the client does not wait in
/// vain: its question is echoed if it can be read, its OPT if that is understood.
pub fn build_servfail(query: &[u8]) -> Vec<u8> {
    let Some(asked) = Header::parse(query) else { return Vec::new() };
    let question = Question::parse(query);
    let edns = Query::parse(query).and_then(|query| query.edns);
    let header = Header {
        id: asked.id,
        flags: QR | asked.flags & (OPCODE | RD | CD) | SERVFAIL,
        questions: question.is_some().into(),
        answers: 0,
        authorities: 0,
        additionals: edns.is_some().into(),
    };
    let mut octets = Vec::new();
    write_header(&mut octets, header);
    octets.extend_from_slice(question.map_or(&[], |question| question.octets));
    if let Some(edns) = &edns {
        write_opt(&mut octets, edns);
    }
    octets
}

fn write_header(octets: &mut Vec<u8>, header: Header) {
    let Header { id, flags, questions, answers, authorities, additionals } = header;
    for number in [id, flags, questions, answers, authorities, additionals] {
        octets.extend_from_slice(&number.to_be_bytes());
    }
}

fn opt_octets(edns: Option<&Edns>) -> usize {
    edns.map_or(0, |edns| OPT + edns.options.len())
}

/// Root, OPT, the client's size, extended RCODE and version 0, the client's
/// upper flags, lower flags 0, the options.
fn write_opt(octets: &mut Vec<u8>, edns: &Edns) {
    octets.push(0);
    octets.extend_from_slice(&TYPE_OPT.to_be_bytes());
    octets.extend_from_slice(&edns.size.to_be_bytes());
    octets.extend_from_slice(&[0, 0, edns.upper_flags, 0]);
    write_length(octets, edns.options.len());
    octets.extend_from_slice(&edns.options);
}

/// Writes RDLENGTH. RDATA is part of a message, so it fits.
fn write_length(octets: &mut Vec<u8>, length: usize) {
    octets.extend_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
}
