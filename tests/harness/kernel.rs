//! Whether this machine can run a test: privileges, kernel, programs.
//!
//! A skip is an assertion: under `NODEDNS_REQUIRE_KERNEL=1`, which
//! `cargo xtask test` sets, what is missing fails the test.

use std::{env, fs::File, path::Path};

use dns_user::{datapath::mode::Features, node::fall_through::kernel as nftables};
use nix::{
    mount::{MsFlags, mount},
    sys::{
        statfs::{BPF_FS_MAGIC, statfs},
        utsname::uname,
    },
    unistd::geteuid,
};

use crate::tools;

/// Where the kernel's BPF file system is mounted.
pub const BPFFS: &str = "/sys/fs/bpf";

/// Something that a test cannot do without.
#[derive(Clone, Copy, Debug)]
pub enum Need {
    /// Namespaces, links, BPF: all want root.
    Root,
    /// The kernel's BTF, and a BPF file system (mounted when it is absent).
    Bpf,
    /// A kernel that is at least this version.
    Kernel(u32, u32),
    /// The embedded BPF object, which is empty when the agent was built
    /// without a BPF toolchain.
    Object,
    /// Nftables in the kernel.
    Nftables,
    /// A program.
    Tool(&'static str),
}

/// What tests with namespaces need.
pub const NETWORK: &[Need] = &[Need::Root, Need::Tool("ip")];
/// What tests with attached programs need; `bpf_redirect_peer` came with Linux 5.10.
pub const DATAPATH: &[Need] =
    &[Need::Root, Need::Tool("ip"), Need::Bpf, Need::Kernel(5, 10), Need::Object];

/// Returns what this kernel has. Panics when that is not what kernels of its
/// version have: a test that chooses by it must not choose by mistake.
#[track_caller]
pub fn features() -> Features {
    let features = Features::probe().expect("the kernel lets root load programs");
    let here = version();
    let expected = Features { redirect_peer: here >= (5, 10), tcx: here >= (6, 6) };
    assert_eq!(features, expected, "on Linux {here:?}");
    features
}

/// Says whether all of `needs` are met. When not, panics if
/// `NODEDNS_REQUIRE_KERNEL` is set, else says why the test is skipped.
#[must_use = "a test whose needs are not met returns early"]
#[track_caller]
pub fn require(needs: &[Need]) -> bool {
    let Some(missing) = needs.iter().find_map(|need| need.missing()) else { return true };
    assert!(
        env::var_os("NODEDNS_REQUIRE_KERNEL").is_none(),
        "{missing}; run `cargo xtask setup` as root, or unset NODEDNS_REQUIRE_KERNEL to skip this test"
    );
    let test = std::thread::current();
    eprintln!("SKIPPED: {}: {missing}", test.name().unwrap_or("a test"));
    false
}

impl Need {
    /// Says what is missing; None when the need is met.
    fn missing(self) -> Option<String> {
        match self {
            Self::Root => (!geteuid().is_root()).then(|| "root is needed".to_owned()),
            Self::Bpf => missing_bpf(),
            Self::Kernel(major, minor) => {
                let here = version();
                (here < (major, minor)).then(|| {
                    format!("Linux {major}.{minor} is needed, this is {}.{}", here.0, here.1)
                })
            }
            Self::Object => dns_user::datapath::OBJECT
                .is_empty()
                .then(|| "the agent was built without its BPF object".to_owned()),
            Self::Nftables => missing_nftables(),
            Self::Tool(program) => {
                tools::find(program).is_none().then(|| format!("the program {program} is needed"))
            }
        }
    }
}

/// Returns the kernel's version: major, minor.
pub fn version() -> (u32, u32) {
    let uname = uname().expect("uname has no way to fail");
    let release = uname.release().to_string_lossy();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn missing_bpf() -> Option<String> {
    if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        return Some("a kernel with BTF is needed".to_owned());
    }
    mount_bpffs().err().map(|error| format!("a BPF file system at {BPFFS} is needed ({error})"))
}

fn missing_nftables() -> Option<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let opened = runtime.expect("a runtime").block_on(nftables::Kernel::open());
    opened.err().map(|error| format!("{error:#}"))
}

/// Mounts the BPF file system where it is not mounted yet.
pub fn mount_bpffs() -> std::io::Result<()> {
    let is_mounted =
        || -> std::io::Result<bool> { Ok(statfs(BPFFS)?.filesystem_type() == BPF_FS_MAGIC) };
    if is_mounted()? {
        return Ok(());
    }
    // Tests run side by side: the first one mounts.
    let lock = File::open(BPFFS)?;
    lock.lock()?;
    if !is_mounted()? {
        mount(Some("bpf"), BPFFS, Some("bpf"), MsFlags::empty(), None::<&str>)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_has_a_version() {
        assert!(version() >= (4, 0));
    }

    #[test]
    fn what_is_missing_is_said() {
        let missing = |need: Need| need.missing().unwrap_or_default();
        assert_eq!(missing(Need::Tool("no-such-program")), "the program no-such-program is needed");
        assert!(missing(Need::Kernel(99, 0)).starts_with("Linux 99.0 is needed"));
    }

    #[test]
    fn a_bpf_file_system_is_mounted() {
        if require(DATAPATH) {
            mount_bpffs().unwrap();
            assert_eq!(statfs(BPFFS).unwrap().filesystem_type(), BPF_FS_MAGIC);
        }
    }
}
