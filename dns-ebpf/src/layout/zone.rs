//! The value of ZONES: what all names of the cluster's zone share.

use super::Text;

/// Octets of a SOA record whose owner, MNAME and RNAME end in pointers to the
/// zone's name in the question.
pub const SOA_OCTETS: u64 = 54;
/// Octets of zone name text, with at least one NUL.
pub const ZONE_NAME_OCTETS: usize = 128;

/// Words of a zone's wire name that are compared: the last of a longer one, which is
/// never complete.
pub const SUFFIX_WORDS: usize = 4;

/// Bits of [`Zone::flags`].
pub mod flags {
    /// NAMES has every name of the zone, so that another one does not exist, as
    /// far as the flags of its ancestors do not say otherwise. No other zone is
    /// below this one.
    pub const COMPLETE: u32 = 1;
    /// Addresses are put in an order of the program's choosing (CoreDNS's `loadbalance`).
    pub const ROTATES: u32 = 2;
    /// Queries for DS are for another server of CoreDNS.
    pub const DS_ELSEWHERE: u32 = 4;
}

/// The zone that is answered for.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Zone {
    /// The zone's name in lower case, without a final dot.
    pub name: [Text; ZONE_NAME_OCTETS],
    /// Octets of the zone's wire name, root included; 0 when there is none.
    pub length: u32,
    /// Bits of [`flags`].
    pub flags: u32,
    /// TTL of its records, in seconds.
    pub ttl_s: u32,
    /// TTL of its SOA record when that is asked for, in seconds. In negative
    /// responses it is that of `soa`.
    pub soa_ttl_s: u32,
    /// SOA serial; never decreases.
    pub serial: u32,
    /// Zero.
    pub reserved: u32,
    /// The wire name, folded, aligned to its end, its last eight octets first.
    pub suffix: [u64; SUFFIX_WORDS],
    /// Which octets of `suffix` count.
    pub suffix_mask: [u64; SUFFIX_WORDS],
    /// The SOA record in wire form, its three pointers and its serial left
    /// open, as words in memory order; two octets of padding at its end.
    pub soa: [u64; 7],
}

const _: () = assert!(size_of::<Zone>() == 272);
