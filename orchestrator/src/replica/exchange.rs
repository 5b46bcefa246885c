//! What goes into a voter and what comes out of it, as plain values.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use failover::alert::{AlertChange, AlertKey};
use failover::cluster::Voter;
use failover::event::Note;
use failover::ids::{DrillId, Incarnation, InstanceId, Revision, ServiceId, TransitionId, VoterId};
use failover::people::Role;
use failover::rehearse::Hypothesis;
use failover::report::{Answer, Observation, Report};
use failover::{Finding, Moment, Request, Timestamp};

use crate::answers::{Accepted, AuditPage};
use crate::log::Batch;
use crate::message::{Envelope, Message};

/// The clocks' readings when an input came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clocks {
    /// The monotonic clock: everything is judged by it.
    pub now: Moment,
    /// The wall clock: for the record only (I-23).
    pub wall: Timestamp,
}

/// Names a question until it is answered.
pub type Token = u64;

/// What happens to a voter.
#[derive(Clone, Debug)]
pub enum Input {
    /// A tenth of the election timeout has passed.
    Tick,
    /// Messages of another voter; `name` is that of its certificate.
    Peer {
        /// The sender's name.
        name: Arc<str>,
        /// What it sent.
        envelope: Box<Envelope>,
    },
    /// A message could not be delivered.
    Unreachable(VoterId),
    /// An agent reports, here or through another voter.
    Report {
        /// To be answered.
        token: Token,
        /// What it says.
        report: Box<Report>,
    },
    /// A voter saw something.
    Observed(Observation),
    /// A voter has something for the record.
    Noted {
        /// To be answered, with nothing, once it is there.
        token: Token,
        /// Whose doing it was.
        by: String,
        /// What.
        note: Box<Note>,
    },
    /// What watches has something about an alert for the record.
    Alert {
        /// To be answered.
        token: Token,
        /// Which.
        key: AlertKey,
        /// What.
        change: AlertChange,
    },
    /// An operator asks for something.
    Request {
        /// To be answered.
        token: Token,
        /// Who.
        by: String,
        /// In which role.
        role: Role,
        /// The step of the time-based code that he gave.
        totp_step: Option<u64>,
        /// What.
        request: Box<Request>,
    },
    /// An operator wants to know something.
    Query {
        /// To be answered.
        token: Token,
        /// What.
        query: Query,
    },
}

/// What an operator wants to know.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Query {
    /// Everything on one screen.
    Status,
    /// The same, with what happened lately.
    Overview,
    /// Why a service is, or is not, failing over.
    Explain(ServiceId),
    /// The newest entries of the log in words.
    History {
        /// Of one service only.
        service: Option<ServiceId>,
        /// How many at most.
        limit: usize,
    },
    /// The reports of all transitions.
    Transitions,
    /// The report of one transition.
    Transition(TransitionId),
    /// The calendar of drills.
    Calendar,
    /// Every drill.
    Drills,
    /// One drill, with the changes of primary that it made or met.
    Drill(DrillId),
    /// What a drill would do, and whether it may.
    DrillPlan(Box<Request>),
    /// The alerts that stand.
    Alerts,
    /// What waits for a second person, or did lately.
    Approvals,
    /// What would be lost of a service, if that were accepted.
    Loss(ServiceId),
    /// What is declared.
    Topology,
    /// What would follow, if.
    WhatIf(Box<Hypothesis>),
    /// The audit records from this number on, as the voter that is asked has them.
    Audit(u64),
    /// Could a site be lost now?
    Readiness {
        /// The name of a site or a service; `None`: everything.
        of: Option<String>,
    },
}

/// The answer to a question.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Reply {
    /// To a report.
    Report(Box<Answer>),
    /// To a request: it is committed.
    Accepted(Accepted),
    /// To a query: one of the types of [`crate::answers`], as JSON.
    Found(serde_json::Value),
    /// The law says no.
    Refused {
        /// In one sentence.
        error: String,
        /// The reasons, the first one first.
        findings: Vec<Finding>,
    },
    /// What is asked about does not exist.
    Unknown(String),
    /// This voter does not lead; nothing happened.
    NoLeader,
    /// Leadership was lost on the way: whether it happened must be read again (I-21).
    InDoubt(String),
    /// This voter does not act.
    Stopped(String),
}

impl Reply {
    /// To a query, with one of the types of [`crate::answers`].
    #[must_use]
    pub fn found(value: &impl serde::Serialize) -> Self {
        match serde_json::to_value(value) {
            Ok(json) => Self::Found(json),
            Err(error) => Self::Unknown(format!("the answer cannot be written: {error}")),
        }
    }
}

/// Who gets audit records.
#[derive(Clone, Debug, PartialEq)]
pub enum Whom {
    /// A voter that lacks them.
    Voter(VoterId),
    /// Whoever asked: this answer, with the lines in it.
    Asker {
        /// Which question.
        token: Token,
        /// The rest of the answer.
        page: Box<AuditPage>,
    },
}

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Make this durable before anything that follows leaves the process.
    Persist(Box<Batch>),
    /// Send this to another voter.
    Send {
        /// To whom.
        to: VoterId,
        /// What.
        message: Box<Message>,
    },
    /// Answer a question.
    Reply {
        /// Which.
        token: Token,
        /// How.
        reply: Reply,
    },
    /// The replicated state has changed.
    Applied(Revision),
    /// Have every voter knock at this instance's ports now.
    Look(InstanceId),
    /// Ask another voter for audit records.
    Lack {
        /// Whom.
        to: VoterId,
        /// From which number on.
        from: u64,
    },
    /// Give somebody the page of audit records on disk that begins with number `from`.
    Records {
        /// Whom.
        whom: Whom,
        /// From which number on.
        from: u64,
    },
    /// This voter must not act any more: why. Nothing follows it.
    Stop(String),
}

/// Who this voter is.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The cluster's name.
    pub cluster: String,
    /// This voter's number.
    pub id: VoterId,
    /// What its disk was born with.
    pub incarnation: Incarnation,
    /// The initial group, from the configuration: known before the log says anything.
    pub group: BTreeMap<VoterId, Voter>,
    /// Raft's election timeout at the least.
    pub election_timeout: Duration,
    /// Spreads elections; any number.
    pub seed: u64,
    /// A snapshot is taken, and the log cut, when this many entries were applied since the last;
    /// a fifth of them stay, for voters that are a little behind.
    pub compact_after: u64,
}
