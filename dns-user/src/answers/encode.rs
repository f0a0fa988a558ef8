//! Writing the response (RFC 1035 4.1, 4.1.4; RFC 6891), as CoreDNS does.
//!
//! A response that fits is written with full names. One that does not fit, or
//! that would not fit one packet of an Ethernet link, is written with pointers.
//! If it still does not fit, it has as many records as do, and TC.
//! When hickory-proto compresses, what it drops and which options it can echo are
//! not CoreDNS's rules, so the octets are written here.

use super::{
    Arrival, Family, Transport,
    query::{Edns, OPT, Query},
    writer::{Write, Writer, write_length},
};
use crate::{
    cluster::Reply,
    message::{
        AA, AD, CD, HEADER, Header, NOTIMP, OPCODE, QR, Question, RA, RD, SERVFAIL, TC, TYPE_OPT,
    },
};

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
    let capacity = length.min(budget.most);
    let mut writer =
        if is_full { Writer::in_full(capacity) } else { Writer::with_pointers(capacity) };
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
    let mut writer = Writer::with_pointers(HEADER);
    writer.write_question(question);
    for record in sections.into_iter().flatten() {
        record.write(&mut writer);
    }
    writer.octets.split_off(HEADER + question.len())
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
