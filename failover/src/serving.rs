//! What clients may be sent to an instance for, now: the judgement behind the health endpoints
//! that load balancers ask.
//!
//! Whoever is sent to a primary that may not serve any more could read what is stale. So the
//! question is put to the same account, at the same instant, as the one that fences: where
//! [`comply`] would fence or stop the server, nobody is sent to it, also while that is still
//! under way. Nothing is remembered between two answers.

use crate::assignment::{Assignment, Role};
use crate::comply::{Action, Local, comply, is_current, is_foreign};
use crate::ids::InstanceId;
use crate::lease;
use crate::report::{Down, Server};
use crate::time::Moment;
use alloc::format;
use alloc::string::{String, ToString};
use core::time::Duration;
use serde::Deserialize;

/// After so long without an answer nobody is told any more what the last one was.
pub const MUTE_AFTER: Duration = Duration::from_secs(3);

/// What the account to [`comply`] leaves out, because no action depends on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// For how long PostgreSQL has not answered its agent; zero: it did when last asked.
    pub silent: Duration,
    /// As a standby that receives: how far it is behind.
    pub behind: Option<Behind>,
}

/// How far a standby is behind its upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Behind {
    /// Bytes of log that it has yet to replay, of all that the upstream said it had.
    pub bytes: u64,
    /// How long ago the upstream said so.
    pub age: Duration,
}

/// What an instance serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Serves {
    /// Reads and writes.
    Primary,
    /// Reads.
    Replica,
    /// Nobody.
    Nobody,
}

impl Serves {
    /// All of them.
    pub const ALL: &[Self] = &[Self::Primary, Self::Replica, Self::Nobody];

    /// Its name, stable.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Replica => "replica",
            Self::Nobody => "nobody",
        }
    }
}

/// What clients may be sent here for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Serving {
    /// What it serves.
    pub serves: Serves,
    /// Why nobody is served; empty otherwise.
    pub why_not: String,
    /// As a replica: how many bytes it is behind; `None`: not known, or not known any more.
    pub lag_bytes: Option<u64>,
}

/// What somebody looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Where to write.
    Primary,
    /// A standby to read from, at most so many bytes behind; `None`: however far.
    Replica(Option<u64>),
    /// Anything to read from; a standby at most so many bytes behind.
    ReadOnly(Option<u64>),
}

impl Serving {
    /// Whether somebody who looks for `wanted` may be sent here.
    ///
    /// # Errors
    /// Why not, in words.
    pub fn suits(&self, wanted: Wanted) -> Result<(), String> {
        match (self.serves, wanted) {
            (Serves::Nobody, _) => Err(self.why_not.clone()),
            (Serves::Primary, Wanted::Primary | Wanted::ReadOnly(_)) => Ok(()),
            (Serves::Primary, Wanted::Replica(_)) => Err("it is the primary".to_string()),
            (Serves::Replica, Wanted::Primary) => Err("it is a replica".to_string()),
            (Serves::Replica, Wanted::Replica(most) | Wanted::ReadOnly(most)) => self.near(most),
        }
    }

    /// Whether it is at most so many bytes behind.
    fn near(&self, most: Option<u64>) -> Result<(), String> {
        match (self.lag_bytes, most) {
            (_, None) => Ok(()),
            (Some(lag), Some(most)) if lag <= most => Ok(()),
            (Some(lag), Some(most)) => Err(format!("it is {lag} bytes behind, more than {most}")),
            (None, Some(_)) => Err("how far it is behind is not known".to_string()),
        }
    }
}

/// What clients may be sent to this instance for at `now`.
#[must_use]
pub fn serving(
    assignment: Option<&Assignment>,
    local: &Local,
    seen: &Seen,
    now: Moment,
) -> Serving {
    let (serves, why_not) = match judge(assignment, local, seen, now) {
        Ok(serves) => (serves, String::new()),
        Err(why_not) => (Serves::Nobody, why_not),
    };
    let young = assignment.map_or(Duration::ZERO, |known| known.timing.suspect_after);
    let known = seen.behind.filter(|behind| serves == Serves::Replica && behind.age < young);
    Serving { serves, why_not, lag_bytes: known.map(|behind| behind.bytes) }
}

