//! A transition is open: is its step done, and what then?

use crate::candidate::{self, Choice, Sealed};
use crate::cluster::{Enforce, Rule, Service, Step, Transition, Trigger};
use crate::decide::{Case, Finding, Opinion, finding};
use crate::event::ServiceChange;
use crate::ids::{InstanceId, NameServerId};
use crate::lost::{self, Loss};
use crate::position::Position;
use crate::quorum;
use crate::report::{Down, NameServerAnswer, Report, Server, Severity};
use crate::steady::can_seal;
use crate::time::Moment;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

pub(crate) fn advance(case: &Case<'_>, transition: &Transition) -> Opinion {
    match transition.step {
        Step::Quiesce => quiesce(case, transition),
        Step::CatchUp => catch_up(case),
        Step::Seal => seal(case, transition),
        Step::Promote | Step::Prove | Step::Redirect | Step::Verify => forward(case, transition),
    }
}

fn waiting(check: &str, instance: Option<&InstanceId>, text: impl Into<String>) -> Opinion {
    Opinion::wait(vec![finding(check, Severity::Info, instance, text)])
}

fn done(cause: impl Into<String>) -> Opinion {
    Opinion::propose(ServiceChange::StepDone, cause)
}

/// The primary's report, if it is fresh.
fn primary_report<'a>(case: &'a Case<'_>) -> Option<&'a Report> {
    let primary = case.service.primary.as_ref()?;
    case.view.fresh(primary, case.timing.suspect_after, case.now)
}

fn overdue(case: &Case<'_>) -> bool {
    case.view.in_step(case.id, case.now) >= case.timing.switchover_deadline
}

fn quiesce(case: &Case<'_>, transition: &Transition) -> Opinion {
    if overdue(case) {
        return Opinion::propose(ServiceChange::Aborted, "the primary was not ready in time");
    }
    let Some(report) = primary_report(case) else {
        return waiting("switchover-ready", None, "waiting for the primary's report");
    };
    if matches!(report.server, Server::Down(_)) {
        return Opinion::propose(ServiceChange::Aborted, "the primary's PostgreSQL went down");
    }
    let target = transition.target.as_ref();
    let ready = target.is_none_or(|target| {
        report.streams.iter().any(|s| s.instance == *target && s.streaming && s.caught_up)
    });
    if report.prepared == Some(case.service.epoch) && ready {
        return done("checkpoint written, candidate caught up");
    }
    waiting("switchover-ready", target, "waiting for the checkpoint and the candidate")
}

fn catch_up(case: &Case<'_>) -> Opinion {
    match primary_report(case).map(|report| &report.server) {
        Some(Server::Down(Down::Clean(position))) => {
            done(format!("stopped cleanly at {position}"))
        }
        Some(Server::Down(Down::Crashed)) => {
            Opinion::propose(ServiceChange::Aborted, "the primary died while stopping")
        }
        Some(_) | None if overdue(case) => {
            Opinion::propose(ServiceChange::Aborted, "the clean stop took too long")
        }
        Some(_) | None => waiting("clean-stop", None, "waiting for the primary's clean stop"),
    }
}

fn seal(case: &Case<'_>, transition: &Transition) -> Opinion {
    let service = case.service;
    if transition.trigger == Trigger::Bootstrap {
        return first_primary(case);
    }
    let sealed = sealed(case, transition);
    let counted = sealed.keys().filter(|id| service.rule.instances.contains(*id)).count();
    let enough = quorum::needed(&service.rule).is_some_and(|needed| counted >= needed);
    if !enough {
        return return_to_former(case, transition).unwrap_or_else(|| short_of_seals(case, &sealed));
    }
    if let Some(straggler) = straggler(case, transition, &sealed) {
        return waiting("seal-settle", Some(&straggler), "still sealing, and might stand further");
    }
    if let Some(former) = still_serving(case, transition) {
        return waiting(
            "former-fenced",
            Some(&former),
            "it may still answer readers: waiting until it says that it is down, its ports \
             refuse, or its lease has run out",
        );
    }
    let clean = clean_end(case, transition);
    let floor = clean.as_ref().or(service.floor.as_ref());
    let choice = candidate::choose(service, &sealed, floor, transition.target.as_ref());
    match &choice.chosen {
        Some((chosen, position)) => {
            let cause = format!(
                "{counted} of {} sealed; {chosen} stands furthest at {position}",
                service.rule.instances.len()
            );
            chosen_event(case, (chosen.clone(), position.clone()), choice, &sealed, cause)
        }
        None => return_to_former(case, transition).unwrap_or_else(|| nobody(&choice)),
    }
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
            Some((id.clone(), Sealed { position: position.clone(), able: able(case, id) }))
        })
        .collect()
}

