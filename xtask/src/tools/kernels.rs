//! Kernels to test on: Debian's own packages of several releases, fetched with
//! a configuration of apt that the machine's does not know of.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    progress::{Step, found},
    run, workspace,
};

/// Kernels that are tested: the oldest that is supported, each long-term one
/// that a Debian release has, and the newest.
pub(crate) const ALL: [&str; 4] = ["5.10", "6.1", "6.12", "7.3"];

/// Where Debian has them: path below the archive, suite.
const SUITES: [(&str, &str); 4] = [
    ("debian-security", "bullseye-security"),
    ("debian", "bookworm"),
    ("debian-security", "bookworm-security"),
    ("debian", "trixie-backports"),
];
const ARCHIVE: &str = "http://deb.debian.org";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// Kernels for virtual machines, which are small.
const FLAVOUR: &str = "-cloud-amd64";
/// A kernel of 7.1 or later is in three packages, an older one in the first.
const PARTS: [&str; 3] = ["linux-image-", "linux-binary-", "linux-modules-"];

/// Modules that tests need, in the order in which they are loaded. Those that
/// a kernel has built in are not there.
const MODULES: [&str; 25] = [
    "veth",
    "dummy",
    "sch_ingress",
    "cls_bpf",
    "llc",
    "stp",
    "bridge",
    // The nftables table, and what it is made of.
    "crc32c_generic",
    "libcrc32c",
    "nfnetlink",
    "nf_defrag_ipv4",
    "nf_defrag_ipv6",
    "nf_conntrack",
    "nf_nat",
    "nf_tables",
    "nft_chain_nat",
    "nft_nat",
    "nft_masq",
    "nft_ct",
    "nft_numgen",
    "nf_socket_ipv4",
    "nf_socket_ipv6",
    "nft_socket",
    "nft_counter",
    "nft_objref",
];
/// File beside an image with the names of the modules that were looked for.
const LOOKED_FOR: &str = "modules";

/// The slowest mirror should be done by then.
const LIMIT: Duration = Duration::from_mins(30);

/// A kernel in the cache.
#[derive(Clone, Debug)]
pub(crate) struct Kernel {
    /// Such as `6.1`.
    pub(crate) line: String,
    folder: PathBuf,
}

impl Kernel {
    /// Returns the image to boot.
    pub(crate) fn image(&self) -> PathBuf {
        self.folder.join("vmlinuz")
    }

    /// Says whether it is in the cache, with all modules that are needed now.
    fn is_there(&self) -> bool {
        let looked_for = fs::read_to_string(self.folder.join(LOOKED_FOR)).unwrap_or_default();
        self.image().is_file() && looked_for.lines().eq(MODULES)
    }

    /// Returns the modules to load, in order.
    pub(crate) fn modules(&self) -> Vec<PathBuf> {
        let modules = MODULES.iter().map(|name| self.folder.join(format!("{name}.ko")));
        modules.filter(|file| file.is_file()).collect()
    }
}

/// Finds these kernels in the cache or fetches them.
pub(crate) fn install(lines: &[String]) -> Result<Vec<Kernel>> {
    let folder = workspace::cache()?.join("kernels");
    let kernels: Vec<_> =
        lines.iter().map(|line| Kernel { line: line.clone(), folder: folder.join(line) }).collect();
    let missing: Vec<_> = kernels.iter().filter(|kernel| !kernel.is_there()).collect();
    if !missing.is_empty() {
        let apt = Apt::new(&folder.join("apt"))?;
        let step = Step::start("updating the list of kernel packages");
        run::logged("kernels-update", apt.command("apt-get").arg("update"), LIMIT)?;
        step.done();
        for kernel in missing {
            let step = Step::start(&format!("fetching Linux {}", kernel.line));
            fetch(&apt, kernel).with_context(|| format!("no Linux {}", kernel.line))?;
            step.done();
        }
    }
    found(&format!("Linux {}", lines.join(", ")));
    Ok(kernels)
}

/// A configuration of apt with everything in a folder of its own.
struct Apt {
    folder: PathBuf,
}

impl Apt {
    fn new(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder.join("lists/partial"))?;
        fs::create_dir_all(folder.join("cache/archives/partial"))?;
        let line = |(path, suite): (&str, &str)| {
            format!("deb [signed-by={KEYRING}] {ARCHIVE}/{path} {suite} main\n")
        };
        fs::write(folder.join("sources.list"), SUITES.map(line).concat())?;
        Ok(Self { folder: folder.to_owned() })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let place = |what: &str, name: &str| format!("{what}={}", self.folder.join(name).display());
        for option in [
            place("Dir::Etc::SourceList", "sources.list"),
            place("Dir::State::Lists", "lists"),
            place("Dir::Cache", "cache"),
            "Dir::Etc::SourceParts=/dev/null".to_owned(),
            "Acquire::Languages=none".to_owned(),
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
            "APT::Sandbox::User=root".to_owned(),
        ] {
            command.args(["-o", &option]);
        }
        command.current_dir(&self.folder);
        command
    }
}

