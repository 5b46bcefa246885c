//! Voters come and go.

use failover::Request;
use failover::ids::VoterId;
use orchestrator::log::{Hard, Place, Saved};
use orchestrator::message::Body;
use orchestrator::replica::{Replica, Reply};

use crate::world::{World, voter};

#[test]
fn a_voter_is_added_and_another_removed() {
    let mut world = World::new(3, 11);
    let leader = world.declare();
    world.group.insert(VoterId(4), voter(4));
    let empty = Saved {
        hard: Hard::default(),
        dropped: Place::default(),
        entries: Vec::new(),
        snapshot: None,
        hole: orchestrator::audit::Hole::default(),
    };
    world.disks.insert(VoterId(4), ("disk-4".into(), empty));
    world.start(VoterId(4));
    let token = world
        .ask(leader, Request::AddVoter { id: VoterId(4), voter: voter(4), reason: "x".into() });
    world.until("an answer", |world| world.reply(token).is_some());
    assert!(matches!(world.reply(token), Some(Reply::Accepted(_))), "{:?}", world.reply(token));
    world.until("the new voter to know everything", |world| {
        let state = |id| world.voters.get(&id).map(Replica::cluster);
        state(VoterId(4)) == state(leader) && world.disks[&VoterId(4)].1.snapshot.is_some()
    });

    let leader = world.elected();
    let gone = *world.group.keys().find(|id| **id != leader && id.0 != 4).expect("another");
    let token = world.ask(leader, Request::RemoveVoter { id: gone, reason: "x".into() });
    world.until("an answer", |world| world.reply(token).is_some());
    assert!(matches!(world.reply(token), Some(Reply::Accepted(_))), "{:?}", world.reply(token));
    world.until("everyone else to know", |world| {
        world
            .voters
            .iter()
            .filter(|(id, _)| **id != gone)
            .all(|(_, replica)| !replica.cluster().voters.contains_key(&gone))
    });
    // Three are left: one of them may go, and the removed one disturbs nobody.
    let leader = world.elected();
    world.crash(leader);
    world.until("another leader", |world| world.leader().is_some_and(|id| id != gone));
    let other = world.elected();
    assert!(world.voters[&other].cluster().voters.contains_key(&VoterId(4)));
    world.run(std::time::Duration::from_secs(20));
    assert!(!world.voters[&other].cluster().voters.contains_key(&gone), "it was described again");
}

#[test]
fn a_number_is_never_used_twice() {
    let mut world = World::new(3, 12);
    let leader = world.declare();
    let token = world
        .ask(leader, Request::AddVoter { id: VoterId(2), voter: voter(9), reason: "x".into() });
    world.until("an answer", |world| world.reply(token).is_some());
    assert!(matches!(world.reply(token), Some(Reply::Refused { .. })), "{:?}", world.reply(token));
}

/// A leader that is asked to remove itself hands leadership on first.
#[test]
fn a_leader_is_removed_by_its_successor() {
    let mut world = World::new(3, 13);
    let old = world.declare();
    world.run(std::time::Duration::from_secs(2));
    let token = world.ask(old, Request::RemoveVoter { id: old, reason: "x".into() });
    world.until("an answer", |world| world.reply(token).is_some());
    assert!(matches!(world.reply(token), Some(Reply::Refused { .. })), "{:?}", world.reply(token));
    world.until("another leader", |world| world.leader().is_some_and(|id| id != old));
    let leader = world.elected();
    world.run(std::time::Duration::from_secs(1));
    let token = world.ask(leader, Request::RemoveVoter { id: old, reason: "x".into() });
    world.until("an answer", |world| world.reply(token).is_some());
    assert!(matches!(world.reply(token), Some(Reply::Accepted(_))), "{:?}", world.reply(token));
    world.crash(old);
    world.run(std::time::Duration::from_secs(5));
    assert_eq!(world.elected(), leader);
}

/// A voter that is elected with its own removal in its log carries it through, and stops leading
/// then: Raft's library would let it lead on, and fall over its own absence.
#[test]
fn i27_a_leader_that_finds_itself_removed_steps_down() {
    let mut world = World::new(3, 14);
    let old = world.declare();
    let gone = VoterId(1 + old.0 % 3);
    let third = VoterId(1 + gone.0 % 3);
    // Nobody hears that it has arrived, so nothing is committed yet.
    world.cut.extend([(old, third), (gone, old)]);
    world.ask(old, Request::RemoveVoter { id: gone, reason: "x".into() });
    world.until("the removal to reach whom it removes", |world| {
        let entries = &world.disks[&gone].1.entries;
        entries.iter().any(|entry| matches!(entry.body, Body::Members(_)))
    });
    world.crash(old);
    world.cut.clear();
    world.until("it to lead", |world| world.leader() == Some(gone));
    world.start(old);
    world.until("another leader, who knows", |world| {
        world
            .leader()
            .is_some_and(|id| id != gone && !world.voters[&id].cluster().voters.contains_key(&gone))
    });
    assert!(!world.voters[&gone].is_leader());
    world.run(std::time::Duration::from_secs(20));
    let leader = world.elected();
    assert!(!world.voters[&leader].cluster().voters.contains_key(&gone), "it was described again");
}
