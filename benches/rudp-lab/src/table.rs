//! Tables and targets as Markdown.

use std::{
    fmt::Write,
    io::{self, Write as _},
};

use crate::figures::{Rounds, short};

/// Rows under a head; columns are as wide as they must be.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table.
    pub(crate) fn new(head: &[&str]) -> Table {
        Table { rows: vec![head.iter().map(|cell| (*cell).to_owned()).collect()] }
    }

    /// A row.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Prints it under a title, with remarks below.
    pub(crate) fn print(&self, title: &str, remarks: &[&str]) {
        let columns = self.rows[0].len();
        let widths: Vec<usize> = (0..columns)
            .map(|column| {
                self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
            })
            .map(|width| width.unwrap_or(0).max(3))
            .collect();
        let mut text = format!("\n### {title}\n\n");
        for (number, row) in self.rows.iter().enumerate() {
            for (column, width) in widths.iter().enumerate() {
                let cell = row.get(column).map_or("", String::as_str);
                let _ = write!(text, "| {cell:width$} ");
            }
            text.push_str("|\n");
            if number == 0 {
                widths.iter().for_each(|width| {
                    let _ = write!(text, "|{}", "-".repeat(width + 2));
                });
                text.push_str("|\n");
            }
        }
        for remark in remarks {
            let _ = write!(text, "\n{remark}\n");
        }
        print(&text);
    }
}

/// Writes to standard output. An error means that the reader has gone, which is its right.
pub(crate) fn print(text: &str) {
    let mut out = io::stdout();
    let _ = out.write_all(text.as_bytes());
    let _ = out.flush();
}

/// A target of the transport, its figure, and the best of the others.
pub(crate) struct Target {
    /// What is measured.
    pub(crate) what: String,
    /// The bound, with its unit.
    pub(crate) bound: String,
    /// Our figure, with its unit.
    pub(crate) ours: String,
    /// The best reference, with its name.
    pub(crate) best: String,
    /// Whether our figure is within the bound.
    pub(crate) hit: bool,
}

impl Target {
    /// A figure that should be at most `bound`.
    pub(crate) fn most(what: impl Into<String>, bound: f64, unit: &str, ours: f64, best: String) -> Target {
        Target {
            what: what.into(),
            bound: format!("≤ {} {unit}", short(bound)),
            ours: format!("{} {unit}", short(ours)),
            best,
            hit: ours <= bound,
        }
    }

    /// The same for a figure of several rounds: the median counts, the least is shown.
    pub(crate) fn rounds(
        what: impl Into<String>,
        bound: f64,
        unit: &str,
        ours: &Rounds,
        best: String,
    ) -> Target {
        let target = Target::most(what, bound, unit, ours.median(), best);
        Target { ours: format!("{} {unit}", ours.text()), ..target }
    }

    /// A figure that should be at least `bound`.
    pub(crate) fn least(what: impl Into<String>, bound: f64, unit: &str, ours: f64, best: String) -> Target {
        Target {
            what: what.into(),
            bound: format!("≥ {} {unit}", short(bound)),
            ours: format!("{} {unit}", short(ours)),
            best,
            hit: ours >= bound,
        }
    }
}

/// Prints targets as a table.
pub(crate) fn print_targets(targets: &[Target]) {
    let mut table = Table::new(&["target", "bound", "ours", "best reference", ""]);
    for target in targets {
        let word = if target.hit { "hit" } else { "**miss**" };
        table.row([
            target.what.clone(),
            target.bound.clone(),
            target.ours.clone(),
            target.best.clone(),
            word.into(),
        ]);
    }
    table.print("Targets", &[]);
}
