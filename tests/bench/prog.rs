//! Nanoseconds per query in the program.

use std::{fmt, net::Ipv4Addr};

use dns_ebpf::layout::programs;
use dns_user::{
    datapath::load::Loaded,
    records::{Answer, AnswerKey, NameKind, NameRecords},
    store::AnswerStore as _,
};
use harness::packet::{
    frame::{Frame, Transport},
    query::{Edns, Query, qtype, wire_name},
};
use serde::Serialize;

use crate::{
    machine::{self, Machine},
    report,
    test_run::{Effort, Nanoseconds, Restoring, is_answered, time},
};

const EFFORT: Effort = Effort { rounds: 5, repeats: 500_000 };

const NAME_36: &str = "kubernetes.default.svc.cluster.local";
const TWO: &str = "two.production.svc.cluster.local";
const EIGHT: &str = "eight.production.svc.cluster.local";
const SIX: &str = "six.production.svc.cluster.local";
const SIXES: &str = "sixes.production.svc.cluster.local";

#[derive(Serialize)]
struct Report {
    machine: Machine,
    effort: Effort,
    verified_instructions: Option<u32>,
    /// The floor: a program that does nothing.
    empty: Nanoseconds,
    /// The ceiling of any answer: the packet turned around, nothing looked up.
    reflect: Nanoseconds,
    cases: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    case: &'static str,
    answered: bool,
    /// In all, the empty program's time included.
    ns: Nanoseconds,
    /// The least, above the empty program's.
    above_empty_ns: i64,
    /// The least, in terms of the reflect-only program's.
    times_reflect: f64,
}

/// A frame that is timed.
struct Case {
    name: &'static str,
    frame: Vec<u8>,
    /// Whether the program has to answer it, or to pass it on.
    answered: bool,
}

/// Prints the report.
pub(crate) fn run(json: bool) {
    let report = measure();
    report::print(json, &report, &report);
}

fn measure() -> Report {
    let machine = Machine::look();
    machine::pin();
    let mut subject = Restoring::new(with_names);
    let verified_instructions = subject
        .plain()
        .program_mut(programs::ANSWER)
        .unwrap()
        .info()
        .unwrap()
        .verified_instruction_count();
    let base = octets(NAME_36, qtype::A);
    let empty = time(subject.plain(), programs::EMPTY, &base, EFFORT);
    let reflect = subject.time(programs::REFLECT, &base, EFFORT);
    let cases = cases().into_iter().map(|Case { name, frame, answered }| {
        let is_answered = is_answered(subject.plain(), &frame);
        assert_eq!(is_answered, answered, "{name}: the case is not what it says");
        let ns = if answered {
            subject.time(programs::ANSWER, &frame, EFFORT)
        } else {
            time(subject.plain(), programs::ANSWER, &frame, EFFORT)
        };
        Row {
            case: name,
            answered,
            ns,
            above_empty_ns: i64::from(ns.least) - i64::from(empty.least),
            times_reflect: f64::from(ns.least) / f64::from(reflect.least),
        }
    });
    let cases = cases.collect();
    Report { machine, effort: EFFORT, verified_instructions, empty, reflect, cases }
}

