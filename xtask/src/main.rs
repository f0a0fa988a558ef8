//! The verbs of the project: `cargo xtask VERB`.
//!
//! A verb sets up what it needs ([`setup`]), then runs it ([`run`]).
//! Nothing but a Rust toolchain is needed to build this program.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bench;
mod build;
mod ci;
mod cluster;
mod demo;
mod fuzz;
mod image;
mod kernels;
mod lint;
mod progress;
mod run;
mod setup;
mod test;
mod tidy;
mod tools;
mod workspace;

/// Builds, tests and shows nodedns. Each verb does its own set-up.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
struct Arguments {
    /// What to do.
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Find or install everything that the other verbs need.
    Setup,
    /// Build the agent with its BPF object: target/debug/nodedns or target/release/nodedns.
    Build {
        /// Optimised.
        #[arg(long)]
        release: bool,
    },
    /// Show a node whose pods are answered in the kernel.
    Demo {
        /// Keep it for playing until Enter is pressed.
        #[arg(long)]
        stay: bool,
    },
    /// Run all tests; the last line says how many passed and failed.
    Test {
        /// Run the programs' tests on these kernels instead, each in a virtual machine; on all
        /// that are known when none is named.
        #[arg(long, value_name = "VERSION,...", num_args = 0..=1, value_delimiter = ',')]
        kernels: Option<Vec<String>>,
        /// Run the tests on a cluster with two nodes instead, with the image and the manifests.
        #[arg(long, conflicts_with = "kernels")]
        cluster: bool,
        /// On one cluster only, and the least of it, without building the image.
        #[arg(long, requires = "cluster", conflicts_with = "arguments")]
        briefly: bool,
        /// Passed on to `cargo test`: names of tests, flags behind `--`; on other kernels
        /// they choose in the same way.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Pack the agent into a container image, as an archive: target/image/nodedns-VERSION.tar.
    Image {
        /// Name and tag, with the registry that it will be pushed to [default: nodedns:VERSION].
        #[arg(long, value_name = "NAME:TAG")]
        name: Option<String>,
    },
    /// Look for inputs that break the code that reads what others wrote.
    Fuzz {
        /// Only this target.
        target: Option<String>,
        /// For how long, each.
        #[arg(long, default_value_t = 120)]
        seconds: u32,
        /// Keep what reached new code, in the corpus that tests try again.
        #[arg(long)]
        keep: bool,
    },
    /// Check form, lints, documentation and house rules.
    Lint,
    /// What the build server runs: set-up, lint, test, a few tests on two kernels.
    Ci,
    /// Measure.
    Bench {
        /// Passed on to the benchmark.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

fn main() -> ExitCode {
    let done = match Arguments::parse().verb {
        Verb::Setup => setup::run(setup::EVERYTHING),
        Verb::Build { release } => build::run(release),
        Verb::Demo { stay } => demo::run(stay),
        Verb::Test { briefly: true, .. } => cluster::run_brief().and_then(|sums| sums.conclude()),
        Verb::Test { cluster: true, arguments, .. } => {
            cluster::run(&arguments).and_then(|sums| sums.conclude())
        }
        Verb::Test { kernels, arguments, .. } => test::run(&arguments, kernels.as_deref()),
        Verb::Image { name } => image::run(name.as_deref()).map(drop),
        Verb::Fuzz { target, seconds, keep } => fuzz::run(target.as_deref(), seconds, keep),
        Verb::Lint => lint::run(),
        Verb::Ci => ci::run(),
        Verb::Bench { arguments } => bench::run(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
