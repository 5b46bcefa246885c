//! The receiving side of replication: the startup process and its walreceiver.

use super::Host;
use super::interface::{Fact, Output, Purpose, Records, Refusal, Wal};
use super::log::{SEGMENT, Tree};
use super::queue::{Job, Line};
use super::server::{Receiver, Stop};
use super::turn::Turn;
use failover::Lsn;
use std::sync::Arc;

/// `wal_retrieve_retry_interval`.
const RETRY: u64 = 100_000;
/// `connect_timeout`.
const CONNECT: u64 = 2_000_000;
/// `wal_receiver_status_interval`.
const STATUS: u64 = 1_000_000;

impl Host {
    /// The startup process looks for WAL again, so many microseconds from now at the latest.
    pub(super) fn wake_startup(&mut self, turn: &mut Turn, takes: u64) {
        let Some(server) = &mut self.server else { return };
        let at = turn.later(takes.max(1));
        if server.retry_at.is_none_or(|known| known > at) {
            server.retry_at = Some(at);
            let pid = server.pid;
            self.job(turn, takes.max(1), pid, Job::Retry);
        }
    }

    /// The startup process wants WAL: a receiver is forked.
    pub(super) fn retry(&mut self, turn: &mut Turn) {
        let stream = self.number();
        let Some(server) = &mut self.server else { return };
        if server.retry_at.is_none_or(|at| at > turn.now) {
            return;
        }
        server.retry_at = None;
        let idle = server.recovering && !server.promoting && server.stop == Stop::No;
        if !idle || server.receiver.is_some() {
            return;
        }
        let Some((peer, epoch)) = server.upstream else { return };
        server.receiver = Some(Receiver {
            stream,
            peer,
            epoch,
            identified: false,
            streaming: false,
            tree: None,
            heard: turn.now,
            stamp: turn.wall.0,
            spoke: turn.now,
            told: Lsn(0),
        });
        let pid = server.pid;
        // A child just forked has the old settings and no title yet.
        let takes = turn.dice.between(500, 6_000);
        self.job(turn, takes, pid, Job::Identified(stream));
    }

    /// The receiver has come to the point where it needs its key.
    pub(super) fn identified(&mut self, turn: &mut Turn, stream: u64) {
        let (Some(server), Some(data)) = (&mut self.server, &self.disk.data) else { return };
        let Some(receiver) = server.receiver.as_mut().filter(|r| r.stream == stream) else {
            return;
        };
        if !self.disk.keys.get().contains(&receiver.epoch) {
            server.receiver = None;
            self.log_line(turn, Line::StreamLost);
            self.wake_startup(turn, RETRY);
            return;
        }
        receiver.identified = true;
        receiver.heard = turn.now;
        let end = data.log.end();
        let from = Lsn(end.0 - end.0 % SEGMENT);
        let at_end = data.log.tree().position(end);
        let message = Wal::Connect {
            stream,
            purpose: Purpose::Stream,
            name: self.setup.own,
            role: self.setup.own,
            system: Some(data.system),
            timeline: at_end.timeline,
            from,
        };
        turn.out.push(Output::Wal { to: receiver.peer, message });
        let pid = server.pid;
        self.job(turn, CONNECT, pid, Job::ReceiverTick(stream));
    }

    /// The upstream streams; whether its history is a continuation of ours is ours to see.
    pub(super) fn accepted(&mut self, turn: &mut Turn, stream: u64, tree: Arc<Tree>) {
        let (Some(server), Some(data)) = (&mut self.server, &mut self.disk.data) else { return };
        let Some(receiver) = server.receiver.as_mut().filter(|r| r.stream == stream) else {
            return;
        };
        receiver.heard = turn.now;
        receiver.stamp = turn.wall.0;
        data.known = data.known.max(tree.timeline);
        let end = data.log.end();
        if !tree.continues(data.log.tree(), end) {
            self.log_line(turn, Line::Diverged);
            self.close_receiver(turn, false);
            self.wake_startup(turn, RETRY);
            return;
        }
        receiver.streaming = true;
        server.received = Some(Lsn(end.0 - end.0 % SEGMENT));
        if **data.log.tree() == *tree {
            data.log.set_tree(tree);
        } else {
            receiver.tree = Some(tree);
        }
        let epoch = receiver.epoch;
        turn.fact(Fact::Received { epoch });
        self.acknowledge(turn);
        self.look(turn);
    }

    /// PostgreSQL at the other end said no.
    pub(super) fn refused(&mut self, turn: &mut Turn, stream: u64, why: Refusal) {
        let Some(server) = &mut self.server else { return };
        if server.receiver.as_ref().is_none_or(|receiver| receiver.stream != stream) {
            return;
        }
        server.receiver = None;
        match why {
            Refusal::Beyond => self.log_line(turn, Line::Diverged),
            Refusal::Down | Refusal::Role | Refusal::System => {
                self.log_line(turn, Line::StreamLost);
            }
        }
        self.wake_startup(turn, RETRY);
    }

