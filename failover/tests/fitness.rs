//! What is measured before it is needed, and what it changes.

#![expect(clippy::unwrap_used, reason = "what cannot be made fails the test")]

mod support;

use failover::checks::{
    Checks, Exposure, ExposureKind, Exposures, FloorSettings, RewindReady, Slot,
};
use failover::event::ServiceChange;
use failover::fitness::{Promise, zero_loss};
use failover::report::{Down, Server};
use failover::{Epoch, Lsn, Report, SystemIdentifier};
use support::{Situation, at, clinic, id};

fn promise(now: &Situation) -> Promise {
    let service = &now.cluster.services[&clinic()];
    zero_loss(service, &now.view, &now.cluster.topology.timing, now.now)
}

fn examined() -> Checks {
    Checks { exposures: Some(Exposures::default()), ..Checks::default() }
}

fn role() -> Exposures {
    Exposures {
        named: vec![Exposure {
            kind: ExposureKind::RoleOrDatabase,
            name: "role app".into(),
            detail: "synchronous_commit=off".into(),
        }],
        ..Exposures::default()
    }
}

/// I-10, I-37: zero loss is promised only when everything is known and nothing speaks against it.
#[test]
fn i10_i37_zero_loss_is_promised_only_when_it_is_known() {
    let mut now = Situation::new();
    assert!(matches!(promise(&now), Promise::Unknown(_)), "not examined yet");
    now.hear("a", |report| report.checks = examined());
    assert_eq!(promise(&now), Promise::Yes);
    now.hear("a", |report| report.checks.exposures = Some(role()));
    let Promise::No(reasons) = promise(&now) else { panic!("promised") };
    assert!(reasons[0].contains("role app: synchronous_commit=off"), "{reasons:?}");
    assert!(now.verdict().1.iter().any(|check| check == "durability-floor"));
    now.hear("a", |report| {
        report.checks = Checks { exposed: true, ..examined() };
    });
    assert!(matches!(promise(&now), Promise::No(_)), "overruled");
    now.hear("a", |report| {
        report.checks = examined();
        report.enforced = None;
    });
    assert!(matches!(promise(&now), Promise::Unknown(_)), "not proven");
    now.hear("a", |report| {
        report.checks.exposures =
            Some(Exposures { unseen: vec!["locked".into()], ..Exposures::default() });
    });
    assert!(matches!(promise(&now), Promise::No(_)), "a database was not looked into");
    now.hear("a", |report| report.checks = examined());
    now.pass(5_000);
    assert!(matches!(promise(&now), Promise::Unknown(_)), "not heard");
    now.hear("a", |report| report.checks = examined());
    now.cluster.services.get_mut(&clinic()).unwrap().rule.required = 0;
    assert!(matches!(promise(&now), Promise::No(_)), "a single copy");
}

fn found(change: impl FnOnce(&mut Report)) -> Vec<String> {
    let mut now = Situation::new();
    now.hear("a", |report| {
        let floor = FloorSettings { max_connections: 100, ..FloorSettings::default() };
        report.checks.floor = Some(floor);
    });
    now.hear("b", change);
    now.verdict().1
}

/// SC-29, SC-32, SC-46, SC-50, SC-57: known before the failover, not at it.
#[test]
fn i05_i37_what_speaks_against_a_candidate_is_told_before() {
    let told = |check: &str, change: &dyn Fn(&mut Report)| {
        let names = found(|report| change(report));
        assert!(names.iter().any(|name| name == check), "{check}: {names:?}");
    };
    assert!(!found(|_| {}).iter().any(|name| name == "wal-headroom"));
    told("wal-headroom", &|report| {
        report.checks.wal_free = Some(1 << 30);
        report.checks.wal_need = Some(2 << 30);
    });
    told("hot-standby-settings", &|report| {
        let floor = FloorSettings { max_connections: 50, ..FloorSettings::default() };
        report.checks.floor = Some(floor);
    });
    told("rewind-ready", &|report| {
        let ready = RewindReady { hints: false, full_pages: true, granted: true };
        report.checks.rewind = Some(ready);
    });
    told("slot-limit", &|report| {
        report.checks.slots =
            vec![Slot { name: "left".into(), holds: 2 << 30, active: false, lost: false }];
    });
    told("checksum-failures", &|report| report.checks.checksum_failures = 1);
    told("replay-backlog", &|report| {
        let position = at(1 << 30);
        report.server = Server::Recovery { position, replayed: Lsn(100), admits: true };
    });
    told("system-identifier", &|report| {
        report.system_identifier = Some(SystemIdentifier(8));
    });
    told("timeline", &|report| {
        let mut position = at(50);
        position.timeline = failover::Timeline(9);
        report.server = Server::Recovery { position, replayed: Lsn(100), admits: true };
    });
}

/// Both standbys sealed; `b` is preferred by declaration.
fn choice(b: (u64, Checks), c: (u64, Checks)) -> (Option<String>, Vec<String>) {
    let mut now = Situation::new();
    now.hear("a", |report| report.server = Server::Down(Down::Crashed));
    let (Some(started), _) = now.verdict() else { panic!("not begun") };
    assert!(matches!(started, ServiceChange::Started { .. }));
    let change = failover::event::Change::Service {
        service: clinic(),
        seen: failover::event::Seen {
            epoch: Epoch(1),
            step: None,
            generation: failover::Generation(1),
        },
        change: started,
    };
    let event = failover::Event {
        stamp: failover::event::Stamp::default(),
        by: "test".into(),
        cause: String::new(),
        plan: None,
        authority: None,
        change,
    };
    assert!(failover::apply(&mut now.cluster, &event));
    now.view.follow(&now.cluster, now.now);
    now.pass(4_000);
    now.hear("a", |report| report.server = Server::Down(Down::Crashed));
    for (name, (end, checks)) in [("b", b), ("c", c)] {
        now.hear(name, |report| {
            report.pledge.sealed = Epoch(1);
            report.sealed_at = Some(at(end));
            report.receiver = None;
            report.checks = checks;
        });
    }
    match now.verdict() {
        (Some(ServiceChange::PrimaryChosen { primary, examined, .. }), _) => {
            (Some(primary.to_string()), examined.into_iter().map(|e| e.verdict).collect())
        }
        (None, findings) => (None, findings),
        (Some(other), _) => panic!("{other:?}"),
    }
}

fn red() -> Checks {
    let ready = RewindReady { hints: false, full_pages: true, granted: true };
    Checks { rewind: Some(ready), ..Checks::default() }
}

fn full() -> Checks {
    Checks { wal_free: Some(1 << 20), ..Checks::default() }
}

/// I-05: positions first; among equals one without a concern; never one without room.
#[test]
fn i05_positions_come_before_fitness() {
    let fine = Checks::default;
    assert_eq!(choice((100, fine()), (100, fine())).0.as_deref(), Some("b"));
    let (chosen, verdicts) = choice((100, red()), (100, fine()));
    assert_eq!(chosen.as_deref(), Some("c"));
    assert!(verdicts[0].contains("rewind-ready"), "{verdicts:?}");
    let (chosen, _) = choice((120, red()), (100, fine()));
    assert_eq!(chosen.as_deref(), Some("b"), "it holds more, so it is promoted all the same");
    assert_eq!(choice((100, full()), (100, fine())).0.as_deref(), Some("c"));
    let (chosen, _) = choice((120, full()), (100, fine()));
    assert_eq!(chosen, None, "one cannot be promoted, the other lacks data");
    assert_eq!(id("b").to_string(), "b");
}
