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

use super::{encode, maps::allow_absent};
use crate::records::{Answer, AnswerKey};

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
        let generation = self.generation.wrapping_add(1);
        let small = encode::answer(answer, self.seed, generation);
        let large = || encode::answer(answer, self.seed, generation);
        self.generation = generation;
        // The smaller map is asked first, so an answer that moves is there all the while.
        if let Some((key, value)) = small {
            self.small.put(key, value)?;
            self.large.remove(&key)
        } else if let Some((key, value)) = large() {
            self.large.put(key, value)?;
            self.small.remove(&key)
        } else {
            self.remove(&answer.key)
        }
    }

    /// Removes an answer; not an error when it is not there.
    pub fn remove(&mut self, key: &AnswerKey) -> Result<()> {
        let Some(key) = encode::answer_key(key, self.seed) else { return Ok(()) };
        let removed = self.small.remove(&key);
        self.large.remove(&key)?;
        removed
    }

    /// Removes what `keep` refuses, and what no name and type lead to.
    pub fn retain(&mut self, keep: &dyn Fn(&AnswerKey) -> bool) -> Result<usize> {
        Ok(self.small.retain(self.seed, keep)? + self.large.retain(self.seed, keep)?)
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

    /// Writes a value, unless it is there but for its generation.
    fn put(&mut self, key: NameKey, value: Rendered<OCTETS>) -> Result<()> {
        match self.0.get(&key, 0) {
            Ok(Rendered { generation, generation_end, .. }) if generation != generation_end => {}
            Ok(installed) => {
                let Rendered { generation, generation_end, .. } = installed;
                if installed == (Rendered { generation, generation_end, ..value }) {
                    return Ok(());
                }
            }
            Err(MapError::KeyNotFound) => {}
            Err(error) => return Err(error).context("cannot read ANSWERS"),
        }
        self.0.insert(key, value, 0).context("cannot write to ANSWERS (is it full?)")
    }

    fn remove(&mut self, key: &NameKey) -> Result<()> {
        allow_absent(self.0.remove(key)).context("cannot delete from ANSWERS")
    }

    fn retain(&mut self, seed: Seed, keep: &dyn Fn(&AnswerKey) -> bool) -> Result<usize> {
        let mut strange = Vec::new();
        for entry in &self.0 {
            let (key, value) = entry.context("cannot read ANSWERS")?;
            let kept = stored(&value).is_some_and(|answer| {
                encode::answer_key(&answer.key, seed) == Some(key) && keep(&answer.key)
            });
            if !kept {
                strange.push(key);
            }
        }
        for key in &strange {
            self.remove(key)?;
        }
        Ok(strange.len())
    }
}

fn stored<const OCTETS: usize>(value: &Rendered<OCTETS>) -> Option<Answer> {
    encode::stored_answer(value)
}