    /// WAL arrives.
    pub(super) fn received(&mut self, turn: &mut Turn, stream: u64, from: Lsn, records: &Records) {
        let (Some(server), Some(data)) = (&mut self.server, &mut self.disk.data) else { return };
        let Some(receiver) = server.receiver.as_mut().filter(|r| r.stream == stream) else {
            return;
        };
        receiver.heard = turn.now;
        receiver.stamp = turn.wall.0;
        let end = data.log.end();
        if from > end || self.full {
            self.close_receiver(turn, true);
            return;
        }
        let mut at = from;
        for record in records.as_slice() {
            if at < data.log.end() {
                if data.log.get(at) != Some(*record) {
                    // Other content at the same place: no record after it fits (its link back).
                    self.close_receiver(turn, true);
                    return;
                }
            } else {
                if let Some(tree) = &receiver.tree {
                    data.log.set_tree(Arc::clone(tree));
                    receiver.tree = None;
                }
                data.log.push(*record);
            }
            at.0 += 1;
        }
        if data.log.end() > data.flushed {
            self.flush(turn);
        } else if server.received.is_some_and(|known| known < data.flushed) && at >= data.flushed {
            server.received = Some(data.flushed);
            self.acknowledge(turn);
        }
    }

    /// The upstream was promoted while it served us.
    pub(super) fn switched(&mut self, turn: &mut Turn, stream: u64, tree: Arc<Tree>) {
        let (Some(server), Some(data)) = (&mut self.server, &mut self.disk.data) else { return };
        let Some(receiver) = server.receiver.as_mut().filter(|r| r.stream == stream) else {
            return;
        };
        receiver.heard = turn.now;
        receiver.stamp = turn.wall.0;
        data.known = data.known.max(tree.timeline);
        if tree.continues(data.log.tree(), data.log.end()) {
            receiver.tree = Some(tree);
        } else {
            self.log_line(turn, Line::Diverged);
            self.close_receiver(turn, false);
            self.wake_startup(turn, RETRY);
        }
    }

    /// The upstream is alive, and may want an answer.
    pub(super) fn alive(&mut self, turn: &mut Turn, stream: u64) {
        let Some(receiver) = self.server.as_mut().and_then(|server| server.receiver.as_mut())
        else {
            return;
        };
        if receiver.stream == stream {
            receiver.heard = turn.now;
            receiver.stamp = turn.wall.0;
            self.acknowledge(turn);
        }
    }

    /// The receiver says what is on disk here.
    pub(super) fn acknowledge(&mut self, turn: &mut Turn) {
        let (Some(server), Some(data)) = (&mut self.server, &self.disk.data) else { return };
        let applied = server.replayed;
        if let Some(receiver) = server.receiver.as_mut().filter(|receiver| receiver.streaming) {
            receiver.spoke = turn.now;
            receiver.told = data.flushed;
            let stream = receiver.stream;
            let message = Wal::Flushed { stream, upto: data.flushed, applied };
            turn.out.push(Output::Wal { to: receiver.peer, message });
        }
    }

    /// The receiver looks at its clock.
    pub(super) fn receiver_tick(&mut self, turn: &mut Turn, stream: u64) {
        let timeout = self.wal_timeout();
        let Some(server) = &mut self.server else { return };
        let pid = server.pid;
        let Some(receiver) = server.receiver.as_ref().filter(|r| r.stream == stream) else {
            return;
        };
        let silent = turn.now.0 - receiver.heard.0;
        let limit = if receiver.streaming { timeout } else { CONNECT };
        if silent >= limit {
            self.close_receiver(turn, true);
            return;
        }
        let spoke = turn.now.0 - receiver.spoke.0;
        let mut next = limit - silent;
        if receiver.streaming {
            if spoke >= STATUS {
                self.acknowledge(turn);
                next = next.min(STATUS);
            } else {
                next = next.min(STATUS - spoke);
            }
        }
        self.job(turn, next, pid, Job::ReceiverTick(stream));
    }

    /// The upstream closed the connection.
    pub(super) fn receiver_closed(&mut self, turn: &mut Turn, stream: u64) {
        let Some(server) = &mut self.server else { return };
        if server.receiver.as_ref().is_some_and(|receiver| receiver.stream == stream) {
            server.receiver = None;
            self.log_line(turn, Line::StreamLost);
            self.wake_startup(turn, RETRY);
        }
    }

    /// The receiver ends; what it had received it flushes first, without another word.
    pub(super) fn close_receiver(&mut self, turn: &mut Turn, loses: bool) {
        let full = self.full;
        let (Some(server), Some(data)) = (&mut self.server, &mut self.disk.data) else { return };
        let Some(receiver) = server.receiver.take() else { return };
        if full {
            data.log.truncate(data.flushed);
        } else {
            data.flushed = data.log.end();
            server.received = server.received.map(|known| known.max(data.flushed));
        }
        server.flushing = None;
        let message = Wal::Closed { stream: receiver.stream };
        turn.out.push(Output::Wal { to: receiver.peer, message });
        if loses {
            self.log_line(turn, Line::StreamLost);
        }
        self.replay(turn);
        self.wake_startup(turn, RETRY);
    }

    /// The startup process reads its files again: another upstream, or none (F-25).
    pub(super) fn reload_startup(&mut self, turn: &mut Turn) {
        let upstream = self.disk.dynamic.get().upstream;
        let Some(server) = &mut self.server else { return };
        if !server.recovering || server.upstream == upstream {
            return;
        }
        server.upstream = upstream;
        if server.receiver.is_some() {
            self.close_receiver(turn, true);
        }
        if upstream.is_some() {
            self.wake_startup(turn, RETRY);
        }
    }

    /// Whether a receiver is there that could still deliver, or one too young to tell.
    pub(super) fn receives(&self) -> bool {
        self.server.as_ref().is_some_and(|server| server.receiver.is_some())
    }
}
