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

    #[test]
    fn grandchildren_compare_through_the_list() {
        let old = at(&[(1, 5)], 2, 9);
        let new = at(&[(1, 5), (2, 9)], 3, 9);
        assert_eq!(old.compare(&new), Some(Ordering::Less));
        assert_eq!(new.compare(&old), Some(Ordering::Greater));
        assert!(new.contains(&old) && !old.contains(&new));
    }
}
