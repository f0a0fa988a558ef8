//! The key of `OPTED_OUT`: the address of a client.

/// An address; one of IPv4 as IPv4-mapped (RFC 4291 2.5.5.2).
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientAddress {
    /// Its octets in network order, in two halves.
    pub address: [[u8; 8]; 2],
}

const _: () = assert!(size_of::<ClientAddress>() == 16);
