//! The values of ANSWERS, `LARGE_ANSWERS` and CACHE: the records of one owner name
//! and type, in wire form.
//!
//! ```text
//!   0            4       6       8     14      16
//! +------------+-------+-------+--------+------+---------------------------+------+----------+
//! | generation | qtype | flags | counts | body | name, NUL-fill, body ...  | check| gen._end |
//! +------------+-------+-------+--------+------+---------------------------+------+----------+
//! ```
//!
//! The body is what follows the question, OPT excepted, with pointers that are
//! right behind a question for that name. It begins at the next multiple of
//! eight octets behind the name, so that a short name leaves room for more.
//!
//! 184 octets: with its key one slab object of 256. The large ones are 952, and
//! the object 1,024. Those of CACHE, whose memory is taken at once, are 736; they
//! have what belongs to a kept response before the check.

use super::{Text, check::Check, key::NameKey};

/// Octets of name and body in ANSWERS.
pub const SMALL: usize = 160;
/// Octets of name and body in `LARGE_ANSWERS`.
pub const LARGE: usize = 928;
/// Octets of name and body in CACHE.
pub const KEPT: usize = 656;
/// Most records of a response in CACHE.
pub const KEPT_RECORDS: usize = 18;
/// Octets in which a body is copied: as many as are missing to a multiple of it
/// must be there behind the body; they are NUL.
pub const BLOCK: usize = 32;

/// Bits of [`Rendered::flags`].
pub mod flags {
    /// The body holds parts of the name as the agent spells it, in lower case: it
    /// is no answer to a query that spells it otherwise.
    pub const LOWER_CASE: u16 = 1;
}

/// The records of one owner name and type.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rendered<const OCTETS: usize, More = Nothing> {
    /// Differs at each write; equal to `generation_end` in a whole entry.
    pub generation: u32,
    /// The type.
    pub qtype: u16,
    /// Bits of [`flags`].
    pub flags: u16,
    /// Records in the Answer section.
    pub answers: u16,
    /// Records in the Authority section.
    pub authorities: u16,
    /// Records in the Additional section, without an OPT.
    pub additionals: u16,
    /// Octets of the body.
    pub body_length: u16,
    /// The name as in [`super::name_entry::NameEntry`], with its leading dot, NUL
    /// up to a multiple of eight octets, the body.
    pub octets: [Text; OCTETS],
    /// What values of one map have besides.
    pub more: More,
    /// Of the key, which stands for name and type, counts, length and flags, the blocks of
    /// the body and `more`, as [`check`] makes it.
    pub check: u32,
    /// As `generation`.
    pub generation_end: u32,
}

/// What values of ANSWERS have besides.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nothing {}

/// What values of CACHE have besides. Times are `CLOCK_MONOTONIC` in nanoseconds.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// When the TTL of all records is 0.
    pub expires_ns: u64,
    /// Until when it is answered; not after `expires_ns`.
    pub until_ns: u64,
    /// Bits of [`variant`] that the query had.
    pub variant: u16,
    /// Flags of the response: AA, RA, AD and the RCODE.
    pub header: u16,
    /// Where the TTL of each record stands in the body.
    pub ttls: [u16; KEPT_RECORDS],
}

/// What of a query, beside its question, makes it another one.
pub mod variant {
    /// CD.
    pub const CHECKING_DISABLED: u16 = 1;
    /// DO.
    pub const DNSSEC_OK: u16 = 2;
}

/// Returns the check of an entry under that key: of its counts, its length and its flags,
/// then of the words of its body's blocks, which `body` takes in, then of what its map's
/// values have besides, which `more` takes in. None when `body` has not all of them.
#[inline(always)]
pub fn check(
    key: &NameKey,
    counts: [u16; 3],
    body_length: u64,
    flags: u16,
    body: impl FnOnce(Check) -> Option<Check>,
    more: impl FnOnce(Check) -> Check,
) -> Option<u32> {
    let [answers, authorities, additionals] = counts.map(u64::from);
    let head = answers | authorities << 16 | additionals << 32 | body_length << 48;
    let check = body(Check::new(key).word(head).word(flags.into()))?;
    Some(more(check).finish())
}

/// Takes in what a value of CACHE has besides. `places` takes in where its TTLs are, as
/// many as there are records, one after another.
#[inline(always)]
pub fn check_lifetime(
    check: Check,
    expires_ns: u64,
    until_ns: u64,
    variant: u16,
    header: u16,
    places: impl FnOnce(Check) -> Check,
) -> Check {
    let flags = u64::from(variant) | u64::from(header) << 16;
    places(check.word(expires_ns).word(until_ns).word(flags))
}

/// Value of ANSWERS.
pub type SmallAnswer = Rendered<SMALL>;
/// Value of `LARGE_ANSWERS`.
pub type LargeAnswer = Rendered<LARGE>;
/// Value of CACHE.
pub type KeptAnswer = Rendered<KEPT, Lifetime>;

const _: () = assert!(size_of::<SmallAnswer>() == 184);
const _: () = assert!(size_of::<LargeAnswer>() == 952);
const _: () = assert!(size_of::<Lifetime>() == 56);
const _: () = assert!(size_of::<KeptAnswer>() == 736);
const _: () = assert!(core::mem::offset_of!(SmallAnswer, octets) == 16);

/// Returns where the body of an answer for a name of `length` octets in wire form
/// begins in [`Rendered::octets`].
#[inline(always)]
pub const fn body_start(length: u64) -> u64 {
    (length + 7) & 0xf8
}

/// Words of [`Scratch::body`]: offsets of ten bits lie in it.
pub const BODY_WORDS: usize = 136;

/// Where an answer is copied to before it is known to be whole; one for each CPU.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug)]
pub struct Scratch {
    /// Flags of the response: AA, RA, AD and the RCODE.
    pub header: u16,
    /// As in [`Rendered`].
    pub answers: u16,
    /// As in [`Rendered`].
    pub authorities: u16,
    /// As in [`Rendered`].
    pub additionals: u16,
    /// As in [`Rendered`].
    pub body_length: u64,
    /// The body, in memory order.
    pub body: [u64; BODY_WORDS],
}

impl Scratch {
    /// One that holds nothing.
    pub const EMPTY: Self = Self {
        header: 0,
        answers: 0,
        authorities: 0,
        additionals: 0,
        body_length: 0,
        body: [0; BODY_WORDS],
    };
}

const _: () = assert!(core::mem::offset_of!(Scratch, body) == 16);
const _: () = assert!(LARGE <= 1024);
