//! `baton sla`: was the service there when it was promised?

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use failover::cluster::Record;
use failover::topology::Topology;
use orchestrator::answers::{DeclaredTopology, Transitions};
use orchestrator::sla::told::{self, Row, ms};
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
    let (begun, mut said) = (clock::now(), clock::now());
    let files = told::read(&asked.journal, |number, count| {
        if clock::now().since(said) > QUIET {
            said = clock::now();
            remark(globals.output, &format!("{number} of {count} journals are read"));
        }
    });
    tracing::debug!("read in {:?}", clock::now().since(begun));
    files.map_err(|error| {
        let remedy = "mend or remove the file: what is left out counts as not measured";
        Failure::config(error.to_string(), remedy)
    })
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

fn row(figures: &Figures) -> [comfy_table::Cell; 8] {
    let row = Row::from(figures);
    [
        cell(row.period, Mood::Plain),
        cell(row.promised, Mood::Plain),
        cell(row.coverage, if row.thin { Mood::Odd } else { Mood::Plain }),
        cell(row.down, Mood::Plain),
        cell(row.planned, Mood::Plain),
        cell(row.available, row.mood),
        cell(row.kept, row.mood),
        cell(row.left, row.mood),
    ]
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
