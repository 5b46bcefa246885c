//! Chance that falls the same way for the same seed.

/// Small, fast, repeatable dice (SplitMix64).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Dice for a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32_D192_ED03)
    }

    /// Any number.
    #[inline]
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number from `0` to `below - 1`; 0 when `below` is 0.
    #[inline]
    pub fn roll(&mut self, below: u64) -> u64 {
        // The high bits of a product instead of a remainder: no division.
        let wide = u128::from(self.draw()) * u128::from(below);
        u64::try_from(wide >> 64).unwrap_or(0)
    }

    /// Whether what happens once in so many times happens now.
    #[inline]
    pub fn once_in(&mut self, times: u64) -> bool {
        self.roll(times) == 0
    }

    /// A number from `low` to `high`, both included; `low` when they are the wrong way round.
    #[inline]
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.roll(high.saturating_sub(low) + 1)
    }

    /// Whether something of this chance happens.
    #[inline]
    pub fn per_mille(&mut self, chance: u64) -> bool {
        chance > 0 && self.roll(1_000) < chance
    }

    /// One of them.
    #[inline]
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        from.get(usize::try_from(self.roll(from.len() as u64)).unwrap_or(0))
    }

    /// Dice of their own for somebody: what they roll does not change what others roll.
    #[must_use]
    pub fn split(&mut self) -> Self {
        Self::new(self.roll(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dice_stay_within_and_repeat() {
        let (mut a, mut b) = (Dice::new(7), Dice::new(7));
        for _ in 0..1_000 {
            let rolled = a.roll(6);
            assert!(rolled < 6);
            assert_eq!(rolled, b.roll(6));
        }
        assert_eq!(a.roll(0), 0);
        assert_eq!(a.between(3, 3), 3);
    }
}
