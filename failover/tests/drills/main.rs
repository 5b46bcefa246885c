//! Drills: one at a time, nothing moved unless all is good, and back again.

#![expect(clippy::unwrap_used, reason = "what cannot be made fails the test")]

mod exercise;
mod isolated;
mod restored;
#[path = "../support/mod.rs"]
mod support;
mod undone;
#[path = "../readiness/world.rs"]
#[expect(dead_code, reason = "the tests of readiness use all of it")]
mod world;

use failover::cluster::{Enforce, Hold, Outcome as Ended, Rule, Step, Trigger};
use failover::drill::{self, Kind, Outcome, Stage};
use failover::event::ServiceChange;
use failover::report::{Down, Receiver, Server};
use failover::zone::Data;
use failover::{DrillId, Request, Ruling, Timestamp, TransitionId, View, decide_one};
use std::time::Duration;

use exercise::{DWELL, Exercise, asks, gives_up};
use support::{at, clinic, id};

/// I-36: it goes there and back by ordinary switchovers, and says so in their records.
#[test]
fn i36_a_switchover_drill_goes_there_and_back() {
    let mut exercise = Exercise::dwells();
    let until = exercise.drill().until.unwrap();
    assert_eq!(exercise.waits(), ["dwell"]);
    exercise.pass(DWELL);
    exercise.all_is_well();
    assert!(exercise.wall >= until && exercise.goes_on());
    assert_eq!(exercise.stage(), Stage::Back);
    assert!(exercise.goes_on());
    assert_eq!(exercise.waits(), ["switchover"]);
    exercise.switches_to("a");
    assert_eq!(exercise.outcome(), &Outcome::Passed);
    assert_eq!(exercise.primary(), id("a"));
    let drill = exercise.drill().clone();
    assert_eq!((drill.there, drill.back), (Some(TransitionId(2)), Some(TransitionId(3))));
    let names: Vec<&str> = drill.steps.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(names, ["started", "check", "there", "dwell", "ended"]);
    assert_eq!(drill.verdicts.len(), 3);
    let transitions = &exercise.world.now.cluster.transitions;
    for id in [2, 3] {
        let record = &transitions[&TransitionId(id)];
        assert_eq!((record.trigger, &*record.by), (Trigger::Switchover, "drill 1"));
        assert_eq!((record.drill, &record.outcome), (Some(DrillId(1)), &Ended::Done));
        assert!(drill.met(record));
    }
    assert!(!drill.met(&transitions[&TransitionId(1)]));
    assert_eq!(exercise.verdict(), None);
}

/// I-36: whoever asks at the same time, there is one in the whole cluster.
#[test]
fn i36_one_drill_at_a_time() {
    let mut exercise = Exercise::well();
    let Ruling::Granted { change: first, .. } = exercise.ask(&asks(Kind::Readiness)) else {
        panic!("all is well");
    };
    let Ruling::Granted { change: second, .. } = exercise.ask(&asks(Kind::Switchover)) else {
        panic!("all is well");
    };
    assert!(exercise.happens(*first, "one".into(), "alice"));
    assert!(!exercise.happens(*second, "other".into(), "bob"), "both were granted");
    assert_eq!(exercise.refused_by(&asks(Kind::Readiness)), "drill-open");
    assert_eq!(exercise.outcome(), &Outcome::Passed);
    exercise.granted(&asks(Kind::Switchover));
    assert_eq!(exercise.world.now.cluster.drills.len(), 2);
}

