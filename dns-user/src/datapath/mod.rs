//! The kernel's side as the agent sees it: programs, maps, links and pins.

pub mod addresses;
pub mod answer_store;
pub mod answers;
pub mod attach;
pub mod cache;
pub mod clock;
pub mod encode;
mod entries;
pub mod epoch;
mod filters;
pub mod hook;
pub mod interfaces;
pub mod links;
pub mod load;
pub mod lock;
pub mod logs;
pub mod maps;
mod mirror;
pub mod mode;
pub mod names;
pub mod opted_out;
mod pin_keeper;
pub mod pins;
pub mod remarks;

/// The BPF object, built from `dns-ebpf` together with this crate; empty when
/// the machine that built it had no BPF toolchain.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/dns-ebpf"));
