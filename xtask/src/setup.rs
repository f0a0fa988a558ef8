//! `setup`: finds or installs what the verbs need; nothing twice.

use std::fs::{self, File};

use anyhow::{Context as _, Result};

use crate::{
    progress::heading,
    tools::{
        apt::{self, Package},
        bpf, go,
    },
    workspace,
};

/// A group of tools that some verbs need and others do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Compiler and linker of the BPF object.
    Bpf,
    /// Namespaces, queries, a look into the kernel.
    Network,
    /// What answers are compared with.
    CoreDns,
    /// The other parts of a cluster that tests start.
    Cluster,
    /// What the nodes of a cluster run.
    Nodes,
    /// What boots other kernels.
    Machines,
    /// What fuzzes.
    Fuzzer,
}

/// What `build` and `lint` need.
pub(crate) const BUILD: &[Part] = &[Part::Bpf];
/// What `demo` and most of `bench` need.
pub(crate) const DEMO: &[Part] = &[Part::Bpf, Part::Network];
/// What `bench veth` needs.
pub(crate) const COMPARISON: &[Part] = &[Part::Bpf, Part::Network, Part::CoreDns];
/// What `test` needs.
pub(crate) const EVERYTHING: &[Part] = &[Part::Bpf, Part::Network, Part::CoreDns, Part::Cluster];

/// What `test --cluster` needs.
pub(crate) const NODES: &[Part] =
    &[Part::Bpf, Part::Network, Part::CoreDns, Part::Cluster, Part::Nodes];

/// What `test --kernels` needs.
pub(crate) const KERNELS: &[Part] = &[Part::Bpf, Part::Network, Part::Machines];

/// What `fuzz` needs.
pub(crate) const FUZZ: &[Part] = &[Part::Bpf, Part::Fuzzer];

const NETWORK: &[Package] = &[
    Package { name: "iproute2", program: "ip" },
    Package { name: "bind9-dnsutils", program: "dig" },
    Package { name: "dnsperf", program: "dnsperf" },
    Package { name: "bpftool", program: "bpftool" },
];

const CLUSTER: &[Package] = &[
    Package { name: "etcd-server", program: "etcd" },
    Package { name: "busybox-static", program: "busybox" },
    Package { name: "musl-tools", program: "musl-gcc" },
    Package { name: "prometheus", program: "prometheus" },
    Package { name: "iptables", program: "iptables-nft" },
    Package { name: "nftables", program: "nft" },
];

const NODES_PROGRAMS: &[Package] = &[
    Package { name: "containerd", program: "containerd" },
    Package { name: "runc", program: "runc" },
    Package { name: "util-linux", program: "nsenter" },
];

/// Its programs are not in PATH.
const NODES_PACKAGES: &[&str] = &["containernetworking-plugins"];

const MACHINES: &[Package] = &[
    Package { name: "qemu-system-x86", program: "qemu-system-x86_64" },
    Package { name: "busybox-static", program: "busybox" },
    Package { name: "cpio", program: "cpio" },
    Package { name: "xz-utils", program: "xz" },
    Package { name: "binutils", program: "strip" },
];

/// The key of Debian's archive, which Ubuntu does not have.
const KEYRING: &[&str] = &["debian-archive-keyring"];

pub(crate) fn run(parts: &[Part]) -> Result<()> {
    heading("set-up");
    let cache = workspace::cache()?;
    fs::create_dir_all(&cache).with_context(|| format!("cannot make {}", cache.display()))?;
    // Two at a time would build the same things twice.
    let lock = File::create(cache.join("lock"))?;
    lock.lock().context("another set-up cannot be waited for")?;
    for part in parts {
        match part {
            Part::Bpf => bpf::install()?,
            Part::Network => apt::install_programs(NETWORK)?,
            Part::CoreDns => go::install_coredns()?,
            Part::Cluster => {
                apt::install_programs(CLUSTER)?;
                go::install_kubernetes()?;
            }
            Part::Nodes => {
                apt::install_programs(NODES_PROGRAMS)?;
                apt::install_packages(NODES_PACKAGES)?;
            }
            Part::Machines => {
                apt::install_packages(KEYRING)?;
                apt::install_programs(MACHINES)?;
            }
            Part::Fuzzer => bpf::install_fuzzer()?,
        }
    }
    Ok(())
}
