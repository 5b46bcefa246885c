//! A voter's loop, as `orchestrator::run` has it: one input, its outputs in their order, and what
//! follows a write leaves only when the write is on disk.

use failover::ids::VoterId;
use orchestrator::message::Envelope;
use orchestrator::projection::Projection;
use orchestrator::replica::{Input, Output, Replica, Reply, Whom};

use super::parts::Body;
use super::{Event, World};
use crate::network::Plane;
use crate::voter::{Inbound, RETRY_DISK, Voter};

/// What a flush takes, in microseconds: at the least, at the most.
const FLUSH: (u64, u64) = (200, 2_500);

/// One envelope for each voter that is sent something, in the order of their numbers.
#[derive(Default)]
#[expect(clippy::vec_box, reason = "each goes on its way in the box that it is made in")]
struct Post(Vec<Box<Envelope>>);

impl Post {
    fn to(&mut self, to: VoterId, replica: &Replica) -> &mut Envelope {
        let place = match self.0.binary_search_by_key(&to, |envelope| envelope.to) {
            Ok(place) => place,
            Err(place) => {
                self.0.insert(place, Box::new(replica.envelope(to)));
                place
            }
        };
        &mut self.0[place]
    }
}

/// Where the next tick of a voter stands in the queue.
fn slot(voter: u8) -> usize {
    2 * usize::from(voter) + 1
}

impl World {
    pub(crate) fn start_voter(&mut self, index: usize) {
        let voter = &mut self.voters[index];
        if !voter.powered || voter.process.is_some() {
            return;
        }
        voter.start(&self.common, &self.logger, self.now);
        let (index, run) = (u8::try_from(index).unwrap_or(u8::MAX), voter.run);
        let first = self.dice.roll(100_000);
        self.queue.set(slot(index), self.now.after(first), Event::Tick { voter: index, run });
    }

    pub(crate) fn tick(&mut self, index: u8, run: u32) {
        let voter = &mut self.voters[usize::from(index)];
        if voter.run != run || voter.process.is_none() {
            return;
        }
        let now = voter.clock.moment(self.now);
        let next = voter.clock.at(now.after(Voter::tick_every(&self.common)));
        self.queue.set(slot(index), next, Event::Tick { voter: index, run });
        if voter.paused {
            return;
        }
        self.retry_disk(index);
        self.expire_polls(index);
        self.ask_name_servers(index);
        let voter = &mut self.voters[usize::from(index)];
        let clocks = voter.clocks(self.now);
        let Some(process) = &mut voter.process else { return };
        if process.is_idle() {
            process.outputs.extend(process.replica.step(Input::Tick, clocks));
            self.carry_out(index);
        } else {
            process.tick_missed = true;
        }
    }

    /// Puts an input before a voter: now, or when it is done with the one before.
    pub(crate) fn voter_input(&mut self, index: u8, inbound: Inbound) {
        let voter = &mut self.voters[usize::from(index)];
        let (clocks, paused) = (voter.clocks(self.now), voter.paused);
        let Some(process) = &mut voter.process else { return };
        if paused || !process.is_idle() {
            process.enqueue(inbound);
            return;
        }
        process.take(inbound, clocks);
        self.carry_out(index);
    }

    /// What was being written is on disk.
    pub(crate) fn synced(&mut self, index: u8, run: u32) {
        let voter = &mut self.voters[usize::from(index)];
        if voter.run != run {
            return;
        }
        let Some(process) = &mut voter.process else { return };
        let Some(batch) = process.writing.take() else { return };
        if voter.disk.full {
            self.disk_failed(index);
            return;
        }
        self.oracle.recorded(&voter.disk, &batch);
        voter.disk.write(*batch);
        if !voter.paused {
            self.carry_out(index);
        }
    }

