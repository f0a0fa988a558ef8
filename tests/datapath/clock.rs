//! The time that the programs reckon from the kernel's ticks.

use dns_ebpf::layout::programs;
use dns_user::datapath::{
    clock::{Reading, tick_ns},
    load::{LoadOptions, load},
};
use harness::{kernel, known::LOCAL_IPS, wait::wait_until};

/// For how long the two clocks are compared.
const WATCHED_NS: u64 = 300_000_000;

/// What the ticks make, from the start that the agent finds out, is `CLOCK_MONOTONIC`
/// but for a tick.
#[test]
fn ticks_make_the_monotonic_clock() {
    if !kernel::require(kernel::DATAPATH) {
        return;
    }
    let tick_ns = tick_ns().unwrap();
    assert!((1_000_000..=10_000_000).contains(&tick_ns), "a tick of {tick_ns} ns");
    let loaded = load(&LoadOptions::new(None, &LOCAL_IPS)).unwrap();
    let mut loaded = loaded.with_program(programs::CLOCK).unwrap();
    let clock = loaded.classifier_mut(programs::CLOCK).unwrap();
    let first = Reading::take(clock).unwrap();
    let mut ticks = 0;
    wait_until("the time is over", std::time::Duration::from_secs(10), || {
        let Reading { ticks_ns, now_ns } = Reading::take(clock).unwrap();
        let reckoned_ns = first.start_ns().wrapping_add(ticks_ns);
        // The start is up to a tick late, and the count of ticks up to one behind; while
        // a virtual machine stands still, more of them are due.
        assert!(reckoned_ns.abs_diff(now_ns) <= 3 * tick_ns, "{reckoned_ns} is not {now_ns}");
        ticks = (ticks_ns.wrapping_sub(first.ticks_ns)) / tick_ns;
        now_ns - first.now_ns > WATCHED_NS
    });
    assert!(ticks >= WATCHED_NS / tick_ns / 2, "{ticks} ticks of {tick_ns} ns");
}
