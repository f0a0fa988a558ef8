//! The message in the packet: reading the query, writing the response.
//!
//! Every access goes through [`crate::packet`], so nothing here can leave the
//! packet or panic. Offsets count from the Ethernet header.
#![forbid(unsafe_code)]

pub mod checksum;
pub mod frame;
pub mod name;
pub mod query;
pub mod response;

/// Record types that the datapath treats in a way of their own.
pub mod record_type {
    /// IPv4 address (RFC 1035 3.4.1).
    pub const A: u16 = 1;
    /// Name server (RFC 1035 3.3.11).
    pub const NS: u16 = 2;
    /// Canonical name (RFC 1035 3.3.1).
    pub const CNAME: u16 = 5;
    /// Start of authority (RFC 1035 3.3.13).
    pub const SOA: u16 = 6;
    /// Domain name pointer (RFC 1035 3.3.12).
    pub const PTR: u16 = 12;
    /// Text (RFC 1035 3.3.14).
    pub const TXT: u16 = 16;
    /// IPv6 address (RFC 3596).
    pub const AAAA: u16 = 28;
    /// Service location (RFC 2782).
    pub const SRV: u16 = 33;
    /// Delegation signer (RFC 4034).
    pub const DS: u16 = 43;
    /// Incremental zone transfer (RFC 1995).
    pub const IXFR: u16 = 251;
    /// Zone transfer (RFC 5936).
    pub const AXFR: u16 = 252;
}
