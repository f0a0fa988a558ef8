//! A node's folder in the cgroups of this machine.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::sys::statfs::{CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, statfs};

use crate::{sweep::unique_name, wait::poll_until};

/// Where cgroups are mounted.
const ROOT: &str = "/sys/fs/cgroup";
/// How long the kernel may take to let go of the last process.
const GRACE: Duration = Duration::from_secs(10);

/// One folder in every hierarchy. Dropping it removes them, which fails while
/// processes are in them.
#[derive(Debug)]
pub(crate) struct Cgroups {
    name: String,
}

impl Cgroups {
    /// Makes the folders.
    #[track_caller]
    pub(crate) fn new(suffix: &str) -> Self {
        let cgroups = Self { name: unique_name(suffix) };
        for root in hierarchies() {
            let folder = root.join(&cgroups.name);
            fs::create_dir(&folder).expect("a cgroup can be made");
            // Of version 1 only: without these no process may enter.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                if let Ok(value) = fs::read(root.join(file)) {
                    drop(fs::write(folder.join(file), value));
                }
            }
        }
        cgroups
    }

    /// Returns the name of the folders.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        for root in hierarchies() {
            let folder = root.join(&self.name);
            poll_until(GRACE, || {
                remove(&folder);
                !folder.exists()
            });
        }
    }
}

/// Returns the mounted hierarchies: one of version 2, or several.
pub(crate) fn hierarchies() -> Vec<PathBuf> {
    let is_cgroup = |path: &PathBuf| {
        let kind = statfs(path).map(|info| info.filesystem_type());
        kind.is_ok_and(|kind| kind == CGROUP_SUPER_MAGIC || kind == CGROUP2_SUPER_MAGIC)
    };
    let root = PathBuf::from(ROOT);
    if is_cgroup(&root) {
        return vec![root];
    }
    let entries = fs::read_dir(&root).into_iter().flatten().flatten();
    // Some are links to others.
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.map(|entry| entry.path()).filter(is_cgroup).collect()
}

/// Removes a tree of cgroups, the inner ones first.
pub(crate) fn remove(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    drop(fs::remove_dir(folder));
}
