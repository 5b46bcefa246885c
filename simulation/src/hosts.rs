//! A set of machines, small enough to be copied.

use std::fmt;

/// Machines by their index, which is less than 256.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Hosts([u64; 4]);

impl Hosts {
    const fn place(host: usize) -> (usize, u64) {
        (host / 64, 1 << (host % 64))
    }

    /// Adds one; what is beyond 255 is in no set.
    pub fn insert(&mut self, host: usize) {
        let (word, bit) = Self::place(host);
        if let Some(bits) = self.0.get_mut(word) {
            *bits |= bit;
        }
    }

    /// Takes one out.
    pub fn remove(&mut self, host: usize) {
        let (word, bit) = Self::place(host);
        if let Some(bits) = self.0.get_mut(word) {
            *bits &= !bit;
        }
    }

    /// Whether it is one of them.
    #[must_use]
    pub fn contains(&self, host: usize) -> bool {
        let (word, bit) = Self::place(host);
        self.0.get(word).is_some_and(|bits| bits & bit != 0)
    }

    /// Whether all of the others are among them.
    #[must_use]
    pub fn contain_all(&self, others: Self) -> bool {
        self.0.iter().zip(others.0).all(|(bits, other)| bits & other == other)
    }

    /// How many.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.0.iter().map(|bits| bits.count_ones()).sum()
    }
}

impl FromIterator<usize> for Hosts {
    fn from_iter<T: IntoIterator<Item = usize>>(hosts: T) -> Self {
        let mut all = Self::default();
        hosts.into_iter().for_each(|host| all.insert(host));
        all
    }
}

impl fmt::Debug for Hosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries((0..256).filter(|host| self.contains(*host))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_what_was_put_in() {
        let mut hosts: Hosts = [0, 63, 64, 149, 255].into_iter().collect();
        assert_eq!(hosts.count(), 5);
        assert_eq!(format!("{hosts:?}"), "{0, 63, 64, 149, 255}");
        assert!(hosts.contain_all([63, 149].into_iter().collect()));
        assert!(!hosts.contain_all([62].into_iter().collect()));
        hosts.remove(149);
        assert!(!hosts.contains(149) && hosts.contains(64));
        hosts.insert(256);
        assert!(!hosts.contains(256) && hosts.count() == 4);
    }
}
