//! What clients were told, kept outside the database: the oracle judges by this and by nothing
//! that baton says.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use failover::time::Moment;

/// One row: who appended it, and its number among that client's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Item {
    /// The client.
    pub writer: u32,
    /// Its number.
    pub n: u64,
}

/// How a write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Acknowledged.
    Acked,
    /// Acknowledged, with a warning that it waited for nobody (F-10).
    Warned,
    /// Acknowledged to a session that asked for no more than the primary's own disk (F-16).
    Local,
    /// Nobody can say.
    Unknown,
    /// Turned away.
    Refused,
}

/// One write.
#[derive(Clone, Copy, Debug)]
pub struct Write {
    /// The row.
    pub item: Item,
    /// Whether its client stands outside and goes by the name.
    pub outside: bool,
    /// When it was sent.
    pub sent: Moment,
    /// When its outcome was known.
    pub done: Moment,
    /// Where.
    pub server: SocketAddr,
    /// The server's timeline, where it told.
    pub timeline: Option<u32>,
    /// Its outcome.
    pub outcome: Outcome,
}

/// One read that brought rows.
#[derive(Clone, Copy, Debug)]
pub struct Read {
    /// Whether its client stands outside and goes by the name.
    pub outside: bool,
    /// When it was sent.
    pub sent: Moment,
    /// When it was answered.
    pub done: Moment,
    /// Where.
    pub server: SocketAddr,
    /// The server's timeline.
    pub timeline: u32,
}

#[derive(Debug, Default)]
struct Held {
    writes: Vec<Write>,
    reads: Vec<Read>,
    seen: BTreeSet<Item>,
    pending: BTreeSet<Item>,
}

/// The journal of all clients of a run.
#[derive(Debug, Default)]
pub struct Journal(Mutex<Held>);

impl Journal {
    fn with<T>(&self, look: impl FnOnce(&mut Held) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A write is sent.
    pub fn sent(&self, item: Item) {
        self.with(|held| held.pending.insert(item));
    }

    /// Its outcome is known.
    pub fn wrote(&self, write: Write) {
        self.with(|held| {
            held.pending.remove(&write.item);
            held.writes.push(write);
        });
    }

    /// A read was answered with these rows.
    pub fn read(&self, read: Read, rows: impl Iterator<Item = Item>) {
        self.with(|held| {
            held.reads.push(read);
            held.seen.extend(rows);
        });
    }

    /// Whether a write of a client outside, sent after `from`, was acknowledged.
    pub fn acked_since(&self, from: Moment) -> bool {
        self.with(|held| {
            held.writes
                .iter()
                .rev()
                .take(4_000)
                .any(|write| write.outside && write.sent >= from && write.outcome == Outcome::Acked)
        })
    }

    /// When a client outside was last acknowledged a write.
    pub fn last_acked(&self) -> Option<Moment> {
        self.with(|held| {
            let acked = |w: &&Write| w.outside && w.outcome == Outcome::Acked;
            held.writes.iter().rev().find(acked).map(|write| write.done)
        })
    }

    /// Whether a read of a client outside, sent after `from`, was answered.
    pub fn read_since(&self, from: Moment) -> bool {
        self.with(|held| {
            held.reads.iter().rev().take(4_000).any(|read| read.outside && read.sent >= from)
        })
    }

    /// When a client outside was last answered a read.
    pub fn last_read(&self) -> Option<Moment> {
        self.with(|held| held.reads.iter().rev().find(|read| read.outside).map(|read| read.done))
    }

    /// The longest time without an acknowledgement to a client outside, from `from` to `to`.
    pub fn gap(&self, from: Moment, to: Moment) -> std::time::Duration {
        let mut times = self.with(|held| {
            let acked = held.writes.iter().filter(|w| w.outside && w.outcome == Outcome::Acked);
            acked.map(|write| write.done).filter(|at| *at >= from && *at <= to).collect::<Vec<_>>()
        });
        times.push(from);
        times.push(to);
        times.sort_unstable();
        let gaps = times.windows(2).filter_map(|pair| match pair {
            [one, other] => Some(other.since(*one)),
            _ => None,
        });
        gaps.max().unwrap_or_default()
    }

    /// Everything, once the clients have ended: writes, reads, rows read, and writes that nothing
    /// was heard of.
    pub fn whole(&self) -> (Vec<Write>, Vec<Read>, BTreeSet<Item>, BTreeSet<Item>) {
        self.with(|held| {
            (held.writes.clone(), held.reads.clone(), held.seen.clone(), held.pending.clone())
        })
    }
}
