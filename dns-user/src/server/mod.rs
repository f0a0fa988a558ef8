//! The DNS sockets on the local addresses: queries that the kernel passed up, all
//! that come over TCP, and all of them where there is no datapath.
//!
//! What is decided here is answered from the loop that received it; the rest
//! waits for upstream in tasks of its own, and whatever happens ends in a
//! response.

mod responder;
mod sockets;
mod tcp;
#[cfg(test)]
mod tests;
mod udp;

pub use responder::Responder;
pub use sockets::{Sockets, is_shared};
pub(crate) use udp::told;
