//! No transition is open: is the primary there, and is the synchronous rule as it should be?

use crate::cluster::{Step, Trigger};
use crate::decide::{Case, Finding, Opinion, finding};
use crate::doubt;
use crate::event::ServiceChange;
use crate::fitness;
use crate::ids::{Epoch, InstanceId};
use crate::lost::{self, Loss};
use crate::quorum::{self, Wish};
use crate::report::{Report, Server, Severity};
use crate::time::millis;
use crate::topology::OnLastCopy;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

pub(crate) fn steady(case: &Case<'_>) -> Opinion {
    let Some(primary) = &case.service.primary else { return bootstrap(case) };
    match lost::judge(case.service, primary, case.view, case.timing, case.now) {
        Loss::Yes(cause) => fail_over(case, cause, None),
        Loss::Unwitnessed(cause) => fail_over(case, cause, Some(unwitnessed(case, primary))),
        Loss::No(mut findings) => {
            let mut opinion = keep(case, primary);
            findings.append(&mut opinion.findings);
            Opinion { change: opinion.change, findings }
        }
    }
}

/// A service's first primary. Only when every declared instance says that it has no data: a
/// cluster is never initialised beside one that exists (L-10).
fn bootstrap(case: &Case<'_>) -> Opinion {
    let mut missing = Vec::new();
    for instance in case.service.spec.instances.keys() {
        match case.report(instance) {
            None => missing.push(finding(
                "bootstrap",
                Severity::Blocks,
                Some(instance),
                "its agent has not reported; the first primary is chosen once all have",
            )),
            Some(report) => missing.extend(holds_data(instance, report)),
        }
    }
    if !missing.is_empty() || case.service.spec.instances.is_empty() {
        return Opinion::wait(missing);
    }
    if let Some(hold) = held(case) {
        return Opinion::wait(vec![hold]);
    }
    Opinion::propose(
        ServiceChange::started(Trigger::Bootstrap, None, Step::Seal),
        "every instance reports an empty data directory",
    )
}

fn holds_data(instance: &InstanceId, report: &Report) -> Option<Finding> {
    let empty = report.server == Server::Absent
        && report.system_identifier.is_none()
        && report.pledge.granted == Epoch(0);
    (!empty).then(|| {
        finding(
            "bootstrap",
            Severity::Blocks,
            Some(instance),
            "it already holds data or a promise; baton does not initialise a service beside \
             existing data. Move its data and run directories away if they are not needed",
        )
    })
}

fn held(case: &Case<'_>) -> Option<Finding> {
    let hold = case.service.hold.as_ref()?;
    Some(finding(
        "hold",
        Severity::Blocks,
        None,
        format!(
            "automation is on hold by {}: {}; `baton resume {}` ends it",
            hold.by, hold.reason, case.id
        ),
    ))
}

/// At most one automatic failover a window until a person acknowledged it (I-25).
fn braked(case: &Case<'_>) -> Option<Finding> {
    let (transition, since) = case.view.unacknowledged.get(case.id)?;
    let age = case.now.since(*since);
    (age < case.timing.failover_window).then(|| {
        finding(
            "failover-window",
            Severity::Blocks,
            None,
            format!(
                "the automatic failover of transition {transition} is not acknowledged; the next \
                 is allowed in {} s, or at once after `baton resume {}`",
                case.timing.failover_window.saturating_sub(age).as_secs(),
                case.id
            ),
        )
    })
}

/// What holds automation back.
pub(crate) fn bars(case: &Case<'_>) -> Vec<Finding> {
    held(case).into_iter().chain(braked(case)).collect()
}

fn unwitnessed(case: &Case<'_>, primary: &InstanceId) -> Finding {
    let after = case.timing.suspect_after;
    let silent = |of: &InstanceId| lost::vouches(of, primary, case.view, case.timing, case.now);
    let instances = case.service.rule.instances.iter().filter(|of| silent(of) < after);
    let unknown: Vec<&str> = instances.map(InstanceId::as_str).collect();
    finding(
        "primary-witnesses",
        Severity::Blocks,
        Some(primary),
        format!(
            "fewer standbys than must be sealed have told without a gap for {} ms that nothing \
             came from it: it may have served them meanwhile. Not known of {}",
            millis(after),
            unknown.join(", ")
        ),
    )
}

