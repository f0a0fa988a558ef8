//! Brings the kernel's maps to the state of the table: the least set of
//! changes, and never an old answer left behind by a failure.

use std::collections::BTreeSet;

use anyhow::Result;
use tracing::{debug, error};

use crate::records::{Answer, AnswerKey, Change, ClusterZone, NameRecords, Table};

/// Where answers are installed; stands where the kernel stands.
pub trait AnswerStore {
    /// Installs the records of a name, in place of any older ones.
    fn put(&mut self, records: &NameRecords) -> Result<()>;
    /// Removes a name; not an error when it is not there.
    fn remove(&mut self, name: &str) -> Result<()>;
    /// Removes every name that `keep` refuses; returns how many.
    fn retain(&mut self, keep: &dyn Fn(&str) -> bool) -> Result<usize>;
    /// Installs records of one type, in place of any older ones; removes these when
    /// the new ones do not fit.
    fn put_answer(&mut self, answer: &Answer) -> Result<()>;
    /// Removes records of one type; not an error when there are none.
    fn remove_answer(&mut self, key: &AnswerKey) -> Result<()>;
    /// Removes all records of one type that `keep` refuses; returns how many times.
    fn retain_answers(&mut self, keep: &dyn Fn(&AnswerKey) -> bool) -> Result<usize>;
    /// Says whether the zone of all names has that name, whatever else it has.
    fn is_in_zone(&self, zone: &str) -> Result<bool>;
    /// Sets the zone of all names. Without one no name is answered.
    fn set_zone(&mut self, zone: Option<&ClusterZone>) -> Result<()>;
}

/// The answers that are installed, and those that are owed.
pub struct Store<S> {
    answers: S,
    /// Names whose last change failed; tried again by [`Self::retry`].
    failed: BTreeSet<String>,
    /// The same of answers. That one is not there denies nothing.
    failed_answers: BTreeSet<AnswerKey>,
    /// The zone as the table has it.
    zone: Option<ClusterZone>,
    zone_failed: bool,
    /// Calls of [`Self::retry`] until something is tried again, and how many there
    /// were before the last try: they double each time it was in vain.
    pause: u32,
    last_pause: u32,
}

/// Most changes that are tried again at once.
const RETRIES_MAX: usize = 1000;
/// Most calls of [`Store::retry`] between two tries.
const PAUSE_MAX: u32 = 63;

impl<S: AnswerStore> Store<S> {
    /// Takes a store with whatever is installed in it.
    pub fn new(answers: S) -> Self {
        Self {
            answers,
            failed: BTreeSet::new(),
            failed_answers: BTreeSet::new(),
            zone: None,
            zone_failed: false,
            pause: 0,
            last_pause: 0,
        }
    }

    /// Makes what is installed equal to `table`: for the start, when an earlier
    /// agent's answers may be there. They are answered until they are replaced.
    pub fn reconcile(&mut self, table: &Table) -> Result<()> {
        let zone = table.zone.as_ref().map(|zone| zone.name.as_str());
        if !zone.is_some_and(|zone| self.answers.is_in_zone(zone).unwrap_or(false)) {
            // None of the new names may be answered under the old zone.
            self.answers.set_zone(None)?;
        }
        let removed = self.answers.retain(&|name| table.names.contains_key(name))?;
        debug!(removed, wanted = table.names.len(), "reconciling the kernel's names");
        let removed = self.answers.retain_answers(&|key| table.answers.contains_key(key))?;
        debug!(removed, wanted = table.answers.len(), "reconciling the kernel's answers");
        for records in table.names.values() {
            self.put(records);
        }
        for answer in table.answers.values() {
            self.put_answer(answer);
        }
        self.set_zone(table.zone.as_ref());
        Ok(())
    }

