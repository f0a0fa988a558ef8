//! The datapath's programs, loaded into the kernel.

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
};

use aya::{
    TestRun as _, TestRunOptions,
    programs::{Program, Xdp, XdpMode, xdp::XdpLink},
};
use dns_ebpf::layout::{outcome::Outcome, programs, settings::Lease};
use dns_user::{
    clock::monotonic_ns,
    datapath::{cache::KeptKey, load::Loaded},
    records::{Answer, NameRecords},
    store::AnswerStore as _,
};

use super::{Result, Subject, life};
use crate::{
    known::{self, names, zone},
    pool::Pooled,
};

/// A program in the kernel, with maps of its own that are not pinned.
pub struct Kernel {
    loaded: Pooled,
    program: &'static str,
    /// What was counted before.
    before: HashMap<Outcome, u64>,
}

/// What programs return (`linux/pkt_cls.h`, `linux/bpf.h`).
pub mod verdict {
    pub(super) const TC_ACT_OK: u32 = 0;
    /// On what is answered, on tc.
    pub const TC_ACT_REDIRECT: u32 = 7;
    pub(super) const TCX_NEXT: u32 = u32::MAX;
    pub(super) const XDP_PASS: u32 = 2;
    /// On what is answered, in XDP.
    pub const XDP_TX: u32 = 3;
}

impl Kernel {
    /// Loads one of the programs that answer; it knows these names.
    pub fn new(program: &'static str, names: &[NameRecords]) -> Self {
        let mut loaded = Pooled::take(program);
        loaded.answers.set_zone(Some(&zone())).expect("ZONES takes it");
        for records in names {
            loaded.answers.put(records).expect("NAMES takes it");
        }
        let before = counted(&loaded);
        let mut kernel = Self { loaded, program, before };
        kernel.set_lease(Lease { alive_until_ns: u64::MAX, serve_until_ns: u64::MAX });
        kernel
    }

    /// Knows everything that is in [`known`].
    pub fn known(program: &'static str) -> Self {
        let mut kernel = Self::new(program, &names()).with(&known::answers());
        kernel.keep_known();
        kernel
    }

    /// Knows these answers as well.
    #[must_use]
    pub fn with(mut self, answers: &[Answer]) -> Self {
        for answer in answers {
            self.loaded.answers.put_answer(answer).expect("ANSWERS takes it");
        }
        self
    }

    /// Returns how many instructions the verifier looked at; None before Linux
    /// 5.16, which does not tell.
    pub fn verified_instructions(&mut self) -> Option<u32> {
        let program = self.loaded.program_mut(self.program).expect("it is loaded");
        program.info().expect("Linux tells about it").verified_instruction_count()
    }

    /// Attaches the XDP program in the driver of a link of this thread's network
    /// namespace, until what is returned is dropped.
    #[must_use]
    pub fn attach_native(&mut self, link: &str) -> XdpLink {
        let program = self.loaded.program_mut(self.program).expect("it is loaded");
        let program: &mut Xdp = program.try_into().expect("it is for XDP");
        let id = program.attach(link, XdpMode::Driver).expect("the driver takes it");
        program.take_link(id).expect("the link just made")
    }

    /// Returns the counters that are not zero, of both families together.
    pub fn counters(&self) -> HashMap<Outcome, u64> {
        let mut counters = counted(&self.loaded);
        counters.retain(|outcome, packets| {
            *packets -= self.before.get(outcome).copied().unwrap_or_default();
            *packets != 0
        });
        counters
    }

    /// Returns the verdicts for what is answered and for what is passed on.
    fn verdicts(&self) -> (u32, u32) {
        match self.program {
            programs::ANSWER => (verdict::TC_ACT_REDIRECT, verdict::TCX_NEXT),
            programs::LOOPBACK => (verdict::TC_ACT_OK, verdict::TCX_NEXT),
            programs::XDP => (verdict::XDP_TX, verdict::XDP_PASS),
            other => panic!("{other} does not answer"),
        }
    }
}

fn counted(loaded: &Loaded) -> HashMap<Outcome, u64> {
    let mut counted = HashMap::new();
    for count in loaded.counters.read().expect("COUNTERS is readable") {
        *counted.entry(count.outcome).or_default() += count.packets;
    }
    counted
}

impl Subject for Kernel {
    fn name(&self) -> &'static str {
        self.program
    }

    /// A test run of a classifier wants the whole header of the IP version that
    /// the frame names, and any one that of Ethernet (`net/bpf/test_run.c`).
    fn takes(&self, frame: &[u8]) -> bool {
        let header = match frame.get(12..14) {
            Some(_) if self.program == programs::XDP => 0,
            Some([0x08, 0x00]) => 20,
            Some([0x86, 0xdd]) => 40,
            Some(_) => 0,
            None => return false,
        };
        frame.len() >= 14 + header
    }

    fn run(&mut self, frame: &[u8]) -> Result {
        let mut after = vec![0; 4096];
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut after),
            ..TestRunOptions::default()
        };
        let result = match self.loaded.program_mut(self.program).expect("it is loaded") {
            Program::SchedClassifier(program) => program.test_run(options),
            Program::Xdp(program) => program.test_run(options),
            other => panic!("{} is a {:?}", self.program, other.prog_type()),
        };
        let result = result.expect("a test run");
        after.truncate(result.data_size_out as usize);
        let (answered, passed_on) = self.verdicts();
        let answered = match result.return_value {
            verdict if verdict == answered => true,
            verdict if verdict == passed_on => false,
            verdict => panic!("{}: verdict {verdict}", self.program),
        };
        Result { answered, frame: after }
    }

    fn set_lease(&mut self, lease: Lease) {
        self.loaded.lease.set(lease).expect("LEASE takes it");
    }

    fn keep(&mut self, key: &KeptKey, response: &[u8], expires_ms: i64, until_ms: i64) -> bool {
        let life = life(monotonic_ns().expect("a clock"), expires_ms, until_ms);
        self.loaded.cache.put(key, response, life).expect("CACHE takes it")
    }

    fn set_opted_out(&mut self, clients: &BTreeSet<IpAddr>) {
        let Loaded { opted_out, addresses, .. } = &mut *self.loaded;
        opted_out.set(clients, addresses).expect("OPTED_OUT takes them");
    }
}
