//! The agent against a real API server: objects are created, changed and
//! deleted through the API, and a pod's queries are answered by the kernel.
#![expect(unreachable_pub, reason = "in a test, pub says: for the files beside this one")]
#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on panics with a message"
)]

mod deploy;
mod follows;
mod lifecycle;
mod metrics;
mod opted_out;
mod rig;
mod survives;
