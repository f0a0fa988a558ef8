//! The value of NAMES: everything that is known about one owner name, whatever
//! the type.
//!
//! ```text
//!   0            4       6    7    8   9                144         176    180
//! +------------+-------+----+----+---+----------------+-----------+------+----------+
//! | generation | flags | v4 | v6 | . | name, NUL-fill | addresses | check| gen._end |
//! +------------+-------+----+----+---+----------------+-----------+------+----------+
//! ```
//!
//! 184 octets: with its key one slab object of 256. From 192 on it would be 512.

use super::{Text, check::Check, key::NameKey};
use crate::NAME_MAX;

/// Octets of name text, without the leading dot, with at least one NUL.
pub const NAME_OCTETS: usize = NAME_MAX as usize - 1;
/// Octets of the address pool.
pub const POOL_OCTETS: usize = 32;
/// Most IPv4 addresses of a name in the kernel.
pub const V4_MAX: usize = POOL_OCTETS / 4;
/// Most IPv6 addresses of a name in the kernel.
pub const V6_MAX: usize = POOL_OCTETS / 16;

/// Bits of [`NameEntry::flags`].
pub mod flags {
    /// The name exists, but only the agent can answer for it: every query is passed up.
    pub const AGENT_ONLY: u16 = 1;
    /// Names one label longer are all in NAMES: others do not exist.
    pub const HAS_ALL_CHILDREN: u16 = 2;
    /// The name has no records of any type, but there are names below it. TXT
    /// queries for it are answered with NXDOMAIN, as CoreDNS does.
    pub const EMPTY: u16 = 4;
    /// The name is that of the zone: it has a SOA record, and NS records that only
    /// the agent knows.
    pub const APEX: u16 = 8;
    /// Only the agent knows the SRV records of the name.
    pub const HAS_PORTS: u16 = 16;
}

/// One owner name with its addresses.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameEntry {
    /// Differs at each write; equal to `generation_end` in a whole entry.
    pub generation: u32,
    /// Bits of [`flags`].
    pub flags: u16,
    /// IPv4 addresses in the pool, from its start.
    pub v4_count: u8,
    /// IPv6 addresses in the pool, from its end backwards.
    pub v6_count: u8,
    /// A dot, in the place of the first label's length: with it the text has
    /// the shape of the wire name, dots for length octets and NUL for the root.
    pub dot: Text,
    /// The name in lower case, labels of `a-z 0-9 - _`, without a final dot.
    pub name: [Text; NAME_OCTETS],
    /// The address pool, in network order.
    pub addresses: [[u8; 4]; V4_MAX],
    /// Of the key and all of this but the name, as [`check`] makes it.
    pub check: u32,
    /// As `generation`.
    pub generation_end: u32,
}

/// Returns the check of an entry with these flags, counts and addresses.
#[inline(always)]
pub fn check(key: &NameKey, flags: u16, v4_count: u64, v6_count: u64, pool: &[u64; 4]) -> u32 {
    let head = u64::from(flags) | v4_count << 16 | v6_count << 24;
    let check = Check::new(key).word(head);
    check.word(pool[0]).word(pool[1]).word(pool[2]).word(pool[3]).finish()
}

const _: () = assert!(size_of::<NameEntry>() == 184);
const _: () = assert!(core::mem::offset_of!(NameEntry, dot) == 8);
const _: () = assert!(core::mem::offset_of!(NameEntry, addresses) == 144);
const _: () = assert!(core::mem::offset_of!(NameEntry, generation_end) == 180);
