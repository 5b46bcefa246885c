//! The synchronous rule and its proof.

use super::Host;
use super::act::{Next, Running};
use super::disk::Dynamic;
use super::guard::{Order, Word};
use super::interface::Fact;
use super::queue::{Commit, Task};
use super::server::{Phase, Who};
use super::setting::Setting;
use super::turn::Turn;
use super::waits::Seen;
use failover::cluster::Enforce;
use failover::{Assignment, Generation, Lsn, Moment, Role};
use std::sync::Arc;

/// The proof of a rule under way.
#[derive(Clone, Copy, Debug)]
pub struct Establishing {
    pub life: u64,
    pub generation: Generation,
    pub(super) step: Step,
    pub(super) since: Moment,
    pub(super) end: Lsn,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A fresh session sees it, nobody outside has a part in it.
    Shown,
    /// A commit was made under it.
    Committing,
    /// It returned: too few of the named may have it.
    Flushed,
}

const BOUND: u64 = 5_000_000;

impl Host {
    /// What the agent writes for a rule.
    pub(super) fn setting_of(&self, enforce: &Enforce) -> Setting {
        Setting {
            any: true,
            required: u8::try_from(enforce.required.max(1)).unwrap_or(u8::MAX),
            names: enforce.instances.iter().filter_map(|name| self.peer(name)).collect(),
            empty: false,
            local: enforce.required == 0,
        }
    }

    pub(super) fn enforce(
        &mut self,
        turn: &mut Turn,
        run: &mut Running,
        generation: Generation,
    ) -> Next {
        let Some(assignment) = self.assignment() else { return Next::Failed };
        let granted = self.disk.memory.pledge.granted == assignment.epoch;
        let primary = matches!(assignment.role, Role::Primary { .. });
        if assignment.generation != generation || !granted || !primary || self.full {
            return Next::Failed;
        }
        match run.step {
            0 => {
                if self.sql_hangs() {
                    return Next::Failed;
                }
                // What is proven is not forgotten: the record may narrow to it (I-07).
                if !self.keep_assignment() {
                    return Next::Failed;
                }
                self.write_enforced(turn, &assignment);
                Next::After(200)
            }
            1 => match self.ask(turn, run, Order::Reload) {
                None => Next::Wait,
                Some(Word::Done) => Next::After(50),
                Some(Word::Failed | Word::Stuck | Word::Gone) => Next::Failed,
            },
            _ => {
                let Some(agent) = &mut self.agent else { return Next::Failed };
                let life = agent.life;
                let same = agent.enforcing.is_some_and(|under_way| {
                    (under_way.life, under_way.generation) == (life, generation)
                });
                if !same && agent.enforced != Some(generation) {
                    agent.enforcing = Some(Establishing {
                        life,
                        generation,
                        step: Step::Shown,
                        since: turn.now,
                        end: Lsn(0),
                    });
                    self.agent_task(turn, 500, Task::Establish(generation.0));
                }
                Next::Done
            }
        }
    }

    /// The rule is written; held, until commits are seen to wait.
    fn write_enforced(&mut self, turn: &mut Turn, assignment: &Assignment) {
        // Nobody may have been there to see it.
        if self.server.as_ref().is_some_and(|server| server.postmaster.empty) {
            self.overruled(turn);
        }
        let wanted = self.setting_of(&assignment.enforce);
        let before = &self.disk.dynamic.get().setting;
        let kept = before.names.iter().any(|name| wanted.names.contains(name));
        let asks = |setting: &Setting| if setting.local { 0 } else { setting.required };
        let more = kept && asks(before) < asks(&wanted);
        if let Some(data) = &mut self.disk.data {
            data.overruled = None;
        }
        let Some(agent) = &mut self.agent else { return };
        agent.waits &= !more;
        let held = !agent.waits && assignment.enforce.required > 0;
        let generation = Some(assignment.generation);
        let setting = Arc::new(wanted);
        self.disk.dynamic.set(Dynamic { upstream: None, generation, setting, held });
        self.read_files();
    }

    /// Somebody overruled the rule: from here on commits may be acknowledged without it (I-12).
    pub(super) fn overruled(&mut self, turn: &mut Turn) {
        let waits = self.disk.dynamic.get().waits();
        let Some(agent) = &mut self.agent else { return };
        let writable = agent.facts.as_ref().is_none_or(|facts| !facts.recovery);
        if waits && writable {
            agent.doubted = Some(turn.now);
            agent.overruled = true;
            agent.waits = false;
            agent.enforced = None;
            agent.enforcing = None;
            let written = self.remember(turn, |memory| memory.doubt_pending = true);
            if let Some(agent) = &mut self.agent {
                agent.unwritten |= !written;
            }
        }
        if let Some(agent) = &mut self.agent {
            let text = String::from("synchronous_standby_names was overruled: restored");
            agent.note("rule-overruled", failover::report::Severity::Warning, text);
        }
        self.speak(turn);
        self.wake(turn);
    }

