//! The only writer of [`Cluster`].
//!
//! Total and deterministic: every event in every state leaves a cluster that stands (I-27), and
//! every replica comes to the same one. An event that was decided in another (epoch, step,
//! generation) than the service is in now has no effect: that one rule replaces locks,
//! deduplication and cancellation. `apply` also refuses what no decision may do, whoever proposed
//! it: a rule that does not cover what PostgreSQL may enforce (I-07), a second grant of an epoch
//! (I-04), a step out of order.

use crate::alert;
use crate::approval;
use crate::calendar::{self, Occasion};
use crate::cluster::{
    Cluster, Entry, HISTORY_ENTRIES, Outcome, Published, Record, Rule, Service, Step, Transition,
    Trigger,
};
use crate::doubt;
use crate::drill;
use crate::event::{Change, Event, Seen, ServiceChange};
use crate::ids::{DrillId, InstanceId, ServiceId, TransitionId};
use crate::loss::GivenUp;
use crate::position::Position;
use crate::quorum;
use crate::readiness::Before;
use crate::topology::Topology;
use crate::zone::{Zone, zone};
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

/// Applies an event; whether it had an effect.
pub fn apply(cluster: &mut Cluster, event: &Event) -> bool {
    if !approval::stands(cluster, event) {
        return false;
    }
    let before = content(cluster);
    let text = match &event.change {
        Change::Topology { expected, topology } => set_topology(cluster, *expected, topology),
        Change::VoterSet { id, voter } => {
            let same = cluster.voters.get(id) == Some(voter);
            cluster.voters.insert(*id, voter.clone());
            (!same).then(|| format!("voter {id} is {} at {}", voter.name, voter.address))
        }
        Change::VoterRemoved { id } => {
            cluster.voters.remove(id).map(|voter| format!("voter {id} ({}) removed", voter.name))
        }
        Change::Noted { .. } => None,
        Change::Asked { plan, request, lowers, until } => {
            approval::enact(cluster, event, (plan, request), (lowers, *until))
        }
        Change::Withdrawn { plan } => approval::withdrawn(cluster, event, plan),
        Change::Occasion { entry, due, missed } => {
            let (due, missed) = (*due, missed.clone());
            calendar::enact(cluster, entry, Occasion { due, drill: None, missed })
        }
        Change::Drill { drill, stage, change } => {
            drill::enact(cluster, event, *drill, *stage, change)
        }
        Change::Alert { key, change } => alert::enact(cluster, event, key, change),
        Change::Service { service, seen, change } => {
            apply_service(cluster, event, service, *seen, change)
        }
    };
    let Some(text) = text else { return false };
    cluster.revision.0 = cluster.revision.0.saturating_add(1);
    touch(cluster, &event.change);
    if content(cluster) != before {
        cluster.zone_version = cluster.zone_version.saturating_add(1);
    }
    approval::close(cluster, event);
    remember(cluster, event, text);
    true
}

/// The zone without its version.
fn content(cluster: &Cluster) -> Zone {
    Zone { version: 0, ..zone(cluster) }
}

/// Gives the services that the change touches their new revision.
fn touch(cluster: &mut Cluster, change: &Change) {
    let revision = cluster.revision;
    if let Change::Topology { .. } = change {
        cluster.services.values_mut().for_each(|service| service.revision = revision);
    } else if let Change::Service { service, .. } = change
        && let Some(service) = cluster.services.get_mut(service)
    {
        service.revision = revision;
    } else if let Change::Drill { drill, .. } = change
        && let Some(service) = drill::concerns(cluster, *drill)
        && let Some(service) = cluster.services.get_mut(&service)
    {
        service.revision = revision;
    }
}

