//! Readers against a writer that replaces, deletes and inserts entries at full
//! speed: no wrong answer and no false denial, and each part of what protects the
//! readers is needed for that.
//!
//! `NODEDNS_RACE_LOOKUPS=100000000` makes it long: so many look-ups in all.

use std::{
    env, io,
    net::Ipv4Addr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use aya::{
    TestRun as _, TestRunOptions,
    maps::{Array, HashMap, Map, MapData, MapError},
    programs::Program,
};
use dns_ebpf::layout::{
    key::{NameKey, Seed},
    left_out, maps,
    name_entry::{NameEntry, V4_MAX},
    outcome::Outcome,
    programs, race,
    rendered::{KeptAnswer, LargeAnswer, SmallAnswer},
    settings::{Lease, Settings},
};
use dns_user::{
    clock::monotonic_ns,
    datapath::{
        cache::Life,
        encode,
        epoch::EpochWriter,
        load::{LoadOptions, Loaded, load},
    },
    records::{Answer, NameKind, NameRecords},
    store::AnswerStore as _,
};
use harness::{
    kernel,
    known::{self, Kept, LOCAL_IPS, OUTSIDE, kept_addresses, owned_record, zone},
    packet::{
        frame::{Frame, Transport},
        query::{Edns, Query, qtype},
    },
};

/// Look-ups in all, unless the environment says otherwise.
const LOOKUPS: u64 = 6_000_000;
/// Look-ups in one test run.
const AT_ONCE: u32 = 20_000;
/// How much time a slow reader takes, in calls of a helper.
const SLOW: u32 = 32;
/// Phases that are one to a writer that writes many changes at once.
const BATCH: usize = 64;
/// How long what is kept is good: what is asked for, and what takes its element. The
/// programs tell one from the other.
const LONG_S: u64 = 1 << 28;
const SHORT_S: u64 = 1 << 14;
/// How long a reader without all of its protection may get by.
const LUCK: Duration = Duration::from_mins(3);

/// What is asked while what is written.
#[derive(Clone, Copy, Debug)]
enum Question {
    /// A name that is replaced.
    Name,
    /// A name that is deleted and inserted again.
    Moving,
    /// A name that is not in the map, below one that is replaced.
    Child,
    /// An answer of ANSWERS that is replaced, deleted and inserted again.
    Answer,
    /// The same of `LARGE_ANSWERS`.
    LargeAnswer,
    /// The same of CACHE.
    Kept,
}

impl Question {
    fn name(self) -> &'static str {
        match self {
            Self::Name => KEPT,
            Self::Moving => MOVING,
            Self::Child => "child.open.prod.svc.cluster.local",
            Self::Answer | Self::LargeAnswer => ANSWERED,
            Self::Kept => OUTSIDE,
        }
    }

    fn qtype(self) -> u16 {
        match self {
            Self::Name | Self::Moving | Self::Child | Self::Kept => qtype::A,
            Self::Answer => qtype::TXT,
            Self::LargeAnswer => qtype::SRV,
        }
    }
}

const KEPT: &str = "kept.prod.svc.cluster.local";
const MOVING: &str = "moving.prod.svc.cluster.local";
const OPEN: &str = "open.prod.svc.cluster.local";
/// The agent's, but for its answers of some types; short enough for eight records.
const ANSWERED: &str = "text.prod.svc.cluster.local";
/// Names that come and go, so that the elements of the others are used again for them.
const NOISE: [&str; 4] = [
    "noise-0.prod.svc.cluster.local",
    "noise-1.prod.svc.cluster.local",
    "noise-2.prod.svc.cluster.local",
    "noise-3.prod.svc.cluster.local",
];

/// What readers saw.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    lookups: u64,
    answers: u64,
    wrong: u64,
    denials: u64,
    no_data: u64,
    unsure: u64,
    changing: u64,
    writes: u64,
}

impl Seen {
    /// Answers that were not those of the name, as they are or were.
    fn faults(&self, question: Question) -> u64 {
        let denials = if matches!(question, Question::Moving) { 0 } else { self.denials };
        let answers = if matches!(question, Question::Child) { self.answers } else { 0 };
        self.wrong + self.no_data + denials + answers
    }
}

/// One program with maps that a writer has, too.
struct Race {
    loaded: Loaded,
    program: &'static str,
    writer: Writer,
}

