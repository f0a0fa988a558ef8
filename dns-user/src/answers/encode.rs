//! Writing the response (RFC 1035 4.1, 4.1.4; RFC 6891), as CoreDNS does.
//!
//! A response that fits is written with full names. One that does not fit, or
//! that would not fit one packet of an Ethernet link, is written with pointers.
//! If it still does not fit, it has as many records as do, and TC.
//! When hickory-proto compresses, what it drops and which options it can echo are
//! not CoreDNS's rules, so the octets are written here.

use std::collections::HashMap;

use super::{
    Arrival, Family, Transport,
    query::{Edns, OPT, Query},
};
use crate::{
    cache,
    cluster::{Name, Record, RecordData, Reply},
    message::{
        AA, AD, CD, CLASS_IN, HEADER, Header, NOTIMP, OPCODE, QR, Question, RA, RD, SERVFAIL, TC,
        TYPE_OPT,
        rdata::{Piece, pieces},
    },
};

/// Octets of TYPE, CLASS, TTL and RDLENGTH.
const RECORD_FIXED: usize = 10;
/// Pointers lead to places before this (14 bits).
const POINTER_MAX: usize = 1 << 14;
/// CoreDNS's REFRESH, RETRY and EXPIRE, in seconds.
const SOA_TIMES: [u32; 3] = [7200, 1800, 86400];

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

/// A record that can be written.
pub(super) trait Write {
    /// Returns how many octets it takes with full names.
    fn full_length(&self) -> usize;
    /// Appends it.
    fn write(&self, writer: &mut Writer);
}

/// Octets being written.
pub(super) struct Writer {
    octets: Vec<u8>,
    /// Names and ends of names in the octets, with their places; None when names
    /// are written in full.
    places: Option<HashMap<Vec<u8>, u16>>,
}

/// Returns the response to `query` that says `reply`.
pub(super) fn build(query: &Query, arrival: Arrival, reply: &Reply) -> Vec<u8> {
    let sections = [reply.answers.as_slice(), reply.authority.as_slice(), &reply.additionals];
    let authoritative = if reply.is_authoritative { AA } else { 0 };
    let truncated = if reply.is_truncated { TC } else { 0 };
    build_sections(query, arrival, authoritative | truncated | reply.rcode, sections)
}

/// Returns the response to `query` with these records. `flags` are those beside QR,
/// the opcode and what is copied from the query; TC is added to them when not
/// everything fits.
pub(super) fn build_sections<R: Write>(
    query: &Query,
    arrival: Arrival,
    flags: u16,
    sections: [&[R]; 3],
) -> Vec<u8> {
    build_within(query, &Budget::new(arrival, query.edns.as_ref()), flags, sections)
}

/// Returns the same without a limit and with all pointers that there can be.
pub(super) fn build_compressed<R: Write>(
    query: &Query,
    flags: u16,
    sections: [&[R]; 3],
) -> Vec<u8> {
    let budget = Budget { most: usize::from(u16::MAX), most_uncompressed: 0 };
    build_within(query, &budget, flags, sections)
}

fn build_within<R: Write>(
    query: &Query,
    budget: &Budget,
    mut flags: u16,
    sections: [&[R]; 3],
) -> Vec<u8> {
    let question = query.question_octets();
    let opt = opt_octets(query.edns.as_ref());
    let records = sections.iter().copied().flatten();
    let length = HEADER + question.len() + opt;
    let length = length + records.map(Write::full_length).sum::<usize>();
    let is_full = length <= budget.most_uncompressed;
    let mut writer = Writer {
        octets: Vec::with_capacity(length.min(budget.most)),
        places: (!is_full).then(HashMap::new),
    };
    writer.octets.resize(HEADER, 0);
    writer.write_question(question);
    let mut counts = [0; 3];
    'sections: for (count, section) in counts.iter_mut().zip(sections) {
        for record in section {
            let end = writer.octets.len();
            record.write(&mut writer);
            if writer.octets.len() + opt > budget.most {
                writer.octets.truncate(end);
                flags |= TC;
                break 'sections;
            }
            *count += 1;
        }
    }
    if let Some(edns) = &query.edns {
        write_opt(&mut writer.octets, edns);
    }
    let [answers, authorities, additionals] = counts;
    let header = Header {
        id: query.header.id,
        flags: QR | copied_flags(&query.header) | flags,
        questions: 1,
        answers,
        authorities,
        additionals: additionals + u16::from(query.edns.is_some()),
    };
    let mut octets = Vec::new();
    write_header(&mut octets, header);
    writer.octets.splice(..HEADER, octets);
    writer.octets
}

