//! Queries from a pod through its veth link: rate, latency and CPU time of
//! nodedns, between the ceiling of its hook, an upper bound of any server with a
//! socket, and CoreDNS.

mod echo;
mod measure;
mod probe;
mod servers;

use std::fmt;

use clap::Args;
use harness::kernel::{self, Need};
use serde::Serialize;

use self::{
    measure::{Plan, Run, measure},
    probe::Percentiles,
    servers::{Kind, Place, Server},
};
use crate::{
    machine::Machine,
    report::{self, Figure},
};

/// Flags of `bench veth`.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Length of each measurement, in seconds.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// How often all of them are made, in turn for each server.
    #[arg(long, default_value_t = 3)]
    runs: u32,
    /// The fixed rate at which CPU time is measured, in queries per second.
    #[arg(long, default_value_t = 50_000)]
    rate: u64,
}

#[derive(Serialize)]
struct Report {
    machine: Machine,
    runs: u32,
    seconds: u64,
    rate: u64,
    servers: Vec<Row>,
}

/// One server. CPU times are microseconds for each query; what is above the
/// reflect-only program's is the difference within one run.
#[derive(Serialize)]
struct Row {
    server: Kind,
    queries_per_s_by_one: Figure,
    queries_per_s_by_two: Figure,
    /// With a client that nothing disturbs, and its share of the reflect-only program's.
    queries_per_s_undisturbed: Option<Figure>,
    share_of_reflect_undisturbed: Option<f64>,
    /// To the reflect-only program's and to the echo's, by two threads.
    share_of_reflect: f64,
    times_echo: f64,
    queries_per_s_mostly_hits: Option<Figure>,
    lost: u64,
    latency_alone_us: Latency,
    latency_at_rate_us: Latency,
    latency_at_most_us: Latency,
    rate: Figure,
    machine_cpu_us: Figure,
    machine_cpu_above_reflect_us: Figure,
    processes_cpu_us: Figure,
    processes_cpu_above_reflect_us: Figure,
    server_cpu_us: Figure,
    program_at_rate_ns: Option<Figure>,
    program_at_most_ns: Option<Figure>,
}

#[derive(Serialize)]
struct Latency {
    p50: Figure,
    p90: Figure,
    p99: Figure,
}

impl Latency {
    fn of(runs: &[Run], percentiles: impl Fn(&Run) -> Percentiles) -> Self {
        let figure =
            |of: fn(Percentiles) -> f64| Figure::of(runs.iter().map(|run| of(percentiles(run))));
        Self { p50: figure(|us| us.p50), p90: figure(|us| us.p90), p99: figure(|us| us.p99) }
    }
}

/// Prints the report.
pub(crate) fn run(arguments: &Arguments, json: bool) {
    let tools = [Need::Tool("dnsperf"), Need::Tool("coredns")];
    assert!(kernel::require(&tools), "bench veth needs dnsperf and CoreDNS");
    let &Arguments { seconds, runs, rate } = arguments;
    let machine = Machine::look();
    let plan = Plan::new(seconds, rate);
    let places = Kind::ALL.map(|kind| (kind, Place::new(kind)));
    let mut servers = places.each_ref().map(|(kind, place)| Server::start(*kind, place));
    let mut measured: [Vec<Run>; Kind::ALL.len()] = Default::default();
    for run in 1..=runs {
        for ((server, (_, place)), measured) in servers.iter_mut().zip(&places).zip(&mut measured) {
            eprintln!("run {run} of {runs}: {} ...", server.kind.label());
            measured.push(measure(server, &place.pod, &plan));
        }
    }
    let by_two = |kind: Kind| {
        let runs = &measured[kind as usize];
        Figure::of(runs.iter().map(|run| run.by_two)).median
    };
    let (reflect, echo) = (by_two(Kind::Reflect), by_two(Kind::Echo));
    let rows = Kind::ALL.iter().zip(&measured);
    let rows = rows.map(|(kind, runs)| row(*kind, runs, &measured[0], (reflect, echo)));
    let report = Report { machine, runs, seconds, rate, servers: rows.collect() };
    report::print(json, &report, &report);
}

