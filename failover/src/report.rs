//! Evidence: what agents and voters say. Never replicated; stale evidence is the same as none.

use crate::checks::Checks;
use crate::drill::Rehearsed;
use crate::ids::{
    DrillId, Epoch, Generation, InstanceId, Lsn, NameServerId, Revision, ServiceId, SiteId,
    SystemIdentifier, Timeline, VoterId,
};
use crate::position::Position;
use crate::survey::Survey;
use crate::time::{Timestamp, maybe_millis, millis};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use serde::{Deserialize, Serialize};

/// What an agent promised and wrote to disk with fsync before saying so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pledge {
    /// It never again receives from a primary of this epoch or an earlier one.
    pub sealed: Epoch,
    /// The highest epoch whose primacy it accepted.
    pub granted: Epoch,
    /// The newest drill for which it cut itself off: never again for that one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolated: Option<DrillId>,
}

/// What a leader said last to an agent, which says it back in its next report: so the leader knows
/// that the report was made since, however long a voter that was stopped held it up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Echo {
    /// The leader's term.
    pub term: u64,
    /// The leader's clock when it answered, in microseconds; it means nothing to anybody else.
    pub at: u64,
}

/// What an agent says, once a heartbeat and whenever something changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The service.
    pub service: ServiceId,
    /// The instance: that of the sender's certificate (I-32).
    pub instance: InstanceId,
    /// Which start of the agent: the wall clock then, in microseconds, or one more than the newest
    /// that a leader knew. With `sequence` it orders reports.
    pub run: u64,
    /// Counts this run's reports.
    pub sequence: u64,
    /// From the newest answer that it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub echo: Option<Echo>,
    /// The newest assignment it has.
    pub revision: Revision,
    /// Its promises.
    pub pledge: Pledge,
    /// Its server.
    pub server: Server,
    /// How long before this report the newest look at PostgreSQL began that was answered; nothing
    /// where none runs. `None`, from an agent that does not say: unknown, and never good (I-37).
    #[serde(default, rename = "looked_ms", with = "maybe_millis")]
    pub looked: Option<Duration>,
    /// The identifier in its data directory.
    pub system_identifier: Option<SystemIdentifier>,
    /// Its position once sealed for `pledge.sealed`: receiver verified gone, local replay
    /// finished. `None` while that is not so.
    pub sealed_at: Option<Position>,
    /// The epoch whose marker it committed under its rule, and a durable commit since.
    pub proof: Option<Proof>,
    /// The rule that PostgreSQL is proven to enforce.
    pub enforced: Option<Generation>,
    /// As a primary about to be stopped: the epoch in which it wrote the checkpoint asked for.
    pub prepared: Option<Epoch>,
    /// As a primary: who streams from it.
    pub streams: Vec<Stream>,
    /// As a standby: what it receives.
    pub receiver: Option<Receiver>,
    /// As a primary: commits at or before this may have been acknowledged without the rule, because
    /// a wait was cancelled or somebody overruled the setting (I-12). The highest.
    pub doubt: Option<Position>,
    /// What a standby sees when it knocks at the primary's ports; sent while its stream is broken.
    pub knock: Option<Knock>,
    /// What is going on or wrong, for people: `cloning, 40 %`, `foreign data directory`.
    pub notes: Vec<Note>,
    /// PostgreSQL's version: `15.18`.
    pub version: String,
    /// What was measured of machine and server.
    #[serde(default, skip_serializing_if = "Checks::is_empty")]
    pub checks: Checks,
    /// How far the newest rehearsal is that it was ordered; forgotten when its agent ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rehearsed: Option<Rehearsed>,
    /// What was looked at rarely; in some reports only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub survey: Option<Box<Survey>>,
}

/// How an instance's PostgreSQL stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Server {
    /// There is no data directory.
    Absent,
    /// The data directory may not be touched: why.
    Refused(String),
    /// Not running.
    Down(Down),
    /// Running, not answering yet.
    Starting,
    /// Running in recovery.
    Recovery {
        /// max(received, replayed), and the timeline it is on.
        position: Position,
        /// How far it has replayed.
        replayed: Lsn,
        /// Whether clients are admitted.
        admits: bool,
    },
    /// Running and writable.
    Writable {
        /// Its WAL end and timeline.
        position: Position,
        /// Whether clients are admitted.
        admits: bool,
        /// The timeline of its last checkpoint: a rewind from it works once this is the current.
        checkpoint: Timeline,
    },
}

