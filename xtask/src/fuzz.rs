//! `fuzz`: any octets, given to the code that reads what others wrote
//! (`tests/harness/fuzz` says which, and what has to hold).

use std::{fs, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};

use crate::{progress::heading, run, setup, workspace};

/// Every target.
const TARGETS: [&str; 6] = ["datapath", "messages", "responses", "kept", "corefiles", "manifests"];
/// Building, besides the time that was asked for.
const LIMIT: Duration = Duration::from_hours(1);
/// Octets of an input at most.
const INPUT_MAX: u32 = 4096;

/// Fuzzes one target, or one after the other, for so many seconds each. What makes
/// one fail is left in its corpus; with `keep`, what reached new code is too.
pub(crate) fn run(target: Option<&str>, seconds: u32, keep: bool) -> Result<()> {
    let targets = match target {
        None => TARGETS.to_vec(),
        Some(name) => {
            let target = TARGETS.into_iter().find(|target| *target == name);
            vec![target.with_context(|| format!("{name} is none of {}", TARGETS.join(", ")))?]
        }
    };
    setup::run(setup::FUZZ)?;
    let mut failed = Vec::new();
    for target in targets {
        heading(&format!("fuzzing {target}"));
        let kept = format!("tests/corpus/{target}");
        let found = format!("target/fuzz/found/{target}");
        fs::create_dir_all(workspace::root().join(&found))?;
        // First, so that what does not compile is not taken for a finding.
        run::shown(&mut cargo_fuzz("build", target)?, LIMIT)?;
        let mut fuzz = cargo_fuzz("run", target)?;
        fuzz.args([&found, &kept]).arg("--");
        fuzz.arg(format!("-artifact_prefix={kept}/"));
        fuzz.arg(format!("-max_total_time={seconds}")).arg(format!("-max_len={INPUT_MAX}"));
        fuzz.args(["-timeout=10", "-print_final_stats=1"]);
        let words = workspace::root().join(format!("tests/fuzz/dictionaries/{target}.dict"));
        if words.exists() {
            fuzz.arg(format!("-dict={}", words.display()));
        }
        if let Err(error) = run::shown(&mut fuzz, LIMIT + Duration::from_secs(seconds.into())) {
            eprintln!("{target}: {error:#}; the input is in {kept}");
            failed.push(target);
        } else if keep {
            run::shown(cargo_fuzz("run", target)?.args([&kept, &found, "--", "-merge=1"]), LIMIT)?;
        }
    }
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}

fn cargo_fuzz(verb: &str, target: &str) -> Result<Command> {
    let mut command = workspace::command("rustup")?;
    command.args(["run", "nightly", "cargo", "fuzz", verb, "--fuzz-dir", "tests/fuzz"]);
    command.args(["--target-dir", "target/fuzz", target]);
    // With all that is in these programs, finding the lines takes longer than an input may.
    command.env("RUST_BACKTRACE", "0");
    command.env_remove("RUSTUP_TOOLCHAIN").env_remove("CARGO").env_remove("RUSTC");
    Ok(command)
}
