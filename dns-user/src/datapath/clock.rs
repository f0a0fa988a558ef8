//! The kernel's ticks (jiffies), by which the programs reckon time.

use anyhow::{Context as _, Result};
use aya::{TestRun as _, TestRunOptions, programs::SchedClassifier};
use nix::time::{ClockId, clock_getres};

use crate::clock::nanoseconds;

/// Octets of the frame into which the program writes: it must not be too short for one.
const FRAME: usize = 64;

/// One moment, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The number of ticks times the length of one.
    pub ticks_ns: u64,
    /// `CLOCK_MONOTONIC`.
    pub now_ns: u64,
}

impl Reading {
    /// Lets the kernel read both, by its program [`CLOCK`](dns_ebpf::layout::programs::CLOCK).
    pub fn take(program: &SchedClassifier) -> Result<Self> {
        let (frame, mut read) = ([0; FRAME], [0; FRAME]);
        let options = TestRunOptions {
            data_in: Some(&frame),
            data_out: Some(&mut read),
            ..TestRunOptions::default()
        };
        program.test_run(options).context("the kernel does not run the program of its clock")?;
        let ([ticks, now, ..], _) = read.as_chunks() else { unreachable!("the frame has both") };
        Ok(Self { ticks_ns: u64::from_ne_bytes(*ticks), now_ns: u64::from_ne_bytes(*now) })
    }

    /// Returns [`clock_start_ns`](dns_ebpf::layout::settings::Settings::clock_start_ns),
    /// up to one tick too late.
    pub fn start_ns(self) -> u64 {
        self.now_ns.wrapping_sub(self.ticks_ns)
    }
}

/// Returns the length of a tick, in nanoseconds: the resolution of the clock that
/// advances with it.
pub fn tick_ns() -> Result<u64> {
    let tick = clock_getres(ClockId::CLOCK_MONOTONIC_COARSE)
        .context("cannot ask for the resolution of CLOCK_MONOTONIC_COARSE")?;
    nanoseconds(tick).context("the resolution of CLOCK_MONOTONIC_COARSE is negative")
}
