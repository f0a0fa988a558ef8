//! Nanoseconds per query in the program.

use std::net::Ipv4Addr;

use aya::{TestRun as _, TestRunOptions};
use comfy_table::Table;
use dns_ebpf::layout::{programs, settings::Lease};
use dns_user::{
    datapath::load::{LoadOptions, Loaded, load},
    records::{ClusterZone, NameRecords},
    store::AnswerStore as _,
};
use harness::{
    kernel,
    node::LOCAL_IP,
    packet::{
        frame::{Frame, Transport},
        query::{Edns, Query, qtype},
    },
};
use serde::Serialize;

use crate::machine;

/// Test runs of so many repeats each; the least of them counts.
const ROUNDS: u32 = 15;
const REPEATS: u32 = 20_000;
const NAME_36: &str = "kubernetes.default.svc.cluster.local";

#[derive(Serialize)]
struct Report {
    machine: String,
    verified_instructions: Option<u32>,
    /// The floor: a program that does nothing.
    empty_ns: u32,
    /// The ceiling of any answer: the packet turned around, nothing looked up.
    reflect_ns: u32,
    cases: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    case: &'static str,
    /// In all, the empty program's time included.
    ns: u32,
    above_empty_ns: i64,
    times_reflect: f64,
}

/// Prints the report.
pub(crate) fn run(json: bool) {
    let report = measure();
    if json {
        println!("{}", serde_json::to_string_pretty(&report).unwrap());
        return;
    }
    let mut table = Table::new();
    table.load_preset(comfy_table::presets::ASCII_MARKDOWN);
    table.set_header(["query", "ns", "above empty", "times reflect"]);
    table.add_row([
        "(empty program)".to_owned(),
        report.empty_ns.to_string(),
        "0".into(),
        String::new(),
    ]);
    table.add_row([
        "(reflect only)".to_owned(),
        report.reflect_ns.to_string(),
        (i64::from(report.reflect_ns) - i64::from(report.empty_ns)).to_string(),
        "1.0".into(),
    ]);
    for Row { case, ns, above_empty_ns, times_reflect } in &report.cases {
        table.add_row([
            (*case).to_owned(),
            ns.to_string(),
            above_empty_ns.to_string(),
            format!("{times_reflect:.1}"),
        ]);
    }
    println!("{}\n{table}", report.machine);
    let verified = report.verified_instructions.map_or("unknown".to_owned(), |n| n.to_string());
    println!("verified instructions: {verified}");
}

fn measure() -> Report {
    // Without restoring, with one and with three.
    let mut loaded: Vec<Loaded> = [0, 1, 3].map(subject).into_iter().collect();
    let verified_instructions = loaded[0]
        .program_mut(programs::ANSWER)
        .unwrap()
        .info()
        .unwrap()
        .verified_instruction_count();
    let base = frame(NAME_36, qtype::A, None);
    let empty_ns = least(&mut loaded[0], programs::EMPTY, &base);
    let reflect_ns = least_restored(&mut loaded, programs::REFLECT, &base);
    let cases = cases().into_iter().map(|(case, frame, answered)| {
        let ns = if answered {
            least_restored(&mut loaded, programs::ANSWER, &frame)
        } else {
            least(&mut loaded[0], programs::ANSWER, &frame)
        };
        Row {
            case,
            ns,
            above_empty_ns: i64::from(ns) - i64::from(empty_ns),
            times_reflect: f64::from(ns) / f64::from(reflect_ns),
        }
    });
    let cases = cases.collect();
    Report { machine: machine(), verified_instructions, empty_ns, reflect_ns, cases }
}

