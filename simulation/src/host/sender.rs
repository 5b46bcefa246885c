//! The sending side of replication: walsenders, base backups, the source of a rewind.

use super::Host;
use super::interface::{Fact, Output, Peer, Purpose, Records, Refusal, Wal};
use super::log::{Record, Tree};
use super::queue::{Job, Line};
use super::server::{Copy, Phase, Sender, Stop};
use super::turn::{Turn, micros};
use failover::{Lsn, SystemIdentifier, Timeline};
use std::sync::Arc;

/// What a connection asks for.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    pub stream: u64,
    pub purpose: Purpose,
    pub name: Peer,
    pub role: Peer,
    pub system: Option<SystemIdentifier>,
    pub timeline: Timeline,
    pub from: Lsn,
}

impl Host {
    /// `wal_sender_timeout` and `wal_receiver_timeout`, as the agent sets them.
    pub(super) fn wal_timeout(&self) -> u64 {
        micros(self.timing().suspect_after).max(1_000_000) * 2
    }

    /// A connection of the replication plane.
    pub(super) fn connected(&mut self, turn: &mut Turn, from: Peer, wanted: Wanted) {
        let stream = wanted.stream;
        let refuse = |turn: &mut Turn, why| {
            turn.out.push(Output::Wal { to: from, message: Wal::Refused { stream, why } });
        };
        let (Some(server), Some(data)) = (&mut self.server, &self.disk.data) else {
            return refuse(turn, Refusal::Down);
        };
        if !server.answers() {
            return refuse(turn, Refusal::Down);
        }
        // The certificate proves the role, and the role must exist.
        if !data.roles {
            return refuse(turn, Refusal::Role);
        }
        match wanted.purpose {
            Purpose::Stream | Purpose::Impostor => {
                if wanted.system.is_some_and(|system| system != data.system) {
                    return refuse(turn, Refusal::System);
                }
                // Without data of its own it takes what it is told there is.
                if wanted.purpose == Purpose::Stream
                    && let Err(why) = fits(data.log.tree(), data.flushed, &wanted)
                {
                    return refuse(turn, why);
                }
                self.begin_stream(turn, from, wanted);
            }
            Purpose::Ask => {
                let tree = (!server.recovering).then(|| Arc::clone(data.log.tree()));
                let checkpoint = data.checkpoint;
                let message = Wal::Place { stream, tree, checkpoint };
                turn.out.push(Output::Wal { to: from, message });
            }
            Purpose::Backup | Purpose::Rewind => {
                let takes = if wanted.purpose == Purpose::Backup {
                    turn.dice.between(400_000, 4_000_000)
                } else {
                    turn.dice.between(200_000, 2_000_000)
                };
                let due = turn.later(takes + self.slow * 4);
                let Some(server) = &mut self.server else { return };
                let copy = Copy { stream, peer: from, due };
                server.copies.push(copy);
                let pid = server.pid;
                let first = takes.min(2_000_000);
                turn.out.push(Output::Wal { to: from, message: Wal::Alive { stream } });
                self.job(turn, first, pid, Job::Copy(stream));
            }
        }
    }

    fn begin_stream(&mut self, turn: &mut Turn, peer: Peer, wanted: Wanted) {
        let timeout = self.wal_timeout();
        let (Some(server), Some(data)) = (&mut self.server, &self.disk.data) else { return };
        let setting = Arc::clone(&server.postmaster);
        let tree = Arc::clone(data.log.tree());
        let sender = Sender {
            stream: wanted.stream,
            peer,
            name: wanted.name,
            role: wanted.role,
            sent: wanted.from,
            flushed: Lsn(0),
            posed: wanted.purpose == Purpose::Impostor,
            known: false,
            streaming: false,
            priority: setting.priority(wanted.name),
            setting,
            tree: Arc::clone(&tree),
            heard: turn.now,
            spoke: turn.now,
        };
        let poses = sender.posed && sender.name != sender.role;
        server.senders.push(sender);
        let pid = server.pid;
        if poses {
            turn.fact(Fact::Posed { stream: wanted.stream });
        }
        let message = Wal::Accepted { stream: wanted.stream, tree };
        turn.out.push(Output::Wal { to: peer, message });
        self.job(turn, timeout / 2, pid, Job::SenderTick(wanted.stream));
        let taken = (wanted.role != wanted.name).then_some(wanted.name);
        self.log_line(turn, Line::Replication(wanted.stream, taken));
        self.serve_all(turn);
    }

