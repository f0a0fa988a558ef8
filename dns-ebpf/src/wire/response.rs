//! Writing the response over the query.
//!
//! The question stays as it is, so ID and spelling are the client's; records
//! follow it, then the OPT. The header comes last: until then the packet is
//! still the query.

use crate::{
    layout::{
        rendered::{BODY_WORDS, Scratch},
        zone::{SOA_OCTETS, Zone},
    },
    opaque::{octet, ten_bits},
    packet::Packet,
    plan::{Addresses, Apex, Body, Plan},
    wire::{
        frame::{DNS, NAME},
        query::{Edns, OPT, Query},
        record_type,
    },
};

/// Octets of an A record whose owner is a pointer to the question.
pub const A_RECORD: u64 = 16;
/// Octets of such an AAAA record.
pub const AAAA_RECORD: u64 = 28;
/// Most blocks of 32 octets in records: 1,024 octets.
const BLOCKS: u64 = 32;
/// End of the question for a name of no octets.
const BODY: u64 = NAME + 4;
/// Pointer to the question's name (RFC 1035 4.1.4).
const OWNER: [u8; 2] = [0xc0, 12];

/// Returns the length of the response as a DNS message.
#[inline(always)]
pub fn length(query: &Query, plan: &Plan) -> u64 {
    12 + query.name_length + 4 + plan.length + OPT * query.edns.records
}

/// Writes the response of `length` octets into a packet that has its final
/// length. `scratch` returns where records in wire form are. None when the packet is
/// shorter than that.
#[inline(always)]
pub fn write<'a>(
    packet: Packet,
    query: &Query,
    plan: &Plan,
    zone: &Zone,
    length: u64,
    scratch: impl Fn() -> Option<&'a Scratch>,
) -> Option<()> {
    match plan.body {
        Body::V4(addresses) => write_v4(packet, query, zone.ttl_s, addresses)?,
        Body::V6(addresses) => write_v6(packet, query, zone.ttl_s, addresses)?,
        Body::Soa(apex) => {
            write_soa(packet, query, apex, zone)?;
            // Its own TTL, after owner, type and class.
            let record = packet.span_at::<{ BODY + 10 }>(query.name_length)?;
            record.set::<u32, { BODY + 6 }>(zone.soa_ttl_s.to_be());
        }
        Body::Negative(apex) => write_soa(packet, query, apex, zone)?,
        Body::Rendered => write_records(packet, query.name_length, plan.length, &scratch()?.body)?,
    }
    if query.edns.records != 0 {
        write_opt(packet, length, query.edns)?;
    }
    write_header(packet, query, plan)
}

/// Flags: the query's RD and CD with QR and those of the plan (RFC 1035 4.1.1,
/// RFC 4035 3.2.2); QDCOUNT, ANCOUNT, NSCOUNT, ARCOUNT.
#[inline(always)]
fn write_header(packet: Packet, query: &Query, plan: &Plan) -> Option<()> {
    let head = packet.head::<NAME>()?;
    let flags = query.flags & 0x0110 | 0x8000 | plan.header;
    let counts = (1 << 48 | plan.counts) + query.edns.records;
    head.set::<u16, 44>(flags.to_be());
    head.set::<u64, 46>(counts.to_be());
    Some(())
}

/// Root, OPT, the client's size, extended RCODE and version 0, the client's
/// upper flags (DO and those that CoreDNS echoes), lower flags 0, no options.
#[inline(always)]
fn write_opt(packet: Packet, length: u64, edns: Edns) -> Option<()> {
    let opt = packet.span_at::<{ DNS + OPT }>((length - OPT) & 2047)?;
    let [root, type_high, type_low, size_high, size_low, _, _, flags] = edns.head.to_ne_bytes();
    opt.set::<u64, DNS>(u64::from_ne_bytes([
        root, type_high, type_low, size_high, size_low, 0, 0, flags,
    ]));
    opt.set::<u32, { DNS + 7 }>(u32::from_ne_bytes([flags, 0, 0, 0]));
    Some(())
}

/// Owner, type, class IN and the TTL's upper half; then its lower half and RDLENGTH.
#[inline(always)]
fn record_head(rtype: u16, ttl_s: u32, rdlength: u16) -> (u64, u32) {
    let ([t0, t1, t2, t3], [type_high, type_low]) = (ttl_s.to_be_bytes(), rtype.to_be_bytes());
    let [length_high, length_low] = rdlength.to_be_bytes();
    (
        u64::from_ne_bytes([OWNER[0], OWNER[1], type_high, type_low, 0, 1, t0, t1]),
        u32::from_ne_bytes([t2, t3, length_high, length_low]),
    )
}

