//! What happens next to the open drill, and why.

use super::{
    Drill, DrillChange, KNOW_WITHIN, Kind, Outcome, Preconditions, RETURN_WITHIN, Stage, dns,
    isolate, preconditions, restore,
};
use crate::cluster::{Cluster, Outcome as Ended, Record, Step, Trigger};
use crate::decide::{Case, Finding, finding, stamped};
use crate::event::{Change, ServiceChange};
use crate::ids::{DrillId, InstanceId, TransitionId};
use crate::readiness::{Finding as Found, Level};
use crate::rehearse::Voters;
use crate::report::Severity;
use crate::request::switchover;
use crate::time::{Moment, Timestamp};
use crate::view::View;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

/// What the law says of the open drill now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrillVerdict {
    /// Which.
    pub drill: DrillId,
    /// The one change to propose, with its cause.
    pub change: Option<(Change, String)>,
    /// What it waits for.
    pub findings: Vec<Finding>,
}

/// The one drill that is open.
pub(crate) fn open(cluster: &Cluster) -> Option<&Drill> {
    cluster.drills.values().next_back().filter(|drill| drill.is_open())
}

/// Judges the open drill. Leader only. `None`: none is open.
#[must_use]
pub fn decide(
    cluster: &Cluster,
    view: &View,
    voters: &Voters,
    (wall, now): (Timestamp, Moment),
) -> Option<DrillVerdict> {
    let drill = open(cluster)?;
    let opinion = match Case::of(cluster, &drill.service, view, now) {
        None => end(Outcome::Overtaken(String::from("its service is not declared any more"))),
        Some(case) => match (drill.kind, drill.stage) {
            (_, Stage::Check) => check(&case, drill, voters),
            (Kind::Dns, _) => dns::moved(&case, drill),
            (Kind::Isolate, Stage::There) => isolate::lost(&case, drill),
            (Kind::RestorePath, _) => restore::rehearsed(&case, drill),
            (_, Stage::There) => there(&case, drill),
            (_, Stage::Dwell) => dwell(&case, drill, wall),
            (_, Stage::Back) => back(&case, drill),
        },
    };
    let stage = Some(drill.stage);
    let (change, findings) = match opinion {
        Opinion::Wait(findings) => (None, findings),
        Opinion::Drill(change, cause) => {
            (Some((Change::Drill { drill: drill.id, stage, change }, cause)), Vec::new())
        }
        Opinion::Service(change, cause) => {
            let service = cluster.services.get(&drill.service)?;
            (Some((stamped(&drill.service, service, change), cause)), Vec::new())
        }
    };
    Some(DrillVerdict { drill: drill.id, change, findings })
}

pub(super) enum Opinion {
    Wait(Vec<Finding>),
    Drill(DrillChange, String),
    Service(ServiceChange, String),
}

pub(super) fn wait(check: &str, instance: Option<&InstanceId>, text: impl Into<String>) -> Opinion {
    Opinion::Wait(vec![finding(check, Severity::Info, instance, text)])
}

pub(super) fn end(outcome: Outcome) -> Opinion {
    ended(outcome, Vec::new(), Vec::new())
}

fn ended(
    outcome: Outcome,
    verdicts: Vec<crate::readiness::SiteVerdict>,
    findings: Vec<Found>,
) -> Opinion {
    let cause = String::from(outcome.reason().unwrap_or("everything did what it should"));
    Opinion::Drill(DrillChange::Ended { outcome, verdicts, findings }, cause)
}

/// It is over, and this is what the record says of it.
pub(super) fn ended_with(outcome: Outcome, cause: String) -> Opinion {
    Opinion::Drill(
        DrillChange::Ended { outcome, verdicts: Vec::new(), findings: Vec::new() },
        cause,
    )
}

pub(super) fn done(cause: impl Into<String>) -> Opinion {
    Opinion::Drill(DrillChange::StageDone { verdicts: Vec::new() }, cause.into())
}

/// What a person has done about the service since the drill began stops it; what happened to it
/// ends it.
pub(super) fn held(case: &Case<'_>) -> Option<Finding> {
    let hold = case.service.hold.as_ref()?;
    let text = format!(
        "automation is on hold by {}: {}; the drill stays where it is until `baton resume {}`",
        hold.by, hold.reason, case.id
    );
    Some(finding("hold", Severity::Blocks, None, text))
}

