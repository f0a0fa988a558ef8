//! The Internet checksum (RFC 1071) of octets in a packet.

use crate::{
    opaque::{forget, octet},
    packet::Packet,
};

/// Octets that are added in a round.
const BLOCK: u64 = 32;
/// Most rounds: 1,280 octets.
const BLOCKS: u64 = 40;

/// Adds the two halves of a word: sums of 2^31 of them do not overflow.
#[inline(always)]
fn halves(word: u64) -> u64 {
    (word & 0xffff_ffff) + (word >> 32)
}

/// A function of its own, which the verifier can look at once.
///
/// Returns the one's complement sum of the `length` octets from `start`, in the
/// machine's byte order, to be folded. None when they are not in the packet, or
/// more than 1,280.
#[inline(never)]
pub fn sum(packet: Packet, start: u64, length: u64) -> Option<u64> {
    let cursor = packet.cursor(octet(forget(start, length)));
    // Its bounds would be others after each round.
    let mut sum = forget(0, packet.span_at::<8>(start)?.get::<u64, 0>());
    let blocks = length / BLOCK;
    if blocks >= BLOCKS {
        return None;
    }
    let mut n = 0;
    while n < BLOCKS && n < blocks {
        let block = cursor.span::<BLOCK>(BLOCK * n)?;
        sum += halves(block.get::<u64, 0>()) + halves(block.get::<u64, 8>());
        sum += halves(block.get::<u64, 16>()) + halves(block.get::<u64, 24>());
        n += 1;
    }
    let rest = packet.cursor(octet(start) + (length & 2047 & !(BLOCK - 1)));
    let words = (length & (BLOCK - 1)) / 8;
    let mut n = 0;
    while n < BLOCK / 8 && n < words {
        sum += halves(rest.span::<8>(8 * n)?.get::<u64, 0>());
        n += 1;
    }
    // The last octets that do not fill a word, read in the word that ends with them.
    let last = packet.span_at::<8>((start + length - 8) & 2047)?.get::<u64, 0>();
    let last = u64::from_le(last) >> 8 >> (56 - 8 * (length & 7));
    Some(sum + halves(u64::from_le(last)))
}

/// Folds a sum into 16 bits.
#[inline(always)]
pub fn fold(sum: u64) -> u16 {
    let sum = halves(sum);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}
