//! From what the map holds for a name, or from its absence, to the reply that
//! will be written.

use crate::{
    layout::{
        name_entry::flags,
        outcome::Outcome,
        rendered::Scratch,
        zone::{SOA_OCTETS, Zone, flags as zone_flags},
    },
    lookup::Found,
    opaque::{forget, ten_bits},
    wire::{
        query::Query,
        record_type,
        response::{self, A_RECORD, AAAA_RECORD},
    },
};

/// AA and AD in the header, and the RCODE for a name that is not there (RFC 1035 4.1.1,
/// RFC 4035 3.2.3).
const AA: u16 = 0x0400;
const AD: u16 = 0x0020;
const NXDOMAIN: u16 = 3;
/// One record in the Answer section, and one in the Authority section, in
/// [`Plan::counts`].
const ANSWER: u64 = 1 << 32;
const AUTHORITY: u64 = 1 << 16;

/// What follows the question.
#[derive(Clone, Copy)]
pub enum Body {
    /// A records from the pool.
    V4(Addresses),
    /// AAAA records from the pool.
    V6(Addresses),
    /// The zone's SOA record with its own TTL, which was asked for.
    Soa(Apex),
    /// The zone's SOA record with that of negative responses.
    Negative(Apex),
    /// The records in the scratch.
    Rendered,
}

/// Where the zone's name begins in QNAME, in octets.
#[derive(Clone, Copy)]
pub struct Apex(pub u64);

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
    /// What follows the question, the OPT excepted.
    pub body: Body,
    /// Octets of it.
    pub length: u64,
    /// ANCOUNT, NSCOUNT and ARCOUNT without OPT, each of 16 bits.
    pub counts: u64,
    /// Flags of the header beside QR and the query's own: AA, RA, AD and the RCODE.
    pub header: u16,
    /// How this reply is counted.
    pub outcome: Outcome,
}

impl Plan {
    /// Returns the same with what the verifier would tell apart in all that follows and need
    /// not, hidden from it. `witness` as in [`forget`], without bounds.
    #[inline(always)]
    #[must_use]
    pub fn hidden(self, witness: u64) -> Self {
        Self {
            counts: forget(self.counts, witness),
            header: forget(self.header.into(), witness) as u16,
            outcome: self.outcome.hidden(witness),
            ..self
        }
    }
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
pub fn zone_start(query: &Query, zone: &Zone) -> Result<Apex, Outcome> {
    let start = query.name_length.wrapping_sub(u64::from(zone.length));
    if start > 255 { Err(Outcome::Impossible) } else { Ok(Apex(start)) }
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
    let answer = |body, count: u64, record: u64, outcome| Plan {
        body,
        length: count * record,
        counts: count * ANSWER,
        header: AA,
        outcome,
    };
    let (v4, v6) = (found.v4_count, found.v6_count);
    match query.qtype {
        record_type::A if v4 != 0 => {
            Ok(answer(Body::V4(addresses(v4)), v4, A_RECORD, Outcome::AnswerA))
        }
        record_type::AAAA if v6 != 0 => {
            Ok(answer(Body::V6(addresses(v6)), v6, AAAA_RECORD, Outcome::AnswerAaaa))
        }
        record_type::A => negative(query, zone, AA, Outcome::NodataA),
        record_type::AAAA => negative(query, zone, AA, Outcome::NodataAaaa),
        qtype => plan_other(query, qtype, found.flags, zone),
    }
}

#[inline(always)]
fn plan_other(query: &Query, qtype: u16, entry: u16, zone: &Zone) -> Result<Plan, Outcome> {
    let is_apex = entry & flags::APEX != 0;
    match (judge_type(qtype, zone), qtype) {
        (OtherType::PassUp, _) => Err(Outcome::OtherType),
        (_, record_type::SOA) if is_apex => Ok(Plan {
            body: Body::Soa(zone_start(query, zone)?),
            length: SOA_OCTETS,
            counts: ANSWER,
            header: AA,
            outcome: Outcome::AnswerSoa,
        }),
        (_, record_type::NS) if is_apex => Err(Outcome::OtherType),
        (_, record_type::SRV) if entry & flags::HAS_PORTS != 0 => Err(Outcome::OtherType),
        (_, record_type::TXT) if entry & flags::EMPTY != 0 => {
            negative(query, zone, AA | NXDOMAIN, Outcome::NxdomainOther)
        }
        (OtherType::Nodata | OtherType::AsTheName, _) => {
            negative(query, zone, AA, Outcome::NodataOther)
        }
    }
}

/// Plans a reply with nothing but the zone's SOA record.
#[inline(always)]
fn negative(query: &Query, zone: &Zone, header: u16, outcome: Outcome) -> Result<Plan, Outcome> {
    let body = Body::Negative(zone_start(query, zone)?);
    Ok(Plan { body, length: SOA_OCTETS, counts: AUTHORITY, header, outcome })
}

/// Decides the reply to a query for a name of `zone` that does not exist.
#[inline(always)]
pub fn plan_absent(query: &Query, zone: &Zone) -> Result<Plan, Outcome> {
    let (header, outcome) = match query.qtype {
        record_type::A => (AA | NXDOMAIN, Outcome::NxdomainA),
        record_type::AAAA => (AA | NXDOMAIN, Outcome::NxdomainAaaa),
        qtype => match judge_type(qtype, zone) {
            OtherType::PassUp => return Err(Outcome::OtherType),
            OtherType::Nodata => (AA, Outcome::NodataOther),
            OtherType::AsTheName => (AA | NXDOMAIN, Outcome::NxdomainOther),
        },
    };
    negative(query, zone, header, outcome)
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
    // Only who asks for it gets AD (RFC 6840 5.7).
    let ad = (query.flags | (query.dnssec_ok() * AD)) & AD;
    let header = scratch.header & (!AD | ad);
    let length = ten_bits(scratch.body_length);
    let plan = Plan { body: Body::Rendered, length, counts, header, outcome };
    if response::length(query, &plan) > query.most() { Err(Outcome::TooLong) } else { Ok(plan) }
}
