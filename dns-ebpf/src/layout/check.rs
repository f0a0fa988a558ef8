//! The check of an entry, which binds what it holds to its key.
//!
//! The kernel copies a value by one string instruction where it can, and what that writes
//! becomes visible in any order (Intel SDM 3A 9.2.4; seen on AMD): both generations
//! may be there before what is between them, which then is another entry's. Only what a
//! reader took can say whether it belongs together.

use super::key::NameKey;

/// A check while it is made. A fault goes unnoticed once in 2^32 times.
#[derive(Clone, Copy)]
pub struct Check(u64);

impl Check {
    // Sign-extended from 32 bits: one instruction.
    const FACTOR: u64 = 0xffff_ffff_9e37_79b9;

    /// Begins with the key under which the entry is.
    #[inline(always)]
    #[must_use]
    pub fn new(key: &NameKey) -> Self {
        Self(key.low).word(key.high)
    }

    /// Takes in eight octets.
    #[inline(always)]
    #[must_use]
    pub fn word(self, word: u64) -> Self {
        Self((self.0 ^ word).wrapping_mul(Self::FACTOR))
    }

    /// Returns the check.
    #[inline(always)]
    #[must_use]
    pub fn finish(self) -> u32 {
        (self.0 >> 32) as u32
    }
}
