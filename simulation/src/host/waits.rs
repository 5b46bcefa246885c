//! Proof that commits wait, as the real agent has it (F-15): a placeholder that nobody can be
//! stands in for the rule until a commit is seen waiting.

use super::Host;
use super::guard::Order;
use super::queue::{Commit, Return, Task};
use super::server::Who;
use super::turn::Turn;
use failover::Moment;

/// The proof under way.
#[derive(Clone, Copy, Debug)]
pub struct Seeing {
    life: u64,
    step: Step,
    since: Moment,
    ended: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The placeholder is written.
    Hold,
    /// A fresh session sees it.
    Shown,
    /// Every walsender has loaded it.
    Loaded,
    /// A commit is seen waiting.
    Waits,
    /// The rule is back.
    Released,
}

const BOUND: u64 = 5_000_000;
/// A walsender that has not loaded the placeholder by then is ended.
const PATIENCE: u64 = 1_000_000;

/// How the proof stands for who needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Commits wait, and the rule is in the file.
    Yes,
    /// It is under way; whoever asked is called again.
    NotYet,
}

impl Host {
    /// Whether a commit was seen waiting in this life; begins the proof where not.
    pub(super) fn waits(&mut self, turn: &mut Turn) -> Seen {
        let held = self.disk.dynamic.get().held;
        let Some(agent) = &mut self.agent else { return Seen::NotYet };
        if agent.seeing.is_some() {
            return Seen::NotYet;
        }
        if agent.waits && !held {
            return Seen::Yes;
        }
        let step = if agent.waits { Step::Waits } else { Step::Hold };
        let life = agent.life;
        agent.seeing = Some(Seeing { life, step, since: turn.now, ended: false });
        if agent.waits {
            self.release_hold(turn);
        } else {
            self.agent_task(turn, 1, Task::See(life));
        }
        Seen::NotYet
    }

    /// The proof goes on.
    pub(super) fn see(&mut self, turn: &mut Turn, life: u64) {
        let Some(seeing) = self.agent.as_ref().and_then(|agent| agent.seeing) else { return };
        if seeing.life != life {
            return;
        }
        if self.sql_hangs() {
            return if self.server.is_none() {
                self.seen(turn, false);
            } else {
                self.agent_task(turn, 50_000, Task::See(life));
            };
        }
        let waited = turn.now.0 - seeing.since.0;
        if waited > BOUND {
            return self.seen(turn, false);
        }
        match seeing.step {
            Step::Hold => {
                let mut dynamic = self.disk.dynamic.get().clone();
                if dynamic.generation.is_none() {
                    return self.seen(turn, false);
                }
                if !dynamic.held {
                    dynamic.held = true;
                    self.disk.dynamic.set(dynamic);
                    self.order(turn, Order::Reload);
                }
                self.see_next(turn, Step::Shown, 1_000);
            }
            Step::Shown if self.postmaster_shows() => self.see_next(turn, Step::Loaded, 300),
            Step::Loaded => self.see_loaded(turn, seeing, waited),
            Step::Waits => self.see_commit(turn, life),
            Step::Released if self.postmaster_shows() => self.seen(turn, true),
            Step::Shown | Step::Released => self.agent_task(turn, 2_000, Task::See(life)),
        }
    }

    fn postmaster_shows(&self) -> bool {
        let names = self.disk.dynamic.get().names();
        self.server.as_ref().is_some_and(|server| *server.postmaster == *names)
    }

    fn see_next(&mut self, turn: &mut Turn, step: Step, takes: u64) {
        let Some(seeing) = self.agent.as_mut().and_then(|agent| agent.seeing.as_mut()) else {
            return;
        };
        seeing.step = step;
        seeing.since = turn.now;
        let life = seeing.life;
        self.agent_task(turn, takes, Task::See(life));
    }

    fn see_loaded(&mut self, turn: &mut Turn, seeing: Seeing, waited: u64) {
        let Some(server) = &self.server else { return };
        let counted: Vec<u64> =
            server.senders.iter().filter(|s| s.priority > 0).map(|s| s.stream).collect();
        if counted.is_empty() {
            let Some(agent) = &self.agent else { return };
            let who = Self::who(agent, Commit::Seen);
            self.insert_own(turn, who, true);
            return self.see_next(turn, Step::Waits, 2_000);
        }
        if waited > PATIENCE && !seeing.ended {
            if let Some(seeing) = self.agent.as_mut().and_then(|agent| agent.seeing.as_mut()) {
                seeing.ended = true;
            }
            for stream in counted {
                self.close_sender(turn, stream);
            }
        }
        self.agent_task(turn, 3_000, Task::See(seeing.life));
    }

    fn see_commit(&mut self, turn: &mut Turn, life: u64) {
        let Some(agent) = &mut self.agent else { return };
        let who = Self::who(agent, Commit::Seen);
        let Some(server) = &mut self.server else { return };
        let Some(waiter) = server.waiting.iter_mut().find(|waiter| waiter.who == who) else {
            return self.agent_task(turn, 2_000, Task::See(life));
        };
        // The connection is dropped; its commit goes on waiting.
        waiter.who = Who::Nobody;
        agent.waits = true;
        self.release_hold(turn);
    }

    /// Puts the rule in the placeholder's place.
    fn release_hold(&mut self, turn: &mut Turn) {
        let mut dynamic = self.disk.dynamic.get().clone();
        dynamic.held = false;
        self.disk.dynamic.set(dynamic);
        self.order(turn, Order::Reload);
        self.see_next(turn, Step::Released, 1_000);
    }

    /// It is done, or not; whoever waits for it goes on.
    fn seen(&mut self, turn: &mut Turn, done: bool) {
        let Some(agent) = &mut self.agent else { return };
        agent.seeing = None;
        let life = agent.life;
        if agent.proving.is_some() && agent.marking.is_none() {
            if done {
                self.agent_task(turn, 1, Task::Mark(life));
            } else {
                agent.proving = None;
                self.wake(turn);
                self.speak(turn);
            }
        }
        let Some(agent) = &self.agent else { return };
        if let Some(generation) = agent.enforcing.map(|under_way| under_way.generation.0) {
            let takes = if done { 1 } else { 50_000 };
            self.agent_task(turn, takes, Task::Establish(generation));
        }
    }

    /// The commit that should wait came back.
    pub(super) fn seen_returned(&mut self, turn: &mut Turn, how: Return) {
        let waits = self
            .agent
            .as_ref()
            .and_then(|agent| agent.seeing)
            .is_some_and(|seeing| seeing.step == Step::Waits);
        // A cancelled wait was one, but nobody saw it.
        if waits && matches!(how, Return::Done | Return::Warned | Return::Broken) {
            self.seen(turn, false);
        }
    }
}
