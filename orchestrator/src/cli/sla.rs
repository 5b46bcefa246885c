//! `baton sla`: was the service there when it was promised?

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use failover::cluster::Record;
use failover::topology::Topology;
use orchestrator::answers::{DeclaredTopology, Transitions};
use orchestrator::probe::{Folder, JournalError, Kept};
use orchestrator::sla::{Availability, Figures, Interruption, Measured, Question, availability};
use wire::clock;

use crate::client::{Cluster, Failure};
use crate::screen::{Mood, cell, lines, print, remark, span, table, time, tinted};
use crate::settings::Settings;
use crate::verbs::{Globals, Sla};

/// What is read without a word.
const QUIET: Duration = Duration::from_secs(2);

pub async fn run(globals: &Globals, asked: &Sla) -> Result<u8, Failure> {
    let files = measured(globals, asked)?;
    let (topology, records) = told(globals, asked).await?;
    if !topology.services.contains_key(&asked.service) {
        let known: Vec<_> = topology.services.keys().map(ToString::to_string).collect();
        let known = known.join(", ");
        let error = format!("the topology has no service `{}`; there is {known}", asked.service);
        return Err(Failure::config(error, ""));
    }
    let now = clock::wall();
    let sla = topology.sla_of(&asked.service);
    let year = match (asked.month, asked.year) {
        (Some((year, _)), _) | (None, Some(year)) => year,
        (None, None) => orchestrator::calendar::year_of(&sla.time_zone, now).map_err(wrong)?,
    };
    let question = Question { service: &asked.service, sla: &sla, year, now };
    let mut told = availability(question, &files, &records).map_err(wrong)?;
    if let Some((year, month)) = asked.month {
        told.only(&format!("{year:04}-{month:02}")).map_err(wrong)?;
    }
    print(globals.output, &told, &text(&told))?;
    Ok(match told.kept() {
        None => wire::exit::UNKNOWN,
        Some(true) => wire::exit::OK,
        Some(false) => wire::exit::MISSED,
    })
}

fn wrong(error: String) -> Failure {
    Failure::config(error, "")
}

/// What every journal says, of files and of folders.
fn measured(globals: &Globals, asked: &Sla) -> Result<Vec<Measured>, Failure> {
    let wrong = |error: JournalError| {
        let remedy = "mend or remove the file: what is left out counts as not measured";
        Failure::config(error.to_string(), remedy)
    };
    let mut kept = Vec::new();
    for path in &asked.journal {
        if path.is_dir() {
            kept.extend(Folder::at(path).kept().map_err(wrong)?);
        } else {
            kept.push(Kept::file(path));
        }
    }
    let (begun, mut said) = (clock::now(), clock::now());
    let mut files = Vec::new();
    for (number, one) in kept.iter().enumerate() {
        if clock::now().since(said) > QUIET {
            said = clock::now();
            remark(globals.output, &format!("{number} of {} journals are read", kept.len()));
        }
        files.push(one.measured().map_err(wrong)?);
    }
    tracing::debug!("read in {:?}", clock::now().since(begun));
    Ok(files)
}

/// What is declared, and which changes of primary there were.
async fn told(globals: &Globals, asked: &Sla) -> Result<(Topology, Vec<Record>), Failure> {
    let declared = |path: &Path| {
        orchestrator::topology::read(path)
            .map(|declared| declared.topology)
            .map_err(|error| Failure::config(error.to_string(), ""))
    };
    if let (Some(transitions), Some(topology)) = (&asked.transitions, &asked.topology) {
        return Ok((declared(topology)?, saved(transitions)?));
    }
    let remedy = "without the cluster: --transitions FILE (once written by `baton report -o json`) \
                  and --topology FILE";
    let without = |mut failure: Failure| {
        if failure.code == wire::exit::UNREACHABLE {
            remedy.clone_into(&mut failure.problem.remedy);
        }
        failure
    };
    let cluster = Cluster::open(&Settings::load(globals)?, globals)?;
    let Transitions { transitions } = cluster.get("/v1/transitions").await.map_err(without)?;
    let topology = match &asked.topology {
        Some(path) => declared(path)?,
        None => cluster.get::<DeclaredTopology>("/v1/topology").await.map_err(without)?.topology,
    };
    Ok((topology, transitions))
}

