//! What is done to a machine.

use super::Host;
use super::interface::{Fact, HostFault, Output, Part, Peer, Purpose, Wal};
use super::log::Record;
use super::queue::{Event, Job, Task};
use super::server::{Phase, Who};
use super::setting::Setting;
use super::turn::{Turn, micros};
use failover::{Lsn, Timeline};
use std::sync::Arc;

/// A receiver without a database (F-14).
#[derive(Debug)]
pub struct Impostor {
    pub stream: u64,
    pub from: Peer,
    pub held: Lsn,
}

impl Host {
    pub(super) fn fault(&mut self, turn: &mut Turn, fault: HostFault) {
        match fault {
            HostFault::CrashAgent => {
                self.agent = None;
                self.copy = None;
                self.fresh = None;
                self.paused.agent = false;
                self.stalled_agent.clear();
                self.guard_loses_agent();
            }
            HostFault::CrashGuard => self.guard_dies(turn),
            HostFault::CrashPostgres => self.crash_postgres(turn),
            HostFault::StartAgent => self.start_agent(turn),
            HostFault::Pause(part) => self.pause(part, true),
            HostFault::Resume(part) => self.resume(turn, part),
            HostFault::SlowDisk(takes) => self.slow_disk(turn, micros(takes)),
            HostFault::FillDisk => self.full = true,
            HostFault::DiskFreed => self.full = false,
            HostFault::CancelWaits if !self.paused.postgres => self.cancel(turn, None),
            HostFault::CancelWaits => {}
            HostFault::EmptySetting => {
                if let Some(data) = &mut self.disk.data {
                    data.overruled = Some(Arc::new(Setting::emptied()));
                    self.hang_up(turn);
                }
            }
            HostFault::Impostor { from, name, stolen } => self.pretend(turn, from, name, stolen),
            HostFault::StallCheckpointer(takes) => {
                let until = turn.later(micros(takes));
                if let Some(server) = &mut self.server {
                    server.stalled_until = Some(until);
                    let pid = server.pid;
                    let process = super::Process::Checkpointer;
                    self.job(turn, micros(takes), pid, Job::Reload(process));
                }
            }
            HostFault::LocalSession { commit } => {
                if self.is_phase(Phase::Writable) && !self.paused.postgres {
                    self.insert(turn, Record(commit), Who::Gone(commit), false);
                }
            }
            HostFault::LongQuery(takes) => self.hold_replay(turn, micros(takes), true),
            HostFault::SlowReplay(takes) => self.hold_replay(turn, micros(takes), false),
            HostFault::LoseFlushed(count) => self.lose_flushed(count),
            HostFault::ClockJump(millis) => self.clock.jump(millis),
            HostFault::ClockRate(rate) => self.clock.set_rate(turn.at, rate),
            HostFault::Wipe => self.wipe(turn),
        }
    }

    /// What a slow disk still owes is done at once when it is as usual again.
    fn slow_disk(&mut self, turn: &mut Turn, takes: u64) {
        let faster = takes < self.slow;
        self.slow = takes;
        if faster {
            let wait = takes + turn.dice.between(1_000, 20_000);
            let soon = turn.later(wait);
            self.queue.hasten(soon, |event| {
                matches!(
                    event,
                    Event::Agent(_, Task::Act(_))
                        | Event::Postgres(
                            _,
                            Job::Started
                                | Job::Flushed
                                | Job::Promoted
                                | Job::Stop
                                | Job::Checkpoint(_)
                        )
                )
            });
        }
    }

    fn crash_postgres(&mut self, turn: &mut Turn) {
        self.paused.postgres = false;
        self.end_server(turn, false, None);
    }

    fn wipe(&mut self, turn: &mut Turn) {
        self.end_server(turn, false, None);
        self.disk = super::disk::Disk::default();
        self.copy = None;
        self.fresh = None;
        self.agent = None;
        self.guard_loses_agent();
        turn.fact(Fact::Wiped);
        if self.on {
            self.start_agent(turn);
        }
    }

    /// The newest records are gone though they had been acknowledged (F-18).
    fn lose_flushed(&mut self, count: u64) {
        if self.server.is_some() {
            return;
        }
        if let Some(data) = &mut self.disk.data {
            let end = Lsn(data.flushed.0.saturating_sub(count).max(1));
            data.log.truncate(end);
            data.flushed = end;
            data.consistent = data.consistent.min(end);
        }
    }

