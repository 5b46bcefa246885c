//! I-27: nothing that a peer sends can crash a voter, not even one whose certificate is good.

use std::time::Duration;

use failover::ids::VoterId;
use orchestrator::message::{Body, Entry, Envelope, Group, Kind, Members, Message, Snapshot};
use orchestrator::replica::Input;
use orchestrator::storage::first_saved;

use crate::world::{Dice, World};

const KINDS: [Kind; 10] = [
    Kind::Append,
    Kind::AppendResponse,
    Kind::Vote,
    Kind::VoteResponse,
    Kind::Snapshot,
    Kind::Heartbeat,
    Kind::HeartbeatResponse,
    Kind::TimeoutNow,
    Kind::PreVote,
    Kind::PreVoteResponse,
];

fn number(dice: &mut Dice) -> u64 {
    match dice.roll(8) {
        0 => 0,
        1 => u64::MAX - dice.roll(3),
        2 => 1 << dice.roll(64),
        _ => dice.roll(24),
    }
}

fn ids(dice: &mut Dice) -> Vec<u64> {
    (0..dice.roll(4)).map(|_| dice.roll(6)).collect()
}

fn entry(dice: &mut Dice, index: u64, term: u64) -> Entry {
    let body = match dice.roll(4) {
        0 => Body::Empty,
        1 => Body::Event(String::from("{\"what\":\"is this\"}")),
        2 => Body::Event(String::new()),
        _ => Body::Members(Members { add: ids(dice), remove: ids(dice), event: String::new() }),
    };
    Entry { term, index, id: "x".into(), body }
}

fn message(dice: &mut Dice) -> Message {
    let kind = KINDS[usize::try_from(dice.roll(10)).expect("small")];
    let (term, log_term, index) = (number(dice), number(dice), number(dice));
    let honest = dice.roll(2) == 0;
    let count = if kind == Kind::Append || dice.roll(10) == 0 { dice.roll(4) } else { 0 };
    let entries = (1..=count)
        .map(|offset| {
            let at = if honest { index.wrapping_add(offset) } else { number(dice) };
            let of = if honest { term } else { number(dice) };
            entry(dice, at, of)
        })
        .collect();
    let snapshot = (kind == Kind::Snapshot || dice.roll(20) == 0).then(|| {
        let group = Group {
            voters: ids(dice),
            learners: ids(dice),
            outgoing: if honest { vec![] } else { ids(dice) },
            learners_next: if honest { vec![] } else { ids(dice) },
            auto_leave: dice.roll(2) == 0,
        };
        Box::new(Snapshot {
            index: number(dice),
            term: number(dice),
            group,
            cluster: failover::Cluster::default(),
            audit: None,
        })
    });
    Message {
        kind,
        term,
        log_term,
        index,
        entries,
        commit: number(dice),
        commit_term: number(dice),
        snapshot,
        reject: dice.roll(2) == 0,
        reject_hint: number(dice),
        context: if dice.roll(2) == 0 { String::new() } else { "CampaignTransfer".into() },
        priority: i64::try_from(dice.roll(5)).expect("small") - 2,
    }
}

#[test]
fn i27_no_message_of_a_peer_can_crash_a_voter() {
    for seed in 0..60 {
        let mut world = World::new(3, seed);
        let leader = world.elected();
        world.run(Duration::from_millis(700));
        let mut dice = Dice(seed);
        for target in world.voters.keys().copied().collect::<Vec<_>>() {
            let from = VoterId(1 + target.0 % 3);
            let mut replica = world.voters.remove(&target).expect("it lives");
            let mut clocks = world.clocks();
            for _ in 0..600 {
                let envelope = Envelope {
                    cluster: "test".into(),
                    from,
                    to: target,
                    incarnation: format!("disk-{from}").into(),
                    expects: None,
                    joined: std::collections::BTreeMap::new(),
                    look: Vec::new(),
                    lacks: None,
                    records: Vec::new(),
                    messages: vec![message(&mut dice)],
                };
                let name = format!("v{from}").into();
                let _outputs =
                    replica.step(Input::Peer { name, envelope: Box::new(envelope) }, clocks);
                if dice.roll(4) == 0 {
                    clocks.now = clocks.now.after(crate::world::TICK);
                    let _outputs = replica.step(Input::Tick, clocks);
                }
                if replica.stopped().is_some() {
                    // An entry it cannot read: it said so and stopped (I-28). A fresh one.
                    world.disks.insert(target, (format!("disk-{target}"), first_saved(&[1, 2, 3])));
                    world.start(target);
                    replica = world.voters.remove(&target).expect("it was just started");
                }
            }
        }
        assert!(world.group.contains_key(&leader));
    }
}

