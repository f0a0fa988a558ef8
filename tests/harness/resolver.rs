//! The resolver's settings as a process of a pod sees them: files that are
//! bind-mounted over those of the machine, for that process only.

use std::{
    ffi::CString,
    fs, io,
    os::unix::{ffi::OsStrExt as _, process::CommandExt as _},
    path::Path,
    process::Command,
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};
use tempfile::TempDir;

/// What the kubelet gives a pod of namespace `default`.
const SEARCH: &str = "search default.svc.cluster.local svc.cluster.local cluster.local\n\
                      options ndots:5\n";

/// A `resolv.conf`, and an `nsswitch.conf` with which glibc uses it.
#[derive(Debug)]
pub struct ResolverFiles {
    /// Owns the files; removed when dropped.
    _folder: TempDir,
    /// File of ours, file of the machine.
    mounts: Vec<(CString, CString)>,
}

impl ResolverFiles {
    /// Settings of a pod of namespace `default` that asks `nameserver`.
    pub fn for_pod(nameserver: std::net::IpAddr) -> Self {
        Self::new(&format!("nameserver {nameserver}\n{SEARCH}"))
    }

    /// Takes the text of `resolv.conf`.
    pub fn new(resolv_conf: &str) -> Self {
        let folder = TempDir::new().expect("a scratch folder");
        let mut mounts = Vec::new();
        for (name, text) in [("resolv.conf", resolv_conf), ("nsswitch.conf", "hosts: files dns\n")]
        {
            // A symbolic link is followed, since a mount covers what it points to.
            let Ok(target) = fs::canonicalize(Path::new("/etc").join(name)) else { continue };
            let source = folder.path().join(name);
            fs::write(&source, text).expect("a scratch file");
            mounts.push((c_string(&source), c_string(&target)));
        }
        Self { _folder: folder, mounts }
    }

    /// Makes `command` see these files instead of the machine's, in a mount
    /// namespace of its own.
    pub fn cover(&self, command: &mut Command) {
        let mounts = self.mounts.clone();
        let before_exec = move || cover_files(&mounts);
        // SAFETY: between fork and exec only system calls are made; the
        // strings were allocated before.
        unsafe { command.pre_exec(before_exec) };
    }
}

fn cover_files(mounts: &[(CString, CString)]) -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    // Nothing that is mounted from here on is seen outside.
    let nothing = None::<&str>;
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)?;
    for (source, target) in mounts {
        mount(Some(source.as_c_str()), target.as_c_str(), nothing, MsFlags::MS_BIND, nothing)?;
    }
    Ok(())
}

fn c_string(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).expect("a path without a NUL")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        kernel::{NETWORK, require},
        process::run_ok,
    };

    #[test]
    fn only_the_command_sees_the_files() {
        if !require(NETWORK) {
            return;
        }
        let before = fs::read("/etc/resolv.conf").unwrap();
        let files = ResolverFiles::for_pod("169.254.25.10".parse().unwrap());
        let mut command = Command::new("cat");
        command.args(["/etc/resolv.conf", "/etc/nsswitch.conf"]);
        files.cover(&mut command);
        let text = run_ok(&mut command);
        assert!(text.starts_with("nameserver 169.254.25.10\nsearch default.svc."), "{text}");
        assert!(text.ends_with("hosts: files dns\n"), "{text}");
        assert_eq!(fs::read("/etc/resolv.conf").unwrap(), before);
    }
}
