//! Elections, the log, restarts: under a bad network, the state is one.

use std::time::Duration;

use failover::Request;
use failover::ids::VoterId;
use orchestrator::replica::{Replica, Reply};

use crate::world::{World, service, topology};

#[test]
fn three_voters_elect_and_agree() {
    let mut world = World::new(3, 1);
    let leader = world.declare();
    let voters = &world.voters[&leader].cluster().voters;
    assert_eq!(voters.len(), 3);
    world.until("every disk to be recorded", |world| {
        world.voters.values().all(|replica| {
            replica.cluster().voters.values().all(|voter| voter.incarnation.is_some())
        })
    });
}

#[test]
fn a_single_voter_decides_alone() {
    let mut world = World::new(1, 1);
    let leader = world.elected();
    let request =
        Request::Apply { expected: 0, topology: Box::new(topology()), reason: "x".into() };
    let token = world.ask(leader, request);
    assert!(matches!(world.reply(token), Some(Reply::Accepted(_))), "{:?}", world.reply(token));
}

/// I-19: a minority never acts; and what it left open is answered as open (I-21).
#[test]
fn i19_a_minority_never_acts() {
    let mut world = World::new(3, 3);
    let old = world.declare();
    world.isolate(old);
    let hold = Request::Hold { service: service(), reason: "test".into() };
    let token = world.ask(old, hold);
    world.run(Duration::from_secs(5));
    assert!(matches!(world.reply(token), Some(Reply::InDoubt(_))), "{:?}", world.reply(token));
    assert!(!world.voters[&old].is_leader());
    let new = world.elected();
    assert_ne!(new, old);
    world.cut.clear();
    world.run(Duration::from_secs(5));
    let cluster = world.voters[&old].cluster();
    assert!(cluster.services[&service()].hold.is_none());
    assert_eq!(cluster, world.voters[&new].cluster());
}

/// Loss, delay, cuts and deaths; the checks in the world run after every step.
#[test]
fn i19_i22_one_state_under_faults() {
    for (count, seeds) in [(3, 0..40_u64), (5, 100..130)] {
        for seed in seeds {
            storm(count, seed);
        }
    }
}

fn storm(count: u64, seed: u64) {
    let mut world = World::new(count, seed);
    world.loss = 10;
    world.delay = 60_000;
    world.deaths = 30;
    for round in 0..40 {
        world.run(Duration::from_millis(500));
        let victim = VoterId(1 + world.dice.roll(count));
        match world.dice.roll(5) {
            0 => world.isolate(victim),
            1 => world.cut.clear(),
            2 => world.crash(victim),
            _ => {}
        }
        let all: Vec<VoterId> = world.group.keys().copied().collect();
        for id in all {
            if !world.voters.contains_key(&id) && world.dice.roll(3) == 0 {
                world.start(id);
            }
        }
        if let Some(leader) = world.leader() {
            let version = world.voters[&leader].cluster().topology_version;
            let mut next = topology();
            next.dns.ttl = Duration::from_secs(1 + round % 60);
            world.ask(
                leader,
                Request::Apply { expected: version, topology: Box::new(next), reason: "x".into() },
            );
        }
    }
    world.loss = 0;
    world.deaths = 0;
    world.cut.clear();
    let dead: Vec<VoterId> =
        world.group.keys().filter(|id| !world.voters.contains_key(id)).copied().collect();
    for id in dead {
        world.start(id);
    }
    world.until("all to agree once healed", |world| {
        let mut states = world.voters.values().map(|r| (r.applied(), r.cluster()));
        let first = states.next();
        world.leader().is_some() && states.all(|state| Some(state) == first)
    });
}

#[test]
fn one_seed_is_one_run() {
    let play = |seed| {
        let mut world = World::new(3, seed);
        world.loss = 10;
        world.delay = 30_000;
        world.deaths = 20;
        for _ in 0..20 {
            world.run(Duration::from_secs(1));
            let dead: Vec<VoterId> =
                world.group.keys().filter(|id| !world.voters.contains_key(id)).copied().collect();
            for id in dead {
                world.start(id);
            }
        }
        world.transcript
    };
    for seed in 0..5 {
        assert!(play(seed) == play(seed), "seed {seed} did not repeat");
    }
    assert!(play(1) != play(2));
}

/// A voter that was away while the log was cut is sent a snapshot, and the log stays short.
#[test]
fn a_voter_far_behind_is_sent_a_snapshot() {
    let mut world = World::new(3, 9);
    world.declare();
    world.run(Duration::from_secs(5));
    let leader = world.elected();
    let away = *world.group.keys().find(|id| **id != leader).expect("there are three");
    world.crash(away);
    for n in 0..150 {
        let leader = world.elected();
        let request = if n % 2 == 0 {
            Request::Hold { service: service(), reason: format!("{n}") }
        } else {
            Request::Resume { service: service(), reason: format!("{n}") }
        };
        let token = world.ask(leader, request);
        world.until("an answer", |world| world.reply(token).is_some());
        world.replies.clear();
    }
    assert!(world.disks[&leader].1.entries.len() < 60, "the log was not cut");
    assert!(world.disks[&leader].1.dropped.index > 80);
    world.loss = 60;
    world.start(away);
    world.run(Duration::from_secs(5));
    world.loss = 0;
    world.until("the voter to catch up", |world| {
        let leader = world.leader();
        let state = |id| world.voters.get(&id).map(Replica::cluster);
        leader.is_some_and(|leader| state(away) == state(leader))
    });
    assert!(world.disks[&away].1.dropped.index > 80, "no snapshot was installed");
    world.crash(away);
    world.start(away);
    world.until("the voter to be back", |world| {
        let leader = world.leader();
        let state = |id| world.voters.get(&id).map(Replica::cluster);
        leader.is_some_and(|leader| state(away) == state(leader))
    });
}

/// I-22: a voter whose disk was lost may neither vote nor lead under its old number.
#[test]
fn i22_an_emptied_voter_does_not_act() {
    let mut world = World::new(3, 4);
    world.declare();
    world.until("every disk to be recorded", |world| {
        world.voters.values().all(|replica| {
            replica.cluster().voters.values().all(|voter| voter.incarnation.is_some())
        })
    });
    let leader = world.elected();
    let emptied = *world.group.keys().find(|id| **id != leader).expect("there are three");
    world.crash(emptied);
    let fresh = orchestrator::storage::first_saved(&[1, 2, 3]);
    world.disks.insert(emptied, ("another-disk".into(), fresh));
    world.start(emptied);
    world.run(Duration::from_secs(10));
    let reason = world.voters[&emptied].stopped().map(str::to_owned);
    assert!(reason.as_ref().is_some_and(|text| text.contains("another disk")), "{reason:?}");
    // With it and without the third, there is no majority.
    let third = *world.group.keys().find(|id| **id != leader && **id != emptied).expect("three");
    world.crash(third);
    world.run(Duration::from_secs(5));
    assert_eq!(world.leader(), None);
}
