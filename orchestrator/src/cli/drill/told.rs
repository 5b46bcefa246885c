//! Drills in words.

use std::fmt::Write as _;
use std::time::Duration;

use failover::cluster::StepRecord;
use failover::drill::{Drill, Kind, Outcome};
use failover::readiness::Finding;
use orchestrator::answers::{CalendarTold, DrillPlan, DrillTold};

use crate::report;
use crate::screen::{Mood, cell, lines, span, table, time, tinted};
use crate::words;

/// How good an outcome is.
fn mood(outcome: &Outcome) -> Mood {
    match outcome {
        Outcome::Passed => Mood::Good,
        Outcome::Open | Outcome::Aborted(_) => Mood::Odd,
        Outcome::Failed(_) | Outcome::Overtaken(_) => Mood::Bad,
    }
}

pub fn outcome(drill: &Drill) -> String {
    match (&drill.outcome, drill.outcome.reason()) {
        (Outcome::Open, _) => {
            let ends = if drill.abort.is_some() { ", given up" } else { "" };
            format!("at {}{ends}", drill.stage.name())
        }
        (outcome, None) => outcome.told().to_owned(),
        (outcome, Some(why)) => format!("{}: {why}", outcome.told()),
    }
}

fn began(drill: &Drill) -> String {
    drill.steps.first().map_or_else(|| "-".to_owned(), |step| time(step.at))
}

/// Every drill.
pub fn listed(drills: &[Drill]) -> String {
    if drills.is_empty() {
        return "no drills yet: baton drill plan switchover SERVICE".to_owned();
    }
    let mut rows = table(&["DRILL", "when", "kind", "service", "from", "to", "by", "outcome"]);
    let name = |id: &Option<failover::InstanceId>| {
        id.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string)
    };
    for drill in drills {
        let moves = drill.kind.has_impact();
        rows.add_row([
            cell(drill.id, Mood::Plain),
            cell(began(drill), Mood::Plain),
            cell(drill.kind.name(), Mood::Plain),
            cell(&drill.service, Mood::Plain),
            cell(if moves { name(&drill.home) } else { "-".to_owned() }, Mood::Plain),
            cell(name(&drill.target), Mood::Plain),
            cell(&drill.by, Mood::Plain),
            cell(outcome(drill), mood(&drill.outcome)),
        ]);
    }
    lines(&rows)
}

/// When drills are held, and when none may be.
pub fn calendar(calendar: &CalendarTold) -> String {
    let mut text = format!("{}\n", calendar.now);
    let each = |all: Vec<String>| if all.is_empty() { "none".to_owned() } else { all.join(", ") };
    let protected = calendar.protected.iter().map(ToString::to_string).collect();
    let blackouts = calendar.blackouts.iter().map(ToString::to_string).collect();
    let _ = writeln!(text, "  protected  {}", each(protected));
    let _ = writeln!(text, "  blackouts  {}", each(blackouts));
    let now = match &calendar.closed {
        Some(why) => tinted(&format!("only what clients cannot notice: {why}"), Mood::Odd),
        None => tinted("drills may begin", Mood::Good),
    };
    let _ = writeln!(text, "  now        {now}");
    if calendar.entries.is_empty() {
        text.push_str("\nnothing is held by itself: [[drills.schedule]] in the topology file\n");
        return text;
    }
    let mut rows = table(&["ENTRY", "kind", "service", "when", "next", "last"]);
    for told in &calendar.entries {
        let (last, mood) = match &told.last {
            None => ("-".to_owned(), Mood::Plain),
            Some(last) => match (&last.drill, &last.missed) {
                (_, Some(why)) => (format!("MISSED at {}: {why}", time(last.due)), Mood::Bad),
                (Some(drill), None) => (format!("drill {drill}"), Mood::Good),
                (None, None) => ("none yet".to_owned(), Mood::Plain),
            },
        };
        rows.add_row([
            cell(&told.entry, Mood::Plain),
            cell(told.declared.kind.name(), Mood::Plain),
            cell(&told.declared.service, Mood::Plain),
            cell(told.declared.when, Mood::Plain),
            cell(told.next_shown.as_deref().unwrap_or("-"), Mood::Plain),
            cell(last, mood),
        ]);
    }
    let _ = write!(text, "\n{}", lines(&rows));
    text
}

/// A stage that was left.
pub fn stage_line(drill: &Drill, step: &StepRecord) -> String {
    let first = drill.steps.first().map_or(step.at.0, |first| first.at.0);
    let since = Duration::from_millis(step.at.0.saturating_sub(first).max(0).unsigned_abs());
    let name = match step.name.as_str() {
        "check" => "checked",
        "there" => "moved",
        "dwell" => "dwelt",
        other => other,
    };
    format!("+{:<9} {name:<9} {}", span(since), step.note)
}

/// What is waited for.
pub fn waiting(text: &str) -> String {
    format!("           waits: {text}")
}

/// The last lines of a drill that was watched.
pub fn closing(told: &DrillTold) -> String {
    let drill = &told.drill;
    let mut text = format!("drill {} {}", drill.id, drill.outcome.told());
    for record in &told.transitions {
        let (outcome, _) = words::outcome(&record.outcome);
        let took = report::phases(record).total_ms.map_or_else(String::new, took);
        let _ = write!(text, "\ntransition {}: {outcome}{took}", record.id);
    }
    let _ = write!(text, "\nall of it: baton drill report {}", drill.id);
    text
}

