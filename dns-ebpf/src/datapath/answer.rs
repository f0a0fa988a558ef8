//! The hit path: from a packet to its reply, or to the reason to pass it up.

use aya_ebpf::helpers::bpf_ktime_get_coarse_ns;
use dns_ebpf::{
    layout::{key, outcome::Outcome},
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

use super::{bench, log, maps, skb::Skb};

/// Answers the packet in place and returns the verdict that sends it back;
/// None when it is to continue as it came.
#[inline(always)]
pub fn answer(skb: Skb) -> Option<i32> {
    let packet = skb.packet();
    let settings = maps::settings()?;
    let local_ips = settings.local_ips.map(u32::from_ne_bytes);
    let length = frame::message_length(packet, local_ips)?;
    match reply(skb, packet, length) {
        Ok(outcome) => {
            maps::count(outcome);
            Some(skb.redirect_back())
        }
        Err(outcome) => {
            maps::count(outcome);
            if matches!(outcome, Outcome::Impossible) {
                log::impossible(skb);
            }
            None
        }
    }
}

/// Turns a query of `length` octets into its response.
///
/// Everything is decided before the first write; growing the packet is the only
/// step that can fail and comes first.
#[inline(always)]
fn reply(skb: Skb, packet: Packet, length: u64) -> Result<Outcome, Outcome> {
    let query = query::parse(packet, length)?;
    // SAFETY: a helper call. The coarse clock costs 2 ns, the exact one 26.
    let now_ns = unsafe { bpf_ktime_get_coarse_ns() };
    if maps::serve_until_ns().ok_or(Outcome::Impossible)? < now_ns {
        return Err(Outcome::Stale);
    }
    let (plan, zone) = look_up(packet, &query)?;
    let response_length = response::length(&query, &plan);
    if !skb.resize(DNS + response_length) {
        return Err(Outcome::NoRoom);
    }
    response::write(skb.packet(), &query, &plan, zone, response_length)
        .ok_or(Outcome::Impossible)?;
    bench::restore(skb, &query, length);
    Ok(plan.outcome)
}

/// Finds the name of the question and plans its reply.
#[inline(always)]
fn look_up(
    packet: Packet,
    query: &Query,
) -> Result<(Plan, &'static dns_ebpf::layout::zone::Zone), Outcome> {
    let name = Name::new(packet, query.name_length);
    let key = key::of_name(&name, maps::seed()).ok_or(Outcome::Unsupported)?;
    let entry = maps::name_entry(&key).ok_or(Outcome::NotInMap)?;
    // SAFETY: the pointer came from NAMES.
    let found = unsafe { lookup::read(entry, &name) }.ok_or(Outcome::Unsure)?;
    let zone = maps::zone(found.zone).ok_or(Outcome::Impossible)?;
    Ok((plan::plan(query, &found, u64::from(zone.length))?, zone))
}
