//! The two clocks of the agent.

use anyhow::{Context as _, Result};
use nix::time::{ClockId, clock_gettime};

/// Returns the time on the clock of the datapath's lease, in nanoseconds.
pub fn monotonic_ns() -> Result<u64> {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).context("cannot read CLOCK_MONOTONIC")?;
    let seconds = u64::try_from(now.tv_sec()).context("CLOCK_MONOTONIC is negative")?;
    let nanoseconds = u64::try_from(now.tv_nsec()).context("CLOCK_MONOTONIC is negative")?;
    Ok(seconds * 1_000_000_000 + nanoseconds)
}

/// Returns the seconds since 1970, for SOA serials and the times of signatures only.
pub fn unix_s() -> Result<u32> {
    let now = clock_gettime(ClockId::CLOCK_REALTIME).context("cannot read CLOCK_REALTIME")?;
    u32::try_from(now.tv_sec()).context("CLOCK_REALTIME is out of the range of a serial")
}
