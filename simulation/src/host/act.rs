//! Every action of the law, carried out step by step. Between two steps anything may die.

use super::Host;
use super::disk::Dynamic;
use super::guard::{Order, Word};
use super::interface::{Fact, Output, Peer, Wal};
use super::log::{Log, Tree};
use super::queue::Task;
use super::server::Phase;
use super::turn::Turn;
use failover::comply::Action;
use failover::position::Replay;
use failover::{
    Assignment, Epoch, InstanceId, Lsn, Moment, Role, SystemIdentifier, Timeline, lease,
};
use std::sync::Arc;

/// So many promises find room on a full disk: the agent's reserve.
pub(super) const RESERVE: u8 = 4;

/// An action under way.
#[derive(Debug)]
pub struct Running {
    pub id: u64,
    pub action: Action,
    pub step: u8,
    pub fresh: bool,
    pub begun: Moment,
    /// When the present step began.
    pub since: Moment,
    /// The guard's answer to what was asked while it did not run.
    pub answer: Option<Word>,
    pub asked: bool,
    pub tool: Option<Tool>,
    pub kicked: Moment,
    /// The last look at replay.
    pub looked: Option<Replay>,
}

/// A program of PostgreSQL's that talks to another machine.
#[derive(Debug)]
pub struct Tool {
    pub stream: u64,
    pub peer: Peer,
    pub heard: Moment,
    /// It was answered at all.
    pub connected: bool,
    pub result: Option<Found>,
}

/// What it brings back.
#[derive(Debug)]
pub enum Found {
    /// The upstream's place; without a history it is in recovery.
    Place(Option<Arc<Tree>>, Timeline),
    /// A copy.
    Copied(SystemIdentifier, Log),
    /// Nothing.
    Failed,
}

/// What comes after a step.
pub enum Next {
    /// The next step, after so many microseconds.
    After(u64),
    /// The same step once more.
    Again(u64),
    /// The same step once more, when something has happened.
    Wait,
    /// It is done.
    Done,
    /// It is not.
    Failed,
}

impl Running {
    pub fn new(id: u64, action: Action, now: Moment) -> Self {
        Self {
            id,
            action,
            step: 0,
            fresh: true,
            begun: now,
            since: now,
            answer: None,
            asked: false,
            tool: None,
            kicked: now,
            looked: None,
        }
    }
}

impl Host {
    pub(super) fn perform(&mut self, turn: &mut Turn, running: &mut Running) -> Next {
        match running.action.clone() {
            Action::Initialise => self.initialise(turn, running.step),
            Action::Clone { upstream } => self.clone_from(turn, running, &upstream),
            Action::Rewind { upstream } => self.rewind(turn, running, &upstream),
            Action::StartStandby { upstream } => {
                self.start_standby(turn, running, upstream.as_ref())
            }
            Action::StartPrimary => self.start_primary(turn, running),
            Action::Fence { .. } => self.fence(turn, running),
            Action::StopCleanly => self.stop_cleanly(turn, running),
            Action::Seal { epoch } => self.seal(turn, running, epoch),
            Action::Accept { epoch } => self.accept(turn, running.step, epoch),
            Action::Promote => self.promote(turn, running),
            Action::Enforce { generation } => self.enforce(turn, running, generation),
            Action::Prove { epoch } => self.prove(turn, epoch),
            Action::Prepare { epoch } => self.prepare(turn, running.step, epoch),
            Action::Follow { upstream } => self.follow(turn, running, &upstream),
            Action::Admit => self.admit(turn, running),
            Action::Isolate { drill, at_most } => self.isolate(turn, drill, at_most),
        }
    }

    /// The action under way is dropped where it stands.
    pub(super) fn give_up(&mut self, turn: &mut Turn) {
        let Some(agent) = &mut self.agent else { return };
        agent.rewinding = false;
        agent.notes.remove("clone");
        if let Some(tool) = agent.beat.running.take().and_then(|running| running.tool) {
            let message = Wal::Closed { stream: tool.stream };
            turn.out.push(Output::Wal { to: tool.peer, message });
        }
    }

    pub(super) fn assignment(&self) -> Option<Arc<Assignment>> {
        self.agent.as_ref()?.assignment.clone()
    }

