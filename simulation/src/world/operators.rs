//! Operators: they ask any voter that they reach, and ask another when that one cannot say.

use std::time::Duration;

use failover::Request;
use failover::ids::ServiceId;
use failover::loss::Loss;
use failover::people::Role;
use orchestrator::replica::Reply;
use orchestrator::routes::Question;

use super::parts::{Ask, Body};
use super::{Event, World};
use crate::network::Plane;
use crate::voter::Asker;

/// How long one voter may take to answer.
const ANSWER: u64 = 6_000_000;

/// A request that was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AskId(u32);

impl World {
    /// What whoever leads says would be lost of a service.
    pub(crate) fn loss(&self, service: &ServiceId) -> Option<Loss> {
        let running = self.voters.iter().filter_map(|voter| voter.process.as_ref());
        let leaders = running.map(|process| &process.replica).filter(|it| it.is_leader());
        leaders.max_by_key(|replica| replica.term())?.assess_loss(service)
    }

    /// An operator asks, again and again until somebody rules on it or `limit` has passed.
    pub fn ask(&mut self, request: Request, limit: Duration) -> AskId {
        let ask = u32::try_from(self.asks.len()).unwrap_or(u32::MAX);
        self.oracle.operator_asks(&request, self.now);
        if let Some(record) = &mut self.record {
            record.push((self.now, super::Deed::Ask(Box::new(request.clone()))));
        }
        let until = self.now.plus(limit);
        self.asks.push(Ask { request, attempt: 0, until, reply: None, done: false });
        self.ask_again(ask);
        AskId(ask)
    }

    /// The ruling, once there is one; after its time without one the last answer, if any came.
    #[must_use]
    pub fn answered(&self, ask: AskId) -> Option<&Reply> {
        let ask = self.asks.get(ask.0 as usize)?;
        ask.reply.as_ref().filter(|_| ask.done)
    }

    /// Whether nothing more will come of a request.
    #[must_use]
    pub fn is_done(&self, ask: AskId) -> bool {
        self.asks.get(ask.0 as usize).is_none_or(|ask| ask.done)
    }

    pub(crate) fn ask_again(&mut self, index: u32) {
        let voters = self.current.len();
        let ask = &mut self.asks[index as usize];
        if ask.done {
            return;
        }
        if self.now >= ask.until {
            ask.done = true;
            return;
        }
        ask.attempt += 1;
        let attempt = ask.attempt;
        let voter = self.current[(index as usize + attempt as usize) % voters.max(1)];
        let (from, to) = (self.clients_place(), self.voters[usize::from(voter)].place);
        self.send(Plane::Health, from, to, Body::Operator { voter, ask: index, attempt });
        self.queue.push(self.now.after(ANSWER), Event::AskLate { ask: index, attempt });
    }

    pub(crate) fn ask_late(&mut self, index: u32, attempt: u32) {
        if self.asks[index as usize].attempt == attempt {
            self.ask_again(index);
        }
    }

    pub(crate) fn request_arrives(&mut self, voter: u8, ask: u32, attempt: u32) {
        let machine = &self.voters[usize::from(voter)];
        let known = &self.asks[ask as usize];
        if !machine.powered || known.attempt != attempt || known.done {
            return;
        }
        let asker = Asker::Operator { ask };
        if machine.process.is_none() {
            self.reply(voter, asker, Reply::NoLeader);
            return;
        }
        let request = Box::new(known.request.clone());
        let question = Question::Request {
            by: "operator".into(),
            role: Role::Admin,
            totp_step: None,
            request,
        };
        self.route(voter, Some(asker), question);
    }

    pub(crate) fn ruled(&mut self, index: u32, attempt: u32, reply: Reply) {
        let ask = &mut self.asks[index as usize];
        if ask.attempt != attempt || ask.done {
            return;
        }
        let again = match &reply {
            Reply::NoLeader | Reply::Stopped(_) => true,
            Reply::Report(_)
            | Reply::Accepted(_)
            | Reply::Found(_)
            | Reply::Refused { .. }
            | Reply::Unknown(_)
            | Reply::InDoubt(_) => false,
        };
        if again {
            self.queue.push(self.now.after(300_000), Event::AskAgain { ask: index });
        } else {
            ask.done = true;
            let said = match &reply {
                Reply::Accepted(_) => "granted".to_owned(),
                Reply::Refused { error, .. } => format!("refused: {error}"),
                Reply::InDoubt(text) | Reply::Unknown(text) => text.clone(),
                Reply::Report(_) | Reply::Found(_) | Reply::NoLeader | Reply::Stopped(_) => {
                    String::new()
                }
            };
            let granted = matches!(reply, Reply::Accepted(_));
            self.coverage.hit(if granted { "operator: granted" } else { "operator: refused" });
            ask.reply = Some(reply);
            self.say(|| format!("operator: {said}"));
        }
    }
}
