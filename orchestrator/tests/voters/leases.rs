//! Leases, and where leadership stands.

use failover::report::Pledge;
use failover::{Epoch, Report};
use std::time::Duration;

use failover::ids::VoterId;
use orchestrator::replica::{Input, Query, Reply};

use crate::world::{World, absent, instance, service};

/// A world whose service has its first primary, at site 1.
fn with_primary(seed: u64) -> (World, VoterId) {
    let mut world = World::new(3, seed);
    world.declare();
    for sequence in 1..100 {
        let leader = world.elected();
        world.report(leader, absent(1, sequence));
        world.report(leader, absent(2, sequence));
        world.run(Duration::from_millis(100));
        let cluster = world.voters[&leader].cluster();
        if cluster.services[&service()].primary.is_some() {
            let leader = world.elected();
            return (world, leader);
        }
    }
    panic!("no primary was chosen");
}

/// The primary's report once it has accepted its epoch.
fn accepted(sequence: u64) -> Report {
    let pledge = Pledge { sealed: Epoch(0), granted: Epoch(1), isolated: None };
    Report { pledge, ..absent(1, sequence) }
}

fn lease(reply: Option<&Reply>) -> Option<u64> {
    match reply {
        Some(Reply::Report(answer)) => answer.lease.map(|epoch| epoch.0),
        _ => None,
    }
}

#[test]
fn a_primary_is_given_a_lease_and_a_standby_none() {
    let (mut world, leader) = with_primary(1);
    assert_eq!(world.voters[&leader].cluster().services[&service()].primary, Some(instance(1)));
    let primary = world.report(leader, accepted(1_000));
    let standby = world.report(leader, absent(2, 1_000));
    assert!(world.reply(standby).is_some(), "a standby need not wait");
    assert_eq!(world.reply(primary), None, "not before a quorum has spoken");
    world.run(Duration::from_millis(50));
    assert_eq!(lease(world.reply(primary)), Some(1));
    assert_eq!(lease(world.reply(standby)), None);
    let early = world.report(leader, absent(1, 2_000));
    world.run(Duration::from_millis(50));
    assert_eq!(lease(world.reply(early)), None, "it has not accepted the epoch");
}

/// I-19: a leader that was cut off gives no lease, even before it knows that it is deposed.
#[test]
fn i19_no_lease_by_a_deposed_leader() {
    for seed in 0..20 {
        let (mut world, old) = with_primary(seed);
        let before = world.report(old, accepted(1_000));
        if seed % 2 == 0 {
            // The round has begun: its heartbeats are on the way.
            let moment = world.dice.roll(400);
            world.run(Duration::from_micros(moment));
        }
        world.isolate(old);
        let heard: Vec<_> = world.replies.iter().map(|(_, token, _)| *token).collect();
        let after = world.report(old, accepted(1_001));
        world.run(Duration::from_secs(8));
        assert_eq!(lease(world.reply(after)), None, "seed {seed}");
        assert_eq!(world.reply(after), Some(&Reply::NoLeader), "seed {seed}");
        if !heard.contains(&before) {
            assert_eq!(lease(world.reply(before)), None, "seed {seed}");
        }
        let new = world.elected();
        assert_ne!(new, old);
        let answered = world.report(new, accepted(1_002));
        world.run(Duration::from_millis(50));
        assert!(lease(world.reply(answered)).is_some(), "seed {seed}");
    }
}

/// I-26: a leader that was stopped, and with it all others, does not take the time that nobody
/// lived through for the silence of the primary.
#[test]
fn i26_a_leader_that_was_stopped_begins_anew() {
    let (mut world, leader) = with_primary(1);
    world.report(leader, accepted(1_000));
    world.run(Duration::from_millis(300));
    let age = |world: &mut World, id| {
        let token = world.token();
        world.step(id, Input::Query { token, query: Query::Status });
        let Some(Reply::Found(status)) = world.reply(token).cloned() else { panic!("no status") };
        status["services"][0]["instances"][0]["age_ms"].as_u64()
    };
    assert!(age(&mut world, leader).is_some(), "a report of 300 ms ago counts");
    // Everything is stopped for ten seconds; the first thing heard is no report.
    world.now = world.now.after(Duration::from_secs(10));
    let history = world.voters[&leader].cluster().history.len();
    world.step(leader, Input::Tick);
    assert_eq!(age(&mut world, leader), None, "nobody was silent: it was not there to hear");
    world.run(Duration::from_millis(500));
    assert_eq!(world.voters[&leader].cluster().history.len(), history, "nothing was done for it");
}

/// The loss of the primary's site must not cost an election too.
#[test]
fn leadership_moves_to_the_witness() {
    for seed in 0..10 {
        let (mut world, _) = with_primary(seed);
        // The bootstrap is a transition, and leadership stays while one is open: the law is
        // asked, not the clock.
        let open = world
            .voters
            .values()
            .any(|replica| replica.cluster().services[&service()].transition.is_some());
        world.run(Duration::from_secs(30));
        let leader = world.elected();
        if !open {
            assert_ne!(leader, VoterId(1), "seed {seed}");
        }
    }
}
