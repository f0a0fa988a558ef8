//! What is needed from outside, and the versions of what is built here.

use std::{
    env, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::workspace;

pub(crate) mod apt;
pub(crate) mod bpf;
pub(crate) mod go;
pub(crate) mod kernels;

/// A program that set-up builds; another version is another folder.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tool {
    /// Name of the program.
    pub(crate) name: &'static str,
    /// Version, without a leading v.
    pub(crate) version: &'static str,
    /// Names by which it is called.
    programs: &'static [&'static str],
}

/// Links BPF objects.
pub(crate) const BPF_LINKER: Tool =
    Tool { name: "bpf-linker", version: "0.13.0", programs: &["bpf-linker"] };
/// Runs fuzzers.
pub(crate) const CARGO_FUZZ: Tool =
    Tool { name: "cargo-fuzz", version: "0.13.2", programs: &["cargo-fuzz"] };
/// The judge of our answers.
pub(crate) const COREDNS: Tool =
    Tool { name: "coredns", version: "1.14.7", programs: &["coredns"] };
/// All parts of a cluster in one program.
pub(crate) const KUBERNETES: Tool = Tool {
    name: "kubernetes",
    version: "1.36.3",
    programs: &[
        "kube-apiserver",
        "kube-controller-manager",
        "kube-proxy",
        "kube-scheduler",
        "kubectl",
        "kubelet",
    ],
};

impl Tool {
    /// Returns the folder that holds this version, in its `bin`.
    pub(crate) fn folder(self) -> Result<PathBuf> {
        Ok(workspace::cache()?.join(format!("{}-{}", self.name, self.version)))
    }

    /// Says whether this version was built.
    pub(crate) fn is_built(self) -> Result<bool> {
        Ok(self.folder()?.join("bin").join(self.name).is_file())
    }

    /// Puts this version into the folder that all look into.
    pub(crate) fn publish(self) -> Result<()> {
        let target = Path::new("..").join(format!("{}-{}", self.name, self.version));
        let target = target.join("bin").join(self.name);
        let bin = workspace::cache_bin()?;
        fs::create_dir_all(&bin).with_context(|| format!("cannot make {}", bin.display()))?;
        self.programs.iter().try_for_each(|program| link(&target, &bin.join(program)))
    }
}

/// Makes or changes a link; it is never missing meanwhile.
fn link(target: &Path, link: &Path) -> Result<()> {
    if fs::read_link(link).is_ok_and(|there| there == target) {
        return Ok(());
    }
    let fresh = link.with_added_extension("new");
    if fresh.symlink_metadata().is_ok() {
        fs::remove_file(&fresh)?;
    }
    symlink(target, &fresh)?;
    fs::rename(&fresh, link).with_context(|| format!("cannot make {}", link.display()))
}

impl std::fmt::Display for Tool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.name, self.version)
    }
}

/// Finds a program in PATH or among the administrators' programs.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path)
        .chain(system)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}
