//! The whole hit path: from a packet to its reply, or to the reason to pass it up.
//!
//! What surrounds it — the kernel's packet and maps, or a test's — comes in
//! through [`Buffer`] and [`Maps`], so the very same code runs in the kernel,
//! in tests and in the fuzzer.

use crate::{
    layout::{
        LOCAL_IPS,
        key::{self, NameKey, Seed},
        name_entry::NameEntry,
        outcome::Outcome,
        zone::Zone,
    },
    lookup,
    packet::Packet,
    plan::{self, Plan},
    wire::{
        frame::{self, DNS},
        name::Name,
        query::{self, Query},
        response,
    },
};

/// A packet that can be made longer.
pub trait Buffer: Copy {
    /// Returns the linear part of the packet.
    fn packet(self) -> Packet;
    /// Sets the packet's length; every earlier [`Packet`] is void afterwards.
    /// False when that cannot be done; the packet is then as it was.
    fn resize(self, length: u64) -> bool;
}

/// What is known: the maps, the load-time constants and the clock.
pub trait Maps<'a>: Copy {
    /// Returns the addresses answered for, as they stand in a packet; None
    /// when there are no settings.
    fn local_ips(self) -> Option<[u32; LOCAL_IPS]>;
    /// Returns the seed of the keys.
    fn seed(self) -> Seed;
    /// Returns the time on the clock of [`crate::layout::settings::Lease`].
    fn now_ns(self) -> u64;
    /// Returns until when watched names are answered.
    fn serve_until_ns(self) -> Option<u64>;
    /// Returns the value stored for `key`, or null.
    /// It may be rewritten at any moment, and is only read by [`lookup::read`].
    fn name_entry(self, key: &NameKey) -> Option<*const NameEntry>;
    /// Returns the zone with that index.
    fn zone(self, index: u32) -> Option<&'a Zone>;
}

/// A query that was answered in place.
pub struct Answered {
    /// How.
    pub outcome: Outcome,
    /// What was asked.
    pub query: Query,
    /// Octets of the message that asked it.
    pub query_length: u64,
}

/// Turns the query in `buffer` into its response.
///
/// None when the packet is not a datagram to port 53 of a local address, an
/// error when it is one that is not answered: in both cases it is as it came,
/// octet for octet.
#[inline(always)]
pub fn answer<'a, B: Buffer, M: Maps<'a>>(buffer: B, maps: M) -> Option<Result<Answered, Outcome>> {
    let packet = buffer.packet();
    let length = frame::message_length(packet, maps.local_ips()?)?;
    Some(reply(buffer, packet, length, maps))
}

/// Everything is decided before the first write; growing the packet is the only
/// step that can fail, and comes first.
#[inline(always)]
fn reply<'a, B: Buffer, M: Maps<'a>>(
    buffer: B,
    packet: Packet,
    query_length: u64,
    maps: M,
) -> Result<Answered, Outcome> {
    let query = query::parse(packet, query_length)?;
    if maps.serve_until_ns().ok_or(Outcome::Impossible)? < maps.now_ns() {
        return Err(Outcome::Stale);
    }
    let (plan, zone) = look_up(packet, &query, maps)?;
    let length = response::length(&query, &plan);
    if !buffer.resize(DNS + length) {
        return Err(Outcome::NoRoom);
    }
    response::write(buffer.packet(), &query, &plan, zone, length).ok_or(Outcome::Impossible)?;
    Ok(Answered { outcome: plan.outcome, query, query_length })
}

/// Finds the name of the question and plans its reply.
#[inline(always)]
fn look_up<'a, M: Maps<'a>>(
    packet: Packet,
    query: &Query,
    maps: M,
) -> Result<(Plan, &'a Zone), Outcome> {
    let name = Name::new(packet, query.name_length);
    let key = key::of_name(&name, maps.seed()).ok_or(Outcome::Unsupported)?;
    let entry = maps.name_entry(&key).ok_or(Outcome::NotInMap)?;
    // SAFETY: the pointer came from NAMES.
    let found = unsafe { lookup::read(entry, &name) }.ok_or(Outcome::Unsure)?;
    let zone = maps.zone(found.zone).ok_or(Outcome::Impossible)?;
    if zone.length == 0 {
        // The agent is exchanging the zone: its names are not all there.
        return Err(Outcome::Unsure);
    }
    Ok((plan::plan(query, &found, u64::from(zone.length))?, zone))
}