fn row(kind: Kind, runs: &[Run], reflect: &[Run], by_two: (f64, f64)) -> Row {
    let figure = |of: fn(&Run) -> f64| Figure::of(runs.iter().map(of));
    let above = |of: fn(&Run) -> f64| {
        Figure::of(runs.iter().zip(reflect).map(|(run, reflect)| of(run) - of(reflect)))
    };
    let some = |of: fn(&Run) -> Option<f64>| {
        let values: Vec<f64> = runs.iter().filter_map(of).collect();
        (!values.is_empty()).then(|| Figure::of(values))
    };
    let median = figure(|run| run.by_two).median;
    let undisturbed = some(|run| run.by_two_undisturbed);
    let ceiling = Figure::of(reflect.iter().filter_map(|run| run.by_two_undisturbed)).median;
    Row {
        server: kind,
        queries_per_s_by_one: figure(|run| run.by_one),
        queries_per_s_by_two: figure(|run| run.by_two),
        share_of_reflect_undisturbed: undisturbed.as_ref().map(|it| it.median / ceiling),
        queries_per_s_undisturbed: undisturbed,
        share_of_reflect: median / by_two.0,
        times_echo: median / by_two.1,
        queries_per_s_mostly_hits: some(|run| run.mostly_hits),
        lost: runs.iter().map(|run| run.lost).sum(),
        latency_alone_us: Latency::of(runs, |run| run.alone),
        latency_at_rate_us: Latency::of(runs, |run| run.at_rate.latency),
        latency_at_most_us: Latency::of(runs, |run| run.at_most),
        rate: figure(|run| run.at_rate.queries_per_s),
        machine_cpu_us: figure(|run| run.at_rate.machine_us),
        machine_cpu_above_reflect_us: above(|run| run.at_rate.machine_us),
        processes_cpu_us: figure(|run| run.at_rate.processes_us),
        processes_cpu_above_reflect_us: above(|run| run.at_rate.processes_us),
        server_cpu_us: figure(|run| run.at_rate.server_us),
        program_at_rate_ns: some(|run| run.program.map(|times| times.at_rate)),
        program_at_most_ns: some(|run| run.program.map(|times| times.at_most)),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { machine, runs, seconds, rate, servers } = self;
        let label = |row: &Row| row.server.label().to_owned();
        let maybe = |figure: &Option<Figure>| {
            figure.as_ref().map_or_else(|| "-".to_owned(), |figure| format!("{figure:.0}"))
        };
        writeln!(f, "{machine}")?;
        writeln!(
            f,
            "1,000 names, all known, over UDP; median (least-most) of {runs} runs of {seconds} s"
        )?;
        writeln!(
            f,
            "CoreDNS has NodeLocal DNSCache's blocks; behind it a CoreDNS with the names, over TCP"
        )?;
        let rates = servers.iter().map(|row| {
            [
                label(row),
                row.queries_per_s_by_one.to_string(),
                row.queries_per_s_by_two.to_string(),
                format!("{:.0} %", row.share_of_reflect * 100.0),
                format!("{:.2}", row.times_echo),
                maybe(&row.queries_per_s_undisturbed),
                row.share_of_reflect_undisturbed
                    .map_or_else(|| "-".to_owned(), |share| format!("{:.0} %", share * 100.0)),
                maybe(&row.queries_per_s_mostly_hits),
                row.lost.to_string(),
            ]
        });
        let columns = [
            "queries/s",
            "dnsperf -T 1",
            "dnsperf -T 2",
            "of reflect",
            "times echo",
            "-T 2, SCHED_FIFO",
            "of reflect",
            "90 % hits, -T 2",
            "lost",
        ];
        writeln!(f, "\n{}", report::table(columns, rates.collect()))?;
        let latency = |latency: &Latency| {
            let Latency { p50, p90, p99 } = latency;
            format!("{:.1} / {:.1} / {:.1}", p50.median, p90.median, p99.median)
        };
        let latencies = servers.iter().map(|row| {
            [
                label(row),
                latency(&row.latency_alone_us),
                latency(&row.latency_at_rate_us),
                latency(&row.latency_at_most_us),
            ]
        });
        let at_rate = format!("at {rate} queries/s");
        let columns =
            ["latency, us: p50 / p90 / p99", "one at a time", &at_rate, "at 80 % of its most"];
        writeln!(f, "\n{}", report::table(columns, latencies.collect()))?;
        let cpu = servers.iter().map(|row| {
            [
                label(row),
                row.rate.to_string(),
                format!("{:.2}", row.machine_cpu_us),
                format!("{:+.2}", row.machine_cpu_above_reflect_us.median),
                format!("{:.2}", row.processes_cpu_us),
                format!("{:+.2}", row.processes_cpu_above_reflect_us.median),
                format!("{:.2}", row.server_cpu_us),
                maybe(&row.program_at_rate_ns),
                maybe(&row.program_at_most_ns),
            ]
        });
        let columns = [
            "CPU per query, us",
            "queries/s",
            "machine",
            "above reflect",
            "client and server",
            "above reflect",
            "server",
            "BPF program, ns",
            "with -T 2",
        ];
        write!(f, "\n{}", report::table(columns, cpu.collect()))
    }
}
