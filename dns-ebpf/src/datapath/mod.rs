//! The programs: entry points, and nothing else.
//!
//! Whatever is not answered continues, untouched, to the next program on the
//! link (`TCX_NEXT`).

mod bench;
mod log;
mod maps;
mod skb;

use aya_ebpf::{macros::classifier, programs::TcContext};
use dns_ebpf::{answer::answer, layout::outcome::Outcome};

use self::{maps::KernelMaps, skb::Skb};

/// Lets the next program on the link, and then the stack, have the packet.
const TCX_NEXT: i32 = -1;

/// Answers queries that arrive on the host side of a pod's link.
#[classifier]
pub fn nodedns_tc(ctx: TcContext) -> i32 {
    let skb = Skb::new(&ctx);
    // A tag that the device took off, or several datagrams in one.
    if skb.has_vlan_tag() || skb.is_segmented() {
        return TCX_NEXT;
    }
    match answer(skb, KernelMaps) {
        Some(Ok(answered)) => {
            maps::count(answered.outcome, answered.datagram.is_v6());
            bench::restore(skb, &answered);
            skb.redirect_back()
        }
        Some(Err(passed_up)) => {
            maps::count(passed_up.outcome, passed_up.is_v6);
            if matches!(passed_up.outcome, Outcome::Impossible) {
                log::impossible(skb);
            }
            TCX_NEXT
        }
        None => TCX_NEXT,
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