fn remember(cluster: &mut Cluster, event: &Event, text: String) {
    let service = if let Change::Service { service, .. } = &event.change {
        Some(service.clone())
    } else if let Change::Drill { drill, .. } = &event.change {
        cluster.drills.get(drill).map(|drill| drill.service.clone())
    } else if let Change::Alert { key, .. } = &event.change {
        cluster.alerts.get(key).and_then(|known| known.alert.service.clone())
    } else if let Change::Asked { request, .. } = &event.change {
        request.service().cloned()
    } else if let Change::Withdrawn { plan } = &event.change {
        cluster.pending.get(plan).and_then(|pending| pending.request.service().cloned())
    } else {
        None
    };
    let epoch = service
        .as_ref()
        .and_then(|id| cluster.services.get(id))
        .map(|s| s.epoch)
        .unwrap_or_default();
    let mut text = if event.cause.is_empty() { text } else { format!("{text}: {}", event.cause) };
    if let Some(yes) = event.authority.as_ref().and_then(|authority| authority.approved.as_ref()) {
        text = format!("{text}; approved by {}: {}", yes.by, yes.reason);
    }
    cluster.history.push_back(Entry {
        revision: cluster.revision,
        at: event.stamp.at,
        by: event.by.clone(),
        service,
        epoch,
        text,
    });
    while cluster.history.len() > HISTORY_ENTRIES {
        cluster.history.pop_front();
    }
}

fn set_topology(cluster: &mut Cluster, expected: u64, topology: &Topology) -> Option<String> {
    if cluster.topology_version != expected || !topology_fits(cluster, topology) {
        return None;
    }
    cluster.topology_version = cluster.topology_version.saturating_add(1);
    cluster.topology = topology.clone();
    let revision = cluster.revision;
    cluster.services.retain(|id, _| topology.services.contains_key(id));
    cluster.calendar.retain(|id, _| topology.drills.schedule.contains_key(id));
    for (id, spec) in &topology.services {
        cluster
            .services
            .entry(id.clone())
            .and_modify(|service| service.spec = spec.clone())
            .or_insert_with(|| Service::new(spec.clone(), revision));
    }
    Some(format!("topology version {}", cluster.topology_version))
}

/// A topology may not take away what the state rests on: a service that has a primary, an
/// instance that is a primary or counts in a rule.
fn topology_fits(cluster: &Cluster, topology: &Topology) -> bool {
    cluster.services.iter().all(|(id, service)| match topology.services.get(id) {
        None => service.primary.is_none(),
        Some(spec) => in_use(service).iter().all(|instance| spec.instances.contains_key(instance)),
    })
}

/// The instances that a service's state rests on.
pub(crate) fn in_use(service: &Service) -> Vec<InstanceId> {
    let mut used: Vec<InstanceId> = service.rule.instances.iter().cloned().collect();
    used.extend(service.rule.enforce.instances.iter().cloned());
    used.extend(service.primary.clone());
    used.extend(service.published.as_ref().map(|published| published.instance.clone()));
    used
}

