//! ANSWERS and `LARGE_ANSWERS`: records of one name and type, in the map whose
//! values are just long enough.

use anyhow::{Context as _, Result};
use aya::{
    Pod,
    maps::{HashMap, Map, MapData, MapError},
};
use dns_ebpf::layout::{
    key::{NameKey, Seed},
    rendered::{LARGE, Rendered, SMALL},
};

use super::{encode::rendered, maps::allow_absent};
use crate::{
    records::{Answer, AnswerKey},
    store::Retained,
};

/// Both maps, written by the store.
pub struct Answers {
    small: Sized<SMALL>,
    large: Sized<LARGE>,
    seed: Seed,
    /// Of the next write. Starts at random, so that a new agent's writes differ
    /// from those of the one before.
    generation: u32,
}

/// The map for answers of one size.
struct Sized<const OCTETS: usize>(HashMap<MapData, NameKey, Rendered<OCTETS>>)
where
    Rendered<OCTETS>: Pod;

impl Answers {
    /// Takes ANSWERS and `LARGE_ANSWERS`, whose keys are made with `seed`.
    pub fn new(small: MapData, large: MapData, seed: Seed) -> Result<Self> {
        let (small, large) = (Sized::new(small)?, Sized::new(large)?);
        Ok(Self { small, large, seed, generation: rand::random() })
    }

    /// Returns all answers, in no order, with the octets of memory that each takes.
    /// Some that change meanwhile may be missing or come twice.
    pub fn all(&self) -> Result<Vec<(Answer, usize)>> {
        /// An element of header, key and value, as the slab rounds it, and its share of
        /// the bucket's array.
        const SMALL_OCTETS: usize = 264;
        const LARGE_OCTETS: usize = 1032;
        let small = self.small.0.iter().map(|entry| Ok((stored(&entry?.1), SMALL_OCTETS)));
        let large = self.large.0.iter().map(|entry| Ok((stored(&entry?.1), LARGE_OCTETS)));
        let all = small.chain(large).filter_map(|entry: Result<_, MapError>| match entry {
            Ok((answer, octets)) => answer.map(|answer| Ok((answer, octets))),
            Err(error) => Some(Err(error)),
        });
        all.collect::<Result<_, _>>().context("cannot read ANSWERS")
    }

    /// Installs an answer in the map in which it fits, and nowhere else.
    pub fn put(&mut self, answer: &Answer) -> Result<()> {
        let generation = self.next_generation();
        // The smaller map is asked first, so an answer that moves is there all the while.
        if let Some((key, value)) = rendered::answer::<SMALL>(answer, self.seed, generation) {
            if self.small.has(&key, &value)? {
                // Nobody reads what may have stayed in the other one.
                return Ok(());
            }
            self.small.write(key, value)?;
            self.large.remove(&key)
        } else if let Some((key, value)) = rendered::answer::<LARGE>(answer, self.seed, generation)
        {
            if !self.large.has(&key, &value)? {
                self.large.write(key, value)?;
            }
            self.small.remove(&key)
        } else {
            self.remove(&answer.key)
        }
    }

    /// Does the same where neither map had anything in it.
    pub fn put_first(&mut self, answer: &Answer) -> Result<()> {
        let generation = self.next_generation();
        if let Some((key, value)) = rendered::answer::<SMALL>(answer, self.seed, generation) {
            self.small.write(key, value)
        } else if let Some((key, value)) = rendered::answer::<LARGE>(answer, self.seed, generation)
        {
            self.large.write(key, value)
        } else {
            Ok(())
        }
    }

    fn next_generation(&mut self) -> u32 {
        self.generation = self.generation.wrapping_add(1);
        self.generation
    }

    /// Removes an answer; not an error when it is not there.
    pub fn remove(&mut self, key: &AnswerKey) -> Result<()> {
        let Some(key) = rendered::answer_key(key, self.seed) else { return Ok(()) };
        let removed = self.small.remove(&key);
        self.large.remove(&key)?;
        removed
    }

    /// Removes what `keep` refuses, and what no name and type lead to.
    pub fn retain(&mut self, keep: &dyn Fn(&AnswerKey) -> bool) -> Result<Retained> {
        let small = self.small.retain(self.seed, keep)?;
        let large = self.large.retain(self.seed, keep)?;
        Ok(Retained { kept: small.kept + large.kept, removed: small.removed + large.removed })
    }
}

impl<const OCTETS: usize> Sized<OCTETS>
where
    Rendered<OCTETS>: Pod,
{
    fn new(map: MapData) -> Result<Self> {
        let map = Map::HashMap(map).try_into().context("ANSWERS is not the map it should be")?;
        Ok(Self(map))
    }

    /// Whether a value is there but for its generation.
    fn has(&self, key: &NameKey, value: &Rendered<OCTETS>) -> Result<bool> {
        match self.0.get(key, 0) {
            Ok(installed) => {
                let Rendered { generation, generation_end, .. } = installed;
                Ok(generation == generation_end
                    && installed == Rendered { generation, generation_end, ..*value })
            }
            Err(MapError::KeyNotFound) => Ok(false),
            Err(error) => Err(error).context("cannot read ANSWERS"),
        }
    }

    fn write(&mut self, key: NameKey, value: Rendered<OCTETS>) -> Result<()> {
        self.0.insert(key, value, 0).context("cannot write to ANSWERS (is it full?)")
    }

    fn remove(&mut self, key: &NameKey) -> Result<()> {
        allow_absent(self.0.remove(key)).context("cannot delete from ANSWERS")
    }

    fn retain(&mut self, seed: Seed, keep: &dyn Fn(&AnswerKey) -> bool) -> Result<Retained> {
        let (mut kept, mut strange) = (0, Vec::new());
        for entry in &self.0 {
            let (key, value) = entry.context("cannot read ANSWERS")?;
            let is_wanted = stored(&value).is_some_and(|answer| {
                rendered::answer_key(&answer.key, seed) == Some(key) && keep(&answer.key)
            });
            if is_wanted {
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

fn stored<const OCTETS: usize>(value: &Rendered<OCTETS>) -> Option<Answer> {
    rendered::stored_answer(value)
}
