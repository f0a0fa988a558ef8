//! The values of SETTINGS and LEASE.

use super::{LOCAL_IPS, key::Seed};

/// What the programs were set up with; written once, before they are attached.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// [`super::LAYOUT_VERSION`] of whoever made the maps.
    pub layout_version: u32,
    /// Zero.
    pub reserved: u32,
    /// Seed of the keys in NAMES; the programs have it as a load-time constant.
    pub seed: Seed,
    /// Addresses answered for, in network order; free places repeat the first.
    pub local_ips: [[u8; 4]; LOCAL_IPS],
}

const _: () = assert!(size_of::<Settings>() == 40);

/// How long the programs may answer. All times are `CLOCK_MONOTONIC` in
/// nanoseconds, read by the programs with the coarse clock where there is one
/// (Linux 5.11).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The agent is taken for alive until then; it renews this every second.
    pub alive_until_ns: u64,
    /// Watched names are answered until then: the staleness limit.
    pub serve_until_ns: u64,
}

const _: () = assert!(size_of::<Lease>() == 16);
