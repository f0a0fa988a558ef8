//! Typed handles of the maps. Nothing else in the agent names them.

use anyhow::{Context as _, Result};
use aya::maps::{Array, Map, MapData, PerCpuArray};
use dns_ebpf::layout::{
    freshness::Freshness,
    key::{NameKey, Seed},
    maps,
    name_entry::NameEntry,
    outcome::{Outcome, counter},
    settings::{Lease, Settings},
    zone::Zone,
};

use tracing::warn;

use super::{
    answers::Answers, cache::KernelCache, encode, entries::Entries, epoch::EpochWriter, pins::Pins,
    remarks::Remarks,
};
use crate::{
    answers::Family,
    records::{Answer, AnswerKey, ClusterZone, NameRecords},
    store::{AnswerStore, Retained},
};

/// NAMES, written by the store.
pub struct Names {
    map: Entries<NameKey, NameEntry>,
    seed: Seed,
    /// Of the next write. Starts at random, so that a new agent's writes differ
    /// from those of the one before.
    generation: u32,
}

impl Names {
    /// Takes NAMES, whose keys are made with `seed`.
    pub fn new(map: MapData, seed: Seed) -> Result<Self> {
        let map = Entries::new(Map::HashMap(map), maps::NAMES)?;
        Ok(Self { map, seed, generation: rand::random() })
    }

    /// Returns all entries, in no order. Entries that change meanwhile may be
    /// missing or come twice.
    pub fn entries(&self) -> impl Iterator<Item = Result<(NameKey, NameEntry)>> {
        self.map.all()
    }

    /// Returns the entry of `name`.
    pub fn entry(&self, name: &str) -> Result<Option<NameEntry>> {
        let Some(key) = encode::name_key(name, self.seed) else { return Ok(None) };
        self.map.get(&key)
    }

    /// Returns what is to be there for these records; None when the kernel cannot hold
    /// the name.
    fn next_entry(&mut self, records: &NameRecords) -> Option<(NameKey, NameEntry)> {
        self.generation = self.generation.wrapping_add(1);
        encode::name_entry(records, self.seed, self.generation)
    }

    /// Whether an entry is there but for its generation.
    fn has(&self, key: &NameKey, entry: &NameEntry) -> Result<bool> {
        Ok(self.map.get(key)?.is_some_and(|installed| {
            let NameEntry { generation, generation_end, .. } = installed;
            generation == generation_end
                && installed == NameEntry { generation, generation_end, ..*entry }
        }))
    }

    /// Removes a name; not an error when it is not there.
    fn remove(&mut self, name: &str) -> Result<()> {
        match encode::name_key(name, self.seed) {
            Some(key) => self.map.remove(&key),
            None => Ok(()),
        }
    }

    /// Removes what `keep` refuses, and entries that no name leads to.
    fn retain(&mut self, keep: &dyn Fn(&str) -> bool) -> Result<Retained> {
        let seed = self.seed;
        self.map.retain(|key, entry| {
            let name = encode::text_to_string(&entry.name);
            // A key that is not the name's own could never be updated.
            encode::name_key(&name, seed) == Some(*key) && keep(&name)
        })
    }
}

/// ZONES.
pub struct Zones(Array<MapData, Zone>);

impl Zones {
    /// Takes ZONES.
    pub fn new(map: MapData) -> Result<Self> {
        Ok(Self(Map::Array(map).try_into().context("ZONES is not the map it should be")?))
    }

    /// Sets the cluster zone, or frees its place. A zone that the kernel cannot
    /// hold is left to user space.
    ///
    /// A program may read while this writes, so a place is freed, and taken, by
    /// its length alone: the rest is whole before and after.
    fn set(&mut self, zone: Option<&ClusterZone>) -> Result<()> {
        let installed = self.read()?;
        let wanted = zone.and_then(|zone| {
            let encoded = encode::zone(zone);
            if encoded.is_none() {
                warn!(zone = zone.name, "the kernel cannot hold this zone; user space answers");
            }
            encoded
        });
        let Some(wanted) = wanted else {
            return self.write(&Zone { length: 0, ..installed });
        };
        if (installed.length, installed.name) != (wanted.length, wanted.name) {
            self.write(&Zone { length: 0, ..installed })?;
            self.write(&Zone { length: 0, ..wanted })?;
        }
        self.write(&wanted)
    }

