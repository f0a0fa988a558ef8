//! Images of the pods that the cluster's tests start: programs of this machine
//! with the libraries that they load; and the agent itself as such a one.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::{
    archive::{self, File, Image},
    folder,
};
use crate::{build::LIMIT, run, tools::find, workspace};

/// Where the tests look for these images, in containerd's names.
const PREFIX: &str = "nodedns-test";
/// What a client of each C library asks with: one host name after the other.
const LOOKUP: &str = include_str!("lookup.c");

/// Packs the images; returns their folder.
pub(crate) fn pack() -> Result<PathBuf> {
    let folder = folder()?.join("tests");
    fs::create_dir_all(&folder)?;
    for (name, image) in [("musl", musl()?), ("glibc", glibc()?), ("coredns", coredns()?)] {
        let archive = archive::pack(&format!("{PREFIX}/{name}:1"), &image)?;
        fs::write(folder.join(format!("{name}.tar")), archive.octets)?;
    }
    Ok(folder)
}

/// Packs an agent that was built for this machine under the name of the real image;
/// returns the archive.
pub(crate) fn agent(binary: &Path) -> Result<PathBuf> {
    let folder = folder()?;
    let stripped = folder.join("nodedns-stripped");
    let mut strip = workspace::command("strip")?;
    run::logged("strip", strip.arg("-o").arg(&stripped).arg(binary), LIMIT)?;
    let mut image = super::image(fs::read(&stripped)?, env!("CARGO_PKG_VERSION"));
    add_libraries(&mut image, &stripped)?;
    let path = folder.join("nodedns-for-tests.tar");
    fs::write(&path, archive::pack(&super::name(), &image)?.octets)?;
    fs::remove_file(stripped)?;
    Ok(path)
}

/// Returns an image of `busybox`, which sleeps when nothing else is said: also what keeps a
/// pod's namespaces.
fn busybox() -> Result<Image> {
    let busybox = program("busybox")?;
    let applets = run::answer(Command::new(&busybox).arg("--list")).context("BusyBox fails")?;
    let link = |name: &str| (format!("bin/{name}"), File::Link("busybox".to_owned()));
    let mut files: BTreeMap<_, _> = applets.lines().map(link).collect();
    files.insert("bin/busybox".to_owned(), File::Program(fs::read(busybox)?));
    files.insert("tmp".to_owned(), File::Scratch);
    let entrypoint = ["/bin/busybox", "sleep", "1000000"].map(str::to_owned).into();
    Ok(Image { files, entrypoint, ..Image::default() })
}

fn musl() -> Result<Image> {
    let mut image = busybox()?;
    let lookup = compile("musl-gcc", &["-static"])?;
    image.files.insert("usr/bin/lookup".to_owned(), File::Program(fs::read(lookup)?));
    Ok(image)
}

fn glibc() -> Result<Image> {
    let mut image = busybox()?;
    let lookup = compile("cc", &[])?;
    for (path, program) in [("usr/bin/lookup", lookup), ("usr/bin/dig", program("dig")?)] {
        add_libraries(&mut image, &program)?;
        image.files.insert(path.to_owned(), File::Program(fs::read(program)?));
    }
    let services = File::Text("hosts: files dns\n".to_owned());
    image.files.insert("etc/nsswitch.conf".to_owned(), services);
    Ok(image)
}

/// Returns CoreDNS, and what a container needs that sets up its address.
fn coredns() -> Result<Image> {
    let mut image = busybox()?;
    let coredns = fs::read(workspace::cache_bin()?.join("coredns"))?;
    image.files.insert("usr/bin/coredns".to_owned(), File::Program(coredns));
    Ok(image)
}

fn compile(compiler: &str, flags: &[&str]) -> Result<PathBuf> {
    let folder = folder()?;
    let (source, program) = (folder.join("lookup.c"), folder.join(format!("lookup-{compiler}")));
    fs::write(&source, LOOKUP)?;
    let mut command = workspace::command(compiler)?;
    command.args(["-O2", "-Wall", "-Wextra", "-Werror", "-o"]).arg(&program).arg(&source);
    run::logged("lookup", command.args(flags), LIMIT)?;
    Ok(program)
}

/// Adds what the dynamic linker loads for a program, and the linker, where the
/// program expects them.
fn add_libraries(image: &mut Image, program: &Path) -> Result<()> {
    for library in run::libraries_of(program) {
        let path = library.strip_prefix("/")?.to_string_lossy().into_owned();
        image.files.insert(path, File::Program(fs::read(&library)?));
    }
    Ok(())
}

fn program(name: &str) -> Result<PathBuf> {
    let path = find(name).with_context(|| format!("{name} is not here"))?;
    Ok(fs::canonicalize(path)?)
}
