//! What counts as the loss of a primary, and what does not.

#![expect(clippy::unwrap_used, reason = "what cannot be made fails the test")]

mod support;

use core::time::Duration;

use failover::cluster::{Hold, Step, Transition, Trigger};
use failover::event::ServiceChange;
use failover::lease::Watchdog;
use failover::report::{Down, Pledge, Receiver, Server};
use failover::topology::OnLastCopy;
use failover::{
    Epoch, Lsn, Moment, Request, Ruling, Timestamp, TransitionId, View, decide, lease, rule_on,
};
use support::{Situation, at, clinic, cluster, id, report};

#[test]
fn a_healthy_service_is_left_alone() {
    assert_eq!(Situation::new().verdict().0, None);
}

/// SC-12: the control plane's way to the primary is cut, its stream lives.
#[test]
fn i24_i26_a_live_stream_is_proof_of_life() {
    let mut now = Situation::new();
    for _ in 0..20 {
        now.pass(500);
        now.standbys(true);
    }
    assert!(now.blocked_by("primary-streams"));
}

/// I-26: silence counts only once it has lasted, by every path.
#[test]
fn i26_silence_must_last_by_every_path() {
    let mut now = Situation::new();
    now.pass_with(2_900, &["b", "c"]);
    now.standbys(false);
    assert!(!now.fails_over());
    now.pass(200);
    now.standbys(false);
    assert!(now.fails_over());
}

/// A standby whose agent was away may have acknowledged meanwhile, whatever it says now: all that
/// must be sealed have to be heard throughout.
#[test]
fn i26_silence_counts_with_witnesses_only() {
    let mut now = Situation::new();
    now.pass_with(1_000, &["b", "c"]);
    now.pass_with(1_500, &["b"]);
    now.hear("c", |report| report.receiver = None);
    now.pass_with(1_000, &["b", "c"]);
    assert!(now.blocked_by("primary-witnesses"), "{:?}", now.verdict());
    now.pass_with(1_900, &["b", "c"]);
    assert!(now.blocked_by("primary-witnesses"), "{:?}", now.verdict());
    now.pass_with(200, &["b", "c"]);
    assert!(now.fails_over(), "{:?}", now.verdict());
}

/// Who holds a stream that has not ended knows for how long nothing came, heard or not.
#[test]
fn i26_a_stream_that_has_not_ended_is_its_own_witness() {
    let mut now = Situation::new();
    now.pass_with(3_000, &["b"]);
    now.pass(100);
    now.hear("b", |report| report.receiver.as_mut().unwrap().age = Duration::from_millis(3_100));
    now.hear("c", |report| report.receiver.as_mut().unwrap().age = Duration::from_millis(2_900));
    assert!(now.blocked_by("primary-streams"), "{:?}", now.verdict());
    now.pass_with(150, &["b", "c"]);
    assert!(now.fails_over(), "{:?}", now.verdict());
}

/// An agent to which its PostgreSQL does not answer goes on reporting what it last saw. That is no
/// silence of the primary, whatever the stream was; it counts from when it is looked at again.
#[test]
fn i26_who_cannot_look_is_no_witness() {
    for streams in [true, false] {
        let mut now = Situation::new();
        now.pass_with(1_000, &["b", "c"]);
        now.standbys(streams);
        for tick in 1..=20 {
            let age = Duration::from_millis(500 * tick);
            now.pass_with(500, &["b"]);
            now.hear("c", |report| {
                report.looked = Some(age);
                report.receiver = Some(Receiver { upstream: id("a"), streaming: streams, age });
            });
            assert!(!now.fails_over(), "{age:?}: {:?}", now.verdict());
        }
        let findings = decide(&now.cluster, &now.view, now.now).remove(&clinic()).unwrap().findings;
        let says = findings.iter().find(|finding| finding.check == "primary-witnesses").unwrap();
        assert!(says.text.ends_with("Not known of c"), "{}", says.text);
        now.hear("c", |report| report.receiver = None);
        now.pass_with(2_500, &["b", "c"]);
        assert!(now.blocked_by("primary-witnesses"), "{:?}", now.verdict());
        now.pass_with(1_000, &["b", "c"]);
        assert!(now.fails_over(), "{:?}", now.verdict());
    }
}

