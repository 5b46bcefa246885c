//! What goes into a machine and what comes out of it.

pub use super::harm::{HostFault, Part};
use super::log::{Log, Record, Tree};
use super::setting::Setting;
use failover::report::Port;
use failover::topology::Timing;
use failover::{
    Answer, Assignment, Epoch, Generation, InstanceId, Lsn, Report, Revision, ServiceId, SiteId,
    SystemIdentifier, Timeline,
};
use std::net::SocketAddr;
use std::sync::Arc;

/// An instance: its place in [`Setup::instances`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Peer(pub u8);

impl Peer {
    /// As an index.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// What a machine is.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Which instance it carries.
    pub own: Peer,
    /// All instances of the run, in the same order for every machine.
    pub instances: Arc<[InstanceId]>,
    /// The service.
    pub service: ServiceId,
    /// Where it stands.
    pub site: SiteId,
    /// Where the voters listen, as in the agent's configuration.
    pub voters: Vec<SocketAddr>,
    /// What the agent takes for its timing before its first assignment.
    pub timing: Timing,
    /// Whether what happens is to be put into words ([`Output::Say`]).
    pub talkative: bool,
    /// It tells what the model has none of as if all of it were good.
    pub surveyed: bool,
}

/// What happens to a machine.
#[derive(Debug)]
pub enum Input {
    /// It is switched on: guard and agent start.
    Boot,
    /// It is switched off without warning.
    PowerCut,
    /// [`super::Host::next_wake`] has come.
    Wake,
    /// A message of the replication plane.
    Wal {
        /// From whom.
        from: Peer,
        /// What.
        message: Wal,
    },
    /// A voter answered a report, or its connection failed.
    Answer {
        /// That of the report.
        token: u64,
        /// `None`: refused or broken off.
        answer: Option<Box<Answer>>,
    },
    /// A long poll ended.
    Polled {
        /// That of the poll.
        token: u64,
        /// `None`: refused or broken off.
        assignment: Option<Box<Assignment>>,
    },
    /// A knock was answered.
    Knocked {
        /// That of the knock.
        token: u64,
        /// The agent's port.
        agent: Port,
        /// PostgreSQL's port.
        postgres: Port,
    },
    /// A client's statement arrives.
    Client {
        /// Who: one session.
        client: u64,
        /// What.
        statement: Statement,
    },
    /// Something breaks.
    Fault(HostFault),
}

/// What a machine does that others notice.
#[derive(Debug)]
pub enum Output {
    /// A message of the replication plane.
    Wal {
        /// To whom.
        to: Peer,
        /// What.
        message: Wal,
    },
    /// A report to one voter.
    Report {
        /// Which, in [`Setup::voters`].
        voter: u8,
        /// For the answer.
        token: u64,
        /// The report.
        report: Box<Report>,
    },
    /// A long poll of the assignment at one voter.
    Poll {
        /// Which, in [`Setup::voters`].
        voter: u8,
        /// For the answer.
        token: u64,
        /// The revision known.
        after: Revision,
    },
    /// A knock at both ports of an instance.
    Knock {
        /// For the answer.
        token: u64,
        /// At whose.
        target: Peer,
    },
    /// What a client is told.
    Client {
        /// Who.
        client: u64,
        /// What.
        outcome: Outcome,
    },
    /// For the oracle only.
    Fact(Fact),
    /// For people, where wanted.
    Say(String),
}

/// What a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statement {
    /// One transaction that writes this number.
    Write {
        /// Unique in the run; below [`Record::OWN`].
        commit: u64,
    },
    /// The same with `synchronous_commit = local` (F-16).
    Local {
        /// Unique in the run.
        commit: u64,
    },
    /// The newest number that can be seen.
    Read,
    /// A cancel request for what this client waits for (F-10).
    Cancel,
    /// The client goes away without waiting.
    Hangup,
}

