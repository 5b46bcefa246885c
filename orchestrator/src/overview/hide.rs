//! What whoever shows no certificate is not told.

use std::net::{IpAddr, SocketAddr};

use failover::drill::Outcome;
use failover::fitness::Promise;
use failover::report::Server;
use serde_json::Value;

use crate::answers::Known;
use crate::words::TOLD_TO_OPERATORS;

const SOMEBODY: &str = "an operator";

const LOWERED: &str = "something lowers the durability of commits";

/// By whom a change is that nobody asked for.
fn is_ours(by: &str) -> bool {
    by == "baton" || by.starts_with("drill ")
}

/// Without people and what they wrote, and without what machines quoted: error messages may hold
/// anything.
pub(super) fn people(mut known: Known) -> Known {
    for service in &mut known.status.services {
        for finding in &mut service.findings {
            // The law quotes who holds and why, and names roles, databases and tables.
            match finding.check.as_str() {
                "hold" => "automation is on hold".clone_into(&mut finding.text),
                "durability-floor" => LOWERED.clone_into(&mut finding.text),
                _ => {}
            }
        }
        if let Promise::No(reasons) = &mut service.zero_loss {
            *reasons = vec![LOWERED.to_owned()];
        }
        if let Some(hold) = &mut service.hold {
            SOMEBODY.clone_into(&mut hold.by);
            TOLD_TO_OPERATORS.clone_into(&mut hold.reason);
        }
        for instance in &mut service.instances {
            for note in &mut instance.notes {
                TOLD_TO_OPERATORS.clone_into(&mut note.text);
            }
            if let Some(Server::Refused(reason)) = &mut instance.reported {
                TOLD_TO_OPERATORS.clone_into(reason);
            }
        }
    }
    if let Some(drill) = &mut known.status.drill {
        drill.waits.clear();
    }
    for missed in &mut known.status.missed_drills {
        TOLD_TO_OPERATORS.clone_into(&mut missed.why);
    }
    for record in &mut known.transitions {
        record.plan = None;
        record.authority = None;
        record.readiness = None;
        if !is_ours(&record.by) {
            SOMEBODY.clone_into(&mut record.by);
            record.cause = format!("why: {TOLD_TO_OPERATORS}");
            // The first is the start, and says why.
            for step in record.steps.iter_mut().take(1) {
                step.note.clear();
            }
        }
    }
    for entry in &mut known.history {
        if !is_ours(&entry.by) {
            SOMEBODY.clone_into(&mut entry.by);
            entry.text = format!("what: {TOLD_TO_OPERATORS}");
        } else if entry.text.starts_with("alert ") {
            // It may say who holds, and why.
            entry.text = format!("an alert: {TOLD_TO_OPERATORS}");
        }
    }
    for drill in &mut known.drills {
        SOMEBODY.clone_into(&mut drill.by);
        TOLD_TO_OPERATORS.clone_into(&mut drill.reason);
        drill.plan = None;
        drill.abort = None;
        drill.despite = None;
        drill.findings.clear();
        drill.verdicts.clear();
        drill.steps.clear();
        drill.outcome = match drill.outcome.clone() {
            Outcome::Failed(_) => Outcome::Failed(TOLD_TO_OPERATORS.to_owned()),
            Outcome::Aborted(_) => Outcome::Aborted(TOLD_TO_OPERATORS.to_owned()),
            other @ (Outcome::Open | Outcome::Passed | Outcome::Overtaken(_)) => other,
        };
    }
    known
}

/// Without the addresses that daemons listen on, wherever they stand, also in a text.
pub(super) fn addresses(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for key in ["address", "postgres", "system_identifier"] {
                map.remove(key);
            }
            map.values_mut().for_each(addresses);
        }
        Value::Array(all) => all.iter_mut().for_each(addresses),
        Value::String(text) => {
            if text.split(' ').any(is_address) {
                let words = text.split(' ').map(|word| if is_address(word) { "…" } else { word });
                *text = words.collect::<Vec<_>>().join(" ");
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn is_address(word: &str) -> bool {
    let word = word.trim_matches(|c: char| !c.is_ascii_alphanumeric() && !"[]:.".contains(c));
    let word = word.trim_end_matches(['.', ':']);
    word.parse::<IpAddr>().is_ok() || word.parse::<SocketAddr>().is_ok()
}