/// What an agent does not say is unknown, and never good (I-37).
#[test]
fn i26_an_agent_that_does_not_say_when_it_looked_is_no_witness() {
    let mut now = Situation::new();
    for _ in 0..20 {
        now.pass_with(500, &["b"]);
        now.hear("c", |report| (report.looked, report.receiver) = (None, None));
    }
    assert!(now.blocked_by("primary-witnesses"), "{:?}", now.verdict());
}

/// The rest cannot release a commit: one of three may be away when two are required.
#[test]
fn i26_as_many_witnesses_as_must_be_sealed_are_enough() {
    let mut now = Situation::new();
    let service = now.cluster.services.get_mut(&clinic()).unwrap();
    service.rule.required = 2;
    service.rule.enforce.required = 2;
    service.spec.on_last_copy = OnLastCopy::SingleCopy;
    now.pass_with(2_900, &["b"]);
    assert!(!now.fails_over());
    now.pass_with(300, &["b"]);
    assert!(now.fails_over(), "{:?}", now.verdict());
}

/// Layer 3: a stream that ended a moment ago vouches for the lease that it renewed.
#[test]
fn i02_a_stream_that_just_ended_is_waited_for() {
    let mut now = Situation::new();
    for _ in 0..20 {
        now.pass(500);
        now.standbys(true);
    }
    now.pass(500);
    now.standbys(false);
    assert!(!now.fails_over());
    for _ in 0..6 {
        now.pass(500);
        now.standbys(false);
    }
    assert!(now.fails_over());
}

#[test]
fn i26_two_other_sites_must_see_both_ports_refuse() {
    let mut now = Situation::new();
    now.pass(100);
    now.refused_from("a");
    now.refused_from("b");
    assert!(!now.fails_over(), "the primary's own site does not count");
    now.refused_from("c");
    assert!(now.fails_over());
    now.pass(10);
    now.hear("a", |_| {});
    assert!(!now.fails_over(), "heard since");
}

#[test]
fn i26_its_own_agent_says_that_it_died() {
    let mut now = Situation::new();
    now.pass(100);
    now.hear("a", |report| report.server = Server::Down(Down::Crashed));
    assert!(now.fails_over());
}

/// I-26: a report of the agent's run before, held up by a voter that was stopped, is no news.
#[test]
fn i26_a_report_of_a_run_that_has_ended_is_no_news() {
    let mut now = Situation::new();
    let restarted = |report: &mut failover::report::Report| report.run = 2;
    now.pass(100);
    now.hear("a", restarted);
    now.hear("a", |report| {
        report.sequence = 900;
        report.server = Server::Down(Down::Crashed);
    });
    assert!(!now.fails_over(), "it died in the life before");
    now.pass(100);
    now.hear("a", |report| {
        restarted(report);
        report.server = Server::Down(Down::Crashed);
    });
    assert!(now.fails_over(), "and again in this one");
}

/// I-26: nor is it when this leader never heard of that run while it lasted, and the run that
/// reports now goes on being heard.
#[test]
fn i26_a_report_of_an_ended_run_that_nobody_heard_is_no_news() {
    let mut now = Situation::new();
    let restarted = |report: &mut failover::report::Report| report.run = 2;
    now.view = failover::View::new(2, now.now);
    now.hear("a", restarted);
    now.standbys(true);
    now.hear("a", |report| {
        report.sequence = 900;
        report.server = Server::Down(Down::Crashed);
    });
    assert!(!now.fails_over(), "it died in the life before");
    now.hear("a", |report| {
        restarted(report);
        report.server = Server::Down(Down::Crashed);
    });
    assert!(now.fails_over(), "it is heard");
}

/// I-19: nor one that was made before this leader began, whatever held it up.
#[test]
fn i19_a_report_of_before_the_election_is_evidence_of_nothing() {
    let mut now = Situation::new();
    let before = now.view.echo(now.now);
    now.pass(100);
    now.view = failover::View::new(2, now.now);
    now.standbys(true);
    let died = |echo| {
        move |report: &mut failover::report::Report| {
            report.echo = echo;
            report.server = Server::Down(Down::Crashed);
        }
    };
    now.hear("a", died(Some(before)));
    now.hear("a", died(None));
    assert!(!now.fails_over(), "it may have died long ago");
    let early = failover::report::Echo { term: 2, at: now.now.0 - 1 };
    now.hear("a", died(Some(early)));
    assert!(!now.fails_over(), "this leader had not begun then");
    let late = failover::report::Echo { term: 2, at: now.now.0 + 1 };
    now.hear("a", died(Some(late)));
    assert!(!now.fails_over(), "nobody said that yet");
    now.hear("a", |report| report.server = Server::Down(Down::Crashed));
    assert!(now.fails_over());
}

