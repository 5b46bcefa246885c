//! The drill of a disaster: the primary is told to fall silent, and lost as any other.

use failover::cluster::{Hold, Outcome as Ended, Step, Trigger};
use failover::drill::{self, Kind, LONGEST_ISOLATION, Outcome, Stage};
use failover::event::ServiceChange;
use failover::report::{Server, Stream};
use failover::{
    DrillId, InstanceId, Request, Timestamp, TransitionId, View, assignment, decide_one,
};
use std::time::Duration;

use crate::exercise::{DWELL, Exercise, asks, gives_up};
use crate::support::{clinic, id};

/// Silence of so long is a loss.
const SILENT: Duration = Duration::from_secs(4);

fn asks_for(at_most: Duration) -> Request {
    let mut request = asks(Kind::Isolate);
    if let Request::Drill { at_most: asked, .. } = &mut request {
        *asked = Some(at_most);
    }
    request
}

/// Told, and not obeyed yet.
fn told() -> Exercise {
    let mut exercise = Exercise::well();
    exercise.granted(&asks(Kind::Isolate));
    assert!(exercise.goes_on(), "{:?}", exercise.verdict());
    assert_eq!(exercise.stage(), Stage::There);
    exercise
}

fn order(exercise: &Exercise, name: &str) -> Option<DrillId> {
    let known = assignment(&exercise.world.now.cluster, &id(name)).unwrap();
    known.isolate.map(|order| order.drill)
}

/// It is as well as can be, but that an instance is not heard, and nobody receives from it.
fn silent(exercise: &mut Exercise, name: &str) {
    let heard = exercise.world.now.view.reports.remove(&id(name));
    let sign = exercise.world.now.view.signs.get(&id(name)).copied();
    exercise.all_is_well_but(|_, report, _| {
        report.streams.retain(|stream: &Stream| stream.instance != id(name));
        if report.receiver.as_ref().is_some_and(|of| of.upstream == id(name)) {
            report.receiver = None;
        }
    });
    let view = &mut exercise.world.now.view;
    view.reports.remove(&id(name));
    view.reports.extend(heard.map(|heard| (id(name), heard)));
    view.signs.remove(&id(name));
    view.signs.extend(sign.map(|sign| (id(name), sign)));
}

/// The primary falls silent, and the law does what it does with every silent primary.
fn lost(exercise: &mut Exercise) {
    exercise.pass_without("a", SILENT);
    silent(exercise, "a");
    let now = &mut exercise.world.now;
    now.view.follow(&now.cluster, now.now);
    let verdict = decide_one(&now.cluster, &clinic(), &now.view, now.now).unwrap();
    let (change, cause) = verdict.change.unwrap_or_else(|| panic!("{:#?}", verdict.findings));
    assert!(cause.contains("silent"), "{cause}");
    assert!(exercise.happens(change, cause, "baton"));
}

/// It is back: it says for which drill it cut itself off last.
fn is_back(exercise: &mut Exercise, for_drill: Option<DrillId>) {
    exercise.all_is_well_but(|name, report, _| {
        if name == "a" {
            report.pledge.isolated = for_drill;
        }
    });
}

/// I-36: it is lost by the law of every loss, and returned by an ordinary switchover.
#[test]
fn i36_a_primary_that_is_cut_off_is_lost_and_returned() {
    let mut exercise = Exercise::well();
    exercise.granted(&asks(Kind::Isolate));
    assert_eq!(order(&exercise, "a"), None, "nothing is done before all is looked at");
    let before = assignment(&exercise.world.now.cluster, &id("a")).unwrap().revision;
    assert!(exercise.goes_on());
    let known = assignment(&exercise.world.now.cluster, &id("a")).unwrap();
    assert!(known.revision > before, "it is told at once");
    let timing = exercise.world.now.cluster.topology.timing.clone();
    assert_eq!(known.isolate.unwrap().at_most, drill::usual(&timing));
    assert_eq!((order(&exercise, "b"), order(&exercise, "c")), (None, None));
    assert_eq!(exercise.waits(), ["isolated"]);
    lost(&mut exercise);
    assert_eq!(order(&exercise, "a"), None);
    assert_eq!(exercise.drill().there, Some(TransitionId(2)));
    assert_eq!(exercise.waits(), ["failover"]);
    exercise.switches_to("b");
    assert!(exercise.goes_on());
    assert_eq!((exercise.stage(), exercise.primary()), (Stage::Dwell, id("b")));
    assert_eq!(exercise.drill().target, Some(id("b")));
    let record = exercise.world.now.cluster.transitions[&TransitionId(2)].clone();
    assert_eq!((record.trigger, record.drill), (Trigger::PrimaryLost, None));
    assert_eq!((&*record.by, &record.outcome), ("baton", &Ended::Done));
    exercise.pass(DWELL);
    is_back(&mut exercise, Some(DrillId(1)));
    assert!(exercise.goes_on() && exercise.stage() == Stage::Back);
    assert!(exercise.goes_on());
    exercise.switches_to("a");
    assert_eq!(exercise.outcome(), &Outcome::Passed);
    assert_eq!(exercise.drill().back, Some(TransitionId(3)));
    assert_eq!(exercise.primary(), id("a"));
}

