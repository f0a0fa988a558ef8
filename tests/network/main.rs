//! The real agent with attached programs, and real sockets between network
//! namespaces: what a node's pods, its operator and its other programs see.
//!
//! Each test makes its own node and pods; objects come from manifests in a
//! folder.
#![expect(unreachable_pub, reason = "in a test, pub says: for the files beside this one")]
#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on panics with a message"
)]

mod address;
mod answers;
mod chain;
mod changes;
mod clients;
mod errors;
mod fall_through;
mod full;
mod intercept;
mod kept;
mod links;
mod load;
mod loopback;
mod modes;
mod native;
mod offloads;
mod opted_out;
mod pinned;
mod raw;
mod reported;
mod resolvers;
mod rig;
mod taken_off;
mod takeover;
mod unpinned;