/// Returns what follows `question` in the shortest response with these records.
pub(super) fn build_body<R: Write>(question: &[u8], sections: [&[R]; 3]) -> Vec<u8> {
    let mut writer = Writer { octets: vec![0; HEADER], places: Some(HashMap::new()) };
    writer.write_question(question);
    for record in sections.into_iter().flatten() {
        record.write(&mut writer);
    }
    writer.octets.split_off(HEADER + question.len())
}

impl Write for Record {
    fn full_length(&self) -> usize {
        let name = |name: &Name| name.octets().len();
        let rdata = match &self.data {
            RecordData::A(ip) => ip.octets().len(),
            RecordData::Aaaa(ip) => ip.octets().len(),
            RecordData::Cname(target) | RecordData::Dname(target) | RecordData::Ptr(target) => {
                name(target)
            }
            RecordData::Txt(text) => 1 + text.len(),
            RecordData::Srv { target, .. } => 3 * size_of::<u16>() + name(target),
            RecordData::Soa { mname, rname, .. } => {
                name(mname) + name(rname) + 5 * size_of::<u32>()
            }
        };
        name(&self.owner) + RECORD_FIXED + rdata
    }

    fn write(&self, writer: &mut Writer) {
        let fixed = [self.data.record_type(), CLASS_IN];
        writer.write_record(self.owner.octets(), fixed, self.ttl_s, |writer| {
            writer.write_rdata(&self.data);
        });
    }
}

/// A record that upstream gave, with a TTL of our own.
pub(super) struct Given<'r> {
    /// The record.
    pub(super) record: cache::Record<'r>,
    /// The TTL in seconds.
    pub(super) ttl_s: u32,
}

impl Write for Given<'_> {
    fn full_length(&self) -> usize {
        self.record.owner.len() + RECORD_FIXED + self.record.rdata.len()
    }

    fn write(&self, writer: &mut Writer) {
        let cache::Record { owner, record_type, class, rdata, .. } = self.record;
        writer.write_record(owner, [record_type, class], self.ttl_s, |writer| {
            for piece in pieces(record_type, rdata) {
                match piece {
                    Piece::Octets(octets) => writer.octets.extend_from_slice(octets),
                    Piece::Name { octets, may_point } => writer.write_name(octets, may_point),
                }
            }
        });
    }
}

impl Writer {
    /// Writes the question, whose name later ones may point to.
    fn write_question(&mut self, question: &[u8]) {
        let (name, fixed) = question.split_at(question.len().saturating_sub(4));
        self.write_name(name, true);
        self.octets.extend_from_slice(fixed);
    }

    /// Writes a record, whose TYPE and CLASS are `fixed`.
    fn write_record(
        &mut self,
        owner: &[u8],
        fixed: [u16; 2],
        ttl_s: u32,
        write_rdata: impl FnOnce(&mut Self),
    ) {
        self.write_name(owner, true);
        self.octets.extend(fixed.iter().flat_map(|number| number.to_be_bytes()));
        self.octets.extend_from_slice(&ttl_s.to_be_bytes());
        let start = self.octets.len();
        write_length(&mut self.octets, 0);
        write_rdata(self);
        let length = self.octets.len() - start - size_of::<u16>();
        let length = u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
        self.octets.splice(start..start + length.len(), length);
    }

    fn write_rdata(&mut self, data: &RecordData) {
        match data {
            RecordData::A(ip) => self.octets.extend_from_slice(&ip.octets()),
            RecordData::Aaaa(ip) => self.octets.extend_from_slice(&ip.octets()),
            RecordData::Cname(target) | RecordData::Ptr(target) => {
                self.write_name(target.octets(), true);
            }
            // Names of newer types are never pointers (RFC 3597 4).
            RecordData::Dname(target) => self.write_name(target.octets(), false),
            RecordData::Txt(text) => {
                self.octets.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
                self.octets.extend_from_slice(text.as_bytes());
            }
            RecordData::Srv { weight, port, target } => {
                for number in [0, *weight, *port] {
                    self.octets.extend_from_slice(&number.to_be_bytes());
                }
                // Never a pointer (RFC 2782), but others may point to it.
                self.write_name(target.octets(), false);
            }
            RecordData::Soa { mname, rname, serial, minimum_s } => {
                self.write_name(mname.octets(), true);
                self.write_name(rname.octets(), true);
                let numbers = [*serial].into_iter().chain(SOA_TIMES).chain([*minimum_s]);
                for number in numbers {
                    self.octets.extend_from_slice(&number.to_be_bytes());
                }
            }
        }
    }