    /// Carries outputs out up to the next write; when there are none left, the next input.
    pub(crate) fn carry_out(&mut self, index: u8) {
        loop {
            if !self.carry_out_some(index) {
                return;
            }
            self.publish(index);
            let voter = &mut self.voters[usize::from(index)];
            let clocks = voter.clocks(self.now);
            let Some(process) = &mut voter.process else { return };
            if voter.paused {
                return;
            }
            if process.tick_missed {
                process.tick_missed = false;
                process.outputs.extend(process.replica.step(Input::Tick, clocks));
            } else if let Some(inbound) = process.inbox.pop_front() {
                process.take(inbound, clocks);
            } else {
                return;
            }
        }
    }

    /// `false`: it waits for its disk, or is gone.
    fn carry_out_some(&mut self, index: u8) -> bool {
        // Whoever woke it: what stands behind a write waits for that write.
        let process = self.voters[usize::from(index)].process.as_ref();
        if process.is_none_or(|process| process.writing.is_some()) {
            return false;
        }
        let mut post = Post::default();
        loop {
            let voter = &mut self.voters[usize::from(index)];
            let Some(process) = &mut voter.process else { return false };
            let Some(output) = process.outputs.pop_front() else { break };
            if self.trap.is_some() && self.sprung_by(index, &output) {
                return false;
            }
            let voter = &mut self.voters[usize::from(index)];
            let Some(process) = &mut voter.process else { return false };
            match output {
                Output::Send { to, message } => {
                    post.to(to, &process.replica).messages.push(*message);
                }
                Output::Persist(batch) => {
                    process.writing = Some(batch);
                    let run = voter.run;
                    let (low, high) = FLUSH;
                    let slow = voter.disk.slow;
                    let at = self.now.after(self.dice.between(low, high)).plus(slow);
                    self.queue.push(at, Event::Synced { voter: index, run });
                    self.deliver(index, post);
                    return false;
                }
                Output::Reply { token, reply } => {
                    if let Some(asker) = process.pending.remove(&token) {
                        let term = process.replica.term();
                        self.grants(asker, &reply, term);
                        self.reply(index, asker, reply);
                    }
                }
                Output::Applied(_) => {
                    process.changed = true;
                    self.applied(index);
                }
                Output::Look(instance) => {
                    let peers = process.replica.peers();
                    for (peer, _) in peers {
                        post.to(peer, &process.replica).look.push(instance.clone());
                    }
                    self.look_at(index, &instance);
                }
                Output::Lack { to, from } => {
                    post.to(to, &process.replica).lacks = Some(from);
                }
                Output::Records { whom, from } => {
                    self.give_records(index, (whom, from), &mut post);
                }
                Output::Stop(reason) => {
                    self.say(|| format!("voter {index} stops acting: {reason}"));
                    self.oracle.voter_stopped(index, &reason);
                }
            }
        }
        self.deliver(index, post);
        true
    }

    fn give_records(&mut self, index: u8, (whom, from): (Whom, u64), post: &mut Post) {
        let voter = &mut self.voters[usize::from(index)];
        let (Some(process), lines) = (&mut voter.process, voter.disk.page(from)) else { return };
        match whom {
            Whom::Voter(to) => {
                post.to(to, &process.replica).records = lines;
                self.coverage.hit("voter: fetches audit records");
            }
            Whom::Asker { token, mut page } => {
                page.lines = lines;
                if let Some(asker) = process.pending.remove(&token) {
                    self.reply(index, asker, Reply::found(&*page));
                }
            }
        }
    }

    fn deliver(&mut self, index: u8, post: Post) {
        let from = self.voters[usize::from(index)].place;
        for envelope in post.0 {
            let Some(voter) = self.voter_index(envelope.to) else { continue };
            let place = self.voters[usize::from(voter)].place;
            self.send(Plane::Raft, from, place, Body::Peer { voter, sender: index, envelope });
        }
    }

    /// After an input: what others may know of this voter, and what the change of state means.
    fn publish(&mut self, index: u8) {
        let voter = &mut self.voters[usize::from(index)];
        let Some(process) = &mut voter.process else { return };
        let standing = process.stands();
        let led = !process.standing.leads && standing.leads;
        let term = process.replica.term();
        process.standing = standing;
        let (place, end) = (process.replica.applied(), process.replica.audit_head());
        self.oracle.chained(place.index, end.unwrap_or_default());
        if process.changed {
            process.changed = false;
            process.projection = Projection::of(process.replica.cluster());
            process.zone = process.projection.zone.clone();
            self.answer_polls(index);
            self.ask_name_servers_now(index);
        }
        if led {
            let name = self.voters[usize::from(index)].name.clone();
            self.say(|| format!("{name} leads"));
            self.coverage.hit("raft: elected");
            self.oracle.elected(index, term, &self.voters, self.now);
            self.ask_name_servers_now(index);
        }
    }

