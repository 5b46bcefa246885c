//! The write-ahead log: records, timelines and where they were left.
//!
//! A position is the number of records before it. What is older than the newest few records is
//! shared between copies, so that a base backup copies next to nothing.

use failover::position::{Position, Switch};
use failover::{Lsn, Timeline};
use std::sync::Arc;

/// Records in a shared piece.
const PIECE: usize = 256;
/// Records in a segment: a receiver asks from the beginning of one (F-20).
pub const SEGMENT: u64 = 16;

/// One record: a client's commit, or something of PostgreSQL's or the agent's own. No two records
/// of a run are equal, so that two histories are the same exactly when their records are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Record(pub u64);

impl Record {
    /// Numbers from here on are no client's commits.
    pub const OWN: u64 = 1 << 63;

    /// The client's commit, if it is one.
    #[must_use]
    pub fn commit(self) -> Option<u64> {
        (self.0 < Self::OWN).then_some(self.0)
    }
}

/// A timeline, and every earlier one with the place where it was left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    /// The timeline.
    pub timeline: Timeline,
    /// The earlier ones, oldest first.
    pub switches: Vec<Switch>,
}

impl Tree {
    /// The first timeline.
    #[must_use]
    pub fn root() -> Self {
        Self { timeline: Timeline(1), switches: Vec::new() }
    }

    /// A place in this history; before the last switch it is on the timeline that was left.
    #[must_use]
    pub fn position(&self, lsn: Lsn) -> Position {
        let kept = self.switches.iter().take_while(|switch| lsn >= switch.at).count();
        let timeline = self.switches.get(kept).map_or(self.timeline, |left| left.timeline);
        let history = self.switches.get(..kept).unwrap_or_default().to_vec();
        Position { timeline, history, lsn }
    }

    /// Where this history left a timeline; `None`: it never was on it, or still is.
    #[must_use]
    pub fn left(&self, timeline: Timeline) -> Option<Lsn> {
        self.switches.iter().find(|switch| switch.timeline == timeline).map(|switch| switch.at)
    }

    /// Whether a standby that stands at `end` on `other` can go on along this history.
    #[must_use]
    pub fn continues(&self, other: &Self, end: Lsn) -> bool {
        let on = other.position(end);
        match self.left(on.timeline) {
            Some(left) => end <= left && self.switches.starts_with(&on.history),
            None => self.timeline == on.timeline && self.switches == on.history,
        }
    }

    /// Up to where a log of `other` that ends at `end` is of this history too.
    #[must_use]
    pub fn shares(&self, other: &Self, end: Lsn) -> Lsn {
        let path = |tree: &Self| {
            let last = Switch { timeline: tree.timeline, at: Lsn(u64::MAX) };
            tree.switches.iter().copied().chain([last]).collect::<Vec<Switch>>()
        };
        let mut shared = Lsn(0);
        for (own, theirs) in path(self).iter().zip(&path(other)) {
            if own.timeline != theirs.timeline {
                break;
            }
            shared = own.at.min(theirs.at);
            if own.at != theirs.at {
                break;
            }
        }
        shared.min(end)
    }

    /// The branch that a promotion at `at` makes.
    #[must_use]
    pub fn branch(&self, at: Lsn, timeline: Timeline) -> Self {
        let mut switches = self.switches.clone();
        switches.push(Switch { timeline: self.timeline, at });
        Self { timeline, switches }
    }
}

/// A log. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Log {
    full: Vec<Arc<[Record]>>,
    open: Vec<Record>,
    tree: Arc<Tree>,
}

impl Default for Log {
    fn default() -> Self {
        Self { full: Vec::new(), open: Vec::new(), tree: Arc::new(Tree::root()) }
    }
}

impl Log {
    /// Its end.
    #[must_use]
    pub fn end(&self) -> Lsn {
        Lsn((self.full.len() * PIECE + self.open.len()) as u64)
    }

    /// Its history.
    #[must_use]
    pub fn tree(&self) -> &Arc<Tree> {
        &self.tree
    }

    /// From here on it is of another history.
    pub fn set_tree(&mut self, tree: Arc<Tree>) {
        self.tree = tree;
    }

    /// Adds a record; its end.
    pub fn push(&mut self, record: Record) -> Lsn {
        self.open.push(record);
        if self.open.len() == PIECE {
            let piece = std::mem::replace(&mut self.open, Vec::with_capacity(PIECE));
            self.full.push(piece.into());
        }
        self.end()
    }

    /// The record that begins at `lsn`.
    #[must_use]
    pub fn get(&self, lsn: Lsn) -> Option<Record> {
        let at = usize::try_from(lsn.0).ok()?;
        match self.full.get(at / PIECE) {
            Some(piece) => piece.get(at % PIECE).copied(),
            None => self.open.get(at - self.full.len() * PIECE).copied(),
        }
    }

