//! Timing a program by `BPF_PROG_TEST_RUN`.

use aya::{
    TestRun as _, TestRunOptions,
    programs::{Program, SchedClassifier},
};
use dns_ebpf::layout::{programs, settings::Lease};
use dns_user::{
    datapath::load::{LoadOptions, Loaded, load},
    records::ClusterZone,
    store::AnswerStore as _,
};
use harness::{known::LOCAL_IPS, subject::verdict};
use serde::Serialize;

/// How often a program is run.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Effort {
    /// Test runs.
    pub(crate) rounds: u32,
    /// Repeats in each.
    pub(crate) repeats: u32,
}

/// Nanoseconds of one run of a program.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Nanoseconds {
    /// In the quickest round.
    pub(crate) least: u32,
    /// In the middle one.
    pub(crate) median: u32,
}

impl Nanoseconds {
    /// Returns by how much the least is more than another's.
    pub(crate) fn above(self, other: Self) -> i64 {
        i64::from(self.least) - i64::from(other.least)
    }

    /// Combines each of the two with the other's.
    fn with(self, other: Self, combine: impl Fn(u32, u32) -> u32) -> Self {
        Self { least: combine(self.least, other.least), median: combine(self.median, other.median) }
    }
}

/// Loads the programs with maps of their own and a zone, and answers allowed.
pub(crate) fn subject(options: &LoadOptions<'_>) -> Loaded {
    let mut loaded = load(options).expect("the program loads");
    let zone = ClusterZone {
        name: "cluster.local".to_owned(),
        is_complete: true,
        shuffles: false,
        forwards_ds: false,
        ttl_s: 30,
        soa_ttl_s: 30,
        negative_ttl_s: 30,
        soa_minimum_s: 30,
        serial: 1,
    };
    loaded.answers.set_zone(Some(&zone)).unwrap();
    loaded.lease.set(Lease { alive_until_ns: u64::MAX, serve_until_ns: u64::MAX }).unwrap();
    loaded
}

/// The usual options, outside of any agent's pins.
pub(crate) fn options() -> LoadOptions<'static> {
    LoadOptions::new(None, &LOCAL_IPS)
}

/// One object without restoring, one that turns a reply into its query again
/// once, and one that does it three times.
pub(crate) struct Restoring([Loaded; 3]);

impl Restoring {
    /// Loads all three; `prepare` fills each.
    pub(crate) fn new(prepare: impl Fn(Loaded) -> Loaded) -> Self {
        Self([0, 1, 3].map(|restores| prepare(subject(&LoadOptions { restores, ..options() }))))
    }

    /// Returns the object that restores nothing.
    pub(crate) fn plain(&mut self) -> &mut Loaded {
        &mut self.0[0]
    }

    /// Times a program that turns `frame` around. Half the difference between
    /// restoring three times and once is what one restoring costs, and is taken off.
    pub(crate) fn time(&mut self, program: &str, frame: &[u8], effort: Effort) -> Nanoseconds {
        let [_, once, thrice] = &mut self.0;
        let once = time(once, program, frame, effort);
        let thrice = time(thrice, program, frame, effort);
        let restoring = thrice.with(once, |thrice, once| thrice.saturating_sub(once) / 2);
        once.with(restoring, u32::saturating_sub)
    }
}

/// Times a program that leaves `frame` as it is, or restores it.
pub(crate) fn time(
    loaded: &mut Loaded,
    program: &str,
    frame: &[u8],
    effort: Effort,
) -> Nanoseconds {
    let mut rounds: Vec<u32> =
        (0..effort.rounds).map(|_| run(loaded, program, frame, effort.repeats).1).collect();
    rounds.sort_unstable();
    Nanoseconds { least: rounds[0], median: rounds[rounds.len() / 2] }
}

/// Says whether the program answers `frame`.
pub(crate) fn is_answered(loaded: &mut Loaded, program: &str, frame: &[u8]) -> bool {
    let answered =
        if program == programs::XDP { verdict::XDP_TX } else { verdict::TC_ACT_REDIRECT };
    run(loaded, program, frame, 1).0 == answered
}

/// Returns the last verdict and the nanoseconds of one repeat.
fn run(loaded: &mut Loaded, program: &str, frame: &[u8], repeats: u32) -> (u32, u32) {
    let mut out = vec![0; 4096];
    let options = TestRunOptions {
        data_in: Some(frame),
        data_out: Some(&mut out),
        repeat: repeats,
        ..TestRunOptions::default()
    };
    let result = match loaded.program_mut(program).unwrap() {
        Program::Xdp(program) => program.test_run(options),
        program => <&mut SchedClassifier>::try_from(program).unwrap().test_run(options),
    };
    let result = result.expect("a test run");
    (result.return_value, u32::try_from(result.duration.as_nanos()).unwrap())
}
