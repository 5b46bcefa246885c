//! `baton report`: one change of primary, as it is kept for ever.

pub mod html;
pub mod witness;

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use failover::cluster::{Outcome, Record, StepRecord, Trigger};
use orchestrator::answers::{Bundle, Transitions};
use orchestrator::probe::{Gap, Journal, Outcome as Write, Reconciled};
use serde::Serialize;

use crate::client::{Cluster, Failure};
use crate::screen::{Mood, cell, lines, print, remark, span, table, time, tinted};
use crate::settings::Settings;
use crate::verbs::{Format, Globals, Report};
use crate::words;

/// A report with what follows from it: what `-o json` prints.
#[derive(Serialize)]
pub struct Full<'a> {
    #[serde(flatten)]
    record: &'a Record,
    phases: Phases,
    #[serde(skip_serializing_if = "Option::is_none")]
    clients: Option<Clients>,
}

/// Milliseconds of each phase; absent: not passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[expect(clippy::struct_field_names, reason = "the unit is part of the name in JSON")]
pub struct Phases {
    /// From the last acknowledged write to the decision that something must be done. With a
    /// journal of this machine only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detect_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quiesce_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub catch_up_ms: Option<f64>,
    pub seal_ms: Option<f64>,
    pub promote_ms: Option<f64>,
    pub prove_ms: Option<f64>,
    pub redirect_ms: Option<f64>,
    pub verify_ms: Option<f64>,
    pub total_ms: Option<f64>,
}

impl Phases {
    /// In order, by name.
    pub const fn all(&self) -> [(&'static str, Option<f64>); 7] {
        [
            ("quiesce", self.quiesce_ms),
            ("catch-up", self.catch_up_ms),
            ("seal", self.seal_ms),
            ("promote", self.promote_ms),
            ("prove", self.prove_ms),
            ("redirect", self.redirect_ms),
            ("verify", self.verify_ms),
        ]
    }
}

/// What clients felt, by a probe writer's journal.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Clients {
    gap_ms: Option<f64>,
    #[serde(skip)]
    detect_ms: Option<f64>,
    acked: usize,
    unknown: usize,
    refused: usize,
    /// Acknowledged, but missing in the table; `None`: the table cannot be read now.
    lost: Option<u64>,
}

pub async fn run(globals: &Globals, arguments: &Report) -> Result<u8, Failure> {
    let settings = Settings::load(globals)?;
    let cluster = Cluster::open(&settings, globals)?;
    let Some(id) = arguments.id else {
        let all: Transitions = cluster.get("/v1/transitions").await?;
        print(globals.output, &all.transitions, &listed(&all.transitions))?;
        return Ok(wire::exit::OK);
    };
    if arguments.format != Format::Text {
        return evidence(globals, arguments, (&settings, &cluster), id).await;
    }
    let journal = arguments.journal.as_deref().map(journal).transpose()?;
    let record: Record = cluster.get(&format!("/v1/transitions/{id}")).await?;
    let felt = match &journal {
        Some(journal) => {
            let table = crate::probe::reconciled(&settings, &record.service, journal).await;
            Some(clients(&record, journal, table))
        }
        None => None,
    };
    let text = text(&record, felt.as_ref());
    print(globals.output, &with_phases(&record, felt), &text)?;
    Ok(wire::exit::OK)
}

/// Signed: to a file, or to standard output as it is.
async fn evidence(
    globals: &Globals,
    arguments: &Report,
    (settings, cluster): (&Settings, &Cluster),
    id: u64,
) -> Result<u8, Failure> {
    let Bundle { bundle } = cluster.get(&format!("/v1/evidence/{id}")).await?;
    let witness = match &arguments.journal {
        Some(path) => {
            let told = orchestrator::evidence::verify(&bundle).map_err(Failure::failed)?.evidence;
            Some(witness::witness(settings, &told.transition, path).await?)
        }
        None => None,
    };
    let how = (arguments.format, arguments.out.as_deref());
    hand_out(globals, how, bundle, witness.as_deref())
}

/// A bundle that stands, to a file or to standard output as it is.
pub fn hand_out(
    globals: &Globals,
    (format, out): (Format, Option<&Path>),
    bundle: String,
    witness: Option<&str>,
) -> Result<u8, Failure> {
    let stands = crate::verify::opened(&bundle, witness).map_err(Failure::failed)?;
    let said = stands.brief();
    let text = match format {
        Format::Html => stands.page,
        Format::Json | Format::Text => bundle + witness.unwrap_or_default(),
    };
    let Some(out) = out else {
        let written = std::io::stdout().write_all(text.as_bytes());
        written.map_err(|error| Failure::failed(format!("standard output: {error}")))?;
        return Ok(wire::exit::OK);
    };
    let named = |error| Failure::failed(format!("{}: {error}", out.display()));
    wire::files::write_durably(out, text.as_bytes()).map_err(named)?;
    remark(globals.output, &format!("{}: {said}", out.display()));
    Ok(wire::exit::OK)
}

fn journal(path: &Path) -> Result<Journal, Failure> {
    Journal::read(path).map_err(|error| Failure::config(error.to_string(), ""))
}

