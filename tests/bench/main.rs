//! `cargo xtask bench`: what an answer costs, next to floors measured in the
//! same run on the same machine.
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "figures for people, far from the limits of their types"
)]
#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a benchmark that cannot go on panics with a message"
)]

mod machine;
mod report;

mod attached;
mod test_run;

mod idle;
mod map;
mod memory;
mod prog;
mod scale;
mod veth;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use dns_user::args::Output;
use harness::kernel;

/// Benchmarks of nodedns.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    bench: Bench,
    /// Form of the output.
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Subcommand)]
enum Bench {
    /// Nanoseconds per query in the program, by `BPF_PROG_TEST_RUN`, and what
    /// the verifier went through.
    Prog,
    /// What a hit costs more as the number of names grows.
    Map(map::Arguments),
    /// What packets cost that are not DNS.
    Idle(idle::Arguments),
    /// Queries from a pod: rate, latency and CPU time, against floors and CoreDNS.
    Veth(veth::Arguments),
    /// Octets per name in the kernel.
    Memory,
    /// A large cluster: time until it is known, memory, and many changes a second.
    Scale(scale::Arguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if !kernel::require(kernel::DATAPATH) {
        return ExitCode::FAILURE;
    }
    let json = arguments.output == Output::Json;
    match arguments.bench {
        Bench::Prog => prog::run(json),
        Bench::Map(arguments) => map::run(&arguments, json),
        Bench::Idle(arguments) => idle::run(&arguments, json),
        Bench::Veth(arguments) => veth::run(&arguments, json),
        Bench::Memory => memory::run(json),
        Bench::Scale(arguments) => scale::run(&arguments, json),
    }
    ExitCode::SUCCESS
}
