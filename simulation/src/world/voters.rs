//! What reaches a voter over the network, and its answers.

use failover::ids::{Revision, VoterId};
use failover::report::Report;
use orchestrator::message::Envelope;
use orchestrator::replica::Reply;
use orchestrator::routes::Question;
use std::time::Duration;

use super::parts::Body;
use super::{Event, World};
use crate::network::Plane;
use crate::voter::{Asker, Inbound, Poll};

/// A long poll is held back for at most this long.
pub(crate) const POLL: Duration = Duration::from_secs(20);

impl World {
    pub(crate) fn peer_arrives(&mut self, index: u8, sender: u8, envelope: Box<Envelope>) {
        let voter = &self.voters[usize::from(index)];
        if !voter.powered {
            return;
        }
        let stopped = voter.process.as_ref().is_none_or(|p| p.standing.stopped);
        let (place, back) = (voter.place, self.voters[usize::from(sender)].place);
        if stopped {
            // Refused by the kernel, or by a voter that does not act.
            let (about, run) = (envelope.to, self.voters[usize::from(sender)].run);
            let body = Body::Unreached { voter: sender, run, about };
            self.send(Plane::Raft, place, back, body);
            return;
        }
        for instance in &envelope.look {
            self.look_at(index, instance);
        }
        let name = self.voters[usize::from(sender)].name.clone();
        self.voter_input(index, Inbound::Peer(name, envelope));
    }

    pub(crate) fn delivery_failed(&mut self, index: u8, run: u32, about: VoterId) {
        if self.voters[usize::from(index)].run == run {
            self.voter_input(index, Inbound::Unreachable(about));
        }
    }

    /// The way to the leader: answered here when this voter leads, passed on when it does not.
    pub(crate) fn route(&mut self, index: u8, asker: Option<Asker>, question: Question) {
        let voter = &mut self.voters[usize::from(index)];
        let Some(process) = &mut voter.process else { return };
        let standing = process.standing;
        if standing.stopped {
            if let Some(asker) = asker {
                self.reply(index, asker, Reply::Stopped("it does not act".into()));
            }
            return;
        }
        if standing.leads {
            self.voter_input(index, Inbound::Ask(asker, question));
            return;
        }
        let place = voter.place;
        process.next_token += 1;
        let token = process.next_token;
        let leader = standing.leader.and_then(|id| self.voter_index(id));
        let Some(leader) = leader else {
            if let Some(asker) = asker {
                self.reply(index, asker, Reply::NoLeader);
            }
            return;
        };
        if let Some(process) = &mut self.voters[usize::from(index)].process {
            // Nobody waits longer than a few seconds: what is older is forgotten.
            while process.pending.len() > 256 {
                process.pending.pop_first();
            }
            if let Some(asker) = asker {
                process.pending.insert(token, asker);
            }
        }
        let to = self.voters[usize::from(leader)].place;
        let body = Body::Forward { voter: leader, sender: index, token, question };
        self.send(Plane::Raft, place, to, body);
    }

    pub(crate) fn forward_arrives(&mut self, index: u8, sender: u8, token: u64, q: Question) {
        let voter = &self.voters[usize::from(index)];
        if !voter.powered {
            return;
        }
        let asker = Asker::Voter { voter: sender, token };
        let leads = voter.process.as_ref().is_some_and(|p| p.standing.leads);
        let observed = matches!(q, Question::Observed(_));
        if leads {
            let asker = (!observed).then_some(asker);
            self.voter_input(index, Inbound::Ask(asker, q));
        } else if !observed {
            self.reply(index, asker, Reply::NoLeader);
        }
    }

    pub(crate) fn forwarded(&mut self, index: u8, run: u32, token: u64, mut reply: Reply) {
        let voter = &mut self.voters[usize::from(index)];
        if voter.run != run {
            return;
        }
        let Some(process) = &mut voter.process else { return };
        let Some(asker) = process.pending.remove(&token) else { return };
        if let Reply::Report(answer) = &mut reply {
            let leader = process.standing.leader;
            answer.leader = leader.and_then(|id| process.replica.voter(id)).map(|v| v.address);
        }
        self.reply(index, asker, reply);
    }

