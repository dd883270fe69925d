//! The table: medians of all rounds, each with its ratio to the first column, as Markdown so that it can be pasted.

use std::collections::BTreeMap;

use crate::{FULL_LOAD, RATES};

/// What is measured; the order is that of the lines.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Measure {
    /// Requests for each second.
    Rate(usize),
    /// Seconds of the server's processor time for each request.
    Cpu(usize),
    Errors(usize),
    /// Seconds that 99 of 100 requests take at so many requests a second.
    HalfLoad(u32),
    Burst,
    BurstLost,
    InFlight,
    InFlightLost,
    Start,
    Size,
    Idle,
    IdleEach,
    Held,
    HeldTables,
    HeldStacks,
}

impl Measure {
    fn name(self) -> String {
        let rate = |index: usize| RATES[index].0;
        match self {
            Self::Rate(index) => format!("{}: requests/s", rate(index)),
            Self::Cpu(index) => format!(
                "{}: processor time of the server for a request, µs",
                rate(index)
            ),
            Self::Errors(index) => format!("{}: errors", rate(index)),
            Self::HalfLoad(load) => format!("{}, {load} requests/s: p99, ms", rate(FULL_LOAD)),
            Self::Burst => "5,000 connections at once: first byte p99, ms".into(),
            Self::BurstLost => "5,000 connections at once: lost".into(),
            Self::InFlight => "10,000 requests in flight, 1 s each: all responses after, s".into(),
            Self::InFlightLost => "10,000 requests in flight: lost".into(),
            Self::Start => "start to first response, ms".into(),
            Self::Size => "size of the program, KiB".into(),
            Self::Idle => "resident memory, idle, MiB".into(),
            Self::IdleEach => "resident memory for an idle connection, KiB".into(),
            Self::Held => "resident memory with 10,000 in flight, MiB".into(),
            Self::HeldTables => "page tables for 10,000 in flight, MiB".into(),
            Self::HeldStacks => "kernel stacks for 10,000 in flight, MiB".into(),
        }
    }

    /// In the unit of the name.
    fn text(self, value: f64) -> String {
        match self {
            Self::Rate(_) | Self::Size | Self::Errors(_) | Self::BurstLost | Self::InFlightLost => {
                format!("{value:.0}")
            }
            Self::Cpu(_) => format!("{:.1}", value * 1e6),
            Self::Burst => format!("{:.0}", value * 1e3),
            Self::HalfLoad(_) | Self::Start => format!("{:.2}", value * 1e3),
            Self::InFlight => format!("{value:.2}"),
            Self::IdleEach => format!("{value:.1}"),
            Self::Idle | Self::Held | Self::HeldTables | Self::HeldStacks => {
                format!("{:.1}", value / 1024.0)
            }
        }
    }

    /// The median; of failures the worst, because one lost request in one round is a lost request.
    fn summary(self, values: Vec<f64>) -> Option<f64> {
        if self.counts_failures() {
            values.into_iter().max_by(f64::total_cmp)
        } else {
            median(values)
        }
    }

    /// What all rounds gave one column.
    fn cell(self, values: &[f64], ours: &[f64]) -> String {
        match (self.summary(values.to_vec()), ratio(values, ours)) {
            (None, _) => "-".to_owned(),
            (Some(value), Some(ratio)) if !self.counts_failures() => {
                format!("{} ({ratio:.2})", self.text(value))
            }
            (Some(value), _) => self.text(value),
        }
    }

    /// The least and the most of the rounds.
    fn spread(self, values: &[f64]) -> String {
        let least = values.iter().copied().min_by(f64::total_cmp);
        let most = values.iter().copied().max_by(f64::total_cmp);
        match (least, most) {
            (Some(least), Some(most)) if values.len() > 1 => {
                format!("{} to {}", self.text(least), self.text(most))
            }
            _ => "-".to_owned(),
        }
    }

    /// A line of zeros is left out.
    fn counts_failures(self) -> bool {
        matches!(self, Self::Errors(_) | Self::BurstLost | Self::InFlightLost)
    }
}

/// All values by measure and column.
pub(crate) struct Table {
    columns: Vec<&'static str>,
    values: BTreeMap<Measure, Vec<Vec<f64>>>,
}

impl Table {
    pub(crate) fn new(columns: Vec<&'static str>) -> Self {
        Self {
            columns,
            values: BTreeMap::new(),
        }
    }

    pub(crate) fn add(&mut self, measure: Measure, column: usize, value: f64) {
        let empty = || vec![Vec::new(); self.columns.len()];
        self.values.entry(measure).or_insert_with(empty)[column].push(value);
    }

    /// The ratio in brackets is to ours: of rates above 1, of costs below 1 is better. The last column has the least and
    /// the most of our rounds.
    pub(crate) fn print(&self) {
        println!(
            "| | {} | ours, all rounds |\n|---|{}---:|",
            self.columns.join(" | "),
            "---:|".repeat(self.columns.len())
        );
        for (measure, columns) in &self.values {
            let cell = |values: &Vec<f64>| measure.cell(values, &columns[0]);
            let cells: Vec<String> = columns.iter().map(cell).collect();
            if measure.counts_failures() && cells.iter().all(|cell| cell == "0" || cell == "-") {
                continue;
            }
            let (name, spread) = (measure.name(), measure.spread(&columns[0]));
            println!("| {name} | {} | {spread} |", cells.join(" | "));
        }
    }
}

/// The median of the rounds' ratios; each round has one value for each column.
fn ratio(values: &[f64], ours: &[f64]) -> Option<f64> {
    let ratios = values
        .iter()
        .zip(ours)
        .map(|(value, ours)| value / ours)
        .collect();
    median(ratios).filter(|ratio| ratio.is_finite())
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
