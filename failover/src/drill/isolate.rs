//! The drill of a disaster: the primary is cut off by its own agent, and lost as in a real one.
//!
//! Nothing here moves it. While the drill is at `there`, the assignment of the primary orders its
//! agent to fall silent for at most so long; what follows is judged by who knows nothing of drills.
//! It can be told nothing until it is back, and nobody need tell it: it heals by itself.

use super::ask::Wanted;
use super::judge::{Opinion, done, end, held, moved, overtaken, superseded, wait};
use super::{Drill, KNOW_WITHIN, Kind, LONGEST_ISOLATION, Outcome, Stage};
use crate::cluster::{Cluster, Outcome as Ended};
use crate::decide::{Case, Finding, finding};
use crate::ids::{DrillId, InstanceId, ServiceId};
use crate::report::{Report, Severity};
use crate::steady;
use crate::time::millis;
use crate::topology::Timing;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;
use serde::{Deserialize, Serialize};

/// Beside the loss being noticed: sealing, promoting, proving, and machines that are slow.
const MARGIN: Duration = Duration::from_secs(10);

/// The order to cut itself off, as an agent reads it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Isolation {
    /// For which drill: it is obeyed once.
    pub drill: DrillId,
    /// For how long at most.
    #[serde(rename = "at_most_ms", with = "crate::time::millis")]
    pub at_most: Duration,
}

/// How long a primary is cut off, unless something else is said: so that its loss is noticed and
/// somebody else serves before it is back.
#[must_use]
pub fn usual(timing: &Timing) -> Duration {
    (timing.suspect_after * 4 + MARGIN).min(LONGEST_ISOLATION)
}

/// Whether an instance is to cut itself off now. No word of it to anybody while a person holds
/// automation, once the drill is given up, or once the primary is another or about to be.
#[must_use]
pub fn ordered(cluster: &Cluster, id: &ServiceId, instance: &InstanceId) -> Option<Isolation> {
    let drill = super::judge::open(cluster)?;
    let service = cluster.services.get(id)?;
    let due = drill.kind == Kind::Isolate && drill.stage == Stage::There && drill.abort.is_none();
    let whom = drill.service == *id && drill.home.as_ref() == Some(instance);
    let leads = service.primary.as_ref() == Some(instance) && service.transition.is_none();
    let order = Isolation { drill: drill.id, at_most: drill.at_most? };
    (due && whom && leads && service.hold.is_none() && drill.there.is_none()).then_some(order)
}

/// What speaks against cutting the primary off, beyond what forbids any change of primary.
pub(super) fn against(case: &Case<'_>, wanted: &Wanted<'_>) -> Vec<Finding> {
    let block = |check: &str, text| finding(check, Severity::Blocks, None, text);
    if wanted.kind != Kind::Isolate {
        let text = "only a drill `isolate` cuts anybody off".to_string();
        return wanted.at_most.map(|_| block("at-most", text)).into_iter().collect();
    }
    let mut findings = Vec::new();
    if wanted.to.is_some() {
        let text = "a failover chooses by itself who takes over".to_string();
        findings.push(block("candidate", text));
    }
    let shortest = case.timing.suspect_after * 2;
    if wanted.at_most.is_some_and(|at_most| at_most < shortest) {
        let text = format!(
            "it would be back before anybody took over: at least {} ms, twice `suspect_after`",
            millis(shortest)
        );
        findings.push(block("at-most", text));
    }
    if wanted.at_most.is_some_and(|at_most| at_most > LONGEST_ISOLATION) {
        let text = format!("nobody is cut off for more than {} s", LONGEST_ISOLATION.as_secs());
        findings.push(block("at-most", text));
    }
    // What would keep the failover from happening is better known before.
    findings.extend(steady::infeasible(case, true));
    findings
}

/// The primary is told to cut itself off: is it lost, and does somebody else lead?
pub(super) fn lost(case: &Case<'_>, drill: &Drill) -> Opinion {
    if let Some(id) = drill.there {
        let Some(record) = moved(case, id) else { return Opinion::Wait(Vec::new()) };
        return match &record.outcome {
            Ended::Open => wait("failover", None, format!("transition {id} is under way")),
            Ended::Done => done(format!("transition {id} is done: {}", record.cause)),
            Ended::Aborted(why) => {
                end(Outcome::Failed(format!("transition {id} was rolled back: {why}")))
            }
            Ended::Superseded(by) => end(superseded(case, id, *by)),
        };
    }
    if let Some(over) = overtaken(case, drill.home.as_ref()) {
        return over;
    }
    let Some(home) = &drill.home else { return end(Outcome::Failed("nobody led".to_string())) };
    let at_most = drill.at_most.unwrap_or_default();
    let heard = case.report(home);
    if heard.is_some_and(|report| report.pledge.isolated == Some(drill.id)) {
        return end(drill.abort.as_ref().map_or_else(
            || Outcome::Failed(not_missed(home, at_most)),
            |abort| Outcome::Aborted(abort.reason.clone()),
        ));
    }
    let late = case.view.drilled(drill, case.now) >= at_most + KNOW_WITHIN;
    if let Some(abort) = drill.abort.as_ref().filter(|_| !late) {
        let knows = |report: &Report| report.revision >= case.service.revision;
        if heard.is_some_and(knows) {
            return end(Outcome::Aborted(abort.reason.clone()));
        }
        let text = format!(
            "an agent that is cut off can be told nothing: it heals by itself within {} s",
            at_most.as_secs()
        );
        return wait("isolated", Some(home), text);
    }
    if late {
        let text = match heard {
            Some(_) => format!("the agent of {home} did not cut itself off"),
            None => format!("{home} is not heard any more, and nobody took over"),
        };
        return end(Outcome::Failed(text));
    }
    let told = "it is told to cut itself off; its loss is judged as any other".to_string();
    held(case)
        .map_or_else(|| wait("isolated", Some(home), told), |hold| Opinion::Wait([hold].into()))
}

fn not_missed(home: &InstanceId, at_most: Duration) -> String {
    format!(
        "{home} was cut off, for at most {} s, and is back: nobody took over meanwhile, and \
         nothing was lost; `baton explain` tells what a failover waits for",
        at_most.as_secs()
    )
}

/// Whoever was the primary is back, and says that it never cut itself off for this drill: then it
/// was lost indeed, and what followed is no rehearsal.
pub(super) fn lost_otherwise(case: &Case<'_>, drill: &Drill) -> Option<Opinion> {
    let report = case.report(drill.home.as_ref()?).filter(|_| drill.kind == Kind::Isolate)?;
    if report.pledge.isolated == Some(drill.id) {
        return None;
    }
    let why = "it did not cut itself off for this drill: its loss was a real one";
    Some(end(Outcome::Overtaken(format!("{}: {why}", report.instance))))
}
