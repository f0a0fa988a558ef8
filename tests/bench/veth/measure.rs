//! One run of all measurements against one server.

use std::time::Duration;

use aya::sys::{Stats, enable_stats};
use harness::{
    dnsperf::{Dnsperf, Load, Questions},
    node::{LOCAL_IP, Pod},
};
use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeValLike as _,
};

use super::{
    probe::{Latencies, Percentiles, probe},
    servers::{Server, hits, mostly_hits},
};
use crate::machine;

/// Between two queries of the probe while dnsperf asks.
const PAUSE: Duration = Duration::from_millis(1);
/// Sockets of dnsperf.
const CLIENTS: u32 = 4;
/// Share of the most queries at which latency is measured, too.
const MOST: f64 = 0.8;

/// What all servers are asked.
pub(super) struct Plan {
    pub(super) seconds: u64,
    /// The fixed rate.
    pub(super) queries_per_s: u64,
    hits: Questions,
    mostly_hits: Questions,
}

impl Plan {
    pub(super) fn new(seconds: u64, queries_per_s: u64) -> Self {
        let (hits, mostly_hits) = (Questions::new(hits()), Questions::new(mostly_hits()));
        Self { seconds, queries_per_s, hits, mostly_hits }
    }
}

/// What came out.
pub(super) struct Run {
    /// Queries per second that one thread of dnsperf got answered, and two.
    pub(super) by_one: f64,
    pub(super) by_two: f64,
    /// With two that nothing disturbs, where the kernel answers alone.
    pub(super) by_two_undisturbed: Option<f64>,
    /// With two, when every tenth name leads out of the cluster.
    pub(super) mostly_hits: Option<f64>,
    /// With nothing else under way.
    pub(super) alone: Percentiles,
    pub(super) at_rate: AtRate,
    /// At a share of `by_two`.
    pub(super) at_most: Percentiles,
    pub(super) program: Option<ProgramTimes>,
    pub(super) lost: u64,
}

/// Nanoseconds that the program took for a packet, in place.
#[derive(Clone, Copy)]
pub(super) struct ProgramTimes {
    /// At the fixed rate, between two queries of which the CPU does other work.
    pub(super) at_rate: f64,
    /// With as many queries as two threads send.
    pub(super) at_most: f64,
}

/// At the fixed rate, in microseconds; CPU times for each query.
pub(super) struct AtRate {
    pub(super) queries_per_s: f64,
    pub(super) latency: Percentiles,
    /// Of all CPUs, whatever they did.
    pub(super) machine_us: f64,
    /// Of dnsperf and the server: what they do within their calls, but not what
    /// the kernel does on its own.
    pub(super) processes_us: f64,
    /// Of the server's process.
    pub(super) server_us: f64,
}

/// Measures one server.
pub(super) fn measure(server: &mut Server<'_>, pod: &Pod, plan: &Plan) -> Run {
    let span = Duration::from_secs(plan.seconds);
    let mut lost = 0;
    let mut ask = |questions: &Questions, threads: u32, is_undisturbed: bool| {
        let load = Load::for_seconds(plan.seconds);
        let load = Load { threads, clients: CLIENTS, is_undisturbed, ..load };
        let report =
            Dnsperf::start_load(pod.namespace(), LOCAL_IP.into(), questions, load).finish();
        lost += report.lost;
        report
    };
    let answered = server.answered_in_kernel();
    let one = ask(&plan.hits, 1, false);
    let two = ask(&plan.hits, 2, false);
    if let (Some(before), Some(after)) = (answered, server.answered_in_kernel()) {
        let (answered, asked) = (after - before, one.completed + two.completed);
        assert!(answered >= asked, "the kernel answered {answered} of {asked}");
    }
    let by_two_undisturbed =
        server.kind.is_in_kernel().then(|| ask(&plan.hits, 2, true).queries_per_s);
    let mostly_hits = server.kind.is_real().then(|| ask(&plan.mostly_hits, 2, false).queries_per_s);
    let alone = probe(pod, span, None);
    let (at_rate, while_at_rate) = at_rate(server, pod, plan);
    let (program, while_program) = program_times(server, pod, plan);
    let rate = (two.queries_per_s * MOST) as u64;
    let (at_most, report) = under_load(pod, plan, rate);
    lost += alone.lost + while_at_rate + while_program + at_most.lost + report.lost;
    Run {
        by_one: one.queries_per_s,
        by_two: two.queries_per_s,
        by_two_undisturbed,
        mostly_hits,
        alone: alone.us,
        at_rate,
        at_most: at_most.us,
        program,
        lost,
    }
}

/// Latencies while dnsperf asks at a fixed rate, and its report.
fn under_load(pod: &Pod, plan: &Plan, rate: u64) -> (Latencies, harness::dnsperf::Report) {
    let load = Load {
        threads: 2,
        clients: CLIENTS,
        queries_per_s: Some(rate),
        ..Load::for_seconds(plan.seconds)
    };
    let dnsperf = Dnsperf::start_load(pod.namespace(), LOCAL_IP.into(), &plan.hits, load);
    let latencies = probe(pod, Duration::from_secs(plan.seconds), Some(PAUSE));
    (latencies, dnsperf.finish())
}

fn at_rate(server: &Server<'_>, pod: &Pod, plan: &Plan) -> (AtRate, u64) {
    let clocks = || (machine::busy(), of_children(), server.cpu_time());
    let before = clocks();
    let (latencies, report) = under_load(pod, plan, plan.queries_per_s);
    let after = clocks();
    let queries = (report.completed + latencies.asked) as f64;
    let us = |time: Duration| time.as_secs_f64() * 1e6 / queries;
    let (client, server) = (after.1.saturating_sub(before.1), after.2.saturating_sub(before.2));
    let result = AtRate {
        queries_per_s: report.queries_per_s,
        latency: latencies.us,
        machine_us: us(after.0.saturating_sub(before.0)),
        processes_us: us(client + server),
        server_us: us(server),
    };
    (result, report.lost + latencies.lost)
}

/// Returns the CPU time of the processes that were started here and have ended.
fn of_children() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("usage has no way to fail");
    let us = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Duration::from_micros(us.cast_unsigned())
}

/// Returns what a server's program takes in place, if it has one, and the lost
/// queries. Keeping the statistics costs time itself, so these are measurements of
/// their own.
fn program_times(server: &mut Server<'_>, pod: &Pod, plan: &Plan) -> (Option<ProgramTimes>, u64) {
    let mut lost = 0;
    let mut time = |queries_per_s| {
        let mut totals =
            || server.program().map(|program| (program.run_time(), program.run_count()));
        let before = totals()?;
        let load =
            Load { threads: 2, clients: CLIENTS, queries_per_s, ..Load::for_seconds(plan.seconds) };
        lost +=
            Dnsperf::start_load(pod.namespace(), LOCAL_IP.into(), &plan.hits, load).finish().lost;
        let after = totals()?;
        let (time, runs) = (after.0.saturating_sub(before.0), after.1 - before.1);
        (runs > 0).then(|| time.as_nanos() as f64 / runs as f64)
    };
    let statistics = enable_stats(Stats::RunTime).expect("statistics of programs");
    let times = time(Some(plan.queries_per_s)).zip(time(None));
    drop(statistics);
    (times.map(|(at_rate, at_most)| ProgramTimes { at_rate, at_most }), lost)
}
