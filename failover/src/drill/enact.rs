//! A drill's entries in the log take effect.

use super::{Abort, Drill, DrillChange, Kind, Outcome, Stage};
use crate::calendar::{self, Occasion};
use crate::cluster::{Cluster, StepRecord, Trigger};
use crate::event::Event;
use crate::ids::{DrillId, ServiceId, TransitionId};
use crate::time::Timestamp;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

/// Lets a change of a drill take effect; what happened, or nothing if it has none.
pub(crate) fn enact(
    cluster: &mut Cluster,
    event: &Event,
    id: DrillId,
    seen: Option<Stage>,
    change: &DrillChange,
) -> Option<String> {
    if let DrillChange::Begun { .. } = change {
        return begin(cluster, event, id, change);
    }
    let drill = cluster.drills.get(&id).filter(|drill| drill.is_open())?;
    if seen.is_some_and(|seen| seen != drill.stage) {
        return None;
    }
    let went_to = drill.there.and_then(|there| cluster.transitions.get(&there)?.to.clone());
    let newest = last_transition(cluster);
    let drill = cluster.drills.get_mut(&id)?;
    let kind = drill.kind.name();
    match change {
        DrillChange::Begun { .. } => None,
        DrillChange::StageDone { verdicts } => {
            let left = seen?;
            drill.stage = left.next(drill.kind)?;
            match left {
                Stage::Check => drill.verdicts.clone_from(verdicts),
                Stage::There if drill.kind.has_impact() => {
                    drill.until = Some(later(event.stamp.at, drill.dwell));
                    drill.target = went_to;
                }
                Stage::There | Stage::Dwell | Stage::Back => {}
            }
            note(drill, event, left.name());
            point(cluster, id);
            acknowledge(cluster, id);
            Some(format!("drill {id} ({kind}): {} done", left.name()))
        }
        DrillChange::AbortAsked => {
            if drill.abort.is_some() {
                return None;
            }
            drill.abort = Some(Abort { by: event.by.clone(), reason: event.cause.clone() });
            note(drill, event, "given up");
            Some(format!("drill {id} ({kind}) is given up"))
        }
        DrillChange::Ended { outcome, verdicts, findings } => {
            seen?;
            if *outcome == Outcome::Open {
                return None;
            }
            let told = outcome.told();
            drill.outcome = outcome.clone();
            if drill.stage == Stage::Check {
                drill.verdicts.clone_from(verdicts);
            }
            drill.findings.clone_from(findings);
            drill.upto = Some(newest);
            note(drill, event, "ended");
            point(cluster, id);
            Some(format!("drill {id} ({kind}) {told}"))
        }
    }
}

/// At most one is open in the cluster, whoever asked at the same time.
fn begin(
    cluster: &mut Cluster,
    event: &Event,
    id: DrillId,
    change: &DrillChange,
) -> Option<String> {
    let DrillChange::Begun { kind, service, target, dwell, at_most, occasion, despite } = change
    else {
        return None;
    };
    let free = cluster.drills.values().next_back().is_none_or(|last| !last.is_open());
    if !free || id != next(cluster) {
        return None;
    }
    let home = cluster.services.get(service).filter(|of| of.transition.is_none())?;
    let home = home.primary.clone();
    let mut drill = Drill {
        id,
        kind: *kind,
        service: service.clone(),
        home,
        target: target.clone(),
        dwell: *dwell,
        at_most: *at_most,
        by: event.by.clone(),
        reason: event.cause.clone(),
        despite: despite.clone(),
        plan: event.plan.clone(),
        stage: Stage::Check,
        there: None,
        back: None,
        after: last_transition(cluster),
        upto: None,
        until: None,
        abort: None,
        steps: Vec::new(),
        verdicts: Vec::new(),
        findings: Vec::new(),
        outcome: Outcome::Open,
    };
    note(&mut drill, event, "started");
    cluster.drills.insert(id, drill);
    if let Some((entry, due)) = occasion {
        let occasion = Occasion { due: *due, drill: Some(id), missed: None };
        calendar::enact(cluster, entry, occasion);
    }
    Some(format!("drill {id} ({}) started", kind.name()))
}

