//! The drill of a former primary's way back: a standby is told to rehearse it, and says what came
//! of that.

use failover::cluster::{Hold, Step, Trigger};
use failover::drill::{self, Kind, Outcome, Progress, Rehearsed, Stage};
use failover::event::ServiceChange;
use failover::{DrillId, Request, Timestamp, assignment};
use std::time::Duration;

use crate::exercise::{Exercise, asks, gives_up};
use crate::support::{NAMES, clinic, id};

fn asks_for(name: Option<&str>) -> Request {
    let mut request = asks(Kind::RestorePath);
    if let Request::Drill { to, .. } = &mut request {
        *to = name.map(id);
    }
    request
}

fn order(exercise: &Exercise, name: &str) -> Option<DrillId> {
    assignment(&exercise.world.now.cluster, &id(name)).unwrap().rehearse
}

/// Who is told to rehearse.
fn told(exercise: &Exercise) -> Vec<&'static str> {
    NAMES.into_iter().filter(|name| order(exercise, name) == Some(DrillId(1))).collect()
}

fn began(name: Option<&str>) -> Exercise {
    let mut exercise = Exercise::well();
    exercise.granted(&asks_for(name));
    assert_eq!(told(&exercise), [""; 0], "nothing before everything was looked at");
    assert!(exercise.goes_on(), "{:?}", exercise.verdict());
    assert_eq!(exercise.stage(), Stage::There);
    exercise
}

fn says(exercise: &mut Exercise, who: &str, drill: u64, stands: &Progress) {
    exercise.all_is_well_but(|name, report, _| {
        if name == who {
            let (drill, stands) = (DrillId(drill), stands.clone());
            report.rehearsed = Some(Rehearsed { drill, stands });
        }
    });
}

/// I-36: one standby is told, its word ends the drill, and nobody has moved.
#[test]
fn i36_a_standby_rehearses_and_its_word_ends_the_drill() {
    let mut exercise = began(None);
    let [last] = told(&exercise)[..] else { panic!("{:?}", told(&exercise)) };
    assert_ne!(id(last), exercise.primary());
    assert_eq!(exercise.waits(), ["rehearsal"]);
    says(&mut exercise, last, 1, &Progress::UnderWay("copying".into()));
    exercise.pass(Duration::from_secs(1));
    assert_eq!(exercise.waits(), ["rehearsal"]);
    let moved = exercise.world.now.cluster.transitions.len();
    says(&mut exercise, last, 1, &Progress::Done("caught up at 0/100".into()));
    assert_eq!(exercise.outcome(), &Outcome::Passed);
    let step = exercise.drill().steps.last().unwrap();
    assert_eq!(step.note, "caught up at 0/100", "how it went is on record");
    assert_eq!(told(&exercise), [""; 0], "it is not ordered any more");
    assert_eq!(exercise.world.now.cluster.transitions.len(), moved);
}

/// I-36: whoever is asked for rehearses; not the primary, nor who does not follow it.
#[test]
fn i36_only_a_standby_that_follows_rehearses() {
    let exercise = began(Some("b"));
    assert_eq!(told(&exercise), ["b"]);
    let mut exercise = Exercise::well();
    assert_eq!(exercise.refused_by(&asks_for(Some("a"))), "candidate");
    exercise.all_is_well_but(|name, report, _| {
        if name == "b" {
            report.receiver = None;
        }
    });
    assert_eq!(exercise.refused_by(&asks_for(Some("b"))), "candidate");
    exercise.granted(&asks_for(Some("c")));
}

/// I-36: what another drill or another instance says is not its word; a failure is the drill's.
#[test]
fn i36_a_rehearsal_fails_with_its_reason() {
    let mut exercise = began(Some("b"));
    says(&mut exercise, "b", 9, &Progress::Done("long ago".into()));
    assert_eq!(exercise.waits(), ["rehearsal"]);
    says(&mut exercise, "c", 1, &Progress::Done("not asked".into()));
    assert_eq!(exercise.waits(), ["rehearsal"]);
    says(&mut exercise, "b", 1, &Progress::Failed("no room".into()));
    assert_eq!(exercise.outcome(), &Outcome::Failed("b: no room".into()));
}

/// I-36: what nobody begins, ends or tells is over some time.
#[test]
fn i36_a_rehearsal_that_nobody_hears_of_ends() {
    let mut exercise = began(Some("b"));
    assert_eq!(exercise.waits(), ["rehearsal"]);
    exercise.pass(drill::KNOW_WITHIN);
    exercise.all_is_well();
    let outcome = exercise.outcome().clone();
    assert!(
        matches!(&outcome, Outcome::Failed(why) if why.contains("did not begin")),
        "{outcome:?}"
    );

    let mut exercise = began(Some("b"));
    says(&mut exercise, "b", 1, &Progress::UnderWay("copying".into()));
    exercise.pass_without("b", drill::KNOW_WITHIN);
    let outcome = exercise.outcome().clone();
    assert!(matches!(&outcome, Outcome::Failed(why) if why.contains("not heard")), "{outcome:?}");

    let mut exercise = began(Some("b"));
    says(&mut exercise, "b", 1, &Progress::UnderWay("copying".into()));
    assert_eq!(exercise.waits(), ["rehearsal"]);
    exercise.pass(drill::REHEARSED_WITHIN);
    says(&mut exercise, "b", 1, &Progress::UnderWay("copying".into()));
    let outcome = exercise.outcome().clone();
    assert!(matches!(&outcome, Outcome::Failed(why) if why.contains("12 h")), "{outcome:?}");
}

/// I-36: a person's hold takes the order back until it is over; giving it up ends it; a change of
/// primary overtakes it.
#[test]
fn i36_a_rehearsal_stands_in_nobodys_way() {
    let mut exercise = began(Some("b"));
    let hold = Hold { by: "bob".into(), reason: "works".into(), since: Timestamp(0) };
    exercise.world.now.cluster.services.get_mut(&clinic()).unwrap().hold = Some(hold);
    assert_eq!(told(&exercise), [""; 0]);
    assert_eq!(exercise.waits(), ["hold"]);
    exercise.world.now.cluster.services.get_mut(&clinic()).unwrap().hold = None;
    assert_eq!(told(&exercise), ["b"]);
    exercise.granted(&gives_up());
    assert_eq!(told(&exercise), [""; 0]);
    assert_eq!(exercise.outcome(), &Outcome::Aborted("a storm".into()));

    let mut exercise = began(Some("b"));
    exercise.of_service(ServiceChange::started(Trigger::Switchover, Some(id("b")), Step::Quiesce));
    assert_eq!(told(&exercise), [""; 0], "whoever is about to lead has other things to do");
    assert!(matches!(exercise.outcome(), Outcome::Overtaken(_)));
}