    fn hold_replay(&mut self, turn: &mut Turn, takes: u64, query: bool) {
        let until = turn.later(takes);
        let Some(server) = &mut self.server else { return };
        if query && server.phase == Phase::Starting {
            // It answers no query yet.
            return;
        }
        if query {
            server.held_until = Some((until, true));
        }
        let pid = server.pid;
        if !query {
            self.slow_replay = Some(until);
        }
        self.job(turn, takes, pid, Job::Replay);
    }

    fn pretend(&mut self, turn: &mut Turn, from: Peer, name: Peer, stolen: bool) {
        let stream = self.number();
        self.impostor = Some(Impostor { stream, from, held: Lsn(0) });
        let role = if stolen { name } else { self.setup.own };
        let message = Wal::Connect {
            stream,
            purpose: Purpose::Impostor,
            name,
            role,
            system: None,
            timeline: Timeline(0),
            from: Lsn(0),
        };
        turn.out.push(Output::Wal { to: from, message });
    }

    /// A message for the impostor. Given back: it is not for it.
    pub(super) fn impostor_hears(&mut self, turn: &mut Turn, message: Wal) -> Option<Wal> {
        let Some(impostor) = &mut self.impostor else { return Some(message) };
        let stream = impostor.stream;
        if message.stream() != stream {
            return Some(message);
        }
        match message {
            Wal::Records { from, records, .. } => {
                let count = records.as_slice().len() as u64;
                impostor.held = impostor.held.max(Lsn(from.0 + count));
            }
            Wal::Accepted { .. } | Wal::Alive { .. } | Wal::Switched { .. } => {}
            Wal::Refused { .. } | Wal::Closed { .. } => {
                self.impostor = None;
                return None;
            }
            other @ (Wal::Connect { .. }
            | Wal::Flushed { .. }
            | Wal::Place { .. }
            | Wal::Copied { .. }) => return Some(other),
        }
        let upto = impostor.held;
        let message = Wal::Flushed { stream, upto, applied: upto };
        turn.out.push(Output::Wal { to: impostor.from, message });
        None
    }

    pub(super) fn pause(&mut self, part: Part, stopped: bool) {
        match part {
            Part::Agent => self.paused.agent = stopped && self.agent.is_some(),
            Part::Guard => self.paused.guard = stopped && self.guard.is_some(),
            Part::Postgres => self.paused.postgres = stopped && self.server.is_some(),
            Part::All => {
                self.pause(Part::Agent, stopped);
                self.pause(Part::Guard, stopped);
                self.pause(Part::Postgres, stopped);
            }
        }
    }

    /// Timers that rang meanwhile ring now; what lies in the sockets is read.
    pub(super) fn resume(&mut self, turn: &mut Turn, part: Part) {
        if part == Part::All {
            // Which of them the kernel runs first is chance.
            let mut parts = [Part::Agent, Part::Guard, Part::Postgres];
            let first = usize::try_from(turn.dice.roll(3)).unwrap_or(0);
            parts.rotate_left(first);
            for part in parts {
                self.resume(turn, part);
            }
            return;
        }
        self.pause(part, false);
        let (ready, held): (Vec<Event>, Vec<Event>) = std::mem::take(&mut self.held)
            .into_iter()
            .partition(|event| event.part() == Some(part));
        self.held = held;
        for event in ready {
            let takes = turn.dice.between(1, 300);
            self.queue.push(turn.later(takes), event);
        }
        match part {
            Part::Agent => {
                let inputs = std::mem::take(&mut self.stalled_agent);
                for input in inputs {
                    self.take(turn, input);
                }
            }
            Part::Guard => self.guard_resumes(turn),
            Part::Postgres => {
                self.deliver_signals(turn);
                for (from, message) in std::mem::take(&mut self.stalled_wal) {
                    self.wal(turn, from, message);
                }
                for (client, statement) in std::mem::take(&mut self.stalled_clients) {
                    self.client(turn, client, statement);
                }
                if let Some(agent) = &mut self.agent {
                    agent.probing = None;
                }
                self.look(turn);
            }
            Part::All => {}
        }
    }
}
