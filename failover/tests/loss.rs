//! A person gives up what only lost instances hold: exactly what was shown, and only where nothing
//! else is left.

#![expect(clippy::unwrap_used, reason = "what cannot be made fails the test")]

mod support;

use failover::cluster::{Doubt, Step, Trigger};
use failover::event::{Change, Event, ServiceChange, Stamp};
use failover::loss::{GivenUp, Loss, assess};
use failover::report::{Down, Server};
use failover::{Epoch, Lsn, Request, Ruling, Timestamp, apply, rule_on};
use support::{Situation, at, clinic, id};

/// Commits were acknowledged by `b` alone; its site and the primary's are gone. `c` stands at 90,
/// of which it has replayed 80.
fn gone() -> Situation {
    let mut now = Situation::new();
    let service = now.cluster.services.get_mut(&clinic()).unwrap();
    service.rule.instances = [id("b")].into();
    service.rule.enforce.instances = [id("b")].into();
    service.floor = Some(at(95));
    now.hear("a", |report| {
        report.streams.retain(|stream| stream.instance == id("b"));
    });
    now.pass(400);
    now.hear("a", |report| {
        report.streams.retain(|stream| stream.instance == id("b"));
    });
    for _ in 0..20 {
        now.pass(400);
        behind(&mut now);
    }
    now
}

fn behind(now: &mut Situation) {
    now.hear("c", |report| {
        report.server = Server::Recovery { position: at(90), replayed: Lsn(80), admits: true };
        report.receiver = None;
    });
}

fn sealed(now: &mut Situation, name: &str, lsn: u64) {
    now.hear(name, |report| {
        report.server = Server::Recovery { position: at(lsn), replayed: Lsn(lsn), admits: false };
        report.receiver = None;
        report.pledge.sealed = Epoch(1);
        report.sealed_at = Some(at(lsn));
    });
}

fn loss(now: &Situation) -> Loss {
    assess(&now.cluster, &clinic(), &now.view, now.now).unwrap()
}

fn refusal(now: &Situation) -> String {
    assess(&now.cluster, &clinic(), &now.view, now.now).unwrap_err()[0].check.clone()
}

fn ask(now: &Situation, kept: u64, bytes: Option<u64>) -> Ruling {
    let reason = "both sites burned".into();
    let request = Request::AcceptLoss { service: clinic(), kept: at(kept), bytes, reason };
    rule_on(&now.cluster, &now.view, &request, ("alice", Timestamp(0)), now.now)
}

fn put(now: &mut Situation, change: Change) -> bool {
    let (by, cause) = ("alice".into(), "both sites burned".into());
    let stamp = Stamp::default();
    let event = Event { stamp, by, cause, plan: None, authority: None, change };
    apply(&mut now.cluster, &event)
}

fn accepted() -> Situation {
    let mut now = gone();
    let Ruling::Granted { change, .. } = ask(&now, 80, Some(20)) else { panic!("refused") };
    assert!(put(&mut now, *change));
    now
}

fn stamped(now: &Situation, change: ServiceChange) -> Change {
    let service = &now.cluster.services[&clinic()];
    let seen = failover::event::Seen {
        epoch: service.epoch,
        step: service.step(),
        generation: service.rule.generation,
    };
    Change::Service { service: clinic(), seen, change }
}

#[test]
fn the_loss_is_a_number() {
    let mut now = gone();
    let request = Request::Failover { service: clinic(), reason: "x".into() };
    let by = ("alice", Timestamp(0));
    let ruling = rule_on(&now.cluster, &now.view, &request, by, now.now);
    assert!(matches!(ruling, Ruling::Refused(_)), "an ordinary failover is refused");
    let Loss { candidate, kept, bytes, lasted_ms, ago_ms, missing } = loss(&now);
    assert_eq!((candidate, kept, bytes), (id("c"), at(80), Some(20)));
    assert_eq!((lasted_ms, ago_ms), (Some(400), Some(8_400)));
    assert_eq!(missing, [id("b")]);
    // A leader that never heard the primary does not know.
    now.view.written.clear();
    let Loss { bytes, lasted_ms, ago_ms, .. } = loss(&now);
    assert_eq!((bytes, lasted_ms, ago_ms), (None, None, None));
}

