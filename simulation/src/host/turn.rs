//! One step of a machine.

use super::interface::{Fact, Output};
use crate::clock::At;
use crate::dice::Dice;
use failover::{Moment, Timestamp};
use std::time::Duration;

/// What a step has at hand.
pub struct Turn<'a> {
    /// The machine's monotonic clock.
    pub now: Moment,
    /// Its wall clock.
    pub wall: Timestamp,
    /// True time, for the kernel's own.
    pub at: At,
    /// Chance.
    pub dice: &'a mut Dice,
    /// What others notice.
    pub out: &'a mut Vec<Output>,
}

impl Turn<'_> {
    /// So many microseconds from now.
    pub fn later(&self, micros: u64) -> Moment {
        Moment(self.now.0 + micros)
    }

    /// Tells the oracle.
    pub fn fact(&mut self, fact: Fact) {
        self.out.push(Output::Fact(fact));
    }
}

/// Whole microseconds.
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// FNV-1a: the same in every run.
pub struct Gist(u64);

impl Default for Gist {
    fn default() -> Self {
        Self(0xCBF2_9CE4_8422_2325)
    }
}

impl std::hash::Hasher for Gist {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3);
        }
    }
}