fn apply_service(
    cluster: &mut Cluster,
    event: &Event,
    id: &ServiceId,
    seen: Seen,
    change: &ServiceChange,
) -> Option<String> {
    let service = cluster.services.get(id)?;
    let now =
        Seen { epoch: service.epoch, step: service.step(), generation: service.rule.generation };
    // A person's word on automation is not about the state it was said in.
    let always = matches!(change, ServiceChange::Held { .. } | ServiceChange::Resumed);
    if now != seen && !always {
        return None;
    }
    match change {
        ServiceChange::Started { trigger, target, step, drill, readiness, given_up } => {
            let begun = (*trigger, target.clone(), *step, *drill);
            start(cluster, event, id, begun, (readiness.as_ref(), given_up.as_ref()))
        }
        ServiceChange::StepDone => step_done(cluster, event, id),
        ServiceChange::Aborted => abort(cluster, event, id),
        ServiceChange::PrimaryChosen { primary, position, rule, examined } => {
            let text = choose(cluster.services.get_mut(id)?, primary, position.as_ref(), rule)?;
            let service = cluster.services.get(id)?;
            let (epoch, transition) = (service.epoch, service.transition.as_ref()?.id);
            let record = cluster.transitions.get_mut(&transition)?;
            record.to = Some(primary.clone());
            record.examined.clone_from(examined);
            note_step(cluster, event, transition, Step::Seal.name());
            Some(format!("{text}, epoch {epoch}"))
        }
        ServiceChange::RuleRecorded { rule } => record_rule(cluster.services.get_mut(id)?, rule),
        ServiceChange::Identified { system_identifier } => {
            let service = cluster.services.get_mut(id)?;
            if service.system_identifier.is_some() {
                return None;
            }
            service.system_identifier = Some(*system_identifier);
            Some(format!("system identifier {system_identifier}"))
        }
        ServiceChange::Doubted { position, from, open } => {
            doubt::doubted(cluster.services.get_mut(id)?, event, (position, *from, *open))
        }
        ServiceChange::Settled { upto } => doubt::settled(cluster.services.get_mut(id)?, upto),
        ServiceChange::Forgone { from, to } => {
            doubt::forgone(cluster.services.get_mut(id)?, (*from, *to))
        }
        ServiceChange::Held { hold } => {
            cluster.services.get_mut(id)?.hold = Some(hold.clone());
            Some(String::from("automation on hold"))
        }
        ServiceChange::Resumed => {
            let service = cluster.services.get_mut(id)?;
            let had = service.hold.take().is_some() | service.unacknowledged.take().is_some();
            had.then(|| String::from("automation resumed"))
        }
    }
}

fn note_step(cluster: &mut Cluster, event: &Event, transition: TransitionId, name: &str) {
    if let Some(record) = cluster.transitions.get_mut(&transition) {
        record.steps.push(event.step(name));
    }
}

/// A planned change enters at its beginning; everything else at `Seal`. What nobody asked for is
/// not begun behind a hold that it was decided without (I-25), unless something is half done.
fn enters_rightly(trigger: Trigger, step: Step, service: &Service) -> bool {
    let free = service.hold.is_none() || service.transition.is_some();
    match trigger {
        Trigger::Bootstrap => step == Step::Seal && service.primary.is_none() && free,
        Trigger::PrimaryLost => step == Step::Seal && service.primary.is_some() && free,
        Trigger::Failover => step == Step::Seal && service.primary.is_some(),
        Trigger::Switchover => step == Step::Quiesce && service.primary.is_some(),
    }
}

fn start(
    cluster: &mut Cluster,
    event: &Event,
    id: &ServiceId,
    (trigger, target, step, drill): (Trigger, Option<InstanceId>, Step, Option<DrillId>),
    (readiness, given_up): (Option<&Before>, Option<&GivenUp>),
) -> Option<String> {
    if drill.is_some_and(|drill| !drill::may_switch(cluster, id, drill)) {
        return None;
    }
    let service = cluster.services.get_mut(id)?;
    let loses = given_up.is_some();
    let past = service.step().is_none_or(|step| step > Step::Seal || (loses && step == Step::Seal));
    if !past || !enters_rightly(trigger, step, service) || (loses && trigger != Trigger::Failover) {
        return None;
    }
    let number = cluster.transitions.keys().next_back().map_or(0, |last| last.0);
    let transition = TransitionId(number.saturating_add(1));
    let from = service.primary.clone();
    let previous = service.transition.replace(Transition {
        id: transition,
        trigger,
        from: from.clone(),
        target,
        step,
        given_up: given_up.cloned(),
    });
    let epoch = service.epoch;
    if let Some(record) = previous.and_then(|open| cluster.transitions.get_mut(&open.id)) {
        record.outcome = Outcome::Superseded(transition);
    }
    cluster.transitions.insert(
        transition,
        Record {
            id: transition,
            service: id.clone(),
            trigger,
            by: event.by.clone(),
            cause: event.cause.clone(),
            plan: event.plan.clone(),
            authority: event.authority.clone(),
            given_up: given_up.cloned(),
            drill,
            readiness: readiness.cloned(),
            from,
            to: None,
            epoch,
            steps: vec![],
            examined: vec![],
            outcome: Outcome::Open,
        },
    );
    note_step(cluster, event, transition, "started");
    if let Some(drill) = drill {
        drill::switched(cluster, drill, transition);
    }
    drill::cut_off(cluster, id, transition);
    let started = format!("transition {transition} started at {}", step.name());
    Some(given_up.map_or(started.clone(), |loss| format!("{started}, {}", loss.told())))
}

