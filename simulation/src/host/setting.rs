//! `synchronous_standby_names`, as each process of PostgreSQL reads it for itself.

use super::interface::Peer;

/// Which standbys' flushes release a commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Setting {
    /// `ANY`; else `FIRST`.
    pub any: bool,
    /// How many.
    pub required: u8,
    /// Whose, in this order. Empty: the placeholder that nobody is.
    pub names: Vec<Peer>,
    /// The setting is the empty text: nothing waits (F-13).
    pub empty: bool,
    /// `synchronous_commit = local`: nothing waits, whatever the names say.
    pub local: bool,
}

impl Setting {
    /// The empty text.
    #[must_use]
    pub fn emptied() -> Self {
        Self { empty: true, ..Self::default() }
    }

    /// The name that nobody can be (I-08).
    #[must_use]
    pub fn placeholder() -> Self {
        Self { any: true, required: 1, ..Self::default() }
    }

    /// A standby's place in the list, from 1; 0: it has none.
    #[must_use]
    pub fn priority(&self, name: Peer) -> u8 {
        if self.empty {
            return 0;
        }
        let place = self.names.iter().position(|other| *other == name);
        place.map_or(0, |place| u8::try_from(place + 1).unwrap_or(u8::MAX))
    }
}