fn took(ms: f64) -> String {
    format!(" in {}", span(Duration::from_secs_f64((ms / 1_000.0).max(0.0))))
}

/// One drill, all of it.
pub fn report(told: &DrillTold) -> String {
    let drill = &told.drill;
    let mut text = format!("Drill {}: {} of {}\n", drill.id, drill.kind.name(), drill.service);
    let _ = writeln!(text, "  why      {}", drill.reason);
    let _ = writeln!(text, "  by       {}", drill.by);
    if let Some(hours) = &drill.despite {
        let _ = writeln!(text, "  despite  {hours}");
    }
    if let Some(plan) = &drill.plan {
        let _ = writeln!(text, "  plan     {plan}");
    }
    let _ = writeln!(text, "  when     {}", began(drill));
    if let (Some(home), Some(target)) = (&drill.home, &drill.target) {
        let _ = match drill.kind {
            Kind::Switchover => {
                let dwell = span(drill.dwell);
                writeln!(text, "  moves    {home} -> {target}, for {dwell}, and back")
            }
            Kind::Isolate => {
                let cut = span(drill.at_most.unwrap_or_default());
                let dwell = span(drill.dwell);
                writeln!(
                    text,
                    "  loses    {home} to {target}, cut off for at most {cut}; back after {dwell}"
                )
            }
            Kind::Dns | Kind::Readiness => {
                writeln!(text, "  canary   from {home} to {target}, and back")
            }
            Kind::RestorePath => {
                writeln!(text, "  copy     beside {target}, brought back under {home}")
            }
        };
    }
    if let Some(abort) = &drill.abort {
        let _ = writeln!(text, "  given up by {}: {}", abort.by, abort.reason);
    }
    let _ = writeln!(text, "  outcome  {}", tinted(&outcome(drill), mood(&drill.outcome)));
    let _ = writeln!(text, "\nWhat happened");
    for step in &drill.steps {
        let _ = writeln!(text, "  {}", stage_line(drill, step).trim_end());
    }
    for finding in &told.waits {
        let _ = writeln!(text, "  {}", waiting(&words::finding(finding)));
    }
    if !drill.verdicts.is_empty() {
        text.push_str("\nCould each site be lost when it began\n");
        text.push_str(&verdicts(&drill.verdicts));
    }
    for finding in &drill.findings {
        text.push_str(&found(finding));
    }
    for record in &told.transitions {
        let (outcome, _) = words::outcome(&record.outcome);
        let took = report::phases(record).total_ms.map_or_else(String::new, took);
        let _ = writeln!(text, "\nTransition {}: {outcome}{took}", record.id);
        for line in report::step_lines(record) {
            let _ = writeln!(text, "{}", line.trim_end());
        }
    }
    text
}

fn verdicts(verdicts: &[failover::readiness::SiteVerdict]) -> String {
    let mut rows = table(&["LOSE", "ready", "then", "rpo 0", "rto"]);
    for verdict in verdicts {
        let target = verdict.target.as_ref().map_or("nobody", |target| target.as_str());
        let rpo = match verdict.rpo.zero {
            Some(true) => "proven",
            Some(false) => "NO",
            None => "unknown",
        };
        let rto = verdict.rto.as_ref().map_or_else(
            || "-".to_owned(),
            |rto| {
                let least = span(Duration::from_millis(rto.at_least_ms));
                if rto.total_ms.is_some() { least } else { format!("> {least}") }
            },
        );
        rows.add_row([
            cell(&verdict.site, Mood::Plain),
            cell(verdict.level.name(), words::level(verdict.level)),
            cell(format!("{target} is the primary"), Mood::Plain),
            cell(rpo, Mood::Plain),
            cell(rto, Mood::Plain),
        ]);
    }
    lines(&rows)
}

fn found(finding: &Finding) -> String {
    let who = finding.instance.as_ref().map_or_else(String::new, |id| format!("{id}: "));
    let line = format!("  {} ({}): {who}{}", finding.check, finding.level.name(), finding.text);
    format!("{}\n      {}\n", tinted(&line, words::level(finding.level)), finding.remedy)
}

/// What a drill would do.
pub fn plan(answer: &DrillPlan) -> String {
    let mut text = String::new();
    for finding in &answer.refused {
        let line = format!("refused: {}", words::finding(finding));
        let _ = writeln!(text, "{}", tinted(&line, Mood::Bad));
    }
    text.push_str(&verdicts(&answer.verdicts));
    for finding in answer.against.iter().chain(&answer.unknown) {
        text.push_str(&found(finding));
    }
    if let Some(rehearsal) = &answer.rehearsal {
        text.push_str("\nThe change of primary, on a copy\n");
        text.push_str(&crate::what_if::told(rehearsal));
    }
    let may =
        match (answer.refused.is_empty() && answer.against.is_empty(), answer.unknown.is_empty()) {
            (false, _) => tinted("it would not be done", Mood::Bad),
            (true, false) => {
                tinted("it would wait for what is not known, then be given up", Mood::Odd)
            }
            (true, true) => tinted("it would be done", Mood::Good),
        };
    let _ = writeln!(text, "\n{may}; nothing was changed");
    if let Some(plan) = &answer.plan {
        let _ = writeln!(text, "plan {plan}");
    }
    text
}
