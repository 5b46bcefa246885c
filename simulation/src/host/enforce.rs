//! The synchronous rule and its proof, the epoch's marker, the pulse.

use super::Host;
use super::act::{Next, Running};
use super::agent::Agent;
use super::guard::{Order, Word};
use super::interface::Fact;
use super::queue::{Commit, Return, Task};
use super::server::{Phase, Who};
use super::setting::Setting;
use super::turn::Turn;
use failover::cluster::Enforce;
use failover::{Assignment, Epoch, Generation, Lsn, Moment, Role};
use std::sync::Arc;

/// The proof of a rule under way.
#[derive(Clone, Copy, Debug)]
pub struct Establishing {
    pub life: u64,
    pub generation: Generation,
    step: Step,
    since: Moment,
    end: Lsn,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
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
                if let Some(data) = &mut self.disk.data {
                    data.overruled = None;
                }
                self.write_rule(&assignment, None);
                self.read_files();
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

    fn step_to(&mut self, turn: &mut Turn, step: Step, takes: u64) {
        let Some(agent) = &mut self.agent else { return };
        let Some(under_way) = &mut agent.enforcing else { return };
        under_way.step = step;
        under_way.since = turn.now;
        let generation = under_way.generation.0;
        self.agent_task(turn, takes, Task::Establish(generation));
    }

