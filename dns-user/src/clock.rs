//! The two clocks of the agent.

use anyhow::{Context as _, Result};
use nix::{
    sys::time::TimeSpec,
    time::{ClockId, clock_gettime},
};

/// Returns the time on the clock of the datapath's lease, in nanoseconds.
pub fn monotonic_ns() -> Result<u64> {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).context("cannot read CLOCK_MONOTONIC")?;
    nanoseconds(now).context("CLOCK_MONOTONIC is negative")
}

/// Returns a time in nanoseconds; None for one below zero.
pub(crate) fn nanoseconds(time: TimeSpec) -> Option<u64> {
    let (seconds, rest) = (u64::try_from(time.tv_sec()).ok()?, u64::try_from(time.tv_nsec()).ok()?);
    Some(seconds * 1_000_000_000 + rest)
}

/// Returns the seconds since 1970, for SOA serials and the times of signatures only.
pub fn unix_s() -> Result<u32> {
    let now = clock_gettime(ClockId::CLOCK_REALTIME).context("cannot read CLOCK_REALTIME")?;
    u32::try_from(now.tv_sec()).context("CLOCK_REALTIME is out of the range of a serial")
}
