//! Readers against a writer that replaces, deletes and inserts entries at full
//! speed: no wrong answer and no false denial, and each part of what protects the
//! readers is needed for that.
//!
//! `NODEDNS_RACE_LOOKUPS=100000000` makes it long: so many look-ups in all.

mod writer;

use std::{
    env,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use aya::{TestRun as _, TestRunOptions, maps::Array, programs::Program};
use dns_ebpf::layout::{left_out, maps, outcome::Outcome, programs, settings::Lease};
use dns_user::{
    datapath::load::{LoadOptions, Loaded, load},
    store::AnswerStore as _,
};
use harness::{
    kernel,
    known::{LOCAL_IPS, OUTSIDE, zone},
    packet::{
        frame::{Frame, Transport},
        query::{Edns, Query, qtype},
    },
};

use writer::Writer;

/// Look-ups in all, unless the environment says otherwise.
const LOOKUPS: u64 = 6_000_000;
/// Look-ups in one test run.
const AT_ONCE: u32 = 20_000;
/// How much time a slow reader takes, in calls of a helper.
const SLOW: u32 = 32;
/// Phases that are one to a writer that writes many changes at once.
const BATCH: usize = 64;
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
            Self::Name => writer::KEPT,
            Self::Moving => writer::MOVING,
            Self::Child => "child.open.prod.svc.cluster.local",
            Self::Answer | Self::LargeAnswer => writer::ANSWERED,
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
