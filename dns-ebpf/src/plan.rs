//! From what the map holds for a name, or from its absence, to the reply that
//! will be written.

use crate::{
    layout::{
        name_entry::flags,
        outcome::Outcome,
        rendered::Scratch,
        zone::{Zone, flags as zone_flags},
    },
    lookup::Found,
    opaque::ten_bits,
    wire::{query::Query, record_type, response},
};

/// What follows the question.
#[derive(Clone, Copy)]
pub enum Answer {
    /// A records from the pool.
    V4(Addresses),
    /// AAAA records from the pool.
    V6(Addresses),
    /// The zone's SOA record, as the answer.
    Soa,
    /// The zone's SOA record in the Authority section: there is no such record.
    Nodata,
    /// The same: there is no such name.
    NoSuchName,
    /// The records in the scratch.
    Rendered(Records),
}

/// Which records are in the scratch.
#[derive(Clone, Copy)]
pub struct Records {
    /// Octets of the body.
    pub length: u64,
    /// Flags of the header: AA, RA, AD and the RCODE.
    pub header: u64,
    /// ANCOUNT, NSCOUNT and ARCOUNT without OPT, each of 16 bits.
    pub counts: u64,
}

/// Addresses in the order in which they are given.
#[derive(Clone, Copy)]
pub struct Addresses {
    /// 1..=8 of IPv4 from the start of the pool, 1..=2 of IPv6 from its end
    /// backwards.
    pub count: u64,
    /// Which of them comes first, 0..count; the others follow in a circle.
    pub first: u64,
    /// The entry's address pool.
    pub pool: [u64; 4],
}

/// A reply that is decided.
#[derive(Clone, Copy)]
pub struct Plan {
    /// What follows the question.
    pub answer: Answer,
    /// How this reply is counted.
    pub outcome: Outcome,
    /// Where the zone's name begins in QNAME, in octets.
    pub zone_start: u64,
}

/// What is done about a type that is neither A nor AAAA.
#[derive(Clone, Copy)]
enum OtherType {
    /// Nothing: only the agent knows.
    PassUp,
    /// As CoreDNS answers for every name of the zone, existing or not.
    Nodata,
    /// As the name is.
    AsTheName,
}

#[inline(always)]
fn judge_type(qtype: u16, zone: &Zone) -> OtherType {
    match qtype {
        record_type::AXFR | record_type::IXFR => OtherType::PassUp,
        record_type::DS if zone.flags & zone_flags::DS_ELSEWHERE != 0 => OtherType::PassUp,
        record_type::SOA => OtherType::Nodata,
        _ => OtherType::AsTheName,
    }
}

/// Returns where the zone begins in the name that was asked for.
#[inline(always)]
pub fn zone_start(query: &Query, zone: &Zone) -> Result<u64, Outcome> {
    let start = query.name_length.wrapping_sub(u64::from(zone.length));
    if start > 255 { Err(Outcome::Impossible) } else { Ok(start) }
}

/// Decides the reply to a query for a name that is there. `random` draws the
/// first address where the zone wants that.
///
/// Fails when only the agent can answer: the entry says so, or the type is one
/// that CoreDNS does not treat as plain data.
#[inline(always)]
pub fn plan(
    query: &Query,
    found: &Found,
    zone: &Zone,
    random: impl Fn() -> u32,
) -> Result<Plan, Outcome> {
    if found.flags & flags::AGENT_ONLY != 0 {
        return Err(Outcome::AgentOnly);
    }
    let addresses = |count: u64| {
        let first = if count > 1 && zone.flags & zone_flags::ROTATES != 0 {
            (u64::from(random()) * count) >> 32
        } else {
            0
        };
        Addresses { count, first, pool: found.pool }
    };
    let (answer, outcome) = match query.qtype {
        record_type::A if found.v4_count != 0 => {
            (Answer::V4(addresses(found.v4_count)), Outcome::AnswerA)
        }
        record_type::AAAA if found.v6_count != 0 => {
            (Answer::V6(addresses(found.v6_count)), Outcome::AnswerAaaa)
        }
        record_type::A => (Answer::Nodata, Outcome::NodataA),
        record_type::AAAA => (Answer::Nodata, Outcome::NodataAaaa),
        qtype => plan_other(qtype, found.flags, zone)?,
    };
    Ok(Plan { answer, outcome, zone_start: zone_start(query, zone)? })
}

