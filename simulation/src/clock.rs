//! True time, and what a machine's own clocks make of it.

use std::fmt;
use std::time::Duration;

use failover::{Moment, Timestamp};

/// True microseconds since the run began. Nobody inside the world can read it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct At(pub u64);

impl At {
    /// So many microseconds later.
    #[must_use]
    pub fn after(self, micros: u64) -> Self {
        Self(self.0.saturating_add(micros))
    }

    /// The instant so long after this one.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        self.after(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
    }

    /// Time from `earlier` to here; zero when `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>4}.{:03} s", self.0 / 1_000_000, self.0 / 1_000 % 1_000)
    }
}

/// A rate in millionths: this many of the machine's microseconds in a true second.
pub const TRUE_RATE: u64 = 1_000_000;

/// Where every wall clock of the world stands at its beginning: 2026-01-01.
pub const EPOCH_MILLIS: i64 = 1_767_225_600_000;

/// A machine's clocks. The monotonic one counts what the machine sleeps (`CLOCK_BOOTTIME`) and
/// runs at a rate of its own; the wall clock is another, and jumps.
#[derive(Clone, Copy, Debug)]
pub struct HostClock {
    since: At,
    base: u64,
    rate: u64,
    wall: i64,
}

impl HostClock {
    /// A clock that begins now, showing `base`.
    #[must_use]
    pub fn new(now: At, base: u64) -> Self {
        Self { since: now, base, rate: TRUE_RATE, wall: 0 }
    }

    /// The monotonic clock.
    #[must_use]
    pub fn moment(&self, now: At) -> Moment {
        let passed = now.0.saturating_sub(self.since.0);
        let own =
            if self.rate == TRUE_RATE { passed } else { scale(passed, self.rate, TRUE_RATE, 0) };
        Moment(self.base + own)
    }

    /// The first true instant at which the monotonic clock shows `moment` or later.
    #[must_use]
    pub fn at(&self, moment: Moment) -> At {
        let own = moment.0.saturating_sub(self.base);
        let passed = if self.rate == TRUE_RATE {
            own
        } else {
            scale(own, TRUE_RATE, self.rate, self.rate - 1)
        };
        self.since.after(passed)
    }

    /// The wall clock.
    #[must_use]
    pub fn wall(&self, now: At) -> Timestamp {
        let shown = self.wall.saturating_add(i64::try_from(now.0 / 1_000).unwrap_or(i64::MAX));
        Timestamp(EPOCH_MILLIS.saturating_add(shown))
    }

    /// From now on the monotonic clock runs at `rate` (see [`TRUE_RATE`]).
    pub fn set_rate(&mut self, now: At, rate: u64) {
        self.base = self.moment(now).0;
        self.since = now;
        self.rate = rate.max(1);
    }

    /// The wall clock is set, by so many milliseconds.
    pub fn jump(&mut self, millis: i64) {
        self.wall = self.wall.saturating_add(millis);
    }

    /// The machine starts anew: the monotonic clock begins again, the wall clock goes on.
    pub fn reboot(&mut self, now: At) {
        self.base = 1_000_000;
        self.since = now;
    }
}

fn scale(value: u64, times: u64, by: u64, round: u64) -> u64 {
    // Nearly always it fits, and 128 bits are slow to divide.
    if let Some(product) = value.checked_mul(times).and_then(|product| product.checked_add(round)) {
        return product / by.max(1);
    }
    let product = u128::from(value) * u128::from(times) + u128::from(round);
    u64::try_from(product / u128::from(by.max(1))).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_found_by_its_moment_shows_that_moment() {
        for rate in [TRUE_RATE, 1_050_000, 950_000, 400_000, 999_983] {
            let mut clock = HostClock::new(At(77), 5);
            clock.set_rate(At(1_000_003), rate);
            for moment in [1_000_010, 1_234_567, 99_999_999] {
                let at = clock.at(Moment(moment));
                assert!(clock.moment(at) >= Moment(moment));
                assert!(at.0 <= 1_000_003 || clock.moment(At(at.0 - 1)) < Moment(moment));
            }
        }
    }
}
