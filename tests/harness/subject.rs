//! What tests of the datapath are about: the shared code on the host, and the loaded
//! programs.

use std::{
    cell::{Cell, UnsafeCell},
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    ops::RangeInclusive,
};

use aya::{
    TestRun as _, TestRunOptions,
    programs::{Program, Xdp, XdpMode, xdp::XdpLink},
};
use dns_ebpf::{
    answer::{Buffer, Maps, answer},
    layout::{
        client::ClientAddress,
        key::{NameKey, Seed},
        name_entry::NameEntry,
        outcome::Outcome,
        programs,
        rendered::{KeptAnswer, LargeAnswer, Scratch, SmallAnswer},
        settings::{Lease, Settings},
        zone::Zone,
    },
    packet::Packet,
};
use dns_user::{
    clock::monotonic_ns,
    datapath::{
        cache::{KeptKey, Life},
        encode,
        load::Loaded,
    },
    records::{Answer, NameRecords},
    store::AnswerStore as _,
};

use crate::{
    kernel,
    known::{self, LOCAL_IPS, names, zone},
    pool::Pooled,
};

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

/// The shared code, with a vector for a packet and a hash map for NAMES.
pub struct Host {
    /// Key -> entry, as NAMES has it.
    pub names: HashMap<NameKey, NameEntry>,
    /// The same of ANSWERS.
    pub answers: HashMap<NameKey, SmallAnswer>,
    /// The same of `LARGE_ANSWERS`.
    pub large_answers: HashMap<NameKey, LargeAnswer>,
    /// The same of CACHE.
    pub kept: HashMap<NameKey, KeptAnswer>,
    scratch: Box<UnsafeCell<Scratch>>,
    settings: Settings,
    /// As [`dns_ebpf::layout::epoch::Epoch::changes`].
    pub changes: Cell<u64>,
    /// By how much that grows each time it is read.
    pub growth: u64,
    /// The value of ZONES.
    pub zone: Zone,
    lease: Lease,
    opted_out: BTreeSet<IpAddr>,
}

/// Seed of the host's keys.
pub const SEED: Seed = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];

/// The host's time.
const NOW_NS: u64 = 10_000_000_000;

fn life(now_ns: u64, expires_ms: i64, until_ms: i64) -> Life {
    let after = |ms: i64| now_ns.saturating_add_signed(ms * 1_000_000);
    Life { expires_ns: after(expires_ms), until_ns: after(until_ms) }
}

impl Host {
    /// Knows these names.
    pub fn new(names: &[NameRecords]) -> Self {
        let entry = |records| encode::name_entry(records, SEED, 7).expect("a name that fits");
        Self {
            names: names.iter().map(entry).collect(),
            answers: HashMap::new(),
            large_answers: HashMap::new(),
            kept: HashMap::new(),
            scratch: Box::new(UnsafeCell::new(Scratch::EMPTY)),
            settings: encode::settings(SEED, 0, &LOCAL_IPS, false).expect("few addresses"),
            changes: Cell::new(0),
            growth: 0,
            zone: encode::zone(&zone()).expect("a zone that fits"),
            lease: Lease { alive_until_ns: u64::MAX, serve_until_ns: u64::MAX },
            opted_out: BTreeSet::new(),
        }
    }

    /// Knows everything that is in [`known`].
    pub fn known() -> Self {
        let mut host = Self::new(&names()).with(&known::answers());
        host.keep_known();
        host
    }

    /// Knows these answers as well.
    #[must_use]
    pub fn with(mut self, answers: &[Answer]) -> Self {
        for answer in answers {
            if let Some((key, value)) = encode::answer(answer, SEED, 7) {
                self.answers.insert(key, value);
            } else {
                let large = encode::answer(answer, SEED, 7).expect("an answer that fits");
                self.large_answers.insert(large.0, large.1);
            }
        }
        self
    }

    /// Gives it a frame; None when the frame is not for the datapath at all.
    pub fn outcome(&self, frame: &mut Vec<u8>) -> Option<std::result::Result<Outcome, Outcome>> {
        let result = answer(HostBuffer(frame), HostMaps(self))?;
        let outcome = result.map(|answered| answered.outcome);
        Some(outcome.map_err(|passed_up| passed_up.outcome))
    }
}

impl Subject for Host {
    fn name(&self) -> &'static str {
        "host"
    }

    fn takes(&self, _: &[u8]) -> bool {
        true
    }

    fn run(&mut self, frame: &[u8]) -> Result {
        let mut frame = frame.to_vec();
        let answered = matches!(self.outcome(&mut frame), Some(Ok(_)));
        Result { answered, frame }
    }

    fn set_lease(&mut self, lease: Lease) {
        self.lease = lease;
    }

    fn keep(&mut self, key: &KeptKey, response: &[u8], expires_ms: i64, until_ms: i64) -> bool {
        let kept = encode::kept_answer(key, response, life(NOW_NS, expires_ms, until_ms), SEED, 7);
        kept.map(|(key, value)| self.kept.insert(key, value)).is_some()
    }

    fn set_opted_out(&mut self, clients: &BTreeSet<IpAddr>) {
        self.opted_out.clone_from(clients);
        self.settings.has_opted_out = u32::from(!clients.is_empty());
    }
}

#[derive(Clone, Copy)]
struct HostBuffer(*mut Vec<u8>);

impl Buffer for HostBuffer {
    fn packet(self) -> Packet {
        // SAFETY: the vector outlives the call of `answer` and is used by it alone.
        let octets = unsafe { (*self.0).as_mut_ptr_range() };
        // SAFETY: the bounds of the vector; void after `resize`.
        unsafe { Packet::new(octets.start as u64, octets.end as u64) }
    }

    fn resize(self, length: u64) -> bool {
        // SAFETY: as above.
        unsafe { (*self.0).resize(usize::try_from(length).expect("a short packet"), 0) };
        true
    }
}

#[derive(Clone, Copy)]
struct HostMaps<'a>(&'a Host);

impl<'a> Maps<'a> for HostMaps<'a> {
    fn settings(self) -> Option<&'a Settings> {
        Some(&self.0.settings)
    }

    fn seed(self) -> Seed {
        SEED
    }

    fn now_ns(self, _: &Settings) -> u64 {
        NOW_NS
    }

    fn lease(self) -> Option<Lease> {
        Some(self.0.lease)
    }

    fn changes(self) -> Option<u64> {
        Some(self.0.changes.replace(self.0.changes.get() + self.0.growth))
    }

    fn random(self) -> u32 {
        0
    }

    fn name_entry(self, key: &NameKey) -> Option<*const NameEntry> {
        self.0.names.get(key).map(std::ptr::from_ref)
    }

    fn answer(self, key: &NameKey) -> Option<*const SmallAnswer> {
        self.0.answers.get(key).map(std::ptr::from_ref)
    }

    fn large_answer(self, key: &NameKey) -> Option<*const LargeAnswer> {
        self.0.large_answers.get(key).map(std::ptr::from_ref)
    }

    fn kept_answer(self, key: &NameKey) -> Option<*const KeptAnswer> {
        self.0.kept.get(key).map(std::ptr::from_ref)
    }

    fn scratch(self) -> Option<*mut Scratch> {
        Some(self.0.scratch.get())
    }

    fn has_opted_out(self, client: &ClientAddress) -> bool {
        let octets = client.address.as_flattened();
        let ip: [u8; 16] = octets.try_into().expect("two halves");
        self.0.opted_out.contains(&IpAddr::from(ip).to_canonical())
    }

    fn zone(self) -> Option<&'a Zone> {
        Some(&self.0.zone)
    }
}

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
