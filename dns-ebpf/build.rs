//! Options of bpf-linker; given here they also reach a build started by aya-build.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_ARCH").as_deref() == Ok("bpf") {
        // Packets are not aligned. Without this every load of a word becomes a
        // load per octet: 126 instead of 90 ns per hit, twice the verified instructions.
        println!("cargo::rustc-link-arg-bins=--cpu-features=+allows-misaligned-mem-access");
    }
}