fn listed(records: &[Record]) -> String {
    if records.is_empty() {
        return "no transitions yet".to_owned();
    }
    let mut rows =
        table(&["REPORT", "when", "service", "trigger", "from", "to", "took", "outcome"]);
    let name = |id: &Option<failover::InstanceId>| {
        id.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string)
    };
    for record in records {
        let (outcome, mood) = words::outcome(&record.outcome);
        let begun = record.steps.first().map_or_else(|| "-".to_owned(), |step| time(step.at));
        rows.add_row([
            cell(record.id, Mood::Plain),
            cell(begun, Mood::Plain),
            cell(&record.service, Mood::Plain),
            cell(trigger(record.trigger), Mood::Plain),
            cell(name(&record.from), Mood::Plain),
            cell(name(&record.to), Mood::Plain),
            cell(phases(record).total_ms.map_or_else(|| "-".to_owned(), ms), Mood::Plain),
            cell(outcome, mood),
        ]);
    }
    lines(&rows)
}

/// What set a change of primary off.
pub fn trigger(trigger: Trigger) -> &'static str {
    match trigger {
        Trigger::Bootstrap => "bootstrap",
        Trigger::PrimaryLost => "primary lost",
        Trigger::Switchover => "switchover",
        Trigger::Failover => "failover, by an operator",
    }
}

/// The time between two steps: by the monotonic clock where one voter wrote both, else by the
/// wall. Milliseconds.
fn between(earlier: &StepRecord, later: &StepRecord) -> f64 {
    if earlier.voter == later.voter && later.monotonic_us >= earlier.monotonic_us {
        micros(later.monotonic_us - earlier.monotonic_us)
    } else {
        let wall = later.at.0.saturating_sub(earlier.at.0).max(0);
        micros(wall.unsigned_abs().saturating_mul(1_000))
    }
}

/// Milliseconds with three decimals.
#[expect(clippy::cast_precision_loss, reason = "exact below 285 years of microseconds")]
fn micros(us: u64) -> f64 {
    us as f64 / 1_000.0
}

/// How long each phase took.
pub fn phases(record: &Record) -> Phases {
    let mut found = Phases::default();
    for pair in record.steps.windows(2) {
        let [earlier, later] = pair else { continue };
        let took = Some(between(earlier, later));
        match later.name.as_str() {
            "quiesce" => found.quiesce_ms = took,
            "catch-up" => found.catch_up_ms = took,
            "seal" => found.seal_ms = took,
            "promote" => found.promote_ms = took,
            "prove" => found.prove_ms = took,
            "redirect" => found.redirect_ms = took,
            "verify" => found.verify_ms = took,
            _ => {}
        }
    }
    if let (Some(first), Some(last)) = (record.steps.first(), record.steps.last())
        && record.steps.len() > 1
    {
        found.total_ms = Some(between(first, last));
    }
    found
}

/// The report with its phases, and what clients felt.
pub fn with_phases(record: &Record, clients: Option<Clients>) -> Full<'_> {
    let mut phases = phases(record);
    phases.detect_ms = clients.as_ref().and_then(|clients| clients.detect_ms);
    Full { record, phases, clients }
}

/// The longest gap around the transition.
fn gap(record: &Record, journal: &Journal) -> Option<Gap> {
    let begun = record.steps.first()?.monotonic_us;
    let ended = record.steps.last()?.monotonic_us;
    let mut acks: Vec<u64> = journal.attempts.iter().filter_map(|a| a.acked_us).collect();
    acks.sort_unstable();
    let around = acks.windows(2).filter_map(|pair| match pair {
        [last, first] if *first >= begun && *last <= ended => {
            Some(Gap { last_ack_us: *last, first_ack_us: *first })
        }
        _ => None,
    });
    around.max_by_key(|gap| gap.first_ack_us - gap.last_ack_us)
}

fn detect(record: &Record, journal: &Journal) -> Option<f64> {
    let begun = record.steps.first()?.monotonic_us;
    let gap = gap(record, journal)?;
    begun.checked_sub(gap.last_ack_us).map(micros)
}

fn clients(record: &Record, journal: &Journal, table: Option<Reconciled>) -> Clients {
    Clients {
        gap_ms: gap(record, journal).or_else(|| journal.largest_gap()).map(Gap::ms),
        detect_ms: detect(record, journal),
        acked: journal.count(Write::Acked),
        unknown: journal.count(Write::Unknown),
        refused: journal.count(Write::Refused),
        lost: table.map(|table| table.lost),
    }
}

/// Milliseconds as people say them.
pub fn ms(ms: f64) -> String {
    span(Duration::from_secs_f64((ms / 1_000.0).max(0.0)))
}

/// One line for each thing that happened.
pub fn step_lines(record: &Record) -> Vec<String> {
    let Some(first) = record.steps.first() else { return Vec::new() };
    let mut before = first;
    let mut lines = Vec::new();
    for step in &record.steps {
        let since = format!("+{:.3} s", between(first, step) / 1_000.0);
        let took = if step.name == "started" { String::new() } else { ms(between(before, step)) };
        lines.push(format!("{since:>10}  {:<10} {took:>9}  {}", left(&step.name), step.note));
        before = step;
    }
    lines
}

