//! The value of FRESHNESS: how recent the objects are that the answers are made of.
//! The programs do not read it.

/// When the agent last heard of the cluster's objects, on `CLOCK_MONOTONIC` in
/// nanoseconds; 0 for never.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Freshness {
    /// When the API server last said something, if only that nothing has changed.
    /// Objects in a folder are nobody's word.
    pub heard_ns: u64,
    /// When the agent last took in a change of the objects.
    pub changed_ns: u64,
}

const _: () = assert!(size_of::<Freshness>() == 16);