/// What a client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// `COMMIT`. With a warning: the wait was cancelled (F-10).
    Acknowledged {
        /// The commit.
        commit: u64,
        /// Whether a warning came with it.
        warned: bool,
    },
    /// Certainly not written: no session, or read-only.
    Refused,
    /// The connection ended while the statement was under way: unknown.
    Lost,
    /// The answer to a read.
    Seen {
        /// The newest visible number, by its place in the log.
        newest: Option<u64>,
    },
}

/// The replication plane. Every connection has a number, chosen by who opens it.
#[derive(Clone, Debug)]
pub enum Wal {
    /// A receiver, or a copying program, connects.
    Connect {
        /// The connection.
        stream: u64,
        /// What for.
        purpose: Purpose,
        /// The name it gives itself.
        name: Peer,
        /// The role that its certificate proves.
        role: Peer,
        /// Its cluster.
        system: Option<SystemIdentifier>,
        /// The timeline it asks for.
        timeline: Timeline,
        /// From where on.
        from: Lsn,
    },
    /// It streams: the timelines that the sender went through.
    Accepted {
        /// The connection.
        stream: u64,
        /// The sender's history.
        tree: Arc<Tree>,
    },
    /// An answer of PostgreSQL's that ends the connection.
    Refused {
        /// The connection.
        stream: u64,
        /// Why.
        why: Refusal,
    },
    /// WAL.
    Records {
        /// The connection.
        stream: u64,
        /// Where the first begins.
        from: Lsn,
        /// The records.
        records: Records,
    },
    /// The sender went on to another timeline: what follows is on it.
    Switched {
        /// The connection.
        stream: u64,
        /// The sender's history.
        tree: Arc<Tree>,
    },
    /// Nothing new, but alive.
    Alive {
        /// The connection.
        stream: u64,
    },
    /// What the receiver holds.
    Flushed {
        /// The connection.
        stream: u64,
        /// On disk.
        upto: Lsn,
        /// Replayed.
        applied: Lsn,
    },
    /// The connection is closed.
    Closed {
        /// The connection.
        stream: u64,
    },
    /// The sender's place, for a program that wants to rewind to it.
    Place {
        /// The connection.
        stream: u64,
        /// Its history; `None`: it is in recovery.
        tree: Option<Arc<Tree>>,
        /// The timeline of its last checkpoint.
        checkpoint: Timeline,
    },
    /// The end of a base backup or a rewind: what the sender had then.
    Copied {
        /// The connection.
        stream: u64,
        /// Its cluster.
        system: SystemIdentifier,
        /// Its log, on disk there.
        log: Log,
    },
}

impl Wal {
    /// Which connection it belongs to.
    #[must_use]
    pub fn stream(&self) -> u64 {
        match self {
            Self::Connect { stream, .. }
            | Self::Accepted { stream, .. }
            | Self::Refused { stream, .. }
            | Self::Records { stream, .. }
            | Self::Switched { stream, .. }
            | Self::Alive { stream }
            | Self::Flushed { stream, .. }
            | Self::Closed { stream }
            | Self::Place { stream, .. }
            | Self::Copied { stream, .. } => *stream,
        }
    }
}

/// One record, or several.
#[derive(Clone, Debug)]
pub enum Records {
    /// One.
    One(Record),
    /// Several.
    Many(Box<[Record]>),
}

impl Records {
    /// Them.
    #[must_use]
    pub fn as_slice(&self) -> &[Record] {
        match self {
            Self::One(record) => std::slice::from_ref(record),
            Self::Many(records) => records,
        }
    }
}

/// What a connection of the replication plane is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A standby's receiver.
    Stream,
    /// `pg_receivewal`, or the like, under a standby's name (F-14): no database behind it.
    Impostor,
    /// `pg_basebackup`.
    Backup,
    /// The question that precedes a rewind.
    Ask,
    /// `pg_rewind`.
    Rewind,
}

/// Why PostgreSQL ends a connection that it accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its port is closed, or it is starting up or shutting down.
    Down,
    /// The role is unknown, or its certificate does not prove it.
    Role,
    /// The standby stands beyond where this history left its timeline (F-23).
    Beyond,
    /// Another cluster.
    System,
}

