//! Compiler and linker of the BPF object, in either of two ways; what else is a
//! program of crates.io.

use std::{env, path::Path, process::Command, time::Duration};

use anyhow::{Context as _, Result, bail};

use crate::{
    progress::{Step, found},
    run,
    tools::{BPF_LINKER, CARGO_FUZZ, Tool, apt, find},
    workspace,
};

/// The target of the programs.
pub(crate) const TARGET: &str = "bpfel-unknown-none";
/// The crates that use unstable features, for `RUSTC_BOOTSTRAP`.
pub(crate) const UNSTABLE_CRATES: &str = "aya_ebpf,dns_ebpf";

/// Variable that chooses; the agent's build script reads it as well.
const CHOICE: &str = "NODEDNS_BPF_TOOLCHAIN";
/// bpf-linker takes 2 min on 2 cores.
const LIMIT: Duration = Duration::from_hours(1);

/// Where Debian keeps `core` for the target.
const DEBIAN_CORE: &str = "/usr/lib/rustlib/bpfel-unknown-none";
const DEBIAN_PACKAGES: &[&str] = &[
    "rustc-web",
    "cargo-web",
    "rust-web-src",
    "libstd-rust-web-dev-bpf",
    "rust-web-clippy",
    "llvm-22-dev",
];

/// LLVM versions that bpf-linker knows and that read what the compilers write.
const LLVM_VERSIONS: [u32; 2] = [22, 23];

/// What compiles the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Toolchain {
    /// Debian's rustc with a prebuilt `core` for BPF.
    Debian,
    /// rustup's nightly, which compiles `core` from its sources.
    Nightly,
}

/// Chooses: what the variable says, else what is here, else what can be had.
pub(crate) fn choose() -> Result<Toolchain> {
    match env::var(CHOICE).unwrap_or_default().as_str() {
        "" => {}
        "debian" => return Ok(Toolchain::Debian),
        "nightly" => return Ok(Toolchain::Nightly),
        other => bail!("{CHOICE} is {other:?}; it may be debian or nightly"),
    }
    if Path::new(DEBIAN_CORE).is_dir() && Path::new("/usr/bin/cargo").is_file() {
        return Ok(Toolchain::Debian);
    }
    if has_nightly() {
        return Ok(Toolchain::Nightly);
    }
    let is_packaged = apt::has_candidate("libstd-rust-web-dev-bpf")?;
    Ok(if is_packaged { Toolchain::Debian } else { Toolchain::Nightly })
}

/// Finds or installs the chosen toolchain and the linker.
pub(crate) fn install() -> Result<()> {
    let toolchain = choose()?;
    let name = match toolchain {
        Toolchain::Debian => {
            apt::install_packages(DEBIAN_PACKAGES)?;
            "Debian's rustc"
        }
        Toolchain::Nightly => {
            install_nightly()?;
            "rustup's nightly"
        }
    };
    found(&format!("BPF toolchain: {name} ({CHOICE}=debian or nightly overrides)"));
    install_linker()
}

/// Says whether rustup has a nightly with the sources of `core`.
fn has_nightly() -> bool {
    let mut command = Command::new("rustup");
    command.args(["run", "nightly", "rustc", "--print", "sysroot"]);
    command.env_remove("RUSTC").env_remove("RUSTUP_TOOLCHAIN");
    run::answer(&mut command).is_some_and(|sysroot| {
        Path::new(&sysroot).join("lib/rustlib/src/rust/library/core").is_dir()
    })
}

fn install_nightly() -> Result<()> {
    if has_nightly() {
        return Ok(());
    }
    if find("rustup").is_none() {
        bail!(
            "rustup is not in PATH: install it (https://rustup.rs), \
             or choose Debian's packages with {CHOICE}=debian"
        );
    }
    let step = Step::start("installing rustup's nightly toolchain with rust-src and clippy");
    let mut rustup = workspace::command("rustup")?;
    rustup.args(["toolchain", "install", "nightly", "--profile", "minimal"]);
    rustup.args(["--component", "rust-src", "--component", "clippy"]);
    run::logged("rustup", &mut rustup, LIMIT)?;
    step.done();
    Ok(())
}

fn install_linker() -> Result<()> {
    install_crate(BPF_LINKER, |cargo| {
        if let Some((version, prefix)) = llvm() {
            cargo.args(["--no-default-features", "--features", &format!("llvm-{version}")]);
            cargo.env("LLVM_PREFIX", prefix);
        }
    })
}

/// Installs what fuzzes, and the compiler that it needs.
pub(crate) fn install_fuzzer() -> Result<()> {
    install_nightly()?;
    install_crate(CARGO_FUZZ, |_| {})
}

/// Builds a program with cargo, unless this version is here.
fn install_crate(tool: Tool, adjust: impl FnOnce(&mut Command)) -> Result<()> {
    if !tool.is_built()? {
        let step = Step::start(&format!("building {tool}"));
        let mut cargo = workspace::command("cargo")?;
        cargo.args(["install", tool.name, "--version", tool.version, "--root"]);
        cargo.arg(tool.folder()?);
        adjust(&mut cargo);
        let built = run::logged(tool.name, &mut cargo, LIMIT);
        built.with_context(|| format!("{tool} was not built"))?;
        step.done();
    }
    tool.publish()?;
    found(&tool.to_string());
    Ok(())
}

/// Finds an LLVM that bpf-linker can be built with, where Debian and Ubuntu
/// put it; elsewhere the crate's own default looks for one.
fn llvm() -> Option<(u32, String)> {
    let prefix = |version| (version, format!("/usr/lib/llvm-{version}"));
    let has_headers =
        |(_, prefix): &(u32, String)| Path::new(prefix).join("include/llvm-c").is_dir();
    LLVM_VERSIONS.map(prefix).into_iter().find(has_headers)
}