#[test]
fn i36_what_forbids_a_switchover_forbids_its_drill() {
    let mut exercise = Exercise::well();
    let service = exercise.world.now.cluster.services.get_mut(&clinic()).unwrap();
    service.hold = Some(Hold { by: "x".into(), reason: "y".into(), since: Timestamp(0) });
    assert_eq!(exercise.refused_by(&asks(Kind::Switchover)), "hold");
    exercise.granted(&asks(Kind::Readiness));

    let mut exercise = Exercise::well();
    exercise.world.hear("a", |report, _| report.streams.retain(|s| s.instance != id("b")));
    assert_eq!(exercise.refused_by(&asks(Kind::Switchover)), "candidate");

    let mut exercise = Exercise::well();
    exercise.of_service(ServiceChange::Started {
        trigger: Trigger::Switchover,
        target: None,
        step: Step::Quiesce,
        drill: None,
        readiness: None,
        given_up: None,
    });
    for kind in [Kind::Readiness, Kind::Switchover] {
        assert_eq!(exercise.refused_by(&asks(kind)), "transition-open");
    }
}

#[test]
fn i36_protected_hours_are_kept_unless_somebody_says_so() {
    let mut exercise = Exercise::well();
    exercise.world.now.view.closed = Some("protected until 21:00".into());
    assert_eq!(exercise.refused_by(&asks(Kind::Switchover)), "protected-hours");
    let mut despite = asks(Kind::Switchover);
    if let Request::Drill { despite_hours, .. } = &mut despite {
        *despite_hours = true;
    }
    exercise.granted(&despite);
    assert_eq!(exercise.drill().despite.as_deref(), Some("protected until 21:00"));
    let mut exercise = Exercise::well();
    exercise.world.now.view.closed = Some("protected until 21:00".into());
    exercise.granted(&asks(Kind::Readiness));
}

/// I-36: whatever is not good about who would take over, or about everyone, ends it before anything
/// is moved.
#[test]
fn i36_a_drill_that_is_not_ready_moves_nothing() {
    let broken: [fn(&mut Exercise); 3] = [
        |exercise| exercise.world.hear("b", |report, _| report.checks.wal_free = Some(1)),
        |exercise| exercise.world.hear("b", |_, survey| survey.certificate_seconds = Some(-1)),
        |exercise| {
            let seats = &mut exercise.world.voters.seats;
            seats.values_mut().next().unwrap().1 = false;
        },
    ];
    for breaks in broken {
        let mut exercise = Exercise::well();
        exercise.granted(&asks(Kind::Switchover));
        breaks(&mut exercise);
        let outcome = exercise.outcome().clone();
        assert!(matches!(&outcome, Outcome::Aborted(why) if why.starts_with("not ready: ")));
        assert!(!exercise.drill().findings.is_empty());
        assert_eq!(exercise.world.now.cluster.transitions.len(), 1, "{outcome:?}");
        assert_eq!(exercise.primary(), id("a"));
    }
    // So does what is wrong with whoever would take over if the primary were lost meanwhile.
    let mut exercise = Exercise::well();
    let mut elsewhere = asks(Kind::Switchover);
    if let Request::Drill { to, .. } = &mut elsewhere {
        *to = Some(id("c"));
    }
    exercise.granted(&elsewhere);
    exercise.world.hear("b", |_, survey| survey.certificate_seconds = Some(-1));
    let outcome = exercise.outcome().clone();
    assert!(matches!(&outcome, Outcome::Aborted(why) if why.starts_with("not ready: ")));
    // What is wrong with somebody else is not its business.
    let mut exercise = Exercise::well();
    exercise.granted(&asks(Kind::Switchover));
    exercise.world.hear("c", |report, _| report.checks.wal_free = Some(1));
    assert!(exercise.goes_on() && exercise.stage() == Stage::There);
}

/// I-37: what is not known is waited for, and is never good.
#[test]
fn i36_i37_what_is_not_known_ends_it_in_time() {
    for kind in [Kind::Readiness, Kind::Switchover] {
        let mut exercise = Exercise::well();
        exercise.granted(&asks(kind));
        exercise.world.now.view.surveys.remove(&id("b"));
        assert!(exercise.waits().contains(&"not-known".to_owned()));
        exercise.pass(drill::KNOW_WITHIN);
        exercise.all_is_well();
        exercise.world.now.view.surveys.remove(&id("b"));
        let outcome = exercise.outcome();
        assert!(matches!(outcome, Outcome::Failed(_) | Outcome::Aborted(_)), "{outcome:?}");
        assert_eq!(exercise.primary(), id("a"));
    }
}