#[test]
fn only_what_was_shown_is_given_up() {
    let now = gone();
    for (kept, bytes) in [(81, Some(20)), (80, Some(19)), (80, None), (90, Some(10))] {
        let Ruling::Refused(findings) = ask(&now, kept, bytes) else { panic!("{kept} {bytes:?}") };
        assert_eq!(findings[0].check, "loss");
        assert!(findings[0].text.contains("0/50") && findings[0].text.contains("20 bytes"));
    }
    // It may be less by now.
    assert!(matches!(ask(&now, 79, Some(21)), Ruling::Granted { .. }));
}

/// Wherever something else is left, nothing is given up.
#[test]
fn i01_nothing_is_given_up_that_need_not_be() {
    let mut lives = gone();
    lives.hear("a", |_| {});
    assert_eq!(refusal(&lives), "primary-heard");

    let mut crashed = gone();
    crashed.hear("a", |report| report.server = Server::Down(Down::Crashed));
    assert_eq!(refusal(&crashed), "primary-heard");

    let mut wiped = gone();
    wiped.hear("a", |report| report.server = Server::Absent);
    assert_eq!(loss(&wiped).bytes, Some(20), "its data is gone, and what it had written is known");

    let mut enough = gone();
    enough.hear("b", |report| report.receiver = None);
    assert_eq!(refusal(&enough), "seal-quorum");

    let mut doubtful = gone();
    doubtful.hear("b", |report| report.receiver = None);
    let doubt =
        Doubt { epoch: Epoch(1), from: Lsn(100), position: at(110), open: false, at: Timestamp(0) };
    doubtful.cluster.services.get_mut(&clinic()).unwrap().doubts.push(doubt);
    assert_eq!(refusal(&doubtful), "doubt");

    let mut nobody = gone();
    nobody.pass(60_000);
    assert_eq!(refusal(&nobody), "candidate");

    let mut stranger = gone();
    stranger.hear("c", |report| {
        report.system_identifier = None;
        report.receiver = None;
    });
    assert_eq!(refusal(&stranger), "candidate");
}

/// A single copy, lost: the same way out.
#[test]
fn a_lost_single_copy_is_given_up_too() {
    let mut now = gone();
    let service = now.cluster.services.get_mut(&clinic()).unwrap();
    service.rule.required = 0;
    service.rule.enforce.required = 0;
    assert_eq!(loss(&now).kept, at(80));
}

/// From the acceptance on everything is as in any failover: seals first, the best is taken, the
/// epoch moves once; and nobody below what was shown is taken.
#[test]
fn i06_whoever_is_taken_is_sealed_and_holds_what_is_kept() {
    let mut now = accepted();
    let service = &now.cluster.services[&clinic()];
    assert_eq!(service.step(), Some(Step::Seal));
    assert_eq!(now.verdict(), (None, vec!["seal-quorum".into()]), "nobody is sealed");
    sealed(&mut now, "c", 79);
    assert_eq!(now.verdict(), (None, vec!["seal-quorum".into()]), "it lacks what is kept");
    now.pass(100);
    sealed(&mut now, "c", 85);
    assert_eq!(now.verdict(), (None, vec!["former-fenced".into()]), "readers are waited for");
    now.pass_with(3_000, &["c"]);
    let (change, findings) = now.verdict();
    let Some(ServiceChange::PrimaryChosen { primary, position, .. }) = &change else {
        panic!("{findings:?}")
    };
    assert_eq!((primary, position), (&id("c"), &Some(at(85))));
    let change = stamped(&now, change.unwrap());
    assert!(put(&mut now, change));
    let service = &now.cluster.services[&clinic()];
    assert_eq!((service.epoch, service.floor.clone()), (Epoch(2), Some(at(85))));
    let record = now.cluster.transitions.values().next_back().unwrap();
    assert_eq!(record.given_up, Some(GivenUp { kept: at(80), bytes: Some(20) }));
    let told = now.cluster.history.iter().any(|entry| entry.text.contains("giving up what is"));
    assert!(told, "{:?}", now.cluster.history);
}