fn able(case: &Case<'_>, id: &InstanceId) -> Result<(), String> {
    if can_seal(case, id) {
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
) -> Option<InstanceId> {
    if case.view.in_step(case.id, case.now) >= case.timing.heartbeat {
        return None;
    }
    let candidate = |id: &&InstanceId| {
        transition.from.as_ref() != Some(*id) && !sealed.contains_key(*id) && can_seal(case, id)
    };
    case.service.spec.instances.keys().find(candidate).cloned()
}

/// The former primary, while it may still answer readers. From `Seal` on it is granted no lease
/// and its commits are not acknowledged, so this lasts no longer than `suspect_after`.
fn still_serving(case: &Case<'_>, transition: &Transition) -> Option<InstanceId> {
    let former = transition.from.as_ref()?;
    let waited = case.view.in_step(case.id, case.now) >= case.timing.suspect_after;
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
        let single = service.spec.on_last_copy == crate::topology::OnLastCopy::SingleCopy;
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
    Rule { generation: service.rule.generation, instances, required, enforce }
}

/// Past the point of no return: forward only. If the new primary is lost on the way, the next
/// transition takes over; a half-done one is never held up by a hold or a brake (I-25).
fn forward(case: &Case<'_>, transition: &Transition) -> Opinion {
    let Some(primary) = &case.service.primary else { return Opinion::default() };
    if let Loss::Yes(cause) =
        lost::judge(case.service, primary, case.view, case.timing, case.now)
        && transition.trigger != Trigger::Bootstrap
    {
        let bars = crate::steady::infeasible(case, true);
        if bars.is_empty() {
            return Opinion::propose(
                ServiceChange::Started {
                    trigger: Trigger::PrimaryLost,
                    target: None,
                    step: Step::Seal,
                },
                format!("{cause}, in the middle of transition {}", transition.id),
            );
        }
    }
    let Some(report) = primary_report(case) else {
        return waiting("primary-report", Some(primary), "waiting for its report");
    };
    if let Some(identified) = crate::steady::identify(case, report) {
        return identified;
    }
    match transition.step {
        Step::Promote => promoted(case, primary, report),
        Step::Prove => proven(case, primary, report),
        Step::Redirect => redirected(case),
        Step::Verify => verified(case, report),
        Step::Quiesce | Step::CatchUp | Step::Seal => Opinion::default(),
    }
}

fn promoted(case: &Case<'_>, primary: &InstanceId, report: &Report) -> Opinion {
    match &report.server {
        Server::Writable { position, .. } if report.pledge.granted == case.service.epoch => {
            done(format!("{primary} is writable, {position}"))
        }
        Server::Absent
        | Server::Refused(_)
        | Server::Down(_)
        | Server::Starting
        | Server::Recovery { .. }
        | Server::Writable { .. } => {
            waiting("promoted", Some(primary), "waiting until it is out of recovery")
        }
    }
}

fn proven(case: &Case<'_>, primary: &InstanceId, report: &Report) -> Opinion {
    match &report.proof {
        Some(proof) if proof.epoch == case.service.epoch => {
            done(format!("marker durable under {}", quorum::describe(&case.service.rule)))
        }
        Some(_) | None => waiting(
            "proven",
            Some(primary),
            format!(
                "waiting for its first commit to be flushed on {}",
                quorum::describe(&case.service.rule)
            ),
        ),
    }
}

/// The newest answer of a name server, if it came after the step began.
fn asked<'a>(case: &'a Case<'_>, server: &NameServerId) -> Option<&'a NameServerAnswer> {
    let began = case.view.step_began(case.id).unwrap_or(Moment(0));
    case.view
        .name_servers
        .get(server)
        .filter(|(at, _)| *at >= began)
        .map(|(_, answer)| answer)
}

fn redirected(case: &Case<'_>) -> Opinion {
    let mut behind: Vec<Finding> = Vec::new();
    let mut absent: Vec<&str> = Vec::new();
    let mut current = 0_usize;
    let servers = &case.cluster.topology.dns.servers;
    for server in servers.keys() {
        match asked(case, server) {
            Some(NameServerAnswer::Serves { version, .. })
                if *version >= case.cluster.zone_version =>
            {
                current += 1;
            }
            Some(NameServerAnswer::Refused | NameServerAnswer::Silent) => {
                absent.push(server.as_str());
            }
            Some(NameServerAnswer::Serves { .. }) | None => behind.push(finding(
                "name-server",
                Severity::Info,
                None,
                format!("{server} does not serve zone {} yet", case.cluster.zone_version),
            )),
        }
    }
    // A server that is slow to be asked is not waited for longer than silence counts as loss.
    let patient = case.view.in_step(case.id, case.now) < case.timing.suspect_after;
    if (behind.is_empty() || !patient) && (current > 0 || servers.is_empty()) {
        let unreachable = if absent.is_empty() {
            String::new()
        } else {
            format!("; not reachable: {}", absent.join(", "))
        };
        return done(format!(
            "{current} of {} name servers serve zone {}{unreachable}",
            servers.len(),
            case.cluster.zone_version
        ));
    }
    Opinion::wait(behind)
}

fn verified(case: &Case<'_>, report: &Report) -> Opinion {
    let Some(primary) = &case.service.primary else { return Opinion::default() };
    let expected = case.service.spec.instances.get(primary).map(|i| i.client_address());
    for server in case.cluster.topology.dns.servers.keys() {
        let Some(NameServerAnswer::Serves { writable, .. }) = asked(case, server) else { continue };
        let agrees = writable
            .iter()
            .any(|(service, addresses)| service == case.id && addresses.iter().copied().eq(expected));
        if !agrees {
            return waiting("name-server", None, format!("{server} answers another address"));
        }
    }
    let began = case.view.in_step(case.id, case.now);
    let admits = matches!(report.server, Server::Writable { admits: true, .. });
    let since = report.proof.is_some_and(|proof| {
        proof.epoch == case.service.epoch && proof.age < began.max(Duration::from_millis(1))
    });
    if admits && (since || began >= case.timing.heartbeat * 2) {
        return done("every name server that answers agrees, clients are admitted, commits last");
    }
    waiting("verified", Some(primary), "waiting for a durable commit after the redirection")
}
