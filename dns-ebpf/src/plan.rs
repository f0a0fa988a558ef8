//! From what the map holds for a name to the reply that will be written.

use crate::{
    layout::{name_entry::flags, outcome::Outcome},
    lookup::Found,
    wire::{query::Query, record_type},
};

/// The Answer section, or its absence.
#[derive(Clone, Copy)]
pub enum Answer {
    /// That many A records from the start of the pool.
    V4 {
        /// 1..=8.
        count: u64,
        /// The entry's address pool.
        pool: [u64; 4],
    },
    /// That many AAAA records from the end of the pool backwards.
    V6 {
        /// 1..=2.
        count: u64,
        /// The entry's address pool.
        pool: [u64; 4],
    },
    /// The name exists without the type: a SOA in the Authority section.
    Nodata,
}

/// A reply that is decided; RCODE is NOERROR.
#[derive(Clone, Copy)]
pub struct Plan {
    /// What the Answer section will hold.
    pub answer: Answer,
    /// How this reply is counted.
    pub outcome: Outcome,
    /// Where the zone's name begins in QNAME, in octets.
    pub zone_start: u64,
}

/// Decides the reply for `query` from the name's entry and the length of its
/// zone's name in octets.
///
/// Fails when only the agent can answer: the entry says so, or the type is one
/// that CoreDNS does not treat as plain data.
#[inline(always)]
pub fn plan(query: &Query, found: &Found, zone_length: u64) -> Result<Plan, Outcome> {
    if found.flags & flags::AGENT_ONLY != 0 {
        return Err(Outcome::AgentOnly);
    }
    let zone_start = query.name_length.wrapping_sub(zone_length);
    if zone_start > 255 {
        return Err(Outcome::Impossible);
    }
    let (answer, outcome) = match query.qtype {
        record_type::A if found.v4_count != 0 => {
            (Answer::V4 { count: found.v4_count, pool: found.pool }, Outcome::AnswerA)
        }
        record_type::AAAA if found.v6_count != 0 => {
            (Answer::V6 { count: found.v6_count, pool: found.pool }, Outcome::AnswerAaaa)
        }
        record_type::A => (Answer::Nodata, Outcome::NodataA),
        record_type::AAAA => (Answer::Nodata, Outcome::NodataAaaa),
        _ => return Err(Outcome::OtherType),
    };
    Ok(Plan { answer, outcome, zone_start })
}
