//! Finds what compiles and links the BPF object.

use std::{
    env, io,
    path::{Path, PathBuf},
    process::Command,
};

use aya_build::Toolchain;

use super::paths;

/// Variable that chooses a toolchain: `debian` or `nightly`.
pub(super) const CHOICE: &str = "NODEDNS_BPF_TOOLCHAIN";

/// Where Debian's `libstd-rust-web-dev-bpf` puts `core` for the target.
const DEBIAN_CORE: &str = "/usr/lib/rustlib/bpfel-unknown-none";

const ADVICE: &str = "run `cargo xtask setup`, which finds or installs it";

/// A toolchain that can build the object.
pub(super) enum Found {
    /// Debian's rustc with a prebuilt `core` for BPF.
    Debian,
    /// rustup's nightly with its sources; aya-build compiles `core`.
    Nightly,
}

impl Found {
    /// Sets what the nested cargo has to find in its environment.
    pub(super) fn prepare(&self) -> io::Result<()> {
        let mut variables = vec![("CARGO_TERM_QUIET", "true".into()), paths::wrap_rustc()?];
        if let Self::Debian = self {
            // The crates that use unstable features. A list rather than "1":
            // with "1" aya-build would compile `core` itself.
            variables.push(("RUSTC_BOOTSTRAP", "aya_ebpf,dns_ebpf".into()));
        }
        let path = env::var_os("PATH").unwrap_or_default();
        let path = env::join_paths(cache_bin().into_iter().chain(env::split_paths(&path)));
        if let Ok(path) = path {
            variables.push(("PATH", path));
        }
        for (name, value) in variables {
            // SAFETY: the build script has one thread.
            unsafe { env::set_var(name, value) };
        }
        Ok(())
    }

    /// Returns the same in aya-build's terms.
    pub(super) fn for_aya(&self) -> Toolchain<'static> {
        match self {
            Self::Debian => Toolchain::Custom("/usr"),
            Self::Nightly => Toolchain::Nightly,
        }
    }
}

/// Finds a toolchain and bpf-linker, or says what is missing and how to get it.
pub(super) fn find() -> Result<Found, String> {
    let linker = cache_bin()
        .into_iter()
        .chain(env::split_paths(&env::var_os("PATH").unwrap_or_default()))
        .map(|folder| folder.join("bpf-linker"))
        .find(|file| file.is_file());
    let Some(linker) = linker else {
        // A file that is not there makes cargo run this script again.
        println!("cargo::rerun-if-changed=/nonexistent/bpf-linker");
        return Err(format!("bpf-linker is not in PATH; {ADVICE}"));
    };
    println!("cargo::rerun-if-changed={}", linker.display());
    let choice = env::var(CHOICE).unwrap_or_default();
    let found = match choice.as_str() {
        "" => is_debian().then_some(Found::Debian).or(is_nightly().then_some(Found::Nightly)),
        "debian" => is_debian().then_some(Found::Debian),
        "nightly" => is_nightly().then_some(Found::Nightly),
        other => return Err(format!("{CHOICE} is {other:?}; it may be debian or nightly")),
    };
    found.ok_or_else(|| {
        println!("cargo::rerun-if-changed={DEBIAN_CORE}");
        format!("no Rust toolchain for BPF programs; {ADVICE}")
    })
}

fn is_debian() -> bool {
    Path::new(DEBIAN_CORE).is_dir() && Path::new("/usr/bin/cargo").is_file()
}

fn is_nightly() -> bool {
    let sysroot = Command::new("rustup")
        .args(["run", "nightly", "rustc", "--print", "sysroot"])
        .env_remove("RUSTC")
        .env_remove("RUSTUP_TOOLCHAIN")
        .output();
    sysroot.is_ok_and(|output| {
        output.status.success()
            && Path::new(String::from_utf8_lossy(&output.stdout).trim())
                .join("lib/rustlib/src/rust/library/core")
                .is_dir()
    })
}

/// Where `cargo xtask setup` puts its tools.
fn cache_bin() -> Option<PathBuf> {
    let cache = env::var_os("NODEDNS_CACHE").map(PathBuf::from).or_else(|| {
        let home = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let home = home.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache")))?;
        Some(home.join("nodedns"))
    })?;
    Some(cache.join("bin"))
}
