//! What is timed, and what the maps hold for it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use dns_user::{
    clock::monotonic_ns,
    datapath::{cache::Life, load::Loaded},
    records::{Answer, AnswerKey, NameKind, NameRecords},
    store::AnswerStore as _,
};
use harness::{
    known::{LOCAL_IP6, OUTSIDE, kept_addresses},
    packet::{
        frame::{Frame, Transport},
        query::{Edns, Query, qtype, wire_name},
    },
};

/// A name of 36 octets on the wire.
const NAME_36: &str = "kubernetes.default.svc.cluster.local";
const TWO: &str = "two.production.svc.cluster.local";
const EIGHT: &str = "eight.production.svc.cluster.local";
const SIX: &str = "six.production.svc.cluster.local";
const SIXES: &str = "sixes.production.svc.cluster.local";
/// A headless Service.
const HEADLESS: &str = "db.production.svc.cluster.local";

/// For how long a response is kept: longer than this takes.
const KEPT_FOR_NS: u64 = 86_400_000_000_000;

/// A frame that is timed.
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) frame: Vec<u8>,
    /// Whether the program has to answer it, or to pass it on.
    pub(super) is_answered: bool,
}

/// Returns what is timed; a kind of answer that the programs learn gets its rows here.
pub(super) fn cases() -> Vec<Case> {
    let answered = |name, frame| Case { name, frame, is_answered: true };
    let passed_on = |name, frame| Case { name, frame, is_answered: false };
    let edns = |name, qtype| {
        Frame::with_query(&Query::new(name, qtype).with_edns(Edns::default())).octets()
    };
    let tcp = Frame { transport: Transport::Tcp, ..frame(NAME_36, qtype::A) };
    let other = Frame { destination: NODE.into(), ..frame(NAME_36, qtype::A) };
    vec![
        answered("A, 36 octets", base()),
        answered("A, mixed case", octets("KuBeRnEtEs.Default.svc.cluster.local", qtype::A)),
        answered("A, EDNS", edns(NAME_36, qtype::A)),
        answered("A, over IPv6", over_ipv6(NAME_36, qtype::A)),
        answered("A x2", octets(TWO, qtype::A)),
        answered("A x8", octets(EIGHT, qtype::A)),
        answered("A x8, EDNS", edns(EIGHT, qtype::A)),
        answered("A x8, over IPv6", over_ipv6(EIGHT, qtype::A)),
        answered("A, 120 octets", octets(&name_120(), qtype::A)),
        answered("AAAA x1", octets(SIX, qtype::AAAA)),
        answered("AAAA x2", octets(SIXES, qtype::AAAA)),
        answered("NODATA, asked for AAAA", octets(NAME_36, qtype::AAAA)),
        answered("NODATA, asked for A", octets(SIX, qtype::A)),
        answered("NODATA, EDNS", edns(NAME_36, qtype::AAAA)),
        answered("NODATA of another type", octets(NAME_36, qtype::ANY)),
        answered("NXDOMAIN, no ancestor asked", octets("nosuch.svc.cluster.local", qtype::A)),
        answered("NXDOMAIN, ancestor absent", octets("x.nosuch.prod.svc.cluster.local", qtype::A)),
        answered("NXDOMAIN, ancestor present", octets(&format!("x.{HEADLESS}"), qtype::A)),
        answered("PTR", octets(REVERSE, qtype::PTR)),
        answered("SRV x1", octets(&srv_name(1), qtype::SRV)),
        answered("SRV x8", edns(&srv_name(8), qtype::SRV)),
        answered("kept response, CNAME and A x2", octets(OUTSIDE, qtype::A)),
        passed_on("miss: a foreign name", octets("www.example.org", qtype::A)),
        passed_on("miss: an odd type", octets(NAME_36, qtype::SRV)),
        passed_on("not ours: TCP", tcp.octets()),
        passed_on("not ours: another address", other.octets()),
    ]
}

/// Returns the query that floors are measured with.
pub(super) fn base() -> Vec<u8> {
    octets(NAME_36, qtype::A)
}

