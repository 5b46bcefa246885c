//! Commits in doubt: recorded, settled, given up, and what they bar meanwhile.

#![expect(clippy::unwrap_used, reason = "what cannot be made fails the test")]

mod support;

use failover::cluster::{Cluster, Doubt, Rule};
use failover::event::{Change, Event, ServiceChange, Stamp};
use failover::report::{Down, Server, Stream};
use failover::{Epoch, Lsn, Request, Ruling, Timestamp, apply, decide, quorum, rule_on};
use support::{Situation, at, clinic, id};

/// Applies whatever the law proposes until it proposes nothing more.
fn run(now: &mut Situation) -> Vec<ServiceChange> {
    let mut made = Vec::new();
    for _ in 0..10 {
        now.view.follow(&now.cluster, now.now);
        let verdict = decide(&now.cluster, &now.view, now.now).remove(&clinic()).unwrap();
        let Some((change, cause)) = verdict.change else { return made };
        if let Change::Service { change, .. } = &change {
            made.push(change.clone());
        }
        put(&mut now.cluster, change, cause);
    }
    panic!("no end: {made:?}");
}

fn put(cluster: &mut Cluster, change: Change, cause: String) {
    let event = Event {
        stamp: Stamp::default(),
        by: "test".into(),
        cause,
        plan: None,
        authority: None,
        change,
    };
    assert!(apply(cluster, &event), "{event:?}");
}

fn doubts(now: &Situation) -> &[Doubt] {
    &now.cluster.services[&clinic()].doubts
}

fn dead(now: &mut Situation, doubt: u64) {
    now.pass(100);
    now.hear("a", |report| {
        report.server = Server::Down(Down::Crashed);
        report.doubt = Some(at(doubt));
        report.streams.clear();
    });
}

/// A primary with a cancelled wait at 150 while its standbys hold 100.
fn doubtful() -> Situation {
    let mut now = Situation::new();
    now.hear("a", |report| {
        report.doubt = Some(at(150));
        report.server = writable(160);
    });
    let made = run(&mut now);
    let expected = ServiceChange::Doubted { position: at(150), from: Lsn(100), open: false };
    assert_eq!(made, [expected]);
    now
}

fn writable(end: u64) -> Server {
    Server::Writable { position: at(end), admits: true, checkpoint: failover::Timeline(1) }
}

/// SC-34, SC-35: the standbys lack it, so nobody takes over by himself.
#[test]
fn i12_a_doubt_bars_automatic_failover() {
    let mut now = doubtful();
    assert!(now.verdict().1.iter().any(|check| check == "doubt"), "shown while all is well");
    dead(&mut now, 150);
    assert!(now.blocked_by("doubt"));
}

/// I-12: whoever holds it may take over.
#[test]
fn i12_an_instance_that_holds_the_doubt_may_take_over() {
    let mut now = doubtful();
    now.hear("c", |report| {
        report.server = Server::Recovery { position: at(150), replayed: Lsn(90), admits: true };
    });
    dead(&mut now, 150);
    assert!(now.fails_over());
}

/// The rule's standbys flushed beyond it: nothing is in doubt, and none of them may fall behind it.
#[test]
fn i12_the_standbys_flush_settles_a_doubt_and_raises_the_floor() {
    let mut now = doubtful();
    now.hear("a", |report| {
        report.doubt = Some(at(150));
        report.server = writable(170);
        report.streams[0].flushed = Lsn(150);
    });
    assert_eq!(run(&mut now), [ServiceChange::Settled { upto: at(150) }]);
    assert!(doubts(&now).is_empty());
    assert_eq!(now.cluster.services[&clinic()].floor, Some(at(150)));
    now.hear("a", |report| report.doubt = Some(at(150)));
    assert!(run(&mut now).is_empty(), "what is settled is not recorded again");
    dead(&mut now, 150);
    assert!(now.fails_over());
}

