//! The nftables table `nodedns`, as data: which packets to the local addresses
//! conntrack leaves alone, and where they go when no agent answers.
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
    BaseChain, Chain, DynsetExpr, DynsetOp, Expr, Family, Field, FilterHook, LookupExpr, Match,
    NatHook, NumgenKind, Object, PacketField, PayloadBase, Priority, RawExpr, Register, Rule, Set,
    SetDataType, SetElement, SetKeyType, SocketMatch, Value,
};

/// Name of the table, in the family `inet`.
pub const TABLE: &str = "nodedns";
/// Name of the counter of flows that were sent to CoreDNS.
pub const FLOWS: &str = "fell_through";

/// How long an address counts as answered after the agent's socket has answered
/// the agent itself: some answers may be late on a busy node.
pub const ALIVE_FOR: Duration = Duration::from_secs(1);

/// How long a TCP client is remembered that conntrack follows, after its last packet.
const TRACKED_FOR: Duration = Duration::from_mins(2);
/// Most TCP clients that are remembered.
const TRACKED_MAX: u32 = 65_535;
/// Places for endpoints, so that rules stay as they are when endpoints change:
/// divisible by the usual numbers of them.
pub const PLACES: u32 = 60;

const DNS_PORT: u16 = 53;
const TCP: u8 = 6;
const UDP: u8 = 17;

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
    fn name(self, set: &str) -> String {
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

    fn family(self) -> Family {
        match self {
            Self::V4 => Family::Ip,
            Self::V6 => Family::Ip6,
        }
    }

    fn source(self) -> PacketField {
        match self {
            Self::V4 => PacketField::Ip4Saddr,
            Self::V6 => PacketField::Ip6Saddr,
        }
    }

    fn destination(self) -> PacketField {
        match self {
            Self::V4 => PacketField::Ip4Daddr,
            Self::V6 => PacketField::Ip6Daddr,
        }
    }

    /// The register behind an address that is in the first ones.
    fn behind_address(self) -> Register {
        match self {
            Self::V4 => Register::Reg32_01,
            Self::V6 => Register::Reg32_04,
        }
    }

    /// Octets from the start of the IP header to the source address, and of it.
    fn source_place(self) -> (u32, u32) {
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

/// Whether the kernel can look for a packet's socket (`nft_socket`): then a
/// process that is gone is noticed at the next packet from a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketLookup {
    /// It can.
    There,
    /// It cannot: the time-out alone tells.
    Missing,
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

/// The chains, by what they do.
const PREROUTING: &str = "prerouting";
const OUTPUT: &str = "output";
const NAT_PREROUTING: &str = "nat_prerouting";
const NAT_OUTPUT: &str = "nat_output";
const NAT_POSTROUTING: &str = "nat_postrouting";

/// Returns the chains.
pub fn chains() -> Result<Vec<Chain>, nlink::Error> {
    let chains = [
        (PREROUTING, BaseChain::filter(FilterHook::Prerouting, Priority::Raw)),
        (OUTPUT, BaseChain::filter(FilterHook::Output, Priority::Raw)),
        (NAT_PREROUTING, BaseChain::nat(NatHook::Prerouting, Priority::DstNat)),
        (NAT_OUTPUT, BaseChain::nat(NatHook::Output, Priority::DstNat)),
        (NAT_POSTROUTING, BaseChain::nat(NatHook::Postrouting, Priority::SrcNat)),
    ];
    let chain = |(name, base)| Ok(Chain::new(TABLE, name)?.family(Family::Inet).base(base));
    chains.into_iter().map(chain).collect()
}

/// Returns the rules, in order.
pub fn rules(addresses: &Addresses, lookup: SocketLookup) -> Vec<Rule> {
    let rules = |part: Part| Rules { part, health_port: addresses.health_port, lookup }.all();
    Part::ALL.into_iter().flat_map(rules).collect()
}

fn rule(chain: &str) -> Rule {
    Rule::new(TABLE, chain).family(Family::Inet)
}

/// Rules of one family.
struct Rules {
    part: Part,
    health_port: Option<u16>,
    lookup: SocketLookup,
}

impl Rules {
    fn all(&self) -> Vec<Rule> {
        let mut rules = Vec::new();
        rules.extend(self.of_probes(PREROUTING));
        rules.extend(self.untracked(PREROUTING));
        rules.extend(self.of_probes(OUTPUT));
        rules.extend(self.responses());
        rules.extend(self.untracked(OUTPUT));
        for chain in [PREROUTING, OUTPUT] {
            rules.extend(self.health(chain));
        }
        for chain in [NAT_PREROUTING, NAT_OUTPUT] {
            rules.extend(self.to_coredns(chain));
        }
        // What the node asks itself comes from the local address, which means
        // another host to CoreDNS.
        let masquerade =
            rule(NAT_POSTROUTING).match_in_set(self.part.source(), &self.named("local"));
        let elsewhere = Match::ne(Field::Oifname, Value::from("lo"));
        rules.push(masquerade.then(elsewhere).masquerade());
        rules
    }

    fn named(&self, set: &str) -> String {
        self.part.name(set)
    }

    /// A rule for what goes to an address in a set, at the DNS port.
    fn to(&self, chain: &str, set: &str, protocol: u8) -> Rule {
        let rule = rule(chain).match_in_set(self.part.destination(), &self.named(set));
        match protocol {
            TCP => rule.match_tcp_dport(DNS_PORT),
            _ => rule.match_udp_dport(DNS_PORT),
        }
    }

    /// Goes on if some process has a socket for the packet. On the way out the
    /// packet's own socket is the client's.
    fn with_socket(&self, rule: Rule, chain: &str) -> Rule {
        let is_incoming = [PREROUTING, NAT_PREROUTING].contains(&chain);
        if is_incoming && self.lookup == SocketLookup::There {
            return rule.match_socket(SocketMatch::Transparent(false));
        }
        rule
    }

    /// Queries that the agent is to answer.
    fn untracked(&self, chain: &str) -> Vec<Rule> {
        let client = [self.part.source(), PacketField::TcpSport];
        let udp = self.with_socket(self.to(chain, "alive", UDP), chain);
        let tcp = self.with_socket(self.to(chain, "alive", TCP), chain);
        let tcp = tcp.match_concat_not_in_set(&client, &self.named("tracked"));
        let remember = self.to(chain, "local", TCP);
        vec![udp.notrack().accept(), tcp.notrack().accept(), self.remember_client(remember)]
    }

    /// Puts a packet's source address and port in `tracked`.
    fn remember_client(&self, rule: Rule) -> Rule {
        let (offset, len) = self.part.source_place();
        let key = Register::Reg32_00;
        let update = DynsetExpr::new(DynsetOp::Update, self.named("tracked"), key);
        rule.then(Expr::Payload { dreg: key, base: PayloadBase::Network, offset, len })
            .then(Expr::Payload {
                dreg: self.part.behind_address(),
                base: PayloadBase::Transport,
                offset: 0,
                len: 2,
            })
            .then(Expr::from(update.timeout(TRACKED_FOR)))
    }

    /// What the agent asks itself, which always reaches it.
    fn of_probes(&self, chain: &str) -> Vec<Rule> {
        let (source, destination) = (self.part.source(), self.part.destination());
        let ends = [
            (source, PacketField::UdpSport),
            (source, PacketField::TcpSport),
            (destination, PacketField::TcpDport),
        ];
        let of_probe = |(address, port)| {
            let rule = rule(chain).match_concat_in_set(&[address, port], &self.named("probes"));
            rule.notrack().accept()
        };
        ends.map(of_probe).to_vec()
    }

    /// The agent's responses.
    fn responses(&self) -> Vec<Rule> {
        let part = self.part;
        let response = || rule(OUTPUT).match_in_set(part.source(), &self.named("local"));
        let probe = [part.destination(), PacketField::UdpDport];
        let client = [part.destination(), PacketField::TcpDport];
        vec![
            response()
                .match_udp_sport(DNS_PORT)
                .match_concat_in_set(&probe, &self.named("probes"))
                .update_in_set(part.source(), &self.named("alive"), Some(ALIVE_FOR)),
            response().match_udp_sport(DNS_PORT).notrack().accept(),
            response()
                .match_tcp_sport(DNS_PORT)
                .match_concat_not_in_set(&client, &self.named("tracked"))
                .notrack()
                .accept(),
        ]
    }

    /// Probes of the kubelet, in both directions.
    fn health(&self, chain: &str) -> Vec<Rule> {
        let Some(port) = self.health_port else { return Vec::new() };
        let local = self.named("local");
        let to = rule(chain).match_in_set(self.part.destination(), &local).match_tcp_dport(port);
        let from = rule(chain).match_in_set(self.part.source(), &local).match_tcp_sport(port);
        vec![to.notrack().accept(), from.notrack().accept()]
    }

    /// Queries that nobody here answers.
    fn to_coredns(&self, chain: &str) -> Vec<Rule> {
        let answered =
            |protocol| self.with_socket(self.to(chain, "alive", protocol), chain).accept();
        let elsewhere = |protocol| self.dnat(self.to(chain, "local", protocol));
        vec![answered(UDP), answered(TCP), elsewhere(UDP), elsewhere(TCP)]
    }

    /// Sends a flow to one of the endpoints; goes on when there is none.
    fn dnat(&self, rule: Rule) -> Rule {
        let place = Register::Reg32_00;
        let numgen =
            Expr::Numgen { dreg: place, kind: NumgenKind::Random, modulus: PLACES, offset: 0 };
        let lookup = LookupExpr::new(self.named("endpoints"), place).dreg(place);
        rule.then(numgen)
            .then(Expr::from(lookup))
            .counter_named(FLOWS)
            .then(Expr::from(destination_nat(self.part, place)))
    }
}

/// `dnat to` the address and port that begin in this register (`nft_nat`).
fn destination_nat(part: Part, address: Register) -> RawExpr {
    // enum nft_nat_attributes and nft_nat_types (linux/netfilter/nf_tables.h).
    const TYPE: u16 = 1;
    const FAMILY: u16 = 2;
    const ADDRESS: u16 = 3;
    const PORT: u16 = 5;
    const DNAT: u32 = 1;
    let family = part.family() as u32;
    let attributes = [
        (TYPE, DNAT),
        (FAMILY, family),
        (ADDRESS, address.wire()),
        (PORT, part.behind_address().wire()),
    ];
    let mut octets = Vec::new();
    for (attribute, value) in attributes {
        // struct nlattr: length with itself, type; then the value, most significant first.
        octets.extend(8_u16.to_ne_bytes());
        octets.extend(attribute.to_ne_bytes());
        octets.extend(value.to_be_bytes());
    }
    RawExpr::new("nat", octets)
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
