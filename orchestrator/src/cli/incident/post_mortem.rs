//! The skeleton of a post-mortem: what is known is filled in, what only people know is asked for.

use std::fmt::Write as _;

use failover::cluster::Record;
use failover::drill::Drill;

use super::timeline::Clocks;
use crate::report::{ms, phases, step_lines, trigger};
use crate::screen::time;
use crate::words;

/// What is known of the window.
pub struct Known<'a> {
    pub cluster: &'a str,
    pub window: (failover::Timestamp, failover::Timestamp),
    pub records: &'a [Record],
    pub drills: &'a [Drill],
    /// What a probe writer says, by transition.
    pub felt: &'a [(failover::ids::TransitionId, Vec<String>)],
    pub clocks: &'a Clocks,
    pub missing: &'a [String],
}

/// As Markdown.
pub fn text(known: &Known<'_>) -> String {
    let (from, to) = known.window;
    let mut text = format!(
        "# Post-mortem: {}, {} to {}\n\n\
         Status: draft. Written by: … Reviewed by: …\n\n\
         ## In one paragraph\n\n…\n\n\
         ## Impact\n\nWho could not work, for how long, and what did they do instead? …\n",
        known.cluster,
        time(from),
        time(to)
    );
    for (id, lines) in known.felt {
        let _ = write!(text, "\nTransition {id}. {}\n\n", crate::report::witness::WHOSE);
        for line in lines {
            let _ = writeln!(text, "- {line}");
        }
    }
    if known.felt.is_empty() {
        text.push_str("\nNo journal of a probe writer was given: `--probe FILE`.\n");
    }
    text.push_str("\n## Changes of primary\n");
    if known.records.is_empty() {
        text.push_str("\nNone in this window.\n");
    } else {
        table(&mut text, known.records);
    }
    for record in known.records {
        one(&mut text, record);
    }
    if !known.drills.is_empty() {
        text.push_str("\n## Drills\n\n");
        for drill in known.drills {
            let (kind, ended) = (drill.kind.name(), drill.outcome.told());
            let _ = writeln!(text, "- drill {} ({kind}) of {}: {ended}", drill.id, drill.service);
        }
    }
    let _ = write!(
        text,
        "\n## Timeline\n\nAll of it is in `timeline.txt`, on the clock of {}. What matters of \
         it:\n\n| when | what |\n|---|---|\n| … | … |\n\n\
         ## What set it off\n\n…\n\n## What made it worse, or better\n\n…\n\n\
         ## What was known, and what was not\n\n",
        known.clocks.reference
    );
    if known.missing.is_empty() {
        text.push_str("Everything that was asked for could be had.\n");
    }
    for line in known.missing {
        let _ = writeln!(text, "- could not be had: {line}");
    }
    text.push_str(
        "\n## What is done about it\n\n| what | who | until |\n|---|---|---|\n| … | … | … |\n",
    );
    text
}

/// A text in a table's cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

fn table(text: &mut String, records: &[Record]) {
    text.push_str(
        "\n| transition | service | began | what set it off | quiesce | catch-up | seal | promote \
         | prove | redirect | verify | total | outcome |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    let or_dash = |took: Option<f64>| took.map_or_else(|| "-".to_owned(), ms);
    for record in records {
        let phases = phases(record);
        let began = record.steps.first().map_or_else(|| "-".to_owned(), |step| time(step.at));
        let steps = phases.all().map(|(_, took)| or_dash(took)).join(" | ");
        let total = or_dash(phases.total_ms);
        let (outcome, _) = words::outcome(&record.outcome);
        let _ = writeln!(
            text,
            "| {} | {} | {began} | {} | {steps} | {total} | {} |",
            record.id,
            record.service,
            trigger(record.trigger),
            cell(&outcome)
        );
    }
}

fn one(text: &mut String, record: &Record) {
    let name = |id: &Option<failover::InstanceId>| {
        id.as_ref().map_or_else(|| "nobody".to_owned(), ToString::to_string)
    };
    let (from, to) = (name(&record.from), name(&record.to));
    let _ = write!(
        text,
        "\n### Transition {}: {} of {}, {from} to {to}\n\nWhy: {}. By: {}. Epoch before: {}.\n\n\
         How the service stood before:\n\n",
        record.id,
        trigger(record.trigger),
        record.service,
        record.cause,
        words::by(record),
        record.epoch
    );
    for (line, _) in words::before(record) {
        let _ = writeln!(text, "- {line}");
    }
    text.push_str("\nEach step when it was left:\n\n```\n");
    for line in step_lines(record) {
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text.push_str("```\n");
    if !record.examined.is_empty() {
        text.push_str("\nWho was examined:\n\n");
        for examined in &record.examined {
            let _ = writeln!(text, "- {}: {}", examined.instance, examined.verdict);
        }
    }
}