    /// Writes a name, as far as it does not already stand somewhere; `may_point`
    /// says whether it may end in a pointer.
    fn write_name(&mut self, name: &[u8], may_point: bool) {
        let mut rest = name;
        while let (Some(places), Some(&length)) = (&mut self.places, rest.first()) {
            if length == 0 {
                break;
            }
            match places.get(rest) {
                Some(place) if may_point => {
                    self.octets.extend_from_slice(&(0xc000 | place).to_be_bytes());
                    return;
                }
                Some(_) => break,
                None => {
                    let place = u16::try_from(self.octets.len()).unwrap_or(u16::MAX);
                    if usize::from(place) < POINTER_MAX {
                        places.insert(rest.to_owned(), place);
                    }
                }
            }
            let (label, after) = rest.split_at(rest.len().min(1 + usize::from(length)));
            self.octets.extend_from_slice(label);
            rest = after;
        }
        self.octets.extend_from_slice(rest);
    }
}

/// Returns SERVFAIL for whatever query, so that the client does not wait in
/// vain: its question is echoed if it can be read, its OPT if that is understood.
pub fn build_servfail(query: &[u8]) -> Vec<u8> {
    let Some(asked) = Header::parse(query) else { return Vec::new() };
    let read = Query::read(query).ok();
    let question = match &read {
        Some(read) => read.question_octets(),
        None => Question::parse(query).map_or(&[][..], |question| question.octets),
    };
    let edns = read.as_ref().and_then(|query| query.edns.as_ref());
    let header = Header {
        id: asked.id,
        flags: QR | copied_flags(&asked) | SERVFAIL,
        questions: (!question.is_empty()).into(),
        answers: 0,
        authorities: 0,
        additionals: edns.is_some().into(),
    };
    let mut octets = Vec::new();
    write_header(&mut octets, header);
    octets.extend_from_slice(question);
    if let Some(edns) = edns {
        write_opt(&mut octets, edns);
    }
    octets
}

/// Returns BADVERS (RFC 6891 6.1.3) for a query whose OPT has an unknown version.
pub(super) fn build_badvers(query: &Query) -> Vec<u8> {
    /// Extended RCODE, whose lower four bits are in the header.
    const BADVERS: u8 = 16 >> 4;
    let header = Header {
        id: query.header.id,
        flags: QR | copied_flags(&query.header),
        questions: 1,
        answers: 0,
        authorities: 0,
        additionals: 1,
    };
    let mut octets = Vec::new();
    write_header(&mut octets, header);
    octets.extend_from_slice(query.question_octets());
    octets.push(0);
    octets.extend_from_slice(&TYPE_OPT.to_be_bytes());
    // Size, extended RCODE, version and flags; no options.
    octets.extend_from_slice(&[0, 0, BADVERS, 0, 0, 0]);
    write_length(&mut octets, 0);
    octets
}

/// Returns the response to what CoreDNS does not read: the question, if there is
/// one, and no OPT.
pub(super) fn build_unread(query: &[u8], rcode: u16, question: &[u8]) -> Option<Vec<u8>> {
    let asked = Header::parse(query)?;
    let copied = match rcode {
        // Comes after the library.
        SERVFAIL => copied_flags(&asked),
        NOTIMP => asked.flags & (OPCODE | TC | RD | RA | AD | CD),
        _ => asked.flags & (TC | RD | RA | AD | CD),
    };
    let header = Header {
        id: asked.id,
        flags: QR | copied | rcode,
        questions: (!question.is_empty()).into(),
        answers: 0,
        authorities: 0,
        additionals: 0,
    };
    let mut octets = Vec::new();
    write_header(&mut octets, header);
    octets.extend_from_slice(question);
    Some(octets)
}

/// Returns the opcode, and the flags that are copied from a query but not from a
/// NOTIFY.
fn copied_flags(asked: &Header) -> u16 {
    match asked.flags & OPCODE {
        0 => asked.flags & (RD | CD),
        opcode => opcode,
    }
}

pub(super) fn write_header(octets: &mut Vec<u8>, header: Header) {
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
pub(super) fn write_opt(octets: &mut Vec<u8>, edns: &Edns) {
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