/// Query, frame, and whether it is answered.
fn cases() -> Vec<(&'static str, Vec<u8>, bool)> {
    let edns = || Some(Edns::default());
    let long = format!("{}.{}.svc.cluster.local", "l".repeat(60), "m".repeat(41));
    let tcp = Frame { transport: Transport::Tcp, ..frame_of(NAME_36, qtype::A, None) };
    let other = Frame { destination: NODE.into(), ..frame_of(NAME_36, qtype::A, None) };
    vec![
        ("A, 36 octets", frame(NAME_36, qtype::A, None), true),
        (
            "A, 36 octets, mixed case",
            frame("KuBeRnEtEs.Default.svc.cluster.local", qtype::A, None),
            true,
        ),
        ("A, 36 octets, EDNS", frame(NAME_36, qtype::A, edns()), true),
        ("A, 8 addresses", frame("eight.prod.svc.cluster.local", qtype::A, None), true),
        ("A, 120 octets", frame(&long, qtype::A, None), true),
        ("AAAA, 2 addresses", frame("sixes.prod.svc.cluster.local", qtype::AAAA, None), true),
        ("AAAA, NODATA", frame(NAME_36, qtype::AAAA, None), true),
        ("passed on: not in the map", frame("www.example.com", qtype::A, None), false),
        ("passed on: other type", frame(NAME_36, qtype::SRV, None), false),
        ("passed on: TCP", tcp.octets(), false),
        ("passed on: other address", other.octets(), false),
    ]
}

const NODE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);

fn frame_of(name: &str, qtype: u16, edns: Option<Edns>) -> Frame {
    Frame::with_query(&Query { edns, ..Query::new(name, qtype) })
}

fn frame(name: &str, qtype: u16, edns: Option<Edns>) -> Vec<u8> {
    frame_of(name, qtype, edns).octets()
}

fn subject(restores: u32) -> Loaded {
    let options =
        LoadOptions { restores, ..LoadOptions::new(None, &[LOCAL_IP], kernel::features()) };
    let mut loaded = load(&options).expect("the program loads");
    let zone = ClusterZone {
        name: "cluster.local".to_owned(),
        ttl_s: 30,
        negative_ttl_s: 30,
        soa_minimum_s: 30,
        serial: 1,
    };
    loaded.answers.set_zone(Some(&zone)).unwrap();
    loaded.lease.set(Lease { alive_until_ns: u64::MAX, serve_until_ns: u64::MAX }).unwrap();
    let v4 = |count: u8| (1..=count).map(|n| Ipv4Addr::new(10, 96, 0, n)).collect();
    let v6 = |count: u16| (1..=count).map(|n| [0xfd00, 0, 0, 0, 0, 0, 0, n].into()).collect();
    let long = format!("{}.{}.svc.cluster.local", "l".repeat(60), "m".repeat(41));
    for (name, a, aaaa) in [
        (NAME_36, 1, 0),
        ("eight.prod.svc.cluster.local", 8, 0),
        ("sixes.prod.svc.cluster.local", 0, 2),
        (&*long, 1, 0),
    ] {
        loaded
            .answers
            .put(&NameRecords { name: name.to_owned(), a: v4(a), aaaa: v6(aaaa) })
            .unwrap();
    }
    let loaded = loaded.with_program(programs::EMPTY).unwrap();
    loaded.with_program(programs::REFLECT).unwrap()
}

/// A reply is turned into its query again once or three times: half the
/// difference is what that costs, and is taken off.
fn least_restored(loaded: &mut [Loaded], program: &str, frame: &[u8]) -> u32 {
    let once = least(&mut loaded[1], program, frame);
    let thrice = least(&mut loaded[2], program, frame);
    once.saturating_sub(thrice.saturating_sub(once) / 2)
}

fn least(loaded: &mut Loaded, program: &str, frame: &[u8]) -> u32 {
    let mut out = vec![0; 4096];
    let mut run = || {
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut out),
            repeat: REPEATS,
            ..TestRunOptions::default()
        };
        let result = loaded.classifier_mut(program).unwrap().test_run(options).unwrap();
        u32::try_from(result.duration.as_nanos()).unwrap()
    };
    (0..ROUNDS).map(|_| run()).min().unwrap()
}
