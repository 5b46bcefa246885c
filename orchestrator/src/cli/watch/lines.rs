//! What is so, as lines, and which of them are new.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use failover::ids::TransitionId;
use orchestrator::answers::ServiceStatus;
use orchestrator::overview::Overview;
use orchestrator::words::{Mood, span};

use crate::client::Failure;
use crate::report;

/// Prints one line at once. Whoever read may have had enough.
pub(super) fn print_line(line: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout();
    writeln!(out, "{line}")
        .and_then(|()| out.flush())
        .map_err(|error| Failure::failed(format!("standard output: {error}")))
}

/// The verdict in words.
pub(super) fn verdict(overview: &Overview) -> (Mood, String) {
    let count = overview.remarks.len();
    match overview.remarks.iter().map(|remark| remark.mood).max() {
        None => (Mood::Good, "all is well".to_owned()),
        Some(Mood::Bad) => (Mood::Bad, format!("NOT WELL: {count} problems")),
        Some(_) => (Mood::Odd, format!("works, with {count} remarks")),
    }
}

/// Who leads.
pub(super) fn leader(overview: &Overview) -> String {
    let leader = overview.known.status.leader.as_ref();
    leader
        .map_or_else(|| "NO LEADER is known".to_owned(), |leader| format!("leader {}", leader.name))
}

/// Whose word it is.
pub(super) fn source(overview: &Overview) -> String {
    let shown = &overview.shown_by.name;
    match &overview.evidence {
        None => format!("shown by {shown}, which knows nothing of what agents measure"),
        Some(evidence) if evidence.from == overview.shown_by => {
            format!("shown by {shown}, which measures itself")
        }
        Some(evidence) => {
            let age = span(std::time::Duration::from_millis(evidence.age_ms));
            format!("shown by {shown}, evidence of {} {age} ago", evidence.from.name)
        }
    }
}

/// A service on one line.
pub(super) fn service(service: &ServiceStatus) -> String {
    let rule: Vec<_> = service.rule.instances.iter().map(ToString::to_string).collect();
    let primary = service.primary.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string);
    let step = service.transition.as_ref().map_or_else(String::new, |transition| {
        format!(", transition {} at {}", transition.id, transition.step.name())
    });
    format!(
        "{}: primary {primary}, epoch {}, rule {} of {}{step}",
        service.service,
        service.epoch,
        service.rule.required,
        if rule.is_empty() { "nobody".to_owned() } else { rule.join(", ") },
    )
}

/// Everything, for one look.
pub(super) fn everything(overview: &Overview) -> Vec<String> {
    let mut all = vec![format!("{}, {}", leader(overview), source(overview))];
    all.extend(overview.known.status.services.iter().map(service));
    all.extend(overview.remarks.iter().map(|remark| format!("! {}", remark.text)));
    all.push(verdict(overview).1);
    all
}

/// What was told already.
#[derive(Default)]
pub(super) struct Told {
    facts: BTreeMap<String, String>,
    remarks: BTreeMap<String, String>,
    steps: BTreeMap<TransitionId, usize>,
    lost: bool,
}

impl Told {
    /// Nobody answers: told once.
    pub(super) fn lost(&mut self, text: &str) -> Vec<String> {
        if std::mem::replace(&mut self.lost, true) { Vec::new() } else { vec![text.to_owned()] }
    }

    /// What is new.
    pub(super) fn news(&mut self, overview: &Overview) -> Vec<String> {
        let mut new = Vec::new();
        if std::mem::take(&mut self.lost) {
            new.push(format!("answered again, {}", source(overview)));
        }
        let first = self.facts.is_empty();
        for record in &overview.known.transitions {
            let lines = report::step_lines(record);
            let seen = self.steps.insert(record.id, lines.len());
            // What was long over when this began is history.
            let open = overview.known.status.services.iter().any(|service| {
                service.transition.as_ref().is_some_and(|open| open.id == record.id)
            });
            let from = seen.unwrap_or(if first && !open { lines.len() } else { 0 });
            let id = record.id;
            new.extend(lines.iter().skip(from).map(|line| format!("transition {id}: {line}")));
        }
        let mut facts = BTreeMap::from([("leader".to_owned(), leader(overview))]);
        for status in &overview.known.status.services {
            facts.insert(format!("service {}", status.service), service(status));
        }
        if let Some(drill) = &overview.known.status.drill {
            let text =
                format!("drill {} of {} at {}", drill.drill, drill.service, drill.stage.name());
            facts.insert("drill".to_owned(), text);
        }
        for (key, fact) in &facts {
            if self.facts.get(key) != Some(fact) {
                new.push(fact.clone());
            }
        }
        let gone = self.facts.keys().filter(|key| !facts.contains_key(*key));
        new.extend(gone.map(|key| format!("{key}: no more")));
        self.facts = facts;
        self.of_remarks(overview, &mut new);
        new
    }

    fn of_remarks(&mut self, overview: &Overview, new: &mut Vec<String>) {
        // What a change of primary brings with it is told by its steps; what blocks it is not.
        let is_open = |service: &ServiceStatus| service.transition.is_some();
        let changing = overview.known.status.services.iter().any(is_open);
        let now: BTreeMap<String, String> = overview
            .remarks
            .iter()
            .filter(|remark| !changing || remark.text.contains("(blocks)"))
            .map(|remark| (without_numbers(&remark.text), remark.text.clone()))
            .collect();
        let keys = |all: &BTreeMap<String, String>| all.keys().cloned().collect::<BTreeSet<_>>();
        let (before, after) = (keys(&self.remarks), keys(&now));
        for key in after.difference(&before) {
            new.extend(now.get(key).map(|text| format!("! {text}")));
        }
        if changing {
            self.remarks.extend(now);
            return;
        }
        for key in before.difference(&after) {
            new.extend(self.remarks.get(key).map(|text| format!("over: {text}")));
        }
        if after.is_empty() && (!before.is_empty() || self.remarks.is_empty() && new.len() > 1) {
            new.push(verdict(overview).1);
        }
        self.remarks = now;
    }
}

/// A remark whose age grows is the same remark.
fn without_numbers(text: &str) -> String {
    text.split_whitespace()
        .filter(|word| !word.starts_with(|c: char| c.is_ascii_digit()))
        .filter(|word| !matches!(*word, "ms" | "s" | "min" | "h" | "d" | "B" | "kB" | "MB" | "GB"))
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_growing_age_is_no_news() {
        let one = without_numbers("a-1: not heard for 12.3 s");
        assert_eq!(one, without_numbers("a-1: not heard for 1 min 4 s"));
        assert_ne!(one, without_numbers("b-1: not heard for 12.3 s"));
    }
}