    /// Asks the guard, and waits for as long as it does not run.
    pub(super) fn ask(&mut self, turn: &mut Turn, run: &mut Running, order: Order) -> Option<Word> {
        if let Some(word) = run.answer.take() {
            run.asked = false;
            return Some(word);
        }
        if run.asked {
            return None;
        }
        match self.order(turn, order) {
            Word::Stuck => {
                run.asked = true;
                None
            }
            word @ (Word::Done | Word::Failed | Word::Gone) => Some(word),
        }
    }

    /// The guard answers what was asked while it did not run.
    pub(super) fn answered(&mut self, turn: &mut Turn, order: Order, word: Word) {
        if matches!(order, Order::Kill | Order::Refresh(None)) {
            return;
        }
        let Some(running) = self.agent.as_mut().and_then(|agent| agent.beat.running.as_mut())
        else {
            return;
        };
        if running.asked {
            running.answer = Some(word);
            let id = running.id;
            self.agent_task(turn, 10, Task::Act(id));
        }
    }

    /// Changes the memory; false: the disk is full, and what was kept for promises is used up.
    pub(super) fn remember(
        &mut self,
        turn: &mut Turn,
        change: impl FnOnce(&mut super::disk::Memory),
    ) -> bool {
        if self.full && self.reserve == 0 {
            return false;
        }
        self.reserve = if self.full { self.reserve - 1 } else { RESERVE };
        let before = self.disk.memory.pledge;
        change(&mut self.disk.memory);
        let pledge = self.disk.memory.pledge;
        if pledge != before {
            turn.fact(Fact::Pledged { sealed: pledge.sealed, granted: pledge.granted });
        }
        true
    }

    /// Whom to follow; refused when this epoch was sealed (I-20).
    pub(super) fn resolve(&mut self, upstream: &InstanceId) -> Option<(Peer, Epoch)> {
        let assignment = self.assignment()?;
        if assignment.epoch <= self.disk.memory.pledge.sealed || !self.keep_assignment() {
            return None;
        }
        assignment.peers.get(upstream)?;
        Some((self.peer(upstream)?, assignment.epoch))
    }

    /// The newest assignment outlives a power cut: no older one is taken for current after it.
    /// False: the disk is full.
    pub(super) fn keep_assignment(&mut self) -> bool {
        let newest = self.assignment();
        let kept = !self.full || *self.disk.assignment.get() == newest;
        if kept {
            self.disk.assignment.set(newest);
            self.disk.assignment.sync();
        }
        kept
    }

    pub(super) fn allow_stream(&mut self, epoch: Epoch) {
        let mut keys = self.disk.keys.get().clone();
        keys.insert(epoch);
        self.disk.keys.set(keys);
    }

    pub(super) fn forbid_streams(&mut self, but: Option<Epoch>) {
        let keys = self.disk.keys.get().iter().copied().filter(|key| Some(*key) == but).collect();
        self.disk.keys.set(keys);
    }

    fn initialise(&mut self, turn: &mut Turn, step: u8) -> Next {
        match step {
            _ if self.disk.data.is_some() || self.full => Next::Failed,
            0 => Next::After(turn.dice.between(200_000, 1_500_000)),
            1 => {
                let system = SystemIdentifier(turn.dice.roll(u64::MAX) >> 1);
                self.fresh = Some(system);
                Next::After(self.flush_time(turn))
            }
            2 => {
                let fresh = self.fresh;
                self.remember(turn, |memory| {
                    memory.system = fresh;
                    memory.led = None;
                    memory.refused = false;
                    memory.beyond = false;
                });
                Next::After(300)
            }
            _ => {
                let Some(system) = self.fresh.take() else { return Next::Failed };
                let mut log = Log::default();
                log.push(self.own_record());
                self.disk.data = Some(super::disk::Data::new(system, log));
                self.examine();
                Next::Done
            }
        }
    }