const NODE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
const POD_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x10, 0x244, 0, 0, 0, 0, 5);

const REVERSE: &str = "1.0.96.10.in-addr.arpa";

/// A name with so many SRV records.
fn srv_name(count: u16) -> String {
    format!("_http._tcp.srv-{count}.production.svc.cluster.local")
}

/// The records of these names: a target of its own for each SRV record, and its
/// address.
fn answers() -> Vec<Answer> {
    let answer = |name: &str, qtype, counts, body: Vec<u8>| Answer {
        key: AnswerKey { name: name.to_owned(), qtype },
        counts,
        body: body.into(),
        is_lower_case: qtype == qtype::SRV,
    };
    let record = |owner: u16, rtype: u8, rdata: &[u8]| {
        let [high, low] = (0xc000 | owner).to_be_bytes();
        let length = u8::try_from(rdata.len()).unwrap();
        [&[high, low, 0, rtype, 0, 1, 0, 0, 0, 30, 0, length], rdata].concat()
    };
    let mut answers =
        vec![answer(REVERSE, qtype::PTR, [1, 0], record(12, 12, &wire_name(NAME_36)))];
    for count in [1, 8] {
        let name = srv_name(count);
        let start = 12 + wire_name(&name).len() + 4;
        let (mut srv, mut additionals) = (Vec::new(), Vec::new());
        for n in 0..count {
            let target = wire_name(&format!("host-{n}.srv-{count}.production.svc.cluster.local"));
            let place = u16::try_from(start + srv.len() + 18).unwrap();
            srv.extend(record(12, 33, &[&[0, 0, 0, 12, 0x1f, 0x90], &*target].concat()));
            additionals.extend(record(place, 1, &[10, 244, 0, 1]));
        }
        answers.push(answer(&name, qtype::SRV, [count, count], [srv, additionals].concat()));
    }
    answers
}

/// A name of 120 octets on the wire.
fn name_120() -> String {
    let name = format!("{}.{}.svc.cluster.local", "l".repeat(60), "m".repeat(39));
    assert_eq!(name.len() + 2, 120, "{name}");
    name
}

fn frame(name: &str, qtype: u16) -> Frame {
    Frame::with_query(&Query::new(name, qtype))
}

fn octets(name: &str, qtype: u16) -> Vec<u8> {
    frame(name, qtype).octets()
}

fn over_ipv6(name: &str, qtype: u16) -> Vec<u8> {
    let (source, destination) = (IpAddr::from(POD_V6), IpAddr::from(LOCAL_IP6));
    Frame { source, destination, ..frame(name, qtype) }.octets()
}

/// Puts the names, answers and responses of all cases into the maps.
pub(super) fn fill(loaded: &mut Loaded) {
    let v4 = |count: u8| (1..=count).map(|n| Ipv4Addr::new(10, 96, 0, n)).collect();
    let v6 = |count: u16| (1..=count).map(|n| [0xfd00, 0, 0, 0, 0, 0, 0, n].into()).collect();
    for (name, kind, a, aaaa) in [
        (NAME_36, NameKind::ClusterIp, 1, 0),
        (TWO, NameKind::ClusterIp, 2, 0),
        (EIGHT, NameKind::ClusterIp, 8, 0),
        (SIX, NameKind::ClusterIp, 0, 1),
        (SIXES, NameKind::ClusterIp, 0, 2),
        (HEADLESS, NameKind::Headless, 2, 0),
        (&*name_120(), NameKind::ClusterIp, 1, 0),
    ] {
        let (a, aaaa) = (v4(a), v6(aaaa));
        let records = NameRecords { name: name.to_owned(), kind, a, aaaa, has_ports: true };
        loaded.answers.put(&records).unwrap();
    }
    for answer in answers() {
        loaded.answers.put_answer(&answer).unwrap();
    }
    let kept = kept_addresses();
    let ends_ns = monotonic_ns().unwrap() + KEPT_FOR_NS;
    let life = Life { expires_ns: ends_ns, until_ns: ends_ns };
    assert!(loaded.cache.put(&kept.key(), &kept.octets(), life).unwrap());
}
