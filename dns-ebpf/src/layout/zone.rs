//! The value of ZONES: what all names of a zone share.

use super::Text;

/// Octets of a SOA record whose owner, MNAME and RNAME end in pointers to the
/// zone's name in the question.
pub const SOA_OCTETS: u64 = 54;
/// Octets of zone name text, with at least one NUL.
pub const ZONE_NAME_OCTETS: usize = 128;

/// A zone that is answered for.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Zone {
    /// The zone's name in lower case, without a final dot.
    pub name: [Text; ZONE_NAME_OCTETS],
    /// Octets of the zone's wire name, root included; 0 when the slot is free.
    pub length: u32,
    /// TTL of its records, in seconds.
    pub ttl_s: u32,
    /// SOA serial; never decreases.
    pub serial: u32,
    /// Zero.
    pub reserved: u32,
    /// The SOA record in wire form, its three pointers and its serial left
    /// open, as words in memory order; two octets of padding at its end.
    pub soa: [u64; 7],
}

const _: () = assert!(size_of::<Zone>() == 200);
