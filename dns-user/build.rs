//! Builds the BPF object from source with every build of the agent, so that
//! the embedded object is never stale.
//!
//! Either of two toolchains will do (`docs/toolchain.md`); without one the
//! agent is built without an object and says so: it then serves from user
//! space only. `NODEDNS_REQUIRE_BPF=1`, which every `cargo xtask` verb sets,
//! makes that an error.

#[path = "build/btf.rs"]
mod btf;
#[path = "build/paths.rs"]
mod paths;
#[path = "build/toolchain.rs"]
mod toolchain;

use std::{env, fs, path::Path};

use anyhow::{Context as _, bail};
use aya_build::{Package, build_ebpf};

fn main() -> anyhow::Result<()> {
    paths::become_rustc()?;
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build");
    println!("cargo::rerun-if-env-changed=NODEDNS_REQUIRE_BPF");
    println!("cargo::rerun-if-env-changed=NODEDNS_CACHE");
    println!("cargo::rerun-if-env-changed={}", toolchain::CHOICE);
    let object = Path::new(&env::var("OUT_DIR")?).join("dns-ebpf");
    match toolchain::find() {
        Ok(found) => {
            found.prepare()?;
            build_ebpf(
                [Package { name: "dns-ebpf", root_dir: "../dns-ebpf", ..Default::default() }],
                found.for_aya(),
            )?;
            let mut elf = fs::read(&object)?;
            btf::mark_text(&mut elf).context("the BPF object has no BTF integer named i8")?;
            fs::write(&object, elf)?;
        }
        Err(missing) if env::var_os("NODEDNS_REQUIRE_BPF").is_some() => {
            bail!("cannot build the BPF object: {missing}")
        }
        Err(missing) => {
            println!("cargo::warning=nodedns is built without its BPF object: {missing}");
            fs::write(&object, [])?;
        }
    }
    Ok(())
}
