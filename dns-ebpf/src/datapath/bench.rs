//! For benchmarks: a floor, a ceiling, and a reply that turns into its query again.

use aya_ebpf::{macros::classifier, programs::TcContext};
use dns_ebpf::{
    answer::{Answered, Buffer as _, Maps as _},
    wire::{
        frame::{self, DNS, NAME},
        query::OPT,
    },
};

use super::{
    NEXT,
    maps::{self, KernelMaps},
    skb::Skb,
};

/// Flags of a query: RD.
const QUERY: u16 = 0x0100;
/// Flags of a response: QR, AA, RD.
const RESPONSE: u16 = 0x8500;

/// Floor: what calling a program costs.
#[classifier]
pub fn empty_tc(_: TcContext) -> i32 {
    NEXT
}

/// Ceiling: turns every packet to port 53 of a local address around as if it
/// had been answered.
#[classifier]
pub fn reflect_tc(ctx: TcContext) -> i32 {
    match reflect(Skb::new(&ctx)) {
        Some(verdict) => verdict,
        None => NEXT,
    }
}

#[inline(always)]
fn reflect(skb: Skb) -> Option<i32> {
    let packet = skb.packet();
    let length = frame::message_length(packet, KernelMaps.local_ips()?)?;
    let head = packet.head::<NAME>()?;
    head.set::<u16, 44>(RESPONSE.to_be());
    frame::turn_around(packet, length)?;
    let mut left = maps::restores();
    while left > 0 && left < 8 {
        head.set::<u16, 44>(QUERY.to_be());
        frame::turn_around(packet, length)?;
        left -= 1;
    }
    Some(skb.redirect_back())
}

/// Makes the query out of its reply again, as often as the
/// load-time constant says (0 outside benchmarks, where the verifier removes
/// this): a test run hands the same packet to each of its rounds.
#[inline(always)]
pub fn restore(skb: Skb, answered: &Answered) {
    let mut left = maps::restores();
    while left > 0 && left < 8 {
        if restore_once(skb, answered).is_none() {
            return;
        }
        left -= 1;
    }
}

#[inline(always)]
fn restore_once(skb: Skb, answered: &Answered) -> Option<()> {
    let Answered { query, query_length: length, outcome: _ } = *answered;
    skb.resize(DNS + length);
    let packet = skb.packet();
    frame::turn_around(packet, length)?;
    let head = packet.head::<NAME>()?;
    head.set::<u16, 44>(QUERY.to_be());
    head.set::<u64, 46>((1 << 48 | u64::from(query.edns.is_some())).to_be());
    if let Some(edns) = query.edns {
        let tail = packet.span_at::<{ NAME + 4 + OPT }>(query.name_length)?;
        tail.set::<u64, { NAME + 4 }>(edns.head);
        tail.set::<u16, { NAME + 4 + 9 }>(0);
    }
    Some(())
}