/// IPv4 addresses stand from the pool's start.
#[inline(always)]
fn write_v4(packet: Packet, query: &Query, ttl_s: u32, addresses: Addresses) -> Option<()> {
    const MOST: u64 = 8;
    let Addresses { count, first, pool } = addresses;
    let (head, rest) = record_head(record_type::A, ttl_s, 4);
    let (mut n, mut place) = (0, first);
    while n < MOST && n < count {
        let record = packet.span_at::<{ BODY + A_RECORD }>(query.name_length + A_RECORD * n)?;
        record.set::<u64, BODY>(head);
        record.set::<u32, { BODY + 8 }>(rest);
        let pair = pool.get((place >> 1) as usize & 3)?;
        record.set::<u32, { BODY + 12 }>((pair.to_le() >> (32 * (place & 1))) as u32);
        n += 1;
        place = if place + 1 == count { 0 } else { place + 1 };
    }
    Some(())
}

/// IPv6 addresses stand from the pool's end backwards.
#[inline(always)]
fn write_v6(packet: Packet, query: &Query, ttl_s: u32, addresses: Addresses) -> Option<()> {
    let Addresses { count, first, pool } = addresses;
    let (head, rest) = record_head(record_type::AAAA, ttl_s, 16);
    let write = |at: u64, is_second: bool| {
        let (high, low) = if is_second { (pool[0], pool[1]) } else { (pool[2], pool[3]) };
        let record = packet.span_at::<{ BODY + AAAA_RECORD }>(query.name_length + at)?;
        record.set::<u64, BODY>(head);
        record.set::<u32, { BODY + 8 }>(rest);
        record.set::<u64, { BODY + 12 }>(high);
        record.set::<u64, { BODY + 20 }>(low);
        Some(())
    };
    write(0, first != 0)?;
    if count > 1 {
        write(AAAA_RECORD, first == 0)?;
    }
    Some(())
}

/// Copies the records in blocks of four words, then in words, then the octets that
/// do not fill one in the word that ends with them. A function of its own: the
/// verifier looks at it once.
#[inline(never)]
fn write_records(
    packet: Packet,
    name_length: u64,
    length: u64,
    body: &[u64; BODY_WORDS],
) -> Option<()> {
    let (name_length, length) = (octet(name_length), ten_bits(length));
    let (chunks, _) = body.as_chunks::<4>();
    let cursor = packet.cursor(name_length);
    let blocks = length / 32;
    let mut n = 0;
    while n < BLOCKS && n < blocks {
        let block = cursor.span::<{ BODY + 32 }>(32 * n)?;
        let [first, second, third, fourth] = *chunks.get(n as usize)?;
        block.set::<u64, BODY>(first);
        block.set::<u64, { BODY + 8 }>(second);
        block.set::<u64, { BODY + 16 }>(third);
        block.set::<u64, { BODY + 24 }>(fourth);
        n += 1;
    }
    // How many blocks there were does not matter to the verifier any more.
    let words = ten_bits(length) / 8;
    let whole = words & !3;
    let cursor = packet.cursor(name_length + 8 * whole);
    let mut n = 0;
    while n < 3 && n < words - whole {
        let word = body.get((whole + n) as usize)?;
        cursor.span::<{ BODY + 8 }>(8 * n)?.set::<u64, BODY>(*word);
        n += 1;
    }
    let rest = 8 * (length & 7);
    let (last, before) = (body.get(words as usize)?, body.get((words as usize).checked_sub(1)?)?);
    let word = before.to_le() >> rest | last.to_le() << (56 - rest) << 8;
    let end = packet.span_at::<BODY>(ten_bits(name_length + length))?;
    end.set::<u64, { BODY - 8 }>(u64::from_le(word));
    Some(())
}

/// The zone's SOA, its names spelled as in the query: all three are pointers
/// into the question.
#[inline(always)]
fn write_soa(packet: Packet, query: &Query, apex: Apex, zone: &Zone) -> Option<()> {
    let record = packet.span_at::<{ BODY + SOA_OCTETS }>(query.name_length)?;
    let apex = (0xc000 | (12 + apex.0) as u16).to_be();
    record.set::<u64, BODY>(zone.soa[0]);
    record.set::<u64, { BODY + 8 }>(zone.soa[1]);
    record.set::<u64, { BODY + 16 }>(zone.soa[2]);
    record.set::<u64, { BODY + 24 }>(zone.soa[3]);
    record.set::<u64, { BODY + 32 }>(zone.soa[4]);
    record.set::<u64, { BODY + 40 }>(zone.soa[5]);
    let last = zone.soa[6].to_le();
    record.set::<u32, { BODY + 48 }>(u32::from_le(last as u32));
    record.set::<u16, { BODY + 52 }>(u16::from_le((last >> 32) as u16));
    record.set::<u16, BODY>(apex);
    record.set::<u16, { BODY + 19 }>(apex);
    record.set::<u16, { BODY + 32 }>(apex);
    record.set::<u32, { BODY + 34 }>(zone.serial.to_be());
    Some(())
}
