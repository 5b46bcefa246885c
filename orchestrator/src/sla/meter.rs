//! What one probe writer measured: in which spans of time it ran, and in which of them the service
//! took no write.
//!
//! An interruption begins with the first attempt after an acknowledgement that failed, and ends
//! with the next acknowledgement. An attempt failed that was turned away, whose outcome nobody
//! knows, that took more than a second, or that was due and could not be made. So each is known to
//! one period of the writer. Lengths are of the boot clock. Where the wall clock was put forward or
//! back, what was measured before keeps the old time, and the step is told. A writer that was
//! silent for [`SILENCE`] (stopped, or its machine asleep) measured nothing meanwhile.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Spans;
use crate::probe::{Attempt, BEAT, Head, JournalError, LOST, Line, Outcome, Remark, lines};

/// An acknowledgement later than this, and a period, is an interruption: microseconds.
const SLOW_US: u64 = 1_000_000;
/// A writer says that it runs every [`BEAT`]: what is silent for three of them does not.
pub const SILENCE: Duration = BEAT.saturating_mul(3);
/// Clocks that differ by more than this were put forward or back: milliseconds.
const STEP_MS: i64 = 1_000;

/// What one file of a journal measured. Times are of the writer's wall clock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    /// The run of the writer.
    pub run: String,
    /// The service.
    pub service: String,
    /// The name written through.
    pub through: String,
    /// A write is begun this often.
    pub every_ms: u64,
    /// When it ran.
    pub measured: Spans,
    /// When it had no acknowledgement.
    pub down: Spans,
    /// Writes acknowledged.
    pub acked: u64,
    /// Writes turned away.
    pub refused: u64,
    /// Writes whose outcome is not known.
    pub unknown: u64,
    /// Where its wall clock was put forward or back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<ClockStep>,
}

/// A wall clock that was put forward, or back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockStep {
    /// What it showed afterwards.
    pub at: i64,
    /// By how much.
    pub by_ms: i64,
}

impl Measured {
    /// What a journal says.
    ///
    /// # Errors
    /// [`JournalError`]
    pub fn of_journal(path: &Path) -> Result<Self, JournalError> {
        let read = lines(path, Meter::begin, |meter, line| match line {
            Line::Attempt(attempt) => meter.attempt(&attempt),
            Line::Remark(remark) => meter.remark(&remark),
        });
        Ok(read?.end())
    }
}

/// A journal as it is read. Times are of the boot clock, in microseconds.
struct Meter {
    told: Measured,
    every_us: u64,
    /// Two clocks, read in one instant: by it moments are placed on the wall.
    anchor: (u64, i64),
    /// The latest line.
    here: u64,
    /// Since when it has run, as far as that is not told yet.
    from: u64,
    /// The latest acknowledgement, or where the writer began.
    since: u64,
    /// Whether that was an acknowledgement.
    acked: bool,
    /// The first attempt since then that failed.
    failed: Option<u64>,
    measured: Vec<(i64, i64)>,
    down: Vec<(i64, i64)>,
}

impl Meter {
    fn begin(head: Head) -> Self {
        let Head { run, service, through, every_ms, us, at, last_ack_us } = head;
        Self {
            told: Measured { run, service, through, every_ms, ..Measured::default() },
            every_us: every_ms.saturating_mul(1_000),
            anchor: (us, at),
            here: us,
            from: us,
            since: last_ack_us.unwrap_or(us),
            acked: last_ack_us.is_some(),
            failed: None,
            measured: Vec::new(),
            down: Vec::new(),
        }
    }

    /// Where a moment is on the wall.
    fn wall(&self, us: u64) -> i64 {
        let (anchor, at) = self.anchor;
        let ms = |us: u64| i64::try_from(us / 1_000).unwrap_or(i64::MAX);
        if us >= anchor {
            at.saturating_add(ms(us - anchor))
        } else {
            at.saturating_sub(ms(anchor - us))
        }
    }

    fn attempt(&mut self, attempt: &Attempt) {
        self.reach(attempt.done_us);
        match attempt.outcome {
            Outcome::Acked => self.told.acked += 1,
            Outcome::Refused => self.told.refused += 1,
            Outcome::Unknown => self.told.unknown += 1,
        }
        // What was sent before the latest acknowledgement says nothing about what came after it.
        match attempt.acked_us {
            Some(acked) if acked > self.since => {
                if self.failed.is_some() || self.is_late(acked) {
                    self.failed = Some(self.began().min(attempt.sent_us.max(self.since)));
                    self.interrupted(acked);
                }
                (self.since, self.acked, self.failed) = (acked, true, None);
            }
            None if attempt.sent_us >= self.since => {
                self.failed = Some(self.failed.unwrap_or(u64::MAX).min(attempt.sent_us));
            }
            Some(_) | None => {}
        }
    }

    fn remark(&mut self, remark: &Remark) {
        self.reach(remark.us);
        if remark.event == LOST && remark.us >= self.since {
            self.failed = Some(self.failed.unwrap_or(u64::MAX).min(remark.us));
        }
        let Some(at) = remark.at else { return };
        let by_ms = at.saturating_sub(self.wall(remark.us));
        if by_ms.abs() > STEP_MS {
            self.told.steps.push(ClockStep { at, by_ms });
            let late = self.failed.is_some() || self.is_late(remark.us);
            self.pause(remark.us);
            self.anchor = (remark.us, at);
            if late {
                // It goes on, at another time of the wall.
                (self.since, self.failed) = (remark.us, Some(remark.us));
            }
        }
    }

    /// The writer ran until here, unless it was silent for too long.
    fn reach(&mut self, us: u64) {
        if us > self.here.saturating_add(micros(SILENCE)) {
            self.pause(self.here);
            (self.from, self.since, self.acked, self.failed) = (us, us, false, None);
        }
        self.here = self.here.max(us);
    }

    /// Tells what was measured until `us`.
    fn pause(&mut self, us: u64) {
        if self.is_late(us) {
            self.interrupted(us);
        }
        self.measured.push((self.wall(self.from), self.wall(us)));
        self.from = us;
    }

    fn is_late(&self, us: u64) -> bool {
        us.saturating_sub(self.since) > self.every_us.saturating_add(SLOW_US)
    }

    /// When the first attempt since the last acknowledgement failed, or was due.
    fn began(&self) -> u64 {
        let due = if self.acked { self.since.saturating_add(self.every_us) } else { self.since };
        self.failed.unwrap_or(due).min(due)
    }

    fn interrupted(&mut self, until: u64) {
        self.down.push((self.wall(self.began()), self.wall(until)));
    }

    fn end(mut self) -> Measured {
        self.pause(self.here);
        Measured { measured: self.measured.into(), down: self.down.into(), ..self.told }
    }
}

fn micros(length: Duration) -> u64 {
    u64::try_from(length.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
