//! `test`: every ring, on this machine's kernel or on others.

use std::{process::Command, time::Duration};

use anyhow::{Result, bail};

use crate::{build, kernels, progress::heading, run, setup, tools, workspace};

/// Building the tests, then running them.
pub(crate) const LIMIT: Duration = Duration::from_mins(90);

/// Tests print the figures they measure; this shows them.
const FIGURES: &str = "--show-output";

/// What `cargo test` said about its test programs.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) programs: u64,
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

/// Runs the tests on this machine, or on other kernels; the last line says how
/// many passed and failed.
pub(crate) fn run(arguments: &[String], kernels: Option<&[String]>) -> Result<()> {
    match kernels {
        Some([]) => kernels::run(&tools::kernels::ALL.map(str::to_owned), arguments)?.conclude(),
        Some(lines) => kernels::run(lines, arguments)?.conclude(),
        None => here(arguments)?.conclude(),
    }
}

/// Runs every test that this machine's own kernel can.
pub(crate) fn here(arguments: &[String]) -> Result<Sums> {
    setup::run(setup::EVERYTHING)?;
    heading("tests");
    let agent = ["build", "--workspace", "--bin", "nodedns"];
    run::shown(&mut workspace::cargo(&agent)?, build::LIMIT)?;
    let mut cargo = workspace::cargo(&["test", "--workspace", "--no-fail-fast"])?;
    cargo.env("NODEDNS_BIN", workspace::root().join("target/debug/nodedns"));
    let sums = watch(&mut cargo, arguments);
    println!(
        "rings: host, kernel, network and cluster parts, in {} test programs; nothing was skipped",
        sums.programs
    );
    Ok(sums)
}

/// Runs `cargo test` with these arguments and adds up what it says.
pub(crate) fn watch(cargo: &mut Command, arguments: &[String]) -> Sums {
    cargo.args(arguments);
    if !arguments.iter().any(|argument| argument == "--") {
        cargo.args(["--", FIGURES]);
    }
    let mut sums = Sums::default();
    if let Err(error) = run::watched(cargo, LIMIT, |line| sums.add(line)) {
        eprintln!("{error:#}");
        // Such as one that does not compile.
        sums.failed = sums.failed.max(1);
    }
    sums
}

impl Sums {
    /// Prints the sums; fails unless all passed.
    pub(crate) fn conclude(&self) -> Result<()> {
        println!("{} passed, {} failed", self.passed, self.failed);
        if self.passed == 0 {
            bail!("no tests were found");
        }
        if self.failed > 0 {
            bail!("{} tests failed", self.failed);
        }
        Ok(())
    }

    /// Adds those of other tests.
    pub(crate) fn add_all(&mut self, other: &Self) {
        self.programs += other.programs;
        self.passed += other.passed;
        self.failed += other.failed;
    }

    /// Adds a line such as `test result: ok. 3 passed; 0 failed; 0 ignored; …`.
    pub(crate) fn add(&mut self, line: &str) {
        let Some(result) = line.strip_prefix("test result: ") else { return };
        self.programs += 1;
        for part in result.split(['.', ';']) {
            let mut words = part.split_whitespace();
            let number = words.next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
            match words.next() {
                Some("passed") => self.passed += number,
                Some("failed") => self.failed += number,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_summed() {
        let mut sums = Sums::default();
        for line in [
            "running 3 tests",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s",
            "test result: FAILED. 40 passed; 2 failed; 0 ignored; 0 measured; 7 filtered out; finished in 9.99s",
        ] {
            sums.add(line);
        }
        assert_eq!(sums, Sums { programs: 2, passed: 43, failed: 2 });
    }
}
