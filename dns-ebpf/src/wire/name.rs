//! A name in the question (RFC 1035 3.1), read in words of eight octets.

use crate::{NAME_MAX, opaque::octet, packet::Packet, wire::frame::NAME};

/// Most pairs of whole words in a name.
const PAIRS: u64 = NAME_MAX / 16;

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

    /// Calls `each` with each word's octets, and with where it begins: 0, then 8, 16,
    /// and so on.
    ///
    /// The first word holds the `length % 8` octets that do not fill a word, at its low
    /// end; the words after it end where the name ends. A loop whose last read ends at a
    /// fixed place keeps the verifier's states alike; it takes two words at a time, and
    /// one before it where their number is odd.
    #[inline(always)]
    pub fn words(&self, mut each: impl FnMut(u64, u64)) -> Option<()> {
        let length = octet(self.length);
        let (rest, odd) = (length & 7, length & 8);
        let base = self.packet.skip(self.start + rest);
        // The eight octets before the first whole word: the header's end, then the rest.
        let word = u64::from_le(base.head::<NAME>()?.get::<u64, { NAME - 8 }>());
        each(0, word >> 8 >> (56 - 8 * rest));
        if odd != 0 {
            each(8, u64::from_le(base.head::<{ NAME + 8 }>()?.get::<u64, NAME>()));
        }
        // Anew, so that the verifier does not go through what follows for each of both.
        let length = octet(self.length);
        let (odd, pairs) = (length & 8, length >> 4);
        let base = self.packet.cursor(self.start + (length & 15));
        let mut n = 0;
        while n < PAIRS && n < pairs {
            let pair = base.span::<16>(NAME + 16 * n)?;
            let at = odd + 16 * n + 8;
            each(at, u64::from_le(pair.get::<u64, 0>()));
            each(at + 8, u64::from_le(pair.get::<u64, 8>()));
            n += 1;
        }
        Some(())
    }
}
