//! `image`: a container image with nothing in it but the agent, made without a
//! container daemon.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{build::LIMIT, progress::heading, run, setup, workspace};
use archive::{File, Image};

pub(crate) mod archive;
pub(crate) mod pods;

/// The image stays below this, in octets.
const SIZE_MAX: usize = 15 << 20;

/// Where the agent is in the image.
const PROGRAM: &str = "usr/bin/nodedns";

/// Builds the agent as a static program and packs it; returns the archive.
///
/// The same sources and toolchain give the same octets, in any folder.
pub(crate) fn run(name: Option<&str>) -> Result<PathBuf> {
    setup::run(setup::BUILD)?;
    heading("image");
    let version = env!("CARGO_PKG_VERSION");
    let name = name.map_or_else(self::name, str::to_owned);
    let binary = build()?;
    let packed = archive::pack(&name, &image(fs::read(&binary)?, version))?;
    let size = packed.octets.len();
    ensure!(size <= SIZE_MAX, "the image has {size} octets, at most {SIZE_MAX} are wanted");
    let folder = folder()?;
    // For the Dockerfile.
    fs::copy(&binary, folder.join("nodedns"))?;
    let path = folder.join(format!("nodedns-{version}.tar"));
    fs::write(&path, &packed.octets).with_context(|| format!("cannot write {}", path.display()))?;
    println!("name:    {name}");
    println!("digest:  {}", packed.digest);
    println!("size:    {size} octets");
    println!("archive: {}", path.display());
    Ok(path)
}

/// Returns the name that the manifests in `deploy/` have for the image.
fn name() -> String {
    format!("nodedns:{}", env!("CARGO_PKG_VERSION"))
}

/// Returns the folder of the archives.
fn folder() -> Result<PathBuf> {
    let folder = workspace::root().join("target/image");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

/// Returns the agent's image; Dockerfile makes the same.
fn image(program: Vec<u8>, version: &str) -> Image {
    let labels = [("title", "nodedns"), ("version", version), ("licenses", "Apache-2.0 OR MIT")];
    let labels =
        labels.map(|(name, value)| (format!("org.opencontainers.image.{name}"), value.to_owned()));
    Image {
        files: [(PROGRAM.to_owned(), File::Program(program))].into(),
        entrypoint: vec![format!("/{PROGRAM}")],
        command: vec!["run".to_owned()],
        labels: labels.into(),
    }
}

/// Builds the static program; returns its path.
fn build() -> Result<PathBuf> {
    let target = host()?;
    let mut cargo = workspace::cargo(&["build", "--release", "--package", "dns-user"])?;
    cargo.args(["--bin", "nodedns", "--target", &target]);
    cargo.env("RUSTFLAGS", flags()?);
    run::shown(&mut cargo, LIMIT)?;
    Ok(workspace::root().join("target").join(target).join("release/nodedns"))
}

/// Returns the flags: no shared library, and no path of this machine.
fn flags() -> Result<String> {
    let home = env::var_os("HOME").map(PathBuf::from);
    let cargo = env::var_os("CARGO_HOME").map(PathBuf::from);
    let cargo = cargo.or_else(|| Some(home?.join(".cargo"))).context("HOME is not set")?;
    let remap = |from: &Path, to: &str| format!("--remap-path-prefix={}={to}", from.display());
    let flags = [
        "--codegen=target-feature=+crt-static".to_owned(),
        remap(&cargo, "cargo"),
        remap(workspace::root(), "nodedns"),
    ];
    if flags.iter().any(|flag| flag.contains(' ')) {
        bail!("the image cannot be built in a folder with a space in its name");
    }
    Ok(flags.join(" "))
}

/// Returns the target of the machine's own compiler.
fn host() -> Result<String> {
    let version = run::answer(Command::new("rustc").arg("-vV")).context("rustc does not start")?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc does not say for what it compiles")?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dockerfile_makes_the_same_image() {
        let text = fs::read_to_string(workspace::root().join("Dockerfile")).unwrap();
        let image = image(Vec::new(), "1");
        let list = |words: &[String]| serde_json::to_string(words).unwrap();
        for line in [
            "FROM scratch".to_owned(),
            format!("COPY nodedns /{PROGRAM}"),
            format!("ENTRYPOINT {}", list(&image.entrypoint)),
            format!("CMD {}", list(&image.command)),
        ] {
            assert!(text.lines().any(|it| it == line), "no line {line} in Dockerfile");
        }
    }
}
