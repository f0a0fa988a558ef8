//! The datapath, frame by frame: every case is run through the shared code on
//! the host and, through `BPF_PROG_TEST_RUN`, through the program in the
//! kernel. Whole frames are compared.
//!
//! What is answered is compared with a frame built here from the records; what
//! is not ours must leave octet for octet as it came, with `TCX_NEXT`.
#![expect(unreachable_pub, reason = "in a test, pub says: for the files beside this one")]
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on panics with a message"
)]

mod absent;
mod answered;
mod budget;
mod clock;
mod corpus;
mod counted;
mod expected;
mod full;
mod kept;
mod opted_out;
mod passed_on;
mod race;
mod random;
mod rendered;
