//! The message in the packet: reading the query, writing the response.
//!
//! Every access goes through [`crate::packet`], so nothing here can leave the
//! packet or panic. Offsets count from the Ethernet header.
#![forbid(unsafe_code)]

pub mod frame;
pub mod name;
pub mod query;
pub mod response;

/// Record types that the datapath treats in a way of their own (RFC 1035 3.2.2,
/// RFC 3596, RFC 2782).
pub mod record_type {
    /// IPv4 address.
    pub const A: u16 = 1;
    /// Name server.
    pub const NS: u16 = 2;
    /// Start of authority.
    pub const SOA: u16 = 6;
    /// IPv6 address.
    pub const AAAA: u16 = 28;
    /// Service location.
    pub const SRV: u16 = 33;
    /// First of the meta types (RFC 6895 3.1: TKEY, TSIG, transfers, ANY).
    pub const META_FIRST: u16 = 249;
    /// Last of the meta types, ANY.
    pub const META_LAST: u16 = 255;
}
