//! Reading a stored name, or stored records, that may be rewritten meanwhile.
//!
//! An update never writes the old element, but the kernel may recycle it at
//! once for another key while a reader still holds it (seen on every hash map
//! type, up to 5e-4 per look-up under a hostile writer). Each value therefore
//! carries a generation at both ends; both are read before and both after the
//! body. Any other order let wrong answers through (123 in 29 million).
//! Since both generations may be seen before the rest of a write ([`crate::layout::check`]),
//! what was taken is compared with the check that stands with it, too.

use crate::{
    layout::{
        check::Check,
        key::NameKey,
        name_entry::{self, NameEntry},
        rendered::{self, BLOCK, KEPT_RECORDS, KeptAnswer, Rendered, Scratch, body_start, flags},
    },
    opaque::{advance, barrier, ten_bits},
    wire::name::Name,
};

/// What a reply needs of an entry, copied out of it.
#[derive(Clone, Copy)]
pub struct Found {
    /// As [`NameEntry::flags`].
    pub flags: u16,
    /// A records in the pool, 0..=8.
    pub v4_count: u64,
    /// AAAA records in the pool, 0..=2.
    pub v6_count: u64,
    /// As [`NameEntry::addresses`].
    pub pool: [u64; 4],
}

/// AA (RFC 1035 4.1.1).
const AA: u16 = 0x0400;
const HIGH: u64 = 0x8080_8080_8080_8080;
const DOTS: u64 = 0x2e2e_2e2e_2e2e_2e2e;

/// Returns the bits in which wire octets and stored text differ, but for case, and
/// those that are upper case.
///
/// Text consists of `a-z 0-9 - _`, dots and the final NUL. Where it has a dot
/// the wire has a length octet (below 64); that it is the right one is vouched
/// for by the key, which was made from the lengths too.
#[inline(always)]
fn differences(wire: u64, text: u64) -> (u64, u64) {
    let letter = (text & text << 1 & HIGH >> 1) >> 1;
    let dot = !(text ^ DOTS).wrapping_add(!HIGH) & HIGH;
    let differs = wire ^ text;
    (differs & !(((dot >> 1) - (dot >> 7)) | letter), differs & letter)
}

/// Compares a name with the text, dot and all, that begins eight octets behind
/// `before`. Returns whether they differ, and whether the name has a letter in upper
/// case; None when it is not in the packet.
///
/// # Safety
/// There are `NAME_MAX + 15` octets from `before` on.
#[inline(always)]
unsafe fn compare(before: u64, name: &Name) -> Option<(bool, bool)> {
    // The text is read in the words that `Name::words` gives: the first holds
    // `length % 8` octets.
    let rest = name.length & 7;
    let text = advance(before, rest);
    let (mut wrong, mut upper) = (0, 0);
    name.words(|at, word| {
        let stored = (text + at) as *const u64;
        // SAFETY: at most `NAME_MAX + 7 + 8` octets from `before` on.
        let stored = u64::from_le(unsafe { stored.read_unaligned() });
        let stored = if at == 0 { stored >> 8 >> (56 - 8 * rest) } else { stored };
        let (differs, case) = differences(word, stored);
        wrong |= differs;
        upper |= case;
    })?;
    Some((wrong != 0, upper != 0))
}

/// Copies `entry` if it belongs to `name`, whose key is `key`, and stayed as it was while
/// it was read; None when it is another name's or was being replaced. `trusts` says
/// whether it is believed, of one that is right or not.
///
/// # Safety
/// `entry` points to a value of NAMES.
#[inline(always)]
pub unsafe fn read(
    entry: *const NameEntry,
    name: &Name,
    key: &NameKey,
    trusts: impl FnOnce(bool) -> bool,
) -> Option<Found> {
    // SAFETY: `entry` points to a value.
    let before = unsafe { generations(entry) };
    barrier();
    // SAFETY: the text begins eight octets into the entry, which is longer.
    if unsafe { compare(entry as u64, name) }?.0 {
        return None;
    }
    // SAFETY: as above.
    let found = unsafe { body(entry) };
    // SAFETY: a field of the value.
    let stored = unsafe { (&raw const (*entry).check).read_volatile() };
    barrier();
    // SAFETY: as above.
    let after = unsafe { generations(entry) };
    let Found { flags, v4_count, v6_count, pool } = &found;
    let is_right = stored == name_entry::check(key, *flags, *v4_count, *v6_count, pool);
    (before.0 == before.1 && before == after && trusts(is_right)).then_some(found)
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
            v4_count: u64::from((*entry).v4_count),
            v6_count: u64::from((*entry).v6_count),
            pool,
        }
    }
}

