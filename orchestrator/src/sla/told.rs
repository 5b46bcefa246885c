//! The same in words: for the table of `baton sla`, and for the page and `baton watch` of a voter
//! that has journals beside it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use failover::Timestamp;
use failover::cluster::Record;
use failover::ids::ServiceId;
use failover::topology::Topology;
use serde::{Deserialize, Serialize};

use super::{Availability, Figures, Interruption, Measured, Question, availability, cause};
use crate::calendar;
use crate::probe::{Folder, JournalError, Kept};
use crate::words::{Mood, TOLD_TO_OPERATORS, span};

/// How many of the newest interruptions the page shows.
const NEWEST: usize = 5;

/// `[sla]` in `orchestrator.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Journals of probe writers, and folders of such.
    pub journal: Vec<PathBuf>,
}

impl Settings {
    /// The same with paths from `folder`.
    pub(crate) fn within(self, folder: &Path) -> Self {
        Self { journal: self.journal.into_iter().map(|path| folder.join(path)).collect() }
    }
}

/// What every journal says, of files and of folders; `each` is told how many of how many were read.
///
/// # Errors
/// [`JournalError`]
pub fn read(
    journals: &[PathBuf],
    mut each: impl FnMut(usize, usize),
) -> Result<Vec<Measured>, JournalError> {
    let mut kept = Vec::new();
    for path in journals {
        if path.is_dir() {
            kept.extend(Folder::at(path).kept()?);
        } else {
            kept.push(Kept::file(path));
        }
    }
    let count = kept.len();
    let measured = kept.iter().enumerate().map(|(number, one)| {
        each(number, count);
        one.measured()
    });
    measured.collect()
}

/// A month or a year of a service, in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// `2026-11`, `2026`.
    pub period: String,
    /// How much service time there was until now.
    pub promised: String,
    /// How much of that was measured.
    pub coverage: String,
    /// Whether that is so little that the figures say little.
    pub thin: bool,
    /// For how long the service was down.
    pub down: String,
    /// How much of that was for planned switchovers and drills.
    pub planned: String,
    /// The share in which it was there.
    pub available: String,
    /// Whether the objective is kept.
    pub kept: String,
    /// What is left of the error budget.
    pub left: String,
    /// How good that is.
    pub mood: Mood,
}

impl From<&Figures> for Row {
    fn from(figures: &Figures) -> Self {
        let (kept, mood) = match figures.kept {
            None => ("not measured", Mood::Odd),
            Some(true) if figures.over => ("kept", Mood::Good),
            Some(true) => ("kept so far", Mood::Good),
            Some(false) => ("MISSED", Mood::Bad),
        };
        Self {
            period: figures.period.clone(),
            promised: ms(figures.service_ms),
            coverage: percent(figures.coverage_percent, 2),
            thin: figures.is_thin(),
            down: ms(figures.down_ms),
            planned: ms(figures.planned_ms),
            available: percent(figures.availability_percent, 4),
            kept: kept.to_owned(),
            left: minutes(figures.left_ms),
            mood,
        }
    }
}

/// A length of time; negative: so much too much.
#[must_use]
pub fn ms(length: i64) -> String {
    let shown = span(Duration::from_millis(length.unsigned_abs()));
    if length < 0 { format!("-{shown}") } else { shown }
}

fn percent(share: Option<f64>, digits: usize) -> String {
    share.map_or_else(|| "-".to_owned(), |share| format!("{:.digits$} %", cut(share, digits)))
}

/// Digits are cut off and never rounded up: 99.95 % is shown only where it was reached.
fn cut(share: f64, digits: usize) -> f64 {
    let scale = [1.0, 10.0, 100.0, 1_000.0, 10_000.0].get(digits).copied().unwrap_or(10_000.0);
    (share * scale + 1e-7).floor() / scale
}

#[expect(clippy::cast_precision_loss, reason = "exact below 285 years of microseconds")]
fn minutes(left_ms: i64) -> String {
    format!("{:.2} min", left_ms as f64 / 60_000.0)
}

/// What a voter tells of every service that its journals speak of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// By name.
    pub services: Vec<Promised>,
    /// Why there is no more.
    pub problem: Option<String>,
}

/// One service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promised {
    /// Its name.
    pub service: ServiceId,
    /// When it is promised, and for how much of that time.
    pub promise: String,
    /// The last word of any writer.
    pub heard: Option<Timestamp>,
    /// The newest month and the year.
    pub rows: Vec<Row>,
    /// The newest interruptions of the year, the newest first.
    pub interruptions: Vec<Interrupted>,
    /// How many there were in the year.
    pub all: usize,
    /// What makes the figures worth less.
    pub warnings: Vec<String>,
}

/// A time without an acknowledged write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interrupted {
    /// The first attempt that failed.
    pub at: Timestamp,
    /// How long it was.
    pub length: String,
    /// How much of it was in service hours.
    pub counted: String,
    /// What it was for.
    pub cause: String,
}

impl From<&Interruption> for Interrupted {
    fn from(one: &Interruption) -> Self {
        Self {
            at: one.from,
            length: ms(one.length_ms),
            counted: ms(one.counted_ms),
            cause: one.cause.text.clone(),
        }
    }
}

impl Promised {
    pub(super) fn of(told: &Availability) -> Self {
        let hours: Vec<String> = told.hours.iter().map(ToString::to_string).collect();
        let newest = told.interruptions.iter().rev().take(NEWEST);
        Self {
            service: told.service.clone(),
            promise: format!("{} {}, {}", hours.join(", "), told.time_zone, told.objective),
            heard: told.writers.iter().map(|writer| writer.to).max(),
            rows: told.months.last().into_iter().chain(&told.year).map(Row::from).collect(),
            interruptions: newest.map(Interrupted::from).collect(),
            all: told.interruptions.len(),
            warnings: told.warnings.clone(),
        }
    }
}

impl Told {
    /// What the journals say of this year, of each service that one of them speaks of.
    #[must_use]
    pub fn of(
        settings: &Settings,
        topology: &Topology,
        records: &[Record],
        now: Timestamp,
    ) -> Self {
        let files = match read(&settings.journal, |_, _| {}) {
            Ok(files) => files,
            Err(error) => return Self { problem: Some(error.to_string()), ..Self::default() },
        };
        let mut told = Self::default();
        for service in topology.services.keys() {
            if !files.iter().any(|file| file.service == service.as_str()) {
                continue;
            }
            let sla = topology.sla_of(service);
            let year = calendar::year_of(&sla.time_zone, now);
            let found = year.and_then(|year| {
                availability(Question { service, sla: &sla, year, now }, &files, records)
            });
            match found {
                Ok(found) => told.services.push(Promised::of(&found)),
                Err(error) => told.problem = Some(format!("{service}: {error}")),
            }
        }
        told
    }

    /// The same for whoever shows no certificate: no path, and no reason that a person gave.
    #[must_use]
    pub fn for_anyone(&self) -> Self {
        let mut told = self.clone();
        told.problem = told.problem.map(|_| TOLD_TO_OPERATORS.to_owned());
        for one in &mut told.services {
            one.warnings.clear();
            for interruption in &mut one.interruptions {
                interruption.cause = cause::without_reason(&interruption.cause).to_owned();
            }
        }
        told
    }
}
