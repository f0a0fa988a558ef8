//! The programs' rare messages. Nothing on the hit or miss path logs.

use aya_ebpf::EbpfContext;
use aya_log_ebpf::error;

use super::maps;

/// At most one message in this time.
const INTERVAL_NS: u64 = 1_000_000_000;

/// Reports that something happened that cannot happen. A function of its own:
/// the verifier looks at it once, and the hit path stays as short as it was.
#[inline(never)]
pub fn impossible<C: EbpfContext>(ctx: C, ifindex: u32) {
    let Some(logged_at) = maps::logged_at() else { return };
    let now_ns = maps::ticks_ns();
    // SAFETY: a word of the map; two CPUs may both log, which does no harm.
    let last_ns = unsafe { logged_at.read_volatile() };
    if now_ns.wrapping_sub(last_ns) < INTERVAL_NS {
        return;
    }
    // SAFETY: as above.
    unsafe { logged_at.write_volatile(now_ns) };
    error!(&ctx, "a name shorter than its zone, or a reply that does not fit, on link {}", ifindex);
}