/// I-25: its failover does not stand in the way of one that nobody asked for.
#[test]
fn i25_i36_its_failover_is_acknowledged_by_whoever_asked_for_it() {
    let mut exercise = told();
    lost(&mut exercise);
    exercise.switches_to("b");
    let unacknowledged =
        |exercise: &Exercise| exercise.world.now.cluster.services[&clinic()].unacknowledged;
    assert_eq!(unacknowledged(&exercise), Some(TransitionId(2)));
    assert!(exercise.goes_on());
    assert_eq!(unacknowledged(&exercise), None);
    // One that is lost in the dwell is failed over at once, and the drill is over.
    silent(&mut exercise, "b");
    exercise.pass_without("b", SILENT);
    silent(&mut exercise, "b");
    let now = &mut exercise.world.now;
    now.view.follow(&now.cluster, now.now);
    let verdict = decide_one(&now.cluster, &clinic(), &now.view, now.now).unwrap();
    let (change, cause) = verdict.change.unwrap_or_else(|| panic!("{:#?}", verdict.findings));
    assert!(exercise.happens(change, cause, "baton"));
    let outcome = exercise.outcome().clone();
    assert!(matches!(&outcome, Outcome::Overtaken(why) if why.starts_with("transition 3 ")));
}

/// I-36: what would keep the failover from happening is found before anybody is cut off.
#[test]
fn i36_nobody_is_cut_off_in_vain() {
    let mut exercise = Exercise::well();
    let short = exercise.world.now.cluster.topology.timing.suspect_after;
    assert_eq!(exercise.refused_by(&asks_for(short)), "at-most");
    assert_eq!(exercise.refused_by(&asks_for(LONGEST_ISOLATION * 2)), "at-most");
    let mut named = asks(Kind::Isolate);
    if let Request::Drill { to, .. } = &mut named {
        *to = Some(id("b"));
    }
    assert_eq!(exercise.refused_by(&named), "candidate");
    let mut other = asks_for(short * 3);
    if let Request::Drill { kind, .. } = &mut other {
        *kind = Kind::Switchover;
    }
    assert_eq!(exercise.refused_by(&other), "at-most");
    exercise.world.now.view.closed = Some("protected until 21:00".into());
    assert_eq!(exercise.refused_by(&asks(Kind::Isolate)), "protected-hours");
    // Not ready: nobody is told anything.
    let mut exercise = Exercise::well();
    exercise.granted(&asks_for(short * 3));
    assert_eq!(exercise.drill().at_most, Some(short * 3));
    exercise.world.hear("b", |report, _| report.checks.wal_free = Some(1));
    let outcome = exercise.outcome().clone();
    assert!(matches!(&outcome, Outcome::Aborted(why) if why.starts_with("not ready: ")));
    assert_eq!(order(&exercise, "a"), None);
}

/// I-36: it is back before anybody took over: it serves on, and the drill has failed.
#[test]
fn i36_a_primary_that_nobody_missed_serves_on() {
    let mut exercise = told();
    is_back(&mut exercise, Some(DrillId(1)));
    let outcome = exercise.outcome().clone();
    assert!(matches!(&outcome, Outcome::Failed(why) if why.contains("nobody took over")));
    assert_eq!((exercise.primary(), order(&exercise, "a")), (id("a"), None));
    assert_eq!(exercise.world.now.cluster.transitions.len(), 1);
}

/// I-36: an agent that does not obey, or is not heard again, is not waited for for ever.
#[test]
fn i36_what_does_not_happen_is_not_waited_for() {
    let limit = drill::LONGEST_ISOLATION + drill::KNOW_WITHIN;
    let mut exercise = told();
    assert_eq!(exercise.waits(), ["isolated"]);
    exercise.pass(limit);
    exercise.all_is_well();
    let outcome = exercise.outcome().clone();
    assert!(matches!(&outcome, Outcome::Failed(why) if why.contains("did not cut itself off")));
    for abort in [false, true] {
        let mut exercise = told();
        assert_eq!(exercise.waits(), ["isolated"]);
        if abort {
            exercise.granted(&gives_up());
        }
        exercise.pass(limit);
        silent(&mut exercise, "a");
        let outcome = exercise.outcome().clone();
        assert!(matches!(&outcome, Outcome::Failed(why) if why.contains("not heard any more")));
    }
}

