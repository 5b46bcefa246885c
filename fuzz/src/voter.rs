//! A voter and what its peers send it (I-27, I-22).
//!
//! Besides that nothing panics: what a voter has made durable is a past that it can start from
//! again. A peer that could make it write another one would have destroyed it.

use std::collections::BTreeMap;
use std::time::Duration;

use failover::cluster::Cluster;
use failover::ids::VoterId;
use failover::{Moment, Timestamp};
use orchestrator::log::{Batch, Saved};
use orchestrator::message::{Body, Entry, Envelope, Group, Kind, Members, Message, Snapshot};
use orchestrator::raft_log;
use orchestrator::replica::{Clocks, Input, Output, Replica, Setup};
use orchestrator::storage::{first_saved, fits};

use crate::draw::Draw;
use crate::place;

const TICK: Duration = Duration::from_millis(100);
const SELF: VoterId = VoterId(1);
/// So many inputs a run: what comes later has been seen before.
const INPUTS: usize = 96;

/// A voter with its disk and its clocks.
pub(crate) struct Alone {
    replica: Replica,
    saved: Saved,
    clocks: Clocks,
    /// What it said last to each of the others.
    last_sent: BTreeMap<VoterId, Message>,
}

impl Alone {
    pub(crate) fn new(saved: Saved) -> Self {
        let clocks = Clocks { now: Moment(1_000_000), wall: Timestamp(1_700_000_000_000) };
        Self { replica: start(&saved), saved, clocks, last_sent: BTreeMap::new() }
    }

    /// One input, its outputs carried out; whether the voter still acts.
    pub(crate) fn take(&mut self, input: Input) -> bool {
        for output in self.replica.step(input, self.clocks) {
            match output {
                Output::Persist(batch) => {
                    persist(&mut self.saved, &batch);
                    assert_eq!(fits(&self.saved), Ok(()), "it would refuse its own disk");
                }
                Output::Send { to, message } => {
                    self.last_sent.insert(to, *message);
                }
                Output::Stop(reason) => {
                    let known = reason.contains("cannot be read by this version")
                        || reason.contains("has another disk");
                    assert!(known, "a peer stopped this voter: {reason}");
                }
                Output::Reply { .. }
                | Output::Applied(_)
                | Output::Look(_)
                | Output::Lack { .. }
                | Output::Records { .. } => {}
            }
        }
        self.replica.stopped().is_none()
    }

    pub(crate) fn tick(&mut self) -> bool {
        self.clocks.now = self.clocks.now.after(TICK);
        self.take(Input::Tick)
    }

    fn restart(&mut self) {
        self.replica = start(&self.saved);
        self.last_sent.clear();
    }

    fn hear(&mut self, from: VoterId, message: Message) -> bool {
        let envelope = Envelope {
            cluster: "test".into(),
            from,
            to: SELF,
            incarnation: format!("disk-{from}").into(),
            expects: None,
            joined: BTreeMap::new(),
            look: Vec::new(),
            lacks: None,
            records: Vec::new(),
            messages: vec![message],
        };
        self.take(Input::Peer { name: format!("v{from}").into(), envelope: Box::new(envelope) })
    }
}

fn start(saved: &Saved) -> Replica {
    let setup = Setup {
        cluster: "test".into(),
        id: SELF,
        incarnation: "disk-1".into(),
        group: (1..=3).map(|id| (VoterId(id), place::voter(id))).collect(),
        election_timeout: TICK * 10,
        seed: 7,
        compact_after: 8,
    };
    Replica::new(setup, saved, &raft_log::silent()).expect("a disk that fits can be started from")
}

/// What a batch does to a disk: the same as `Store::persist`.
fn persist(saved: &mut Saved, batch: &Batch) {
    if batch.replaces {
        saved.entries.clear();
    } else if let Some(first) = batch.entries.first() {
        saved.entries.retain(|entry| entry.index < first.index);
    }
    if let Some(dropped) = batch.dropped {
        saved.entries.retain(|entry| entry.index > dropped.index);
        saved.dropped = dropped;
    }
    saved.entries.extend(batch.entries.iter().cloned());
    saved.hard = batch.hard.unwrap_or(saved.hard);
    saved.hole = batch.hole.unwrap_or(saved.hole);
    if let Some(snapshot) = &batch.snapshot {
        saved.snapshot = Some(snapshot.clone());
    }
}