/// A message counts only when its certificate, its number and its disk agree.
#[test]
fn i22_i32_a_stranger_is_not_heard() {
    let mut world = World::new(3, 5);
    let leader = world.elected();
    world.until("every disk to be recorded", |world| {
        world.voters.values().all(|replica| {
            replica.cluster().voters.len() == 3
                && replica.cluster().voters.values().all(|voter| voter.incarnation.is_some())
        })
    });
    let term = world.voters[&leader].term();
    let victim = VoterId(1 + leader.0 % 3);
    let other = VoterId(1 + victim.0 % 3);
    let envelope = |from: u64, to: u64, cluster: &str, disk: &str| Envelope {
        cluster: cluster.into(),
        from: VoterId(from),
        to: VoterId(to),
        incarnation: disk.into(),
        expects: None,
        joined: std::collections::BTreeMap::new(),
        look: Vec::new(),
        lacks: None,
        records: Vec::new(),
        messages: vec![Message {
            kind: Kind::Heartbeat,
            term: term + 50,
            log_term: 0,
            index: 0,
            entries: Vec::new(),
            commit: 0,
            commit_term: 0,
            snapshot: None,
            reject: false,
            reject_hint: 0,
            context: String::new(),
            priority: 0,
        }],
    };
    let (v, o) = (victim.0, other.0);
    let own = format!("disk-{o}");
    let attempts = [
        ("v77", envelope(77, v, "test", "disk-77")),
        ("v1", envelope(o % 3 + 1, v, "test", "disk-0")),
        ("somebody", envelope(o, v, "test", &own)),
        (&format!("v{o}"), envelope(o, v, "test", "emptied")),
        (&format!("v{o}"), envelope(o, v, "another", &own)),
        (&format!("v{o}"), envelope(o, o, "test", &own)),
        (&format!("v{v}"), envelope(v, v, "test", &format!("disk-{v}"))),
    ];
    for (name, envelope) in attempts {
        world.step(victim, Input::Peer { name: name.into(), envelope: Box::new(envelope) });
        assert_eq!(world.voters[&victim].term(), term, "{name}");
    }
}

/// A heartbeat that commits what this voter does not have is the sign of a lost log.
#[test]
fn i22_a_commit_beyond_the_log_is_refused() {
    let mut world = World::new(3, 6);
    let leader = world.elected();
    let victim = VoterId(1 + leader.0 % 3);
    let term = world.voters[&leader].term();
    let mut envelope = world.voters[&leader].envelope(victim);
    envelope.messages.push(Message {
        kind: Kind::Heartbeat,
        term,
        log_term: 0,
        index: 0,
        entries: Vec::new(),
        commit: 1_000_000,
        commit_term: 0,
        snapshot: None,
        reject: false,
        reject_hint: 0,
        context: String::new(),
        priority: 0,
    });
    let name = format!("v{leader}").into();
    world.step(victim, Input::Peer { name, envelope: Box::new(envelope) });
    assert!(world.voters[&victim].stopped().is_none());
}

/// I-28: an entry of an unknown version stops a voter with a reason; it neither guesses nor dies.
#[test]
fn i28_an_entry_that_cannot_be_read_stops_the_voter() {
    let mut world = World::new(3, 8);
    let leader = world.declare();
    let victim = VoterId(1 + leader.0 % 3);
    let replica = &world.voters[&leader];
    let (term, last) = (replica.term(), replica.applied());
    let mut envelope = replica.envelope(victim);
    let unknown = Entry {
        term,
        index: last.index + 1,
        id: String::new(),
        body: Body::Event(String::from("{\"stamp\":{},\"change\":\"of-the-future\"}")),
    };
    envelope.messages.push(Message {
        kind: Kind::Append,
        term,
        log_term: last.term,
        index: last.index,
        entries: vec![unknown],
        commit: last.index + 1,
        commit_term: 0,
        snapshot: None,
        reject: false,
        reject_hint: 0,
        context: String::new(),
        priority: 0,
    });
    let name = format!("v{leader}").into();
    world.step(victim, Input::Peer { name, envelope: Box::new(envelope) });
    let reason = world.voters[&victim].stopped().map(str::to_owned);
    assert!(reason.as_ref().is_some_and(|text| text.contains("cannot be read")), "{reason:?}");
}
