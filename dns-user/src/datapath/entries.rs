//! The entries of a hash map; every error names the map.

use std::io::ErrorKind::NotFound;

use anyhow::{Context as _, Result};
use aya::{
    Pod,
    maps::{HashMap, Map, MapData, MapError},
};

use crate::store::Retained;

/// Numbers writes to one map, for both ends of its entries. Begins at random, so that a
/// new agent's writes differ from those of the one before.
pub(super) struct Generations(u32);

impl Generations {
    pub(super) fn begin() -> Self {
        Self(rand::random())
    }

    /// Returns that of the next write.
    pub(super) fn take(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(1);
        self.0
    }
}

/// A hash map, whether or not it evicts.
pub(super) struct Entries<K, V> {
    map: HashMap<MapData, K, V>,
    /// As in the object.
    name: &'static str,
}

impl<K: Pod, V: Pod> Entries<K, V> {
    /// Takes the map of that name.
    pub(super) fn new(map: Map, name: &'static str) -> Result<Self> {
        let map = map.try_into().with_context(|| format!("{name} is not the map it should be"))?;
        Ok(Self { map, name })
    }

    /// Returns all entries, in no order. Those that change meanwhile may be missing or
    /// come twice.
    pub(super) fn all(&self) -> impl Iterator<Item = Result<(K, V)>> {
        self.map.iter().map(|entry| entry.with_context(|| format!("cannot read {}", self.name)))
    }

    /// Returns the keys of all entries, as [`Self::all`] does.
    pub(super) fn keys(&self) -> impl Iterator<Item = Result<K>> {
        self.map.keys().map(|key| key.with_context(|| format!("cannot read {}", self.name)))
    }

    /// Returns the value of an entry; None when there is none.
    pub(super) fn get(&self, key: &K) -> Result<Option<V>> {
        match self.map.get(key, 0) {
            Ok(value) => Ok(Some(value)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", self.name)),
        }
    }

    /// Puts an entry there, in place of an older one.
    pub(super) fn insert(&mut self, key: K, value: V) -> Result<()> {
        let inserted = self.map.insert(key, value, 0);
        inserted.with_context(|| format!("cannot write to {} (is it full?)", self.name))
    }

    /// Removes an entry; not an error when it is not there.
    pub(super) fn remove(&mut self, key: &K) -> Result<()> {
        match self.map.remove(key) {
            // Which aya gives as an error of the system.
            Err(MapError::SyscallError(error)) if error.io_error.kind() == NotFound => Ok(()),
            removed => removed.with_context(|| format!("cannot delete from {}", self.name)),
        }
    }

    /// Removes the entries that `is_wanted` refuses.
    pub(super) fn retain(&mut self, is_wanted: impl Fn(&K, &V) -> bool) -> Result<Retained> {
        let (mut kept, mut strange) = (0, Vec::new());
        for entry in self.all() {
            let (key, value) = entry?;
            if is_wanted(&key, &value) {
                kept += 1;
            } else {
                strange.push(key);
            }
        }
        for key in &strange {
            self.remove(key)?;
        }
        Ok(Retained { kept, removed: strange.len() })
    }
}