/// Envelopes as the wire has them, one a line, to a voter that has just started; an empty line is
/// a tick.
pub fn peer_message(bytes: &[u8]) {
    let mut voter = Alone::new(first_saved(&[1, 2, 3]));
    for line in bytes.split(|byte| *byte == b'\n').take(INPUTS) {
        if line.is_empty() {
            if !voter.tick() {
                return;
            }
            continue;
        }
        let Ok(envelope) = serde_json::from_slice::<Envelope>(line) else { return };
        let again = serde_json::to_vec(&envelope).expect("an envelope is JSON");
        let again: Envelope = serde_json::from_slice(&again).expect("what is written is read");
        assert_eq!(again, envelope);
        let name = format!("v{}", envelope.from).into();
        if !voter.take(Input::Peer { name, envelope: Box::new(envelope) }) {
            return;
        }
    }
}

/// Messages drawn from the bytes, to a voter that votes, follows, leads and restarts on the way.
pub fn peer_sequence(bytes: &[u8]) {
    let mut draw = Draw(bytes);
    let mut voter = Alone::new(first_saved(&[1, 2, 3]));
    for _ in 0..INPUTS {
        if draw.is_over() {
            return;
        }
        let from = VoterId(2 + draw.below(2));
        let acts = match draw.below(10) {
            0 => voter.tick(),
            1 => (0..12).all(|_| voter.tick()),
            2 => {
                voter.restart();
                true
            }
            3..=5 => match voter.last_sent.get(&from).and_then(honest_answer) {
                Some(message) => voter.hear(from, message),
                None => voter.tick(),
            },
            _ => {
                let message = message(&mut draw, &voter.replica);
                voter.hear(from, message)
            }
        };
        if !acts {
            return;
        }
    }
}

/// What an honest voter that has everything would say: so the voter comes to lead.
fn honest_answer(asked: &Message) -> Option<Message> {
    let kind = match asked.kind {
        Kind::PreVote => Kind::PreVoteResponse,
        Kind::Vote => Kind::VoteResponse,
        Kind::Append | Kind::Snapshot => Kind::AppendResponse,
        Kind::Heartbeat => Kind::HeartbeatResponse,
        Kind::AppendResponse
        | Kind::VoteResponse
        | Kind::PreVoteResponse
        | Kind::HeartbeatResponse
        | Kind::TimeoutNow => return None,
    };
    let newest = asked.entries.last().map_or(asked.index, |entry| entry.index);
    let index = asked.snapshot.as_ref().map_or(newest, |snapshot| snapshot.index);
    Some(Message {
        index,
        commit: asked.commit.min(index),
        context: asked.context.clone(),
        ..plain(kind, asked.term)
    })
}

fn plain(kind: Kind, term: u64) -> Message {
    Message {
        kind,
        term,
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
    }
}

const KINDS: [Kind; 12] = [
    Kind::Append,
    Kind::Append,
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

fn message(draw: &mut Draw<'_>, replica: &Replica) -> Message {
    let kind = *draw.one(&KINDS);
    let (at, known) = (replica.applied(), replica.term());
    let term = draw.near(known);
    let log_term = draw.near(at.term);
    let index = draw.near(at.index);
    let count = if kind == Kind::Append { draw.below(4) } else { 0 };
    let tidy = draw.below(8) != 0;
    let entries = (1..=count)
        .map(|offset| Entry {
            index: if tidy { index.saturating_add(offset) } else { draw.near(index) },
            term: if tidy { term } else { draw.near(term) },
            id: String::new(),
            body: body(draw),
        })
        .collect();
    let snapshot = (kind == Kind::Snapshot || draw.byte() == 255).then(|| {
        Box::new(Snapshot {
            index: draw.near(at.index),
            term: draw.near(term),
            group: group(draw),
            cluster: Cluster::default(),
            audit: None,
        })
    });
    Message {
        log_term,
        index,
        entries,
        commit: draw.near(at.index),
        commit_term: if draw.yes() { 0 } else { draw.near(at.term) },
        snapshot,
        reject: draw.yes(),
        reject_hint: draw.near(at.index),
        context: if draw.below(4) == 0 { "CampaignTransfer".into() } else { String::new() },
        priority: i64::from(draw.byte()) - 4,
        ..plain(kind, term)
    }
}

fn ids(draw: &mut Draw<'_>) -> Vec<u64> {
    (0..draw.below(4)).map(|_| draw.below(6)).collect()
}

fn group(draw: &mut Draw<'_>) -> Group {
    if draw.yes() {
        return Group { voters: vec![1, 2, 3], ..Group::default() };
    }
    Group {
        voters: ids(draw),
        learners: ids(draw),
        outgoing: ids(draw),
        learners_next: ids(draw),
        auto_leave: draw.yes(),
    }
}

fn body(draw: &mut Draw<'_>) -> Body {
    match draw.below(5) {
        0 | 1 => Body::Empty,
        2 | 3 => Body::Members(Members { add: ids(draw), remove: ids(draw), event: String::new() }),
        _ => Body::Event(if draw.yes() { String::new() } else { "{}".into() }),
    }
}
