//! The value of EPOCH: whether NAMES is at rest.
//!
//! A look-up can miss a key while it is being replaced (seen 191 times in 78
//! million look-ups under a writer at full speed), so that a name is not in
//! NAMES is only believed when the epoch was even before the first look-up and
//! is the same after the last.

/// A count of changes of NAMES.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch {
    /// Odd while the agent changes NAMES; greater after every change.
    ///
    /// The agent stores it as one word through a mapping of the map: an update
    /// call promises no whole words.
    pub changes: u64,
}

const _: () = assert!(size_of::<Epoch>() == 8);

/// Says whether NAMES was at rest between two readings of [`Epoch::changes`].
#[inline(always)]
pub fn was_at_rest(before: u64, after: u64) -> bool {
    (before & 1) | (before ^ after) == 0
}