/// Where the stage of a drill of name servers wants the canary name. One that is over leaves it at
/// home: a name that was there once stays.
fn point(cluster: &mut Cluster, id: DrillId) {
    let Some(drill) = cluster.drills.get(&id) else { return };
    let moved = drill.kind == Kind::Dns && drill.stage > Stage::Check;
    let at = if drill.is_open() { drill.points_at() } else { drill.home.as_ref() };
    if let Some(service) = cluster.services.get_mut(&drill.service).filter(|_| moved) {
        service.canary = at.cloned();
    }
}

fn last_transition(cluster: &Cluster) -> TransitionId {
    cluster.transitions.keys().next_back().copied().unwrap_or_default()
}

/// The number of the next drill.
pub(super) fn next(cluster: &Cluster) -> DrillId {
    let last = cluster.drills.keys().next_back().map_or(0, |last| last.0);
    DrillId(last.saturating_add(1))
}

/// Whether a switchover of a service may be begun as a part of a drill now: not behind a hold that
/// was put into the log after it was decided.
pub(crate) fn may_switch(cluster: &Cluster, service: &ServiceId, id: DrillId) -> bool {
    let held = cluster.services.get(service).is_some_and(|service| service.hold.is_some());
    cluster.drills.get(&id).is_some_and(|drill| {
        let due = match drill.stage {
            // Nobody switches a primary away that is to be lost.
            Stage::There => drill.kind == Kind::Switchover && drill.there.is_none(),
            Stage::Back => drill.kind.has_impact() && drill.back.is_none(),
            Stage::Check | Stage::Dwell => false,
        };
        drill.is_open() && drill.service == *service && due && !held
    })
}

/// A switchover was begun as a part of a drill.
pub(crate) fn switched(cluster: &mut Cluster, id: DrillId, transition: TransitionId) {
    let Some(drill) = cluster.drills.get_mut(&id) else { return };
    match drill.stage {
        Stage::There => drill.there = Some(transition),
        Stage::Back => drill.back = Some(transition),
        Stage::Check | Stage::Dwell => {}
    }
}

/// A primary is failed over that a drill may have cut off: so far that is the drill's. It has no
/// say in the failover, and is told of it here only.
pub(crate) fn cut_off(cluster: &mut Cluster, service: &ServiceId, id: TransitionId) {
    let Some(record) = cluster.transitions.get(&id) else { return };
    let lost = record.trigger == Trigger::PrimaryLost;
    let from = record.from.clone();
    let Some(mut last) = cluster.drills.last_entry() else { return };
    let drill = last.get_mut();
    let waits = drill.is_open() && drill.kind == Kind::Isolate && drill.stage == Stage::There;
    let own = drill.there.is_none() && drill.service == *service && drill.home == from;
    if lost && waits && own {
        drill.there = Some(id);
    }
}

/// Whoever asked for the loss of a primary has acknowledged the failover that it leads to: it is
/// not to stand in the way of the next, which nobody asked for (I-25).
fn acknowledge(cluster: &mut Cluster, id: DrillId) {
    let Some(drill) = cluster.drills.get(&id).filter(|drill| drill.kind == Kind::Isolate) else {
        return;
    };
    let there = drill.there;
    if let Some(service) = cluster.services.get_mut(&drill.service)
        && service.unacknowledged == there
    {
        service.unacknowledged = None;
    }
}

/// Whose assignments a change of a drill may change.
pub(crate) fn concerns(cluster: &Cluster, id: DrillId) -> Option<ServiceId> {
    let drill = cluster.drills.get(&id)?;
    matches!(drill.kind, Kind::Isolate | Kind::RestorePath).then(|| drill.service.clone())
}

fn later(at: Timestamp, dwell: Duration) -> Timestamp {
    let millis = i64::try_from(dwell.as_millis()).unwrap_or(i64::MAX);
    Timestamp(at.0.saturating_add(millis))
}

fn note(drill: &mut Drill, event: &Event, name: &str) {
    drill.steps.push(StepRecord {
        name: name.to_string(),
        at: event.stamp.at,
        voter: event.stamp.voter,
        monotonic_us: event.stamp.monotonic_us,
        note: event.cause.clone(),
    });
}
