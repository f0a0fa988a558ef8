//! What the subjects of the datapath's tests know: names by shape, answers of other
//! types, responses for names outside the cluster.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use dns_user::{
    datapath::cache::KeptKey,
    message::Question,
    records::{Answer, AnswerKey, ClusterZone, NameKind, NameRecords},
};

use crate::{
    node::LOCAL_IP,
    packet::query::{qtype, wire_name},
};

/// TTL of all records.
pub const TTL_S: u32 = 30;
/// TTL of the zone's SOA when it is asked for.
pub const SOA_TTL_S: u32 = 25;
/// Serial of the zone's SOA.
pub const SERIAL: u32 = 1_700_000_000;
/// The zone.
pub const ZONE: &str = "cluster.local";

/// The addresses answered for.
pub const LOCAL_IPS: [IpAddr; 2] = [IpAddr::V4(LOCAL_IP), IpAddr::V6(LOCAL_IP6)];
/// The one of IPv6.
pub const LOCAL_IP6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xa9, 0xfe, 0x19, 0, 0, 0, 0xa);

/// Names of answers of other types.
pub const SERVICE: &str = "dual.prod.svc.cluster.local";
/// A port of [`SERVICE`].
pub const PORT: &str = "_http._tcp.dual.prod.svc.cluster.local";
/// A headless Service with the longest answer.
pub const HEADLESS: &str = "db.prod.svc.cluster.local";
/// The address of [`SERVICE`].
pub const REVERSE: &str = "1.1.96.10.in-addr.arpa";
/// The same of IPv6.
pub const REVERSE6: &str =
    "1.0.0.0.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.1.0.0.0.0.d.f.ip6.arpa";
/// A name outside the cluster.
pub const OUTSIDE: &str = "www.example.com";

/// The names that are known, by shape.
pub fn names() -> Vec<NameRecords> {
    let name = |name: &str, a: u8, aaaa: u16| NameRecords {
        name: format!("{name}.svc.{ZONE}"),
        kind: NameKind::ClusterIp,
        a: (1..=a).map(|n| Ipv4Addr::new(10, 96, 1, n)).collect(),
        aaaa: (1..=aaaa).map(|n| [0xfd00, 0x10, 0x96, 0, 0, 0, 1, n].into()).collect(),
        has_ports: a + u8::from(aaaa != 0) != 0,
    };
    vec![
        name("one.prod", 1, 0),
        name("two.prod", 2, 0),
        name("eight.prod", 8, 0),
        name("six.prod", 0, 1),
        name("sixes.prod", 0, 2),
        name("dual.prod", 1, 1),
        name("four-and-one.prod", 4, 1),
        NameRecords { has_ports: false, ..name("portless.prod", 1, 0) },
        name("a.b", 1, 0),
        name("under_score.prod", 1, 0),
        name(&longest(), 1, 1),
        name("many.prod", 9, 0),
        NameRecords { kind: NameKind::Headless, ..name("db.prod", 2, 0) },
        NameRecords { kind: NameKind::Endpoint, ..name("db-0.db.prod", 1, 0) },
        NameRecords { kind: NameKind::Alias, ..name("ext.prod", 0, 0) },
        NameRecords { kind: NameKind::Empty, ..name("prod", 0, 0) },
        NameRecords::without(ZONE.to_owned(), NameKind::Apex),
        NameRecords::without(format!("svc.{ZONE}"), NameKind::Empty),
        NameRecords::without(format!("dns-version.{ZONE}"), NameKind::Unknown),
    ]
}

/// An answer with this body, which has its name spelled in lower case if it is so.
pub fn answer(name: &str, qtype: u16, counts: [u16; 2], body: &[Vec<u8>]) -> Answer {
    Answer {
        key: AnswerKey { name: name.to_owned(), qtype },
        counts,
        body: body.concat().into(),
        is_lower_case: matches!(qtype, qtype::SRV | qtype::CNAME),
    }
}

/// A name that, with the rest of the zone, fills the 136 octets that the
/// kernel's names may have.
pub fn longest() -> String {
    // 136 octets are lengths of five labels and the root, and 130 of text.
    let rest = 130 - 63 - "svcclusterlocal".len();
    format!("{}.{}", "l".repeat(63), "m".repeat(rest))
}