#[test]
fn i36_a_readiness_drill_tells_what_readiness_tells() {
    let mut exercise = Exercise::well();
    exercise.granted(&asks(Kind::Readiness));
    assert_eq!(exercise.outcome(), &Outcome::Passed);
    assert_eq!(exercise.drill().verdicts, exercise.world.all().sites);

    let mut exercise = Exercise::well();
    exercise.granted(&asks(Kind::Readiness));
    exercise.world.voters.seats.values_mut().next().unwrap().1 = false;
    let outcome = exercise.outcome().clone();
    let quorum = |why: &str| why.contains("voters-quorum");
    assert!(matches!(&outcome, Outcome::Failed(why) if quorum(why)), "{outcome:?}");
}

/// I-36: a leader that was elected in the middle goes on where its predecessor was, by the wall.
#[test]
fn i36_another_leader_goes_on() {
    let mut exercise = Exercise::dwells();
    exercise.pass(DWELL / 2);
    let now = &mut exercise.world.now;
    now.view = View::new(2, now.now);
    exercise.all_is_well();
    assert_eq!(exercise.waits(), ["dwell"]);
    exercise.pass(DWELL / 2);
    exercise.all_is_well();
    assert!(exercise.goes_on());
    assert_eq!(exercise.stage(), Stage::Back);
    // It knows nobody yet: it waits until it does.
    let now = &mut exercise.world.now;
    now.view = View::new(3, now.now);
    assert!(!exercise.waits().is_empty());
    exercise.all_is_well();
    assert!(exercise.goes_on());
    exercise.switches_to("a");
    assert_eq!(exercise.outcome(), &Outcome::Passed);
}

/// I-36: a drill is never in the way of a failover, and ends with it.
#[test]
fn i36_a_primary_lost_in_the_dwell_is_failed_over_as_ever() {
    let mut exercise = Exercise::dwells();
    exercise.pass(Duration::from_secs(10));
    exercise.all_is_well_but(|name, report, _| {
        if name == "b" {
            report.server = Server::Down(Down::Crashed);
        } else {
            let (upstream, age) = (id("b"), Duration::ZERO);
            report.receiver = Some(Receiver { upstream, streaming: false, age });
        }
    });
    let now = &mut exercise.world.now;
    now.view.follow(&now.cluster, now.now);
    let verdict = decide_one(&now.cluster, &clinic(), &now.view, now.now).unwrap();
    let (change, cause) = verdict.change.expect("a failover");
    assert!(exercise.happens(change, cause, "baton"));
    let outcome = exercise.outcome().clone();
    assert!(matches!(&outcome, Outcome::Overtaken(why) if why.starts_with("transition 3 ")));
    assert_eq!(exercise.drill().back, None, "it does not move what a failover moved");
    let failover = &exercise.world.now.cluster.transitions[&TransitionId(3)];
    assert_eq!((failover.trigger, failover.drill), (Trigger::PrimaryLost, None));
    assert!(exercise.drill().met(failover));
}

