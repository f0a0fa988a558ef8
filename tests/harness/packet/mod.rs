//! Whole frames: built octet by octet, read back into presentation form, and
//! compared.
//!
//! [`query`] builds a DNS query, [`frame`] what is around it; both can be as
//! odd as a test wants. [`describe`] reads any frame, [`compare`] tells two
//! frames apart.

pub mod checksum;
pub mod compare;
pub mod describe;
pub mod frame;
pub mod query;
