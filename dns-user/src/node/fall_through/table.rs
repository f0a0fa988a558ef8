//! The nftables table `nodedns`, as data: which packets to the local addresses
//! conntrack leaves alone, and where they go when no agent answers. Its sets are here,
//! its rules in [`super::rules`].
//!
//! As `nft list table inet nodedns` shows it, for one family (the sets of the
//! other end in `6`):
//!
//! ```text
//! set local     { the local addresses }
//! set alive     { those of them that an agent answers at; each for a second }
//! set probes    { address . port from which the agent asks itself }
//! set tracked   { address . port of clients whose TCP conntrack follows }
//! map endpoints { 0..60 : address . port of CoreDNS }
//!
//! prerouting, output at priority raw:
//!   to an address in alive: notrack (TCP: unless the client is in tracked)
//!   to an address in local, TCP: the client is put in tracked
//!   from port 53 of an address in local: notrack (TCP: unless in tracked)
//!     and to a probe's port: the address is in alive for another second
//! prerouting, output at priority dstnat, for what conntrack follows:
//!   to an address in local, and not in alive: dnat to one of endpoints
//! postrouting at priority srcnat:
//!   from an address in local to another node: masquerade
//! ```
//!
//! Conntrack entries never keep a client away from the agent or bind it to a dead
//! one: what may be sent elsewhere is decided for each datagram, and for TCP once
//! for each connection.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use nlink::netlink::nftables::{
    Family, Object, PacketField, Register, Set, SetDataType, SetElement, SetKeyType,
};

/// Name of the table, in the family `inet`.
pub const TABLE: &str = "nodedns";
/// Name of the counter of flows that were sent to CoreDNS.
pub const FLOWS: &str = "fell_through";

/// How long an address counts as answered after the agent's socket has answered
/// the agent itself: some answers may be late on a busy node.
pub const ALIVE_FOR: Duration = Duration::from_secs(1);

/// How long a TCP client is remembered that conntrack follows, after its last packet.
pub(super) const TRACKED_FOR: Duration = Duration::from_mins(2);
/// Most TCP clients that are remembered.
const TRACKED_MAX: u32 = 65_535;
/// Places for endpoints, so that rules stay as they are when endpoints change:
/// divisible by the usual numbers of them.
pub const PLACES: u32 = 60;

/// One address family's part of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Part {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// Says whether an address is of this family.
    pub fn has(self, ip: IpAddr) -> bool {
        ip.is_ipv4() == (self == Self::V4)
    }

    /// The name of a set of this family.
    pub(super) fn name(self, set: &str) -> String {
        match self {
            Self::V4 => set.to_owned(),
            Self::V6 => format!("{set}6"),
        }
    }

    fn key(self) -> SetKeyType {
        match self {
            Self::V4 => SetKeyType::Ipv4Addr,
            Self::V6 => SetKeyType::Ipv6Addr,
        }
    }

    pub(super) fn family(self) -> Family {
        match self {
            Self::V4 => Family::Ip,
            Self::V6 => Family::Ip6,
        }
    }

    pub(super) fn source(self) -> PacketField {
        match self {
            Self::V4 => PacketField::Ip4Saddr,
            Self::V6 => PacketField::Ip6Saddr,
        }
    }

    pub(super) fn destination(self) -> PacketField {
        match self {
            Self::V4 => PacketField::Ip4Daddr,
            Self::V6 => PacketField::Ip6Daddr,
        }
    }

    /// The register behind an address that is in the first ones.
    pub(super) fn behind_address(self) -> Register {
        match self {
            Self::V4 => Register::Reg32_01,
            Self::V6 => Register::Reg32_04,
        }
    }

    /// Octets from the start of the IP header to the source address, and of it.
    pub(super) fn source_place(self) -> (u32, u32) {
        match self {
            Self::V4 => (12, 4),
            Self::V6 => (8, 16),
        }
    }

    fn set(self, name: &str) -> Set {
        Set::new(TABLE, &self.name(name)).key_type(self.key())
    }

    fn set_with_port(self, name: &str) -> Set {
        self.set(name).key_type(SetKeyType::Concat(vec![self.key(), SetKeyType::InetService]))
    }

    /// The set of addresses that an agent answers at.
    pub fn alive(self) -> Set {
        self.set("alive").timeout(ALIVE_FOR).dynamic().size(64)
    }

    fn local(self) -> Set {
        self.set("local")
    }

    /// The set of addresses and ports from which the agent asks itself.
    pub fn probes(self) -> Set {
        self.set_with_port("probes")
    }

    fn tracked(self) -> Set {
        self.set_with_port("tracked").timeout(TRACKED_FOR).dynamic().size(TRACKED_MAX)
    }

    /// The map of CoreDNS's endpoints.
    pub fn endpoints(self) -> Set {
        let value = SetKeyType::Concat(vec![self.key(), SetKeyType::InetService]);
        Set::new(TABLE, &self.name("endpoints"))
            .key_type(SetKeyType::Mark)
            .map(SetDataType::Value(value))
    }

    /// What the map of endpoints holds: those of this family in turns. Nothing
    /// without any.
    pub fn endpoint_elements(self, endpoints: &[SocketAddr]) -> Vec<SetElement> {
        let of_family = endpoints.iter().filter(|endpoint| self.has(endpoint.ip()));
        let places = of_family.cycle().zip(0..PLACES);
        places
            .map(|(endpoint, place)| SetElement::mark(place).value(with_port(*endpoint)))
            .collect()
    }
}

/// What the rules are made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The local addresses.
    pub local: Vec<IpAddr>,
    /// Port of the health listener, if it is on one of them.
    pub health_port: Option<u16>,
    /// From where the agent asks itself.
    pub probes: Vec<SocketAddr>,
}

/// Returns the sets, each with its elements. The addresses count as answered at
/// first: whoever installs the table has sockets there.
pub fn sets(addresses: &Addresses, endpoints: &[SocketAddr]) -> Vec<(Set, Vec<SetElement>)> {
    let of = |part: Part| {
        let local = addresses.local.iter().filter(|ip| part.has(**ip));
        let local: Vec<_> = local.map(|ip| address(*ip)).collect();
        let probes = addresses.probes.iter().filter(|probe| part.has(probe.ip()));
        [
            (part.local(), local.clone()),
            (part.alive(), local),
            (part.probes(), probes.map(|probe| with_port(*probe)).collect()),
            (part.tracked(), Vec::new()),
            (part.endpoints(), part.endpoint_elements(endpoints)),
        ]
    };
    Part::ALL.into_iter().flat_map(of).collect()
}

/// Returns the counter of flows that were sent to CoreDNS.
pub fn flows() -> Object {
    Object::counter(TABLE, FLOWS)
}

/// An element for an address.
pub fn address(ip: IpAddr) -> SetElement {
    match ip {
        IpAddr::V4(ip) => SetElement::ipv4(ip),
        IpAddr::V6(ip) => SetElement::ipv6(ip),
    }
}

fn with_port(address_and_port: SocketAddr) -> SetElement {
    let port = SetElement::port(address_and_port.port());
    SetElement::concat([address(address_and_port.ip()), port])
}
