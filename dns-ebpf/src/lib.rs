//! What the programs in the kernel and the agent share: how a query is read
//! from a packet, what the maps hold, and how the reply is written.
//!
//! A query goes one way through the modules, in this order:
//! [`packet`] gives bounded access to its octets, [`wire::frame`] and
//! [`wire::query`] read it, [`layout::key`] makes its name a key,
//! [`lookup`] copies what the maps hold for that name, [`absence`] says what it
//! means that there is nothing, [`plan`] decides the whole reply, and
//! [`wire::response`] writes it. [`answer`] is that line.
//!
//! All of it runs, and is tested, on the host as well: only `main.rs` and
//! `datapath/` know of the kernel.
#![cfg_attr(target_arch = "bpf", no_std)]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]
#![expect(
    clippy::inline_always,
    reason = "a call is a function of its own for the verifier, which then knows less"
)]
#![expect(
    clippy::cast_possible_truncation,
    reason = "the low part is meant; a checked conversion has a path that panics"
)]
#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod opaque;
pub mod packet;
pub mod wire;

pub mod absence;
pub mod layout;
pub mod lookup;
pub mod plan;

pub mod answer;

/// Longest name in wire form that is answered in the kernel, in octets, root
/// included. A multiple of eight: names are read in words.
pub const NAME_MAX: u64 = 136;

/// Priority (`SO_PRIORITY`) of what the agent asks itself over `lo`, where it is not
/// counted.
/// No type of service leads to it (`linux/pkt_sched.h`).
pub const PROBE_PRIORITY: u32 = 5;
