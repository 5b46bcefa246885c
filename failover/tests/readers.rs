//! Nobody is promoted while the former primary may still answer a reader (layer 3, decision 0010).

#![expect(clippy::unwrap_used, reason = "what cannot be made fails the test")]

mod support;

use failover::cluster::{Step, Transition, Trigger};
use failover::event::ServiceChange;
use failover::report::{Down, Server};
use failover::{Epoch, TransitionId};
use support::{Situation, at, clinic, id};

/// `a` was heard a moment ago and is cut off now; both standbys have sworn off its epoch.
fn declared_lost() -> Situation {
    let mut now = Situation::new();
    let service = now.cluster.services.get_mut(&clinic()).unwrap();
    service.transition = Some(Transition {
        id: TransitionId(1),
        trigger: Trigger::Failover,
        from: Some(id("a")),
        target: None,
        step: Step::Seal,
        given_up: None,
    });
    now.verdict();
    sealed(&mut now);
    now
}

fn sealed(now: &mut Situation) {
    now.pass(20);
    for name in ["b", "c"] {
        now.hear(name, |report| {
            report.pledge.sealed = Epoch(1);
            report.sealed_at = Some(at(100));
            report.receiver = None;
        });
    }
}

fn chooses(now: &mut Situation) -> bool {
    matches!(now.verdict().0, Some(ServiceChange::PrimaryChosen { .. }))
}

/// Seed 1814: two instances served at the same instant.
#[test]
fn i02_i03_the_seals_alone_do_not_open_the_way() {
    let mut now = declared_lost();
    assert!(now.blocked_by("former-fenced"));
    now.pass(2_000);
    sealed(&mut now);
    assert!(now.blocked_by("former-fenced"), "its lease may still last");
    now.pass(1_000);
    sealed(&mut now);
    assert!(chooses(&mut now), "suspect_after has passed since it was last granted one");
}

#[test]
fn i02_its_agent_says_that_nothing_runs() {
    let mut now = declared_lost();
    now.hear("a", |report| report.server = Server::Down(Down::Fenced));
    assert!(chooses(&mut now));
}

#[test]
fn i02_its_ports_refuse_seen_from_two_other_sites() {
    let mut now = declared_lost();
    now.refused_from("b");
    assert!(now.blocked_by("former-fenced"));
    now.refused_from("c");
    assert!(chooses(&mut now));
}

/// Seed 46: a stream that has ended since renewed its proof a moment before.
#[test]
fn i02_a_stream_that_has_ended_since_counts() {
    let mut now = Situation::new();
    for _ in 0..7 {
        now.pass(500);
        now.standbys(true);
    }
    let service = now.cluster.services.get_mut(&clinic()).unwrap();
    service.transition = Some(Transition {
        id: TransitionId(1),
        trigger: Trigger::PrimaryLost,
        from: Some(id("a")),
        target: None,
        step: Step::Seal,
        given_up: None,
    });
    now.verdict();
    sealed(&mut now);
    assert!(now.blocked_by("former-fenced"), "silent for long, and served until a moment ago");
}