fn fail_over(case: &Case<'_>, cause: String, unwitnessed: Option<Finding>) -> Opinion {
    let mut findings =
        vec![finding("primary-lost", Severity::Warning, case.service.primary.as_ref(), &*cause)];
    let mut bars: Vec<Finding> = bars(case).into_iter().chain(infeasible(case, true)).collect();
    if bars.is_empty() {
        bars.extend(unwitnessed);
    }
    if bars.is_empty() {
        let started = ServiceChange::started(Trigger::PrimaryLost, None, Step::Seal);
        return Opinion { change: Some((started, cause)), findings };
    }
    findings.splice(0..0, bars);
    Opinion::wait(findings)
}

/// Why moving away from the primary could not succeed now, as far as can be known before sealing.
pub(crate) fn infeasible(case: &Case<'_>, automatic: bool) -> Vec<Finding> {
    let rule = &case.service.rule;
    let Some(needed) = quorum::needed(rule) else {
        return vec![finding(
            "single-copy",
            Severity::Blocks,
            None,
            "the service runs on a single copy: no other instance is known to hold every \
             acknowledged commit",
        )];
    };
    let (able, missing): (Vec<&InstanceId>, Vec<&InstanceId>) =
        rule.instances.iter().partition(|instance| can_seal(case, instance));
    let mut findings = Vec::new();
    if able.len() < needed {
        let names: Vec<&str> = missing.iter().map(|instance| instance.as_str()).collect();
        findings.push(finding(
            "seal-quorum",
            Severity::Blocks,
            None,
            format!(
                "{needed} of the rule's {} must be sealed to be sure of every acknowledged \
                 commit, {} can be; missing: {}",
                rule.instances.len(),
                able.len(),
                names.join(", ")
            ),
        ));
    }
    findings.extend(doubt::bars(case));
    let block = case.service.spec.on_last_copy == OnLastCopy::Block;
    let acknowledgers = able_beside_primary(case).saturating_sub(1);
    if automatic && block && acknowledgers < case.service.spec.required as usize {
        findings.push(finding(
            "last-copy",
            Severity::Blocks,
            None,
            format!(
                "after a failover {acknowledgers} standbys would be left and {} are required, so \
                 commits would wait; `on_last_copy = \"block\"` keeps the service where it is. \
                 `baton failover {}` moves it all the same",
                case.service.spec.required, case.id
            ),
        ));
    }
    findings
}

fn able_beside_primary(case: &Case<'_>) -> usize {
    let primary = case.service.primary.as_ref();
    case.service
        .spec
        .instances
        .keys()
        .filter(|instance| Some(*instance) != primary && can_seal(case, instance))
        .count()
}

/// Whether an instance was heard lately and has a server that can be sealed.
pub(crate) fn can_seal(case: &Case<'_>, instance: &InstanceId) -> bool {
    case.report(instance).is_some_and(|report| match &report.server {
        Server::Recovery { .. } | Server::Starting => true,
        Server::Absent | Server::Refused(_) | Server::Down(_) | Server::Writable { .. } => false,
    })
}

/// The cluster's identifier, recorded as soon as its first primary tells it: without it nobody
/// else's data can be told from a stranger's.
pub(crate) fn identify(case: &Case<'_>, report: &Report) -> Option<Opinion> {
    let system_identifier = report.system_identifier?;
    case.service
        .system_identifier
        .is_none()
        .then(|| Opinion::propose(ServiceChange::Identified { system_identifier }, "first report"))
}

/// The primary lives: what is to be recorded, and is the rule as it should be?
fn keep(case: &Case<'_>, primary: &InstanceId) -> Opinion {
    let Some(report) = case.report(primary) else {
        return Opinion::wait(vec![finding(
            "primary-report",
            Severity::Warning,
            Some(primary),
            "no report since this leader was elected",
        )]);
    };
    if let Some(identified) = identify(case, report) {
        return identified;
    }
    if report.pledge.granted != case.service.epoch {
        return Opinion::wait(vec![finding(
            "epoch-accepted",
            Severity::Warning,
            Some(primary),
            format!("has not accepted epoch {} yet", case.service.epoch),
        )]);
    }
    rule(case, report)
}

