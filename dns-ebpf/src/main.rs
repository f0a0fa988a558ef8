//! The BPF object. For other targets it is an empty program, so that building,
//! testing and linting the workspace need no BPF tools.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![cfg_attr(
    target_arch = "bpf",
    expect(
        unreachable_pub,
        reason = "entry points are public for the linker, the rest for reading"
    ),
    expect(clippy::inline_always, clippy::cast_possible_truncation, reason = "as in the library"),
    expect(clippy::needless_pass_by_value, reason = "the entry points' form is the macros'")
)]

#[cfg(target_arch = "bpf")]
mod datapath;

#[cfg(not(target_arch = "bpf"))]
fn main() {}
