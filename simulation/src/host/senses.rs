//! What wakes the agent: the guard's notices, PostgreSQL's log, the probe, the knock.

use super::Host;
use super::agent::{Facts, ReceiverFacts, StreamFacts};
use super::interface::{Output, Peer};
use super::log::Tree;
use super::queue::{Job, Line, Task};
use super::server::Phase;
use super::turn::Turn;
use failover::checks::{Checks, Exposures, FloorSettings, RewindReady};
use failover::position::reaches;
use failover::report::{Down, Knock, Port, Severity};
use failover::{Moment, Role};
use std::sync::Arc;
use std::time::Duration;

/// The pause between knocks while the break is fresh.
const FRESH: u64 = 60_000;
const FRESH_FOR: u64 = 3_000_000;

impl Host {
    /// Something for the agent to read in PostgreSQL's log.
    pub(super) fn log_line(&mut self, turn: &mut Turn, line: Line) {
        self.disk.unread.push(line);
        let takes = turn.dice.between(200, 3_000);
        self.agent_task(turn, takes, Task::Read);
    }

    /// Reads on. Of what was written while no agent ran, only what concerns commits matters.
    pub(super) fn read_log(&mut self, turn: &mut Turn, missed: bool) {
        for line in std::mem::take(&mut self.disk.unread) {
            if !missed || matches!(line, Line::Cancelled | Line::Overruled) {
                self.read_line(turn, line);
            }
        }
    }

    /// Commits may have been acknowledged without the rule; up to where, the next probe tells.
    fn doubt(&mut self, turn: &mut Turn) {
        if let Some(agent) = &mut self.agent {
            agent.doubted = Some(turn.now);
        }
        let written = self.remember(turn, |memory| memory.doubt_pending = true);
        if let Some(agent) = &mut self.agent {
            agent.unwritten |= !written;
        }
        self.speak(turn);
        self.look(turn);
    }

    fn read_line(&mut self, turn: &mut Turn, line: Line) {
        match line {
            Line::Cancelled => self.doubt(turn),
            Line::Overruled => {
                self.overruled(turn);
                self.put_back(turn);
                self.look(turn);
            }
            Line::Diverged => {
                let follows = self.disk.dynamic.get().upstream.is_some();
                if follows && !self.disk.memory.refused {
                    self.remember(turn, |memory| memory.refused = true);
                    self.wake(turn);
                }
            }
            Line::StreamLost | Line::Ready => self.look(turn),
            Line::Replication(stream, taken) => {
                if let Some(name) = taken {
                    self.end_impostor(turn, stream, name);
                }
                self.look(turn);
            }
        }
    }

    fn end_impostor(&mut self, turn: &mut Turn, stream: u64, name: Peer) {
        // In the moment before its end it may have released a commit in that name (F-14), be it
        // gone by now.
        if self.disk.dynamic.get().setting.names.contains(&name) {
            self.doubt(turn);
        }
        if !self.paused.postgres {
            self.close_sender(turn, stream);
        }
        if let Some(agent) = &mut self.agent {
            let text = String::from("a stream under another's name: ended");
            agent.note("impostor", Severity::Warning, text);
        }
        self.speak(turn);
    }

    /// Probes PostgreSQL once.
    pub(super) fn probe(&mut self, turn: &mut Turn) {
        let heartbeat = self.heartbeat();
        let id = self.number();
        let Some(agent) = &mut self.agent else { return };
        if agent.probe_at.is_none_or(|at| at > turn.now) {
            return;
        }
        agent.probe_at = None;
        if agent.pid.is_none() {
            agent.failures = 0;
            self.wake(turn);
            return self.probe_within(turn, heartbeat);
        }
        if self.paused.postgres && self.server.is_some() {
            // The question lies in its socket.
            if agent.probing.is_none() {
                agent.probing = Some(id);
                self.agent_task(turn, 2_000_000, Task::ProbeLost(id));
            }
            return;
        }
        agent.probing = None;
        if self.sql_hangs() {
            return self.not_answered(turn);
        }
        self.take_facts(turn);
        self.note_answer(turn);
        self.after_look(turn);
        self.wake(turn);
        self.knock_if_broken(turn);
        self.probe_within(turn, heartbeat);
    }

    pub(super) fn probe_lost(&mut self, turn: &mut Turn, id: u64) {
        let Some(agent) = &mut self.agent else { return };
        if agent.probing == Some(id) {
            agent.probing = None;
            self.not_answered(turn);
        }
    }