fn judge(
    assignment: Option<&Assignment>,
    local: &Local,
    seen: &Seen,
    now: Moment,
) -> Result<Serves, String> {
    // Whatever else may be said for it: from this instant on it is being taken down.
    match comply(assignment, local, now) {
        Some(Action::Fence { reason }) => return Err(format!("it is being fenced: {reason}")),
        Some(Action::StopCleanly) => return Err("it is being stopped".to_string()),
        Some(_) | None => {}
    }
    let assignment = assignment.ok_or("nothing was assigned to it yet")?;
    if is_foreign(assignment, local) {
        return Err("its data directory is of another cluster".to_string());
    }
    if !is_current(assignment, local) {
        return Err(format!("the assignment it has, of epoch {}, is over", assignment.epoch));
    }
    if seen.silent >= MUTE_AFTER {
        let seconds = seen.silent.as_secs();
        return Err(format!("PostgreSQL has not answered for {seconds} s"));
    }
    match &assignment.role {
        Role::Primary { .. } => as_primary(assignment, local, now),
        Role::Standby { upstream } => as_standby(Some(upstream), local),
        // It receives nothing, and what it has may still be read.
        Role::Sealed => as_standby(None, local),
        Role::Idle => Err("its service has no primary yet".to_string()),
        Role::Stopped => Err("it is stopped for a change of primary".to_string()),
        Role::Fenced => Err(format!("epoch {} is being taken over", assignment.epoch)),
    }
}

fn as_primary(assignment: &Assignment, local: &Local, now: Moment) -> Result<Serves, String> {
    let epoch = assignment.epoch;
    let admits = match &local.server {
        Server::Writable { admits, .. } => *admits,
        Server::Recovery { .. } => return Err("it is in recovery".to_string()),
        Server::Absent | Server::Refused(_) | Server::Down(_) | Server::Starting => {
            return Err(down(&local.server));
        }
    };
    if local.pledge.granted != epoch {
        return Err(format!("it has not accepted epoch {epoch} yet"));
    }
    if local.proven != Some(epoch) {
        return Err(format!("epoch {epoch} is not proven yet: its marker is not committed"));
    }
    if !lease::is_valid(local, &assignment.timing, now) {
        return Err("it holds no lease".to_string());
    }
    if !admits {
        return Err("it admits no clients yet".to_string());
    }
    Ok(Serves::Primary)
}

fn as_standby(upstream: Option<&InstanceId>, local: &Local) -> Result<Serves, String> {
    let admits = match &local.server {
        Server::Recovery { admits, .. } => *admits,
        Server::Writable { .. } => return Err("it is writable and no primary".to_string()),
        Server::Absent | Server::Refused(_) | Server::Down(_) | Server::Starting => {
            return Err(down(&local.server));
        }
    };
    if let Some(upstream) = upstream
        && local.configured.upstream.as_ref() != Some(upstream)
    {
        return Err(format!("it does not follow {upstream} yet"));
    }
    if !admits {
        return Err("it admits no clients yet".to_string());
    }
    Ok(Serves::Replica)
}

/// Why a server that does not run serves nobody.
fn down(server: &Server) -> String {
    let text = match server {
        Server::Absent => "there is no data directory",
        Server::Refused(reason) => reason.as_str(),
        Server::Down(Down::Crashed) => "PostgreSQL ended by itself",
        Server::Down(Down::Fenced) => "PostgreSQL was fenced",
        Server::Down(Down::Clean(_)) => "PostgreSQL was shut down",
        Server::Down(Down::NotStarted) => "PostgreSQL is not started yet",
        Server::Starting | Server::Recovery { .. } | Server::Writable { .. } => {
            "PostgreSQL does not answer yet"
        }
    };
    text.to_string()
}
