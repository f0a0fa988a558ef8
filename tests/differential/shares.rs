//! The share of questions that the kernel answered, by shape and type.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};
use dns_ebpf::layout::outcome::Outcome;
use harness::packet::query::qtype;

use crate::shapes::{Case, Shape};

/// Types that have a column of their own.
const COLUMNS: [(u16, &str); 7] = [
    (qtype::A, "A"),
    (qtype::AAAA, "AAAA"),
    (qtype::SRV, "SRV"),
    (qtype::PTR, "PTR"),
    (qtype::TXT, "TXT"),
    (qtype::CNAME, "CNAME"),
    (qtype::SOA, "SOA"),
];

/// Questions of one shape and type.
#[derive(Default)]
struct Cell {
    asked: u64,
    answered: u64,
}

/// Questions whose form the programs understand, and what became of them.
#[derive(Default)]
pub struct Shares {
    /// By shape and column; the last column is for other types.
    cells: BTreeMap<(Shape, usize), Cell>,
    /// Why not, by shape.
    passed_up: BTreeMap<Shape, BTreeMap<&'static str, u64>>,
    /// How many the kernel had to answer.
    expected: u64,
    /// Questions in another form.
    unsupported: u64,
    /// What became of those of which something else is expected.
    pub wrong: Vec<String>,
}

impl Shares {
    /// Counts a question that was asked over the datapath, over UDP.
    pub fn count(&mut self, case: &Case<'_>, outcome: Outcome) {
        if !case.question.is_supported() {
            self.unsupported += 1;
            if outcome != Outcome::Unsupported {
                self.wrong.push(format!("{}: {outcome:?}", case.question));
            }
            return;
        }
        let (shape, is_expected) = case.judge();
        let asked_type = case.question.query.questions[0].qtype;
        let column = COLUMNS.iter().position(|(qtype, _)| *qtype == asked_type);
        let cell = self.cells.entry((shape, column.unwrap_or(COLUMNS.len()))).or_default();
        cell.asked += 1;
        if outcome.is_answered() {
            cell.answered += 1;
        } else {
            let reasons = self.passed_up.entry(shape).or_default();
            *reasons.entry(outcome.label()).or_default() += 1;
        }
        self.expected += u64::from(is_expected);
        if is_expected && !outcome.is_answered() {
            self.wrong.push(format!("{} ({}): {outcome:?}", case.question, shape.label()));
        }
    }

    /// Says whether anything was expected to be answered in the kernel.
    pub fn is_telling(&self) -> bool {
        self.expected > 0
    }
}

impl fmt::Display for Shares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        let columns = COLUMNS.iter().map(|(_, label)| *label);
        let header = ["answered in the kernel, of"].into_iter().chain(columns);
        table.load_preset(ASCII_MARKDOWN).set_header(header.chain(["other", "passed up as"]));
        for column in table.column_iter_mut().skip(1).take(COLUMNS.len() + 1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        let shapes: BTreeSet<_> = self.cells.keys().map(|(shape, _)| *shape).collect();
        for shape in shapes {
            let text = |column| match self.cells.get(&(shape, column)) {
                None => String::new(),
                Some(Cell { asked, answered }) => {
                    format!("{} % of {asked}", 100 * answered / asked)
                }
            };
            let reasons = self.passed_up.get(&shape).into_iter().flatten();
            let reasons: Vec<_> =
                reasons.map(|(label, count)| format!("{label} {count}")).collect();
            let cells = (0..=COLUMNS.len()).map(text);
            let label = [shape.label().to_owned()].into_iter();
            table.add_row(label.chain(cells).chain([reasons.join(", ")]));
        }
        let Self { expected, unsupported, .. } = self;
        let answered: u64 = self.cells.values().map(|cell| cell.answered).sum();
        let asked: u64 = self.cells.values().map(|cell| cell.asked).sum();
        write!(
            f,
            "{table}\nin all {answered} of {asked}, {expected} of which had to be; \
             {unsupported} more in forms that only the agent reads"
        )
    }
}
