//! What tests of the datapath are about: the shared code on the host, and the loaded
//! programs.

mod host;
mod loaded;

use std::{collections::BTreeSet, net::IpAddr, ops::RangeInclusive};

use dns_ebpf::layout::{programs, settings::Lease};
use dns_user::{
    datapath::cache::{KeptKey, Life},
    records::Answer,
};

use crate::{
    kernel,
    known::{self, names},
};

pub use host::{Host, SEED};
pub use loaded::{Kernel, verdict};

/// What became of a frame.
#[derive(Debug, PartialEq, Eq)]
pub struct Result {
    /// It was answered: the verdict sends it back.
    pub answered: bool,
    /// The frame afterwards.
    pub frame: Vec<u8>,
}

/// Something that a frame can be given to.
pub trait Subject {
    /// What it is called in messages.
    fn name(&self) -> &'static str;
    /// Says whether it can be given a frame as short as this.
    fn takes(&self, frame: &[u8]) -> bool;
    /// Gives it a frame.
    fn run(&mut self, frame: &[u8]) -> Result;
    /// Sets until when it answers.
    fn set_lease(&mut self, lease: Lease);
    /// Keeps a response whose TTL is 0 in so many milliseconds, and which is given for
    /// so many. Returns whether it can.
    fn keep(&mut self, key: &KeptKey, response: &[u8], expires_ms: i64, until_ms: i64) -> bool;
    /// Keeps the responses of [`known`] for a day; their TTLs are in [`KEPT_TTLS`].
    fn keep_known(&mut self) {
        for kept in known::kept() {
            let (key, octets) = (kept.key(), kept.octets());
            assert!(self.keep(&key, &octets, DAY_MS, DAY_MS), "{} cannot be kept", kept.name);
        }
    }
    /// Sets who has opted out.
    fn set_opted_out(&mut self, clients: &BTreeSet<IpAddr>);
}

/// Not quite, as the programs' clock may be a tick late.
const DAY_MS: i64 = 86_399_500;
/// What is left of their TTLs in the hours of a test.
pub const KEPT_TTLS: RangeInclusive<u32> = 40_000..=86_400;

/// All that a case is given to.
pub type Subjects = Vec<Box<dyn Subject>>;

/// Returns what can be tested here, with the names of [`known`]: the
/// host's code always, the kernel's programs unless this machine cannot.
pub fn subjects() -> Subjects {
    subjects_with(&[])
}

/// The same, with these answers of other types as well.
pub fn subjects_with(answers: &[Answer]) -> Subjects {
    let mut subjects: Subjects = vec![Box::new(Host::new(&names()).with(answers))];
    if kernel::require(kernel::DATAPATH) {
        let kernel = |program| Kernel::new(program, &names()).with(answers);
        subjects
            .extend(programs::ALL.map(|program| -> Box<dyn Subject> { Box::new(kernel(program)) }));
    }
    subjects
}

fn life(now_ns: u64, expires_ms: i64, until_ms: i64) -> Life {
    let after = |ms: i64| now_ns.saturating_add_signed(ms * 1_000_000);
    Life { expires_ns: after(expires_ms), until_ns: after(until_ms) }
}
