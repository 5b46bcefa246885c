//! What outlives a process, and what outlives the machine.

use super::interface::Peer;
use super::log::Log;
use super::queue::Line;
use super::setting::Setting;
use crate::dice::Dice;
use failover::position::Position;
use failover::report::Pledge;
use failover::{Assignment, Epoch, Generation, Lsn, SystemIdentifier, Timeline};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The agent's memory: always flushed before anything is said of it.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    pub pledge: Pledge,
    pub system: Option<SystemIdentifier>,
    pub led: Option<Epoch>,
    pub refused: bool,
    pub beyond: bool,
    pub doubt: Option<(Epoch, Position)>,
    pub doubt_pending: bool,
    pub stopped: bool,
    pub cut_off: bool,
}

/// A file that nobody flushes: after a power cut it may be the one before.
#[derive(Clone, Debug, Default)]
pub struct File<T> {
    value: T,
    before: Option<T>,
}

impl<T: Clone + PartialEq> File<T> {
    pub fn get(&self) -> &T {
        &self.value
    }

    pub fn set(&mut self, value: T) {
        if value != self.value {
            let before = std::mem::replace(&mut self.value, value);
            self.before.get_or_insert(before);
        }
    }

    fn lose_power(&mut self, dice: &mut Dice) {
        if let Some(before) = self.before.take()
            && dice.per_mille(500)
        {
            self.value = before;
        }
    }

    /// It outlives a power cut as it is now.
    pub fn sync(&mut self) {
        self.before = None;
    }
}

/// `baton.conf`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dynamic {
    /// Whom it follows, with the key of which epoch.
    pub upstream: Option<(Peer, Epoch)>,
    /// The recording of the rule.
    pub generation: Option<Generation>,
    /// The rule.
    pub setting: Arc<Setting>,
    /// The placeholder stands in for the rule (F-15).
    pub held: bool,
}

impl Dynamic {
    /// What PostgreSQL reads.
    pub fn names(&self) -> Arc<Setting> {
        if self.held { Arc::new(Setting::placeholder()) } else { Arc::clone(&self.setting) }
    }

    /// Somebody must flush a commit before it is acknowledged.
    pub fn waits(&self) -> bool {
        self.generation.is_some() && !self.setting.local
    }

    /// Commits do not wait.
    pub fn is_single_copy(&self) -> bool {
        self.generation.is_some() && self.setting.local
    }
}

/// A data directory.
#[derive(Clone, Debug)]
pub struct Data {
    pub system: SystemIdentifier,
    pub log: Log,
    /// What of the log survives a power cut.
    pub flushed: Lsn,
    /// A standby is consistent, and lets itself be asked, from here on.
    pub consistent: Lsn,
    /// The timeline of the last checkpoint.
    pub checkpoint: Timeline,
    /// The newest timeline whose history file is here.
    pub known: Timeline,
    /// A primary stopped cleanly.
    pub shut_down: bool,
    /// `standby.signal`.
    pub standby: bool,
    /// The roles of the instances exist in it.
    pub roles: bool,
    /// `postgresql.auto.conf` overrules the rule.
    pub overruled: Option<Arc<Setting>>,
    /// The control file says that it was a primary last.
    pub led: bool,
    /// The newest marker of its own: of which epoch, and where it ends.
    pub marker: Option<(Epoch, Lsn)>,
    /// A rewind has begun to write and has not ended.
    pub broken: bool,
}

impl Data {
    pub fn new(system: SystemIdentifier, log: Log) -> Self {
        let end = log.end();
        let timeline = log.tree().timeline;
        Self {
            system,
            log,
            flushed: end,
            consistent: Lsn(0),
            checkpoint: timeline,
            known: timeline,
            shut_down: false,
            standby: false,
            roles: false,
            overruled: None,
            led: false,
            marker: None,
            broken: false,
        }
    }

    /// Where a cleanly stopped primary's log ends.
    pub fn clean_end(&self) -> Option<Position> {
        self.shut_down.then(|| self.log.position(self.log.end()))
    }
}

/// A machine's disk.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    pub memory: Memory,
    pub data: Option<Data>,
    pub dynamic: File<Dynamic>,
    /// `pg_hba.conf` lets clients in.
    pub open: File<bool>,
    /// The keys to stream with, by epoch.
    pub keys: File<BTreeSet<Epoch>>,
    pub assignment: File<Option<Arc<Assignment>>>,
    /// Lines of PostgreSQL's log that no agent has read yet.
    pub unread: Vec<Line>,
}

impl Disk {
    /// What was not flushed may be gone.
    pub fn lose_power(&mut self, dice: &mut Dice) {
        self.dynamic.lose_power(dice);
        self.open.lose_power(dice);
        self.keys.lose_power(dice);
        self.assignment.lose_power(dice);
        if let Some(data) = &mut self.data {
            let kept = data.log.end().0 - data.flushed.0;
            // Some of what was only written may be there all the same.
            let kept = dice.roll(kept + 1);
            let end = Lsn(data.flushed.0 + kept);
            data.log.truncate(end);
            data.flushed = end;
        }
    }

    /// A whole file system is flushed.
    pub fn sync(&mut self) {
        self.dynamic.sync();
        self.open.sync();
        self.keys.sync();
        self.assignment.sync();
    }
}
