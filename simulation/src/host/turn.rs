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

/// FNV-1a over words of eight bytes: the same in every run.
pub struct Gist(u64);

impl Gist {
    fn mix(&mut self, word: u64) {
        self.0 = (self.0 ^ word).wrapping_mul(0x0100_0000_01B3).rotate_left(29);
    }
}

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
        for part in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..part.len()].copy_from_slice(part);
            self.mix(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, number: u8) {
        self.mix(u64::from(number));
    }

    fn write_u32(&mut self, number: u32) {
        self.mix(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        self.mix(number);
    }

    fn write_usize(&mut self, number: usize) {
        self.mix(number as u64);
    }
}
