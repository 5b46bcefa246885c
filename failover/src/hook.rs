//! When the programs are run that an operator ties to what an instance serves: whatever is not
//! PostgreSQL and must go where the primary goes.
//!
//! Level-triggered, as everything at the edges: what counts is what is served now, not what
//! happened. So a program is told once of each level, told again after a restart of the agent,
//! and never of a level that is over.

use crate::ids::Epoch;
use crate::serving::Serves;
use core::time::Duration;

/// What the notes of agents are called that say what became of a program: this and its name. Voters
/// put them on record.
pub const SUBJECT: &str = "hook-";

/// What programs were last told: what is served, and in which epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// What clients may be sent here for.
    pub serves: Serves,
    /// The epoch of the assignment; 0 before the first.
    pub epoch: Epoch,
}

/// Whether programs must be told that the level is `now`, having last been told of `told`.
/// `settling` is for how much longer a begun agent may not know yet what its server is: until then
/// nobody is told that it serves nobody, because the agent before may have left a primary behind
/// that goes on serving.
#[must_use]
pub fn is_news(told: Option<Level>, now: Level, settling: Duration) -> bool {
    match told {
        None => now.serves != Serves::Nobody || settling.is_zero(),
        Some(told) => {
            // As primary of another epoch it is another primary; as anything else it is the same.
            let changed = now.serves == Serves::Primary && now.epoch != told.epoch;
            told.serves != now.serves || changed
        }
    }
}