/// The switchover itself meets a disaster: the law does what it does, and the drill says so.
#[test]
fn i36_what_becomes_of_its_switchover_becomes_of_the_drill() {
    let begun = || {
        let mut exercise = Exercise::well();
        exercise.granted(&asks(Kind::Switchover));
        assert!(exercise.goes_on() && exercise.goes_on());
        exercise
    };
    let mut exercise = begun();
    exercise.of_service(ServiceChange::Aborted);
    let outcome = exercise.outcome().clone();
    assert!(matches!(&outcome, Outcome::Failed(why) if why.contains("rolled back: because")));

    let mut exercise = begun();
    while exercise.world.now.cluster.services[&clinic()].step() != Some(Step::Seal) {
        exercise.of_service(ServiceChange::StepDone);
    }
    let rest = [id("a"), id("c")];
    let enforce = Enforce { instances: rest.clone().into(), required: 1 };
    let rule = Rule { instances: rest.into(), required: 1, enforce, ..Rule::default() };
    let (primary, position) = (id("b"), Some(at(100)));
    let examined = vec![];
    exercise.of_service(ServiceChange::PrimaryChosen { primary, position, rule, examined });
    exercise.of_service(ServiceChange::Started {
        trigger: Trigger::PrimaryLost,
        target: None,
        step: Step::Seal,
        drill: None,
        readiness: None,
        given_up: None,
    });
    let outcome = exercise.outcome().clone();
    assert!(matches!(&outcome, Outcome::Overtaken(why) if why.contains("from transition 2")));
}

fn address(text: &str) -> Vec<Data> {
    vec![Data::Address(text.parse().unwrap())]
}

/// I-36: the name goes there and back, each time only once every server says so, and stays.
#[test]
fn i36_a_drill_of_name_servers_moves_a_name_and_waits_for_each() {
    let mut exercise = Exercise::well();
    let published = exercise.world.now.cluster.zone_version;
    exercise.granted(&asks(Kind::Dns));
    assert_eq!(exercise.canary(), []);
    assert!(exercise.goes_on() && exercise.stage() == Stage::There);
    assert_eq!(exercise.drill().target, Some(id("b")));
    assert_eq!(exercise.canary(), address("127.0.1.1"));
    assert!(exercise.world.now.cluster.zone_version > published);
    assert_eq!(exercise.waits(), ["name-server"; 3], "what was answered before does not count");
    exercise.pass(Duration::from_secs(1));
    exercise.name_servers_say("127.0.1.1", Some("ns2"));
    assert_eq!(exercise.waits(), ["name-server"]);
    exercise.name_servers_say("127.0.0.1", None);
    assert_eq!(exercise.waits().len(), 3, "the old address is not the new one");
    exercise.name_servers_say("127.0.1.1", None);
    assert!(exercise.goes_on() && exercise.stage() == Stage::Back);
    assert_eq!(exercise.canary(), address("127.0.0.1"));
    assert!(!exercise.waits().is_empty());
    exercise.pass(Duration::from_secs(1));
    exercise.name_servers_say("127.0.0.1", None);
    assert_eq!(exercise.outcome(), &Outcome::Passed);
    assert_eq!(exercise.canary(), address("127.0.0.1"), "a name never vanishes");
    assert_eq!(exercise.world.now.cluster.transitions.len(), 1);
}

#[test]
fn i36_a_name_server_that_does_not_follow_fails_the_drill() {
    let mut exercise = Exercise::well();
    exercise.granted(&asks(Kind::Dns));
    assert!(exercise.goes_on());
    assert!(!exercise.waits().is_empty());
    exercise.pass(drill::FOLLOW_WITHIN);
    exercise.name_servers_say("127.0.1.1", Some("ns3"));
    let outcome = exercise.outcome().clone();
    assert!(
        matches!(&outcome, Outcome::Failed(why) if why.contains("ns3") && !why.contains("ns2"))
    );
    assert_eq!(exercise.canary(), address("127.0.0.1"), "it is where it was");
    // Given up, it is where it was too; and nothing is begun where a server is silent already.
    let mut exercise = Exercise::well();
    exercise.granted(&asks(Kind::Dns));
    assert!(exercise.goes_on());
    exercise.granted(&gives_up());
    assert_eq!(exercise.outcome(), &Outcome::Aborted("a storm".into()));
    assert_eq!(exercise.canary(), address("127.0.0.1"));
    let mut exercise = Exercise::well();
    exercise.world.now.view.name_servers.clear();
    exercise.granted(&asks(Kind::Dns));
    assert!(exercise.waits().iter().all(|check| check == "not-known"));
}