#[inline(always)]
fn plan_other(qtype: u16, entry: u16, zone: &Zone) -> Result<(Answer, Outcome), Outcome> {
    let is_apex = entry & flags::APEX != 0;
    match (judge_type(qtype, zone), qtype) {
        (OtherType::PassUp, _) => Err(Outcome::OtherType),
        (_, record_type::SOA) if is_apex => Ok((Answer::Soa, Outcome::AnswerSoa)),
        (_, record_type::NS) if is_apex => Err(Outcome::OtherType),
        (_, record_type::SRV) if entry & flags::HAS_PORTS != 0 => Err(Outcome::OtherType),
        (_, record_type::TXT) if entry & flags::EMPTY != 0 => {
            Ok((Answer::NoSuchName, Outcome::NxdomainOther))
        }
        (OtherType::Nodata | OtherType::AsTheName, _) => Ok((Answer::Nodata, Outcome::NodataOther)),
    }
}

/// Says how an answer of that type from ANSWERS is counted; None for types that
/// ANSWERS does not hold.
#[inline(always)]
pub fn rendered_outcome(qtype: u16) -> Option<Outcome> {
    match qtype {
        record_type::SRV => Some(Outcome::AnswerSrv),
        record_type::PTR => Some(Outcome::AnswerPtr),
        record_type::CNAME => Some(Outcome::AnswerCname),
        record_type::TXT => Some(Outcome::AnswerTxt),
        _ => None,
    }
}

/// Says how an answer from CACHE is counted.
#[inline(always)]
pub fn kept_outcome(qtype: u16, header: u16) -> Outcome {
    const RCODE: u16 = 15;
    match (qtype, header & RCODE != 0) {
        (record_type::A, false) => Outcome::CachedA,
        (record_type::AAAA, false) => Outcome::CachedAaaa,
        (_, false) => Outcome::CachedOther,
        (record_type::A, true) => Outcome::CachedNxdomainA,
        (record_type::AAAA, true) => Outcome::CachedNxdomainAaaa,
        (_, true) => Outcome::CachedNxdomainOther,
    }
}

/// Decides the reply that is made of what stands in the scratch. Fails when the
/// client does not take as much.
#[inline(always)]
pub fn plan_rendered(query: &Query, scratch: &Scratch, outcome: Outcome) -> Result<Plan, Outcome> {
    let counts = u64::from(scratch.answers) << 32
        | u64::from(scratch.authorities) << 16
        | u64::from(scratch.additionals);
    let length = ten_bits(scratch.body_length);
    let records = Records { length, header: scratch.header.into(), counts };
    let plan = Plan { answer: Answer::Rendered(records), outcome, zone_start: 0 };
    if response::length(query, &plan) > query.most() { Err(Outcome::TooLong) } else { Ok(plan) }
}

/// Decides the reply to a query for a name of `zone` that does not exist.
#[inline(always)]
pub fn plan_absent(query: &Query, zone: &Zone) -> Result<Plan, Outcome> {
    let (answer, outcome) = match query.qtype {
        record_type::A => (Answer::NoSuchName, Outcome::NxdomainA),
        record_type::AAAA => (Answer::NoSuchName, Outcome::NxdomainAaaa),
        qtype => match judge_type(qtype, zone) {
            OtherType::PassUp => return Err(Outcome::OtherType),
            OtherType::Nodata => (Answer::Nodata, Outcome::NodataOther),
            OtherType::AsTheName => (Answer::NoSuchName, Outcome::NxdomainOther),
        },
    };
    Ok(Plan { answer, outcome, zone_start: zone_start(query, zone)? })
}
