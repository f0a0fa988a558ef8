//! Where things are, and the cargo commands of this workspace.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

/// Returns the workspace's root.
pub(crate) fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// Returns the folder for everything that is built or logged but belongs to no
/// checkout: `NODEDNS_CACHE`, else `XDG_CACHE_HOME/nodedns`, else
/// `~/.cache/nodedns`. The agent's build script and the test harness look in
/// its `bin` by the same rule.
pub(crate) fn cache() -> Result<PathBuf> {
    if let Some(folder) = env::var_os("NODEDNS_CACHE") {
        return Ok(PathBuf::from(folder));
    }
    if let Some(folder) = env::var_os("XDG_CACHE_HOME") {
        return Ok(Path::new(&folder).join("nodedns"));
    }
    let home = env::var_os("HOME").context("neither NODEDNS_CACHE nor HOME is set")?;
    Ok(Path::new(&home).join(".cache/nodedns"))
}

/// Returns the folder of the tools that set-up built.
pub(crate) fn cache_bin() -> Result<PathBuf> {
    Ok(cache()?.join("bin"))
}

/// Returns a command whose PATH begins with the folder of the built tools.
pub(crate) fn command(program: &str) -> Result<Command> {
    let path = env::var_os("PATH").unwrap_or_default();
    // Administrators' programs are not in everybody's PATH.
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    let path = [cache_bin()?].into_iter().chain(env::split_paths(&path)).chain(system);
    let mut command = Command::new(program);
    command.current_dir(root()).env("PATH", env::join_paths(path)?);
    Ok(command)
}

/// Returns a cargo command that fails where a BPF object or a kernel test
/// would otherwise be left out.
pub(crate) fn cargo(arguments: &[&str]) -> Result<Command> {
    let mut command = command("cargo")?;
    command.args(arguments);
    command.env("NODEDNS_REQUIRE_BPF", "1").env("NODEDNS_REQUIRE_KERNEL", "1");
    // What cargo says about xtask would make build scripts run anew, each time that
    // somebody calls cargo with it and without.
    for (name, _) in env::vars_os() {
        let about_xtask = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"];
        if about_xtask.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    Ok(command)
}
