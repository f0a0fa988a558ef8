//! What a hit costs more as the number of names grows.
//!
//! `draw_tc` asks for another name at each run and answers it; the draws are
//! made here and read by it in their order. What it costs with one name that is
//! drawn over and over is the floor, and is shown beside the others.

use std::{fmt, net::Ipv4Addr};

use aya::maps::{Array, MapData};
use clap::Args;
use dns_ebpf::layout::{NAMES_MAX, maps, outcome::Outcome, programs};
use dns_user::{
    datapath::load::{LoadOptions, Loaded},
    records::{NameKind, NameRecords},
    store::AnswerStore as _,
};
use harness::packet::{
    frame::Frame,
    query::{Query, qtype},
};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
use serde::Serialize;

use crate::{
    machine::{self, Machine},
    report,
    test_run::{Effort, Nanoseconds, options, subject, time},
};

/// Draws that are made; with the most names, all that uniform draws leave out
/// are a third.
const DRAWS: u32 = 1 << 20;
/// Each round goes through all draws once.
const EFFORT: Effort = Effort { rounds: 7, repeats: DRAWS };
/// Draws are the same at each start.
const SEED: u64 = 1;

/// Flags of `bench map`.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Numbers of names; a million takes 300 MB of kernel memory.
    #[arg(long, value_delimiter = ',', default_values_t = [1000, 16_000, 131_000, 1_000_000])]
    names: Vec<u32>,
}

#[derive(Serialize)]
struct Report {
    machine: Machine,
    effort: Effort,
    rows: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    names: u32,
    /// One name, drawn over and over.
    hot: Nanoseconds,
    zipf: Nanoseconds,
    uniform: Nanoseconds,
}

/// Prints the report.
pub(crate) fn run(arguments: &Arguments, json: bool) {
    let machine = Machine::look();
    machine::pin();
    let rows = arguments.names.iter().map(|names| measure(*names)).collect();
    let report = Report { machine, effort: EFFORT, rows };
    report::print(json, &report, &report);
}

fn measure(names: u32) -> Row {
    eprintln!("{names} names ...");
    let options =
        LoadOptions { names_max: names.max(NAMES_MAX), restores: 1, draws: DRAWS, ..options() };
    let mut loaded = subject(&options).with_program(programs::DRAW).unwrap();
    let map = loaded.ebpf.take_map(maps::DRAWS).expect("the map of draws");
    let mut draws = Draws(map.try_into().expect("an array"));
    let mut random = StdRng::seed_from_u64(SEED);
    // Ranks and places in memory have nothing to do with each other.
    let mut ranks: Vec<u32> = (0..names).collect();
    ranks.shuffle(&mut random);
    for number in &ranks {
        loaded.answers.put(&records(*number)).unwrap();
    }
    ranks.shuffle(&mut random);
    let name = |rank: u32| ranks[rank as usize];
    let mut time = |draw: &mut dyn FnMut() -> u32| {
        draws.fill(draw);
        time_draws(&mut loaded)
    };
    let weights = Zipf::new(names);
    Row {
        names,
        hot: time(&mut || name(0)),
        zipf: time(&mut || name(weights.rank(random.random()))),
        uniform: time(&mut || name(random.random_range(0..names))),
    }
}

fn time_draws(loaded: &mut Loaded) -> Nanoseconds {
    let counted = |loaded: &Loaded| {
        let counters = loaded.counters.read().unwrap();
        let of_a = counters.iter().filter(|it| it.outcome == Outcome::AnswerA);
        of_a.map(|it| it.packets).sum::<u64>()
    };
    let frame = Frame::with_query(&Query::new(&format!("{}.{SUFFIX}", label(0)), qtype::A));
    let before = counted(loaded);
    let ns = time(loaded, programs::DRAW, &frame.octets(), EFFORT);
    let answered = counted(loaded) - before;
    assert_eq!(answered, u64::from(EFFORT.rounds * EFFORT.repeats), "each draw is answered");
    ns
}

const SUFFIX: &str = "namespace.svc.cluster.local";

/// A label of eight octets.
fn label(number: u32) -> String {
    format!("s{number:07}")
}

fn records(number: u32) -> NameRecords {
    let [_, b, c, d] = number.to_be_bytes();
    NameRecords {
        name: format!("{}.{SUFFIX}", label(number)),
        kind: NameKind::ClusterIp,
        a: vec![Ipv4Addr::new(10, b, c, d)],
        aaaa: vec![],
        has_ports: true,
    }
}

/// What `draw_tc` asks for in turn.
struct Draws(Array<MapData, u64>);

impl Draws {
    fn fill(&mut self, draw: &mut dyn FnMut() -> u32) {
        self.0.set(0, 0, 0).unwrap();
        for at in 1..=DRAWS {
            let octets = label(draw()).into_bytes().try_into().expect("eight octets");
            self.0.set(at, u64::from_ne_bytes(octets), 0).unwrap();
        }
    }
}

/// Ranks with a probability that is proportional to 1 / (rank + 1).
struct Zipf(Vec<f64>);

impl Zipf {
    fn new(names: u32) -> Self {
        let mut sum = 0.0;
        let sums = (1..=names).map(|rank| {
            sum += 1.0 / f64::from(rank);
            sum
        });
        Self(sums.collect())
    }

    /// Returns the rank for a number from 0 to 1.
    fn rank(&self, random: f64) -> u32 {
        let all = self.0.last().copied().unwrap_or_default();
        let rank = self.0.partition_point(|sum| *sum <= random * all);
        rank.min(self.0.len() - 1) as u32
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = self.rows.first();
        let row = |row: &Row| {
            let above = |ns: Nanoseconds| i64::from(ns.least) - i64::from(row.hot.least);
            let times = |of: fn(&Row) -> Nanoseconds| {
                first.map_or_else(String::new, |first| {
                    format!("{:.2}", f64::from(of(row).least) / f64::from(of(first).least))
                })
            };
            let text = |ns: Nanoseconds| format!("{} ({})", ns.least, ns.median);
            [
                row.names.to_string(),
                text(row.hot),
                text(row.zipf),
                format!("{:+}", above(row.zipf)),
                times(|row| row.zipf),
                text(row.uniform),
                format!("{:+}", above(row.uniform)),
                times(|row| row.uniform),
            ]
        };
        let table = report::table(
            [
                "names",
                "one name",
                "Zipf(1.0)",
                "above one",
                "times the first",
                "uniform",
                "above one",
                "times the first",
            ],
            self.rows.iter().map(row).collect(),
        );
        writeln!(f, "{}", self.machine)?;
        writeln!(
            f,
            "ns for drawing a name, a hit and putting the query back: least (median) of {} x {} \
             test runs",
            self.effort.rounds, self.effort.repeats
        )?;
        write!(f, "{table}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zipf_favours_the_first() {
        let zipf = Zipf::new(1000);
        assert_eq!(zipf.rank(0.0), 0);
        assert_eq!(zipf.rank(1.0), 999);
        // 1 + 1/2 + ... + 1/1000 is 7.485.
        assert_eq!(zipf.rank(0.99 / 7.485), 0);
        assert_eq!(zipf.rank(1.01 / 7.485), 1);
        assert_eq!(zipf.rank(1.51 / 7.485), 2);
    }
}
