//! Nanoseconds per query in the program.

mod cases;

use std::fmt;

use dns_ebpf::layout::programs;
use dns_user::datapath::load::Loaded;
use serde::Serialize;

use self::cases::{Case, base, cases, fill};
use crate::{
    machine::{self, Machine},
    report,
    test_run::{Effort, Nanoseconds, Restoring, is_answered, time},
};

const EFFORT: Effort = Effort { rounds: 5, repeats: 500_000 };

#[derive(Serialize)]
struct Report {
    machine: Machine,
    effort: Effort,
    verified_instructions: Option<u32>,
    /// The floor: a program that does nothing.
    empty: Both<Nanoseconds>,
    /// The ceiling of any answer on tc: the packet turned around, nothing looked up.
    reflect: Nanoseconds,
    cases: Vec<Row>,
}

/// What there is on each hook.
#[derive(Clone, Copy, Serialize)]
struct Both<T> {
    tc: T,
    xdp: T,
}

#[derive(Serialize)]
struct Row {
    case: &'static str,
    is_answered: bool,
    /// In all, the empty program's time included.
    ns: Both<Nanoseconds>,
    /// The least, above the empty program's.
    above_empty_ns: Both<i64>,
    /// The least on tc, in terms of the reflect-only program's.
    times_reflect: f64,
}

/// Prints the report.
pub(crate) fn run(json: bool) {
    let report = measure();
    report::print(json, &report, &report);
}

fn measure() -> Report {
    let machine = Machine::look();
    machine::pin();
    let mut subject = Restoring::new(with_everything);
    let verified_instructions = subject
        .plain()
        .program_mut(programs::ANSWER)
        .unwrap()
        .info()
        .unwrap()
        .verified_instruction_count();
    let base = base();
    let empty = Both {
        tc: time(subject.plain(), programs::EMPTY, &base, EFFORT),
        xdp: time(subject.plain(), programs::EMPTY_XDP, &base, EFFORT),
    };
    let reflect = subject.time(programs::REFLECT, &base, EFFORT);
    let cases = cases().into_iter().map(|case| {
        let ns = Both {
            tc: time_case(&mut subject, programs::ANSWER, &case),
            xdp: time_case(&mut subject, programs::XDP, &case),
        };
        Row {
            case: case.name,
            is_answered: case.is_answered,
            ns,
            above_empty_ns: Both { tc: ns.tc.above(empty.tc), xdp: ns.xdp.above(empty.xdp) },
            times_reflect: f64::from(ns.tc.least) / f64::from(reflect.least),
        }
    });
    let cases = cases.collect();
    Report { machine, effort: EFFORT, verified_instructions, empty, reflect, cases }
}

fn time_case(subject: &mut Restoring, program: &str, case: &Case) -> Nanoseconds {
    let is_answered = is_answered(subject.plain(), program, &case.frame);
    assert_eq!(is_answered, case.is_answered, "{}: the case is not what it says", case.name);
    if is_answered {
        subject.time(program, &case.frame, EFFORT)
    } else {
        time(subject.plain(), program, &case.frame, EFFORT)
    }
}

fn with_everything(mut loaded: Loaded) -> Loaded {
    fill(&mut loaded);
    let more = [programs::XDP, programs::EMPTY, programs::EMPTY_XDP, programs::REFLECT];
    more.iter().fold(loaded, |loaded, program| loaded.with_program(program).unwrap())
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Effort { rounds, repeats } = self.effort;
        let row = |name: &str, tc: Nanoseconds, xdp: Option<Nanoseconds>| {
            let times = f64::from(tc.least) / f64::from(self.reflect.least);
            let (least, above) = match xdp {
                Some(xdp) => (xdp.least.to_string(), xdp.above(self.empty.xdp).to_string()),
                None => (String::new(), String::new()),
            };
            let tc =
                [tc.least.to_string(), tc.median.to_string(), tc.above(self.empty.tc).to_string()];
            let [tc_least, median, tc_above] = tc;
            [name.to_owned(), tc_least, median, tc_above, format!("{times:.1}"), least, above]
        };
        let floors = [
            row("(empty program)", self.empty.tc, Some(self.empty.xdp)),
            row("(reflect only)", self.reflect, None),
        ];
        let cases = self.cases.iter().map(|Row { case, ns, .. }| row(case, ns.tc, Some(ns.xdp)));
        let table = report::table(
            ["query", "tc, ns", "median", "above empty", "times reflect", "XDP, ns", "above empty"],
            floors.into_iter().chain(cases).collect(),
        );
        writeln!(f, "{}", self.machine)?;
        writeln!(
            f,
            "least and median of {rounds} x {repeats} test runs, putting the query back taken off"
        )?;
        writeln!(f, "{table}")?;
        let verified = self.verified_instructions.map_or("unknown".to_owned(), |n| n.to_string());
        write!(f, "verified instructions: {verified}")
    }
}