fn rule(case: &Case<'_>, report: &Report) -> Opinion {
    let wish = wish(case, report);
    let mut findings: Vec<Finding> = doubt::shown(case).into_iter().collect();
    findings.extend(shortfalls(case, &wish));
    findings.extend(fitness::findings(case, report));
    let Some(next) = quorum::next(&case.service.rule, &wish) else {
        return Opinion::wait(findings);
    };
    // A record that counts fewer, of a primary that may be dead already, would bar the very standby
    // that holds everything.
    if case.view.is_overdue(&report.instance, case.timing, case.now) {
        let silence = case.view.silence(&report.instance, case.now);
        findings.push(finding(
            "primary-heard",
            Severity::Info,
            Some(&report.instance),
            format!("heard {} ms ago: its rule is left as it is", millis(silence)),
        ));
        return Opinion::wait(findings);
    }
    if let Some(hold) = held(case) {
        findings.push(hold);
        return Opinion::wait(findings);
    }
    let cause = reason(case, &wish);
    Opinion { change: Some((ServiceChange::RuleRecorded { rule: next }, cause)), findings }
}

fn reason(case: &Case<'_>, wish: &Wish) -> String {
    let rule = &case.service.rule.enforce.instances;
    let joins: Vec<&str> = wish.eligible.difference(rule).map(InstanceId::as_str).collect();
    let lost: Vec<&str> = wish.lost.intersection(rule).map(InstanceId::as_str).collect();
    match (joins.is_empty(), lost.is_empty()) {
        (false, _) => format!("{} streams and is caught up", joins.join(", ")),
        (true, false) => format!("{} has stopped streaming", lost.join(", ")),
        (true, true) => String::from("PostgreSQL is proven to enforce it"),
    }
}

/// Who counts and who is lost. Standbys outside the primary's site count; those beside it only
/// when nobody is left outside, for the loss of that site must not take the last commit with it.
fn wish(case: &Case<'_>, report: &Report) -> Wish {
    let service = case.service;
    let home = service.site_of(&report.instance);
    let outside = |id: &InstanceId| service.site_of(id) != home;
    let enforced = &service.rule.enforce.instances;
    let (mut eligible, mut lost) = (BTreeSet::new(), BTreeSet::new());
    for id in service.spec.instances.keys().filter(|id| is_eligible(case, report, id)) {
        eligible.insert(id.clone());
    }
    for id in enforced.iter().filter(|id| is_lost(case, id)) {
        lost.insert(id.clone());
    }
    let stays_outside = enforced.iter().any(|id| outside(id) && !lost.contains(id));
    if stays_outside || eligible.iter().any(outside) {
        eligible.retain(outside);
        lost.extend(enforced.iter().filter(|id| !outside(id)).cloned());
    }
    Wish {
        eligible,
        lost,
        required: service.spec.required,
        on_last: service.spec.on_last_copy,
        proven: report.enforced == Some(service.rule.generation),
    }
}

/// Earned, not appointed: it streams from this primary, on its timeline, and has flushed what the
/// primary had one heartbeat earlier; and its own agent says the same.
fn is_eligible(case: &Case<'_>, primary: &Report, id: &InstanceId) -> bool {
    let streams = primary
        .streams
        .iter()
        .any(|stream| stream.instance == *id && stream.streaming && stream.caught_up);
    let own = case.report(id).is_some_and(|report| {
        report.system_identifier == primary.system_identifier
            && report.pledge.sealed < case.service.epoch
            && report
                .receiver
                .as_ref()
                .is_some_and(|receiver| receiver.streaming && receiver.upstream == primary.instance)
    });
    streams && own
}

/// Missing from the primary's streams for as long as counts as loss.
fn is_lost(case: &Case<'_>, id: &InstanceId) -> bool {
    !case.service.spec.instances.contains_key(id)
        || case
            .view
            .missing
            .get(id)
            .is_some_and(|since| case.now.since(*since) >= case.timing.suspect_after)
}

/// What is not as it should be with the rule, for people.
fn shortfalls(case: &Case<'_>, wish: &Wish) -> Vec<Finding> {
    let service = case.service;
    let mut findings: Vec<Finding> = service
        .rule
        .enforce
        .instances
        .iter()
        .filter(|id| case.view.missing.contains_key(*id))
        .map(|id| {
            finding(
                "standby-streams",
                Severity::Warning,
                Some(id),
                "does not stream from the primary",
            )
        })
        .collect();
    if service.rule.enforce.required == 0 {
        findings.push(finding(
            "single-copy",
            Severity::Warning,
            None,
            "commits do not wait for any standby: the loss of the primary loses commits",
        ));
    } else if !service.is_site_safe() {
        findings.push(finding(
            "site-safe",
            Severity::Warning,
            None,
            "a commit may be acknowledged by the primary's own site alone",
        ));
    }
    if !wish.proven {
        findings.push(finding(
            "rule-proven",
            Severity::Info,
            service.primary.as_ref(),
            "PostgreSQL is not yet proven to enforce the newest rule",
        ));
    }
    findings
}
