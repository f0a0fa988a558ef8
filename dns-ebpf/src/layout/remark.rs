//! The value of REMARKS: what is to be known of the agent's state that the other
//! maps do not show. The programs do not read it.

use super::Text;

/// Octets of a remark's text, with at least one NUL.
pub const REMARK_OCTETS: usize = 512;

/// A sentence for people, in UTF-8 and filled with NUL; empty when the place is free.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remark {
    /// The text.
    pub text: [Text; REMARK_OCTETS],
}

const _: () = assert!(size_of::<Remark>() == REMARK_OCTETS);