    /// A leader answers an agent that asked it itself: with a lease, perhaps.
    pub(crate) fn grants(&mut self, asker: Asker, reply: &Reply, term: u64) {
        let Reply::Report(answer) = reply else { return };
        let Asker::Agent { host, token } = asker else { return };
        if answer.lease.is_some() {
            self.oracle.granted(host, token, term);
        }
    }

    /// An answer goes the way the question came.
    pub(crate) fn reply(&mut self, index: u8, asker: Asker, reply: Reply) {
        let from = self.voters[usize::from(index)].place;
        match asker {
            Asker::Agent { host, token } => {
                let answer = match reply {
                    Reply::Report(answer) => {
                        self.oracle.answered(host, token);
                        Some(answer)
                    }
                    Reply::Accepted(_)
                    | Reply::Found(_)
                    | Reply::Refused { .. }
                    | Reply::Unknown(_)
                    | Reply::NoLeader
                    | Reply::InDoubt(_)
                    | Reply::Stopped(_) => None,
                };
                let to = self.machines[usize::from(host)].place;
                self.send(Plane::Health, from, to, Body::Answer { host, token, answer });
            }
            Asker::Voter { voter, token } => {
                let to = self.voters[usize::from(voter)].place;
                let run = self.voters[usize::from(voter)].run;
                let reply = Box::new(reply);
                self.send(Plane::Raft, from, to, Body::Forwarded { voter, run, token, reply });
            }
            Asker::Operator { ask } => {
                let attempt = self.asks[ask as usize].attempt;
                let (to, reply) = (self.clients_place(), Box::new(reply));
                self.send(Plane::Health, from, to, Body::Ruled { ask, attempt, reply });
            }
        }
    }

    pub(crate) fn report_arrives(&mut self, index: u8, host: u8, token: u64, r: Box<Report>) {
        let voter = &self.voters[usize::from(index)];
        if !voter.powered {
            return;
        }
        if voter.process.is_none() {
            self.reply(index, Asker::Agent { host, token }, Reply::NoLeader);
            return;
        }
        if let Some(receiver) = r.receiver.as_ref().filter(|receiver| !receiver.streaming) {
            let upstream = receiver.upstream.clone();
            self.look_at(index, &upstream);
        }
        self.route(index, Some(Asker::Agent { host, token }), Question::Report(r));
    }

    pub(crate) fn poll_arrives(&mut self, index: u8, host: u8, token: u64, after: Revision) {
        let voter = &mut self.voters[usize::from(index)];
        if !voter.powered {
            return;
        }
        let until = voter.clock.moment(self.now).after(POLL);
        let Some(process) = &mut voter.process else {
            self.answer_poll(index, host, token, None);
            return;
        };
        let instance = &self.instances[usize::from(host)];
        let found = process.projection.assignments.get(instance);
        match found.filter(|assignment| assignment.revision > after) {
            Some(assignment) => {
                let assignment = Some(Box::new(assignment.clone()));
                self.answer_poll(index, host, token, assignment);
            }
            None => process.polls.push(Poll { host, token, after, until }),
        }
    }

    fn answer_poll(
        &mut self,
        index: u8,
        host: u8,
        token: u64,
        assignment: Option<Box<failover::Assignment>>,
    ) {
        let (from, to) =
            (self.voters[usize::from(index)].place, self.machines[usize::from(host)].place);
        let body = Body::Polled { host, voter: index, token, assignment };
        self.send(Plane::Health, from, to, body);
    }

