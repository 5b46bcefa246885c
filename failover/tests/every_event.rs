//! Every event in every state: `apply` stands, and never does what no decision may do.

#![expect(clippy::unwrap_used, reason = "what cannot be made fails the test")]

mod support;

use failover::cluster::{Cluster, Enforce, Hold, Rule, Step, Trigger, Voter};
use failover::event::{Change, Event, Seen, ServiceChange, Stamp};
use failover::position::Position;
use failover::quorum;
use failover::topology::Topology;
use failover::{
    Generation, Lsn, SystemIdentifier, Timeline, Timestamp, VoterId, apply, assignment, zone,
};
use std::collections::BTreeSet;
use support::{clinic, id};

/// What is declared of the three sites.
fn topology() -> Topology {
    let mut topology = support::cluster().topology;
    for spec in topology.services.values_mut() {
        spec.aliases = vec!["db".into()];
    }
    topology
}

fn rule(names: &[&str], required: u32, enforced: &[&str]) -> Rule {
    let set = |names: &[&str]| names.iter().map(|name| id(name)).collect::<BTreeSet<_>>();
    Rule {
        generation: Generation(0),
        instances: set(names),
        required,
        enforce: Enforce { instances: set(enforced), required: required.max(1) },
    }
}

fn service_changes() -> Vec<ServiceChange> {
    let mut changes = vec![
        ServiceChange::StepDone,
        ServiceChange::Aborted,
        ServiceChange::Resumed,
        ServiceChange::Identified { system_identifier: SystemIdentifier(7) },
        ServiceChange::Held {
            hold: Hold { by: "x".into(), reason: "y".into(), since: Timestamp(0) },
        },
    ];
    let triggers = [
        (Trigger::Bootstrap, Step::Seal),
        (Trigger::PrimaryLost, Step::Seal),
        (Trigger::Failover, Step::Promote),
        (Trigger::Switchover, Step::Quiesce),
        (Trigger::Switchover, Step::Verify),
    ];
    let begun = |(trigger, step)| ServiceChange::started(trigger, Some(id("b")), step);
    changes.extend(triggers.map(begun));
    let rules = [
        rule(&["b", "c"], 1, &["b", "c"]),
        rule(&["b"], 1, &["b", "c"]),
        rule(&["b", "c"], 1, &["c"]),
        rule(&["c"], 1, &["c"]),
        rule(&["a", "c"], 2, &["a", "c"]),
        rule(&["nobody"], 0, &[]),
    ];
    for primary in ["a", "b", "stranger"] {
        changes.extend(rules.iter().map(|rule| ServiceChange::PrimaryChosen {
            primary: id(primary),
            position: Some(at(1, 10)),
            rule: rule.clone(),
            examined: vec![],
        }));
    }
    changes.extend(rules.map(|rule| ServiceChange::RuleRecorded { rule }));
    let doubted = |position, open| ServiceChange::Doubted { position, from: Lsn(20), open };
    changes.extend([
        doubted(at(1, 30), false),
        doubted(at(1, 25), true),
        doubted(at(2, 5), false),
        ServiceChange::Settled { upto: at(1, 30) },
        ServiceChange::Settled { upto: at(1, 15) },
        ServiceChange::Forgone { from: Lsn(20), to: Lsn(30) },
    ]);
    changes
}

fn at(timeline: u32, lsn: u64) -> Position {
    Position { timeline: Timeline(timeline), history: vec![], lsn: Lsn(lsn) }
}

fn event(change: Change) -> Event {
    let (stamp, by, cause) = (Stamp::default(), "test".into(), "because".into());
    Event { stamp, by, cause, plan: None, authority: None, change }
}

fn seen(cluster: &Cluster) -> Seen {
    let service = &cluster.services[&clinic()];
    Seen { epoch: service.epoch, step: service.step(), generation: service.rule.generation }
}

fn stamped(cluster: &Cluster, change: ServiceChange) -> Event {
    event(Change::Service { service: clinic(), seen: seen(cluster), change })
}

