//! ANSWERS and `LARGE_ANSWERS`: records of one name and type, in the map whose
//! values are just long enough.

use anyhow::Result;
use aya::{
    Pod,
    maps::{Map, MapData},
};
use dns_ebpf::layout::{
    key::{NameKey, Seed},
    maps,
    rendered::{LARGE, Rendered, SMALL},
};

use super::{
    encode::rendered,
    entries::{Entries, Generations},
    names,
};
use crate::{
    records::{Answer, AnswerKey},
    store::Retained,
};

/// Both maps, written by the store.
pub struct Answers {
    small: OfSize<SMALL>,
    large: OfSize<LARGE>,
    seed: Seed,
    generations: Generations,
}

/// The map for answers of one size.
struct OfSize<const OCTETS: usize>(Entries<NameKey, Rendered<OCTETS>>);

impl Answers {
    /// Takes ANSWERS and `LARGE_ANSWERS`, whose keys are made with `seed`.
    pub fn new(small: MapData, large: MapData, seed: Seed) -> Result<Self> {
        let small = OfSize(Entries::new(Map::HashMap(small), maps::ANSWERS)?);
        let large = OfSize(Entries::new(Map::HashMap(large), maps::LARGE_ANSWERS)?);
        Ok(Self { small, large, seed, generations: Generations::begin() })
    }

    /// Returns all answers, in no order, with the octets of memory that each takes.
    /// Some that change meanwhile may be missing or come twice.
    pub fn all(&self) -> Result<Vec<(Answer, usize)>> {
        /// Values are as long as those of NAMES.
        const SMALL_OCTETS: usize = names::OCTETS_PER_ENTRY;
        /// Made up in the same way.
        const LARGE_OCTETS: usize = 1032;
        let small = self.small.answers().map(|entry| Ok((entry?, SMALL_OCTETS)));
        let large = self.large.answers().map(|entry| Ok((entry?, LARGE_OCTETS)));
        small.chain(large).collect()
    }

    /// Installs an answer in the map in which it fits, and nowhere else.
    pub fn put(&mut self, answer: &Answer) -> Result<()> {
        let generation = self.generations.take();
        // The smaller map is asked first, so an answer that moves is there all the while.
        if let Some((key, value)) = rendered::answer::<SMALL>(answer, self.seed, generation) {
            if self.small.has(&key, &value)? {
                // Nobody reads what may have stayed in the other one.
                return Ok(());
            }
            self.small.0.insert(key, value)?;
            self.large.0.remove(&key)
        } else if let Some((key, value)) = rendered::answer::<LARGE>(answer, self.seed, generation)
        {
            if !self.large.has(&key, &value)? {
                self.large.0.insert(key, value)?;
            }
            self.small.0.remove(&key)
        } else {
            self.remove(&answer.key)
        }
    }

    /// Does the same where neither map had anything in it.
    pub fn put_first(&mut self, answer: &Answer) -> Result<()> {
        let generation = self.generations.take();
        if let Some((key, value)) = rendered::answer::<SMALL>(answer, self.seed, generation) {
            self.small.0.insert(key, value)
        } else if let Some((key, value)) = rendered::answer::<LARGE>(answer, self.seed, generation)
        {
            self.large.0.insert(key, value)
        } else {
            Ok(())
        }
    }

    /// Removes an answer; not an error when it is not there.
    pub fn remove(&mut self, key: &AnswerKey) -> Result<()> {
        let Some(key) = rendered::answer_key(key, self.seed) else { return Ok(()) };
        let removed = self.small.0.remove(&key);
        self.large.0.remove(&key)?;
        removed
    }

    /// Removes what `keep` refuses, and what no name and type lead to.
    pub fn retain(&mut self, keep: &dyn Fn(&AnswerKey) -> bool) -> Result<Retained> {
        let small = self.small.retain(self.seed, keep)?;
        let large = self.large.retain(self.seed, keep)?;
        Ok(Retained { kept: small.kept + large.kept, removed: small.removed + large.removed })
    }
}

impl<const OCTETS: usize> OfSize<OCTETS>
where
    Rendered<OCTETS>: Pod,
{
    /// Returns all answers that it holds.
    fn answers(&self) -> impl Iterator<Item = Result<Answer>> {
        self.0
            .all()
            .filter_map(|entry| entry.map(|(_, value)| rendered::stored_answer(&value)).transpose())
    }

    /// Whether a value is there but for its generation.
    fn has(&self, key: &NameKey, value: &Rendered<OCTETS>) -> Result<bool> {
        Ok(self.0.get(key)?.is_some_and(|installed| {
            let Rendered { generation, generation_end, .. } = installed;
            generation == generation_end
                && installed == Rendered { generation, generation_end, ..*value }
        }))
    }

    /// Removes what `keep` refuses, and what no name and type lead to.
    fn retain(&mut self, seed: Seed, keep: &dyn Fn(&AnswerKey) -> bool) -> Result<Retained> {
        self.0.retain(|key, value| {
            rendered::stored_answer(value).is_some_and(|Answer { key: name_and_type, .. }| {
                // A key that is not theirs could never be updated.
                rendered::answer_key(&name_and_type, seed) == Some(*key) && keep(&name_and_type)
            })
        })
    }
}
