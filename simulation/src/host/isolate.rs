//! Falling silent for a drill, as the real agent does.

use super::Host;
use super::act::Next;
use super::interface::{Fact, Part};
use super::queue::Task;
use super::turn::{Turn, micros};
use failover::{DrillId, Moment};
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

    /// Until when it is cut off; `None`: it is not.
    pub(super) fn isolated(&self, turn: &Turn) -> Option<Moment> {
        self.agent.as_ref()?.isolated.filter(|until| turn.now < *until)
    }

    /// Whether what it was about to do waits until it is not cut off any more.
    pub(super) fn waits_for_heal(&mut self, turn: &mut Turn, task: Task) -> bool {
        let Some(until) = self.isolated(turn) else { return false };
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
