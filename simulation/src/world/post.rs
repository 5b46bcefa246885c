//! The way of every single message: sent, lost or delayed, and brought to whom it is for.

use failover::ids::VoterId;
use failover::report::Port;

use super::parts::{Body, Looker};
use super::{Event, World};
use crate::network::{Fate, Plane};

/// After this long a request that nothing came back to has failed.
const PATIENCE: u64 = 1_000_000;

impl World {
    /// Sends a message from place to place.
    pub(crate) fn send(&mut self, plane: Plane, from: u8, to: u8, body: Body) {
        match self.network.send(plane, (from, to), self.now, &mut self.dice) {
            Fate::Arrives(at) => {
                self.queue.push(at, Event::Arrive { plane, from, to, body: Box::new(body) });
            }
            Fate::Twice(at, again) => {
                self.coverage.hit("network: delivered twice");
                if let Some(copy) = copy(&body) {
                    let body = Box::new(copy);
                    self.queue.push(again, Event::Arrive { plane, from, to, body });
                }
                self.queue.push(at, Event::Arrive { plane, from, to, body: Box::new(body) });
            }
            Fate::Damaged(_) => {
                self.coverage.hit("network: damaged");
                self.damaged(&body);
                self.not_delivered(&body);
            }
            Fate::Lost => self.not_delivered(&body),
        }
    }

    /// A checksum refuses what was damaged; and whoever read it all the same would not fall.
    fn damaged(&mut self, body: &Body) {
        let Body::Peer { envelope, .. } = body else { return };
        let Ok(mut bytes) = serde_json::to_vec(envelope) else { return };
        let at = usize::try_from(self.dice.roll(bytes.len() as u64)).unwrap_or(0);
        let bit = self.dice.roll(8);
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= 1 << bit;
        }
        let read: Result<orchestrator::message::Envelope, _> = serde_json::from_slice(&bytes);
        self.coverage.hit(if read.is_ok() { "damage: readable" } else { "damage: unreadable" });
    }

    /// Nothing comes back to a message that is lost; a voter notices after a while.
    fn not_delivered(&mut self, body: &Body) {
        if let Body::Peer { sender, envelope, .. } = body {
            let voter = *sender;
            let run = self.voters[usize::from(voter)].run;
            let failed = Event::Failed { voter, run, about: envelope.to };
            self.queue.push(self.now.after(PATIENCE), failed);
        }
    }

    /// A message comes to the end of its way. One that was under way when a cut began may be
    /// lost.
    pub(crate) fn arrive(&mut self, plane: Plane, (from, to): (u8, u8), body: Body) {
        if self.network.is_cut(plane, from, to) && self.dice.roll(2) == 0 {
            self.not_delivered(&body);
            return;
        }
        match body {
            Body::Peer { voter, sender, envelope } => self.peer_arrives(voter, sender, envelope),
            Body::Unreached { voter, run, about } => self.delivery_failed(voter, run, about),
            Body::Forward { voter, sender, token, question } => {
                self.forward_arrives(voter, sender, token, question);
            }
            Body::Forwarded { voter, run, token, reply } => {
                self.forwarded(voter, run, token, *reply);
            }
            Body::Report { voter, host, token, report } => {
                self.report_arrives(voter, host, token, report);
            }
            Body::Answer { host, token, answer } => self.answer_arrives(host, token, answer),
            Body::Poll { voter, host, token, after } => {
                self.poll_arrives(voter, host, token, after);
            }
            Body::Polled { host, voter, token, assignment } => {
                self.polled(host, voter, token, assignment);
            }
            Body::HungUp { voter, host } => self.hung_up(voter, host),
            Body::Syn { host, port, asker } => self.knocked_at(host, port, asker, (from, to)),
            Body::SynAck { asker, agent, postgres } => self.knock_answered(asker, agent, postgres),
            Body::ZonePoll { voter, server, token, after } => {
                self.zone_poll_arrives(voter, server, token, after);
            }
            Body::Zone { server, voter, token, zone } => {
                self.zone_arrives(server, voter, token, zone);
            }
            Body::Ask { .. } | Body::Resolve { .. } => self.name_server_asked(from, body),
            Body::Asked { voter, run, server, question, answer } => {
                self.asked((voter, run), server, question, answer);
            }
            Body::Resolved { client, session, address, ttl } => {
                self.resolved(client, session, address, ttl);
            }
            Body::Statement { host, client, session, statement } => {
                self.statement_arrives(host, client, session, statement);
            }
            Body::Outcome { client, session, outcome } => self.outcome(client, session, outcome),
            Body::Operator { voter, ask, attempt } => self.request_arrives(voter, ask, attempt),
            Body::Ruled { ask, attempt, reply } => self.ruled(ask, attempt, *reply),
        }
    }

    /// Answers a knock: both ports at once where both were asked.
    fn knocked_at(&mut self, host: u8, door: super::parts::Door, asker: Looker, way: (u8, u8)) {
        use super::parts::Door;
        let machine = &self.machines[usize::from(host)];
        let (agent, postgres) =
            if machine.on { machine.host.ports() } else { (Port::Silent, Port::Silent) };
        let (agent, postgres) = match door {
            Door::Agent => (agent, Port::Silent),
            Door::Postgres => (Port::Silent, postgres),
            Door::Both => (agent, postgres),
        };
        if agent == Port::Silent && postgres == Port::Silent {
            return;
        }
        let body = Body::SynAck { asker, agent, postgres };
        self.send(Plane::Health, way.1, way.0, body);
    }

    fn knock_answered(&mut self, asker: Looker, agent: Port, postgres: Port) {
        match asker {
            Looker::Voter { voter, run, id, second } => {
                let port = if second { postgres } else { agent };
                self.seen(voter, run, id, second, port);
            }
            Looker::Host { host, token } => self.knock_came_back(host, token, agent, postgres),
        }
    }

    /// The place among the voters of the one with this number.
    pub(crate) fn voter_index(&self, id: VoterId) -> Option<u8> {
        let index = self.voters.iter().position(|voter| voter.id == id)?;
        u8::try_from(index).ok()
    }
}

/// Raft's messages, reports and answers may come twice; what is done over a connection of its own
/// may not.
fn copy(body: &Body) -> Option<Body> {
    match body {
        Body::Peer { voter, sender, envelope } => {
            Some(Body::Peer { voter: *voter, sender: *sender, envelope: envelope.clone() })
        }
        Body::Report { voter, host, token, report } => {
            Some(Body::Report { voter: *voter, host: *host, token: *token, report: report.clone() })
        }
        Body::Answer { host, token, answer } => {
            Some(Body::Answer { host: *host, token: *token, answer: answer.clone() })
        }
        Body::Unreached { .. }
        | Body::Forward { .. }
        | Body::Forwarded { .. }
        | Body::Poll { .. }
        | Body::Polled { .. }
        | Body::HungUp { .. }
        | Body::Syn { .. }
        | Body::SynAck { .. }
        | Body::ZonePoll { .. }
        | Body::Zone { .. }
        | Body::Ask { .. }
        | Body::Asked { .. }
        | Body::Resolve { .. }
        | Body::Resolved { .. }
        | Body::Statement { .. }
        | Body::Outcome { .. }
        | Body::Operator { .. }
        | Body::Ruled { .. } => None,
    }
}