/// I-01: if enough are there after all, nothing is lost.
#[test]
fn i01_whoever_comes_back_in_time_is_asked() {
    let mut now = accepted();
    sealed(&mut now, "c", 90);
    sealed(&mut now, "b", 100);
    assert_eq!(now.verdict(), (None, vec!["former-fenced".into()]), "readers are waited for");
    now.pass_with(3_000, &["b", "c"]);
    let (change, findings) = now.verdict();
    let Some(ServiceChange::PrimaryChosen { primary, .. }) = change else { panic!("{findings:?}") };
    assert_eq!(primary, id("b"));
    // With enough sealed, what was known to be acknowledged is demanded as ever.
    let mut short = accepted();
    sealed(&mut short, "c", 90);
    sealed(&mut short, "b", 92);
    short.verdict();
    short.pass_with(3_000, &["b", "c"]);
    assert_eq!(short.verdict().0, None, "the floor stands at 95");
}

/// I-01: the old primary, back in time, goes on with everything.
#[test]
fn i01_the_former_primary_comes_back_in_time() {
    let mut now = accepted();
    now.view.follow(&now.cluster, now.now);
    now.pass(6_000);
    sealed(&mut now, "c", 90);
    now.hear("a", |report| report.server = Server::Down(Down::Crashed));
    let (change, findings) = now.verdict();
    let Some(ServiceChange::PrimaryChosen { primary, .. }) = change else { panic!("{findings:?}") };
    assert_eq!(primary, id("a"));
}

/// Another that may hold more, and can be reached, is waited for.
#[test]
fn whoever_can_be_reached_is_sealed_first() {
    let mut now = accepted();
    let service = now.cluster.services.get_mut(&clinic()).unwrap();
    let mut spec = service.spec.instances[&id("c")].clone();
    spec.site = "b".parse().unwrap();
    service.spec.instances.insert(id("d"), spec);
    service.spec.preference.push(id("d"));
    sealed(&mut now, "c", 90);
    now.hear("d", |report| report.receiver = None);
    assert_eq!(now.verdict(), (None, vec!["seal-settle".into()]));
    sealed(&mut now, "d", 97);
    now.pass_with(3_000, &["c", "d"]);
    let Some(ServiceChange::PrimaryChosen { primary, .. }) = now.verdict().0 else { panic!() };
    assert_eq!(primary, id("d"));
}

fn begin(now: &mut Situation) {
    let change = stamped(now, ServiceChange::started(Trigger::PrimaryLost, None, Step::Seal));
    assert!(put(now, change));
    now.view.follow(&now.cluster, now.now);
}

/// A failover that waits for seals in vain is superseded; one that may yet succeed is not.
#[test]
fn a_failover_that_is_stuck_is_given_a_way_out() {
    let mut now = gone();
    begin(&mut now);
    assert_eq!(refusal(&now), "transition-open", "it has only begun");
    now.pass(6_000);
    sealed(&mut now, "c", 85);
    assert_eq!(loss(&now).kept, at(85), "where it stands for good");
    let Ruling::Granted { change, .. } = ask(&now, 85, Some(15)) else { panic!("refused") };
    assert!(put(&mut now, *change));
    let Some(ServiceChange::PrimaryChosen { primary, .. }) = now.verdict().0 else { panic!() };
    assert_eq!(primary, id("c"));
    let mut hopeful = gone();
    begin(&mut hopeful);
    hopeful.pass(6_000);
    behind(&mut hopeful);
    hopeful.hear("b", |report| report.receiver = None);
    assert_eq!(refusal(&hopeful), "transition-open", "b can be sealed");
}

/// Whoever proposes it: a loss is accepted by a failover that is asked for, and no other.
#[test]
fn no_other_transition_gives_anything_up() {
    let mut now = gone();
    let started = ServiceChange::Started {
        readiness: None,
        trigger: Trigger::PrimaryLost,
        target: None,
        step: Step::Seal,
        drill: None,
        given_up: Some(GivenUp { kept: at(80), bytes: Some(20) }),
    };
    let change = stamped(&now, started);
    assert!(!put(&mut now, change));
}