    fn not_answered(&mut self, turn: &mut Turn) {
        let heartbeat = self.heartbeat();
        self.note_silence(turn);
        let Some(agent) = &mut self.agent else { return };
        agent.failures = agent.failures.saturating_add(1);
        let rest = if agent.failures <= 40 { 25_000 } else { 200_000 };
        if agent.failures > 40 && agent.facts.is_some() {
            agent.note("postgresql", Severity::Warning, String::from("does not answer"));
        }
        self.wake(turn);
        self.probe_within(turn, rest.min(heartbeat));
    }

    fn take_facts(&mut self, turn: &mut Turn) {
        let (Some(server), Some(data)) = (&self.server, &self.disk.data) else { return };
        let Some(agent) = &mut self.agent else { return };
        let recovery = server.recovering;
        let receiver = server.receiver.as_ref().filter(|receiver| receiver.identified);
        let age = |stamp: i64| {
            let passed = turn.wall.0.saturating_sub(stamp).max(0);
            Duration::from_millis(passed.unsigned_abs())
        };
        let receiver = receiver.map(|receiver| ReceiverFacts {
            streaming: receiver.streaming,
            stamp: receiver.stamp,
            age: age(receiver.stamp),
        });
        if let Some(receiver) = &receiver
            && receiver.stamp != agent.message.0
        {
            let earliest = agent.looked.max(turn.now.before(receiver.age));
            agent.message = (receiver.stamp, earliest);
        }
        let (received, replayed) = (server.received, server.replayed);
        let lsn = if recovery {
            reaches(received, replayed)
        } else {
            agent.ends.push_back((turn.now, data.flushed));
            while agent.ends.len() > 64 {
                agent.ends.pop_front();
            }
            data.flushed
        };
        place(&mut agent.position, data.log.tree(), lsn);
        agent.looked = turn.now;
        let rows = server.senders.iter().map(|sender| StreamFacts {
            stream: sender.stream,
            name: sender.name,
            role: sender.role,
            from: sender.peer,
            streaming: sender.streaming,
            flushed: sender.flushed,
        });
        let mut streams = agent.facts.take().map(|facts| facts.streams).unwrap_or_default();
        streams.clear();
        if !recovery {
            streams.extend(rows);
        }
        agent.facts = Some(Facts {
            recovery,
            replayed,
            checkpoint: data.checkpoint,
            receiver,
            setting: Arc::clone(&server.postmaster),
            streams,
        });
        self.read_files();
    }

    fn after_look(&mut self, turn: &mut Turn) {
        let free = self.room();
        let Some(agent) = &mut self.agent else { return };
        agent.failures = 0;
        agent.checks.wal_free = Some(free);
        agent.notes.remove("postgresql");
        let Some(facts) = &agent.facts else { return };
        let recovery = facts.recovery;
        // Under another's name, or one of two under one name that comes from elsewhere.
        let twins = facts.streams.len() > 1;
        let impostors: Vec<(u64, Peer)> = facts
            .streams
            .iter()
            .filter(|s| s.name != s.role || (twins && s.from != s.name && is_twin(facts, s)))
            .map(|s| (s.stream, s.name))
            .collect();
        for (stream, name) in impostors {
            self.end_impostor(turn, stream, name);
        }
        if !recovery {
            self.record_doubt(turn);
            if self.lacks_checkpoint() {
                self.ask_for_checkpoint(turn);
            }
        }
        self.restore(turn);
        self.speak(turn);
    }

    /// Nobody can be rewound from here before its checkpoint.
    fn lacks_checkpoint(&self) -> bool {
        // A promotion that is under way asks at its end.
        let idle = self.agent.as_ref().is_some_and(|agent| agent.beat.running.is_none());
        let (Some(server), Some(data)) = (&self.server, &self.disk.data) else { return false };
        idle && !server.hastened && data.checkpoint != data.log.tree().timeline
    }

    pub(super) fn ask_for_checkpoint(&mut self, turn: &mut Turn) {
        let Some(server) = &mut self.server else { return };
        server.hastened = true;
        let pid = server.pid;
        let takes = turn.dice.between(20_000, 800_000) + self.slow;
        self.job(turn, takes, pid, Job::Checkpoint(0));
    }