/// Whether the primary is not whom the drill left there, or is about to be another.
pub(super) fn overtaken(case: &Case<'_>, expected: Option<&InstanceId>) -> Option<Opinion> {
    let service = case.service;
    let by = |id: TransitionId, record: Option<&Record>| {
        let cause = record.map_or("", |record| record.cause.as_str());
        end(Outcome::Overtaken(format!("transition {id} came in between: {cause}")))
    };
    if let Some(open) = &service.transition {
        return Some(by(open.id, case.cluster.transitions.get(&open.id)));
    }
    if service.primary.as_ref() == expected {
        return None;
    }
    let mut all = case.cluster.transitions.values().rev();
    let last = all.find(|record| record.service == *case.id);
    last.map(|record| by(record.id, Some(record)))
}

fn check(case: &Case<'_>, drill: &Drill, voters: &Voters) -> Opinion {
    if let Some(abort) = &drill.abort {
        return end(Outcome::Aborted(abort.reason.clone()));
    }
    if let Some(over) = overtaken(case, drill.home.as_ref()) {
        return over;
    }
    if drill.kind.has_impact()
        && let Some(hold) = held(case)
    {
        return end(Outcome::Aborted(hold.text));
    }
    let asked = (drill.kind, &drill.service, drill.target.as_ref());
    let found = preconditions(case.cluster, case.view, voters, asked, case.now);
    let Preconditions { verdicts, against, unknown } = found;
    let known = unknown.is_empty();
    if against.is_empty() && !known && case.view.drilled(drill, case.now) < KNOW_WITHIN {
        let text = |found: &Found| format!("{}: {}", found.check, found.text);
        let waits = unknown.iter().map(|found| {
            finding("not-known", Severity::Info, found.instance.as_ref(), text(found))
        });
        return Opinion::Wait(waits.collect());
    }
    let first = against.first().or(unknown.first());
    let first = first.map(|found| format!("{}: {}", found.check, found.text));
    let findings: Vec<Found> = against.into_iter().chain(unknown).collect();
    match (drill.kind, first) {
        (Kind::Readiness, None) => ended(Outcome::Passed, verdicts, findings),
        (Kind::Readiness, Some(why)) => {
            let bad = verdicts.iter().find(|verdict| verdict.level >= Level::Unknown);
            let site = bad.map_or(String::new(), |verdict| format!("{}: ", verdict.site));
            ended(Outcome::Failed(format!("{site}{why}")), verdicts, findings)
        }
        (Kind::Dns | Kind::Switchover | Kind::Isolate | Kind::RestorePath, None) => {
            let cause = String::from("everything is as it must be");
            Opinion::Drill(DrillChange::StageDone { verdicts }, cause)
        }
        (Kind::Dns | Kind::Switchover | Kind::Isolate | Kind::RestorePath, Some(why)) => {
            ended(Outcome::Aborted(format!("not ready: {why}")), verdicts, findings)
        }
    }
}

/// How the switchover that a drill began stands.
pub(super) fn moved<'a>(case: &'a Case<'_>, id: TransitionId) -> Option<&'a Record> {
    case.cluster.transitions.get(&id)
}

/// An ordinary switchover, judged as if a person had asked for it; or what stands in its way.
fn switch(
    case: &Case<'_>,
    drill: &Drill,
    to: Option<&InstanceId>,
) -> Result<Opinion, Vec<Finding>> {
    if let Some(hold) = held(case) {
        return Err(vec![hold]);
    }
    let change = ServiceChange::Started {
        trigger: Trigger::Switchover,
        target: Some(switchover(case, to)?),
        step: Step::Quiesce,
        drill: Some(drill.id),
        readiness: None,
        given_up: None,
    };
    let cause = format!("drill {}, {}: {}", drill.id, drill.stage.name(), drill.reason);
    Ok(Opinion::Service(change, cause))
}

