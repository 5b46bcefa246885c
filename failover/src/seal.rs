//! The step `Seal`: who stands still, who of them is the best, and under which rule the new epoch
//! begins.

use crate::advance::waiting;
use crate::candidate::{self, Choice, Sealed};
use crate::cluster::{Enforce, Rule, Service, Transition, Trigger};
use crate::decide::{Case, Opinion, finding};
use crate::event::ServiceChange;
use crate::fitness::{self, has_no_room};
use crate::ids::InstanceId;
use crate::loss::GivenUp;
use crate::lost;
use crate::position::Position;
use crate::quorum;
use crate::report::{Down, Server, Severity};
use crate::steady::can_seal;
use crate::topology::OnLastCopy;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

pub(crate) fn seal(case: &Case<'_>, transition: &Transition) -> Opinion {
    let service = case.service;
    if transition.trigger == Trigger::Bootstrap {
        return first_primary(case);
    }
    let sealed = sealed(case, transition);
    let counted = sealed.keys().filter(|id| service.rule.instances.contains(*id)).count();
    let enough = quorum::needed(&service.rule).is_some_and(|needed| counted >= needed);
    // A loss that a person accepted counts only where nothing else is left.
    let loses = transition.given_up.as_ref().filter(|_| !enough);
    if !enough && let Some(opinion) = return_to_former(case, transition) {
        return opinion;
    }
    let kept = |given_up: &GivenUp| {
        sealed.values().any(|it| it.able.is_ok() && it.position.contains(&given_up.kept))
    };
    if !enough && !loses.is_some_and(kept) {
        return short_of_seals(case, &sealed);
    }
    // Whoever may hold more than was shown is waited for longer.
    let patience = if enough { case.timing.heartbeat } else { case.timing.suspect_after };
    if let Some(straggler) = straggler(case, transition, &sealed, patience) {
        return waiting("seal-settle", Some(&straggler), "still sealing, and might stand further");
    }
    if let Some(former) = still_serving(case, transition, &sealed, loses.is_some()) {
        return waiting(
            "former-fenced",
            Some(&former),
            "it may still answer readers: waiting until it says that it is down, its ports \
             refuse, or its lease has run out",
        );
    }
    let clean = clean_end(case, transition);
    // Where it stopped cleanly is beyond everything that it ever acknowledged, doubted or not.
    let (floor, doubts) = match (&clean, loses) {
        (Some(end), _) => (Some(end), [].as_slice()),
        (None, Some(given_up)) => (Some(&given_up.kept), [].as_slice()),
        (None, None) => (service.floor.as_ref(), service.doubts.as_slice()),
    };
    let choice = candidate::choose(service, &sealed, (floor, doubts), transition.target.as_ref());
    match &choice.chosen {
        Some((chosen, position)) => {
            let loss = loses.map_or_else(String::new, |loss| format!(", {}", loss.told()));
            let cause = format!(
                "{counted} of {} sealed; {chosen} stands furthest at {position}{loss}",
                service.rule.instances.len()
            );
            chosen_event(case, (chosen.clone(), position.clone()), choice, &sealed, cause)
        }
        None => return_to_former(case, transition).unwrap_or_else(|| nobody(&choice)),
    }
}

/// Whether the open transition lacks seals: nothing that is heard now can end that.
pub(crate) fn lacks_seals(case: &Case<'_>) -> bool {
    let Some(open) = case.service.transition.as_ref() else { return false };
    let sealed = sealed(case, open);
    let rule = &case.service.rule;
    let counted = rule.instances.iter().filter(|id| sealed.contains_key(*id)).count();
    let coming = |id: &&InstanceId| !sealed.contains_key(*id) && can_seal(case, id);
    let coming = rule.instances.iter().filter(coming).count();
    quorum::needed(rule).is_none_or(|needed| counted + coming < needed)
        && return_to_former(case, open).is_none()
}

/// The declared first instance becomes the first primary; the rule names all the others outside
/// its site from the start, so that its very first commit for a client waits for one of them.
fn first_primary(case: &Case<'_>) -> Opinion {
    let service = case.service;
    let Some(primary) = service.spec.preference.first() else {
        return waiting("bootstrap", None, "no instance is declared");
    };
    let rule = fresh_rule(service, primary, &BTreeSet::new(), None);
    Opinion::propose(
        ServiceChange::PrimaryChosen {
            primary: primary.clone(),
            position: None,
            rule,
            examined: vec![],
        },
        "first in the declared order",
    )
}