/// The zone of all names.
pub fn zone() -> ClusterZone {
    ClusterZone {
        name: ZONE.to_owned(),
        is_complete: true,
        shuffles: false,
        forwards_ds: false,
        ttl_s: TTL_S,
        soa_ttl_s: SOA_TTL_S,
        negative_ttl_s: TTL_S,
        soa_minimum_s: TTL_S,
        serial: SERIAL,
    }
}

/// An SRV record of the question's name.
fn srv(weight: u16, port: u16, target: &str) -> Vec<u8> {
    let mut rdata = Vec::new();
    for number in [0, weight, port] {
        rdata.extend(number.to_be_bytes());
    }
    rdata.extend(wire_name(target));
    owned_record(12, 33, &rdata)
}

fn ptr(target: &str) -> Vec<u8> {
    owned_record(12, 12, &wire_name(target))
}

/// SRV records of a Service's own name, of a port, of `endpoints` endpoints, whose
/// addresses follow: the place of each target is behind the question.
fn headless(name: &str, endpoints: u16) -> Answer {
    let start = 12 + wire_name(name).len() + 4;
    let mut body: Vec<Vec<u8>> = Vec::new();
    let mut places = Vec::new();
    for n in 0..endpoints {
        places.push(start + body.concat().len() + 18);
        body.push(srv(100 / endpoints, 5432, &format!("db-{n}.{HEADLESS}")));
    }
    for (n, place) in places.iter().enumerate() {
        body.push(owned_record(*place, 1, &[10, 244, 0, u8::try_from(n).expect("few endpoints")]));
    }
    answer(name, qtype::SRV, [endpoints, endpoints], &body)
}

/// The answers of other types.
pub fn answers() -> Vec<Answer> {
    let both = |owner: usize| {
        let v6 = [0xfd, 0, 0, 0x10, 0, 0x96, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1];
        [owned_record(owner, 1, &[10, 96, 1, 1]), owned_record(owner, 28, &v6)]
    };
    let srv_with = |name: &str, service: usize, ports: &[u16]| {
        let weight = 100 / (2 * short(ports.len()));
        let mut body: Vec<_> = ports.iter().map(|port| srv(weight, *port, SERVICE)).collect();
        body.extend(both(12 + service));
        answer(name, qtype::SRV, [short(ports.len()), 2], &body)
    };
    let cname = owned_record(12, 5, &wire_name("www.example.com"));
    let txt = owned_record(12, 16, b"\x051.1.0");
    vec![
        srv_with(SERVICE, 0, &[80, 443]),
        srv_with(PORT, "_http._tcp.".len(), &[80]),
        headless(HEADLESS, 8),
        headless(&format!("_pg._tcp.{HEADLESS}"), 3),
        answer(REVERSE, qtype::PTR, [1, 0], &[ptr(SERVICE)]),
        answer(REVERSE6, qtype::PTR, [1, 0], &[ptr(SERVICE)]),
        answer(
            "9.0.244.10.in-addr.arpa",
            qtype::PTR,
            [2, 0],
            &[ptr("db-0.db.prod.svc.cluster.local"), ptr("10-244-0-9.web.prod.svc.cluster.local")],
        ),
        answer("ext.prod.svc.cluster.local", qtype::CNAME, [1, 0], &[cname]),
        answer("dns-version.cluster.local", qtype::TXT, [1, 0], &[txt]),
    ]
}

/// A record whose owner is at that place in the message.
pub fn owned_record(owner: usize, rtype: u8, rdata: &[u8]) -> Vec<u8> {
    let mut octets = (0xc000 | short(owner)).to_be_bytes().to_vec();
    octets.extend([0, rtype, 0, 1]);
    octets.extend(TTL_S.to_be_bytes());
    octets.extend(short(rdata.len()).to_be_bytes());
    octets.extend(rdata);
    octets
}

fn short(number: usize) -> u16 {
    u16::try_from(number).expect("a short message")
}

