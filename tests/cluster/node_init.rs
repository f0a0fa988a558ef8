//! The first process of a node: mounts what a node has of its own, then waits
//! for processes whose parents have ended.
//!
//! It is started in mount, PID, UTS, IPC and network namespaces of its own, and
//! takes the name of the node.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::{
        signal::{SigSet, Signal},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::sethostname,
};

/// Folders that are the node's own, in memory.
const OWN: [&str; 4] = ["/opt", "/run", "/var/lib", "/var/log"];
/// Folders that are expected to be there.
const EXPECTED: [&str; 5] =
    ["/run/netns", "/run/cgroup", "/run/sysctl", "/var/lib/kubelet", "/var/log/pods"];
/// What the kubelet sets. The kernel has each of them once, for all nodes and for
/// this machine, so a node has a file in its place.
const SYSCTLS: [&str; 6] = [
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
];
/// What a node has to allow.
const FORWARDING: [&str; 2] = ["net/ipv4/ip_forward", "net/bridge/bridge-nf-call-iptables"];

fn main() -> Result<()> {
    let hostname = std::env::args_os().nth(1).context("usage: node-init HOSTNAME")?;
    sethostname(hostname)?;
    // Else SIGCHLD is lost while nobody waits for it.
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGCHLD);
    signals.thread_block()?;
    mount_all()?;
    for name in FORWARDING {
        let path = sysctl(name);
        if path.exists() {
            fs::write(&path, "1").with_context(|| format!("cannot set {name}"))?;
        }
    }
    println!("ready");
    loop {
        signals.wait()?;
        while !matches!(
            waitpid(None, Some(WaitPidFlag::WNOHANG)),
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD)
        ) {}
    }
}

fn mount_all() -> Result<()> {
    // Shared among the mounts of this node and its containers, and not with the
    // machine's: `unshare` has made all private.
    change("/", MsFlags::MS_REC | MsFlags::MS_SHARED)?;
    for folder in OWN {
        mount_new("tmpfs", folder)?;
    }
    for folder in EXPECTED {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {folder}"))?;
    }
    // The network namespace's own /sys, with the machine's cgroups.
    bind("/sys/fs/cgroup", "/run/cgroup")?;
    mount_new("sysfs", "/sys")?;
    bind("/run/cgroup", "/sys/fs/cgroup")?;
    // Or else unmounting one would unmount the other.
    change("/run/cgroup", MsFlags::MS_REC | MsFlags::MS_PRIVATE)?;
    umount2("/run/cgroup", MntFlags::MNT_DETACH)?;
    mount_new("bpf", "/sys/fs/bpf")?;
    for name in SYSCTLS {
        let path = sysctl(name);
        let file = Path::new("/run/sysctl").join(name.replace('/', "."));
        let value = fs::read(&path).with_context(|| format!("cannot read {name}"))?;
        fs::write(&file, value)?;
        bind(&file, &path)?;
    }
    Ok(())
}

fn sysctl(name: &str) -> PathBuf {
    Path::new("/proc/sys").join(name)
}

fn change(path: &str, flags: MsFlags) -> Result<()> {
    let nothing = None::<&str>;
    mount(nothing, path, nothing, flags, nothing).with_context(|| format!("cannot change {path}"))
}

fn mount_new(kind: &str, path: &str) -> Result<()> {
    let mounted = mount(Some(kind), path, Some(kind), MsFlags::empty(), None::<&str>);
    mounted.with_context(|| format!("cannot mount {kind} on {path}"))
}

fn bind(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<()> {
    let (from, to) = (from.as_ref(), to.as_ref());
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    let mounted = mount(Some(from), to, None::<&str>, flags, None::<&str>);
    mounted.with_context(|| format!("cannot mount {} on {}", from.display(), to.display()))
}
