//! The check of an entry, which binds what it holds to its key.
//!
//! The kernel copies a value by one string instruction where it can, and what that writes
//! becomes visible in any order (Intel SDM 3A 9.2.4; seen on AMD): both generations
//! may be there before what is between them, which then is another entry's. Only what a
//! reader took can say whether it belongs together.

use super::key::NameKey;

/// A check while it is made. A fault goes unnoticed once in 2^32 times.
///
/// Words go to four lanes in turn: each waits for its multiplications, and the processor
/// makes those of all lanes at a time.
#[derive(Clone, Copy)]
pub struct Check([u64; 4]);

impl Check {
    // Sign-extended from 32 bits: one instruction.
    const FACTOR: u64 = 0xffff_ffff_9e37_79b9;

    /// Begins with the key under which the entry is.
    #[inline(always)]
    #[must_use]
    pub fn new(key: &NameKey) -> Self {
        Self([key.low, key.high, key.low, key.high])
    }

    /// Takes in eight octets.
    #[inline(always)]
    #[must_use]
    pub fn word(self, word: u64) -> Self {
        let [lane, second, third, fourth] = self.0;
        Self([second, third, fourth, mix(lane ^ word)])
    }

    /// Returns the check.
    #[inline(always)]
    #[must_use]
    pub fn finish(self) -> u32 {
        let [first, second, third, fourth] = self.0;
        let all = mix(mix(mix(first) ^ second) ^ third) ^ fourth;
        (all >> 32) as u32
    }
}

/// A bijection that spreads every difference: a product carries upwards only, so what is
/// highest is put lowest and multiplied again.
#[inline(always)]
fn mix(word: u64) -> u64 {
    word.wrapping_mul(Check::FACTOR).swap_bytes().wrapping_mul(Check::FACTOR)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: NameKey = NameKey { low: 0x0123_4567_89ab_cdef, high: 0x1032_5476_98ba_dcfe };

    fn check(words: &[u64]) -> u32 {
        words.iter().fold(Check::new(&KEY), |check, word| check.word(*word)).finish()
    }

    /// Such as the last octets of two addresses, where a product carries nothing further.
    #[test]
    fn differences_in_two_octets_do_not_undo_each_other() {
        let body = |change: &dyn Fn(usize) -> u64| {
            core::array::from_fn::<_, 10, _>(|n| (0x0a00_0001 + n as u64) ^ change(n))
        };
        let right = check(&body(&|_| 0));
        for (first, second) in [(0, 1), (0, 2), (0, 4), (1, 5), (3, 7), (1, 9), (5, 8), (8, 9)] {
            for (at, and_at) in [(56, 56), (0, 0), (56, 0), (24, 56)] {
                for pair in 0x101..0x1_0000_u64 {
                    let (one, other) = (pair >> 8, pair & 0xff);
                    let change = |n| match n {
                        n if n == first => one << at,
                        n if n == second => other << and_at,
                        _ => 0,
                    };
                    let case = format_args!("{first} {at}, {second} {and_at}, {pair:x}");
                    assert_ne!(check(&body(&change)), right, "{case}");
                }
            }
        }
    }

    #[test]
    fn it_depends_on_the_key_and_on_the_order() {
        let body = [1, 2, 3, 4];
        let with = |key| Check::new(&key).word(1).finish();
        assert_ne!(with(KEY), with(NameKey { high: KEY.high ^ 1, ..KEY }));
        for order in [[2, 1, 3, 4], [3, 2, 1, 4], [1, 2, 4, 3], [3, 4, 1, 2]] {
            assert_ne!(check(&order), check(&body), "{order:?}");
        }
        assert_ne!(check(&[1, 2, 3]), check(&[1, 2, 3, 0]));
    }
}
