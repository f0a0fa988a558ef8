//! A name in the question (RFC 1035 3.1), read in words of eight octets.

use crate::{NAME_MAX, opaque::octet, packet::Packet, wire::frame::NAME};

/// Most whole words in a name.
pub const WORDS: u64 = NAME_MAX / 8;

const ONES: u64 = 0x0101_0101_0101_0101;

/// Makes the two cases of a letter equal (RFC 4343), in eight octets at once.
///
/// Length octets (0..=63) and letters (65..=90) do not overlap, so a whole
/// wire name can be folded without walking its labels.
/// Six other octets (`@` and the grave accent, `[` and `{`, and so on) become
/// equal too: good enough for a key, since the stored name is compared
/// exactly and holds none of them.
#[inline(always)]
pub fn fold(word: u64) -> u64 {
    word | (word & (0x40 * ONES)) >> 1
}

/// A wire name in a packet.
#[derive(Clone, Copy)]
pub struct Name {
    packet: Packet,
    /// Where it begins in QNAME, in octets.
    start: u64,
    /// Octets from its start to its end, 1..=[`NAME_MAX`].
    pub length: u64,
}

impl Name {
    /// Takes the first `length` octets of the question as a name.
    #[inline(always)]
    pub fn new(packet: Packet, length: u64) -> Self {
        Self { packet, start: 0, length }
    }

    /// Takes the `length` octets of QNAME from `start`, which must be below 256.
    #[inline(always)]
    pub fn part(packet: Packet, start: u64, length: u64) -> Self {
        Self { packet, start, length }
    }

    /// Calls `each` with the number of each word and its octets.
    ///
    /// Word 0 holds the `length % 8` octets that do not fill a word, at its low
    /// end; the words after it end where the name ends. A loop whose last read
    /// ends at a fixed place keeps the verifier's states alike.
    #[inline(always)]
    pub fn words(&self, mut each: impl FnMut(u64, u64)) -> Option<()> {
        let length = octet(self.length);
        let (rest, full) = (length & 7, length >> 3);
        let base = self.packet.cursor(self.start + rest);
        // The eight octets before the first whole word: the header's end, then the rest.
        let word = u64::from_le(base.span::<8>(NAME - 8)?.get::<u64, 0>());
        each(0, word >> 8 >> (56 - 8 * rest));
        let mut n = 0;
        while n < WORDS && n < full {
            let word = u64::from_le(base.span::<8>(NAME + 8 * n)?.get::<u64, 0>());
            n += 1;
            each(n, word);
        }
        Some(())
    }
}
