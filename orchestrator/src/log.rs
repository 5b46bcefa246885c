//! The log as Raft reads it: in memory, the same as on disk.
//!
//! The log is short (it is compacted), so all of it is held; the disk is only ever written while
//! running. Whoever carries out a [`Batch`] makes the disk the same as this.

use std::collections::VecDeque;

use raft::eraftpb::{self, ConfState, HardState};
use raft::{GetEntriesContext, RaftState, StorageError};

use crate::audit::{Hole, Line};
use crate::message::{Entry, Refusal, Snapshot};

/// Raft's own three numbers, which must survive a restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hard {
    /// The newest term seen.
    pub term: u64,
    /// Who was voted for in it; 0: nobody.
    pub vote: u64,
    /// The last entry known to be committed.
    pub commit: u64,
}

/// A place in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// Which entry.
    pub index: u64,
    /// Its term.
    pub term: u64,
}

/// What is on disk.
#[derive(Clone, Debug, PartialEq)]
pub struct Saved {
    /// Raft's numbers.
    pub hard: Hard,
    /// The last entry that is no longer there.
    pub dropped: Place,
    /// The entries after it, without a gap.
    pub entries: Vec<Entry>,
    /// The state at some entry not before `dropped`; `None` for a voter that waits to be added.
    pub snapshot: Option<Snapshot>,
    /// What the table of audit records lacks. All others are there, up to the snapshot's.
    pub hole: Hole,
}

/// What must be on disk before anything that follows it may leave this process (I-22).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Raft's numbers.
    pub hard: Option<Hard>,
    /// Another log takes the place of the present one: nothing of that is kept.
    pub replaces: bool,
    /// Everything up to here is dropped.
    pub dropped: Option<Place>,
    /// Entries to be written; whatever stands from the first of them on gives way.
    pub entries: Vec<Entry>,
    /// The new snapshot.
    pub snapshot: Option<Snapshot>,
    /// Audit records; nothing that stands is ever changed by them.
    pub audit: Vec<Line>,
    /// What the table of them lacks from now on.
    pub hole: Option<Hole>,
}

impl Batch {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The log in memory.
pub struct Log {
    hard: Hard,
    group: ConfState,
    dropped: Place,
    entries: VecDeque<eraftpb::Entry>,
    snapshot: eraftpb::Snapshot,
}

impl Log {
    /// The log as it was on disk.
    ///
    /// # Errors
    /// When an entry or the snapshot cannot be converted.
    pub fn new(saved: &Saved) -> Result<Self, Refusal> {
        let snapshot = saved.snapshot.as_ref().map(Snapshot::to_raft).transpose()?;
        let snapshot = snapshot.unwrap_or_default();
        Ok(Self {
            hard: saved.hard,
            group: snapshot.get_metadata().get_conf_state().clone(),
            dropped: saved.dropped,
            entries: saved.entries.iter().map(Entry::to_raft).collect::<Result<_, _>>()?,
            snapshot,
        })
    }

    /// Raft's numbers as they are known here.
    pub fn hard(&self) -> Hard {
        self.hard
    }

    /// Takes up Raft's numbers.
    pub fn set_hard(&mut self, hard: Hard) {
        self.hard = hard;
    }

    /// Takes up a later commit.
    pub fn set_commit(&mut self, commit: u64) {
        self.hard.commit = self.hard.commit.max(commit);
    }

    /// The last entry that is no longer there.
    pub fn dropped(&self) -> Place {
        self.dropped
    }

    /// The last entry of the snapshot.
    pub fn snapshot_index(&self) -> u64 {
        self.snapshot.get_metadata().index
    }

    /// The last entry.
    pub fn last(&self) -> Place {
        self.entries
            .back()
            .map_or(self.dropped, |entry| Place { index: entry.index, term: entry.term })
    }

    /// Appends entries; whatever stands from the first of them on gives way.
    pub fn append(&mut self, entries: &[eraftpb::Entry]) {
        let Some(first) = entries.first() else { return };
        while self.entries.back().is_some_and(|entry| entry.index >= first.index) {
            self.entries.pop_back();
        }
        self.entries.extend(entries.iter().cloned());
    }

    /// Another log, beginning after `snapshot`, takes the place of this one.
    pub fn install(&mut self, snapshot: eraftpb::Snapshot) {
        let metadata = snapshot.get_metadata();
        self.dropped = Place { index: metadata.index, term: metadata.term };
        self.group = metadata.get_conf_state().clone();
        self.entries.clear();
        self.set_commit(self.dropped.index);
        self.snapshot = snapshot;
    }

    /// Takes a snapshot of an applied state, and drops entries up to `keep_after`.
    pub fn compact(&mut self, snapshot: eraftpb::Snapshot, keep_after: u64) {
        self.group = snapshot.get_metadata().get_conf_state().clone();
        self.snapshot = snapshot;
        while let Some(entry) = self.entries.front() {
            if entry.index > keep_after {
                break;
            }
            self.dropped = Place { index: entry.index, term: entry.term };
            self.entries.pop_front();
        }
    }

    fn at(&self, index: u64) -> Option<&eraftpb::Entry> {
        let offset = index.checked_sub(self.dropped.index + 1)?;
        self.entries.get(usize::try_from(offset).ok()?)
    }
}

impl raft::Storage for Log {
    fn initial_state(&self) -> raft::Result<RaftState> {
        let hard = HardState {
            term: self.hard.term,
            vote: self.hard.vote,
            commit: self.hard.commit,
            ..HardState::default()
        };
        Ok(RaftState::new(hard, self.group.clone()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _: GetEntriesContext,
    ) -> raft::Result<Vec<eraftpb::Entry>> {
        if low <= self.dropped.index {
            return Err(raft::Error::Store(StorageError::Compacted));
        }
        let budget = max_size.into().unwrap_or(u64::MAX);
        let mut found = Vec::new();
        let mut bytes = 0_u64;
        for index in low..high {
            let Some(entry) = self.at(index) else {
                return Err(raft::Error::Store(StorageError::Unavailable));
            };
            bytes = bytes.saturating_add(entry.data.len() as u64 + 64);
            if bytes > budget && !found.is_empty() {
                break;
            }
            found.push(entry.clone());
        }
        Ok(found)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index == self.dropped.index {
            return Ok(self.dropped.term);
        }
        if index < self.dropped.index {
            return Err(raft::Error::Store(StorageError::Compacted));
        }
        self.at(index).map(|entry| entry.term).ok_or(raft::Error::Store(StorageError::Unavailable))
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.dropped.index + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last().index)
    }

    fn snapshot(&self, request_index: u64, _: u64) -> raft::Result<eraftpb::Snapshot> {
        if self.snapshot_index() == 0 || self.snapshot_index() < request_index {
            return Err(raft::Error::Store(StorageError::SnapshotTemporarilyUnavailable));
        }
        Ok(self.snapshot.clone())
    }
}