    fn accept(&mut self, turn: &mut Turn, step: u8, epoch: Epoch) -> Next {
        let current = self.assignment().is_some_and(|assignment| {
            assignment.epoch == epoch && matches!(assignment.role, Role::Primary { .. })
        });
        if !current {
            return Next::Failed;
        }
        if step == 0 {
            return Next::After(self.flush_time(turn));
        }
        let kept = self.remember(turn, |memory| {
            memory.pledge.granted = memory.pledge.granted.max(epoch);
            memory.led = Some(memory.pledge.granted);
        });
        if !kept {
            return Next::Failed;
        }
        if let Some(agent) = &mut self.agent {
            agent.proven = None;
            agent.leased = None;
            agent.committed = None;
        }
        self.speak(turn);
        Next::Done
    }

    fn promote(&mut self, turn: &mut Turn, run: &mut Running) -> Next {
        let Some(assignment) = self.assignment() else { return Next::Failed };
        let granted = self.disk.memory.pledge.granted == assignment.epoch;
        if run.step < 4 && (!granted || !matches!(assignment.role, Role::Primary { .. })) {
            return Next::Failed;
        }
        match run.step {
            0 => {
                self.disk.open.set(false);
                self.forbid_streams(None);
                if let Some(data) = &mut self.disk.data {
                    data.overruled = None;
                }
                Next::After(200)
            }
            1 => {
                self.write_rule(&assignment, None);
                Next::After(self.flush_time(turn))
            }
            2 => {
                let epoch = assignment.epoch;
                if self.remember(turn, |memory| memory.led = Some(epoch)) {
                    Next::After(50)
                } else {
                    Next::Failed
                }
            }
            3 => {
                self.read_files();
                match self.ask(turn, run, Order::Reload) {
                    None => Next::Wait,
                    Some(Word::Done) => Next::After(500),
                    Some(Word::Failed | Word::Stuck | Word::Gone) => Next::Failed,
                }
            }
            4 if self.sql_hangs() => self.hang(turn, run, 2_000_000),
            4 => {
                self.reserve(assignment.epoch);
                self.request_promotion(turn);
                run.kicked = turn.now;
                Next::After(2_000)
            }
            _ => self.await_promotion(turn, run),
        }
    }

    /// The timeline of the promotion to come is the number of its epoch: history files take up
    /// those below (I-05).
    fn reserve(&mut self, epoch: Epoch) {
        let below = u32::try_from(epoch.0.saturating_sub(1)).unwrap_or(u32::MAX);
        if let Some(data) = &mut self.disk.data {
            data.known = data.known.max(Timeline(below));
        }
    }

    fn await_promotion(&mut self, turn: &mut Turn, run: &mut Running) -> Next {
        let Some(server) = &mut self.server else { return Next::Failed };
        if server.phase == Phase::Writable && !self.paused.postgres {
            if let Some(agent) = &mut self.agent {
                agent.sealed_at = None;
                agent.waits = false;
                agent.committed = None;
                agent.leased = None;
            }
            self.ask_for_checkpoint(turn);
            // Whoever came to read from the standby was not admitted to the primary (I-13).
            self.end_clients(turn);
            return Next::Done;
        }
        if turn.now.0 - run.begun.0 > 1_000_000 {
            return Next::Failed;
        }
        if turn.now.0 - run.kicked.0 > 100_000 {
            run.kicked = turn.now;
            // A query that holds replay up is ended.
            self.end_clients(turn);
        }
        Next::Again(8_000)
    }

    fn prepare(&mut self, turn: &mut Turn, step: u8, epoch: Epoch) -> Next {
        if step == 0 {
            if self.sql_hangs() {
                return Next::Again(100_000);
            }
            return Next::After(turn.dice.between(20_000, 600_000) + self.slow);
        }
        self.checkpointed();
        if let Some(agent) = &mut self.agent {
            agent.prepared = Some(epoch);
        }
        self.speak(turn);
        Next::Done
    }

