//! A running PostgreSQL: what is in its memory.

use super::interface::Peer;
use super::log::Tree;
use super::queue::Commit;
use super::setting::Setting;
use failover::{Epoch, Lsn, Moment};
use std::sync::Arc;

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not answering yet.
    Starting,
    /// Read-only, following.
    Recovery,
    /// Writable.
    Writable,
    /// A clean stop: sessions are gone, standbys are still being served.
    Stopping,
}

/// A postmaster and its children.
#[derive(Debug)]
pub struct Server {
    /// Its number.
    pub pid: u64,
    pub phase: Phase,
    /// Start-up has read its control file and replays, or has replayed.
    pub begun: bool,
    /// `standby.signal` was there at its start, and it was not promoted since.
    pub recovering: bool,
    /// What new sessions go by.
    pub postmaster: Arc<Setting>,
    /// What decides whether commits wait at all (F-15).
    pub checkpointer: Arc<Setting>,
    pub stalled_until: Option<Moment>,
    /// `pg_hba.conf`, as read.
    pub open: bool,
    /// `primary_conninfo`, as the startup process knows it.
    pub upstream: Option<(Peer, Epoch)>,
    pub senders: Vec<Sender>,
    pub copies: Vec<Copy>,
    pub receiver: Option<Receiver>,
    /// Inserted, not yet flushed.
    pub inserted: Vec<Waiter>,
    /// Flushed, waiting for standbys.
    pub waiting: Vec<Waiter>,
    /// Everything up to here was released by standbys.
    pub released: Lsn,
    /// The flush under way.
    pub flushing: Option<Lsn>,
    pub sessions: Vec<u64>,
    /// The newest commit that can be seen.
    pub visible: Option<(Lsn, u64)>,
    pub replayed: Lsn,
    pub received: Option<Lsn>,
    /// When the startup process looks for WAL again.
    pub retry_at: Option<Moment>,
    pub promoting: bool,
    /// Promotion is about to be through.
    pub branching: bool,
    /// An agent asked for a checkpoint, and it is under way.
    pub hastened: bool,
    /// Replay is held up until then; by a query that can be ended.
    pub held_until: Option<(Moment, bool)>,
    pub stop: Stop,
}

/// A clean stop, step by step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// None.
    No,
    /// Ordered: sessions end, then the last record is written.
    Ordered,
    /// Standbys get the last of it.
    Draining,
    /// Everything is done: it ends.
    Over,
}

/// A commit on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiter {
    pub end: Lsn,
    pub who: Who,
    /// `synchronous_commit` is `on`.
    pub waits: bool,
}

/// Whose commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// A client's.
    Client(u64, u64),
    /// A client's that is gone.
    Gone(u64),
    /// The agent's, of this run, in this life.
    Agent(u64, u64, Commit),
    /// Nobody's.
    Nobody,
}

/// A walsender.
#[derive(Debug)]
pub struct Sender {
    pub stream: u64,
    /// Where the receiver is.
    pub peer: Peer,
    pub name: Peer,
    pub role: Peer,
    pub sent: Lsn,
    pub flushed: Lsn,
    /// There is no database behind it.
    pub posed: bool,
    /// It has said what it holds at least once.
    pub known: bool,
    /// It has caught up.
    pub streaming: bool,
    pub setting: Arc<Setting>,
    pub priority: u8,
    /// The history that the receiver was told of.
    pub tree: Arc<Tree>,
    pub heard: Moment,
    pub spoke: Moment,
}

/// A base backup or a rewind, at its source.
#[derive(Clone, Copy, Debug)]
pub struct Copy {
    pub stream: u64,
    pub peer: Peer,
    pub due: Moment,
}

/// A walreceiver.
#[derive(Debug)]
pub struct Receiver {
    pub stream: u64,
    pub peer: Peer,
    /// Whose key it uses.
    pub epoch: Epoch,
    /// It has read the key.
    pub identified: bool,
    pub streaming: bool,
    /// The upstream's history, until it is passed into our own.
    pub tree: Option<Arc<Tree>>,
    /// When the last message came: by the monotonic clock, and by the wall clock.
    pub heard: Moment,
    pub stamp: i64,
    /// When it last said what it holds.
    pub spoke: Moment,
    pub told: Lsn,
}

impl Server {
    pub fn new(pid: u64, recovering: bool, setting: Arc<Setting>) -> Self {
        Self {
            pid,
            phase: Phase::Starting,
            begun: false,
            recovering,
            postmaster: setting,
            // The flag is the checkpointer's to set (F-15).
            checkpointer: Arc::new(Setting::emptied()),
            stalled_until: None,
            open: false,
            upstream: None,
            senders: Vec::new(),
            copies: Vec::new(),
            receiver: None,
            inserted: Vec::new(),
            waiting: Vec::new(),
            released: Lsn(0),
            flushing: None,
            sessions: Vec::new(),
            visible: None,
            replayed: Lsn(0),
            received: None,
            retry_at: None,
            promoting: false,
            branching: false,
            hastened: false,
            held_until: None,
            stop: Stop::No,
        }
    }

    /// Sessions can be opened by somebody who is let in.
    pub fn answers(&self) -> bool {
        matches!(self.phase, Phase::Recovery | Phase::Writable)
    }

    pub fn see(&mut self, end: Lsn, commit: u64) {
        if self.visible.is_none_or(|(newest, _)| newest < end) {
            self.visible = Some((end, commit));
        }
    }
}