fn fetch(apt: &Apt, kernel: &Kernel) -> Result<()> {
    let names = run::answer(apt.command("apt-cache").arg("pkgnames").arg("linux-"));
    let names = names.context("apt-cache lists no packages")?;
    let packages = packages(&names, &kernel.line)?;
    let scratch = apt.folder.join("scratch");
    if scratch.exists() {
        fs::remove_dir_all(&scratch)?;
    }
    fs::create_dir_all(&scratch)?;
    let mut download = apt.command("apt-get");
    download.arg("download").args(packages).current_dir(&scratch);
    run::logged("kernel-download", &mut download, LIMIT)?;
    let root = scratch.join("root");
    for package in files_below(&scratch, &|name| name.starts_with("linux-"))? {
        let mut unpack = Command::new("dpkg-deb");
        run::logged("kernel-unpack", unpack.arg("--extract").args([&package, &root]), LIMIT)?;
    }
    if kernel.folder.exists() {
        fs::remove_dir_all(&kernel.folder)?;
    }
    fs::create_dir_all(&kernel.folder)?;
    for name in MODULES {
        let is_it = |file: &str| file == format!("{name}.ko") || file == format!("{name}.ko.xz");
        let Some(module) = files_below(&root, &is_it)?.into_iter().next() else { continue };
        if module.extension().is_some_and(|extension| extension == "xz") {
            run::logged(
                "kernel-module",
                Command::new("xz").arg("--decompress").arg(&module),
                LIMIT,
            )?;
        }
        fs::copy(
            module.with_file_name(format!("{name}.ko")),
            kernel.folder.join(format!("{name}.ko")),
        )?;
    }
    let images = files_below(&root, &|name| name.starts_with("vmlinuz"))?;
    let image = images.first().context("no vmlinuz in the package")?;
    fs::copy(image, kernel.image())?;
    // Last, since it says that all is there.
    fs::write(kernel.folder.join(LOOKED_FOR), MODULES.join("\n"))?;
    fs::remove_dir_all(scratch)?;
    Ok(())
}

/// Returns the packages of the latest kernel of a line such as `6.1`.
fn packages<'a>(names: &'a str, line: &str) -> Result<Vec<&'a str>> {
    let version = |name: &'a str| {
        let version = PARTS.iter().find_map(|part| name.strip_prefix(part))?;
        let version = version.strip_suffix(FLAVOUR)?;
        let is_of_line = version.strip_prefix(line)?.starts_with(['.', '-', '+']);
        is_of_line.then_some(version)
    };
    let numbers = |version: &&str| -> Vec<u64> {
        version.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok()).collect()
    };
    let Some(latest) = names.lines().filter_map(version).max_by_key(numbers) else {
        bail!(
            "Debian has no kernel {line} in the suites {}",
            SUITES.map(|suite| suite.1).join(", ")
        );
    };
    Ok(names.lines().filter(|name| version(name) == Some(latest)).collect())
}

/// Lists files whose name is asked for, at any depth.
fn files_below(folder: &Path, is_wanted: &dyn Fn(&str) -> bool) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?
    {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            files.extend(files_below(&entry.path(), is_wanted)?);
        } else if is_wanted(&entry.file_name().to_string_lossy()) {
            files.push(entry.path());
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_of_a_line_is_chosen() {
        let names = "linux-image-6.1.0-9-cloud-amd64\nlinux-image-6.1.0-56-cloud-amd64\n\
                     linux-image-6.1.0-57-amd64\nlinux-image-6.12.117+deb12-cloud-amd64\n\
                     linux-image-6.1-cloud-amd64\nlinux-image-6.1.0-58-cloud-amd64-unsigned\n\
                     linux-image-7.3.4+deb13-cloud-amd64\nlinux-binary-7.3.4+deb13-cloud-amd64\n\
                     linux-modules-7.3.4+deb13-cloud-amd64\nlinux-headers-7.3.5-cloud-amd64";
        assert_eq!(packages(names, "6.1").unwrap(), ["linux-image-6.1.0-56-cloud-amd64"]);
        assert_eq!(packages(names, "6.12").unwrap(), ["linux-image-6.12.117+deb12-cloud-amd64"]);
        assert_eq!(packages(names, "7.3").unwrap().len(), 3);
        assert!(packages(names, "7.4").is_err());
    }
}