    fn admit(&mut self, turn: &mut Turn, run: &mut Running) -> Next {
        let Some(assignment) = self.assignment() else { return Next::Failed };
        match run.step {
            0 => {
                if matches!(assignment.role, Role::Primary { .. }) {
                    // Asked twice: the guard may stand still for longer than the lease lasts.
                    let Some(agent) = &self.agent else { return Next::Failed };
                    let leased = lease::is_valid(&self.local(agent), &assignment.timing, turn.now);
                    let waits = run.asked && run.answer.is_none();
                    if !leased && !waits {
                        return Next::Failed;
                    }
                    let end = self.lease_end();
                    match self.ask(turn, run, Order::Refresh(end)) {
                        None => return Next::Wait,
                        Some(Word::Done) => {}
                        Some(Word::Failed | Word::Stuck | Word::Gone) => return Next::Failed,
                    }
                    if let Some(agent) = &mut self.agent {
                        agent.serves = true;
                    }
                }
                Next::After(100)
            }
            1 => {
                self.disk.open.set(true);
                self.read_files();
                Next::After(50)
            }
            _ => match self.ask(turn, run, Order::Reload) {
                None => Next::Wait,
                Some(Word::Done) => {
                    self.speak(turn);
                    Next::Done
                }
                Some(Word::Failed | Word::Stuck | Word::Gone) => Next::Failed,
            },
        }
    }

    fn lease_end(&self) -> Option<Moment> {
        let proof = self.agent.as_ref().and_then(|agent| agent.leased.max(agent.committed))?;
        Some(proof.after(super::beat::patience(self.timing())))
    }

    fn follow(&mut self, turn: &mut Turn, run: &mut Running, upstream: &InstanceId) -> Next {
        match run.step {
            0 => {
                let Some((_, epoch)) = self.resolve(upstream) else { return Next::Failed };
                self.allow_stream(epoch);
                Next::After(200)
            }
            1 => {
                let Some(upstream) = self.resolve(upstream) else { return Next::Failed };
                let setting = Arc::default();
                let dynamic =
                    Dynamic { upstream: Some(upstream), generation: None, setting, held: false };
                self.disk.dynamic.set(dynamic);
                if let Some(agent) = &mut self.agent {
                    agent.sealed_at = None;
                }
                self.read_files();
                Next::After(100)
            }
            2 => match self.ask(turn, run, Order::Reload) {
                None => Next::Wait,
                Some(Word::Done) => Next::After(100),
                Some(Word::Failed | Word::Stuck | Word::Gone) => Next::Failed,
            },
            3 => {
                let epoch = self.disk.dynamic.get().upstream.map(|(_, epoch)| epoch);
                self.forbid_streams(epoch);
                run.kicked = turn.now;
                Next::After(10_000)
            }
            _ => {
                let receiver = self.server.as_ref().and_then(|server| server.receiver.as_ref());
                let streams = receiver.is_some_and(|receiver| receiver.streaming);
                if streams || turn.now.0 - run.since.0 > 400_000 || self.sql_hangs() {
                    self.look(turn);
                    return Next::Done;
                }
                if turn.now.0 - run.kicked.0 > 100_000 {
                    run.kicked = turn.now;
                    self.wake_startup(turn, 1);
                }
                Next::Again(20_000)
            }
        }
    }

    /// The rule that the assignment wants is written for PostgreSQL to read.
    pub(super) fn write_rule(&mut self, wanted: &Assignment, upstream: Option<(Peer, Epoch)>) {
        let setting = Arc::new(self.setting_of(&wanted.enforce));
        let generation = Some(wanted.generation);
        // Its clients come only after it was seen that commits wait.
        let held = wanted.enforce.required > 0;
        self.disk.dynamic.set(Dynamic { upstream, generation, setting, held });
    }

    /// PostgreSQL does not answer SQL.
    pub(super) fn sql_hangs(&self) -> bool {
        self.paused.postgres || self.server.as_ref().is_none_or(|server| !server.answers())
    }

    /// Waits for SQL, up to a bound.
    pub(super) fn hang(&self, turn: &Turn, run: &Running, bound: u64) -> Next {
        let gone = self.server.is_none();
        if gone || turn.now.0 - run.since.0 > bound { Next::Failed } else { Next::Again(50_000) }
    }

    pub(super) fn checkpointed(&mut self) {
        if let Some(data) = &mut self.disk.data
            && self.server.as_ref().is_some_and(|server| server.phase == Phase::Writable)
        {
            data.checkpoint = data.log.tree().timeline;
        }
    }

    /// Where the log ends.
    pub(super) fn log_end(&self) -> Lsn {
        self.disk.data.as_ref().map_or(Lsn(0), |data| data.log.end())
    }
}
