//! The guard: the small process that is PostgreSQL's parent and outlives the agent.
//!
//! The agent may crash, hang or be upgraded; none of that is the database's death (I-26). So the
//! postmaster's parent is another process, which does next to nothing: it starts what it is told
//! to start, reaps it with every orphan it leaves, and kills it all when a deadline passes that
//! nobody moved (an agent that is dead, stopped or stuck cannot fence). It holds no opinion: the
//! deadline is the agent's, and moves only by evidence.
//!
//! With no process to guard and no agent to serve, it ends.
//!
//! The language on its Unix socket is one JSON value a line; every [`Order`] gets one [`Word`] in
//! return, in order, and [`Word::Exited`] comes unasked.

pub mod client;
pub mod daemon;
pub mod watchdog;

use failover::topology::Timing;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// What an agent asks of the guard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Start a process; refused while one runs.
    Start(Launch),
    /// Send the process a signal, by number.
    Signal(i32),
    /// SIGKILL the process and everything that descends from it.
    Kill,
    /// Kill all that at this moment, unless told otherwise; `None`: never. In microseconds of
    /// `CLOCK_BOOTTIME`, which the processes of one boot share: an order that is read late is
    /// worth no more than when it was given, and one whose moment has passed is carried out at
    /// once.
    #[serde(rename = "refresh-at")]
    Refresh(Option<u64>),
    /// Say how things stand.
    Status,
    /// Kill all and exit.
    End,
}

/// A process to start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Added to the guard's own environment.
    pub env: Vec<(String, String)>,
    /// Working directory.
    pub cwd: PathBuf,
    /// Standard output and error are appended here.
    pub log: PathBuf,
}

/// What the guard says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Word {
    /// Done as ordered.
    Done,
    /// Not done: why.
    Failed(String),
    /// How things stand.
    Status(Status),
    /// The process ended, and nothing that descends from it is left.
    Exited(Exited),
}

/// How things stand.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The running process.
    pub pid: Option<u32>,
    /// When everything is killed, as in [`Order::Refresh`].
    pub deadline_at: Option<u64>,
    /// How the last process of this guard ended.
    pub last: Option<Exited>,
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exited {
    /// Its number.
    pub pid: u32,
    /// Its exit status, if it exited.
    pub code: Option<i32>,
    /// The signal that ended it, otherwise.
    pub signal: Option<i32>,
    /// Why.
    pub cause: Cause,
}

/// Why a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// By itself, or somebody else killed it, or a signal other than SIGKILL was ordered.
    Itself,
    /// [`Order::Kill`].
    Ordered,
    /// The deadline passed.
    Deadline,
}

/// How long after the last evidence the guard kills a primary whose agent does nothing: later
/// than the agent would, within the time that the timing law allows for a stop.
pub fn patience(timing: &Timing) -> Duration {
    timing.fence_after + timing.fence_time / 2
}
