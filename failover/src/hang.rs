//! Does a primary hang? It is there, its ports answer, its agent reports, and nothing is done.
//!
//! Silence is not health, but neither is an agent's word that its server was writable once (I-26).
//! So the agent counts for how long its server has done nothing of what it must do by itself: it
//! did not answer a probe, or one commit of the agent's own could not be written to the server's
//! own log. A commit that waits for standbys is none of it, and a slow disk begins the count anew
//! with every commit that it takes.
//!
//! It is counted look by look, and one look counts for no more than a probe may take: an agent
//! that was stopped itself, or a whole machine that was, has seen nothing meanwhile (I-26).
//!
//! Moving away is as safe as for any other cause: the standbys are sealed first, and the one that
//! hangs is granted no lease from then on, so it is fenced before another is promoted. What cannot
//! be killed, because it hangs in the kernel, answers nobody; when it wakes, it dies.

use crate::time::Moment;
use crate::topology::Timing;
use core::time::Duration;

/// The most that one look counts for.
const LOOK: Duration = Duration::from_millis(2_500);
/// A grey disk takes seconds for a flush; what takes longer than this hangs.
const AT_LEAST: Duration = Duration::from_secs(6);

/// What one look at a writable server saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// It answered, and its log is written.
    Well,
    /// It answered, and the commit that was begun then still waits for the server's own disk.
    Writes(Moment),
    /// It did not answer.
    Silent,
}

/// For how long a server has hung.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hang {
    lasts: Duration,
    looked: Moment,
    commit: Option<Moment>,
}

impl Hang {
    /// Takes in a look.
    pub fn look(&mut self, look: Look, now: Moment) {
        let step = now.since(self.looked).min(LOOK);
        self.looked = now;
        match look {
            Look::Well => *self = Self { looked: now, ..Self::default() },
            Look::Writes(commit) if self.commit == Some(commit) => self.lasts += step,
            Look::Writes(commit) => {
                *self = Self { looked: now, commit: Some(commit), ..Self::default() };
            }
            Look::Silent => self.lasts += step,
        }
    }

    /// For how long, as far as was seen.
    #[must_use]
    pub const fn lasts(&self) -> Duration {
        self.lasts
    }
}

/// How long a primary may hang before it counts as lost.
#[must_use]
pub fn patience(timing: &Timing) -> Duration {
    (timing.suspect_after * 2).max(AT_LEAST)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(500);

    fn after(looks: &[(Look, u32)]) -> Duration {
        let (mut hang, mut now) = (Hang::default(), Moment(1_000_000_000));
        for (look, times) in looks {
            for _ in 0..*times {
                now = now.after(TICK);
                hang.look(*look, now);
            }
        }
        hang.lasts()
    }

    #[test]
    fn i26_a_commit_that_its_own_disk_does_not_take_is_counted() {
        let (one, other) = (Look::Writes(Moment(1)), Look::Writes(Moment(2)));
        assert_eq!(after(&[(Look::Well, 1), (one, 13)]), TICK * 12);
        assert_eq!(after(&[(Look::Well, 1), (one, 13), (other, 2)]), TICK, "a grey disk");
        assert_eq!(after(&[(one, 13), (Look::Well, 1)]), Duration::ZERO);
    }

    #[test]
    fn i26_no_answer_is_counted_and_an_answer_ends_it() {
        assert_eq!(after(&[(Look::Well, 1), (Look::Silent, 13)]), TICK * 13);
        assert_eq!(after(&[(Look::Silent, 13), (Look::Well, 1)]), Duration::ZERO);
        let commit = Look::Writes(Moment(1));
        assert_eq!(after(&[(commit, 3), (Look::Silent, 3), (commit, 3)]), TICK * 8);
    }

    #[test]
    fn i26_an_agent_that_was_stopped_saw_nothing() {
        let mut hang = Hang::default();
        let begin = Moment(1_000_000_000);
        hang.look(Look::Well, begin);
        hang.look(Look::Silent, begin.after(Duration::from_mins(10)));
        assert_eq!(hang.lasts(), LOOK);
        assert!(hang.lasts() < patience(&Timing::default()));
    }
}