    fn read(&self) -> Result<Zone> {
        self.0.get(&0, 0).context("cannot read ZONES")
    }

    fn write(&mut self, zone: &Zone) -> Result<()> {
        self.0.set(0, zone, 0).context("cannot write ZONES")
    }

    /// Returns the zone, if one is set.
    pub fn get(&self) -> Result<Option<Zone>> {
        Ok(Some(self.read()?).filter(|zone| zone.length != 0))
    }
}

/// What the kernel answers from the objects: NAMES, ANSWERS and ZONES.
pub struct KernelAnswers {
    names: Names,
    answers: Answers,
    zones: Zones,
    epoch: EpochWriter,
    /// A name could not be written, so that NAMES stays marked as changing until
    /// no zone counts as complete.
    lacks_names: bool,
    /// A zone may count as complete.
    is_complete: bool,
}

impl KernelAnswers {
    /// Takes the maps.
    pub fn new(names: Names, answers: Answers, zones: Zones, epoch: EpochWriter) -> Self {
        Self { names, answers, zones, epoch, lacks_names: false, is_complete: true }
    }

    /// Returns the SOA serial of what is answered already; None for nothing.
    pub fn serial(&self) -> Result<Option<u32>> {
        Ok(self.zones.get()?.map(|zone| zone.serial))
    }

    fn write(&mut self, key: NameKey, entry: NameEntry) -> Result<()> {
        self.epoch.begin();
        let written = self.names.map.insert(key, entry);
        self.lacks_names |= written.is_err() && self.is_complete;
        self.end_change();
        written.with_context(|| format!("the name {}", encode::text_to_string(&entry.name)))
    }

    fn end_change(&self) {
        if !self.lacks_names {
            self.epoch.end();
        }
    }
}

impl AnswerStore for KernelAnswers {
    fn put(&mut self, records: &NameRecords) -> Result<()> {
        let Some((key, entry)) = self.names.next_entry(records) else { return Ok(()) };
        if self.names.has(&key, &entry)? { Ok(()) } else { self.write(key, entry) }
    }

    fn put_first(&mut self, records: &NameRecords) -> Result<()> {
        let Some((key, entry)) = self.names.next_entry(records) else { return Ok(()) };
        self.write(key, entry)
    }

    fn remove(&mut self, name: &str) -> Result<()> {
        self.epoch.begin();
        let removed = self.names.remove(name);
        self.end_change();
        removed
    }

    fn retain(&mut self, keep: &dyn Fn(&str) -> bool) -> Result<Retained> {
        self.epoch.begin();
        let removed = self.names.retain(keep);
        self.end_change();
        removed
    }

    fn put_answer(&mut self, answer: &Answer) -> Result<()> {
        let AnswerKey { name, qtype } = &answer.key;
        self.answers.put(answer).with_context(|| format!("records of {name}, type {qtype}"))
    }

    fn put_first_answer(&mut self, answer: &Answer) -> Result<()> {
        let AnswerKey { name, qtype } = &answer.key;
        self.answers.put_first(answer).with_context(|| format!("records of {name}, type {qtype}"))
    }

    fn remove_answer(&mut self, key: &AnswerKey) -> Result<()> {
        self.answers.remove(key)
    }

    fn retain_answers(&mut self, keep: &dyn Fn(&AnswerKey) -> bool) -> Result<Retained> {
        self.answers.retain(keep)
    }

    fn is_in_zone(&self, zone: &str) -> Result<bool> {
        let installed = self.zones.get()?;
        Ok(installed.is_some_and(|installed| encode::text_to_string(&installed.name) == zone))
    }

    fn set_zone(&mut self, zone: Option<&ClusterZone>) -> Result<()> {
        let is_complete = zone.is_some_and(|zone| zone.is_complete);
        self.is_complete |= is_complete;
        self.zones.set(zone)?;
        self.is_complete = is_complete;
        if self.lacks_names && !is_complete {
            self.lacks_names = false;
            self.epoch.end();
        }
        Ok(())
    }
}

