//! The program by which the agent learns when the kernel began to count ticks.

use aya_ebpf::{helpers::bpf_ktime_get_ns, macros::classifier, programs::TcContext};
use dns_ebpf::{answer::Buffer as _, wire::frame::IP};

use super::{NEXT, maps, skb::Skb};

/// Writes, over the first octets of a frame: the time that the ticks make, and
/// `CLOCK_MONOTONIC` at that moment, both in nanoseconds.
#[classifier]
pub fn clock_tc(ctx: TcContext) -> i32 {
    if let Some(head) = Skb::new(&ctx).packet().head::<{ IP + 2 }>() {
        // SAFETY: a helper call.
        let now_ns = unsafe { bpf_ktime_get_ns() };
        head.set::<u64, 0>(maps::ticks_ns());
        head.set::<u64, 8>(now_ns);
    }
    NEXT
}
