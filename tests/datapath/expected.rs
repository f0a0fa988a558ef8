//! Reply frames, built from the records and not by the code under test.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use harness::{
    known::{SERIAL, TTL_S, ZONE, owned_record},
    packet::{
        frame::{Frame, Transport},
        query::Query,
    },
};

/// An A record of the question's name.
pub fn a(last: u8) -> Vec<u8> {
    record(1, &Ipv4Addr::new(10, 96, 1, last).octets())
}

/// An AAAA record of the question's name.
pub fn aaaa(last: u16) -> Vec<u8> {
    record(28, &Ipv6Addr::from([0xfd00, 0x10, 0x96, 0, 0, 0, 1, last]).octets())
}

fn record(rtype: u8, rdata: &[u8]) -> Vec<u8> {
    owned_record(12, rtype, rdata)
}

/// The zone's SOA; its names point to the zone's name in the question.
pub fn soa(query: &Query, ttl_s: u32) -> Vec<u8> {
    let zone_length = ZONE.len() + 2;
    let zone_start = 12 + query.questions[0].name.len() - zone_length;
    let apex = (0xc000 | u16::try_from(zone_start).unwrap()).to_be_bytes();
    let mut rdata = b"\x02ns\x03dns".to_vec();
    rdata.extend(apex);
    rdata.extend(b"\x0ahostmaster");
    rdata.extend(apex);
    for number in [SERIAL, 7200, 1800, 86400, TTL_S] {
        rdata.extend(number.to_be_bytes());
    }
    let mut octets = apex.to_vec();
    octets.extend([0, 6, 0, 1]);
    octets.extend(ttl_s.to_be_bytes());
    octets.extend(u16::try_from(rdata.len()).unwrap().to_be_bytes());
    octets.extend(rdata);
    octets
}

/// The frame that answers `frame`, which carries `query`, with these records;
/// none means NODATA.
pub fn reply(frame: &Frame, query: &Query, answers: &[Vec<u8>]) -> Vec<u8> {
    response(frame, query, answers, 0)
}

/// The frame that answers `frame` with this body and these flags.
pub fn reply_from(
    frame: &Frame,
    query: &Query,
    header: u16,
    counts: [u16; 3],
    body: &[u8],
) -> Vec<u8> {
    frame_of(frame, query, header, counts, body)
}

/// The frame that answers `frame` with records of which the last are in the
/// Additional section.
pub fn reply_with(frame: &Frame, query: &Query, counts: [u16; 2], body: &[Vec<u8>]) -> Vec<u8> {
    let [answers, additionals] = counts;
    frame_of(frame, query, AA, [answers, 0, additionals], &body.concat())
}

/// The frame that says that the name does not exist.
pub fn denial(frame: &Frame, query: &Query) -> Vec<u8> {
    response(frame, query, &[], 3)
}

fn response(frame: &Frame, query: &Query, answers: &[Vec<u8>], rcode: u16) -> Vec<u8> {
    let count = u16::try_from(answers.len()).unwrap();
    let soa = if answers.is_empty() { soa(query, TTL_S) } else { vec![] };
    let counts = [count, u16::from(!soa.is_empty()), 0];
    frame_of(frame, query, AA | rcode, counts, &[answers.concat(), soa].concat())
}

/// AA.
const AA: u16 = 0x0400;

fn frame_of(frame: &Frame, query: &Query, header: u16, counts: [u16; 3], body: &[u8]) -> Vec<u8> {
    let flags = query.flags & 0x0110 | 0x8000 | header;
    let [answers, authorities, additionals] = counts;
    let additionals = additionals + u16::from(query.edns.is_some());
    let mut message = Vec::new();
    for word in [query.id, flags, 1, answers, authorities, additionals] {
        message.extend(word.to_be_bytes());
    }
    let question = &query.questions[0];
    message.extend(&question.name);
    message.extend(question.qtype.to_be_bytes());
    message.extend(question.qclass.to_be_bytes());
    message.extend(body);
    if let Some(edns) = &query.edns {
        message.extend([0, 0, 41]);
        message.extend(edns.size.to_be_bytes());
        message.extend([0, 0, u8::from(edns.dnssec_ok) << 7, 0, 0, 0]);
    }
    Frame {
        destination_mac: frame.source_mac,
        source_mac: frame.destination_mac,
        source: frame.destination,
        destination: frame.source,
        source_port: frame.destination_port,
        destination_port: frame.source_port,
        transport: match frame.source {
            IpAddr::V4(_) => Transport::UdpWithoutChecksum,
            IpAddr::V6(_) => Transport::Udp,
        },
        payload: message,
        padding: Vec::new(),
        ..frame.clone()
    }
    .octets()
}