/// What an oracle may know and nobody else.
#[derive(Clone, Debug)]
pub enum Fact {
    /// PostgreSQL left recovery, or came up writable: its log is [`super::Host::log`] now.
    Writable {
        /// The epoch that the machine accepted.
        epoch: Epoch,
        /// The timeline.
        timeline: Timeline,
        /// Where it begins; the end of the log for a restart in place.
        from: Lsn,
        /// By promotion, not by a restart.
        promoted: bool,
    },
    /// Somebody without a database streams under another's name.
    Posed {
        /// The connection.
        stream: u64,
    },
    /// PostgreSQL ended and nothing of it runs.
    Ended {
        /// By the agent or the guard.
        fenced: bool,
    },
    /// Clients are admitted.
    Admitted {
        /// The epoch.
        epoch: Epoch,
        /// Not a standby.
        writable: bool,
    },
    /// New clients are not admitted any more.
    ClientsClosed,
    /// A client's transaction is in the log.
    Wrote {
        /// Its number.
        commit: u64,
        /// Where it ends.
        at: Lsn,
        /// On which timeline.
        timeline: Timeline,
    },
    /// The epoch's marker was committed under the rule.
    Proven {
        /// The epoch.
        epoch: Epoch,
    },
    /// The agent takes a rule for enforced.
    Enforced {
        /// Which.
        generation: Generation,
    },
    /// Somebody's statement of commit returned without the standbys: cancelled or released.
    Released {
        /// The commit, if it was a client's.
        commit: Option<u64>,
        /// Where it ends.
        at: Lsn,
        /// Why.
        how: Release,
    },
    /// The rule that a process of a writable PostgreSQL goes by changed.
    Setting {
        /// Whose: a walsender's, or the checkpointer's.
        process: Process,
        /// To what.
        setting: Arc<Setting>,
    },
    /// It cut itself off.
    Isolated,
    /// A promise is on disk.
    Pledged {
        /// The newest epoch sealed.
        sealed: Epoch,
        /// The newest epoch accepted.
        granted: Epoch,
    },
    /// The agent says where it stands, sealed.
    Sealed {
        /// For which epoch.
        epoch: Epoch,
        /// Where.
        at: Lsn,
    },
    /// WAL was received from a primary of this epoch (by the key it was received with).
    Received {
        /// The key's epoch.
        epoch: Epoch,
    },
    /// The data directory is a new copy.
    Cloned,
    /// The data directory was rewound; this was cut off and kept.
    Rewound {
        /// The first record kept.
        from: Lsn,
        /// Behind the last.
        to: Lsn,
    },
    /// The tail that will be lost was kept before anything is destroyed (I-14).
    TailKept {
        /// Where the lost tail begins.
        from: Lsn,
        /// Where it ends.
        to: Lsn,
    },
    /// A data directory was set aside for good.
    Quarantined,
    /// A directory was started that a rewind had left half done (I-15): must never be.
    StartedBroken,
    /// A data directory was destroyed that held the end of the log.
    Wiped,
    /// An action of the law began.
    Began {
        /// Its name.
        action: &'static str,
    },
    /// An action of the law ended.
    Done {
        /// Its name.
        action: &'static str,
        /// Whether it came about.
        done: bool,
    },
    /// One step inside an action: a place where a crash differs from the one before.
    Step {
        /// Its name: `seal-2` begins now.
        name: &'static str,
    },
}

/// How a wait ended without the standbys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// It was cancelled (F-10).
    Cancelled,
    /// The setting was emptied (F-13).
    Emptied,
    /// It never waited: no rule was in force for it (F-15, F-16).
    NeverWaited,
    /// Somebody without a database said in another's name that it holds it (F-14).
    Posed,
    /// The same, with that other's own certificate: nobody can tell.
    Stolen,
}

/// A process of PostgreSQL that has its own view of the settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Process {
    /// Sessions begun from now on.
    Postmaster,
    /// The one that says whether commits wait at all.
    Checkpointer,
    /// The one that serves this standby.
    Sender(Peer),
}