/// AA, RA and AD (RFC 1035 4.1.1, RFC 4035 3.2.3); NXDOMAIN.
pub const AA: u16 = 0x0400;
/// As above.
pub const RA: u16 = 0x0080;
/// As above.
pub const AD: u16 = 0x0020;
/// As above.
pub const NXDOMAIN: u16 = 3;

/// A response for a name outside the cluster, as upstream, or the agent, would have it.
#[derive(Clone, Debug)]
pub struct Kept {
    /// In lower case.
    pub name: &'static str,
    /// Its type.
    pub qtype: u16,
    /// Whether it is for those who ask with DO.
    pub dnssec_ok: bool,
    /// Whether it is for those who ask with CD.
    pub checking_disabled: bool,
    /// Flags but QR and RD, and the RCODE.
    pub header: u16,
    /// Records of each section.
    pub counts: [u16; 3],
    /// Records with any TTL.
    pub body: Vec<u8>,
}

impl Kept {
    /// Returns the message.
    pub fn octets(&self) -> Vec<u8> {
        let mut octets = Vec::new();
        let [answers, authorities, additionals] = self.counts;
        for word in [0, 0x8100 | self.header, 1, answers, authorities, additionals] {
            octets.extend(word.to_be_bytes());
        }
        octets.extend(wire_name(self.name));
        octets.extend(self.qtype.to_be_bytes());
        octets.extend(1_u16.to_be_bytes());
        octets.extend(&self.body);
        octets
    }

    /// Returns what it is found by.
    pub fn key(&self) -> KeptKey {
        let octets = self.octets();
        let question = Question::parse(&octets).expect("a question");
        KeptKey::new(&question, self.dnssec_ok, self.checking_disabled).expect("a plain name")
    }

    /// Returns the body with this TTL in every record.
    pub fn body_with(&self, ttl_s: u32) -> Vec<u8> {
        // All owners are pointers, of two octets.
        const TTL: usize = 6;
        const RDATA: usize = 12;
        let mut body = self.body.clone();
        let mut at = 0;
        while at < body.len() {
            body[at + TTL..at + TTL + 4].copy_from_slice(&ttl_s.to_be_bytes());
            let rdlength = [body[at + RDATA - 2], body[at + RDATA - 1]];
            at += RDATA + usize::from(u16::from_be_bytes(rdlength));
        }
        body
    }
}

/// An alias and two addresses of its target, which begins in the first record.
pub fn kept_addresses() -> Kept {
    let target = 12 + wire_name(OUTSIDE).len() + 4 + 12;
    let body = [
        owned_record(12, 5, &wire_name("web.example.net")),
        owned_record(target, 1, &[192, 0, 2, 80]),
        owned_record(target, 1, &[192, 0, 2, 81]),
    ];
    Kept {
        name: OUTSIDE,
        qtype: qtype::A,
        dnssec_ok: false,
        checking_disabled: false,
        header: AA | RA,
        counts: [3, 0, 0],
        body: body.concat(),
    }
}

/// A name that does not exist.
pub fn kept_denial() -> Kept {
    let mut rdata = b"\x02ns\xc0\x13\x05admin\xc0\x13".to_vec();
    rdata.extend([0; 20]);
    Kept {
        name: "nosuch.example.com",
        qtype: qtype::AAAA,
        header: AA | RA | NXDOMAIN,
        counts: [0, 1, 0],
        body: owned_record(19, 6, &rdata),
        ..kept_addresses()
    }
}

/// The responses for names outside.
pub fn kept() -> Vec<Kept> {
    let signed = owned_record(12, 46, &[7; 96]);
    let texts = owned_record(12, 16, &[&[169], [b'x'; 169].as_slice()].concat()).repeat(3);
    vec![
        Kept { header: AA | RA | AD, ..kept_addresses() },
        Kept { dnssec_ok: true, checking_disabled: true, ..kept_addresses() },
        Kept {
            dnssec_ok: true,
            header: RA | AD,
            counts: [1, 1, 1],
            body: [owned_record(12, 1, &[192, 0, 2, 82]), signed.clone(), signed].concat(),
            ..kept_addresses()
        },
        kept_denial(),
        // Too long for a client without EDNS.
        Kept { name: "long.example.com", qtype: qtype::TXT, body: texts, ..kept_addresses() },
    ]
}
