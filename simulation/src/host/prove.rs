//! The epoch's marker, then a durable pulse once a heartbeat.

use super::Host;
use super::act::Next;
use super::enforce::Step;
use super::interface::Fact;
use super::queue::{Commit, Return, Task};
use super::server::Phase;
use super::turn::{Turn, micros};
use super::waits::Seen;
use failover::{Epoch, Lsn, Moment};

const BOUND: u64 = 5_000_000;

impl Host {
    pub(super) fn prove(&mut self, turn: &mut Turn, epoch: Epoch) -> Next {
        let Some(assignment) = self.assignment() else { return Next::Failed };
        if assignment.epoch != epoch || self.disk.memory.pledge.granted != epoch {
            return Next::Failed;
        }
        let Some(agent) = &mut self.agent else { return Next::Failed };
        let life = agent.life;
        if agent.proving != Some((life, epoch)) {
            agent.proving = Some((life, epoch));
            agent.marking = None;
            self.agent_task(turn, 500, Task::Mark(life));
        }
        Next::Done
    }

    /// The marker goes on: seen that commits wait, committed, found at the standbys.
    pub(super) fn mark(&mut self, turn: &mut Turn, life: u64) {
        let Some(agent) = &self.agent else { return };
        let Some((of, epoch)) = agent.proving else { return };
        if agent.life != life || of != life {
            return;
        }
        if let Some((begun, end, since)) = agent.marking {
            return self.find_marker(turn, epoch, (begun, end, since));
        }
        if self.sql_hangs() || !self.is_phase(Phase::Writable) {
            return self.not_marked(turn);
        }
        self.ensure_roles();
        let counts = !self.disk.dynamic.get().is_single_copy();
        if counts && self.waits(turn) == Seen::NotYet {
            return;
        }
        let Some(agent) = &self.agent else { return };
        let who = Self::who(agent, Commit::Marker(epoch.0, turn.now, counts));
        self.insert_own(turn, who, counts);
        let end = self.log_end();
        if let Some(data) = &mut self.disk.data {
            data.marker = Some((epoch, end));
        }
    }

    fn not_marked(&mut self, turn: &mut Turn) {
        if let Some(agent) = &mut self.agent {
            agent.proving = None;
            agent.marking = None;
        }
        self.wake(turn);
        self.speak(turn);
    }

    /// Not because PostgreSQL let it return, but because enough have it (I-11).
    fn find_marker(&mut self, turn: &mut Turn, epoch: Epoch, marking: (Moment, Lsn, Moment)) {
        let (begun, end, since) = marking;
        let required = self.disk.dynamic.get().setting.required;
        if self.holders(end) >= usize::from(required) {
            self.proven(turn, epoch, Some(begun));
        } else if turn.now.0 - since.0 > BOUND || self.server.is_none() {
            self.not_marked(turn);
        } else if let Some(agent) = &self.agent {
            let life = agent.life;
            self.agent_task(turn, 5_000, Task::Mark(life));
        }
    }

    fn proven(&mut self, turn: &mut Turn, epoch: Epoch, begun: Option<Moment>) {
        let Some(agent) = &mut self.agent else { return };
        let life = agent.life;
        agent.proving = None;
        agent.marking = None;
        agent.proven = Some(epoch);
        agent.committed = agent.committed.max(begun);
        turn.fact(Fact::Proven { epoch });
        self.agent_task(turn, 300, Task::Pulse(life));
        self.wake(turn);
        self.speak(turn);
    }

    /// A commit of the agent's own returned.
    pub(super) fn returned(&mut self, turn: &mut Turn, life: u64, commit: Commit, how: Return) {
        let end = self.disk.data.as_ref().map_or(Lsn(0), |data| data.flushed);
        let Some(agent) = &mut self.agent else { return };
        if agent.life != life {
            return;
        }
        match (commit, how) {
            (Commit::Marker(epoch, _, false), Return::Done) => {
                self.proven(turn, Epoch(epoch), None);
            }
            (Commit::Marker(_, begun, true), Return::Done) => {
                agent.marking = Some((begun, end, turn.now));
                self.mark(turn, life);
            }
            (Commit::Marker(..), Return::Warned | Return::Broken) => self.not_marked(turn),
            (Commit::Pulse(..), Return::Broken) => {
                agent.proven = None;
                self.wake(turn);
            }
            (Commit::Pulse(begun, _), Return::Done | Return::Warned) => self.pulsed(turn, begun),
            (Commit::Proof(generation), how) => self.proof_returned(turn, generation, how),
            (Commit::Seen, how) => self.seen_returned(turn, how),
        }
    }

    /// One pulse is done; it says something where enough hold what it wrote.
    fn pulsed(&mut self, turn: &mut Turn, begun: Moment) {
        let dynamic = self.disk.dynamic.get();
        let (waits, required) = (dynamic.waits(), dynamic.setting.required);
        let heartbeat = self.heartbeat();
        let Some(agent) = &self.agent else { return };
        let (end, life) = (agent.pulsed, agent.life);
        if waits && self.holders(end) >= usize::from(required) {
            let Some(agent) = &mut self.agent else { return };
            let first = agent.committed.is_none();
            agent.committed = agent.committed.max(Some(begun));
            if first {
                self.wake(turn);
            }
        }
        let rest = heartbeat.saturating_sub(micros(turn.now.since(begun)));
        self.agent_task(turn, rest.max(10_000), Task::Pulse(life));
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
        let waits = !self.disk.dynamic.get().is_single_copy();
        let who = Self::who(agent, Commit::Pulse(turn.now, waits));
        self.insert_own(turn, who, waits);
        let end = self.log_end();
        if let Some(agent) = &mut self.agent {
            agent.pulsed = end;
        }
    }

    /// The schema and the roles, committed locally on purpose.
    pub(super) fn ensure_roles(&mut self) {
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
        if dynamic.generation.is_none() {
            return;
        }
        let names = dynamic.names();
        if *facts.setting == *names {
            return;
        }
        let Some(server) = &self.server else { return };
        if *server.postmaster == *names {
            return;
        }
        if server.postmaster.empty {
            self.put_back(turn);
            self.overruled(turn);
        } else {
            // One of ours that is not loaded yet.
            self.order(turn, super::guard::Order::Reload);
        }
    }
}
