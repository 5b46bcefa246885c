//! What is done to a machine.

use super::interface::Peer;
use std::time::Duration;

/// What is done to one machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostFault {
    /// The agent is killed.
    CrashAgent,
    /// The guard is killed.
    CrashGuard,
    /// The postmaster and all its children are killed.
    CrashPostgres,
    /// The agent is started again (and with it a guard, where there is none).
    StartAgent,
    /// SIGSTOP.
    Pause(Part),
    /// SIGCONT.
    Resume(Part),
    /// Every flush of the disk takes this long; zero: as usual.
    SlowDisk(Duration),
    /// Nothing can be written any more.
    FillDisk,
    /// Again it can.
    DiskFreed,
    /// Everything that waits for standbys is cancelled (F-10).
    CancelWaits,
    /// `alter system set synchronous_standby_names = ''` and a reload (F-13).
    EmptySetting,
    /// A receiver without a database streams from `from` under another's name (F-14).
    Impostor {
        /// From whom.
        from: Peer,
        /// Under whose name.
        name: Peer,
        /// With that one's key, and not its own.
        stolen: bool,
    },
    /// The checkpointer does not run for so long (F-15).
    StallCheckpointer(Duration),
    /// A session with `synchronous_commit = local` writes this number, whoever is admitted (F-16).
    LocalSession {
        /// Unique in the run.
        commit: u64,
    },
    /// A query holds replay up until it is ended (F-19).
    LongQuery(Duration),
    /// Replay does not go on for so long, and nothing can be ended to help.
    SlowReplay(Duration),
    /// The standby loses this many records that it had reported as flushed (F-18).
    LoseFlushed(u64),
    /// The wall clock is set, by so many milliseconds.
    ClockJump(i64),
    /// The monotonic clock runs at this rate, in millionths.
    ClockRate(u64),
    /// Data directory, pledge and everything else is gone.
    Wipe,
}

impl HostFault {
    /// It is about a disk or a clock, which are there while nothing runs.
    #[must_use]
    pub const fn needs_no_power(self) -> bool {
        match self {
            Self::SlowDisk(_)
            | Self::FillDisk
            | Self::DiskFreed
            | Self::LoseFlushed(_)
            | Self::ClockJump(_)
            | Self::ClockRate(_)
            | Self::Wipe => true,
            Self::CrashAgent
            | Self::CrashGuard
            | Self::CrashPostgres
            | Self::StartAgent
            | Self::Pause(_)
            | Self::Resume(_)
            | Self::CancelWaits
            | Self::EmptySetting
            | Self::Impostor { .. }
            | Self::StallCheckpointer(_)
            | Self::LocalSession { .. }
            | Self::LongQuery(_)
            | Self::SlowReplay(_) => false,
        }
    }
}

/// Which processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The agent.
    Agent,
    /// The guard.
    Guard,
    /// All of PostgreSQL.
    Postgres,
    /// All of them.
    All,
}