/// Everyone who has sworn off the old epoch and stands still. The pledge is on their disks, so
/// the age of the report does not matter; whether they can be promoted does depend on it.
fn sealed(case: &Case<'_>, transition: &Transition) -> BTreeMap<InstanceId, Sealed> {
    case.service
        .spec
        .instances
        .keys()
        .filter(|id| transition.from.as_ref() != Some(*id))
        .filter_map(|id| {
            let report = &case.view.reports.get(id)?.report;
            let identified = report.system_identifier == case.service.system_identifier;
            let position = report
                .sealed_at
                .as_ref()
                .filter(|_| report.pledge.sealed == case.service.epoch && identified)?;
            let sealed = Sealed {
                position: position.clone(),
                able: able(case, id),
                concerns: fitness::against(case, id),
            };
            Some((id.clone(), sealed))
        })
        .collect()
}

fn able(case: &Case<'_>, id: &InstanceId) -> Result<(), String> {
    let full = case.view.reports.get(id).is_some_and(|heard| has_no_room(&heard.report.checks));
    if full {
        Err("has no room left for the log of a promotion: free some".to_string())
    } else if can_seal(case, id) {
        Ok(())
    } else {
        Err(format!(
            "sealed, but not heard for {} ms or its server is down",
            case.view.silence(id, case.now).as_millis()
        ))
    }
}

/// A standby that is about to be sealed. One heartbeat is waited for it: an asynchronous standby
/// is often ahead, and if it is left behind it must rewind before it can acknowledge anything.
fn straggler(
    case: &Case<'_>,
    transition: &Transition,
    sealed: &BTreeMap<InstanceId, Sealed>,
    patience: Duration,
) -> Option<InstanceId> {
    if case.view.in_step(case.id, case.now) >= patience {
        return None;
    }
    let candidate = |id: &&InstanceId| {
        transition.from.as_ref() != Some(*id) && !sealed.contains_key(*id) && can_seal(case, id)
    };
    case.service.spec.instances.keys().find(candidate).cloned()
}

/// The former primary, while it may still answer readers. From `Seal` on it is granted no lease,
/// and once enough are sealed its commits are not acknowledged: from then on this lasts no longer
/// than `suspect_after`.
fn still_serving(
    case: &Case<'_>,
    transition: &Transition,
    sealed: &BTreeMap<InstanceId, Sealed>,
    loses: bool,
) -> Option<InstanceId> {
    let former = transition.from.as_ref()?;
    let patience = case.timing.suspect_after;
    let rule = &case.service.rule;
    let long_ago = |id: &&InstanceId| {
        let since = case.view.reports.get(*id).and_then(|heard| heard.sealed);
        sealed.contains_key(*id) && since.is_some_and(|at| case.now.since(at) >= patience)
    };
    let still = rule.instances.iter().filter(long_ago).count();
    // With a loss that a person accepted there are not enough, and never will be.
    let enough = loses || quorum::needed(rule).is_none_or(|needed| still >= needed);
    let waited = enough && case.view.in_step(case.id, case.now) >= patience;
    let gone = lost::serves_nobody(case.service, former, case.view, case.timing, case.now);
    (!waited && !gone).then(|| former.clone())
}

/// Where the former primary of a planned change stopped: nobody behind it is promoted.
fn clean_end(case: &Case<'_>, transition: &Transition) -> Option<Position> {
    let former = transition.from.as_ref()?;
    match &case.view.reports.get(former)?.report.server {
        Server::Down(Down::Clean(position)) if transition.trigger == Trigger::Switchover => {
            Some(position.clone())
        }
        Server::Absent
        | Server::Refused(_)
        | Server::Down(_)
        | Server::Starting
        | Server::Recovery { .. }
        | Server::Writable { .. } => None,
    }
}

fn short_of_seals(case: &Case<'_>, sealed: &BTreeMap<InstanceId, Sealed>) -> Opinion {
    let rule = &case.service.rule;
    let missing: Vec<&str> = rule
        .instances
        .iter()
        .filter(|id| !sealed.contains_key(*id))
        .map(InstanceId::as_str)
        .collect();
    let needed = quorum::needed(rule).map_or("more than".to_string(), |needed| needed.to_string());
    Opinion::wait(vec![finding(
        "seal-quorum",
        Severity::Blocks,
        None,
        format!(
            "{needed} of the rule's {} must be sealed, {} are; missing: {}",
            rule.instances.len(),
            sealed.len(),
            missing.join(", ")
        ),
    )])
}

