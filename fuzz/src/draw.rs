//! Values drawn from bytes: an input is a run, and with a byte changed a run that differs a little.

/// What is left to draw from; once it is empty every draw gives its first choice.
pub(crate) struct Draw<'b>(pub(crate) &'b [u8]);

impl Draw<'_> {
    pub(crate) fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// Below `sides`, which is at most 256.
    pub(crate) fn below(&mut self, sides: u64) -> u64 {
        u64::from(self.byte()) % sides
    }

    pub(crate) fn yes(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    pub(crate) fn one<'c, T>(&mut self, choices: &'c [T]) -> &'c T {
        let at = usize::from(self.byte()) % choices.len();
        &choices[at]
    }

    /// Mostly near `around`, sometimes anything: the edges of 64 bits among it.
    pub(crate) fn near(&mut self, around: u64) -> u64 {
        let byte = self.byte();
        match byte {
            0..=127 => around.saturating_add(u64::from(byte & 7)).saturating_sub(3),
            128..=239 => u64::from(byte & 31),
            240 => u64::MAX,
            241 => 1 << 63,
            242 => 1 << 60,
            243 => (1 << 60) + 1,
            _ => 1 << (byte & 63),
        }
    }
}
