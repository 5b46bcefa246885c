//! Falling silent for a drill, as the real agent does.

use super::Host;
use super::act::Next;
use super::agent::Agent;
use super::interface::{Fact, Part};
use super::queue::Task;
use super::turn::{Turn, micros};
use failover::survey::{Login, Prepared, Purpose, Software, Survey};
use failover::{DrillId, InstanceId};
use std::time::Duration;

impl Host {
    pub(super) fn isolate(&mut self, turn: &mut Turn, drill: DrillId, at_most: Duration) -> Next {
        if self.disk.memory.pledge.isolated >= Some(drill) {
            return Next::Failed;
        }
        let written = self.remember(turn, |memory| {
            memory.pledge.isolated = Some(drill);
            memory.cut_off = true;
        });
        if !written {
            return Next::Failed;
        }
        if let Some(agent) = &mut self.agent {
            agent.isolated = Some(turn.now.after(at_most));
        }
        turn.fact(Fact::Isolated);
        self.pause(Part::Postgres, true);
        self.agent_task(turn, micros(at_most), Task::Heal);
        Next::Done
    }

    /// Whether it is cut off now.
    pub(super) fn isolated(&self, turn: &Turn) -> bool {
        let until = self.agent.as_ref().and_then(|agent| agent.isolated);
        until.is_some_and(|until| turn.now < until)
    }

    /// Whether what it was about to do waits until it is not cut off any more.
    pub(super) fn waits_for_heal(&mut self, turn: &mut Turn, task: Task) -> bool {
        let until = self.agent.as_ref().and_then(|agent| agent.isolated);
        let Some(until) = until.filter(|until| turn.now < *until) else { return false };
        let takes = micros(until.since(turn.now));
        self.agent_task(turn, takes, task);
        true
    }

    /// Its time is over.
    pub(super) fn heal(&mut self, turn: &mut Turn) {
        let Some(agent) = &mut self.agent else { return };
        agent.isolated = None;
        agent.started = turn.now;
        self.thaw(turn);
        self.wake(turn);
        self.look(turn);
        self.speak(turn);
    }

    /// What was stopped goes on: also what the agent before this one stopped.
    pub(super) fn thaw(&mut self, turn: &mut Turn) {
        if self.disk.memory.cut_off {
            self.disk.memory.cut_off = false;
            if self.server.is_some() {
                self.resume(turn, Part::Postgres);
            }
        }
    }
}

/// Nothing expires while a world lasts.
const YEAR: i64 = 365 * 86_400;

impl Host {
    /// What the model has none of, told as if all of it were good, where a scenario wants that.
    pub(super) fn well_surveyed(&self, agent: &Agent, survey: Box<Survey>) -> Box<Survey> {
        let Some(assignment) = agent.assignment.as_ref().filter(|_| self.setup.surveyed) else {
            return survey;
        };
        let others = assignment.peers.keys().filter(|other| **other != assignment.instance);
        let login = |to: &InstanceId, purpose| Login {
            to: to.clone(),
            purpose,
            failure: None,
            age: Duration::from_secs(1),
        };
        let logins = others
            .flat_map(|to| [login(to, Purpose::Replication), login(to, Purpose::Rewind)])
            .collect();
        let leads = agent.facts.as_ref().is_some_and(|facts| !facts.recovery);
        Box::new(Survey {
            certificate_seconds: Some(YEAR),
            logins,
            prepared: leads.then(Prepared::default),
            software: Some(Software::default()),
            replays: Some(100 << 20),
            ..*survey
        })
    }
}