fn nobody(choice: &Choice) -> Opinion {
    let findings = choice
        .examined
        .iter()
        .map(|e| finding("candidate", Severity::Blocks, Some(&e.instance), &*e.verdict))
        .collect();
    Opinion::wait(findings)
}

/// The former primary holds every commit that was ever acknowledged in its epoch: a standby is
/// never ahead of its primary's disk (F-09). When the standbys cannot be had, and its agent says
/// that it is down and still of that epoch, it takes the next epoch itself.
fn return_to_former(case: &Case<'_>, transition: &Transition) -> Option<Opinion> {
    let former = transition.from.as_ref()?;
    let patience = match transition.trigger {
        Trigger::Switchover => case.timing.switchover_deadline,
        Trigger::PrimaryLost | Trigger::Failover | Trigger::Bootstrap => {
            case.timing.suspect_after * 2
        }
    };
    if case.view.in_step(case.id, case.now) < patience {
        return None;
    }
    let report = case.view.fresh(former, case.timing.fence_after, case.now)?;
    let usable = matches!(report.server, Server::Down(_))
        && report.pledge.granted == case.service.epoch
        && report.system_identifier == case.service.system_identifier;
    if !usable {
        return None;
    }
    let rule = Rule { enforce: case.service.rule.enforce.clone(), ..case.service.rule.clone() };
    Some(Opinion::propose(
        ServiceChange::PrimaryChosen {
            primary: former.clone(),
            position: None,
            rule,
            examined: vec![],
        },
        format!("the standbys could not be sealed in time; {former} is back and holds everything"),
    ))
}

fn chosen_event(
    case: &Case<'_>,
    (chosen, position): (InstanceId, Position),
    choice: Choice,
    sealed: &BTreeMap<InstanceId, Sealed>,
    cause: String,
) -> Opinion {
    let live: BTreeSet<InstanceId> = sealed
        .iter()
        .filter(|(id, candidate)| **id != chosen && candidate.able.is_ok())
        .filter(|(_, candidate)| position.contains(&candidate.position))
        .map(|(id, _)| id.clone())
        .collect();
    let former = case.service.transition.as_ref().and_then(|open| open.from.as_ref());
    let rule = fresh_rule(case.service, &chosen, &live, former);
    Opinion::propose(
        ServiceChange::PrimaryChosen {
            primary: chosen,
            position: Some(position),
            rule,
            examined: choice.examined,
        },
        cause,
    )
}

/// The rule of a new epoch: chosen among those who can acknowledge the first commit, outside the
/// new primary's site if any such is there. Where they are too few, the policy says whether
/// commits wait for the others or go on with a single copy.
fn fresh_rule(
    service: &Service,
    primary: &InstanceId,
    live: &BTreeSet<InstanceId>,
    former: Option<&InstanceId>,
) -> Rule {
    let home = service.site_of(primary);
    let outside: BTreeSet<InstanceId> =
        live.iter().filter(|id| service.site_of(id) != home).cloned().collect();
    let mut instances = if outside.is_empty() { live.clone() } else { outside };
    let mut required = service.spec.required;
    let planned = service.transition.as_ref().is_some_and(|t| t.trigger == Trigger::Switchover);
    if instances.len() < required as usize {
        let single = service.spec.on_last_copy == OnLastCopy::SingleCopy;
        if single && !planned && service.primary.is_some() {
            required = u32::try_from(instances.len()).unwrap_or(u32::MAX).min(required);
        } else {
            let others = service.spec.instances.keys().filter(|id| *id != primary);
            let outside = others.filter(|id| service.site_of(id) != home || Some(*id) == former);
            instances.extend(outside.cloned());
        }
    }
    if instances.is_empty() {
        // Nobody to name: with W >= 1 PostgreSQL gets the placeholder and commits wait.
        instances.extend(service.spec.instances.keys().filter(|id| *id != primary).cloned());
    }
    let enforce = Enforce { instances: instances.clone(), required };
    let required = quorum::counted(required);
    Rule { generation: service.rule.generation, instances, required, enforce }
}
