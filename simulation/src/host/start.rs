//! Start, stop, fence, seal.

use super::Host;
use super::act::{Next, Running};
use super::disk::Dynamic;
use super::guard::{Order, Word};
use super::interface::Fact;
use super::turn::Turn;
use failover::position::{Replay, stands};
use failover::report::Down;
use failover::{Epoch, InstanceId, Role};
use std::sync::Arc;

impl Host {
    /// What both kinds of start write: closed to clients, our files, nothing of ours overruled.
    fn write_files(&mut self) -> bool {
        if self.full || self.agent.as_ref().is_none_or(|agent| agent.refusal.is_some()) {
            return false;
        }
        self.disk.open.set(false);
        if let Some(data) = &mut self.disk.data {
            data.overruled = None;
        }
        true
    }

    pub(super) fn start_standby(
        &mut self,
        turn: &mut Turn,
        run: &mut Running,
        upstream: Option<&InstanceId>,
    ) -> Next {
        let Some(assignment) = self.assignment() else { return Next::Failed };
        match run.step {
            0 => {
                let resolved = match upstream {
                    None => None,
                    Some(upstream) => match self.resolve(upstream) {
                        None => return Next::Failed,
                        found => found,
                    },
                };
                let epoch = resolved.map(|(_, epoch)| epoch);
                self.forbid_streams(epoch);
                if let Some(epoch) = epoch {
                    self.allow_stream(epoch);
                }
                if !self.write_files() {
                    return Next::Failed;
                }
                if matches!(assignment.role, Role::Primary { .. }) {
                    self.write_rule(&assignment, resolved);
                } else {
                    let setting = Arc::default();
                    let dynamic =
                        Dynamic { upstream: resolved, generation: None, setting, held: false };
                    self.disk.dynamic.set(dynamic);
                }
                Next::After(300)
            }
            1 => {
                let Some(data) = &mut self.disk.data else { return Next::Failed };
                data.standby = true;
                // History files of which no log is here are forgotten.
                data.known = data.log.tree().timeline;
                Next::After(self.flush_time(turn))
            }
            _ => self.start(turn, run),
        }
    }

    pub(super) fn start_primary(&mut self, turn: &mut Turn, run: &mut Running) -> Next {
        let Some(assignment) = self.assignment() else { return Next::Failed };
        match run.step {
            // It goes by the assignment that it began with.
            0 => {
                let granted = self.disk.memory.pledge.granted == assignment.epoch;
                if !matches!(assignment.role, Role::Primary { .. }) || !granted {
                    return Next::Failed;
                }
                self.forbid_streams(None);
                if !self.write_files() {
                    return Next::Failed;
                }
                self.write_rule(&assignment, None);
                Next::After(self.flush_time(turn))
            }
            1 => {
                let epoch = self.disk.memory.pledge.granted;
                if !self.remember(turn, |memory| memory.led = Some(epoch)) {
                    return Next::Failed;
                }
                Next::After(self.flush_time(turn))
            }
            2 => {
                let Some(data) = &mut self.disk.data else { return Next::Failed };
                data.standby = false;
                Next::After(200)
            }
            _ => self.start(turn, run),
        }
    }

    /// What runs although this agent started nothing is ended.
    pub(super) fn end_strangers(&mut self, turn: &mut Turn) {
        if self.server.is_some() && self.agent.as_ref().is_some_and(|agent| agent.pid.is_none()) {
            self.end_server(turn, true, None);
        }
    }

    /// The guard starts PostgreSQL with the files as they are.
    fn start(&mut self, turn: &mut Turn, run: &mut Running) -> Next {
        if !run.asked && run.answer.is_none() {
            self.end_strangers(turn);
            self.remember(turn, |memory| memory.stopped = false);
        }
        match self.ask(turn, run, Order::Start) {
            None => return Next::Wait,
            Some(Word::Done) => {}
            Some(Word::Failed | Word::Stuck | Word::Gone) => return Next::Failed,
        }
        let child = self.guard.as_ref().and_then(|guard| guard.child);
        let Some(agent) = &mut self.agent else { return Next::Failed };
        match child {
            Some(pid) if agent.ended != Some(pid) => agent.begin_life(pid),
            Some(_) | None => agent.end_life(Down::Crashed, turn.now),
        }
        self.read_files();
        self.look(turn);
        Next::Done
    }

    pub(super) fn fence(&mut self, turn: &mut Turn, run: &mut Running) -> Next {
        let pid = self.agent.as_ref().and_then(|agent| agent.pid);
        if run.step == 0 {
            // It waits for the guard a quarter of a second, and no longer.
            return match self.order(turn, Order::Kill) {
                Word::Done | Word::Stuck => Next::After(500),
                Word::Failed | Word::Gone => {
                    run.step = 1;
                    run.since = super::Moment(0);
                    Next::Again(1)
                }
            };
        }
        if pid.is_none() {
            return Next::Done;
        }
        if turn.now.0 - run.since.0 < 250_000 {
            return Next::Again(2_000);
        }
        // Fencing without the guard.
        self.end_server(turn, true, None);
        if let Some(agent) = &mut self.agent
            && agent.pid.is_some()
        {
            agent.end_life(Down::Fenced, turn.now);
        }
        self.speak(turn);
        Next::Done
    }

