//! Brings the kernel's NAMES to the state of the table: the least set of
//! changes, and never an old answer left behind by a failure.

use std::collections::BTreeSet;

use anyhow::Result;
use tracing::{debug, error};

use crate::records::{Change, NameRecords, Table};

/// Where names are installed; stands where the kernel stands.
pub trait NameStore {
    /// Installs the records of a name, in place of any older ones.
    fn put(&mut self, records: &NameRecords) -> Result<()>;
    /// Removes a name; not an error when it is not there.
    fn remove(&mut self, name: &str) -> Result<()>;
    /// Removes every name that `keep` refuses; returns how many.
    fn retain(&mut self, keep: &dyn Fn(&str) -> bool) -> Result<usize>;
}

/// The names that are installed, and those that are owed to it.
pub struct Store<S> {
    names: S,
    /// Names whose last change failed; tried again by [`Self::retry`].
    failed: BTreeSet<String>,
}

impl<S: NameStore> Store<S> {
    /// Takes a store with whatever is installed in it.
    pub fn new(names: S) -> Self {
        Self { names, failed: BTreeSet::new() }
    }

    /// Makes what is installed equal to `table`: for the start, when an earlier
    /// agent's names may be there.
    pub fn reconcile(&mut self, table: &Table) -> Result<()> {
        let removed = self.names.retain(&|name| table.names.contains_key(name))?;
        debug!(removed, wanted = table.names.len(), "reconciling the kernel's names");
        for records in table.names.values() {
            self.put(records);
        }
        Ok(())
    }

    /// Applies changes of the table.
    pub fn apply(&mut self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Put(records) => self.put(records),
                Change::Remove(name) => self.remove(name),
            }
        }
    }

    /// Tries again what failed, as `table` now wants it.
    pub fn retry(&mut self, table: &Table) {
        for name in std::mem::take(&mut self.failed) {
            match table.names.get(&name) {
                Some(records) => self.put(records),
                None => self.remove(&name),
            }
        }
    }

    /// Returns the number of names whose last change failed. The kernel passes
    /// queries for them up, or answers them as before when even that failed.
    pub fn failed(&self) -> usize {
        self.failed.len()
    }

    fn put(&mut self, records: &NameRecords) {
        if let Err(reason) = self.names.put(records) {
            error!(name = records.name, "{reason:#}; queries for it are answered in user space");
            // Rather no answer than an old one.
            self.remove(&records.name);
            self.failed.insert(records.name.clone());
        } else {
            self.failed.remove(&records.name);
        }
    }

    fn remove(&mut self, name: &str) {
        if let Err(reason) = self.names.remove(name) {
            error!(name, "{reason:#}; trying again");
            self.failed.insert(name.to_owned());
        } else {
            self.failed.remove(name);
        }
    }
}
