//! Keeps this machine's paths out of the BPF object, whose BTF names source files: the
//! nested cargo calls rustc through this very build script, which says what stands
//! for them. aya-build decides the flags of rustc, and leaves no other way.

use std::{
    env,
    ffi::OsString,
    io,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};

/// Makes the nested cargo call rustc through this program.
pub(super) fn wrap_rustc() -> io::Result<(&'static str, OsString)> {
    Ok(("RUSTC_WRAPPER", env::current_exe()?.into_os_string()))
}

/// Becomes rustc when this program was called in its place, which is with its path and
/// arguments; otherwise there are none.
pub(super) fn become_rustc() -> anyhow::Result<()> {
    let mut words = env::args_os().skip(1);
    let Some(rustc) = words.next() else { return Ok(()) };
    // Of `rustc -vV` and the like the output is all that counts.
    let mut command = Command::new(&rustc);
    command.args(words).args(replacements()?);
    bail!("{} does not start: {}", rustc.display(), command.exec())
}

/// Returns the flags that put names in the place of folders.
fn replacements() -> anyhow::Result<Vec<OsString>> {
    let home = |variable: &str, folder: &str| {
        let home = || Some(PathBuf::from(env::var_os("HOME")?).join(folder));
        env::var_os(variable).map(PathBuf::from).or_else(home)
    };
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("a workspace")?;
    let folders = [
        (home("CARGO_HOME", ".cargo"), "cargo"),
        (home("RUSTUP_HOME", ".rustup"), "rustup"),
        (Some(workspace.to_owned()), "nodedns"),
    ];
    let flag = |(folder, name): (Option<PathBuf>, &str)| {
        let mut flag = OsString::from("--remap-path-prefix=");
        flag.push(folder?);
        flag.push("=");
        flag.push(name);
        Some(flag)
    };
    Ok(folders.into_iter().filter_map(flag).collect())
}