    fn show(&mut self, turn: &mut Turn, assignment: &Assignment) {
        let wanted = self.setting_of(&assignment.enforce);
        let Some(server) = &self.server else { return };
        if *server.postmaster != wanted || server.phase != Phase::Writable {
            return self.step_to(turn, Step::Shown, 50_000);
        }
        if assignment.enforce.required == 0 {
            self.terminate_waits(turn);
        }
        self.ensure_roles();
        let Some(server) = &self.server else { return };
        let outside =
            server.senders.iter().any(|s| s.priority > 0 && !wanted.names.contains(&s.name));
        if outside {
            return self.step_to(turn, Step::Shown, 10_000);
        }
        let Some(agent) = &self.agent else { return };
        let who = Self::who(agent, Commit::Proof(assignment.generation.0));
        self.insert_own(turn, who, assignment.enforce.required > 0);
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
                self.enforced(turn, assignment.generation);
            }
            None => self.agent_task(turn, 5_000, Task::Establish(assignment.generation.0)),
        }
    }

    fn see_flushed(&mut self, turn: &mut Turn, assignment: &Assignment, under_way: Establishing) {
        let enforce = &assignment.enforce;
        let names = self.setting_of(enforce).names;
        let Some(server) = &self.server else { return };
        let count = server
            .senders
            .iter()
            .filter(|s| s.streaming && s.flushed >= under_way.end && names.contains(&s.name))
            .count();
        if count >= enforce.required as usize {
            self.enforced(turn, assignment.generation);
        } else if turn.now.0 - under_way.since.0 > BOUND {
            self.step_to(turn, Step::Shown, 50_000);
        } else {
            self.agent_task(turn, 5_000, Task::Establish(assignment.generation.0));
        }
    }

    fn enforced(&mut self, turn: &mut Turn, generation: Generation) {
        if let Some(agent) = &mut self.agent {
            agent.enforced = Some(generation);
            agent.enforcing = None;
        }
        turn.fact(Fact::Enforced { generation });
        self.wake(turn);
        self.speak(turn);
    }

    /// A commit of the agent's own returned.
    pub(super) fn returned(&mut self, turn: &mut Turn, life: u64, commit: Commit, how: Return) {
        let Some(agent) = &mut self.agent else { return };
        if agent.life != life {
            return;
        }
        match commit {
            Commit::Marker(epoch, begun, counts) => {
                agent.proving = None;
                if how == Return::Done {
                    agent.proven = Some(Epoch(epoch));
                    if counts {
                        agent.committed = agent.committed.max(Some(begun));
                    }
                    turn.fact(Fact::Proven { epoch: Epoch(epoch) });
                    self.agent_task(turn, 300, Task::Pulse(life));
                }
                self.wake(turn);
                self.speak(turn);
            }
            Commit::Pulse(begun, counts) => match how {
                Return::Broken => {
                    agent.proven = None;
                    self.wake(turn);
                }
                Return::Done | Return::Warned => {
                    if counts && how == Return::Done {
                        let waits = agent.committed.is_none();
                        agent.committed = agent.committed.max(Some(begun));
                        if waits {
                            self.wake(turn);
                        }
                    }
                    let rest = self.heartbeat().saturating_sub(turn.now.since(begun).as_micros() as u64);
                    self.agent_task(turn, rest.max(10_000), Task::Pulse(life));
                }
            },
            Commit::Proof(generation) => self.proof_returned(turn, generation, how),
        }
    }

    fn proof_returned(&mut self, turn: &mut Turn, generation: u64, how: Return) {
        let end = self.disk.data.as_ref().map_or(Lsn(0), |data| data.flushed);
        let Some(assignment) = self.assignment() else { return };
        let Some(agent) = &mut self.agent else { return };
        let Some(under_way) = &mut agent.enforcing else { return };
        if under_way.generation.0 != generation || under_way.step != Step::Committing {
            return;
        }
        let unnamed = assignment.enforce.instances.is_empty() && assignment.enforce.required > 0;
        if how == Return::Done && !unnamed {
            under_way.end = end;
            self.step_to(turn, Step::Flushed, 200);
        } else {
            self.step_to(turn, Step::Shown, 50_000);
        }
    }

    pub(super) fn prove(&mut self, turn: &mut Turn, epoch: Epoch) -> Next {
        let Some(assignment) = self.assignment() else { return Next::Failed };
        if assignment.epoch != epoch || self.disk.memory.pledge.granted != epoch {
            return Next::Failed;
        }
        let Some(agent) = &mut self.agent else { return Next::Failed };
        let life = agent.life;
        if agent.proving == Some((life, epoch)) {
            return Next::Done;
        }
        if self.sql_hangs() {
            return Next::Failed;
        }
        self.ensure_roles();
        let counts = !self.disk.dynamic.get().is_single_copy();
        let Some(agent) = &mut self.agent else { return Next::Failed };
        agent.proving = Some((life, epoch));
        let who = Self::who(agent, Commit::Marker(epoch.0, turn.now, counts));
        self.insert_own(turn, who, counts);
        Next::Done
    }

    /// One durable commit a heartbeat.
    pub(super) fn pulse(&mut self, turn: &mut Turn, life: u64) {
        let Some(agent) = &self.agent else { return };
        if agent.life != life {
            return;
        }
        if self.sql_hangs() {
            // Sent, and answered when PostgreSQL goes on.
            self.agent_task(turn, 50_000, Task::Pulse(life));
            return;
        }
        let counts = !self.disk.dynamic.get().is_single_copy();
        let waits = self.server.as_ref().is_some_and(|server| !server.postmaster.local);
        let who = Self::who(agent, Commit::Pulse(turn.now, counts));
        self.insert_own(turn, who, waits);
    }

    /// The schema and the roles, committed locally on purpose.
    fn ensure_roles(&mut self) {
        let number = self.own_record();
        let Some(data) = &mut self.disk.data else { return };
        if !data.roles {
            data.roles = true;
            data.log.push(number);
        }
    }

    /// Puts our files back in force, where somebody overruled them (F-13).
    pub(super) fn restore(&mut self, turn: &mut Turn) {
        let dynamic = self.disk.dynamic.get();
        let Some(agent) = &self.agent else { return };
        let Some(facts) = &agent.facts else { return };
        if dynamic.generation.is_none() || same(&facts.setting, &dynamic.setting) {
            return;
        }
        if self.server.as_ref().is_some_and(|s| same(&s.postmaster, &dynamic.setting)) {
            return;
        }
        let overruled = self.disk.data.as_mut().is_some_and(|data| data.overruled.take().is_some());
        self.order(turn, Order::Reload);
        if overruled && let Some(agent) = &mut self.agent {
            let text = String::from("synchronous_standby_names was overruled: restored");
            agent.note("rule-overruled", failover::report::Severity::Warning, text);
        }
    }
}

fn same(one: &Arc<Setting>, other: &Arc<Setting>) -> bool {
    Arc::ptr_eq(one, other) || one == other
}

/// Whether a commit of this agent's still goes on somewhere.
pub(super) fn is_own(agent: &Agent, who: Who) -> bool {
    matches!(who, Who::Agent(run, life, _) if run == agent.run && life == agent.life)
}
