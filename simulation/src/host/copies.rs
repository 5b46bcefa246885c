//! The return of an instance: a new copy, or a rewind.

use super::Host;
use super::act::{Found, Next, Running, Tool};
use super::agent::Agent;
use super::disk::Data;
use super::interface::{Fact, Output, Peer, Purpose, Wal};
use super::log::Log;
use super::queue::Task;
use super::turn::Turn;
use failover::comply::Divergence;
use failover::report::Severity;
use failover::{InstanceId, Lsn, SystemIdentifier};

/// How long a program waits for a silent peer.
const SILENCE: u64 = 8_000_000;

impl Host {
    /// A program connects to another machine.
    fn connect(&mut self, turn: &mut Turn, run: &mut Running, peer: Peer, purpose: Purpose) {
        let stream = self.number();
        let system = self.disk.data.as_ref().map(|data| data.system);
        let heard = turn.now;
        run.tool = Some(Tool { stream, peer, heard, connected: false, result: None });
        let message = Wal::Connect {
            stream,
            purpose,
            name: self.setup.own,
            role: self.setup.own,
            system,
            timeline: failover::Timeline(0),
            from: Lsn(0),
        };
        turn.out.push(Output::Wal { to: peer, message });
    }

    /// What a program brought back, once it has.
    fn found(turn: &Turn, run: &mut Running) -> Option<Found> {
        let tool = run.tool.as_mut()?;
        let found = tool.result.take();
        if found.is_some() {
            run.tool = None;
            return found;
        }
        let limit = if tool.connected { SILENCE } else { 2_000_000 };
        if turn.now.0 - tool.heard.0 >= limit {
            run.tool = None;
            return Some(Found::Failed);
        }
        None
    }

    /// A message for a program of the agent's. False: there is no such program.
    pub(super) fn tool_hears(&mut self, turn: &mut Turn, message: Wal) -> Option<Wal> {
        let running = self.agent.as_mut().and_then(|agent| agent.beat.running.as_mut());
        let Some(running) = running else { return Some(message) };
        let id = running.id;
        let Some(tool) = &mut running.tool else { return Some(message) };
        if message.stream() != tool.stream {
            return Some(message);
        }
        match message {
            Wal::Place { tree, checkpoint, .. } => {
                tool.result = Some(Found::Place(tree, checkpoint));
            }
            Wal::Copied { system, log, .. } => tool.result = Some(Found::Copied(system, log)),
            Wal::Refused { .. } | Wal::Closed { .. } => tool.result = Some(Found::Failed),
            Wal::Alive { .. } => {
                tool.heard = turn.now;
                tool.connected = true;
                return None;
            }
            other @ (Wal::Connect { .. }
            | Wal::Accepted { .. }
            | Wal::Records { .. }
            | Wal::Switched { .. }
            | Wal::Flushed { .. }) => return Some(other),
        }
        self.agent_task(turn, 500, Task::Act(id));
        None
    }

    pub(super) fn clone_from(
        &mut self,
        turn: &mut Turn,
        run: &mut Running,
        upstream: &InstanceId,
    ) -> Next {
        match run.step {
            0 => {
                let Some((peer, epoch)) = self.resolve(upstream) else { return Next::Failed };
                self.allow_stream(epoch);
                self.end_strangers(turn);
                if self.server.is_some() || self.full {
                    return Next::Failed;
                }
                if let Some(agent) = &mut self.agent {
                    agent.note("clone", Severity::Info, String::from("copying"));
                }
                self.speak(turn);
                self.connect(turn, run, peer, Purpose::Backup);
                Next::After(300_000)
            }
            1 => match Self::found(turn, run) {
                None => Next::Again(2_000_000),
                Some(Found::Copied(system, log)) => self.copied(turn, system, log),
                Some(Found::Place(..) | Found::Failed) => {
                    self.forget_note("clone");
                    Next::Failed
                }
            },
            2 => {
                // What was there is moved aside, durably; the copy is not in its place yet.
                let system = self.copy.as_ref().map(|data| data.system);
                if self.disk.data.take().is_some() {
                    self.examine();
                }
                self.disk.sync();
                let kept = self.remember(turn, |memory| {
                    memory.system = system;
                    memory.led = None;
                    memory.refused = false;
                    memory.beyond = false;
                    memory.doubt_pending = false;
                });
                if let Some(agent) = &mut self.agent {
                    agent.overruled = false;
                }
                if kept { Next::After(self.flush_time(turn)) } else { Next::Failed }
            }
            _ => {
                let Some(data) = self.copy.take() else { return Next::Failed };
                self.disk.data = Some(data);
                turn.fact(Fact::Cloned);
                self.examine();
                Next::Done
            }
        }
    }

    fn copied(&mut self, turn: &mut Turn, system: SystemIdentifier, log: Log) -> Next {
        self.forget_note("clone");
        let expected = self.assignment().and_then(|assignment| assignment.system_identifier);
        if self.full || expected.is_some_and(|expected| expected != system) {
            return Next::Failed;
        }
        let mut data = Data::new(system, log);
        data.standby = true;
        data.roles = true;
        data.consistent = data.log.end();
        self.copy = Some(data);
        Next::After(self.flush_time(turn) * 20)
    }

    fn forget_note(&mut self, subject: &'static str) {
        if let Some(agent) = &mut self.agent {
            agent.notes.remove(subject);
        }
    }

