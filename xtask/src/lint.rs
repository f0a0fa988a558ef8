//! `lint`: form, lints of both sides, documentation, house rules.

use std::{process::Command, time::Duration};

use anyhow::{Result, bail};

use crate::{
    build::LIMIT,
    progress::heading,
    run, setup, tidy,
    tools::bpf::{self, Toolchain},
    workspace,
};

/// Formatting is quick.
const FORMAT_LIMIT: Duration = Duration::from_mins(5);

pub(crate) fn run() -> Result<()> {
    setup::run(setup::BUILD)?;
    let mut failed = Vec::new();
    let mut check = |name: &'static str, outcome: Result<()>| {
        if let Err(error) = outcome {
            eprintln!("{name}: {error:#}");
            failed.push(name);
        }
    };
    heading("format");
    check("format", run::shown(&mut workspace::cargo(&["fmt", "--all", "--check"])?, FORMAT_LIMIT));
    heading("clippy");
    // The ring `cluster` is no target of `cargo test` and so not of all targets.
    let targets = ["--all-targets", "--test", "cluster"];
    let clippy = [&["clippy", "--workspace"][..], &targets, &["--", "--deny", "warnings"]].concat();
    check("clippy", run::shown(&mut workspace::cargo(&clippy)?, LIMIT));
    heading("clippy for the BPF object");
    check("clippy for the BPF object", run::shown(&mut bpf_clippy()?, LIMIT));
    heading("documentation");
    let mut doc = workspace::cargo(&["doc", "--workspace", "--no-deps", "--quiet"])?;
    check("documentation", run::shown(doc.env("RUSTDOCFLAGS", "--deny warnings"), LIMIT));
    heading("house rules");
    check("house rules", tidy::run());
    if failed.is_empty() {
        return Ok(());
    }
    bail!("lint failed: {}", failed.join(", "))
}

/// Clippy on the code that only exists for the BPF target.
fn bpf_clippy() -> Result<Command> {
    let arguments = ["clippy", "--package", "dns-ebpf", "--bins", "--target", bpf::TARGET];
    let mut command = match bpf::choose()? {
        Toolchain::Debian => {
            let mut command = workspace::command("/usr/bin/cargo")?;
            // rustup's own variables and wrappers would lead to another compiler.
            let path = command.get_envs().find(|(name, _)| *name == "PATH");
            let path = path.and_then(|(_, value)| value).unwrap_or_default().to_owned();
            let mut first = std::ffi::OsString::from("/usr/bin:");
            first.push(path);
            command.env("PATH", first).env_remove("RUSTUP_TOOLCHAIN").env_remove("CARGO");
            command.env("RUSTC", "/usr/bin/rustc").env("RUSTC_BOOTSTRAP", bpf::UNSTABLE_CRATES);
            command.args(arguments);
            command
        }
        Toolchain::Nightly => {
            let mut command = workspace::command("rustup")?;
            command
                .args(["run", "nightly", "cargo"])
                .args(arguments)
                .args(["-Z", "build-std=core"]);
            command.env_remove("RUSTUP_TOOLCHAIN").env_remove("CARGO").env_remove("RUSTC");
            command
        }
    };
    // A folder of its own, since another compiler would void the other one.
    command.args(["--target-dir", "target/bpf", "--", "--deny", "warnings"]);
    Ok(command)
}