    fn applied(&mut self, index: u8) {
        let voters = &self.voters;
        let Some(process) = &voters[usize::from(index)].process else { return };
        let (place, cluster) = (process.replica.applied(), process.replica.cluster());
        for (other, voter) in voters.iter().enumerate() {
            let Some(process) = voter.process.as_ref().filter(|_| other != usize::from(index))
            else {
                continue;
            };
            let same = process.replica.applied() == place;
            if same && process.replica.cluster() != cluster {
                let text = format!(
                    "I-19: two states at entry {}: {}",
                    place.index,
                    difference(cluster, process.replica.cluster())
                );
                self.oracle.violate(&text);
            }
            let index = process.replica.applied().index;
            if index == place.index && process.replica.applied().term != place.term {
                let text = format!("I-19: two entries at {}", place.index);
                self.oracle.violate(&text);
            }
        }
        self.oracle.durable(place, cluster, &self.voters);
        if self.oracle.is_disturbed() && self.is_calm() {
            self.oracle.disturbed(true, true, self.now);
        }
        let Some(process) = &self.voters[usize::from(index)].process else { return };
        let cluster = process.replica.cluster();
        if place.index > self.oracle.index {
            let eyes = self.eyes();
            self.oracle.seen_from(eyes);
        }
        let news = self.oracle.applied(place.index, cluster, &self.machines, self.now);
        for text in news {
            self.say(|| text);
        }
        self.coverage.applied(&self.oracle);
    }

    /// Nothing more is said that rests on what is not on disk.
    fn disk_failed(&mut self, index: u8) {
        let reason = "the disk failed: no space left on device";
        self.coverage.hit("voter: disk failed");
        self.say(|| format!("voter {index} stops acting: {reason}"));
        let voter = &mut self.voters[usize::from(index)];
        let now = voter.clock.moment(self.now);
        let Some(process) = &mut voter.process else { return };
        process.outputs.clear();
        process.replica.stop(reason.into());
        process.retry = Some(now.after(RETRY_DISK));
        let waiting = process.drain(reason);
        process.standing = process.stands();
        for (asker, reply) in waiting {
            self.reply(index, asker, reply);
        }
        if !self.voters[usize::from(index)].paused {
            self.carry_out(index);
        }
    }

    fn retry_disk(&mut self, index: u8) {
        let voter = &mut self.voters[usize::from(index)];
        let now = voter.clock.moment(self.now);
        let due = voter.process.as_ref().and_then(|process| process.retry);
        if due.is_none_or(|at| now < at) {
            return;
        }
        if voter.reopen(&self.common, &self.logger) {
            self.coverage.hit("voter: acts again after its disk failed");
            self.say(|| format!("voter {index} acts again"));
            self.publish(index);
        } else if let Some(process) = &mut voter.process {
            process.retry = Some(now.after(RETRY_DISK));
        }
    }
}

/// Where two states begin to differ, as they are written.
fn difference(one: &failover::cluster::Cluster, other: &failover::cluster::Cluster) -> String {
    let text = |cluster: &failover::cluster::Cluster| {
        let newest: Vec<String> = cluster
            .history
            .iter()
            .rev()
            .take(3)
            .map(|entry| format!("{} {}", entry.revision, entry.text))
            .collect();
        let services = serde_json::to_string(&cluster.services).unwrap_or_default();
        format!("{services} {newest:?}")
    };
    let (one, other) = (text(one), text(other));
    let same = one.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
    let from = same.saturating_sub(300);
    let part = |text: &str| text.get(from..(same + 300).min(text.len())).unwrap_or("").to_owned();
    format!("`{}` and `{}`", part(&one), part(&other))
}