impl Race {
    fn new(program: &'static str, left_out: u32, linger: u32) -> Self {
        let options = LoadOptions::new(None, &LOCAL_IPS);
        let options = LoadOptions { left_out, linger, ..options };
        let mut loaded = load(&options).expect("the object loads").with_program(program).unwrap();
        loaded.answers.set_zone(Some(&zone())).unwrap();
        loaded.lease.set(Lease { alive_until_ns: u64::MAX, serve_until_ns: u64::MAX }).unwrap();
        let writer = Writer::new(&mut loaded, program);
        Self { loaded, program, writer }
    }

    /// Asks until `is_done`, while the writer writes so many phases at once.
    fn run(&mut self, question: Question, at_once: usize, is_done: impl Fn(&Seen) -> bool) -> Seen {
        let query = Query::new(question.name(), question.qtype()).with_edns(Edns::default());
        let mut frame = Frame::with_query(&query);
        // As it is when it is made of its reply.
        frame.transport = Transport::UdpWithoutChecksum;
        let frame = frame.octets();
        let Self { loaded, program, writer } = self;
        let script = writer.script(question, at_once);
        let (stop, writes) = (AtomicBool::new(false), AtomicU64::new(0));
        let before = seen(loaded);
        let mut seen_now = Seen::default();
        thread::scope(|scope| {
            let (script, stop, writes) = (&script, &stop, &writes);
            scope.spawn(move || writer.write(script, stop, writes));
            // Ends the writer when this thread panics, too.
            let _end = End(stop);
            while !is_done(&seen_now) {
                ask(loaded, program, &frame);
                seen_now = seen(loaded).since(&before);
                seen_now.writes = writes.load(Ordering::Relaxed);
            }
        });
        seen_now
    }
}

struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Seen {
    fn since(self, before: &Self) -> Self {
        Self {
            lookups: self.lookups - before.lookups,
            answers: self.answers - before.answers,
            wrong: self.wrong - before.wrong,
            denials: self.denials - before.denials,
            no_data: self.no_data - before.no_data,
            unsure: self.unsure - before.unsure,
            changing: self.changing - before.changing,
            writes: self.writes,
        }
    }
}

fn ask(loaded: &mut Loaded, program: &str, frame: &[u8]) {
    let mut after = vec![0; 4096];
    let options = TestRunOptions {
        data_in: Some(frame),
        data_out: Some(&mut after),
        repeat: AT_ONCE,
        ..TestRunOptions::default()
    };
    let result = match loaded.program_mut(program).unwrap() {
        Program::SchedClassifier(program) => program.test_run(options),
        Program::Xdp(program) => program.test_run(options),
        other => panic!("{program} is a {:?}", other.prog_type()),
    };
    let result = result.expect("a test run");
    after.truncate(result.data_size_out as usize);
    assert_eq!(after, frame, "the query was not put back, so that it was not asked again");
}

/// Reads what the program counted.
fn seen(loaded: &Loaded) -> Seen {
    let mut seen = Seen::default();
    for count in loaded.counters.read().unwrap() {
        seen.lookups += count.packets;
        match count.outcome {
            Outcome::AnswerA | Outcome::AnswerTxt | Outcome::AnswerSrv | Outcome::CachedA => {
                seen.answers += count.packets;
            }
            Outcome::NxdomainA => seen.denials += count.packets,
            Outcome::NodataA => seen.no_data += count.packets,
            Outcome::Unsure => seen.unsure += count.packets,
            Outcome::Changing => seen.changing += count.packets,
            Outcome::AgentOnly | Outcome::NotInMap => {}
            other => assert_eq!(count.packets, 0, "{other:?} is none of what can happen"),
        }
    }
    let wrong: Array<_, u64> = loaded.ebpf.map(maps::WRONG).unwrap().try_into().unwrap();
    seen.wrong = wrong.get(&0, 0).unwrap();
    seen
}

/// Writes the maps without pause, by the agent's rule: EPOCH is odd meanwhile.
struct Writer {
    names: HashMap<MapData, NameKey, NameEntry>,
    answers: HashMap<MapData, NameKey, SmallAnswer>,
    large_answers: HashMap<MapData, NameKey, LargeAnswer>,
    kept: HashMap<MapData, NameKey, KeptAnswer>,
    epoch: EpochWriter,
    seed: Seed,
    generation: u32,
}

/// One change of a map.
enum Write {
    Put(Entry),
    Delete(Place, NameKey),
}