/// I-26: what was held up for long says nothing of the present, though this leader led then.
#[test]
fn i26_a_report_that_was_held_up_is_no_word_of_the_present() {
    let mut now = Situation::new();
    let then = now.view.echo(now.now);
    now.pass(5_000);
    now.standbys(true);
    now.hear("a", |report| {
        report.echo = Some(then);
        report.server = Server::Down(Down::Crashed);
    });
    assert!(!now.fails_over());
}

/// I-26: an empty machine in its place is no restart. It reports, so nothing is ever silent, and
/// waiting for `suspect_after` of silence would be waiting for ever.
#[test]
fn i26_a_primary_whose_machine_came_back_empty_is_replaced() {
    let mut now = Situation::new();
    let empty = |report: &mut failover::report::Report| {
        report.run = 2;
        report.pledge = Pledge::default();
        report.server = Server::Absent;
        report.system_identifier = None;
        report.streams = Vec::new();
        report.proof = None;
        report.enforced = None;
    };
    now.pass(900);
    now.hear("a", empty);
    now.standbys(false);
    assert!(now.fails_over(), "within suspect_after");
    // One that was just chosen and has not accepted its epoch may well have no server yet.
    let service = now.cluster.services.get_mut(&clinic()).unwrap();
    service.transition = Some(Transition {
        id: TransitionId(1),
        trigger: Trigger::PrimaryLost,
        from: Some(id("b")),
        target: None,
        step: Step::Promote,
        given_up: None,
    });
    assert!(!now.fails_over());
}

/// SC-27, SC-128: it reports, so nothing is silent; it hangs all the same.
#[test]
fn i26_a_primary_that_hangs_is_lost_after_a_while() {
    let hangs = |millis| {
        let mut now = Situation::new();
        now.pass(100);
        now.hear("a", |report| report.checks.hangs = Duration::from_millis(millis));
        now.fails_over()
    };
    assert!(!hangs(5_900), "a grey disk is slow for as long");
    assert!(hangs(6_000));
}

/// A hang is no better reason than any other: nobody is moved to where commits could not go on.
#[test]
fn i26_what_stands_in_the_way_of_any_failover_keeps_one_that_hangs() {
    let mut now = Situation::new();
    now.pass(4_000);
    now.hear("a", |report| report.checks.hangs = Duration::from_mins(1));
    assert!(!now.fails_over(), "nobody could be sealed");
}

/// I-19, I-24: a new leader has no evidence, and takes nobody's silence before its own time.
#[test]
fn i19_a_new_leader_starts_deaf() {
    let mut now = Situation::new();
    now.view = View::new(2, now.now);
    now.pass(900);
    now.standbys(false);
    assert!(!now.fails_over());
    now.pass_with(2_200, &["b", "c"]);
    assert!(now.fails_over());
}

#[test]
fn i06_without_enough_to_seal_nothing_is_begun() {
    let mut now = Situation::new();
    now.pass(3_100);
    now.hear("b", |report| report.receiver = None);
    assert!(now.blocked_by("seal-quorum"));
}

#[test]
fn i25_a_hold_and_an_unacknowledged_failover_bar_the_next() {
    let mut now = Situation::new();
    now.hear("a", |report| report.server = Server::Down(Down::Crashed));
    now.cluster.services.get_mut(&clinic()).unwrap().hold =
        Some(Hold { by: "x".into(), reason: "y".into(), since: Timestamp(0) });
    assert!(now.blocked_by("hold"));
    let service = now.cluster.services.get_mut(&clinic()).unwrap();
    service.hold = None;
    service.unacknowledged = Some(TransitionId(1));
    assert!(now.blocked_by("failover-window"));
    now.pass(601_000);
    now.standbys(true);
    now.hear("a", |report| report.server = Server::Down(Down::Crashed));
    assert!(now.fails_over(), "the window has passed");
}

/// I-12: a cancelled wait is recorded, and raises what a later primary must hold.
#[test]
fn i12_a_cancelled_wait_is_recorded() {
    let mut now = Situation::new();
    now.hear("a", |report| report.doubt = Some(at(150)));
    assert_eq!(
        now.verdict().0,
        Some(ServiceChange::Doubted { position: at(150), from: Lsn(100), open: false })
    );
}

