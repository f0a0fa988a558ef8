//! Figures as they are shown: a table for people, JSON for programs.

use std::fmt;

use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};
use serde::Serialize;

/// Something that was measured several times.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figure {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Figure {
    /// Takes the measurements, of which there is at least one.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let at = |share: f64| percentile(&values, share);
        Self { median: at(0.5), least: at(0.0), most: at(1.0) }
    }

    /// Returns the same in another unit.
    pub(crate) fn scaled(&self, factor: f64) -> Self {
        let Self { median, least, most } = self;
        Self { median: median * factor, least: least * factor, most: most * factor }
    }
}

/// The median and what the others were between; digits as the format says.
impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(0);
        let Self { median, least, most } = self;
        write!(f, "{median:.digits$} ({least:.digits$}-{most:.digits$})")
    }
}

/// Returns the value below which that share of the sorted `values` lies.
pub(crate) fn percentile(values: &[f64], share: f64) -> f64 {
    let last = values.len().checked_sub(1).expect("at least one measurement");
    values[(last as f64 * share).round() as usize]
}

/// Returns a table with these columns; the first is text, the others are figures.
pub(crate) fn table<const N: usize>(columns: [&str; N], rows: Vec<[String; N]>) -> Table {
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN).set_header(columns).add_rows(rows);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// Prints a report: its JSON, or else its text.
pub(crate) fn print(json: bool, report: &impl Serialize, text: impl fmt::Display) {
    if json {
        println!("{}", serde_json::to_string_pretty(report).expect("a report is JSON"));
    } else {
        println!("{text}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_sorted() {
        let figure = Figure::of([3.0, 1.0, 2.0]);
        assert_eq!((figure.least, figure.median, figure.most), (1.0, 2.0, 3.0));
        assert_eq!(format!("{figure:.1}"), "2.0 (1.0-3.0)");
        let values: Vec<f64> = (0..=100).map(f64::from).collect();
        assert!((percentile(&values, 0.99) - 99.0).abs() < f64::EPSILON);
    }
}