    /// Our files, and nothing above them.
    pub(super) fn put_back(&mut self, turn: &mut Turn) {
        if let Some(data) = &mut self.disk.data {
            data.overruled = None;
        }
        self.order(turn, Order::Reload);
    }

    /// The proof goes on.
    pub(super) fn establish(&mut self, turn: &mut Turn, generation: u64) {
        let Some(assignment) = self.assignment() else { return };
        let Some(agent) = &mut self.agent else { return };
        let Some(under_way) = agent.enforcing.filter(|e| e.generation.0 == generation) else {
            return;
        };
        if assignment.generation.0 != generation {
            agent.enforcing = None;
            self.wake(turn);
            self.speak(turn);
            return;
        }
        if self.sql_hangs() {
            self.agent_task(turn, 100_000, Task::Establish(generation));
            return;
        }
        match under_way.step {
            Step::Shown => self.show(turn, &assignment),
            Step::Committing => self.see_waiting(turn, &assignment),
            Step::Flushed => self.see_flushed(turn, &assignment, under_way),
        }
    }

    pub(super) fn step_to(&mut self, turn: &mut Turn, step: Step, takes: u64) {
        let Some(agent) = &mut self.agent else { return };
        let Some(under_way) = &mut agent.enforcing else { return };
        under_way.step = step;
        under_way.since = turn.now;
        let generation = under_way.generation.0;
        self.agent_task(turn, takes, Task::Establish(generation));
    }

    fn show(&mut self, turn: &mut Turn, assignment: &Assignment) {
        let wanted = self.setting_of(&assignment.enforce);
        if !self.is_phase(Phase::Writable) {
            return self.step_to(turn, Step::Shown, 50_000);
        }
        let single = assignment.enforce.required == 0;
        if single {
            if self.server.as_ref().is_none_or(|server| *server.postmaster != wanted) {
                return self.step_to(turn, Step::Shown, 50_000);
            }
            self.terminate_waits(turn);
        }
        self.ensure_roles();
        if !single && self.waits(turn) == Seen::NotYet {
            return;
        }
        let Some(server) = &self.server else { return };
        if *server.postmaster != wanted {
            return self.step_to(turn, Step::Shown, 50_000);
        }
        let outside =
            server.senders.iter().any(|s| s.priority > 0 && !wanted.names.contains(&s.name));
        if outside {
            return self.step_to(turn, Step::Shown, 10_000);
        }
        let Some(agent) = &self.agent else { return };
        let who = Self::who(agent, Commit::Proof(assignment.generation.0));
        self.insert_own(turn, who, !single);
        self.step_to(turn, Step::Committing, 5_000);
    }

    /// With nobody named the proof is a commit that is seen waiting.
    fn see_waiting(&mut self, turn: &mut Turn, assignment: &Assignment) {
        let enforce = &assignment.enforce;
        if !enforce.instances.is_empty() || enforce.required == 0 {
            return;
        }
        let Some(agent) = &self.agent else { return };
        let who = Self::who(agent, Commit::Proof(assignment.generation.0));
        let Some(server) = &mut self.server else { return };
        match server.waiting.iter_mut().find(|waiter| waiter.who == who) {
            Some(waiter) => {
                // The connection is dropped; its commit goes on waiting.
                waiter.who = Who::Nobody;
                self.enforced(turn, assignment.generation, enforce.required);
            }
            None => self.agent_task(turn, 5_000, Task::Establish(assignment.generation.0)),
        }
    }

    fn see_flushed(&mut self, turn: &mut Turn, assignment: &Assignment, under_way: Establishing) {
        if self.holders(under_way.end) >= assignment.enforce.required as usize {
            self.enforced(turn, assignment.generation, assignment.enforce.required);
        } else if turn.now.0 - under_way.since.0 > BOUND {
            self.step_to(turn, Step::Shown, 50_000);
        } else {
            self.agent_task(turn, 5_000, Task::Establish(assignment.generation.0));
        }
    }

    /// How many of the named stream and have flushed up to a place, each under its own role.
    pub(super) fn holders(&self, end: Lsn) -> usize {
        let names = &self.disk.dynamic.get().setting.names;
        let Some(server) = &self.server else { return 0 };
        let mut holding: Vec<super::Peer> = server
            .senders
            .iter()
            .filter(|s| s.streaming && s.flushed >= end && names.contains(&s.name))
            .filter(|s| s.name == s.role)
            .map(|s| s.name)
            .collect();
        holding.sort_unstable();
        holding.dedup();
        holding.len()
    }

    fn enforced(&mut self, turn: &mut Turn, generation: Generation, required: u32) {
        if let Some(agent) = &mut self.agent {
            agent.enforced = Some(generation);
            agent.enforcing = None;
            if agent.overruled && (agent.waits || required == 0) {
                // Commits wait again: the log's end now is the end of what is in doubt.
                agent.overruled = false;
                agent.doubted = Some(turn.now);
                self.look(turn);
            }
        }
        turn.fact(Fact::Enforced { generation });
        self.wake(turn);
        self.speak(turn);
    }
}
