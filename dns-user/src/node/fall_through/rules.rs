//! The rules of the table, and the chains that they are in.

use nlink::netlink::nftables::{
    BaseChain, Chain, DynsetExpr, DynsetOp, Expr, Family, Field, FilterHook, LookupExpr, Match,
    NatHook, NumgenKind, PacketField, PayloadBase, Priority, RawExpr, Register, Rule, SocketMatch,
    Value,
};

use super::table::{ALIVE_FOR, Addresses, FLOWS, PLACES, Part, TABLE, TRACKED_FOR};
use crate::config::DNS_PORT;

const TCP: u8 = 6;
const UDP: u8 = 17;

/// Whether the kernel can look for a packet's socket (`nft_socket`): then a
/// process that is gone is noticed at the next packet from a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketLookup {
    /// It can.
    There,
    /// It cannot: the time-out alone tells.
    Missing,
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