    pub(super) fn rewind(
        &mut self,
        turn: &mut Turn,
        run: &mut Running,
        upstream: &InstanceId,
    ) -> Next {
        match run.step {
            0 => {
                let Some((peer, epoch)) = self.resolve(upstream) else { return Next::Failed };
                self.end_strangers(turn);
                if self.server.is_some() {
                    return Next::Failed;
                }
                self.allow_stream(epoch);
                self.connect(turn, run, peer, Purpose::Ask);
                Next::After(5_000)
            }
            1 => self.settled(turn, run, upstream),
            2 => {
                // The tail is kept: see `settled`.
                if let Some(data) = &mut self.disk.data {
                    data.standby = false;
                }
                Next::After(self.flush_time(turn) * 4)
            }
            3 => {
                if let Some(agent) = &mut self.agent {
                    agent.rewinding = true;
                }
                if !self.remember(turn, |memory| memory.beyond = true) {
                    return Next::Failed;
                }
                let Some((peer, _)) = self.resolve(upstream) else { return Next::Failed };
                self.connect(turn, run, peer, Purpose::Rewind);
                Next::After(self.flush_time(turn))
            }
            4 => self.rewinding(turn, run),
            _ => {
                self.follows_again(turn);
                if let Some(agent) = &mut self.agent {
                    agent.rewinding = false;
                }
                Next::Done
            }
        }
    }

    /// Waits until the upstream can be rewound to; then keeps what will be lost (I-14).
    fn settled(&mut self, turn: &mut Turn, run: &mut Running, upstream: &InstanceId) -> Next {
        let (tree, checkpoint) = match Self::found(turn, run) {
            None if run.tool.is_some() => return Next::Again(500_000),
            None => {
                let Some((peer, _)) = self.resolve(upstream) else { return Next::Failed };
                self.connect(turn, run, peer, Purpose::Ask);
                return Next::Again(5_000);
            }
            Some(Found::Place(tree, checkpoint)) => (tree, checkpoint),
            Some(Found::Copied(..) | Found::Failed) => return Next::Failed,
        };
        let Some(tree) = tree.filter(|tree| tree.timeline == checkpoint) else {
            return if turn.now.0 - run.since.0 > 5_000_000 {
                Next::Failed
            } else {
                Next::Again(50_000)
            };
        };
        let Some(data) = &self.disk.data else { return Next::Failed };
        let target = failover::position::Position {
            timeline: tree.timeline,
            history: tree.switches.clone(),
            lsn: Lsn(u64::MAX),
        };
        // It led, and the primary does not know of that: whatever hides behind a timeline's number.
        let from = tree.shares(data.log.tree(), data.log.end());
        let own = data.log.tree().timeline.max(data.checkpoint);
        let led = self.disk.memory.led.filter(|_| data.led);
        let known = data.marker.filter(|(epoch, end)| led == Some(*epoch) && *end <= from);
        let twin = led.is_some() && (own == target.timeline || known.is_none());
        if !twin && data.clean_end().is_some_and(|end| target.contains(&end)) {
            self.follows_again(turn);
            return Next::Done;
        }
        turn.fact(Fact::TailKept { from, to: data.log.end() });
        if twin {
            self.remember(turn, |memory| memory.beyond = true);
            return Next::Failed;
        }
        Next::After(self.flush_time(turn) * 3)
    }

    /// The source was reached: from here on the directory is neither one nor the other.
    fn rewinding(&mut self, turn: &mut Turn, run: &mut Running) -> Next {
        let connected = run.tool.as_ref().is_some_and(|tool| tool.connected);
        if connected && let Some(data) = &mut self.disk.data {
            data.broken = true;
        }
        match Self::found(turn, run) {
            None => Next::Again(if connected { 1_000_000 } else { 20_000 }),
            Some(Found::Copied(_, log)) if !self.full => {
                let Some(data) = &mut self.disk.data else { return Next::Failed };
                let from = data.log.fork(&log);
                turn.fact(Fact::Rewound { from, to: data.log.end() });
                data.known = data.known.max(log.tree().timeline);
                data.flushed = log.end();
                data.consistent = log.end();
                data.log = log;
                data.shut_down = false;
                data.overruled = None;
                data.standby = true;
                data.led = false;
                data.marker = None;
                data.broken = false;
                self.disk.sync();
                Next::After(self.flush_time(turn) * 4)
            }
            Some(Found::Copied(..) | Found::Place(..) | Found::Failed) => {
                if let Some(agent) = &mut self.agent {
                    agent.rewinding = false;
                }
                if connected {
                    turn.fact(Fact::Quarantined);
                    self.disk.data = None;
                    self.examine();
                } else {
                    self.remember(turn, |memory| memory.beyond = false);
                }
                Next::Failed
            }
        }
    }

    fn follows_again(&mut self, turn: &mut Turn) {
        self.remember(turn, |memory| {
            memory.led = None;
            memory.refused = false;
            memory.beyond = false;
            memory.doubt_pending = false;
        });
        if let Some(agent) = &mut self.agent {
            agent.overruled = false;
        }
        self.examine();
    }
}

impl Host {
    /// How the data directory stands to the upstream's history.
    pub(super) fn divergence(&self, agent: &Agent) -> Divergence {
        let memory = &self.disk.memory;
        if memory.beyond && !agent.rewinding {
            Divergence::Beyond
        } else if memory.led.is_some() || memory.refused {
            Divergence::Suspected
        } else {
            Divergence::None
        }
    }
}
