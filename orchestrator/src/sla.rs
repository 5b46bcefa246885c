//! How much of the time in which a service is promised it was there: what probe writers measured,
//! held against the declared hours and objective, and every interruption with its cause.
//!
//! At a moment at which several writers ran, the service was down only if none of them had its
//! writes acknowledged: one that is cut off itself says nothing about the service. What some of
//! them missed is told apart. Time in which no writer ran is counted neither up nor down, and earns
//! no error budget; how much was measured is told as coverage.

mod cause;
mod meter;
mod spans;
pub mod told;

use std::collections::BTreeMap;

use failover::Timestamp;
use failover::calendar::{Blackout, Hours, Objective, Sla};
use failover::cluster::Record;
use failover::ids::ServiceId;
use serde::{Deserialize, Serialize};

use crate::calendar::{self, Period};

pub use cause::{Cause, CauseKind, of as cause_of};
pub use meter::{ClockStep, Measured, SILENCE};
pub use spans::Spans;
pub use told::{Settings, Told};

/// The form of the answer.
pub const FORMAT: u32 = 1;
/// With less measured than this, in parts per million, the figures say little.
pub const COVERAGE: i64 = 990_000;
const MILLION: i64 = 1_000_000;

/// What `baton sla -o json` prints. Lengths are in milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Availability {
    /// [`FORMAT`].
    pub format: u32,
    /// The service.
    pub service: ServiceId,
    /// When this was worked out: periods that are not over are counted up to here.
    pub at: Timestamp,
    /// In whose clock hours, months and years are.
    pub time_zone: String,
    /// When the service is promised.
    pub hours: Vec<Hours>,
    /// Days on which it is not.
    pub holidays: Vec<Blackout>,
    /// For how much of that time.
    pub objective: Objective,
    /// Whose word this is.
    pub writers: Vec<Writer>,
    /// The year; `None`: one month was asked for.
    pub year: Option<Figures>,
    /// Its months, from the first that was measured on.
    pub months: Vec<Figures>,
    /// Every interruption of the year, in service hours or not, oldest first.
    pub interruptions: Vec<Interruption>,
    /// What some writers missed while others wrote: not counted, oldest first.
    pub partial: Vec<Interruption>,
    /// What makes the figures worth less.
    pub warnings: Vec<String>,
}

/// One run of a probe writer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Writer {
    /// The run.
    pub run: String,
    /// What it wrote through.
    pub through: String,
    /// How often: an interruption's beginning is known to this.
    pub every_ms: u64,
    /// When it began.
    pub from: Timestamp,
    /// Its last word.
    pub to: Timestamp,
    /// For how long it ran in between.
    pub measured_ms: i64,
    /// Writes acknowledged.
    pub acked: u64,
    /// Writes turned away.
    pub refused: u64,
    /// Writes whose outcome is not known.
    pub unknown: u64,
}

/// A month or a year, in service hours.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// `2026-11`, `2026`.
    pub period: String,
    /// Whether it is over.
    pub over: bool,
    /// How much service time there was until now.
    pub service_ms: i64,
    /// How much of that was measured.
    pub measured_ms: i64,
    /// The same as a share of it; `None`: there was none.
    pub coverage_percent: Option<f64>,
    /// For how long the service was down.
    pub down_ms: i64,
    /// How much of that was for planned switchovers and drills.
    pub planned_ms: i64,
    /// The share of the measured time in which it was there; `None`: nothing was measured.
    pub availability_percent: Option<f64>,
    /// What the objective leaves for interruptions, of the time measured and the time to come.
    pub budget_ms: i64,
    /// What is left of it; negative: overdrawn.
    pub left_ms: i64,
    /// Whether the objective is kept so far; `None`: nothing was measured.
    pub kept: Option<bool>,
}

/// A time without an acknowledged write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interruption {
    /// The first attempt that failed.
    pub from: Timestamp,
    /// The first acknowledgement after it.
    pub to: Timestamp,
    /// How long it was.
    pub length_ms: i64,
    /// By how much it may have begun earlier: the period of the writer that saw most of it.
    pub uncertain_ms: u64,
    /// How much of it was in service hours.
    pub counted_ms: i64,
    /// How many writers saw it.
    pub seen_by: usize,
    /// How many ran at its beginning.
    pub of: usize,
    /// What it was for.
    pub cause: Cause,
}

/// All files of one run.
struct Run {
    every_ms: u64,
    measured: Spans,
    down: Spans,
}

/// What is asked about.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Which service.
    pub service: &'a ServiceId,
    /// What was declared.
    pub sla: &'a Sla,
    /// Which year of its time zone.
    pub year: i16,
    /// The present.
    pub now: Timestamp,
}