fn there(case: &Case<'_>, drill: &Drill) -> Opinion {
    let Some(id) = drill.there else {
        if let Some(abort) = &drill.abort {
            return end(Outcome::Aborted(abort.reason.clone()));
        }
        if let Some(over) = overtaken(case, drill.home.as_ref()) {
            return over;
        }
        let patient = case.view.drilled(drill, case.now) < KNOW_WITHIN;
        return match switch(case, drill, drill.target.as_ref()) {
            Ok(begins) => begins,
            Err(findings) if patient => Opinion::Wait(findings),
            Err(findings) => {
                let why = findings.first().map_or("", |finding| finding.text.as_str());
                end(Outcome::Aborted(why.to_string()))
            }
        };
    };
    let Some(record) = moved(case, id) else { return Opinion::Wait(Vec::new()) };
    match &record.outcome {
        Ended::Open => {
            let early = case.service.step().is_some_and(|step| step < Step::Seal);
            match &drill.abort {
                Some(abort) if early => Opinion::Service(
                    ServiceChange::Aborted,
                    format!("drill {} is given up: {}", drill.id, abort.reason),
                ),
                Some(_) | None => wait("switchover", None, format!("transition {id} is under way")),
            }
        }
        Ended::Done => done(format!("transition {id} is done")),
        Ended::Aborted(why) => end(match &drill.abort {
            Some(abort) => Outcome::Aborted(abort.reason.clone()),
            None => Outcome::Failed(format!("transition {id} was rolled back: {why}")),
        }),
        Ended::Superseded(by) => end(superseded(case, id, *by)),
    }
}

pub(super) fn superseded(case: &Case<'_>, id: TransitionId, by: TransitionId) -> Outcome {
    let why = case.cluster.transitions.get(&by).map_or("", |record| record.cause.as_str());
    Outcome::Overtaken(format!("transition {by} took over from transition {id}: {why}"))
}

fn dwell(case: &Case<'_>, drill: &Drill, wall: Timestamp) -> Opinion {
    if let Some(over) = overtaken(case, drill.target.as_ref()) {
        return over;
    }
    if let Some(hold) = held(case) {
        return Opinion::Wait(vec![hold]);
    }
    if let Some(abort) = &drill.abort {
        return done(format!("it is given up: {}", abort.reason));
    }
    if let Some(trouble) = case.view.drill_trouble(drill, case.now) {
        return Opinion::Drill(DrillChange::AbortAsked, format!("not as it must be: {trouble}"));
    }
    // By the wall clock, which outlives a leader; by this leader's own, should that be wrong.
    let over = drill.until.is_some_and(|until| wall >= until)
        || case.view.drilled(drill, case.now) >= drill.dwell;
    if over {
        return done(format!("{} s are over", drill.dwell.as_secs()));
    }
    let target = drill.target.as_ref();
    wait("dwell", target, format!("the service runs there for {} s", drill.dwell.as_secs()))
}

fn back(case: &Case<'_>, drill: &Drill) -> Opinion {
    let Some(id) = drill.back else {
        if let Some(over) = overtaken(case, drill.target.as_ref()) {
            return over;
        }
        if let Some(other) = isolate::lost_otherwise(case, drill) {
            return other;
        }
        let patient = case.view.drilled(drill, case.now) < RETURN_WITHIN;
        return match switch(case, drill, drill.home.as_ref()) {
            Ok(begins) => begins,
            Err(findings) if patient || held(case).is_some() => Opinion::Wait(findings),
            Err(findings) => {
                let why = findings.first().map_or("", |finding| finding.text.as_str());
                end(stays(case, drill, why))
            }
        };
    };
    let Some(record) = moved(case, id) else { return Opinion::Wait(Vec::new()) };
    match &record.outcome {
        Ended::Open => wait("switchover", None, format!("transition {id} is under way")),
        Ended::Done => end(match &drill.abort {
            Some(abort) => Outcome::Aborted(abort.reason.clone()),
            None => Outcome::Passed,
        }),
        Ended::Aborted(why) => {
            end(stays(case, drill, &format!("transition {id} was rolled back: {why}")))
        }
        Ended::Superseded(by) => end(superseded(case, id, *by)),
    }
}

fn stays(case: &Case<'_>, drill: &Drill, why: &str) -> Outcome {
    let at = case.service.primary.as_ref().map_or("", InstanceId::as_str);
    let home = drill.home.as_ref().map_or("", InstanceId::as_str);
    Outcome::Failed(format!(
        "the primary was not returned and stays at {at}: {why}; `baton switchover {} --to {home}` \
         when that is mended",
        case.id
    ))
}
