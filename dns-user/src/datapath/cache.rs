//! CACHE: responses for names outside the cluster, which the kernel gives while they
//! are good and an agent is alive.

use anyhow::Result;
use aya::maps::{Map, MapData};
use dns_ebpf::layout::{
    key::{NameKey, Seed},
    maps,
    rendered::{KeptAnswer, variant},
};

use super::{
    encode::{self, rendered},
    entries::{Entries, Generations},
};
use crate::message::Question;

/// Octets that an entry of CACHE takes in the kernel: an element of header, key and value,
/// and its share of the bucket's array. All are taken at once.
pub const OCTETS_PER_ENTRY: usize = 48 + size_of::<NameKey>() + size_of::<KeptAnswer>() + 16;

/// What an entry of CACHE is found by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeptKey {
    /// The name in lower case, without a final dot.
    pub(super) name: String,
    pub(super) qtype: u16,
    /// Bits of [`variant`].
    pub(super) variant: u16,
}

impl KeptKey {
    /// Returns the key of a question of class IN under DO and CD; None when the kernel
    /// cannot hold its name: one of more than 136 octets, or of other characters than
    /// letters, digits, `-` and `_`.
    pub fn new(question: &Question<'_>, dnssec_ok: bool, checking_disabled: bool) -> Option<Self> {
        let name = encode::plain_name(question.name)?;
        let flag = |is_set: bool, flag: u16| if is_set { flag } else { 0 };
        let variant = flag(dnssec_ok, variant::DNSSEC_OK)
            | flag(checking_disabled, variant::CHECKING_DISABLED);
        Some(Self { name, qtype: question.qtype, variant })
    }
}

/// For how long the kernel gives a response, on `CLOCK_MONOTONIC`
/// ([`monotonic_ns`](crate::clock::monotonic_ns)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// When the TTL of its records is 0: all of them have the whole seconds until then.
    pub expires_ns: u64,
    /// Until when it is given; not after `expires_ns`. Before that, so that somebody
    /// who still asks for it reaches the agent, which may renew it.
    pub until_ns: u64,
}

/// The map.
pub struct KernelCache {
    map: Entries<NameKey, KeptAnswer>,
    seed: Seed,
    generations: Generations,
}

impl KernelCache {
    /// Takes CACHE, whose keys are made with `seed`.
    pub fn new(map: MapData, seed: Seed) -> Result<Self> {
        let map = Entries::new(Map::LruHashMap(map), maps::CACHE)?;
        Ok(Self { map, seed, generations: Generations::begin() })
    }

    /// Gives a response from now on, in place of an older one. It is the message that
    /// answers `key` without an OPT, with AA and RA as on a hit of CoreDNS's cache.
    ///
    /// False, and nothing is there afterwards, when the kernel cannot give it: as in
    /// [`rendered::kept_answer`].
    pub fn put(&mut self, key: &KeptKey, response: &[u8], life: Life) -> Result<bool> {
        let generation = self.generations.take();
        let Some((key, value)) = rendered::kept_answer(key, response, life, self.seed, generation)
        else {
            self.remove(key)?;
            return Ok(false);
        };
        self.map.insert(key, value)?;
        Ok(true)
    }

    /// Gives a response no longer; not an error when it is not there.
    pub fn remove(&mut self, key: &KeptKey) -> Result<()> {
        let Some(key) = rendered::kept_key(key, self.seed) else { return Ok(()) };
        self.map.remove(&key)
    }

    /// Gives no response any longer: for the start, and whenever all that is kept is
    /// forgotten.
    pub fn clear(&mut self) -> Result<()> {
        let keys: Vec<_> = self.map.keys().filter_map(Result::ok).collect();
        keys.iter().try_for_each(|key| self.map.remove(key))
    }

    /// Returns all entries, in no order. Entries that change meanwhile may be missing
    /// or come twice.
    pub fn entries(&self) -> Result<Vec<KeptAnswer>> {
        self.map.all().map(|entry| Ok(entry?.1)).collect()
    }
}