    /// Applies changes of the table, in their order.
    pub fn apply(&mut self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Put(records) => self.put(records),
                Change::Remove(name) => self.remove(name),
                Change::PutAnswer(answer) => self.put_answer(answer),
                Change::RemoveAnswer(key) => self.remove_answer(key),
                Change::Zone(zone) => self.set_zone(zone.as_ref()),
            }
        }
    }

    /// Tries again what failed, as `table` now wants it, a part at a time and
    /// more seldom the longer it fails. To be called regularly.
    pub fn retry(&mut self, table: &Table) {
        let owed = self.owed();
        if owed == 0 || self.pause > 0 {
            self.pause = self.pause.saturating_sub(1);
            return;
        }
        let names: Vec<_> = self.failed.iter().take(RETRIES_MAX).cloned().collect();
        for name in names {
            match table.names.get(&name) {
                Some(records) => self.put(records),
                None => self.remove(&name),
            }
        }
        let keys: Vec<_> = self.failed_answers.iter().take(RETRIES_MAX).cloned().collect();
        for key in keys {
            match table.answers.get(&key) {
                Some(answer) => self.put_answer(answer),
                None => self.remove_answer(&key),
            }
        }
        if self.zone_failed {
            self.install_zone();
        }
        let is_better = self.owed() < owed;
        self.last_pause = if is_better { 0 } else { (2 * self.last_pause + 1).min(PAUSE_MAX) };
        self.pause = self.last_pause;
    }

    /// Returns how many changes, of names, answers or the zone, are owed to the kernel.
    /// Queries for such names are answered in user space.
    pub fn owed(&self) -> usize {
        self.failed.len() + self.failed_answers.len() + usize::from(self.zone_failed)
    }

    fn put(&mut self, records: &NameRecords) {
        if let Err(reason) = self.answers.put(records) {
            if self.failed.is_empty() {
                let name = &records.name;
                error!(name, "{reason:#}; it, and more, may be answered in user space");
            }
            self.owe(&records.name);
            // Rather no answer than an old one.
            if let Err(reason) = self.answers.remove(&records.name) {
                error!(name = records.name, "{reason:#}; trying again");
            }
        } else {
            self.settle(&records.name);
        }
    }

    fn remove(&mut self, name: &str) {
        if let Err(reason) = self.answers.remove(name) {
            error!(name, "{reason:#}; trying again");
            self.owe(name);
        } else {
            self.settle(name);
        }
    }

    fn put_answer(&mut self, answer: &Answer) {
        if let Err(reason) = self.answers.put_answer(answer) {
            if self.failed_answers.is_empty() {
                let AnswerKey { name, qtype } = &answer.key;
                error!(name, qtype, "{reason:#}; it, and more, may be answered in user space");
            }
            self.failed_answers.insert(answer.key.clone());
            // Rather no answer than an old one.
            if let Err(reason) = self.answers.remove_answer(&answer.key) {
                error!(name = answer.key.name, "{reason:#}; trying again");
            }
        } else {
            self.failed_answers.remove(&answer.key);
        }
    }

    fn remove_answer(&mut self, key: &AnswerKey) {
        if let Err(reason) = self.answers.remove_answer(key) {
            error!(name = key.name, qtype = key.qtype, "{reason:#}; trying again");
            self.failed_answers.insert(key.clone());
        } else {
            self.failed_answers.remove(key);
        }
    }

    /// While a name is owed, no other one is denied for not being there.
    fn owe(&mut self, name: &str) {
        if self.failed.insert(name.to_owned()) && self.failed.len() == 1 {
            self.install_zone();
        }
    }

    fn settle(&mut self, name: &str) {
        if self.failed.remove(name) && self.failed.is_empty() {
            self.install_zone();
        }
    }

    fn set_zone(&mut self, zone: Option<&ClusterZone>) {
        self.zone = zone.cloned();
        self.install_zone();
    }

    fn install_zone(&mut self) {
        let mut zone = self.zone.clone();
        if let Some(zone) = &mut zone {
            zone.is_complete &= self.failed.is_empty();
        }
        let set = self.answers.set_zone(zone.as_ref());
        self.zone_failed = set.is_err();
        if let Err(reason) = set {
            error!("{reason:#}; trying again");
        }
    }
}

#[cfg(test)]
mod tests;