    pub(super) fn stop_cleanly(&mut self, turn: &mut Turn, run: &mut Running) -> Next {
        match run.step {
            0 => {
                if !self.remember(turn, |memory| memory.stopped = true) {
                    return Next::Failed;
                }
                Next::After(self.flush_time(turn))
            }
            1 => {
                self.disk.open.set(false);
                if let Some(agent) = &mut self.agent {
                    agent.stopping = true;
                }
                self.read_files();
                Next::After(50)
            }
            2 => match self.ask(turn, run, Order::Reload) {
                None => Next::Wait,
                Some(Word::Done) => Next::After(50),
                Some(Word::Failed | Word::Stuck | Word::Gone) => Next::Failed,
            },
            3 => match self.ask(turn, run, Order::Stop) {
                None => Next::Wait,
                Some(Word::Done) => {
                    if let Some(agent) = &mut self.agent {
                        agent.serves = false;
                    }
                    Next::After(20)
                }
                Some(Word::Failed | Word::Stuck | Word::Gone) => Next::Failed,
            },
            4 => match self.ask(turn, run, Order::Refresh(None)) {
                None => Next::Wait,
                Some(Word::Done) => Next::After(20),
                Some(Word::Failed | Word::Stuck | Word::Gone) => Next::Failed,
            },
            _ => {
                if self.agent.as_ref().is_none_or(|agent| agent.pid.is_none()) {
                    return Next::Done;
                }
                if turn.now.0 - run.since.0 > 60_000_000 {
                    return Next::Failed;
                }
                // Its end pokes this action.
                Next::Again(200_000)
            }
        }
    }

    pub(super) fn seal(&mut self, turn: &mut Turn, run: &mut Running, epoch: Epoch) -> Next {
        match run.step {
            0 => {
                if let Some(agent) = &mut self.agent {
                    agent.sealed_at = None;
                }
                Next::After(self.flush_time(turn))
            }
            1 => {
                let kept = self.remember(turn, |memory| {
                    memory.pledge.sealed = memory.pledge.sealed.max(epoch);
                });
                if !kept {
                    return Next::Failed;
                }
                self.speak(turn);
                Next::After(100)
            }
            2 => {
                if self.disk.dynamic.get().upstream.is_some() {
                    let setting = Arc::default();
                    let dynamic =
                        Dynamic { upstream: None, generation: None, setting, held: false };
                    self.disk.dynamic.set(dynamic);
                }
                Next::After(100)
            }
            3 => {
                self.forbid_streams(None);
                self.read_files();
                if self.agent.as_ref().is_none_or(|agent| agent.pid.is_none()) {
                    return Next::Done;
                }
                Next::After(50)
            }
            4 => match self.ask(turn, run, Order::Reload) {
                None => Next::Wait,
                Some(Word::Done) => Next::After(50),
                Some(Word::Failed | Word::Stuck | Word::Gone) => Next::Failed,
            },
            5 => self.end_receivers(turn, run),
            _ => self.stand_still(turn, run, epoch),
        }
    }

    /// Receivers there are now are ended; one too young to tell what it is is waited for.
    fn end_receivers(&mut self, turn: &mut Turn, run: &Running) -> Next {
        if self.server.is_none() || !self.receives() {
            return Next::After(100);
        }
        if turn.now.0 - run.since.0 > 10_000_000 {
            return Next::Failed;
        }
        if self.paused.postgres {
            return Next::Again(100_000);
        }
        let receiver = self.server.as_ref().and_then(|server| server.receiver.as_ref());
        if receiver.is_some_and(|receiver| receiver.identified) {
            self.close_receiver(turn, true);
        }
        Next::Again(2_000)
    }

    /// Waits until replay has finished, and says where.
    fn stand_still(&mut self, turn: &mut Turn, run: &mut Running, epoch: Epoch) -> Next {
        let Some(agent) = &self.agent else { return Next::Failed };
        if agent.facts.is_none() {
            return Next::Done;
        }
        let waited = turn.now.0 - run.since.0;
        if waited > 10_000_000 {
            return Next::Failed;
        }
        if self.sql_hangs() {
            return self.hang(turn, run, 10_000_000);
        }
        let held = self
            .slow_replay
            .max(self.server.as_ref().and_then(|server| server.held_until).map(|(until, _)| until));
        let (Some(server), Some(data)) = (&self.server, &self.disk.data) else {
            return Next::Failed;
        };
        if !server.recovering {
            return Next::Again(100_000);
        }
        // The law's own judgement of two looks; what was received is on disk here.
        let busy = held.is_some_and(|until| until > turn.now);
        let here = Replay {
            replayed: server.replayed,
            received: server.received,
            sleeps: !busy && server.replayed >= data.log.end(),
        };
        let stands = stands(run.looked.as_ref(), &here, 0);
        run.looked = Some(here);
        if stands.is_none() {
            // Replay that stands still waits for a reader (F-19): a failover does not.
            if busy && waited > 700_000 {
                self.end_clients(turn);
            }
            return Next::Again(if waited > 200_000 { 50_000 } else { 4_000 });
        }
        let position = data.log.position(server.replayed);
        let at = position.lsn;
        if self.disk.memory.pledge.sealed == epoch {
            if let Some(agent) = &mut self.agent {
                agent.sealed_at = Some(position);
            }
            turn.fact(Fact::Sealed { epoch, at });
        }
        self.speak(turn);
        Next::Done
    }
}