/// A step that was left, as what has been reached by that.
fn left(step: &str) -> &str {
    match step {
        "quiesce" => "quiesced",
        "catch-up" => "caught up",
        "seal" => "chosen",
        "promote" => "promoted",
        "prove" => "proven",
        "redirect" => "redirected",
        "verify" => "verified",
        other => other,
    }
}

/// The last lines of a transition that was watched.
pub fn closing(record: &Record) -> String {
    let (outcome, _) = words::outcome(&record.outcome);
    let to = record.to.as_ref().map_or_else(String::new, |to| format!(", the primary is {to}"));
    let took =
        phases(record).total_ms.map_or_else(String::new, |total| format!(" in {}", ms(total)));
    format!("{outcome}{took}{to}\nall of it: baton report {}", record.id)
}

fn text(record: &Record, clients: Option<&Clients>) -> String {
    let mut text = String::new();
    let name = |id: &Option<failover::InstanceId>| {
        id.as_ref().map_or_else(|| "nobody".to_owned(), ToString::to_string)
    };
    let _ = writeln!(
        text,
        "Report {}: {} of {}, {} -> {}",
        record.id,
        trigger(record.trigger),
        record.service,
        name(&record.from),
        name(&record.to),
    );
    let _ = writeln!(text, "  why      {}", record.cause);
    let _ = writeln!(text, "  by       {}", words::by(record));
    if let Some(approved) = words::approved(record) {
        let _ = writeln!(text, "  approved by {approved}");
    }
    if let Some(given_up) = &record.given_up {
        let _ = writeln!(text, "  loss     {}", tinted(&given_up.told(), Mood::Bad));
    }
    if let Some(plan) = &record.plan {
        let _ = writeln!(text, "  plan     {plan}");
    }
    if let Some(drill) = record.drill {
        let _ = writeln!(text, "  drill    {drill}: baton drill report {drill}");
    }
    if let Some(first) = record.steps.first() {
        let _ = writeln!(text, "  when     {}", time(first.at));
    }
    let after = if record.to.is_some() && !matches!(record.outcome, Outcome::Aborted(_)) {
        format!(" -> {}", record.epoch.next())
    } else {
        String::new()
    };
    let _ = writeln!(text, "  epoch    {}{after}", record.epoch);
    let (outcome, mood) = words::outcome(&record.outcome);
    let took =
        phases(record).total_ms.map_or_else(String::new, |total| format!(" in {}", ms(total)));
    let _ = writeln!(text, "  outcome  {}", tinted(&format!("{outcome}{took}"), mood));
    let _ = writeln!(text, "\nHow the service stood before");
    for (line, mood) in words::before(record) {
        let _ = writeln!(text, "  {}", tinted(&line, mood));
    }
    let _ = writeln!(text, "\nWhat happened");
    for line in step_lines(record) {
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text.push_str(&bars(&phases(record)));
    if !record.examined.is_empty() {
        let _ = writeln!(text, "\nWho was examined");
        let mut rows = table(&["instance", "position", "verdict"]);
        for examined in &record.examined {
            let position = examined
                .position
                .as_ref()
                .map_or_else(|| "not sealed".to_owned(), ToString::to_string);
            rows.add_row([examined.instance.to_string(), position, examined.verdict.clone()]);
        }
        text.push_str(&lines(&rows));
    }
    if let Some(clients) = clients {
        text.push_str(&felt(clients));
    }
    text
}

/// The phases as bars, each as long as its share.
fn bars(phases: &Phases) -> String {
    let Some(total) = phases.total_ms.filter(|total| *total > 0.0) else { return String::new() };
    let mut text = "\nWhere the time went\n".to_owned();
    for (name, took) in phases.all() {
        let Some(took) = took else { continue };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 40")]
        let width = (took / total * 40.0).round().clamp(0.0, 40.0) as usize;
        let _ = writeln!(text, "  {name:<9} {:>9}  {}", ms(took), "▇".repeat(width));
    }
    let _ = writeln!(text, "  {:<9} {:>9}", "total", ms(total));
    text
}

fn felt(clients: &Clients) -> String {
    let mut text = "\nWhat clients felt\n".to_owned();
    let gap = clients.gap_ms.map_or_else(|| "unknown".to_owned(), ms);
    let _ = writeln!(text, "  no write was acknowledged for  {gap}");
    if let Some(detect) = clients.detect_ms {
        let _ = writeln!(text, "  of that until it was noticed   {}", ms(detect));
    }
    let _ = writeln!(
        text,
        "  of the whole journal           {} acknowledged, {} unknown, {} turned away",
        clients.acked, clients.unknown, clients.refused
    );
    let lost = match clients.lost {
        None => tinted("unknown: the table cannot be read now", Mood::Odd),
        Some(0) => tinted("nothing", Mood::Good),
        Some(count) => tinted(&format!("{count} acknowledged writes"), Mood::Bad),
    };
    let _ = writeln!(text, "  lost                           {lost}");
    text
}

#[cfg(test)]
pub mod tests;
