//! Reading a stored name that may be rewritten meanwhile.
//!
//! An update never writes the old element, but the kernel may recycle it at
//! once for another key while a reader still holds it (seen on every hash map
//! type, up to 5e-4 per look-up under a hostile writer). Each value therefore
//! carries a generation at both ends; both are read before and both after the
//! body. Any other order let wrong answers through (123 in 29 million).

use crate::{
    layout::name_entry::NameEntry,
    opaque::{advance, barrier},
    wire::name::Name,
};

/// What a reply needs of an entry, copied out of it.
#[derive(Clone, Copy)]
pub struct Found {
    /// As [`NameEntry::flags`].
    pub flags: u16,
    /// Index into ZONES.
    pub zone: u32,
    /// A records in the pool, 0..=8.
    pub v4_count: u64,
    /// AAAA records in the pool, 0..=2.
    pub v6_count: u64,
    /// As [`NameEntry::addresses`].
    pub pool: [u64; 4],
}

const HIGH: u64 = 0x8080_8080_8080_8080;
const DOTS: u64 = 0x2e2e_2e2e_2e2e_2e2e;

/// Returns the bits in which wire octets and stored text differ, but for case.
///
/// Text consists of `a-z 0-9 - _`, dots and the final NUL. Where it has a dot
/// the wire has a length octet (below 64); that it is the right one is vouched
/// for by the key, which was made from the lengths too.
#[inline(always)]
fn differences(wire: u64, text: u64) -> u64 {
    let letter = (text & text << 1 & HIGH >> 1) >> 1;
    let dot = !(text ^ DOTS).wrapping_add(!HIGH) & HIGH;
    (wire ^ text) & !(((dot >> 1) - (dot >> 7)) | letter)
}

/// Copies `entry` if it belongs to `name` and stayed as it was while it was
/// read; None when it is another name's or was being replaced.
///
/// # Safety
/// `entry` points to a value of NAMES.
#[inline(always)]
pub unsafe fn read(entry: *const NameEntry, name: &Name) -> Option<Found> {
    // SAFETY: `entry` points to a value.
    let before = unsafe { generations(entry) };
    barrier();
    // The text begins eight octets into the entry and is read in the words that
    // `Name::words` gives: the first holds `length % 8` octets.
    let text = advance(entry as u64, name.length & 7);
    let rest = name.length & 7;
    let mut wrong = 0;
    name.words(|n, word| {
        let stored = (text + 8 * n) as *const u64;
        // SAFETY: at most `8 * WORDS + 8 + 7` octets into the entry, which is longer.
        let stored = u64::from_le(unsafe { stored.read_unaligned() });
        wrong |= differences(word, if n == 0 { stored >> 8 >> (56 - 8 * rest) } else { stored });
    })?;
    if wrong != 0 {
        return None;
    }
    // SAFETY: as above.
    let found = unsafe { body(entry) };
    barrier();
    // SAFETY: as above.
    let after = unsafe { generations(entry) };
    (before.0 == before.1 && before == after).then_some(found)
}

/// Reads the generations at both ends, anew at each call.
///
/// # Safety
/// `entry` points to a value of NAMES.
#[inline(always)]
unsafe fn generations(entry: *const NameEntry) -> (u32, u32) {
    // SAFETY: a field of the value.
    let head = unsafe { (&raw const (*entry).generation).read_volatile() };
    // SAFETY: a field of the value.
    let tail = unsafe { (&raw const (*entry).generation_end).read_volatile() };
    (head, tail)
}

/// # Safety
/// `entry` points to a value of NAMES.
#[inline(always)]
unsafe fn body(entry: *const NameEntry) -> Found {
    let addresses = const { core::mem::offset_of!(NameEntry, addresses) };
    // SAFETY: the pool is 32 octets of the value, aligned to 8.
    let pool = unsafe { entry.byte_add(addresses).cast::<[u64; 4]>().read() };
    // SAFETY: plain fields of the value, which may change meanwhile: the
    // caller compares the generations before and after.
    unsafe {
        Found {
            flags: (*entry).flags,
            zone: (*entry).zone,
            v4_count: u64::from((*entry).v4_count),
            v6_count: u64::from((*entry).v6_count),
            pool,
        }
    }
}