    /// Everything flushed goes to everyone who streams; asynchronous standbys are not waited for.
    pub(super) fn serve_all(&mut self, turn: &mut Turn) {
        let (Some(server), Some(data)) = (&mut self.server, &self.disk.data) else { return };
        if server.phase == Phase::Starting || server.branching {
            return;
        }
        let end = data.flushed;
        for sender in &mut server.senders {
            if !Arc::ptr_eq(&sender.tree, data.log.tree()) {
                sender.tree = Arc::clone(data.log.tree());
                let message =
                    Wal::Switched { stream: sender.stream, tree: Arc::clone(&sender.tree) };
                turn.out.push(Output::Wal { to: sender.peer, message });
            }
            while sender.sent < end {
                let from = sender.sent;
                let count = (end.0 - from.0).min(2_048);
                let records = if count == 1 {
                    Records::One(data.log.get(from).unwrap_or(Record(0)))
                } else {
                    let count = usize::try_from(count).unwrap_or(1);
                    Records::Many(data.log.iter_from(from).take(count).collect())
                };
                sender.sent = Lsn(from.0 + count);
                sender.spoke = turn.now;
                let message = Wal::Records { stream: sender.stream, from, records };
                turn.out.push(Output::Wal { to: sender.peer, message });
            }
        }
    }

    /// A standby says what it holds.
    pub(super) fn heard_flushed(&mut self, turn: &mut Turn, from: Peer, stream: u64, upto: Lsn) {
        let Some(sender) =
            self.server.as_mut().and_then(|server| find(&mut server.senders, stream))
        else {
            turn.out.push(Output::Wal { to: from, message: Wal::Closed { stream } });
            return;
        };
        sender.heard = turn.now;
        sender.known = true;
        sender.flushed = sender.flushed.max(upto);
        // Once it was sent everything there is, it has caught up.
        let end = self.disk.data.as_ref().map_or(Lsn(0), |data| data.flushed);
        sender.streaming |= sender.sent >= end;
        self.release(turn, stream);
        if self.server.as_ref().is_some_and(|server| server.stop == Stop::Draining) {
            self.drained(turn);
        }
    }

    /// A sender looks at its clock: too long without a word from the other end, or time for one
    /// of its own.
    pub(super) fn sender_tick(&mut self, turn: &mut Turn, stream: u64) {
        let timeout = self.wal_timeout();
        let Some(server) = &mut self.server else { return };
        let pid = server.pid;
        let Some(sender) = find(&mut server.senders, stream) else { return };
        let silent = turn.now.0 - sender.heard.0;
        if silent >= timeout {
            self.close_sender(turn, stream);
            self.drained(turn);
            return;
        }
        if silent >= timeout / 2 {
            sender.spoke = turn.now;
            turn.out.push(Output::Wal { to: sender.peer, message: Wal::Alive { stream } });
            self.job(turn, timeout - silent, pid, Job::SenderTick(stream));
        } else {
            self.job(turn, timeout / 2 - silent, pid, Job::SenderTick(stream));
        }
    }

    /// Ends a sender from this side.
    pub(super) fn close_sender(&mut self, turn: &mut Turn, stream: u64) {
        let Some(server) = &mut self.server else { return };
        if let Some(at) = server.senders.iter().position(|sender| sender.stream == stream) {
            let sender = server.senders.remove(at);
            turn.out.push(Output::Wal { to: sender.peer, message: Wal::Closed { stream } });
        }
    }

    /// The other end closed a connection to us.
    pub(super) fn sender_closed(&mut self, turn: &mut Turn, stream: u64) {
        let Some(server) = &mut self.server else { return };
        server.senders.retain(|sender| sender.stream != stream);
        server.copies.retain(|copy| copy.stream != stream);
        self.drained(turn);
    }

    /// A copy is under way: a sign of life, or all of it.
    pub(super) fn copy(&mut self, turn: &mut Turn, stream: u64) {
        let (Some(server), Some(data)) = (&mut self.server, &self.disk.data) else { return };
        let Some(at) = server.copies.iter().position(|copy| copy.stream == stream) else { return };
        let Some(copy) = server.copies.get(at).copied() else { return };
        if copy.due > turn.now {
            let left = (copy.due.0 - turn.now.0).min(2_000_000);
            let pid = server.pid;
            turn.out.push(Output::Wal { to: copy.peer, message: Wal::Alive { stream } });
            self.job(turn, left, pid, Job::Copy(stream));
            return;
        }
        server.copies.remove(at);
        let mut log = data.log.clone();
        log.truncate(data.flushed);
        let message = Wal::Copied { stream, system: data.system, log };
        turn.out.push(Output::Wal { to: copy.peer, message });
    }
}

pub(super) fn find(senders: &mut [Sender], stream: u64) -> Option<&mut Sender> {
    senders.iter_mut().find(|sender| sender.stream == stream)
}

/// What a walsender checks before it streams (F-23).
fn fits(tree: &Tree, end: Lsn, wanted: &Wanted) -> Result<(), Refusal> {
    if wanted.timeline == tree.timeline {
        return if wanted.from > end { Err(Refusal::Beyond) } else { Ok(()) };
    }
    match tree.left(wanted.timeline) {
        Some(left) if wanted.from <= left => Ok(()),
        // It knows a timeline that we do not: it is not its history that is at fault.
        None if wanted.timeline > tree.timeline => Err(Refusal::Down),
        Some(_) | None => Err(Refusal::Beyond),
    }
}