    /// The cancelled commit stands at or before the log's end as probed after its warning (I-12).
    fn record_doubt(&mut self, turn: &mut Turn) {
        let Some(agent) = &self.agent else { return };
        if !self.disk.memory.doubt_pending && !agent.unwritten {
            return;
        }
        if agent.overruled {
            return;
        }
        if agent.doubted.is_some_and(|heard| agent.looked < heard) {
            return self.look(turn);
        }
        let position = agent.position.clone();
        let epoch = self.disk.memory.pledge.granted;
        let noted = self.remember(turn, |memory| {
            memory.doubt = Some((epoch, position));
            memory.doubt_pending = false;
        });
        if noted && let Some(agent) = &mut self.agent {
            agent.unwritten = false;
            let text = String::from("a wait for synchronous replication was cancelled");
            agent.note("wait-cancelled", Severity::Warning, text);
        }
    }

    /// Knocks for as long as the stream is broken.
    pub(super) fn knock_if_broken(&mut self, turn: &mut Turn) {
        let target = self.knock_target();
        let Some(agent) = &mut self.agent else { return };
        let Some(target) = target else {
            agent.knocking = None;
            if agent.broken_since.take().is_some() {
                agent.knock = None;
                self.speak(turn);
            }
            return;
        };
        if agent.knocking.is_some() {
            return;
        }
        agent.broken_since.get_or_insert(turn.now);
        let token = self.number();
        if let Some(agent) = &mut self.agent {
            agent.knocking = Some(token);
        }
        turn.out.push(Output::Knock { token, target });
        self.agent_task(turn, 200_000, Task::KnockLost(token));
    }

    fn knock_target(&self) -> Option<super::Peer> {
        let agent = self.agent.as_ref()?;
        let Role::Standby { upstream } = &agent.assignment.as_ref()?.role else { return None };
        let facts = agent.facts.as_ref()?;
        let flows = facts.receiver.is_some_and(|receiver| receiver.streaming);
        if !facts.recovery || flows { None } else { self.peer(upstream) }
    }

    /// A knock was answered, or not in time.
    pub(super) fn knocked(&mut self, turn: &mut Turn, token: u64, agent: Port, postgres: Port) {
        let heartbeat = self.heartbeat();
        let target = self.knock_target().map(|peer| self.name(peer));
        let from = self.setup.site.clone();
        let Some(own) = &mut self.agent else { return };
        if own.knocking != Some(token) {
            return;
        }
        own.knocking = Some(0);
        let Some(target) = target else {
            own.knocking = None;
            return;
        };
        let knock = Knock { target, from, agent, postgres, age: Duration::ZERO };
        let news = own.knock.as_ref().is_none_or(|(last, _)| *last != knock);
        own.knock = Some((knock, turn.now));
        let fresh = own.broken_since.is_some_and(|since| turn.now.0 - since.0 < FRESH_FOR);
        if news {
            self.speak(turn);
        }
        let rest = if fresh { FRESH.min(heartbeat) } else { heartbeat };
        self.agent_task(turn, rest, Task::Knock);
    }

    pub(super) fn knock_again(&mut self, turn: &mut Turn) {
        if let Some(agent) = &mut self.agent
            && agent.knocking == Some(0)
        {
            agent.knocking = None;
            self.knock_if_broken(turn);
        }
    }

    /// The guard says that PostgreSQL ended.
    pub(super) fn exited(&mut self, turn: &mut Turn, pid: u64, code: Option<i32>, itself: bool) {
        let Some(agent) = &mut self.agent else { return };
        agent.ended = Some(pid);
        if agent.pid != Some(pid) {
            return;
        }
        let stopping = agent.stopping;
        let down = self.judge(code, itself, stopping);
        // Whoever starts it again, it admits nobody (I-13, F-12).
        self.disk.open.set(false);
        self.note_down(turn, down);
    }

    pub(super) fn note_down(&mut self, turn: &mut Turn, down: Down) {
        let Some(agent) = &mut self.agent else { return };
        agent.end_life(down, turn.now);
        let id = agent.beat.running.as_ref().map(|running| running.id);
        self.read_files();
        self.speak(turn);
        self.wake(turn);
        if let Some(id) = id {
            self.agent_task(turn, 1_000, Task::Act(id));
        }
    }