/// I-12: until W of the record have flushed it, nothing is settled; the record counts one, whatever
/// the setting asks for (decision 0013).
#[test]
fn i12_fewer_than_w_settle_nothing() {
    let mut now = doubtful();
    let service = now.cluster.services.get_mut(&clinic()).unwrap();
    service.spec.required = 2;
    service.rule.enforce.required = 2;
    now.hear("a", |report| {
        report.doubt = Some(at(150));
        report.server = writable(170);
        for stream in &mut report.streams {
            stream.flushed = Lsn(140);
        }
    });
    now.verdict();
    let made = run(&mut now);
    assert!(!made.iter().any(|change| matches!(change, ServiceChange::Settled { .. })));
    assert_eq!(doubts(&now).len(), 1);
}

/// Several at once and one after another: one doubt, which widens.
#[test]
fn i12_later_doubts_widen_the_first() {
    let mut now = doubtful();
    for end in [180, 170, 200] {
        now.hear("a", |report| {
            report.doubt = Some(at(end));
            report.server = writable(300);
        });
        run(&mut now);
    }
    let known = &doubts(&now)[0];
    assert_eq!((doubts(&now).len(), known.from, &known.position), (1, Lsn(100), &at(200)));
}

/// SC-37: while the setting is overruled nobody's position is enough; its end closes the range.
#[test]
fn i08_i12_an_overruled_setting_bars_failover_until_it_is_closed_and_settled() {
    let mut now = Situation::new();
    let exposed = |report: &mut failover::Report, end| {
        report.server = writable(end);
        report.checks.exposed = true;
    };
    now.hear("a", |report| exposed(report, 120));
    let open = ServiceChange::Doubted { position: at(120), from: Lsn(100), open: true };
    assert_eq!(run(&mut now), [open]);
    now.hear("a", |report| exposed(report, 140));
    assert!(run(&mut now).is_empty(), "once is enough while it goes on");
    let mut lost = Situation { cluster: now.cluster.clone(), view: now.view.clone(), ..now };
    lost.hear("c", |report| {
        report.server = Server::Recovery { position: at(500), replayed: Lsn(90), admits: true };
    });
    lost.hear("a", |report| {
        report.server = Server::Down(Down::Crashed);
        report.checks.exposed = true;
    });
    assert!(lost.blocked_by("doubt"));
    now.hear("a", |report| {
        report.doubt = Some(at(160));
        report.server = writable(165);
    });
    let closed = ServiceChange::Doubted { position: at(160), from: Lsn(100), open: false };
    assert_eq!(run(&mut now), [closed]);
    now.hear("a", |report| {
        report.doubt = Some(at(160));
        report.server = writable(165);
        report.streams[1].flushed = Lsn(165);
    });
    assert_eq!(run(&mut now), [ServiceChange::Settled { upto: at(165) }]);
}

/// A doubt is recorded in every step, the last one before a choice above all.
#[test]
fn i12_a_doubt_told_during_a_transition_bars_the_candidates() {
    let mut now = Situation::new();
    dead_without_doubt(&mut now);
    let made = run(&mut now);
    assert!(matches!(made[..], [ServiceChange::Started { .. }]), "{made:?}");
    dead(&mut now, 150);
    let made = run(&mut now);
    assert!(matches!(made[..], [ServiceChange::Doubted { .. }]), "{made:?}");
    now.pass(4_000);
    for name in ["b", "c"] {
        now.hear(name, |report| {
            report.pledge.sealed = Epoch(1);
            report.sealed_at = Some(at(120));
            report.receiver = None;
        });
    }
    now.pass_with(3_000, &["b", "c"]);
    assert!(now.blocked_by("candidate"));
}

fn dead_without_doubt(now: &mut Situation) {
    now.pass(100);
    now.hear("a", |report| {
        report.server = Server::Down(Down::Crashed);
        report.streams.clear();
    });
}

