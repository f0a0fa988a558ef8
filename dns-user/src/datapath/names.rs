//! Typed handle of NAMES.

use anyhow::Result;
use aya::maps::{Map, MapData};
use dns_ebpf::layout::{
    key::{NameKey, Seed},
    maps,
    name_entry::NameEntry,
};

use super::{
    encode,
    entries::{Entries, Generations},
};
use crate::{records::NameRecords, store::Retained};

/// Octets that an entry takes in the kernel: the hash map's element of header,
/// key and value, as the slab rounds it, and its share of the bucket's array.
pub const OCTETS_PER_ENTRY: usize = 264;

/// NAMES, written by the store.
pub struct Names {
    map: Entries<NameKey, NameEntry>,
    seed: Seed,
    generations: Generations,
}

impl Names {
    /// Takes NAMES, whose keys are made with `seed`.
    pub fn new(map: MapData, seed: Seed) -> Result<Self> {
        let map = Entries::new(Map::HashMap(map), maps::NAMES)?;
        Ok(Self { map, seed, generations: Generations::begin() })
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
    pub(super) fn next_entry(&mut self, records: &NameRecords) -> Option<(NameKey, NameEntry)> {
        encode::name_entry(records, self.seed, self.generations.take())
    }

    /// Whether an entry is there but for its generation.
    pub(super) fn has(&self, key: &NameKey, entry: &NameEntry) -> Result<bool> {
        Ok(self.map.get(key)?.is_some_and(|installed| {
            let NameEntry { generation, generation_end, .. } = installed;
            generation == generation_end
                && installed == NameEntry { generation, generation_end, ..*entry }
        }))
    }

    pub(super) fn write(&mut self, key: NameKey, entry: NameEntry) -> Result<()> {
        self.map.insert(key, entry)
    }

    /// Removes a name; not an error when it is not there.
    pub(super) fn remove(&mut self, name: &str) -> Result<()> {
        match encode::name_key(name, self.seed) {
            Some(key) => self.map.remove(&key),
            None => Ok(()),
        }
    }

    /// Removes what `keep` refuses, and entries that no name leads to.
    pub(super) fn retain(&mut self, keep: &dyn Fn(&str) -> bool) -> Result<Retained> {
        let seed = self.seed;
        self.map.retain(|key, entry| {
            let name = encode::text_to_string(&entry.name);
            // A key that is not the name's own could never be updated.
            encode::name_key(&name, seed) == Some(*key) && keep(&name)
        })
    }
}