/// What is put, and where.
enum Entry {
    Name(NameKey, Box<NameEntry>),
    Answer(NameKey, Box<SmallAnswer>),
    LargeAnswer(NameKey, Box<LargeAnswer>),
    Kept(NameKey, Box<KeptAnswer>),
}

/// A map.
#[derive(Clone, Copy)]
enum Place {
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
    fn new(loaded: &mut Loaded, program: &str) -> Self {
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
                let (key, entry) = encode::answer(&answer, seed, generation).unwrap();
                Entry::Answer(key, Box::new(entry))
            }
            Place::LargeAnswers => {
                let answer = answer(race::LARGE_RECORDS.into());
                let (key, entry) = encode::answer(&answer, seed, generation).unwrap();
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
                    encode::kept_answer(&kept.key(), &kept.octets(), life, seed, generation);
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
                let put = match entry {
                    Entry::Name(key, entry) => self.names.insert(key, **entry, 0),
                    Entry::Answer(key, entry) => self.answers.insert(key, **entry, 0),
                    Entry::LargeAnswer(key, entry) => self.large_answers.insert(key, **entry, 0),
                    Entry::Kept(key, entry) => self.kept.insert(key, **entry, 0),
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
    /// nothing but system calls is between two changes; generations come again
    /// after hundreds of changes only.
    fn write(&mut self, phases: &[Vec<Write>], stop: &AtomicBool, writes: &AtomicU64) {
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
    fn script(&mut self, question: Question, at_once: usize) -> Vec<Vec<Write>> {
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

/// One race at a time: a reader and a writer want a CPU each, or they hardly meet.
static ALONE: Mutex<()> = Mutex::new(());

const QUESTIONS: [Question; 6] = [
    Question::Name,
    Question::Moving,
    Question::Child,
    Question::Answer,
    Question::LargeAnswer,
    Question::Kept,
];
const PROGRAMS: [&str; 2] = [programs::RACE, programs::RACE_XDP];

#[test]
fn a_reader_is_never_wrong() {
    if !kernel::require(kernel::DATAPATH) {
        return;
    }
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let wanted = env::var("NODEDNS_RACE_LOOKUPS");
    let wanted = wanted.map_or(LOOKUPS, |text| text.parse().expect("a number of look-ups"));
    let (speeds, batches) = ([0, SLOW], [1, BATCH]);
    let cases = PROGRAMS.len() * speeds.len() * QUESTIONS.len() * batches.len();
    let wanted = wanted.div_ceil(cases as u64);
    let mut total = 0;
    for program in PROGRAMS {
        for linger in speeds {
            let mut race = Race::new(program, left_out::NOTHING, linger);
            for question in QUESTIONS {
                for at_once in batches {
                    // The writer may not have had a CPU at once.
                    let is_done = |seen: &Seen| seen.lookups >= wanted && seen.writes > 0;
                    let seen = race.run(question, at_once, is_done);
                    let case = format!("{program}, {linger}, {question:?}, {at_once} at once");
                    println!("{case}: {seen:?}");
                    assert_eq!(seen.faults(question), 0, "{case}: {seen:?}");
                    total += seen.lookups;
                }
            }
        }
    }
    println!("{total} look-ups, 0 wrong answers, 0 false denials");
}

/// Each reader is asked until it is wrong.
#[test]
fn a_reader_with_less_protection_is_caught() {
    if !kernel::require(kernel::DATAPATH) {
        return;
    }
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for program in PROGRAMS {
        for (name, left_out, at_once, question) in [
            ("generations", left_out::GENERATIONS, 1, Question::Name),
            ("generations", left_out::GENERATIONS, 1, Question::Answer),
            ("generations", left_out::GENERATIONS, 1, Question::LargeAnswer),
            ("generations", left_out::GENERATIONS, 1, Question::Kept),
            ("the epoch", left_out::EPOCH, 1, Question::Name),
            ("the epoch", left_out::EPOCH, 1, Question::Child),
            ("that the epoch is even", left_out::EPOCH_IS_EVEN, BATCH, Question::Name),
        ] {
            let mut race = Race::new(program, left_out, SLOW);
            let began = Instant::now();
            let is_done = |seen: &Seen| seen.faults(question) > 0 || began.elapsed() > LUCK;
            let seen = race.run(question, at_once, is_done);
            let took = began.elapsed();
            println!("{program} without {name}, {question:?}, after {took:?}: {seen:?}");
            assert!(seen.faults(question) > 0, "{program} without {name} was not caught");
        }
    }
}