fn ask(now: &Situation, from: u64, to: u64) -> Ruling {
    let request = Request::Forgo {
        service: clinic(),
        from: Lsn(from),
        to: Lsn(to),
        reason: "the site burned".into(),
    };
    rule_on(&now.cluster, &now.view, &request, ("operator", Timestamp(0)), now.now)
}

/// I-12: only by a person, only by the exact range, only when the primary is lost; and it is in
/// the history.
#[test]
fn i12_a_doubt_is_given_up_by_name_only() {
    let mut now = doubtful();
    assert!(matches!(ask(&now, 100, 150), Ruling::Refused(_)), "the primary lives");
    dead(&mut now, 150);
    let request = Request::Failover { service: clinic(), reason: "now".into() };
    let by = ("operator", Timestamp(0));
    let Ruling::Refused(findings) = rule_on(&now.cluster, &now.view, &request, by, now.now) else {
        panic!("silently")
    };
    let named = |text: &str| findings.iter().any(|finding| finding.text.contains(text));
    assert!(named("baton forgo clinic --range 0/64..0/96"), "{findings:?}");
    assert!(matches!(ask(&now, 100, 140), Ruling::Refused(_)), "another range");
    assert!(matches!(ask(&now, 0, 150), Ruling::Refused(_)), "another range");
    let Ruling::Granted { change, cause } = ask(&now, 100, 150) else { panic!("refused") };
    put(&mut now.cluster, *change, cause);
    let entry = now.cluster.history.back().unwrap();
    assert!(entry.text.contains("0/64..0/96") && entry.text.contains("burned"), "{entry:?}");
    // Its agent says again what was given up: it holds the commits still, and this is on record.
    dead(&mut now, 150);
    assert!(now.fails_over());
    // Alive after all, it may come into new doubt.
    now.hear("a", |report| {
        report.doubt = Some(at(190));
        report.server = writable(200);
    });
    assert!(matches!(run(&mut now)[..], [ServiceChange::Doubted { .. }]));
}

/// The instance that returns and takes the next epoch itself holds them: the doubt goes on.
#[test]
fn i12_a_later_primary_that_holds_the_doubt_ends_it() {
    let mut now = doubtful();
    now.hear("c", |report| {
        report.server = Server::Recovery { position: at(150), replayed: Lsn(90), admits: true };
    });
    dead(&mut now, 150);
    run(&mut now);
    now.pass(4_000);
    for (name, end) in [("b", 120), ("c", 155)] {
        now.hear(name, |report| {
            report.pledge.sealed = Epoch(1);
            report.sealed_at = Some(at(end));
            report.receiver = None;
        });
    }
    now.pass_with(3_000, &["b", "c"]);
    run(&mut now);
    let service = &now.cluster.services[&clinic()];
    assert_eq!(service.primary, Some(id("c")));
    assert!(service.doubts.is_empty());
    assert_eq!(service.floor, Some(at(155)));
}

/// What the log would not take is not proposed: it would be proposed again for ever.
#[test]
fn i12_i27_a_doubt_that_changes_nothing_is_not_proposed() {
    let mut now = Situation::new();
    now.hear("a", |report| {
        report.server = writable(120);
        report.checks.exposed = true;
    });
    assert_eq!(run(&mut now).len(), 1);
    // Its agent has forgotten why, and cannot say up to where.
    now.hear("a", |report| report.server = Server::Down(Down::Crashed));
    let made = run(&mut now);
    assert!(!made.iter().any(|change| matches!(change, ServiceChange::Doubted { .. })), "{made:?}");
    assert!(doubts(&now)[0].open, "nothing has closed it");
}

