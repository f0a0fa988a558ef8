//! The writer of a race.

use std::{
    io,
    net::Ipv4Addr,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use aya::maps::{Array, HashMap, Map, MapData, MapError};
use dns_ebpf::layout::{
    key::{NameKey, Seed},
    maps,
    name_entry::{NameEntry, V4_MAX},
    race,
    rendered::{KeptAnswer, LargeAnswer, SmallAnswer},
    settings::Settings,
};
use dns_user::{
    clock::monotonic_ns,
    datapath::{
        cache::Life,
        encode::{self, rendered},
        epoch::EpochWriter,
        load::Loaded,
    },
    records::{Answer, NameKind, NameRecords},
};
use harness::{
    known::{self, Kept, OUTSIDE, kept_addresses, owned_record},
    packet::query::qtype,
};

use super::Question;

/// How long what is kept is good: what is asked for, and what takes its element. The
/// programs tell one from the other.
const LONG_S: u64 = 1 << 28;
const SHORT_S: u64 = 1 << 14;
/// A name that is replaced.
pub const KEPT: &str = "kept.prod.svc.cluster.local";
/// A name that is deleted and inserted again.
pub const MOVING: &str = "moving.prod.svc.cluster.local";
/// A name that is replaced, and below which the agent has names.
const OPEN: &str = "open.prod.svc.cluster.local";
/// The agent's, but for its answers of some types; short enough for eight records.
pub const ANSWERED: &str = "text.prod.svc.cluster.local";

/// Names that come and go, so that the elements of the others are used again for them.
const NOISE: [&str; 4] = [
    "noise-0.prod.svc.cluster.local",
    "noise-1.prod.svc.cluster.local",
    "noise-2.prod.svc.cluster.local",
    "noise-3.prod.svc.cluster.local",
];

/// Writes the maps without pause, by the agent's rule: EPOCH is odd meanwhile.
pub struct Writer {
    names: HashMap<MapData, NameKey, NameEntry>,
    answers: HashMap<MapData, NameKey, SmallAnswer>,
    large_answers: HashMap<MapData, NameKey, LargeAnswer>,
    kept: HashMap<MapData, NameKey, KeptAnswer>,
    epoch: EpochWriter,
    seed: Seed,
    generation: u32,
}

/// One change of a map.
pub enum Write {
    Put(Entry),
    Delete(Place, NameKey),
}

/// What is put, and where.
pub enum Entry {
    Name(NameKey, Box<NameEntry>),
    Answer(NameKey, Box<SmallAnswer>),
    LargeAnswer(NameKey, Box<LargeAnswer>),
    Kept(NameKey, Box<KeptAnswer>),
}

/// A map.
#[derive(Clone, Copy)]
pub enum Place {
    Names,
    Answers,
    LargeAnswers,
    Kept,
}

/// What is written under a name and type.
#[derive(Clone, Copy)]
struct Written {
    place: Place,
    name: &'static str,
    qtype: u16,
    /// What is asked for, and not what takes its element.
    is_asked: bool,
}

impl Writer {
    /// Opens the program's maps a second time, and inserts what readers count on.
    pub fn new(loaded: &mut Loaded, program: &str) -> Self {
        let settings: Array<_, Settings> =
            Map::Array(map_of(loaded, program, maps::SETTINGS)).try_into().unwrap();
        let mut hash = |name| Map::HashMap(map_of(loaded, program, name));
        let mut writer = Self {
            names: hash(maps::NAMES).try_into().unwrap(),
            answers: hash(maps::ANSWERS).try_into().unwrap(),
            large_answers: hash(maps::LARGE_ANSWERS).try_into().unwrap(),
            kept: Map::LruHashMap(map_of(loaded, program, maps::CACHE)).try_into().unwrap(),
            epoch: EpochWriter::new(map_of(loaded, program, maps::EPOCH)).unwrap(),
            seed: settings.get(&0, 0).unwrap().seed,
            generation: 0,
        };
        for name in [KEPT, MOVING, OPEN] {
            let write = writer.put(Written { name, ..Written::of(Question::Name) });
            writer.apply(&write);
        }
        let of_the_agent = NameRecords::without(ANSWERED.to_owned(), NameKind::Unknown);
        let (key, entry) = encode::name_entry(&of_the_agent, writer.seed, 0).unwrap();
        writer.apply(&Write::Put(Entry::Name(key, Box::new(entry))));
        writer
    }

    /// An entry with the most records, all the same: of what is asked for in
    /// 10.0.0.0/8, of the others elsewhere, with one record less.
    fn put(&mut self, written: Written) -> Write {
        self.generation += 1;
        let (seed, generation) = (self.seed, self.generation);
        let [_, high, middle, low] = generation.to_be_bytes();
        let first = if written.is_asked { 10 } else { 9 };
        let ip = Ipv4Addr::new(first, high, middle, low);
        let Written { place, name, qtype, is_asked } = written;
        let records = |most: usize| if is_asked { most } else { most - 1 };
        let body = |most: usize| owned_record(12, 1, &ip.octets()).repeat(records(most));
        let answer = |most: usize| {
            let count = u16::try_from(records(most)).unwrap();
            known::answer(name, qtype, [count, 0], &[body(most)])
        };
        let entry = match place {
            Place::Names => {
                let records = NameRecords {
                    a: vec![ip; records(V4_MAX)],
                    ..NameRecords::without(name.to_owned(), NameKind::ClusterIp)
                };
                let (key, entry) = encode::name_entry(&records, seed, generation).unwrap();
                Entry::Name(key, Box::new(entry))
            }
            Place::Answers => {
                let answer = Answer { is_lower_case: false, ..answer(V4_MAX) };
                let (key, entry) = rendered::answer(&answer, seed, generation).unwrap();
                Entry::Answer(key, Box::new(entry))
            }
            Place::LargeAnswers => {
                let answer = answer(race::LARGE_RECORDS.into());
                let (key, entry) = rendered::answer(&answer, seed, generation).unwrap();
                Entry::LargeAnswer(key, Box::new(entry))
            }
            Place::Kept => {
                let most = usize::from(race::KEPT_RECORDS);
                let kept = Kept {
                    name,
                    qtype,
                    counts: [u16::try_from(records(most)).unwrap(), 0, 0],
                    body: body(most),
                    ..kept_addresses()
                };
                let left_s = if is_asked { LONG_S } else { SHORT_S };
                let until_ns = monotonic_ns().unwrap() + left_s * 1_000_000_000;
                let life = Life { expires_ns: until_ns, until_ns };
                let entry =
                    rendered::kept_answer(&kept.key(), &kept.octets(), life, seed, generation);
                let (key, entry) = entry.expect("a response that fits");
                Entry::Kept(key, Box::new(entry))
            }
        };
        Write::Put(entry)
    }

    fn delete(&self, written: Written) -> Write {
        let Written { place, name, qtype, .. } = written;
        let key = encode::name_key(name, self.seed).unwrap();
        let key = if matches!(place, Place::Names) { key } else { key.of_type(qtype) };
        Write::Delete(place, key)
    }

    fn apply(&mut self, write: &Write) {
        let deleted = match write {
            Write::Put(entry) => {
                self.generation = self.generation.wrapping_add(1);
                let (generation, generation_end) = (self.generation, self.generation);
                let put = match entry {
                    Entry::Name(key, entry) => {
                        let entry = NameEntry { generation, generation_end, ..**entry };
                        self.names.insert(key, entry, 0)
                    }
                    Entry::Answer(key, entry) => {
                        let entry = SmallAnswer { generation, generation_end, ..**entry };
                        self.answers.insert(key, entry, 0)
                    }
                    Entry::LargeAnswer(key, entry) => {
                        let entry = LargeAnswer { generation, generation_end, ..**entry };
                        self.large_answers.insert(key, entry, 0)
                    }
                    Entry::Kept(key, entry) => {
                        let entry = KeptAnswer { generation, generation_end, ..**entry };
                        self.kept.insert(key, entry, 0)
                    }
                };
                return put.unwrap();
            }
            Write::Delete(Place::Names, key) => self.names.remove(key),
            Write::Delete(Place::Answers, key) => self.answers.remove(key),
            Write::Delete(Place::LargeAnswers, key) => self.large_answers.remove(key),
            Write::Delete(Place::Kept, key) => self.kept.remove(key),
        };
        match deleted {
            Ok(()) => {}
            // The script ended in the middle when another question was asked.
            Err(MapError::SyscallError(error))
                if error.io_error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => panic!("{error}"),
        }
    }

    /// Writes until it is told to stop. What is written is made beforehand, so that
    /// little but system calls is between two changes, except for generations: none
    /// comes again, as with the agent. A reader that was stopped in the middle, for as
    /// long as the script takes, would believe it.
    pub fn write(&mut self, phases: &[Vec<Write>], stop: &AtomicBool, writes: &AtomicU64) {
        for phase in phases.iter().cycle() {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            self.epoch.begin();
            for write in phase {
                self.apply(write);
            }
            self.epoch.end();
            writes.fetch_add(phase.len() as u64, Ordering::Relaxed);
        }
    }

    /// Returns what is written again and again, a phase in which EPOCH is odd after the
    /// other. Another name is inserted as soon as an element is free, which is then
    /// used again.
    pub fn script(&mut self, question: Question, at_once: usize) -> Vec<Vec<Write>> {
        let asked = Written::of(question);
        let mut phases = Vec::new();
        for round in 0..256 {
            let noise = asked.noise(round);
            phases.push(vec![self.put(asked)]);
            phases.push(vec![self.put(noise)]);
            if matches!(question, Question::Moving) {
                phases.push(vec![self.delete(asked)]);
            } else {
                // Nobody may notice that it was gone.
                phases.push(vec![self.delete(asked), self.put(asked)]);
            }
            phases.push(vec![self.delete(noise)]);
        }
        let mut batches = Vec::new();
        let mut phases = phases.into_iter();
        loop {
            let batch: Vec<_> = phases.by_ref().take(at_once).flatten().collect();
            if batch.is_empty() {
                return batches;
            }
            batches.push(batch);
        }
    }
}

impl Written {
    /// What a question is about.
    fn of(question: Question) -> Self {
        let (place, name) = match question {
            Question::Name => (Place::Names, KEPT),
            Question::Moving => (Place::Names, MOVING),
            Question::Child => (Place::Names, OPEN),
            Question::Answer => (Place::Answers, ANSWERED),
            Question::LargeAnswer => (Place::LargeAnswers, ANSWERED),
            Question::Kept => (Place::Kept, OUTSIDE),
        };
        Self { place, name, qtype: question.qtype(), is_asked: true }
    }

    /// What may take its element: other names, and other types of the same name.
    fn noise(self, round: usize) -> Self {
        let name = NOISE[round % NOISE.len()];
        let has_types = !matches!(self.place, Place::Names);
        match round % 2 {
            0 if has_types => Self { qtype: qtype::PTR, is_asked: false, ..self },
            _ => Self { name, is_asked: false, ..self },
        }
    }
}

/// Opens a map that the program uses.
fn map_of(loaded: &mut Loaded, program: &str, name: &str) -> MapData {
    let info = loaded.program_mut(program).unwrap().info().unwrap();
    let ids = info.map_ids().unwrap().expect("Linux tells the maps of a program");
    let maps = ids.into_iter().map(|id| MapData::from_id(id).unwrap());
    let mut named = maps.filter(|map| map.info().unwrap().name_as_str() == Some(name));
    named.next().unwrap_or_else(|| panic!("{program} does not use {name}"))
}
