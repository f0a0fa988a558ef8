//! Where the programs are that tests start.

use std::{
    env,
    path::{Path, PathBuf},
};

/// Finds a program in the folder of `cargo xtask setup`, then in PATH.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    // Administrators' programs are not in everybody's PATH.
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    cache()
        .map(|cache| cache.join("bin"))
        .into_iter()
        .chain(env::split_paths(&path))
        .chain(system)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// Finds a program or panics with how to get it.
pub fn expect(program: &str) -> PathBuf {
    find(program).unwrap_or_else(|| panic!("{program} is not here; run `cargo xtask setup`"))
}

/// The folder in which `cargo xtask setup` keeps what it built.
fn cache() -> Option<PathBuf> {
    if let Some(folder) = env::var_os("NODEDNS_CACHE") {
        return Some(PathBuf::from(folder));
    }
    let home = match env::var_os("XDG_CACHE_HOME") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(&env::var_os("HOME")?).join(".cache"),
    };
    Some(home.join("nodedns"))
}
