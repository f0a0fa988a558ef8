//! Names of what tests make, and the end of what a killed test left behind.

use std::{
    fs,
    os::linux::fs::MetadataExt as _,
    path::Path,
    process,
    sync::{
        Once,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{kernel::BPFFS, nodes::cgroups, process::run, tools, wait::poll_until};

/// Where iproute2 keeps named network namespaces.
pub(crate) const NETNS: &str = "/run/netns";

/// First part of every name, so that nothing else is ever touched.
const MARK: &str = "nodedns-test";

static COUNTER: AtomicU32 = AtomicU32::new(0);
static SWEPT: Once = Once::new();

/// Returns a name that nothing else on this machine has.
/// The first call also removes what tests that no longer run left behind.
pub fn unique_name(prefix: &str) -> String {
    SWEPT.call_once(sweep);
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    format!("{MARK}-{}-{number}-{prefix}", process::id())
}

/// Removes namespaces, pins and cgroups of tests whose process is gone.
fn sweep() {
    for name in leftovers(Path::new(NETNS)) {
        remove_namespace(&name);
    }
    for name in leftovers(Path::new(BPFFS)) {
        drop(fs::remove_dir_all(Path::new(BPFFS).join(name)));
    }
    for root in cgroups::hierarchies() {
        for name in leftovers(&root) {
            cgroups::remove(&root.join(name));
        }
    }
}

/// Lists entries of `folder` that belong to a test whose process is gone.
fn leftovers(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let is_orphan = |name: &String| {
        let owner = name.strip_prefix(MARK).and_then(|rest| rest.split('-').nth(1));
        let owner = owner.and_then(|pid| pid.parse::<u32>().ok());
        owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
    };
    names.filter(is_orphan).collect()
}

/// Ends what runs in a namespace of ours, then removes it.
pub(crate) fn remove_namespace(name: &str) {
    let path = Path::new(NETNS).join(name);
    let Ok(inode) = fs::metadata(&path).map(|file| file.st_ino()) else { return };
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        let inside = processes_in(inode);
        for pid in &inside {
            // One that has just ended cannot be signalled, and need not be.
            kill(*pid, signal).unwrap_or_default();
        }
        if inside.is_empty()
            || poll_until(Duration::from_secs(2), || processes_in(inode).is_empty())
        {
            break;
        }
    }
    let mut ip = process::Command::new(tools::expect("ip"));
    drop(run(ip.args(["netns", "delete", name])));
}

/// Lists the processes whose network namespace has that inode, without the
/// dead ones that only wait to be reaped.
fn processes_in(inode: u64) -> Vec<Pid> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_inside = |pid: &i32| {
        fs::metadata(format!("/proc/{pid}/ns/net")).is_ok_and(|file| file.st_ino() == inode)
    };
    pids.filter(is_inside).map(Pid::from_raw).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_carry_the_process() {
        let (one, other) = (unique_name("a"), unique_name("a"));
        assert_ne!(one, other);
        assert!(one.starts_with(&format!("{MARK}-{}-", process::id())), "{one}");
    }

    #[test]
    fn only_what_orphans_left_is_swept() {
        let folder = tempfile::tempdir().unwrap();
        let own = unique_name("x");
        // No process has a PID above the kernel's limit of 2^22.
        let orphan = format!("{MARK}-4999999-0-x");
        for name in [own.as_str(), &orphan, "somebody-elses", MARK] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        assert_eq!(leftovers(folder.path()), [orphan]);
    }
}