/// The answer, from every file that there is and the cluster's record of changes of primary.
/// Files of other services are passed over.
///
/// # Errors
/// When the calendar cannot be worked out.
pub fn availability(
    asked: Question<'_>,
    files: &[Measured],
    records: &[Record],
) -> Result<Availability, String> {
    let Question { service, sla, now, .. } = asked;
    let files: Vec<&Measured> =
        files.iter().filter(|file| file.service == service.as_str()).collect();
    let (whole, months) = calendar::year(&sla.time_zone, asked.year)?;
    let year = Spans::from((whole.from.0, whole.to.0));
    let hours = calendar::promised(sla, whole.from, whole.to)?;
    let runs = runs(&files);
    let measured = runs.iter().fold(Spans::default(), |all, run| all.or(&run.measured)).and(&year);
    let up = |run: &Run| run.measured.without(&run.down);
    let up = runs.iter().fold(Spans::default(), |all, run| all.or(&up(run)));
    let down = measured.without(&up);
    let some = runs.iter().fold(Spans::default(), |all, run| all.or(&run.down));
    let partial = some.and(&year).without(&down);
    let one = |span| interruption(span, &hours, &runs, cause::of(span, service, records));
    let interruptions: Vec<Interruption> = down.iter().map(one).collect();
    let planned = interruptions.iter().filter(|one| one.cause.kind.is_planned());
    let planned: Spans = planned.map(|one| (one.from.0, one.to.0)).collect();
    let seen = Seen { measured, down: down.clone(), planned };
    let figures = |period: &Period| figures(period, &hours, &seen, sla.objective, now);
    let first = seen.measured.iter().next().map(|(from, _)| from);
    let shown =
        |period: &&Period| period.from < now && first.is_some_and(|first| period.to.0 > first);
    let mut told = Availability {
        format: FORMAT,
        service: service.clone(),
        at: now,
        time_zone: sla.time_zone.clone(),
        hours: sla.hours.clone(),
        holidays: sla.holidays.clone(),
        objective: sla.objective,
        writers: writers(&files),
        year: Some(figures(&whole)),
        months: months.iter().filter(shown).map(figures).collect(),
        partial: partial.iter().map(one).filter(|one| !is_edge(one, &down)).collect(),
        interruptions,
        warnings: Vec::new(),
    };
    told.warnings = warnings(&told, &figures(&whole), &files);
    Ok(told)
}

impl Availability {
    /// Leaves one month only.
    ///
    /// # Errors
    /// When there is no such month here.
    pub fn only(&mut self, month: &str) -> Result<(), String> {
        let (whole, months) = calendar::year(&self.time_zone, year_in(month)?)?;
        let period = months.into_iter().find(|period| period.name == month).unwrap_or(whole);
        let within = |one: &Interruption| one.from < period.to && one.to > period.from;
        self.year = None;
        self.months.retain(|figures| figures.period == month);
        self.interruptions.retain(within);
        self.partial.retain(within);
        let other = |warning: &String| {
            let of = warning.split_once(": only ").map(|(of, _)| of);
            of.is_none_or(|of| of == month)
        };
        self.warnings.retain(other);
        Ok(())
    }

    /// Whether every period that is told was kept; `None`: nothing was measured in any.
    #[must_use]
    pub fn kept(&self) -> Option<bool> {
        let told = self.months.iter().chain(&self.year).filter_map(|figures| figures.kept);
        told.reduce(|all, one| all && one)
    }
}

impl Figures {
    /// Whether so little was measured that they say little.
    #[must_use]
    pub fn is_thin(&self) -> bool {
        self.measured_ms * MILLION < self.service_ms * COVERAGE
    }
}

fn year_in(month: &str) -> Result<i16, String> {
    let year = month.split_once('-').and_then(|(year, _)| year.parse().ok());
    year.ok_or_else(|| format!("`{month}` is no month"))
}

fn runs(files: &[&Measured]) -> Vec<Run> {
    let mut runs: BTreeMap<&str, Run> = BTreeMap::new();
    for file in files {
        let Measured { every_ms, measured, down, .. } = *file;
        let run = runs.entry(&file.run).or_insert_with(|| Run {
            every_ms: *every_ms,
            measured: Spans::default(),
            down: Spans::default(),
        });
        (run.measured, run.down) = (run.measured.or(measured), run.down.or(down));
    }
    runs.into_values().collect()
}

