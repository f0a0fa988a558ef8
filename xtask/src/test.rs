//! `test`: every ring that runs without a virtual machine.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::{build, progress::heading, run, setup, workspace};

/// Building the tests, then running them.
pub(crate) const LIMIT: Duration = Duration::from_mins(90);

/// Tests print the figures they measure; this shows them.
const FIGURES: &str = "--show-output";

/// What `cargo test` said about its test programs.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sums {
    programs: u64,
    passed: u64,
    failed: u64,
}

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    setup::run(setup::EVERYTHING)?;
    heading("tests");
    let agent = ["build", "--workspace", "--bin", "nodedns"];
    run::shown(&mut workspace::cargo(&agent)?, build::LIMIT)?;
    let mut cargo = workspace::cargo(&["test", "--workspace", "--no-fail-fast"])?;
    cargo.args(arguments);
    if !arguments.iter().any(|argument| argument == "--") {
        cargo.args(["--", FIGURES]);
    }
    cargo.env("NODEDNS_BIN", workspace::root().join("target/debug/nodedns"));
    let mut sums = Sums::default();
    let outcome = run::watched(&mut cargo, LIMIT, |line| sums.add(line));
    println!(
        "rings: host, kernel, network and cluster parts, in {} test programs; nothing was skipped",
        sums.programs
    );
    println!("{} passed, {} failed", sums.passed, sums.failed);
    outcome?;
    if sums.passed == 0 {
        bail!("no tests were found");
    }
    Ok(())
}

impl Sums {
    /// Adds a line such as `test result: ok. 3 passed; 0 failed; 0 ignored; …`.
    fn add(&mut self, line: &str) {
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