fn step_done(cluster: &mut Cluster, event: &Event, id: &ServiceId) -> Option<String> {
    let service = cluster.services.get_mut(id)?;
    let transition = service.transition.as_mut()?;
    let left = transition.step;
    if left == Step::Seal {
        return None;
    }
    let number = transition.id;
    let next = left.next();
    match next {
        Some(step) => transition.step = step,
        None => service.transition = None,
    }
    // I-30: the name moves only after the marker is durable.
    if left == Step::Prove {
        service.published =
            service.primary.clone().map(|instance| Published { instance, epoch: service.epoch });
    }
    note_step(cluster, event, number, left.name());
    if next.is_none()
        && let Some(record) = cluster.transitions.get_mut(&number)
    {
        record.outcome = Outcome::Done;
    }
    Some(format!("transition {number}: {} done", left.name()))
}

fn abort(cluster: &mut Cluster, event: &Event, id: &ServiceId) -> Option<String> {
    let service = cluster.services.get_mut(id)?;
    // From Seal on there is only forward: standbys have sworn off the old epoch.
    let transition = service.transition.take_if(|open| open.step < Step::Seal)?;
    note_step(cluster, event, transition.id, "aborted");
    if let Some(record) = cluster.transitions.get_mut(&transition.id) {
        record.outcome = Outcome::Aborted(event.cause.clone());
    }
    Some(format!("transition {} rolled back at {}", transition.id, transition.step.name()))
}

/// The one arm in which the epoch moves (I-04).
fn choose(
    service: &mut Service,
    primary: &InstanceId,
    position: Option<&Position>,
    rule: &Rule,
) -> Option<String> {
    if service.step() != Some(Step::Seal)
        || !service.spec.instances.contains_key(primary)
        || rule.instances.contains(primary)
        || !quorum::covers(&rule.instances, rule.required, &rule.enforce)
    {
        return None;
    }
    let transition = service.transition.as_mut()?;
    transition.step = Step::Promote;
    if transition.trigger == Trigger::PrimaryLost {
        service.unacknowledged = Some(transition.id);
    }
    service.epoch = service.epoch.next();
    service.primary = Some(primary.clone());
    service.rule = Rule { generation: service.rule.generation.next(), ..rule.clone() };
    let loses = service.transition.as_ref().is_some_and(|open| open.given_up.is_some());
    if loses && position.is_some() {
        // What was given up bars nobody any more.
        service.floor = position.cloned();
        service.doubts.clear();
    }
    raise_floor(service, position);
    if let Some(position) = position {
        service.doubts.retain(|doubt| !position.contains(&doubt.position));
    }
    Some(format!("{primary} chosen"))
}

pub(crate) fn raise_floor(service: &mut Service, position: Option<&Position>) {
    let Some(position) = position else { return };
    let higher = service.floor.as_ref().is_none_or(|floor| position.contains(floor));
    if higher {
        service.floor = Some(position.clone());
    }
}

fn record_rule(service: &mut Service, rule: &Rule) -> Option<String> {
    let primary = service.primary.as_ref()?;
    let barred = service.hold.is_some() || rule.instances.contains(primary);
    if barred || !quorum::may_follow(&service.rule, rule) {
        return None;
    }
    service.rule = Rule { generation: service.rule.generation.next(), ..rule.clone() };
    Some(format!("synchronous rule {}", quorum::describe(&service.rule)))
}
