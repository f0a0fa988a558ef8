//! For benchmarks: a floor, a ceiling, many names in turn, and a reply that turns
//! into its query again.

use aya_ebpf::{
    bindings::xdp_action::XDP_PASS,
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};
use dns_ebpf::{
    answer::{Answered, Buffer, Maps as _, answer},
    wire::{
        frame::{self, DNS, Datagram, NAME},
        query::OPT,
    },
};

use super::{
    NEXT,
    maps::{self, AsItIs, KernelMaps},
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

/// The same in XDP.
#[xdp]
pub fn empty_xdp(_: XdpContext) -> u32 {
    XDP_PASS
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
    let Datagram { length, shift } = frame::read(packet, KernelMaps(AsItIs).settings()?)?;
    let head = packet.skip(shift).head::<NAME>()?;
    head.set::<u16, 44>(RESPONSE.to_be());
    frame::turn_around(packet, shift, length)?;
    let mut left = maps::restores();
    while left > 0 && left < 8 {
        head.set::<u16, 44>(QUERY.to_be());
        frame::turn_around(packet, shift, length)?;
        left -= 1;
    }
    Some(skb.redirect_back())
}

/// Asks for another name at each run: writes the next draw over the first label
/// of the query, which has as many octets, and answers it.
#[classifier]
pub fn draw_tc(ctx: TcContext) -> i32 {
    let skb = Skb::new(&ctx);
    if draw(skb).is_none() {
        return NEXT;
    }
    match answer(skb, KernelMaps(AsItIs)) {
        Some(Ok(answered)) => {
            maps::count(answered.outcome, answered.datagram.is_v6());
            restore(skb, &answered);
            skb.redirect_back()
        }
        Some(Err(passed_up)) => {
            maps::count(passed_up.outcome, passed_up.is_v6);
            NEXT
        }
        None => NEXT,
    }
}

/// Draws are read in their order, which the processor foresees: only the names
/// that they lead to are far apart.
#[inline(always)]
fn draw(skb: Skb) -> Option<()> {
    let drawn = maps::draws(0)?;
    // SAFETY: elements of a map that only one test run at a time uses.
    let at = unsafe { *drawn } as u32 + 1;
    let (at, label) = match maps::draws(at) {
        Some(label) => (at, label),
        None => (1, maps::draws(1)?),
    };
    // SAFETY: as above.
    unsafe { *drawn = u64::from(at) };
    let head = skb.packet().head::<{ NAME + 9 }>()?;
    // SAFETY: as above.
    head.set::<u64, { NAME + 1 }>(unsafe { *label });
    Some(())
}

/// Makes the query out of its reply again, as often as the
/// load-time constant says (0 outside benchmarks, where the verifier removes
/// this): a test run hands the same packet to each of its rounds.
#[inline(always)]
pub fn restore<B: Buffer>(buffer: B, answered: &Answered) {
    let mut left = maps::restores();
    while left > 0 && left < 8 {
        if restore_once(buffer, answered).is_none() {
            return;
        }
        left -= 1;
    }
}

/// Does so once.
#[inline(always)]
pub fn restore_once<B: Buffer>(buffer: B, answered: &Answered) -> Option<()> {
    let Answered { query, datagram: Datagram { length, shift }, outcome: _ } = *answered;
    buffer.resize(shift + DNS + length);
    frame::turn_around(buffer.packet(), shift, length)?;
    let packet = buffer.packet().skip(shift);
    let head = packet.head::<NAME>()?;
    head.set::<u16, 44>(QUERY.to_be());
    head.set::<u64, 46>((1 << 48 | query.edns.records).to_be());
    if query.edns.records != 0 {
        let tail = packet.span_at::<{ NAME + 4 + OPT }>(query.name_length)?;
        tail.set::<u64, { NAME + 4 }>(query.edns.head);
        // The rest of the flags, and RDLENGTH.
        tail.set::<u16, { NAME + 4 + 8 }>(0);
        tail.set::<u16, { NAME + 4 + 9 }>(0);
    }
    Some(())
}
