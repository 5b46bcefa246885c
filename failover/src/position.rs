//! Where an instance stands in the history of its service, and how two such places compare.
//!
//! Positions on different timelines are not comparable as numbers. A timeline's history lists
//! where each earlier timeline was left; two instances share a history exactly when one list is
//! the beginning of the other and the shorter one had not passed the point where it was left
//! (PostgreSQL, continuous-archiving, Timelines).

use crate::ids::{Lsn, Timeline};
use alloc::vec::Vec;
use core::cmp::Ordering;
use core::fmt;
use serde::{Deserialize, Serialize};

/// A timeline and the position at which it was left for the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Switch {
    /// The timeline that was left.
    pub timeline: Timeline,
    /// Where.
    pub at: Lsn,
}

/// A place in a service's history.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The timeline it is on.
    pub timeline: Timeline,
    /// Every earlier timeline, oldest first, and where it was left.
    pub history: Vec<Switch>,
    /// The end of the durable write-ahead log.
    pub lsn: Lsn,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on timeline {}", self.lsn, self.timeline)
    }
}

impl Position {
    /// Compares two places. `None`: the histories have forked, neither contains the other.
    #[must_use]
    pub fn compare(&self, other: &Self) -> Option<Ordering> {
        let shared = self.history.iter().zip(&other.history).take_while(|(a, b)| a == b).count();
        match (self.history.get(shared), other.history.get(shared)) {
            (None, None) if self.timeline == other.timeline => Some(self.lsn.cmp(&other.lsn)),
            (None, Some(left)) if left.timeline == self.timeline && self.lsn <= left.at => {
                Some(Ordering::Less)
            }
            (Some(left), None) if left.timeline == other.timeline && other.lsn <= left.at => {
                Some(Ordering::Greater)
            }
            (None | Some(_), None | Some(_)) => None,
        }
    }

    /// Whether everything up to `other` is in this history.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        matches!(self.compare(other), Some(Ordering::Equal | Ordering::Greater))
    }
}

/// How far a standby's log reaches: what it received counts only from the start of a segment on
/// after a restart, and is nothing where it has not streamed since (F-20). So it is the further of
/// the two.
#[must_use]
pub fn reaches(received: Option<Lsn>, replayed: Lsn) -> Lsn {
    received.unwrap_or_default().max(replayed)
}

/// One look at the replay of a standby whose receiver is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replay {
    /// Up to where it has replayed.
    pub replayed: Lsn,
    /// Up to where it received, as far as it remembers.
    pub received: Option<Lsn>,
    /// It sleeps, and would look again by itself only later.
    pub sleeps: bool,
}

/// How often replay must have looked in vain for the rest of a record.
pub const LOOKS: u32 = 5;

/// Where a standby stands for good, once two looks show that its replay has ended. Everything
/// received is replayed; or what is left is the beginning of a record, for which it has looked in
/// vain `looked` times: worth nothing, because no commit in it is complete. Positions of different
/// instances are compared by whole records, so it is where replay ended that counts.
#[must_use]
pub fn stands(before: Option<&Replay>, here: &Replay, looked: u32) -> Option<Lsn> {
    let still = here.sleeps && before == Some(here);
    let all = reaches(here.received, here.replayed) == here.replayed;
    (still && (all || looked >= LOOKS)).then_some(here.replayed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(history: &[(u32, u64)], timeline: u32, lsn: u64) -> Position {
        Position {
            timeline: Timeline(timeline),
            history: history
                .iter()
                .map(|(t, l)| Switch { timeline: Timeline(*t), at: Lsn(*l) })
                .collect(),
            lsn: Lsn(lsn),
        }
    }

    #[test]
    fn one_timeline_compares_by_position() {
        assert_eq!(at(&[], 1, 5).compare(&at(&[], 1, 7)), Some(Ordering::Less));
        assert_eq!(at(&[], 1, 7).compare(&at(&[], 1, 7)), Some(Ordering::Equal));
    }

    #[test]
    fn an_ancestor_before_the_switch_is_behind() {
        assert_eq!(at(&[], 1, 5).compare(&at(&[(1, 5)], 2, 5)), Some(Ordering::Less));
        assert_eq!(at(&[(1, 5)], 2, 6).compare(&at(&[], 1, 4)), Some(Ordering::Greater));
    }

    /// I-05, SC-46: a former primary that went on past the fork is of another history, however
    /// large its number is.
    #[test]
    fn i05_past_the_switch_is_forked() {
        assert_eq!(at(&[], 1, 6).compare(&at(&[(1, 5)], 2, 5)), None);
        assert_eq!(at(&[(1, 5)], 2, 9).compare(&at(&[(1, 4)], 3, 9)), None);
        assert_eq!(at(&[(1, 5)], 2, 9).compare(&at(&[(1, 5)], 3, 9)), None);
    }

    /// I-05, SC-45: after a restart the received position begins at a segment, or is none.
    #[test]
    fn i05_a_standby_reaches_as_far_as_it_replayed() {
        assert_eq!(reaches(Some(Lsn(0x300)), Lsn(0x3DC)), Lsn(0x3DC));
        assert_eq!(reaches(None, Lsn(0x3DC)), Lsn(0x3DC));
        assert_eq!(reaches(Some(Lsn(0x3FF)), Lsn(0x3DC)), Lsn(0x3FF));
    }

    #[test]
    fn i06_a_place_is_told_only_when_replay_has_ended() {
        let look = |replayed, received, sleeps| Replay {
            replayed: Lsn(replayed),
            received: Some(Lsn(received)),
            sleeps,
        };
        let done = look(9, 9, true);
        assert_eq!(stands(Some(&done), &done, 0), Some(Lsn(9)));
        assert_eq!(stands(None, &done, 0), None, "one look is none");
        assert_eq!(stands(Some(&look(8, 9, true)), &done, 9), None, "it moved");
        let awake = look(9, 9, false);
        assert_eq!(stands(Some(&awake), &awake, 9), None, "it does not sleep");
        let partial = look(7, 9, true);
        assert_eq!(stands(Some(&partial), &partial, LOOKS - 1), None);
        assert_eq!(stands(Some(&partial), &partial, LOOKS), Some(Lsn(7)));
        let fresh = Replay { received: None, ..done };
        assert_eq!(stands(Some(&fresh), &fresh, 0), Some(Lsn(9)));
    }

    #[test]
    fn grandchildren_compare_through_the_list() {
        let old = at(&[(1, 5)], 2, 9);
        let new = at(&[(1, 5), (2, 9)], 3, 9);
        assert_eq!(old.compare(&new), Some(Ordering::Less));
        assert_eq!(new.compare(&old), Some(Ordering::Greater));
        assert!(new.contains(&old) && !old.contains(&new));
    }
}