/// I-36: who is given up before it obeyed is told so; who is cut off can be told nothing.
#[test]
fn i36_an_isolation_that_is_given_up() {
    // It has not obeyed, and says that it knows better now.
    let mut exercise = told();
    let old = exercise.world.now.cluster.services[&clinic()].revision;
    exercise.granted(&gives_up());
    assert_eq!(order(&exercise, "a"), None);
    exercise.all_is_well_but(|name, report, _| {
        if name == "a" {
            report.revision = old;
        }
    });
    assert_eq!(exercise.waits(), ["isolated"], "it may be about to");
    let new = exercise.world.now.cluster.services[&clinic()].revision;
    exercise.all_is_well_but(|name, report, _| {
        if name == "a" {
            report.revision = new;
        }
    });
    assert_eq!(exercise.outcome(), &Outcome::Aborted("a storm".into()));
    assert_eq!(exercise.primary(), id("a"));
    // It is back of itself before it was missed.
    let mut exercise = told();
    exercise.granted(&gives_up());
    is_back(&mut exercise, Some(DrillId(1)));
    assert_eq!(exercise.outcome(), &Outcome::Aborted("a storm".into()));
    // It is lost already: there, and back at once.
    let mut exercise = told();
    exercise.granted(&gives_up());
    lost(&mut exercise);
    exercise.switches_to("b");
    assert!(exercise.goes_on() && exercise.goes_on());
    assert_eq!(exercise.stage(), Stage::Back);
    is_back(&mut exercise, Some(DrillId(1)));
    assert!(exercise.goes_on());
    exercise.switches_to("a");
    assert_eq!(exercise.outcome(), &Outcome::Aborted("a storm".into()));
}

/// A hold takes the order back; a person's change of primary ends the drill.
#[test]
fn i36_a_person_is_stronger_than_an_isolation() {
    let mut exercise = told();
    let hold = Hold { by: "x".into(), reason: "y".into(), since: Timestamp(0) };
    exercise.of_service(ServiceChange::Held { hold });
    assert_eq!((order(&exercise, "a"), exercise.waits()), (None, vec!["hold".to_owned()]));
    exercise.of_service(ServiceChange::Resumed);
    assert_eq!(order(&exercise, "a"), Some(DrillId(1)));
    for (trigger, step) in [(Trigger::Switchover, Step::Quiesce), (Trigger::Failover, Step::Seal)] {
        let mut exercise = told();
        let target = (trigger == Trigger::Switchover).then(|| id("b"));
        let (drill, readiness, given_up) = (None, None, None);
        let change = ServiceChange::Started { trigger, target, step, drill, readiness, given_up };
        exercise.of_service(change);
        assert_eq!(order(&exercise, "a"), None);
        let outcome = exercise.outcome().clone();
        assert!(matches!(&outcome, Outcome::Overtaken(why) if why.starts_with("transition 2 ")));
    }
}

/// I-36: a primary that died while it was about to be cut off was no rehearsal.
#[test]
fn i36_a_real_loss_meanwhile_is_said_to_be_one() {
    let mut exercise = told();
    lost(&mut exercise);
    exercise.switches_to("b");
    assert!(exercise.goes_on());
    exercise.pass(DWELL);
    is_back(&mut exercise, None);
    assert!(exercise.goes_on() && exercise.stage() == Stage::Back);
    let outcome = exercise.outcome().clone();
    assert!(matches!(&outcome, Outcome::Overtaken(why) if why.contains("a real one")));
    assert_eq!(exercise.primary(), id("b"));
}

/// I-36: another leader goes on where its predecessor was.
#[test]
fn i36_an_isolation_outlives_its_leader() {
    let mut exercise = told();
    let now = &mut exercise.world.now;
    now.view = View::new(2, now.now);
    exercise.pass(Duration::from_secs(1));
    silent(&mut exercise, "a");
    exercise.world.now.view.reports.remove(&id("a"));
    assert_eq!(exercise.waits(), ["isolated"]);
    exercise.pass(SILENT);
    lost(&mut exercise);
    let now = &mut exercise.world.now;
    now.view = View::new(3, now.now);
    exercise.switches_to("b");
    assert!(exercise.goes_on());
    assert_eq!((exercise.stage(), exercise.primary()), (Stage::Dwell, id("b")));
}