/// What must hold between a state and its successor, whatever the event was.
fn assert_lawful(before: &Cluster, after: &Cluster, event: &Event) {
    let (old, new) = (&before.services[&clinic()], &after.services[&clinic()]);
    assert!(new.epoch >= old.epoch && new.epoch.0 <= old.epoch.0 + 1, "I-04: {event:?}");
    if new.epoch == old.epoch {
        assert_eq!(new.primary, old.primary, "I-04: one primary an epoch: {event:?}");
        assert!(new.rule == old.rule || quorum::may_follow(&old.rule, &new.rule), "I-07");
    } else {
        assert_eq!(old.step(), Some(Step::Seal), "I-04, I-06: {event:?}");
    }
    assert!(
        quorum::covers(&new.rule.instances, new.rule.required, &new.rule.enforce),
        "I-07: {event:?}"
    );
    let epoch = |published: &Option<failover::cluster::Published>| {
        published.as_ref().map(|published| published.epoch)
    };
    assert!(epoch(&new.published) >= epoch(&old.published), "I-29: {event:?}");
    if new.published != old.published {
        assert_eq!(old.step(), Some(Step::Prove), "I-30: {event:?}");
    }
    if old.hold.is_some() && old.transition.is_none() {
        let asked = |trigger| matches!(trigger, Trigger::Failover | Trigger::Switchover);
        assert!(new.transition.as_ref().is_none_or(|open| asked(open.trigger)), "I-25: {event:?}");
        assert_eq!(new.rule, old.rule, "I-25: {event:?}");
    }
    assert!(after.zone_version >= before.zone_version, "I-29");
    for instance in new.spec.instances.keys() {
        assert!(assignment(after, instance).is_some());
    }
    let changed = zone(after).records != zone(before).records;
    assert!(!changed || after.zone_version > before.zone_version, "I-29: {event:?}");
}

/// States are explored by what the service is, not by how it came there; history is left out.
fn key(cluster: &Cluster) -> String {
    let mut service = cluster.services[&clinic()].clone();
    service.revision = failover::Revision(0);
    service.epoch.0 = service.epoch.0.min(3);
    service.rule.generation = Generation(0);
    if let Some(published) = &mut service.published {
        published.epoch.0 = published.epoch.0.min(3);
    }
    service.transition = service.transition.map(|mut open| {
        open.id.0 = 0;
        open
    });
    service.unacknowledged = service.unacknowledged.map(|_| failover::TransitionId(0));
    service.doubts.truncate(1);
    format!("{service:?}")
}

#[test]
fn i04_i07_i25_i27_i29_i30_every_event_in_every_state() {
    let mut first = Cluster::default();
    let declared = Change::Topology { expected: 0, topology: Box::new(topology()) };
    assert!(apply(&mut first, &event(declared)));
    let mut known = BTreeSet::from([key(&first)]);
    let mut open = vec![first];
    let mut applied = 0_usize;
    while let Some(cluster) = open.pop() {
        for change in service_changes() {
            let event = stamped(&cluster, change);
            let mut next = cluster.clone();
            let effect = apply(&mut next, &event);
            assert_eq!(effect, next != cluster, "no effect means no change: {event:?}");
            assert_lawful(&cluster, &next, &event);
            applied += 1;
            if effect && known.len() < 4_000 && known.insert(key(&next)) {
                open.push(next);
            }
        }
    }
    assert!(known.len() > 200 && applied > 5_000, "{} states, {applied} events", known.len());
}

/// I-20: decided in another epoch, step or generation, an event has no effect.
#[test]
fn i20_a_late_event_has_no_effect() {
    let mut cluster = Cluster::default();
    apply(&mut cluster, &event(Change::Topology { expected: 0, topology: Box::new(topology()) }));
    let start = ServiceChange::started(Trigger::Bootstrap, None, Step::Seal);
    let late = stamped(&cluster, start.clone());
    assert!(apply(&mut cluster, &late));
    let before = cluster.clone();
    assert!(!apply(&mut cluster, &late), "twice");
    let choose = ServiceChange::PrimaryChosen {
        primary: id("a"),
        position: None,
        rule: rule(&["b", "c"], 1, &["b", "c"]),
        examined: vec![],
    };
    let mut wrong = seen(&cluster);
    wrong.epoch = wrong.epoch.next();
    let stale = event(Change::Service { service: clinic(), seen: wrong, change: choose.clone() });
    assert!(!apply(&mut cluster, &stale));
    assert_eq!(cluster, before);
    let timely = stamped(&cluster, choose);
    assert!(apply(&mut cluster, &timely));
    assert!(!apply(&mut cluster, &timely), "an epoch is granted once (I-04)");
}

#[test]
fn i28_an_entry_of_a_later_version_is_not_read() {
    let mut cluster = Cluster::default();
    let voter = Voter {
        name: "a".into(),
        site: "a".parse().unwrap(),
        address: "127.0.0.1:1".parse().unwrap(),
        incarnation: None,
    };
    let event = event(Change::VoterSet { id: VoterId(1), voter });
    let text = serde_json::to_string(&event).unwrap();
    assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event);
    assert!(apply(&mut cluster, &event));
    let later = text.replacen('{', "{\"tomorrow\":1,", 1);
    assert!(serde_json::from_str::<Event>(&later).is_err());
}