/// I-05: a candidate must be earned.
/// Seed 2491: the primary's disk was lost while its standby was on its way back. Its record counted
/// one that had everything, and was narrowed on the word of a primary that was gone.
#[test]
fn the_rule_of_a_primary_that_is_overdue_is_left_as_it_is() {
    let mut now = Situation::new();
    let alone = |report: &mut failover::report::Report| {
        report.streams.retain(|stream| stream.instance != id("c"));
    };
    now.hear("a", alone);
    for _ in 0..60 {
        now.pass(100);
        now.hear("a", alone);
        now.hear("b", |_| {});
    }
    let narrows = |change| matches!(change, Some(ServiceChange::RuleRecorded { .. }));
    assert!(narrows(now.verdict().0), "the primary lives, and its standby is gone");
    let heartbeat = now.cluster.topology.timing.heartbeat.as_millis();
    now.pass(u64::try_from(heartbeat * 3 / 2).unwrap());
    assert!(!narrows(now.verdict().0), "nobody knows whether it lives");
    now.hear("a", alone);
    assert!(narrows(now.verdict().0), "it does");
}

/// Nobody waits for the deadline of a switchover whose primary is gone.
#[test]
fn a_primary_lost_while_it_prepares_is_failed_over() {
    let mut now = Situation::new();
    let service = now.cluster.services.get_mut(&clinic()).unwrap();
    service.transition = Some(Transition {
        id: TransitionId(1),
        trigger: Trigger::Switchover,
        from: Some(id("a")),
        target: Some(id("b")),
        step: Step::Quiesce,
        given_up: None,
    });
    now.pass(900);
    now.standbys(true);
    assert_eq!(now.verdict().0, None, "it is waited for");
    now.hear("a", |report| report.server = Server::Down(Down::Crashed));
    assert_eq!(now.verdict().0, Some(ServiceChange::Aborted));
    now.hear("a", |_| {});
    now.pass_with(5_000, &["b", "c"]);
    now.standbys(false);
    assert_eq!(now.verdict().0, Some(ServiceChange::Aborted), "within the deadline");
}

#[test]
fn i05_a_switchover_needs_a_candidate_of_the_rule() {
    let mut now = Situation::new();
    let ask = |to: &str| Request::Switchover {
        service: clinic(),
        to: Some(id(to)),
        reason: "because".into(),
    };
    let rule = |now: &Situation, to| {
        let by = ("operator", Timestamp(0));
        matches!(rule_on(&now.cluster, &now.view, &ask(to), by, now.now), Ruling::Granted { .. })
    };
    assert!(rule(&now, "b"));
    assert!(!rule(&now, "a"), "the primary already");
    assert!(!rule(&now, "stranger"));
    now.cluster.services.get_mut(&clinic()).unwrap().rule.instances = [id("c")].into();
    assert!(!rule(&now, "b"), "not in the rule");
}

/// I-03: the watchdog is fed only while the deadline holds.
#[test]
fn i03_the_watchdog_is_fed_only_while_the_deadline_holds() {
    let (before, at, after) = (Moment(9), Moment(10), Moment(11));
    for (runs, deadline, now, expected) in [
        (true, Some(at), before, Watchdog::Feed),
        (true, Some(at), at, Watchdog::Starve),
        (true, Some(at), after, Watchdog::Starve),
        (true, None, after, Watchdog::Off),
        (false, Some(at), after, Watchdog::Off),
        (false, None, before, Watchdog::Off),
    ] {
        assert_eq!(lease::watchdog(runs, deadline, now), expected, "{runs} {deadline:?} {now:?}");
    }
}

/// I-19, I-20: a lease is for the primary that accepted the epoch, and for nobody on the way out.
#[test]
fn i20_a_lease_is_for_the_accepted_epoch_only() {
    let mut cluster = cluster();
    assert_eq!(lease::grant(&cluster, &report("a", 1)), Some(Epoch(1)));
    assert_eq!(lease::grant(&cluster, &report("b", 1)), None);
    cluster.services.get_mut(&clinic()).unwrap().epoch = Epoch(2);
    assert_eq!(lease::grant(&cluster, &report("a", 1)), None);
}
