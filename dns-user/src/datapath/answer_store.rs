//! NAMES, ANSWERS and ZONES as the store writes to them, with EPOCH around each change.

use anyhow::{Context as _, Result};
use dns_ebpf::layout::{key::NameKey, name_entry::NameEntry};

use super::{answers::Answers, encode, epoch::EpochWriter, maps::Zones, names::Names};
use crate::{
    records::{Answer, AnswerKey, ClusterZone, NameRecords},
    store::{AnswerStore, Retained},
};

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
        let written = self.names.write(key, entry);
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
