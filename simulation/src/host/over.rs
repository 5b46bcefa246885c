//! Timers that nothing comes of any more: most bound an answer that came long ago.

use super::Host;
use super::agent::Agent;
use super::queue::{Event, Task};
use failover::Moment;

impl Host {
    /// What was answered, or whose process ended, wakes nobody.
    pub(super) fn forget_what_is_over(&mut self) {
        let mut queue = std::mem::take(&mut self.queue);
        queue.skip(|at, event| self.is_over(at, event));
        self.queue = queue;
    }

    fn is_over(&self, at: Moment, event: Event) -> bool {
        match event {
            Event::Agent(run, task) => {
                let agent = self.agent.as_ref().filter(|agent| agent.run == run);
                !agent.is_some_and(|agent| agent.awaits(task, at))
            }
            Event::Postgres(pid, _) | Event::Killed(pid) => {
                self.server.as_ref().is_none_or(|server| server.pid != pid)
            }
            Event::Guard => false,
        }
    }
}

impl Agent {
    /// Whether something would come of a task that is due then, were it due now: of a timeout only
    /// while what it bounds is open, of what was put forward only the earlier time.
    fn awaits(&self, task: Task, at: Moment) -> bool {
        let due = |known: Option<Moment>| known.is_some_and(|known| known <= at);
        match task {
            Task::Beat => due(self.beat_at),
            Task::Probe => due(self.probe_at),
            Task::Speak => due(self.speak_at),
            Task::ProbeLost(id) => self.probing == Some(id),
            Task::KnockLost(token) => self.knocking == Some(token),
            Task::ReportLost(token) => self.voters.awaits_report(token),
            Task::PollLost(token) => self.voters.awaits_poll(token),
            Task::Attach
            | Task::Act(_)
            | Task::Poll(_)
            | Task::Knock
            | Task::Establish(_)
            | Task::See(_)
            | Task::Mark(_)
            | Task::Measure(_)
            | Task::Pulse(_)
            | Task::Returned(..)
            | Task::Exited(..)
            | Task::GuardLost
            | Task::Read
            | Task::Heal
            | Task::Checkpointed(_) => true,
        }
    }
}