/// In the first epoch there is no floor: a doubt told by an agent whose server is down has no
/// place. Once the server says where it stands the doubt ends there, and settles like any other.
#[test]
fn i12_a_doubt_told_without_a_place_does_not_stay_open_for_ever() {
    let mut now = Situation::new();
    now.hear("a", |report| {
        report.server = Server::Starting;
        report.checks.exposed = true;
    });
    assert_eq!(run(&mut now).len(), 1);
    assert!(doubts(&now)[0].open);
    now.hear("a", |report| {
        report.server = writable(150);
        report.doubt = Some(at(150));
    });
    run(&mut now);
    assert!(!doubts(&now)[0].open, "{:?}", doubts(&now));
    now.hear("a", |report| {
        report.server = writable(160);
        report.doubt = Some(at(150));
        report.streams.iter_mut().for_each(|stream| stream.flushed = Lsn(160));
    });
    run(&mut now);
    assert!(doubts(&now).is_empty(), "{:?}", doubts(&now));
}

/// The doubt of an epoch whose primary returned and took the next one itself: its marker, flushed
/// under the rule, stands behind everything in doubt, also where the end was never told.
#[test]
fn i12_an_open_doubt_ends_with_the_marker_of_its_own_primary() {
    let mut now = Situation::new();
    now.hear("a", |report| {
        report.server = writable(120);
        report.checks.exposed = true;
    });
    run(&mut now);
    assert!(doubts(&now)[0].open);
    let service = now.cluster.services.get_mut(&clinic()).unwrap();
    service.epoch = Epoch(2);
    let returned = |report: &mut failover::Report, proven: bool| {
        report.pledge.granted = Epoch(2);
        report.server = writable(300);
        report.streams[0].flushed = Lsn(300);
        report.proof = proven
            .then_some(failover::report::Proof { epoch: Epoch(2), age: std::time::Duration::ZERO });
    };
    now.hear("a", |report| returned(report, false));
    assert!(run(&mut now).is_empty(), "not before its marker is durable");
    now.hear("a", |report| returned(report, true));
    assert_eq!(run(&mut now), [ServiceChange::Settled { upto: at(300) }]);
    assert!(doubts(&now).is_empty());
}

/// SC-54: a primary that was to be stopped ended waits, and returns because nobody else could be
/// had. Its agent still says that commits are in doubt: those of before, and no others.
#[test]
fn i12_a_returning_primary_opens_no_second_doubt_before_its_marker() {
    let mut now = Situation::new();
    now.hear("a", |report| {
        report.server = writable(120);
        report.checks.exposed = true;
    });
    run(&mut now);
    let service = now.cluster.services.get_mut(&clinic()).unwrap();
    service.epoch = Epoch(2);
    let returns = |report: &mut failover::Report| {
        report.pledge.granted = Epoch(2);
        report.server = Server::Starting;
        report.checks.exposed = true;
        report.proof = None;
    };
    now.hear("a", returns);
    assert!(run(&mut now).is_empty());
    assert_eq!(doubts(&now).len(), 1);
    assert!(now.blocked_by("doubt") || !now.fails_over(), "the open one bars as before");
    now.hear("a", |report| {
        returns(report);
        report.server = writable(300);
        report.proof =
            Some(failover::report::Proof { epoch: Epoch(2), age: std::time::Duration::ZERO });
    });
    run(&mut now);
    assert!(doubts(&now).iter().any(|doubt| doubt.epoch == Epoch(2) && doubt.open));
}

/// F-05: a standby that came back is seen twice until its former stream is given up.
#[test]
fn i12_one_that_came_back_counts_once() {
    let rule = Rule { instances: [id("b"), id("c")].into(), required: 2, ..Rule::default() };
    let stream = |name: &str, flushed: u64| Stream {
        instance: id(name),
        streaming: true,
        flushed: Lsn(flushed),
        caught_up: true,
    };
    let (former, back, other) = (stream("b", 140), stream("b", 150), stream("c", 100));
    assert_eq!(quorum::flushed(&rule, &[former.clone(), back.clone(), other]), Some(Lsn(100)));
    assert_eq!(quorum::flushed(&rule, &[former, back]), None);
}