    /// The agent connects to the guard, or starts one; takes over the PostgreSQL it may run.
    pub(super) fn attach(&mut self, turn: &mut Turn) {
        let run = match &self.agent {
            Some(agent) if !agent.attached => agent.run,
            Some(_) | None => return,
        };
        if self.guard.is_none() {
            // What still runs in the data directory without a guard is killed first.
            if self.server.is_some() {
                self.end_server(turn, true, None);
            }
            self.guard = Some(super::guard::Guard::default());
        }
        if self.paused.guard {
            // One that does not answer for a second is killed, and what it guarded with it.
            let Some(agent) = &mut self.agent else { return };
            let since = *agent.knocked.get_or_insert(turn.now);
            if turn.now.0 - since.0 < 1_000_000 {
                let left = 1_000_000 - (turn.now.0 - since.0);
                self.agent_task(turn, left, Task::Attach);
                return;
            }
            agent.knocked = None;
            self.guard = None;
            self.paused.guard = false;
            self.held.retain(|event| *event != super::Event::Guard);
            return self.attach(turn);
        }
        self.thaw(turn);
        let Some(guard) = &mut self.guard else { return };
        guard.agent = Some(run);
        let (child, deadline, last) = (guard.child, guard.deadline, guard.last);
        let patience = super::beat::patience(self.timing());
        let down = last.map(|(_, code, itself)| self.judge(code, itself, false));
        let Some(agent) = &mut self.agent else { return };
        agent.attached = true;
        if let Some(pid) = child {
            agent.begin_life(pid);
            agent.serves = self.disk.memory.stopped;
            if let Some(deadline) = deadline {
                agent.committed = Some(deadline.max(turn.now).before(patience));
            }
        } else if let Some(down) = down {
            agent.end_life(down, turn.now);
        }
        self.examine();
        if child.is_some() {
            // The agent before may have died between a file and its reload.
            self.put_back(turn);
        }
        self.look(turn);
        self.wake(turn);
        self.speak(turn);
        self.agent_task(turn, 200, Task::Poll(0));
        self.agent_task(turn, 300, Task::Poll(1));
        self.read_log(turn, true);
        let life = self.agent.as_ref().map_or(0, |agent| agent.life);
        self.agent_task(turn, 1_000_000, Task::Measure(life));
    }

    /// Bytes free where the log is written.
    fn room(&self) -> u64 {
        if self.full { 0 } else { 64 << 30 }
    }

    /// What a promise or a later promotion of this instance rests on.
    pub(super) fn measure(&mut self, turn: &mut Turn, life: u64) {
        let hangs = self.sql_hangs();
        let free = self.room();
        let Some(agent) = &mut self.agent else { return };
        let now_life = agent.life;
        let rest = match &agent.facts {
            Some(facts) if !hangs && life == now_life => {
                let checks = Checks {
                    wal_free: Some(free),
                    wal_need: Some(2 << 30),
                    floor: Some(FloorSettings::default()),
                    rewind: Some(RewindReady { hints: true, full_pages: true, granted: true }),
                    exposures: (!facts.recovery).then(Exposures::default),
                    ..Checks::default()
                };
                agent.checks = checks;
                agent.voters.note_measured(now_life, turn.now);
                20_000_000
            }
            Some(_) | None => 1_000_000,
        };
        self.agent_task(turn, rest, Task::Measure(now_life));
    }

    /// The guard is gone: what it guarded must not go on without it.
    pub(super) fn replace_guard(&mut self, turn: &mut Turn) {
        if self.guard.is_some() {
            return;
        }
        if self.server.is_some() {
            self.end_server(turn, true, None);
        }
        let Some(agent) = &mut self.agent else { return };
        agent.attached = false;
        // Whoever waits for its answer sees the connection end.
        if let Some(running) = agent.beat.running.as_mut().filter(|running| running.asked) {
            running.answer = Some(super::guard::Word::Gone);
            let id = running.id;
            self.agent_task(turn, 10, Task::Act(id));
        }
        if self.agent.as_ref().is_some_and(|agent| agent.pid.is_some()) {
            self.note_down(turn, Down::Fenced);
        }
        self.agent_task(turn, 3_000, Task::Attach);
    }

    /// Whether PostgreSQL runs and answers.
    pub(super) fn is_phase(&self, phase: Phase) -> bool {
        self.server.as_ref().is_some_and(|server| server.phase == phase)
    }
}

/// Another stream has the same name.
fn is_twin(facts: &Facts, one: &StreamFacts) -> bool {
    facts.streams.iter().any(|other| other.name == one.name && other.stream != one.stream)
}

/// Writes a position over an older one, without making the history anew where it is the same.
fn place(position: &mut failover::position::Position, tree: &Tree, lsn: failover::Lsn) {
    let at_end = tree.switches.last().is_none_or(|last| lsn >= last.at);
    if at_end && position.timeline == tree.timeline && position.history == tree.switches {
        position.lsn = lsn;
    } else {
        *position = tree.position(lsn);
    }
}

/// The beginning of everything.
pub(super) const BOOT: Moment = Moment(1_000_000);
