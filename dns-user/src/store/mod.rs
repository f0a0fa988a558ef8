//! Brings the kernel's maps to what is wanted: by changes, or as a whole, and never
//! with an old answer left behind by a failure.

use std::collections::BTreeSet;

use anyhow::Result;
use tracing::{debug, error};

use crate::records::{Answer, AnswerKey, Change, ClusterZone, NameRecords, Wanted};

/// Where answers are installed; stands where the kernel stands.
pub trait AnswerStore {
    /// Installs the records of a name, in place of any older ones.
    fn put(&mut self, records: &NameRecords) -> Result<()>;
    /// Does the same, and faster, where no names were installed before.
    fn put_first(&mut self, records: &NameRecords) -> Result<()>;
    /// Removes a name; not an error when it is not there.
    fn remove(&mut self, name: &str) -> Result<()>;
    /// Removes every name that `keep` refuses.
    fn retain(&mut self, keep: &dyn Fn(&str) -> bool) -> Result<Retained>;
    /// Installs records of one type, in place of any older ones; removes these when
    /// the new ones do not fit.
    fn put_answer(&mut self, answer: &Answer) -> Result<()>;
    /// Does the same, and faster, where no records of one type were installed before.
    fn put_first_answer(&mut self, answer: &Answer) -> Result<()>;
    /// Removes records of one type; not an error when there are none.
    fn remove_answer(&mut self, key: &AnswerKey) -> Result<()>;
    /// Removes all records of one type that `keep` refuses.
    fn retain_answers(&mut self, keep: &dyn Fn(&AnswerKey) -> bool) -> Result<Retained>;
    /// Says whether the zone of all names has that name, whatever else it has.
    fn is_in_zone(&self, zone: &str) -> Result<bool>;
    /// Sets the zone of all names. Without one no name is answered.
    fn set_zone(&mut self, zone: Option<&ClusterZone>) -> Result<()>;
}

/// How many names, or answers, were kept and removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retained {
    /// Those that are still there.
    pub kept: usize,
    /// Those that are not.
    pub removed: usize,
}

/// The answers that are installed, and those that are owed.
pub struct Store<S> {
    answers: S,
    /// Names whose last change failed; tried again by [`Self::retry`].
    failed: BTreeSet<String>,
    /// The same of answers. That one is not there denies nothing.
    failed_answers: BTreeSet<AnswerKey>,
    /// The zone as it is wanted.
    zone: Option<ClusterZone>,
    zone_failed: bool,
    /// What is no longer wanted may still be installed, so that no zone may be.
    all_failed: bool,
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
            all_failed: false,
            pause: 0,
            last_pause: 0,
        }
    }

    /// Makes what is installed equal to what is wanted: for the start, when an earlier
    /// agent's answers may be there. They are answered until they are replaced.
    pub fn reconcile(&mut self, wanted: &impl Wanted) -> Result<()> {
        let zone = wanted.zone().map(|zone| zone.name.as_str());
        if !zone.is_some_and(|zone| self.answers.is_in_zone(zone).unwrap_or(false)) {
            // None of the new names may be answered under the old zone.
            self.answers.set_zone(None)?;
        }
        self.replace_all(wanted)?;
        self.set_zone(wanted.zone());
        Ok(())
    }

    /// Applies changes in their order, the last of which lead to what is wanted.
    pub fn apply(&mut self, changes: &[Change], wanted: &impl Wanted) {
        for change in changes {
            match change {
                Change::Put(records) => self.put(records, S::put),
                Change::Remove(name) => self.remove(name),
                Change::Answer(key) => self.change_answer(key, wanted),
                Change::Zone(zone) => self.set_zone(zone.as_ref()),
                Change::All => self.change_all(wanted),
            }
        }
    }

    /// Tries again what failed, as it is wanted now, a part at a time and more seldom
    /// the longer it fails. To be called regularly.
    pub fn retry(&mut self, wanted: &impl Wanted) {
        let owed = self.owed();
        if owed == 0 || self.pause > 0 {
            self.pause = self.pause.saturating_sub(1);
            return;
        }
        if self.all_failed {
            self.change_all(wanted);
        }
        let names: Vec<_> = self.failed.iter().take(RETRIES_MAX).cloned().collect();
        for name in names {
            match wanted.name(&name) {
                Some(records) => self.put(&records, S::put),
                None => self.remove(&name),
            }
        }
        let keys: Vec<_> = self.failed_answers.iter().take(RETRIES_MAX).cloned().collect();
        for key in keys {
            self.change_answer(&key, wanted);
        }
        if self.zone_failed {
            self.install_zone();
        }
        let is_better = self.owed() < owed;
        self.last_pause = if is_better { 0 } else { (2 * self.last_pause + 1).min(PAUSE_MAX) };
        self.pause = self.last_pause;
    }

    fn change_all(&mut self, wanted: &impl Wanted) {
        let replaced = self.replace_all(wanted);
        self.all_failed = replaced.is_err();
        if let Err(reason) = replaced {
            error!("{reason:#}; trying again, everything is answered in user space");
        }
        self.install_zone();
    }

    /// Removes what is not wanted, and then puts what is. Fails when something stayed
    /// that should not.
    fn replace_all(&mut self, wanted: &impl Wanted) -> Result<()> {
        let names = self.answers.retain(&|name| wanted.name(name).is_some())?;
        let answers = self.answers.retain_answers(&|key| wanted.answer(key).is_some())?;
        debug!(?names, ?answers, "what was there");
        // What could not be removed has been, and the rest comes again.
        self.failed.clear();
        self.failed_answers.clear();
        let put = if names.kept == 0 { S::put_first } else { S::put };
        wanted.names().for_each(|records| self.put(&records, put));
        let put = if answers.kept == 0 { S::put_first_answer } else { S::put_answer };
        wanted.answers().for_each(|answer| self.put_answer(&answer, put));
        Ok(())
    }

    /// Returns how many changes, of names, answers or the zone, are owed to the kernel.
    /// Queries for such names are answered in user space.
    pub fn owed(&self) -> usize {
        let others = [self.zone_failed, self.all_failed].map(usize::from);
        self.failed.len() + self.failed_answers.len() + others.iter().sum::<usize>()
    }

    fn put(&mut self, records: &NameRecords, put: fn(&mut S, &NameRecords) -> Result<()>) {
        if let Err(reason) = put(&mut self.answers, records) {
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

    fn change_answer(&mut self, key: &AnswerKey, wanted: &impl Wanted) {
        match wanted.answer(key) {
            Some(answer) => self.put_answer(&answer, S::put_answer),
            None => self.remove_answer(key),
        }
    }

    fn put_answer(&mut self, answer: &Answer, put: fn(&mut S, &Answer) -> Result<()>) {
        if let Err(reason) = put(&mut self.answers, answer) {
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
        let mut zone = self.zone.clone().filter(|_| !self.all_failed);
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
