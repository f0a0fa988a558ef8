//! `cargo xtask bench`: what an answer costs, next to floors measured in the
//! same run on the same machine.
#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a benchmark that cannot go on panics with a message"
)]

mod memory;
mod prog;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use harness::kernel;

/// Benchmarks of nodedns.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    bench: Bench,
    /// Print JSON instead of a table.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Bench {
    /// Nanoseconds per query in the program, by `BPF_PROG_TEST_RUN`, and what
    /// the verifier went through.
    Prog,
    /// Octets per name in the kernel.
    Memory,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if !kernel::require(kernel::DATAPATH) {
        return ExitCode::FAILURE;
    }
    match arguments.bench {
        Bench::Prog => prog::run(arguments.json),
        Bench::Memory => memory::run(arguments.json),
    }
    ExitCode::SUCCESS
}

/// The machine and the kernel that a result belongs to.
fn machine() -> String {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let field = |name: &str| {
        let line = cpus.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split(": ").nth(1)).unwrap_or("unknown").to_owned()
    };
    let count = cpus.lines().filter(|line| line.starts_with("processor")).count();
    format!(
        "Linux {}, {count} x {}",
        read("/proc/sys/kernel/osrelease").trim(),
        field("model name")
    )
}
