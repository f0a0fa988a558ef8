//! The values of SETTINGS and LEASE.
//!
//! All times are `CLOCK_MONOTONIC` in nanoseconds. The programs reckon it from the
//! kernel's ticks (jiffies), which cost nothing to read: their number, times the length of
//! a tick, after [`Settings::clock_start_ns`]. A tick is 1 to 10 ms; the two differ by
//! at most one.

use super::{LOCAL_IPS, key::Seed};

/// What the programs were set up with, and for whom they answer.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// [`super::LAYOUT_VERSION`] of whoever made the maps.
    pub layout_version: u32,
    /// 1 while there are clients in `OPTED_OUT`; 0 spares the programs a look-up.
    pub has_opted_out: u32,
    /// What `CLOCK_MONOTONIC` was, in nanoseconds, when the kernel's count of ticks
    /// was 0; wraps around.
    pub clock_start_ns: u64,
    /// Seed of the keys in NAMES; the programs have it as a load-time constant.
    pub seed: Seed,
    /// IPv4 addresses answered for, in network order. Free places hold 0.0.0.0,
    /// which is never a destination (RFC 1122 3.2.1.3).
    pub local_v4: [[u8; 4]; LOCAL_IPS],
    /// IPv6 addresses answered for. Free places hold `::`, which is never a
    /// destination (RFC 4291 2.5.2).
    pub local_v6: [[u8; 16]; LOCAL_IPS],
}

const _: () = assert!(size_of::<Settings>() == 112);
const _: () = assert!(core::mem::offset_of!(Settings, local_v6) % 8 == 0);

/// How long the programs may answer.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The agent is taken for alive until then, and names that are not in NAMES
    /// are denied; it renews this every second.
    pub alive_until_ns: u64,
    /// Watched names are answered until then: the staleness limit.
    pub serve_until_ns: u64,
}

const _: () = assert!(size_of::<Lease>() == 16);