/// What became of an answer that was to be copied.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Copied {
    /// There is none.
    Absent,
    /// It is in the scratch, whole.
    Whole,
    /// It is another name's or another type's, or was being replaced.
    Unsure,
    /// It holds parts of the name, which is spelled otherwise.
    OddSpelling,
}

/// Copies `entry` to `scratch` if it belongs to `name` and `qtype`, whose key is `key`,
/// and stayed as it was while it was read. `more` reads what else is in the entry and takes
/// it into the check; it is called once the body is copied. `trusts` as in [`read`].
///
/// # Safety
/// `entry` points to a value of the map for answers of that size, `scratch` to
/// memory that nobody else uses.
#[inline(always)]
pub unsafe fn copy<const OCTETS: usize, More>(
    entry: *const Rendered<OCTETS, More>,
    name: &Name,
    qtype: u16,
    key: &NameKey,
    scratch: *mut Scratch,
    more: impl FnOnce(Check) -> Check,
    trusts: impl FnOnce(bool) -> bool,
) -> Copied {
    // SAFETY: `entry` points to a value.
    let before = unsafe { generations_of(entry) };
    barrier();
    let octets = const { core::mem::offset_of!(Rendered<OCTETS, More>, octets) } as u64;
    // SAFETY: the text begins with the octets, and the smallest value is longer.
    let Some((differs, is_upper)) = (unsafe { compare(entry as u64 + octets - 8, name) }) else {
        return Copied::Unsure;
    };
    // SAFETY: plain fields of the value, which may change meanwhile: the generations
    // are compared before and after.
    let (stored, counts, length, entry_flags) = unsafe {
        let length = u64::from((*entry).body_length);
        let counts = [(*entry).answers, (*entry).authorities, (*entry).additionals];
        let entry_flags = (*entry).flags;
        (*scratch).header = AA;
        [(*scratch).answers, (*scratch).authorities, (*scratch).additionals] = counts;
        (*scratch).body_length = length;
        ((*entry).qtype, counts, length, entry_flags)
    };
    if differs || stored != qtype {
        return Copied::Unsure;
    }
    let is_odd = is_upper && entry_flags & flags::LOWER_CASE != 0;
    let start = octets + body_start(name.length);
    // SAFETY: as above.
    let body = |check| unsafe { copy_body(entry, start, scratch, check) };
    let Some(check) = rendered::check(key, counts, length, entry_flags, body, more) else {
        return Copied::Unsure;
    };
    // SAFETY: a field of the value.
    let stored = unsafe { (&raw const (*entry).check).read_volatile() };
    barrier();
    // SAFETY: as above.
    let after = unsafe { generations_of(entry) };
    if before.0 != before.1 || before != after || !trusts(stored == check) {
        Copied::Unsure
    } else if is_odd {
        Copied::OddSpelling
    } else {
        Copied::Whole
    }
}

