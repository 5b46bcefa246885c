//! A server that does not answer, or does not write, as the agent counts it.

use super::Host;
use super::agent::Agent;
use super::queue::Commit;
use super::server::Who;
use super::turn::Turn;
use failover::Moment;
use failover::hang::Look;
use failover::report::Server;
use std::time::Duration;

/// After so long without an answer nobody is told any more what the last one was.
const MUTE_AFTER: Duration = Duration::from_secs(3);

impl Host {
    /// A probe was answered: is the pulse under way waiting for the disk?
    pub(super) fn note_answer(&mut self, turn: &Turn) {
        let Some(agent) = &mut self.agent else { return };
        let unflushed = self.server.iter().flat_map(|server| &server.inserted);
        let begun =
            unflushed.filter(|_| agent.proven.is_some()).find_map(|waiter| match waiter.who {
                Who::Agent(run, life, Commit::Pulse(begun, _))
                    if (run, life) == (agent.run, agent.life) =>
                {
                    Some(begun)
                }
                Who::Agent(..) | Who::Client(..) | Who::Gone(_) | Who::Nobody => None,
            });
        agent.unanswered = None;
        agent.hang.look(begun.map_or(Look::Well, Look::Writes), turn.now);
    }

    /// It was not. One that is being stopped need not.
    pub(super) fn note_silence(&mut self, turn: &Turn) {
        let Some(agent) = &mut self.agent else { return };
        let serves = agent.facts.as_ref().is_some_and(|facts| !facts.recovery) && !agent.stopping;
        agent.unanswered.get_or_insert(turn.now);
        agent.hang.look(if serves { Look::Silent } else { Look::Well }, turn.now);
    }

    /// How the server stands, as the orchestrator is told.
    pub(super) fn server_told(&self, agent: &Agent, now: Moment) -> Server {
        let mute =
            agent.facts.is_some() && agent.unanswered.is_some_and(|at| now.since(at) >= MUTE_AFTER);
        if mute && agent.pid.is_some() { Server::Starting } else { self.server_seen(agent) }
    }
}
