//! The machine and the kernel that a result belongs to, and what else they do.

use std::{fmt, fs, thread, time::Duration};

use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::{Pid, SysconfVar, sysconf},
};
use serde::Serialize;

/// How long the machine is watched before a benchmark.
const WATCHED: Duration = Duration::from_millis(500);

/// What a result depends on.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    kernel: String,
    cpus: usize,
    cpu: String,
    clock_source: String,
    governor: Option<String>,
    /// How the kernel deals with faults of the processor that cost time.
    mitigations: Vec<String>,
    /// CPUs that other work kept busy just before.
    busy_cpus: f64,
}

impl Machine {
    /// Looks at the machine, and for half a second at what else it does.
    pub(crate) fn look() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let cpus = read("/proc/cpuinfo");
        let model = cpus.lines().find(|line| line.starts_with("model name"));
        let model = model.and_then(|line| line.split(": ").nth(1)).unwrap_or("unknown");
        let governor = read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
        let before = busy();
        thread::park_timeout(WATCHED);
        Self {
            kernel: read("/proc/sys/kernel/osrelease"),
            cpus: cpus.lines().filter(|line| line.starts_with("processor")).count(),
            cpu: model.to_owned(),
            clock_source: read("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
            governor: (!governor.is_empty()).then_some(governor),
            mitigations: mitigations(),
            busy_cpus: busy().saturating_sub(before).as_secs_f64() / WATCHED.as_secs_f64(),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kernel, cpus, cpu, clock_source, governor, mitigations, busy_cpus } = self;
        let governor = governor.as_deref().unwrap_or("none");
        writeln!(f, "Linux {kernel}, {cpus} x {cpu}, clock {clock_source}, governor {governor}")?;
        for mitigation in mitigations {
            writeln!(f, "  {mitigation}")?;
        }
        write!(f, "other work before this benchmark: {busy_cpus:.2} of {cpus} CPUs")
    }
}

fn mitigations() -> Vec<String> {
    let folder = fs::read_dir("/sys/devices/system/cpu/vulnerabilities");
    let mut lines: Vec<_> = folder.into_iter().flatten().filter_map(Result::ok).collect();
    lines.sort_by_key(fs::DirEntry::file_name);
    let line = |entry: fs::DirEntry| {
        let text = fs::read_to_string(entry.path()).ok()?;
        let text = text.trim();
        (text != "Not affected").then(|| format!("{}: {text}", entry.file_name().display()))
    };
    lines.into_iter().filter_map(line).collect()
}

/// Returns the time that all CPUs together have worked (`proc_stat(5)`), with a
/// resolution of 10 ms for each.
pub(crate) fn busy() -> Duration {
    let stat = fs::read_to_string("/proc/stat").expect("/proc/stat");
    let all = stat.lines().next().unwrap_or_default().split_whitespace().skip(1);
    let ticks: Vec<u64> = all.filter_map(|field| field.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq; time of guests is in user.
    let worked = [0, 1, 2, 5, 6].iter().filter_map(|field| ticks.get(*field)).sum::<u64>();
    let a_second = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100);
    Duration::from_secs_f64(worked as f64 / a_second as f64)
}

/// Returns the CPU time of a process's threads, to the nanosecond
/// (`Documentation/scheduler/sched-stats.rst`).
pub(crate) fn cpu_time(pid: u32) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"));
    let of_task = |task: fs::DirEntry| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    };
    let tasks = tasks.into_iter().flatten().filter_map(Result::ok);
    Duration::from_nanos(tasks.filter_map(of_task).sum())
}

/// Keeps the calling thread on the last CPU.
pub(crate) fn pin() {
    let last = thread::available_parallelism().map_or(0, |cpus| cpus.get() - 1);
    let mut cpus = CpuSet::new();
    let pinned = cpus.set(last).and_then(|()| sched_setaffinity(Pid::from_raw(0), &cpus));
    if let Err(error) = pinned {
        eprintln!("cannot stay on one CPU ({error}): figures are less even");
    }
}