    /// Forgets everything from `lsn` on. Whoever does that to a history says so with
    /// [`Log::set_tree`].
    pub fn truncate(&mut self, lsn: Lsn) {
        let keep = usize::try_from(lsn.0).unwrap_or(usize::MAX);
        if keep >= self.full.len() * PIECE + self.open.len() {
            return;
        }
        while keep < self.full.len() * PIECE {
            if let Some(piece) = self.full.pop() {
                self.open = piece.to_vec();
            }
        }
        self.open.truncate(keep - self.full.len() * PIECE);
    }

    /// The records from `lsn` on.
    pub fn iter_from(&self, lsn: Lsn) -> impl Iterator<Item = Record> + '_ {
        let at = usize::try_from(lsn.0).unwrap_or(usize::MAX);
        let pieces = self.full.iter().skip(at / PIECE).flat_map(|piece| piece.iter().copied());
        let all = pieces.chain(self.open.iter().copied());
        let skipped = (at / PIECE).min(self.full.len()) * PIECE;
        all.skip(at.saturating_sub(skipped))
    }

    /// All records.
    pub fn iter(&self) -> impl Iterator<Item = Record> + '_ {
        self.iter_from(Lsn(0))
    }

    /// Whether a client's commit is in it.
    #[must_use]
    pub fn contains(&self, commit: u64) -> bool {
        self.iter().any(|record| record.0 == commit)
    }

    /// The newest client's commit that ends at `upto` or before.
    #[must_use]
    pub fn newest(&self, upto: Lsn) -> Option<(Lsn, u64)> {
        (0..upto.0.min(self.end().0)).rev().find_map(|at| {
            self.get(Lsn(at)).and_then(Record::commit).map(|commit| (Lsn(at + 1), commit))
        })
    }

    /// A place in this log.
    #[must_use]
    pub fn position(&self, lsn: Lsn) -> Position {
        self.tree.position(lsn)
    }

    /// The first record in which two logs differ.
    #[must_use]
    pub fn fork(&self, other: &Self) -> Lsn {
        let shared = self
            .full
            .iter()
            .zip(&other.full)
            .take_while(|(a, b)| Arc::ptr_eq(a, b) || a == b)
            .count();
        let mut at = Lsn((shared * PIECE) as u64);
        while let (Some(a), Some(b)) = (self.get(at), other.get(at))
            && a == b
        {
            at.0 += 1;
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(records: u64) -> Log {
        let mut log = Log::default();
        for record in 0..records {
            log.push(Record(record));
        }
        log
    }

    #[test]
    fn records_are_found_across_pieces() {
        let mut log = log(600);
        assert_eq!(log.end(), Lsn(600));
        assert_eq!(log.get(Lsn(255)), Some(Record(255)));
        assert_eq!(log.get(Lsn(599)), Some(Record(599)));
        assert_eq!(log.get(Lsn(600)), None);
        assert_eq!(
            log.iter_from(Lsn(511)).map(|r| r.0).collect::<Vec<_>>(),
            (511..600).collect::<Vec<_>>()
        );
        log.truncate(Lsn(256));
        assert_eq!((log.end(), log.get(Lsn(256))), (Lsn(256), None));
        log.truncate(Lsn(100));
        assert_eq!((log.end(), log.get(Lsn(99))), (Lsn(100), Some(Record(99))));
        assert_eq!(log.push(Record(7)), Lsn(101));
    }

    #[test]
    fn forks_are_found_by_content() {
        let (a, mut b) = (log(600), log(600));
        assert_eq!(a.fork(&b), Lsn(600));
        b.truncate(Lsn(300));
        b.push(Record(1 << 20));
        assert_eq!(a.fork(&b), Lsn(300));
    }

    /// F-23.
    #[test]
    fn beyond_the_fork_there_is_no_way_on() {
        let old = Tree::root();
        let new = old.branch(Lsn(5), Timeline(2));
        assert!(new.continues(&old, Lsn(5)));
        assert!(!new.continues(&old, Lsn(6)));
        assert!(!old.continues(&new, Lsn(6)));
        assert!(old.continues(&new, Lsn(4)), "before its switch it is on the old timeline");
        let newer = new.branch(Lsn(9), Timeline(3));
        assert!(newer.continues(&old, Lsn(5)) && newer.continues(&new, Lsn(9)));
        assert!(!newer.continues(&new, Lsn(10)));
    }

    /// Seed 103: promoted from one place, the second without having heard of the first.
    #[test]
    fn of_a_twin_a_history_has_what_was_there_before() {
        let old = Tree::root().branch(Lsn(5), Timeline(4));
        let (one, other) = (old.branch(Lsn(9), Timeline(5)), old.branch(Lsn(9), Timeline(6)));
        assert_eq!(other.shares(&one, Lsn(20)), Lsn(9));
        assert_eq!(other.shares(&old, Lsn(20)), Lsn(9), "it ran on where it had been left");
        assert_eq!(other.shares(&old, Lsn(7)), Lsn(7));
        assert_eq!(other.shares(&other, Lsn(20)), Lsn(20));
        assert_eq!(old.branch(Lsn(8), Timeline(7)).shares(&one, Lsn(20)), Lsn(8));
    }
}