    /// The state has changed: whoever waits for that is told.
    pub(crate) fn answer_polls(&mut self, index: u8) {
        let Some(process) = &mut self.voters[usize::from(index)].process else { return };
        let mut due = Vec::new();
        let (assignments, instances) = (&process.projection.assignments, &self.instances);
        process.polls.retain(|poll| {
            let found = assignments.get(&instances[usize::from(poll.host)]);
            match found.filter(|assignment| assignment.revision > poll.after) {
                Some(assignment) => {
                    due.push((poll.host, poll.token, Box::new(assignment.clone())));
                    false
                }
                None => true,
            }
        });
        for (host, token, assignment) in due {
            self.answer_poll(index, host, token, Some(assignment));
        }
        self.answer_zone_polls(index);
    }

    /// Polls that were held back long enough are answered with what there is.
    pub(crate) fn expire_polls(&mut self, index: u8) {
        let voter = &mut self.voters[usize::from(index)];
        let now = voter.clock.moment(self.now);
        let Some(process) = &mut voter.process else { return };
        if process.polls.iter().all(|poll| now < poll.until)
            && process.zone_polls.iter().all(|poll| now < poll.until)
        {
            return;
        }
        let mut due = Vec::new();
        process.polls.retain(|poll| {
            let waits = now < poll.until;
            if !waits {
                due.push((poll.host, poll.token));
            }
            waits
        });
        let assignments = &process.projection.assignments;
        let found: Vec<_> = due
            .into_iter()
            .map(|(host, token)| {
                let found = assignments.get(&self.instances[usize::from(host)]).cloned();
                (host, token, found.map(Box::new))
            })
            .collect();
        for (host, token, assignment) in found {
            self.answer_poll(index, host, token, assignment);
        }
        self.expire_zone_polls(index, now);
    }

    /// An agent's process ended: whoever held its poll back looks at it.
    pub(crate) fn hung_up(&mut self, index: u8, host: u8) {
        let Some(process) = &mut self.voters[usize::from(index)].process else { return };
        process.polls.retain(|poll| poll.host != host);
        let instance = self.instances[usize::from(host)].clone();
        if process.knows_primary(&instance) {
            self.look_at(index, &instance);
        }
    }

    /// Where no voter has anything left, they begin as they once began.
    pub(crate) fn forget_all(&mut self) {
        let current: Vec<usize> = self.current.iter().map(|index| usize::from(*index)).collect();
        let emptied = |voter: &crate::voter::Voter| {
            let saved = &voter.disk.saved;
            let first = saved.snapshot.as_ref().is_none_or(|snapshot| snapshot.index <= 1);
            let nothing = saved.entries.is_empty() && first;
            voter.process.is_none() && voter.disk.births > 1 && nothing
        };
        if current.iter().all(|index| emptied(&self.voters[*index])) {
            for index in current {
                self.voters[index].disk.births = 1;
            }
            self.oracle.control_lost(self.sites.len());
        }
    }

    /// The process ends, by a kill or with its machine; `silent`: nobody says so to its peers.
    pub(crate) fn stop_voter(&mut self, index: u8, silent: bool) {
        let written = !silent && self.dice.roll(2) == 0;
        let voter = &mut self.voters[usize::from(index)];
        let place = voter.place;
        let Some(process) = voter.kill(written) else { return };
        for poll in &process.polls {
            if silent {
                let after = self.now.after(5_000_000 + self.dice.roll(2_000_000));
                let ping = Event::Ping { host: poll.host, voter: index, token: poll.token };
                self.queue.push(after, ping);
            } else {
                let to = self.machines[usize::from(poll.host)].place;
                let (host, token) = (poll.host, poll.token);
                let body = Body::Polled { host, voter: index, token, assignment: None };
                self.send(Plane::Health, place, to, body);
            }
        }
        for poll in &process.zone_polls {
            let ping = Event::ZonePing { server: poll.server, voter: index, token: poll.token };
            let after = if silent { 5_000_000 } else { 1_000 };
            self.queue.push(self.now.after(after), ping);
        }
        if !silent {
            let waiting: Vec<Asker> = process.pending.into_values().collect();
            for asker in waiting {
                self.reply(index, asker, Reply::NoLeader);
            }
        }
    }
}
