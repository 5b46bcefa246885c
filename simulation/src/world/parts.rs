//! What stands in the world beside the voters, and what is said between all of them.

use std::net::IpAddr;
use std::sync::Arc;

use failover::ids::{Revision, VoterId};
use failover::report::{NameServerAnswer, Port, Report};
use failover::zone::Zone;
use failover::{Answer, Assignment, Request};
use orchestrator::message::Envelope;
use orchestrator::replica::Reply;
use orchestrator::routes::Question;

use crate::clock::At;
use crate::host::{Host, Outcome, Statement};

/// One machine with an instance.
pub(crate) struct Machine {
    pub(crate) host: Host,
    pub(crate) place: u8,
    pub(crate) service: u8,
    pub(crate) on: bool,
    /// When it is to be woken, as far as the queue knows.
    pub(crate) wake: Option<At>,
    pub(crate) agent_port: Port,
    /// Long polls that no answer has come to: at which voter, and their tokens.
    pub(crate) polls: Vec<(u8, u64)>,
    /// Knocks that no answer has come to.
    pub(crate) knocks: Vec<u64>,
}

/// A name server.
pub(crate) struct NameServer {
    pub(crate) place: u8,
    pub(crate) on: bool,
    pub(crate) runs: bool,
    pub(crate) paused: bool,
    pub(crate) full: bool,
    pub(crate) run: u32,
    pub(crate) served: Option<Arc<Zone>>,
    pub(crate) disk: Option<Arc<Zone>>,
    /// The zone that is being written.
    pub(crate) keeping: Option<Arc<Zone>>,
    pub(crate) follows: Vec<Following>,
    pub(crate) next_token: u64,
    /// What arrived while it was stopped.
    pub(crate) held: Vec<(u8, Body)>,
}

/// How a name server follows one voter.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Following {
    /// The poll under way.
    pub(crate) token: Option<u64>,
    /// How long it waits after the next failure, in microseconds.
    pub(crate) retry: u64,
}

/// One client outside.
pub(crate) struct Client {
    pub(crate) service: u8,
    pub(crate) writes: bool,
    /// Keeps an address whatever its time to live.
    pub(crate) stubborn: bool,
    pub(crate) session: u64,
    pub(crate) address: Option<(IpAddr, At)>,
    /// What it waits for.
    pub(crate) state: ClientState,
    /// The machine that its session is with.
    pub(crate) host: Option<u8>,
    pub(crate) began: At,
}

/// What a client waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientState {
    Idle,
    Resolving,
    Waiting,
}

/// A request of an operator.
pub(crate) struct Ask {
    pub(crate) request: Request,
    pub(crate) attempt: u32,
    pub(crate) until: At,
    pub(crate) reply: Option<Reply>,
    pub(crate) done: bool,
}

/// What is said.
pub(crate) enum Body {
    /// Raft, with the sender's place among the voters.
    Peer {
        voter: u8,
        sender: u8,
        envelope: Box<Envelope>,
    },
    Unreached {
        voter: u8,
        run: u32,
        about: VoterId,
    },
    /// A question passed on to the leader.
    Forward {
        voter: u8,
        sender: u8,
        token: u64,
        question: Question,
    },
    Forwarded {
        voter: u8,
        run: u32,
        token: u64,
        reply: Box<Reply>,
    },
    Report {
        voter: u8,
        host: u8,
        token: u64,
        report: Box<Report>,
    },
    Answer {
        host: u8,
        token: u64,
        answer: Option<Box<Answer>>,
    },
    Poll {
        voter: u8,
        host: u8,
        token: u64,
        after: Revision,
    },
    Polled {
        host: u8,
        voter: u8,
        token: u64,
        assignment: Option<Box<Assignment>>,
    },
    /// The agent hung up: its process ended.
    HungUp {
        voter: u8,
        host: u8,
    },
    Syn {
        host: u8,
        port: Door,
        asker: Looker,
    },
    SynAck {
        asker: Looker,
        agent: Port,
        postgres: Port,
    },
    ZonePoll {
        voter: u8,
        server: u8,
        token: u64,
        after: u32,
    },
    Zone {
        server: u8,
        voter: u8,
        token: u64,
        zone: Option<Arc<Zone>>,
    },
    Ask {
        server: u8,
        voter: u8,
        run: u32,
        question: u32,
    },
    Asked {
        voter: u8,
        run: u32,
        server: u8,
        question: u32,
        answer: NameServerAnswer,
    },
    Resolve {
        server: u8,
        client: u16,
        session: u64,
    },
    Resolved {
        client: u16,
        session: u64,
        address: Option<IpAddr>,
        ttl: u32,
    },
    Statement {
        host: u8,
        client: u16,
        session: u64,
        statement: Statement,
    },
    Outcome {
        client: u16,
        session: u64,
        outcome: Outcome,
    },
    Operator {
        voter: u8,
        ask: u32,
        attempt: u32,
    },
    Ruled {
        ask: u32,
        attempt: u32,
        reply: Box<Reply>,
    },
}

/// Which ports are knocked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    Agent,
    Postgres,
    Both,
}

/// Who knocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Looker {
    Voter { voter: u8, run: u32, id: u32, second: bool },
    Host { host: u8, token: u64 },
}
