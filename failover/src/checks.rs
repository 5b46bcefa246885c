//! What an agent measures at leisure, and says in every report: facts about its machine and its
//! PostgreSQL on which a promise or a later promotion rests. Numbers and names only; what they
//! mean is judged in [`crate::fitness`] and [`crate::doubt`].
//!
//! Every field may be missing, because it has not been measured yet, cannot be, or comes from an
//! agent of another version. Missing is unknown, and never good (I-37).

use crate::time::millis;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;
use serde::{Deserialize, Serialize};

/// At most this many [`Exposure`]s are named in a report; the rest is counted.
pub const EXPOSURES_NAMED: usize = 16;
/// At most this many [`Slot`]s are named in a report: those that hold the most.
pub const SLOTS_NAMED: usize = 8;

/// What was measured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Checks {
    /// As a primary: commits may have been acknowledged without the rule, up to a position that
    /// is not known yet; [`crate::Report::doubt`] names it once it is (I-12).
    #[serde(skip_serializing_if = "is_false")]
    pub exposed: bool,
    /// As a primary: for how long it has done nothing of what it must do by itself
    /// ([`crate::hang`]).
    #[serde(rename = "hangs_ms", with = "millis", skip_serializing_if = "Duration::is_zero")]
    pub hangs: Duration,
    /// Bytes free where the write-ahead log is written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wal_free: Option<u64>,
    /// Bytes that the log may grow to by the server's own settings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wal_need: Option<u64>,
    /// Settings that a standby must have at least as high as its primary (F-27).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub floor: Option<FloorSettings>,
    /// What a rewind of this instance would rest on (F-30).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rewind: Option<RewindReady>,
    /// Replication slots that hold log back.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub slots: Vec<Slot>,
    /// `max_slot_wal_keep_size` in bytes: what slots may hold back; `None`: without limit, or not
    /// known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slot_limit: Option<u64>,
    /// Pages whose checksum was wrong since the statistics were reset.
    #[serde(skip_serializing_if = "is_zero")]
    pub checksum_failures: u64,
    /// What lowers the durability of commits here (I-10); `None`: not examined yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exposures: Option<Exposures>,
}

impl Checks {
    /// Nothing was measured, and nothing is wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Settings of which a standby may not have less than its primary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FloorSettings {
    /// `max_connections`
    pub max_connections: u32,
    /// `max_worker_processes`
    pub max_worker_processes: u32,
    /// `max_wal_senders`
    pub max_wal_senders: u32,
    /// `max_prepared_transactions`
    pub max_prepared_transactions: u32,
    /// `max_locks_per_transaction`
    pub max_locks_per_transaction: u32,
}

/// What a rewind rests on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RewindReady {
    /// `wal_log_hints` is on, or the data has checksums.
    pub hints: bool,
    /// `full_page_writes` is on.
    pub full_pages: bool,
    /// Every other instance's role may call the four functions that a rewind from here needs.
    pub granted: bool,
}

/// A replication slot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// Its name.
    pub name: String,
    /// Bytes of log that it keeps from being removed.
    pub holds: u64,
    /// Somebody is connected to it.
    pub active: bool,
    /// It has already lost log that it needs.
    pub lost: bool,
}

/// What lowers the durability of commits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exposures {
    /// The first of them, at most [`EXPOSURES_NAMED`].
    pub named: Vec<Exposure>,
    /// How many more there are.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more: u64,
    /// Databases that could not be looked into.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unseen: Vec<String>,
}

impl Exposures {
    /// Everything was looked at, and nothing found.
    #[must_use]
    pub fn is_clear(&self) -> bool {
        self.named.is_empty() && self.more == 0 && self.unseen.is_empty()
    }
}

/// One thing that lowers the durability of commits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exposure {
    /// Of which kind.
    pub kind: ExposureKind,
    /// Which role, database, function, table or setting.
    pub name: String,
    /// What it has: `synchronous_commit=off`.
    pub detail: String,
}

/// Kinds of what lowers the durability of commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExposureKind {
    /// A setting of the whole server: `fsync`, `full_page_writes`, `synchronous_commit`.
    Server,
    /// A setting of a role, a database, or a role in a database (`ALTER ROLE … SET`).
    RoleOrDatabase,
    /// A function or procedure with a setting of its own, or one that may end a wait (F-11).
    Function,
    /// An unlogged table: it is not replicated, and empty after a failover (F-28).
    Unlogged,
}

impl ExposureKind {
    /// Its name as people read it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Server => "server setting",
            Self::RoleOrDatabase => "role or database setting",
            Self::Function => "function",
            Self::Unlogged => "unlogged table",
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
const fn is_false(value: &bool) -> bool {
    !*value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
const fn is_zero(value: &u64) -> bool {
    *value == 0
}