/// LEASE.
pub struct LeaseMap(Array<MapData, Lease>);

impl LeaseMap {
    /// Takes LEASE.
    pub fn new(map: MapData) -> Result<Self> {
        Ok(Self(Map::Array(map).try_into().context("LEASE is not the map it should be")?))
    }

    /// Sets the lease.
    pub fn set(&mut self, lease: Lease) -> Result<()> {
        self.0.set(0, lease, 0).context("cannot write LEASE")
    }

    /// Returns the lease.
    pub fn get(&self) -> Result<Lease> {
        self.0.get(&0, 0).context("cannot read LEASE")
    }
}

/// FRESHNESS.
pub struct FreshnessMap(Array<MapData, Freshness>);

impl FreshnessMap {
    /// Takes FRESHNESS.
    pub fn new(map: MapData) -> Result<Self> {
        Ok(Self(Map::Array(map).try_into().context("FRESHNESS is not the map it should be")?))
    }

    /// Sets how recent the objects are.
    pub fn set(&mut self, freshness: Freshness) -> Result<()> {
        self.0.set(0, freshness, 0).context("cannot write FRESHNESS")
    }

    /// Returns how recent the objects are.
    pub fn get(&self) -> Result<Freshness> {
        self.0.get(&0, 0).context("cannot read FRESHNESS")
    }
}

/// COUNTERS.
pub struct Counters(PerCpuArray<MapData, u64>);

impl Counters {
    /// Takes COUNTERS.
    pub fn new(map: MapData) -> Result<Self> {
        Ok(Self(Map::PerCpuArray(map).try_into().context("COUNTERS is not the map it should be")?))
    }

    /// Returns how often each outcome was counted, over all CPUs, for each family.
    pub fn read(&self) -> Result<Vec<Count>> {
        let families = [Family::V4, Family::V6];
        let all = families.iter().flat_map(|family| Outcome::ALL.map(|outcome| (*family, outcome)));
        let sum = |(family, outcome)| {
            let counts = self.0.get(&counter(outcome, family == Family::V6), 0);
            let counts = counts.context("cannot read COUNTERS")?;
            Ok(Count { outcome, family, packets: counts.iter().sum() })
        };
        all.map(sum).collect()
    }
}

/// How often an outcome was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// The outcome.
    pub outcome: Outcome,
    /// The family of the packets.
    pub family: Family,
    /// How many packets ended so.
    pub packets: u64,
}

/// All maps of pinned state, for the verbs that look at it.
pub struct PinnedMaps {
    /// SETTINGS as they were written.
    pub settings: Settings,
    /// NAMES.
    pub names: Names,
    /// ANSWERS and `LARGE_ANSWERS`.
    pub answers: Answers,
    /// CACHE.
    pub cache: KernelCache,
    /// ZONES.
    pub zones: Zones,
    /// LEASE.
    pub lease: LeaseMap,
    /// FRESHNESS.
    pub freshness: FreshnessMap,
    /// COUNTERS.
    pub counters: Counters,
    /// REMARKS.
    pub remarks: Remarks,
}

impl PinnedMaps {
    /// Opens the maps in `pins`.
    pub fn open(pins: &Pins) -> Result<Self> {
        let settings = pins.settings()?;
        Ok(Self {
            names: Names::new(pins.open(maps::NAMES)?, settings.seed)?,
            answers: Answers::new(
                pins.open(maps::ANSWERS)?,
                pins.open(maps::LARGE_ANSWERS)?,
                settings.seed,
            )?,
            cache: KernelCache::new(pins.open(maps::CACHE)?, settings.seed)?,
            zones: Zones::new(pins.open(maps::ZONES)?)?,
            lease: LeaseMap::new(pins.open(maps::LEASE)?)?,
            freshness: FreshnessMap::new(pins.open(maps::FRESHNESS)?)?,
            counters: Counters::new(pins.open(maps::COUNTERS)?)?,
            remarks: Remarks::new(pins.open(maps::REMARKS)?)?,
            settings,
        })
    }
}