/// What is timed; a kind of answer that the program learns gets its rows here.
fn cases() -> Vec<Case> {
    let answered = |name, frame| Case { name, frame, answered: true };
    let passed_on = |name, frame| Case { name, frame, answered: false };
    let edns = |name, qtype| {
        Frame::with_query(&Query::new(name, qtype).with_edns(Edns::default())).octets()
    };
    let tcp = Frame { transport: Transport::Tcp, ..frame(NAME_36, qtype::A) };
    let other = Frame { destination: NODE.into(), ..frame(NAME_36, qtype::A) };
    vec![
        answered("A, 36 octets", octets(NAME_36, qtype::A)),
        answered("A, mixed case", octets("KuBeRnEtEs.Default.svc.cluster.local", qtype::A)),
        answered("A, EDNS", edns(NAME_36, qtype::A)),
        answered("A x2", octets(TWO, qtype::A)),
        answered("A x8", octets(EIGHT, qtype::A)),
        answered("A x8, EDNS", edns(EIGHT, qtype::A)),
        answered("A, 120 octets", octets(&name_120(), qtype::A)),
        answered("AAAA x1", octets(SIX, qtype::AAAA)),
        answered("AAAA x2", octets(SIXES, qtype::AAAA)),
        answered("NODATA, asked for AAAA", octets(NAME_36, qtype::AAAA)),
        answered("NODATA, asked for A", octets(SIX, qtype::A)),
        answered("NODATA, EDNS", edns(NAME_36, qtype::AAAA)),
        passed_on("miss: a foreign name", octets("www.example.com", qtype::A)),
        answered("NODATA of another type", octets(NAME_36, qtype::ANY)),
        answered("NXDOMAIN, no ancestor asked", octets("nosuch.svc.cluster.local", qtype::A)),
        answered("NXDOMAIN, ancestor absent", octets("x.nosuch.prod.svc.cluster.local", qtype::A)),
        answered("PTR", octets(REVERSE, qtype::PTR)),
        answered("SRV x1", octets(&srv_name(1), qtype::SRV)),
        answered("SRV x8", edns(&srv_name(8), qtype::SRV)),
        passed_on("miss: an odd type", octets(NAME_36, qtype::SRV)),
        passed_on("not ours: TCP", tcp.octets()),
        passed_on("not ours: another address", other.octets()),
    ]
}

const NODE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);

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

fn with_names(mut loaded: Loaded) -> Loaded {
    let v4 = |count: u8| (1..=count).map(|n| Ipv4Addr::new(10, 96, 0, n)).collect();
    let v6 = |count: u16| (1..=count).map(|n| [0xfd00, 0, 0, 0, 0, 0, 0, n].into()).collect();
    for (name, a, aaaa) in [
        (NAME_36, 1, 0),
        (TWO, 2, 0),
        (EIGHT, 8, 0),
        (SIX, 0, 1),
        (SIXES, 0, 2),
        (&*name_120(), 1, 0),
    ] {
        let records = NameRecords {
            name: name.to_owned(),
            kind: NameKind::ClusterIp,
            a: v4(a),
            aaaa: v6(aaaa),
            has_ports: true,
        };
        loaded.answers.put(&records).unwrap();
    }
    for answer in answers() {
        loaded.answers.put_answer(&answer).unwrap();
    }
    let loaded = loaded.with_program(programs::EMPTY).unwrap();
    loaded.with_program(programs::REFLECT).unwrap()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Effort { rounds, repeats } = self.effort;
        let row = |name: &str, ns: Nanoseconds| {
            let Nanoseconds { least, median } = ns;
            let above = i64::from(least) - i64::from(self.empty.least);
            let times = f64::from(least) / f64::from(self.reflect.least);
            let figures = [least.to_string(), median.to_string(), above.to_string()];
            let [least, median, above] = figures;
            [name.to_owned(), least, median, above, format!("{times:.1}")]
        };
        let floors = [row("(empty program)", self.empty), row("(reflect only)", self.reflect)];
        let cases = self.cases.iter().map(|Row { case, ns, .. }| row(case, *ns));
        let table = report::table(
            ["query", "ns", "median", "above empty", "times reflect"],
            floors.into_iter().chain(cases).collect(),
        );
        writeln!(f, "{}", self.machine)?;
        writeln!(
            f,
            "least and median of {rounds} x {repeats} test runs, putting the query back taken off"
        )?;
        writeln!(f, "{table}")?;
        let verified = self.verified_instructions.map_or("unknown".to_owned(), |n| n.to_string());
        write!(f, "verified instructions: {verified}")
    }
}
