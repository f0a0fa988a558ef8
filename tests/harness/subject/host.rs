//! The datapath's code on the host.

use std::{
    cell::{Cell, UnsafeCell},
    collections::{BTreeSet, HashMap},
    net::IpAddr,
};

use dns_ebpf::{
    answer::{Buffer, Maps, answer},
    layout::{
        client::ClientAddress,
        key::{NameKey, Seed},
        name_entry::NameEntry,
        outcome::Outcome,
        rendered::{KeptAnswer, LargeAnswer, Scratch, SmallAnswer},
        settings::{Lease, Settings},
        zone::Zone,
    },
    packet::Packet,
};
use dns_user::{
    datapath::{
        cache::KeptKey,
        encode::{self, rendered},
    },
    records::{Answer, NameRecords},
};

use super::{Result, Subject, life};
use crate::known::{self, LOCAL_IPS, names, zone};

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
            if let Some((key, value)) = rendered::answer(answer, SEED, 7) {
                self.answers.insert(key, value);
            } else {
                let large = rendered::answer(answer, SEED, 7).expect("an answer that fits");
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
        let kept =
            rendered::kept_answer(key, response, life(NOW_NS, expires_ms, until_ms), SEED, 7);
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
