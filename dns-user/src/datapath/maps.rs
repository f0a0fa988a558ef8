//! Typed handles of the arrays, and of all maps that are pinned.

use anyhow::{Context as _, Result};
use aya::maps::{Array, Map, MapData, PerCpuArray};
use dns_ebpf::layout::{
    freshness::Freshness,
    maps,
    outcome::{Outcome, counter},
    settings::{Lease, Settings},
    zone::Zone,
};
use tracing::warn;

use super::{
    answers::Answers, cache::KernelCache, encode, names::Names, pins::Pins, remarks::Remarks,
};
use crate::{answers::Family, records::ClusterZone};

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
    pub(super) fn set(&mut self, zone: Option<&ClusterZone>) -> Result<()> {
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