/// Why a server is not running.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Down {
    /// It ended by itself, or was killed: nothing of it runs any more.
    Crashed,
    /// It was stopped at once, on purpose, and nothing of it runs any more.
    Fenced,
    /// It was shut down cleanly, all its log at every connected standby; the position is its end.
    Clean(Position),
    /// It has not been started yet by this run of the agent.
    NotStarted,
}

/// A durable commit under the rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// The epoch whose marker is durable.
    pub epoch: Epoch,
    /// How long before this report the newest durable commit was begun.
    #[serde(rename = "age_ms", with = "millis")]
    pub age: Duration,
}

/// One row of `pg_stat_replication`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stream {
    /// The standby, whose certificate and name agree.
    pub instance: InstanceId,
    /// `state` is `streaming`.
    pub streaming: bool,
    /// What it flushed.
    pub flushed: Lsn,
    /// Whether that reaches the WAL end that the primary had one heartbeat earlier.
    pub caught_up: bool,
}

/// What a standby receives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receiver {
    /// From whom.
    pub upstream: InstanceId,
    /// Whether it streams now.
    pub streaming: bool,
    /// How long before this report the last message came from the upstream.
    #[serde(rename = "age_ms", with = "millis")]
    pub age: Duration,
}

/// The answer of one TCP port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Port {
    /// A connection came about.
    Open,
    /// It was actively refused: the machine is there, the process is not.
    Refused,
    /// Nothing came back in time.
    Silent,
}

/// What was seen when knocking at an instance's two ports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Knock {
    /// At whose.
    pub target: InstanceId,
    /// From where.
    pub from: SiteId,
    /// The agent's port.
    pub agent: Port,
    /// PostgreSQL's port.
    pub postgres: Port,
    /// How long before this was sent the later of the two answers came.
    #[serde(rename = "age_ms", with = "millis")]
    pub age: Duration,
}

/// Something for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Which check or task speaks: `rewind`, `clone`, `data-directory`, `wait-cancelled`.
    pub subject: String,
    /// How bad it is.
    pub severity: Severity,
    /// What it says.
    pub text: String,
}

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Worth looking at.
    Warning,
    /// Stands in the way of what baton would do.
    Blocks,
}

/// What a name server answers, as a voter that asked it over the network saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NameServerAnswer {
    /// It answered.
    Serves {
        /// The serial of its SOA: the zone's version.
        version: u32,
        /// Whether it gave the writable name of each service: the addresses, by service.
        writable: Vec<(ServiceId, Vec<IpAddr>)>,
        /// The same of the canary name of a service whose name servers are drilled.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        canaries: Vec<(ServiceId, Vec<IpAddr>)>,
    },
    /// It actively refused.
    Refused,
    /// Nothing came back in time.
    Silent,
}

/// What a voter observed itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Observation {
    /// It knocked at an instance's ports.
    Knocked(Knock),
    /// It asked a name server.
    Asked {
        /// Which.
        server: NameServerId,
        /// What it said.
        answer: NameServerAnswer,
    },
    /// A name server told over its own connection which version it serves.
    Follows {
        /// Which.
        server: NameServerId,
        /// The zone's version.
        version: u32,
    },
    /// A name server came with this certificate.
    Presented {
        /// Which.
        server: NameServerId,
        /// For how many seconds more it is good; negative: it has expired.
        certificate_seconds: i64,
    },
    /// A voter says this of itself.
    Voter {
        /// Which.
        voter: VoterId,
        /// Its wall clock when this was sent.
        wall: Timestamp,
        /// For how many seconds more its certificate is good; negative: it has expired.
        certificate_seconds: i64,
    },
}

/// The answer to a report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// What the agent must converge to.
    pub assignment: crate::assignment::Assignment,
    /// Permission to serve reads and writes in this epoch, counted from when the report was sent.
    /// Granted only by a leader whose leadership a quorum confirmed after the report arrived.
    pub lease: Option<Epoch>,
    /// To be said back in the next report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub echo: Option<Echo>,
    /// The newest run of its agent that the leader heard. Greater than the agent's own, or the same
    /// with a sequence that this one has not reached: the reports of this run are taken for those
    /// of one that ended, and it must count on from there.
    #[serde(default)]
    pub run: u64,
    /// The newest sequence that the leader heard of that run.
    #[serde(default)]
    pub sequence: u64,
    /// Where the leader listens, when the voter that answers is another: the next report goes
    /// there, which saves it a hop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<SocketAddr>,
}