/// Copies the body, which begins at octet `start` of the entry, in blocks, and takes it
/// into the check. None when it does not lie in the entry.
///
/// # Safety
/// As in [`copy`].
#[inline(always)]
unsafe fn copy_body<const OCTETS: usize, More>(
    entry: *const Rendered<OCTETS, More>,
    start: u64,
    scratch: *mut Scratch,
    mut check: Check,
) -> Option<Check> {
    let block = BLOCK as u64;
    let last = size_of::<Rendered<OCTETS, More>>() as u64 - block;
    // SAFETY: a field of the scratch.
    let length = unsafe { (*scratch).body_length };
    // SAFETY: as above.
    let body = unsafe { (&raw mut (*scratch).body) } as u64;
    let mut at = 0;
    while at < OCTETS as u64 && at < length {
        let from = ten_bits(start + at);
        if from > last {
            return None;
        }
        let from = advance(entry as u64, from);
        let to = body + at;
        // SAFETY: `from` is at most `last` octets into the entry, and the scratch
        // is longer than any body.
        unsafe {
            check = check.word(copy_word(from, to));
            check = check.word(copy_word(from + 8, to + 8));
            check = check.word(copy_word(from + 16, to + 16));
            check = check.word(copy_word(from + 24, to + 24));
        }
        at += block;
    }
    (at >= length).then_some(check)
}

/// As [`copy`], of a kept response: with the TTL of this moment in every record, and
/// only before its end. The question is its variant, and in the lower half its type.
///
/// # Safety
/// As in [`copy`].
#[inline(always)]
pub unsafe fn copy_kept(
    entry: *const KeptAnswer,
    name: &Name,
    question: u32,
    key: &NameKey,
    now_ns: u64,
    scratch: *mut Scratch,
    trusts: impl FnOnce(bool) -> bool,
) -> Copied {
    const SECOND_NS: u64 = 1_000_000_000;
    let (variant, qtype) = ((question >> 16) as u16, question as u16);
    let mut is_good = false;
    // SAFETY: `entry` points to a value, `scratch` to our own memory; the generations
    // are compared around this.
    let more = |check: Check| unsafe {
        let more = &raw const (*entry).more;
        let (expires_ns, until_ns) = ((*more).expires_ns, (*more).until_ns);
        let (stored, header) = ((*more).variant, (*more).header);
        (*scratch).header = header;
        // A second that has begun counts; 0 is not given.
        let left_ns = expires_ns.wrapping_sub(now_ns);
        let ttl_s = left_ns.wrapping_sub(1) / SECOND_NS + 1;
        let ttl = (ttl_s as u32).to_be();
        let records = (*scratch).answers + (*scratch).authorities + (*scratch).additionals;
        let body = (&raw mut (*scratch).body) as u64;
        let places = (&raw const (*more).ttls) as u64;
        let check =
            rendered::check_lifetime(check, expires_ns, until_ns, stored, header, |mut check| {
                let mut n = 0;
                while n < KEPT_RECORDS as u64 && n < u64::from(records) {
                    let place = ((places + 2 * n) as *const u16).read_volatile();
                    check = check.word(place.into());
                    let at = advance(body, ten_bits(place.into()));
                    (at as *mut u32).write_unaligned(ttl);
                    n += 1;
                }
                check
            });
        // Last: before the loop, the verifier would go through it for both.
        is_good = until_ns > now_ns && stored == variant;
        check
    };
    // SAFETY: as above.
    match unsafe { copy(entry, name, qtype, key, scratch, more, trusts) } {
        Copied::Whole if !is_good => Copied::Absent,
        copied => copied,
    }
}

/// Copies eight octets, and returns them.
///
/// # Safety
/// There are as many at both places, which are aligned to eight.
#[inline(always)]
unsafe fn copy_word(from: u64, to: u64) -> u64 {
    // SAFETY: as above. Volatile, or four of them become a call.
    let word = unsafe { (from as *const u64).read_volatile() };
    // SAFETY: as above.
    unsafe { (to as *mut u64).write(word) };
    word
}

/// As [`generations`].
///
/// # Safety
/// `entry` points to a value.
#[inline(always)]
unsafe fn generations_of<const OCTETS: usize, More>(
    entry: *const Rendered<OCTETS, More>,
) -> (u32, u32) {
    // SAFETY: a field of the value.
    let head = unsafe { (&raw const (*entry).generation).read_volatile() };
    // SAFETY: a field of the value.
    let tail = unsafe { (&raw const (*entry).generation_end).read_volatile() };
    (head, tail)
}
