//! The programs: entry points, and nothing else. All run the same code; they
//! differ in what the packet is to the kernel, and in how a reply gets back.
//!
//! Whatever is not answered continues, untouched, to the next program on the
//! link, and then to the stack.

mod bench;
mod clock;
mod frame;
mod log;
mod maps;
mod race;
mod skb;

use aya_ebpf::{
    EbpfContext,
    bindings::xdp_action::{XDP_PASS, XDP_TX},
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};
use dns_ebpf::{
    PROBE_PRIORITY,
    answer::{Answered, Buffer, PassedUp, answer},
    layout::outcome::Outcome,
};

use self::{
    frame::Frame,
    maps::{AsItIs, KernelMaps},
    skb::Skb,
};

/// `TCX_NEXT`, which is also `TC_ACT_UNSPEC`: lets the next program on the
/// link, and then the stack, have the packet.
const NEXT: i32 = -1;
/// `TCX_PASS`, which is also `TC_ACT_OK`: lets the stack have the packet.
const PASS: i32 = 0;

/// Answers queries that arrive on the host side of a pod's link, on tcx or
/// clsact ingress.
#[classifier]
pub fn nodedns_tc(ctx: TcContext) -> i32 {
    let skb = Skb::new(&ctx);
    match answer_skb(skb, ctx, || 1) {
        Some(answered) => {
            bench::restore(skb, &answered);
            skb.redirect_back()
        }
        None => NEXT,
    }
}

/// Answers queries of the node's own processes, and of pods on the host's
/// network, on tcx or clsact ingress of `lo`.
///
/// The reply goes on as the packet that it is written into, which has its route
/// already: to this host, where the client is as well.
#[classifier]
pub fn nodedns_lo(ctx: TcContext) -> i32 {
    let skb = Skb::new(&ctx);
    match answer_skb(skb, ctx, || weight(skb.priority())) {
        Some(_) => PASS,
        None => NEXT,
    }
}

/// Answers queries as soon as they arrive, and sends them back out of the link.
#[xdp]
pub fn nodedns_xdp(ctx: XdpContext) -> u32 {
    let frame = Frame::new(&ctx);
    match answer_counted(frame, ctx, frame.ifindex(), || 1) {
        Some(answered) => {
            bench::restore(frame, &answered);
            XDP_TX
        }
        None => XDP_PASS,
    }
}

/// Returns how often a query counts whose packet has this priority: once, or never if
/// the agent asks itself, which is nobody's query. By arithmetic, since the verifier
/// would follow each way of a branch to the end.
#[inline(always)]
fn weight(priority: u32) -> u64 {
    const CARRY: u64 = u32::MAX as u64;
    (u64::from(priority ^ PROBE_PRIORITY) + CARRY) >> u32::BITS
}

#[inline(always)]
fn answer_skb(skb: Skb, ctx: TcContext, weight: impl Fn() -> u64) -> Option<Answered> {
    // A tag that the device took off, or several datagrams in one.
    if skb.has_vlan_tag() || skb.is_segmented() {
        return None;
    }
    answer_counted(skb, ctx, skb.ifindex(), weight)
}

/// Turns the query into its response, if it is one, and counts what happened, as often
/// as `weight` says then: known before, it would be two of everything to the verifier.
#[inline(always)]
fn answer_counted<B: Buffer, C: EbpfContext>(
    buffer: B,
    ctx: C,
    ifindex: u32,
    weight: impl Fn() -> u64,
) -> Option<Answered> {
    match answer(buffer, KernelMaps(AsItIs))? {
        Ok(answered) => {
            maps::count_times(answered.outcome, answered.datagram.is_v6(), weight());
            Some(answered)
        }
        Err(PassedUp { outcome, is_v6 }) => {
            maps::count_times(outcome, is_v6, weight());
            if matches!(outcome, Outcome::Impossible) {
                log::impossible(ctx, ifindex);
            }
            None
        }
    }
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // No path leads here: the verifier would reject the endless loop.
    loop {}
}

/// Some helpers are for GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