/// I-36: a switchover in the name of a drill that wants a loss has no effect.
#[test]
fn i36_nobody_switches_away_whom_a_drill_wants_lost() {
    let mut exercise = told();
    let before = exercise.world.now.cluster.clone();
    let service = &before.services[&clinic()];
    let (epoch, generation) = (service.epoch, service.rule.generation);
    let seen = failover::event::Seen { epoch, step: None, generation };
    let change = ServiceChange::Started {
        trigger: Trigger::Switchover,
        target: Some(id("b")),
        step: Step::Quiesce,
        drill: Some(DrillId(1)),
        readiness: None,
        given_up: None,
    };
    let change = failover::event::Change::Service { service: clinic(), seen, change };
    assert!(!exercise.happens(change, String::new(), "x"));
    assert_eq!(exercise.world.now.cluster, before);
}

/// What an agent makes of the order.
mod obeyed {
    use super::{Exercise, InstanceId, LONGEST_ISOLATION, Server, assignment, told};
    use crate::support::{at, id};
    use failover::comply::{Configured, Divergence};
    use failover::report::{Down, Pledge};
    use failover::{Action, Assignment, DrillId, Epoch, Local, Moment, Timeline, comply};
    use std::time::Duration;

    fn ordered(exercise: &Exercise, whom: &InstanceId) -> Assignment {
        assignment(&exercise.world.now.cluster, whom).unwrap()
    }

    /// A primary in whom all is as it should be; the order came at 10 s, the lease was asked for
    /// at 11 s.
    fn serving(assigned: &Assignment) -> Local {
        let second = |n: u64| Moment(n * 1_000_000);
        Local {
            server: Server::Writable { position: at(9), admits: true, checkpoint: Timeline(1) },
            system_identifier: assigned.system_identifier,
            pledge: Pledge { granted: assigned.epoch, sealed: Epoch(0), isolated: None },
            configured: Configured {
                generation: Some(assigned.generation),
                admits: true,
                ..Configured::default()
            },
            sealed: false,
            serves: true,
            proven: Some(assigned.epoch),
            enforced: Some(assigned.generation),
            prepared: None,
            divergence: Divergence::None,
            leased: Some(second(11)),
            committed: Some(second(11)),
            started: Moment(0),
            down_since: Moment(0),
            informed: true,
            assigned: Some(second(10)),
            isolated: None,
        }
    }

    const NOW: Moment = Moment(11_500_000);

    #[test]
    fn i20_i36_it_cuts_itself_off_once_and_for_a_leader_only() {
        let exercise = told();
        let assigned = ordered(&exercise, &id("a"));
        let local = serving(&assigned);
        let wish = |local: &Local| comply(Some(&assigned), local, NOW);
        let at_most = assigned.isolate.as_ref().unwrap().at_most;
        let isolate = Action::Isolate { drill: DrillId(1), at_most };
        assert_eq!(wish(&local), Some(isolate));
        for before in [DrillId(1), DrillId(2)] {
            let pledge = Pledge { isolated: Some(before), ..local.pledge };
            assert_eq!(wish(&Local { pledge, ..local.clone() }), None, "it did already");
        }
        let leased = Some(Moment(9_900_000));
        assert_eq!(wish(&Local { leased, ..local.clone() }), None, "a voter that lags may say so");
        assert_eq!(wish(&Local { assigned: None, ..local.clone() }), None, "an old disk too");
        let mut forever = assigned.clone();
        forever.isolate.as_mut().unwrap().at_most = Duration::from_hours(1);
        let capped = Action::Isolate { drill: DrillId(1), at_most: LONGEST_ISOLATION };
        assert_eq!(comply(Some(&forever), &local, NOW), Some(capped));
    }

    #[test]
    fn i02_i36_whoever_is_cut_off_is_fenced_and_starts_nothing() {
        let exercise = told();
        let assigned = ordered(&exercise, &id("a"));
        let until = Moment(30_000_000);
        let cut = Local { isolated: Some(until), ..serving(&assigned) };
        let wish = |local: &Local, now| comply(Some(&assigned), local, now);
        assert_eq!(wish(&cut, NOW), None, "its lease lasts");
        let late = Moment(20_000_000);
        assert!(matches!(wish(&cut, late), Some(Action::Fence { .. })), "it has run out");
        let server = Server::Down(Down::Fenced);
        let down = Local { server, serves: false, down_since: late, ..cut };
        assert_eq!(wish(&down, Moment(29_000_000)), None, "it stays down");
        assert_eq!(wish(&down, until), Some(Action::StartPrimary), "nobody else was chosen");
    }
}
