//! Drills that are given up, held, late, or cannot return.

use failover::cluster::{Hold, Step, Trigger};
use failover::drill::{self, DrillChange, Kind, Outcome, Stage};
use failover::event::{Change, Seen, ServiceChange};
use failover::{DrillId, Timestamp};
use std::time::Duration;

use crate::exercise::{DWELL, Exercise, asks, gives_up};
use crate::support::{self, clinic, id};

/// I-36: given up, it undoes what it did, as far as it did anything.
#[test]
fn i36_a_drill_that_is_given_up_is_undone() {
    // Before anything is moved.
    let mut exercise = Exercise::well();
    exercise.granted(&asks(Kind::Switchover));
    exercise.granted(&gives_up());
    assert_eq!(exercise.refused_by(&gives_up()), "drill");
    assert_eq!(exercise.outcome(), &Outcome::Aborted("a storm".into()));
    assert_eq!(exercise.world.now.cluster.transitions.len(), 1);
    // While the primary prepares: the switchover is rolled back.
    let mut exercise = Exercise::well();
    exercise.granted(&asks(Kind::Switchover));
    assert!(exercise.goes_on() && exercise.goes_on());
    exercise.granted(&gives_up());
    assert!(exercise.goes_on());
    assert_eq!(exercise.world.now.cluster.services[&clinic()].step(), None);
    assert_eq!(exercise.outcome(), &Outcome::Aborted("a storm".into()));
    assert_eq!(exercise.primary(), id("a"));
    // Past the point of no return: there, and back at once.
    let mut exercise = Exercise::well();
    exercise.granted(&asks(Kind::Switchover));
    assert!(exercise.goes_on() && exercise.goes_on());
    while exercise.world.now.cluster.services[&clinic()].step() != Some(Step::Seal) {
        exercise.of_service(ServiceChange::StepDone);
    }
    exercise.granted(&gives_up());
    assert_eq!(exercise.waits(), ["switchover"]);
    exercise.switches_to("b");
    returns(exercise, "a storm");
    // In the dwell.
    let mut exercise = Exercise::dwells();
    exercise.granted(&gives_up());
    returns(exercise, "a storm");
}

/// The primary is at `b`, and comes back without a dwell.
fn returns(mut exercise: Exercise, why: &str) {
    while exercise.stage() != Stage::Back {
        assert!(exercise.goes_on());
    }
    assert_eq!(exercise.refused_by(&gives_up()), "drill");
    assert!(exercise.goes_on());
    exercise.switches_to("a");
    assert_eq!(exercise.outcome(), &Outcome::Aborted(why.into()));
    assert_eq!(exercise.primary(), id("a"));
    assert_eq!(exercise.refused_by(&gives_up()), "drill");
}

/// I-36: what breaks while the service runs elsewhere brings it back early.
#[test]
fn i36_a_dwell_that_is_not_ready_any_more_ends_early() {
    let mut exercise = Exercise::dwells();
    let breaks = |exercise: &mut Exercise| {
        exercise.all_is_well_but(|name, report, _| {
            if name == "b" {
                report.checks.wal_free = Some(1);
            }
        });
    };
    breaks(&mut exercise);
    assert_eq!(exercise.waits(), ["dwell"], "it may be better in a moment");
    exercise.pass(Duration::from_secs(31));
    breaks(&mut exercise);
    assert!(exercise.goes_on());
    let abort = exercise.drill().abort.clone().unwrap();
    assert!(abort.reason.starts_with("not as it must be: disk"), "{abort:?}");
    exercise.all_is_well();
    let why = abort.reason;
    returns(exercise, &why);
}

/// A person's hold stops it where it is; it goes on when that is over.
#[test]
fn i36_a_hold_stops_it_where_it_is() {
    let mut exercise = Exercise::dwells();
    let hold = Hold { by: "x".into(), reason: "y".into(), since: Timestamp(0) };
    exercise.of_service(ServiceChange::Held { hold });
    exercise.pass(DWELL * 2);
    exercise.all_is_well();
    assert_eq!(exercise.waits(), ["hold"]);
    exercise.of_service(ServiceChange::Resumed);
    assert!(exercise.goes_on());
    assert_eq!(exercise.stage(), Stage::Back);
}

/// What cannot be returned safely is not returned.
#[test]
fn i36_a_primary_that_cannot_return_stays() {
    let mut exercise = Exercise::dwells();
    exercise.granted(&gives_up());
    assert!(exercise.goes_on() && exercise.stage() == Stage::Back);
    let away = |exercise: &mut Exercise| {
        exercise.all_is_well_but(|name, report, _| match name {
            "a" => report.receiver = None,
            _ => report.streams.retain(|stream| stream.instance != id("a")),
        });
    };
    away(&mut exercise);
    assert_eq!(exercise.waits(), ["candidate"]);
    exercise.pass(drill::RETURN_WITHIN);
    away(&mut exercise);
    let outcome = exercise.outcome().clone();
    assert!(matches!(&outcome, Outcome::Failed(why) if why.contains("stays at b")), "{outcome:?}");
    assert_eq!(exercise.primary(), id("b"));
}

/// I-20, I-36: what was decided in another stage, or of another drill, has no effect.
#[test]
fn i20_i36_a_late_change_of_a_drill_has_no_effect() {
    let ended = |outcome| DrillChange::Ended { outcome, verdicts: vec![], findings: vec![] };
    let changes =
        [DrillChange::StageDone { verdicts: vec![] }, ended(Outcome::Passed), ended(Outcome::Open)];
    let stages = [Stage::Check, Stage::There, Stage::Dwell, Stage::Back];
    let mut exercise = Exercise::dwells();
    exercise.pass(DWELL);
    exercise.all_is_well();
    let before = exercise.world.now.cluster.clone();
    for number in [0, 1, 2] {
        for stage in stages.map(Some).into_iter().chain([None]) {
            for change in &changes {
                let open = number == 1 && stage == Some(Stage::Dwell);
                let expected = open && *change != ended(Outcome::Open);
                let change =
                    Change::Drill { drill: DrillId(number), stage, change: change.clone() };
                assert_eq!(exercise.happens(change.clone(), String::new(), "x"), expected);
                assert_eq!(exercise.world.now.cluster == before, !expected, "{change:?}");
                exercise.world.now.cluster = before.clone();
            }
        }
    }
    // A switchover in the name of a drill that does not want one.
    for number in [0, 1, 2] {
        let service = &exercise.world.now.cluster.services[&clinic()];
        let (epoch, generation) = (service.epoch, service.rule.generation);
        let seen = Seen { epoch, step: None, generation };
        let change = ServiceChange::Started {
            trigger: Trigger::Switchover,
            target: Some(id("a")),
            step: Step::Quiesce,
            drill: Some(DrillId(number)),
            readiness: None,
            given_up: None,
        };
        let change = Change::Service { service: clinic(), seen, change };
        assert!(!exercise.happens(change, String::new(), "x"), "it dwells");
    }
}

/// The state of a version that knew no drills is read.
#[test]
fn a_state_without_drills_is_read() {
    let now = support::Situation::new();
    let text = serde_json::to_string(&now.cluster).unwrap();
    assert!(!text.contains("drill"));
    assert_eq!(serde_json::from_str::<failover::Cluster>(&text).unwrap(), now.cluster);
}
