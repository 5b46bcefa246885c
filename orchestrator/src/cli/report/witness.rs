//! What a probe writer says of a change of primary. It stands beside the signed bundle, on a line
//! of its own or on the page, and is nobody's word but the writer's: no voter knows of it.

use std::fmt::Write as _;
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use failover::Timestamp;
use failover::cluster::Record;
use failover::ids::TransitionId;
use orchestrator::evidence::hex;
use orchestrator::probe::{Journal, Reconciled};
use orchestrator::sla::{Measured, Spans, cause_of};
use serde::{Deserialize, Serialize};

use crate::client::Failure;
use crate::screen::{span, time};
use crate::settings::Settings;

/// Whose word it is, wherever it is shown.
pub const WHOSE: &str = "The probe writer's word: it is not signed, and no voter vouches for it. \
                         Times are of its clock.";

const BEGIN: &str = "{\"probe_writer\":";

/// The line beside the bundle.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    probe_writer: Witness,
}

/// What the writer says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Witness {
    /// Of which change of primary.
    pub transition: TransitionId,
    /// Its run.
    pub run: String,
    /// What it wrote through.
    pub through: String,
    /// How often.
    pub every_ms: u64,
    /// SHA-256 of its journal, in hexadecimal.
    pub journal_sha256: String,
    /// Whether it ran from the change's first step to its last.
    pub ran: bool,
    /// When no write was acknowledged, in the time of the change: from and to.
    pub interruptions: Vec<(Timestamp, Timestamp)>,
    /// All of its journal held against the table; `None`: the table could not be read.
    pub table: Option<Reconciled>,
}

/// Reads a journal, holds it against the table if that can be had, and says so in a line.
pub async fn witness(settings: &Settings, record: &Record, path: &Path) -> Result<String, Failure> {
    let journal = super::journal(path)?;
    if journal.head.service != record.service.as_str() {
        let of = &journal.head.service;
        let error = format!("{}: a journal of `{of}`, not of `{}`", path.display(), record.service);
        return Err(Failure::config(error, "name a journal of the service of that transition"));
    }
    let table = crate::probe::reconciled(settings, &record.service, &journal).await;
    let told = told(record, &journal, path, table)?;
    let text = serde_json::to_string(&Line { probe_writer: told });
    Ok(text.map_err(|error| Failure::failed(error.to_string()))? + "\n")
}

fn told(
    record: &Record,
    journal: &Journal,
    path: &Path,
    table: Option<Reconciled>,
) -> Result<Witness, Failure> {
    let wrong = |error: String| Failure::config(error, "");
    let measured = Measured::of_journal(path).map_err(|error| wrong(error.to_string()))?;
    let own = |span: &(i64, i64)| {
        let cause = cause_of(*span, &record.service, std::slice::from_ref(record));
        cause.transition.is_some()
    };
    let whole = record.steps.first().zip(record.steps.last());
    let whole = whole.map(|(first, last)| Spans::from((first.at.0, last.at.0)));
    Ok(Witness {
        transition: record.id,
        run: journal.head.run.clone(),
        through: journal.head.through.clone(),
        every_ms: journal.head.every_ms,
        journal_sha256: sha256(path).map_err(|e| wrong(format!("{}: {e}", path.display())))?,
        ran: whole.is_some_and(|whole| whole.without(&measured.measured).is_empty()),
        interruptions: measured
            .down
            .iter()
            .filter(own)
            .map(|(from, to)| (Timestamp(from), Timestamp(to)))
            .collect(),
        table,
    })
}

fn sha256(path: &Path) -> std::io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let mut digest = ring::digest::Context::new(&ring::digest::SHA256);
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(digest.finish().as_ref())),
            count => digest.update(buffer.get(..count).unwrap_or_default()),
        }
    }
}

/// A text that may have such a line at its end: what is before, and the line.
pub fn split(text: &str) -> (&str, Option<&str>) {
    match text.split_once('\n') {
        Some((before, line)) if line.starts_with(BEGIN) => {
            (text.get(..=before.len()).unwrap_or(text), Some(line))
        }
        Some(_) | None => (text, None),
    }
}

/// Reads such a line, which must be about that change of primary.
pub fn read(line: &str, transition: TransitionId) -> Result<Witness, String> {
    let read: Line = serde_json::from_str(line)
        .map_err(|error| format!("what the probe writer says cannot be read: {error}"))?;
    if read.probe_writer.transition != transition {
        let of = read.probe_writer.transition;
        return Err(format!("what the probe writer says is of transition {of}"));
    }
    Ok(read.probe_writer)
}

/// The same in words, a line each.
pub fn lines(told: &Witness) -> Vec<String> {
    let mut lines = Vec::new();
    for (from, to) in &told.interruptions {
        let length = span(Duration::from_millis(to.0.saturating_sub(from.0).max(0).unsigned_abs()));
        let (from, to) = (time(*from), time(*to));
        lines.push(format!("no write was acknowledged for {length}: from {from} to {to}"));
    }
    if !told.ran {
        lines.push("it did not run all of that time".to_owned());
    } else if told.interruptions.is_empty() {
        lines.push("every write was acknowledged in time".to_owned());
    }
    lines.push(match &told.table {
        None => "the table could not be read: whether anything is lost is not known".to_owned(),
        Some(table) => {
            let mut text = format!(
                "held against the table: {} acknowledged, {} of them missing, {} twice; {} \
                 unknown ({} are there), {} turned away",
                table.acked,
                table.lost,
                table.duplicates,
                table.unknown,
                table.unknown_found,
                table.refused
            );
            if table.lost > 0 {
                let _ = write!(text, ". LOST: {:?}", table.lost_numbers);
            }
            text
        }
    });
    lines.push(format!(
        "run {} through {}, every {} ms; SHA-256 of the journal {}",
        told.run, told.through, told.every_ms, told.journal_sha256
    ));
    lines
}