fn writers(files: &[&Measured]) -> Vec<Writer> {
    let mut writers: BTreeMap<&str, Writer> = BTreeMap::new();
    for file in files {
        let from = file.measured.iter().next().map_or(0, |(from, _)| from);
        let to = file.measured.iter().last().map_or(0, |(_, to)| to);
        let writer = writers.entry(&file.run).or_insert_with(|| Writer {
            run: file.run.clone(),
            through: file.through.clone(),
            every_ms: file.every_ms,
            from: Timestamp(from),
            to: Timestamp(to),
            measured_ms: 0,
            acked: 0,
            refused: 0,
            unknown: 0,
        });
        (writer.from, writer.to) = (writer.from.min(Timestamp(from)), writer.to.max(Timestamp(to)));
        writer.measured_ms += file.measured.total();
        writer.acked += file.acked;
        writer.refused += file.refused;
        writer.unknown += file.unknown;
    }
    writers.into_values().collect()
}

fn interruption(span: (i64, i64), hours: &Spans, runs: &[Run], cause: Cause) -> Interruption {
    let (from, to) = span;
    let all = Spans::from(span);
    let saw = |run: &&Run| !run.down.and(&all).is_empty();
    let most = runs.iter().max_by_key(|run| run.down.and(&all).total());
    Interruption {
        from: Timestamp(from),
        to: Timestamp(to),
        length_ms: to - from,
        uncertain_ms: most.map_or(0, |run| run.every_ms),
        counted_ms: all.and(hours).total(),
        seen_by: runs.iter().filter(saw).count(),
        of: runs.iter().filter(|run| !run.measured.and(&all).is_empty()).count(),
        cause,
    }
}

/// Whether it is no more than two writers noticing one interruption at different ticks.
fn is_edge(one: &Interruption, down: &Spans) -> bool {
    let short = one.length_ms.unsigned_abs() <= one.uncertain_ms;
    short && down.iter().any(|(from, to)| one.to.0 == from || one.from.0 == to)
}

/// What all writers together saw.
struct Seen {
    measured: Spans,
    down: Spans,
    planned: Spans,
}

fn figures(
    period: &Period,
    hours: &Spans,
    seen: &Seen,
    objective: Objective,
    now: Timestamp,
) -> Figures {
    let hours = hours.and(&Spans::from((period.from.0, period.to.0)));
    let past = hours.and(&Spans::from((period.from.0, now.0)));
    let (service, measured) = (past.total(), past.and(&seen.measured).total());
    let down = past.and(&seen.down).total();
    let to_come = hours.total() - service;
    let budget = (measured + to_come) * (MILLION - i64::from(objective.0)) / MILLION;
    Figures {
        period: period.name.clone(),
        over: period.to <= now,
        service_ms: service,
        measured_ms: measured,
        coverage_percent: percent(measured, service),
        down_ms: down,
        planned_ms: past.and(&seen.planned).total(),
        availability_percent: percent(measured - down, measured),
        budget_ms: budget,
        left_ms: budget - down,
        kept: (measured > 0).then_some(down <= budget),
    }
}

/// Rounded down: what is just missed is not shown as reached.
#[expect(clippy::cast_precision_loss, reason = "parts per hundred million of one")]
fn percent(part: i64, whole: i64) -> Option<f64> {
    let parts = i128::from(part) * 100_000_000 / i128::from(whole.max(1));
    (whole > 0).then(|| i64::try_from(parts).unwrap_or(0) as f64 / 1_000_000.0)
}

fn warnings(told: &Availability, year: &Figures, files: &[&Measured]) -> Vec<String> {
    let mut warnings = Vec::new();
    let Figures { service_ms, measured_ms, .. } = *year;
    if files.is_empty() {
        warnings.push("there is no journal of this service: nothing was measured".into());
    } else if measured_ms == 0 {
        warnings.push("nothing was measured in service hours of this year".into());
    }
    for one in told.months.iter().chain([year]) {
        if measured_ms > 0 && one.is_thin() {
            let share = one.coverage_percent.unwrap_or(0.0);
            warnings.push(format!(
                "{}: only {share:.2} % of its service time was measured",
                one.period
            ));
        }
    }
    if service_ms == 0 {
        warnings.push("there was no service time yet".into());
    }
    for file in files {
        for step in &file.steps {
            warnings.push(format!(
                "{}: its wall clock was put {} by {} ms at {}: times before are as it showed them",
                file.run,
                if step.by_ms > 0 { "forward" } else { "back" },
                step.by_ms.abs(),
                jiff::Timestamp::from_millisecond(step.at).unwrap_or_default(),
            ));
        }
    }
    warnings
}

#[cfg(test)]
mod tests;