fn saved(path: &Path) -> Result<Vec<Record>, Failure> {
    let named = |error: String| {
        let remedy = "give what `baton report -o json` wrote";
        Failure::config(format!("{}: {error}", path.display()), remedy)
    };
    let text = std::fs::read_to_string(path).map_err(|error| named(error.to_string()))?;
    serde_json::from_str(&text).map_err(|error| named(error.to_string()))
}

fn text(told: &Availability) -> String {
    let each = |all: Vec<String>| all.join(", ");
    let hours = each(told.hours.iter().map(ToString::to_string).collect());
    let mut text =
        format!("{}: {hours} {}, objective {}", told.service, told.time_zone, told.objective);
    if !told.holidays.is_empty() {
        let days = each(told.holidays.iter().map(ToString::to_string).collect());
        let _ = write!(text, "\n  holidays: {days}");
    }
    text.push_str("\n\n");
    let mut rows = table(&[
        "PERIOD",
        "service",
        "coverage",
        "down",
        "planned",
        "available",
        "objective",
        "budget left",
    ]);
    for figures in told.months.iter().chain(&told.year) {
        rows.add_row(row(figures));
    }
    text.push_str(&lines(&rows));
    for (heading, all) in [
        ("Interruptions, in UTC", &told.interruptions),
        ("Seen by some writers only, and not counted", &told.partial),
    ] {
        if !all.is_empty() {
            let _ = write!(text, "\n{heading}\n{}", interruptions(all));
        }
    }
    for warning in &told.warnings {
        let _ = write!(text, "\n{}", tinted(&format!("! {warning}"), Mood::Odd));
    }
    let (verdict, mood) = match told.kept() {
        Some(true) => ("the objective is kept", Mood::Good),
        Some(false) => ("THE OBJECTIVE IS MISSED", Mood::Bad),
        None => ("nothing was measured: neither kept nor missed", Mood::Odd),
    };
    let _ = write!(text, "\n{}", tinted(verdict, mood));
    text
}

fn ms(length: i64) -> String {
    let shown = span(Duration::from_millis(length.unsigned_abs()));
    if length < 0 { format!("-{shown}") } else { shown }
}

fn row(figures: &Figures) -> [comfy_table::Cell; 8] {
    let percent = |share: Option<f64>, digits: usize| {
        share.map_or_else(|| "-".to_owned(), |share| format!("{:.digits$} %", cut(share, digits)))
    };
    let (kept, mood) = match figures.kept {
        None => ("not measured", Mood::Odd),
        Some(true) if figures.over => ("kept", Mood::Good),
        Some(true) => ("kept so far", Mood::Good),
        Some(false) => ("MISSED", Mood::Bad),
    };
    let thin = figures.is_thin();
    [
        cell(&figures.period, Mood::Plain),
        cell(ms(figures.service_ms), Mood::Plain),
        cell(percent(figures.coverage_percent, 2), if thin { Mood::Odd } else { Mood::Plain }),
        cell(ms(figures.down_ms), Mood::Plain),
        cell(ms(figures.planned_ms), Mood::Plain),
        cell(percent(figures.availability_percent, 4), mood),
        cell(kept, mood),
        cell(minutes(figures.left_ms), mood),
    ]
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

fn interruptions(all: &[Interruption]) -> String {
    let mut rows = table(&["BEGAN", "length", "may be longer by", "in hours", "seen by", "cause"]);
    for one in all {
        rows.add_row([
            cell(time(one.from), Mood::Plain),
            cell(ms(one.length_ms), Mood::Plain),
            cell(span(Duration::from_millis(one.uncertain_ms)), Mood::Plain),
            cell(ms(one.counted_ms), Mood::Plain),
            cell(format!("{} of {}", one.seen_by, one.of), Mood::Plain),
            cell(&one.cause.text, Mood::Plain),
        ]);
    }
    lines(&rows)
}
