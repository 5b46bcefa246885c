//! The way to the leader: a question is answered here when this voter leads, and passed on, one
//! step only, when it does not.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use failover::Request;
use failover::alert::{AlertChange, AlertKey};
use failover::event::Note;
use failover::ids::{InstanceId, VoterId};
use failover::people::Role;
use failover::report::{Observation, Report};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};
use wire::http::Client;
use wire::role::Kind;
use wire::tls::Identity;

use crate::alerts::Test;
use crate::answers::Known;
use crate::codes::Codes;
use crate::door::Door;
use crate::evidence::key::Key;
use crate::feed::Feed;
use crate::message::Envelope;
use crate::monitoring::Look;
use crate::projection::{Projection, Standing};
use crate::replica::{Query, Reply};
use crate::sla;

/// What reaches the loop of the voter.
#[derive(Debug)]
pub enum Inbound {
    /// Messages of another voter, with the name of its certificate; and where the answer goes,
    /// when they are not an answer themselves.
    Peer(String, Box<Envelope>, Option<oneshot::Sender<Envelope>>),
    /// A delivery failed.
    Unreachable(VoterId),
    /// A question, and where its answer goes.
    Ask(Question, oneshot::Sender<Reply>),
    /// Something that a voter saw.
    Observed(Observation),
    /// Somebody monitors.
    Look(oneshot::Sender<Box<Look>>),
    /// Somebody looks at the page, or at the same elsewhere.
    Know(oneshot::Sender<Box<Known>>),
    /// The process ends.
    End,
}

/// What voters pass on to their leader: the body of `POST /v1/forward`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Question {
    /// An agent reports.
    Report(Box<Report>),
    /// A voter saw something; the answer says nothing.
    Observed(Observation),
    /// An operator asks for something.
    Request {
        /// Who.
        by: String,
        /// In which role. One that has none to say speaks for an admin.
        #[serde(default, skip_serializing_if = "Role::is_admin")]
        role: Role,
        /// The step of the time-based code that he gave, where the voter that he asked found it to
        /// be his.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        totp_step: Option<u64>,
        /// What.
        request: Box<Request>,
    },
    /// Something for the record; the answer says nothing.
    Noted {
        /// Whose doing it was.
        by: String,
        /// What.
        note: Box<Note>,
    },
    /// Something about an alert for the record. Only a leader's own watcher says it.
    Alert {
        /// Which.
        key: AlertKey,
        /// What.
        change: AlertChange,
    },
    /// An operator wants to know something.
    Query(Query),
}

/// How long the leader may take to answer an operator.
const ANSWER: Duration = Duration::from_secs(5);
/// How long for what is said again at the next heartbeat anyway.
const ANSWER_SOON: Duration = Duration::from_secs(1);

/// What a voter has that is not in the replicated state.
#[derive(Debug)]
pub struct Own {
    /// What it signs evidence with, or why it cannot.
    pub key: Result<Key, String>,
    /// Where journals of probe writers lie.
    pub sla: Option<sla::Settings>,
    /// The secrets of people.
    pub codes: Codes,
}

/// Everything a request handler needs.
pub struct Routes {
    /// The replicated state, as others need it.
    pub projection: watch::Receiver<Arc<Projection>>,
    /// How this voter stands.
    pub standing: watch::Receiver<Standing>,
    /// What is to be on record, and is not yet.
    pub door: Door,
    /// What this voter has that is not in the replicated state.
    pub own: Own,
    /// Who looks at the page.
    pub feed: Feed,
    /// Whom to look at now.
    pub looks: mpsc::Sender<InstanceId>,
    /// Whoever wants to see whether alerts arrive.
    pub tests: mpsc::Sender<Test>,
    inbox: mpsc::Sender<Inbound>,
    identity: Arc<Identity>,
    clients: Mutex<BTreeMap<SocketAddr, Client>>,
}

impl Routes {
    /// For one process.
    pub fn new(
        identity: Arc<Identity>,
        inbox: mpsc::Sender<Inbound>,
        (projection, standing): (watch::Receiver<Arc<Projection>>, watch::Receiver<Standing>),
        (looks, tests): (mpsc::Sender<InstanceId>, mpsc::Sender<Test>),
        own: Own,
    ) -> Self {
        let clients = Mutex::new(BTreeMap::new());
        let door = Door::default();
        Self {
            projection,
            standing,
            door,
            own,
            feed: Feed::default(),
            looks,
            tests,
            inbox,
            identity,
            clients,
        }
    }

    /// The name in this voter's certificate.
    pub fn name(&self) -> &str {
        &self.identity.peer().name
    }

    /// Puts something into the loop; `false`: it is too busy, or gone.
    pub fn submit(&self, inbound: Inbound) -> bool {
        match self.inbox.try_send(inbound) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                tracing::warn!("too much to do: an input is dropped");
                false
            }
            Err(TrySendError::Closed(_)) => false,
        }
    }

    /// Asks this voter.
    pub async fn ask_here(&self, question: Question) -> Reply {
        let (sender, receiver) = oneshot::channel();
        if !self.submit(Inbound::Ask(question, sender)) {
            return Reply::NoLeader;
        }
        match tokio::time::timeout(ANSWER, receiver).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(_)) => Reply::Stopped("this voter is ending".into()),
            Err(_) => Reply::InDoubt("no answer in time".into()),
        }
    }

    /// What this voter knows now; nothing while it does not act.
    pub async fn know(&self) -> Option<Box<Known>> {
        let (sender, receiver) = oneshot::channel();
        if !self.submit(Inbound::Know(sender)) {
            return None;
        }
        tokio::time::timeout(ANSWER, receiver).await.ok()?.ok()
    }

    /// Asks the leader, wherever it is.
    pub async fn ask(&self, question: Question) -> Reply {
        let standing = self.standing.borrow().clone();
        if let Some(reason) = standing.stopped {
            return Reply::Stopped(reason);
        }
        if standing.leads {
            return self.ask_here(question).await;
        }
        let Some((_, address)) = standing.leader else { return Reply::NoLeader };
        let changes = matches!(question, Question::Request { .. });
        let patience = match question {
            Question::Report(_) | Question::Observed(_) | Question::Query(Query::Overview) => {
                ANSWER_SOON
            }
            Question::Request { .. }
            | Question::Noted { .. }
            | Question::Alert { .. }
            | Question::Query(_) => ANSWER,
        };
        let Some(client) = self.client(address) else { return Reply::NoLeader };
        match client.post::<_, Reply>("/v1/forward", &question, patience).await {
            Ok(Reply::Report(mut answer)) => {
                answer.leader = Some(address);
                Reply::Report(answer)
            }
            Ok(reply) => reply,
            Err(error) => {
                tracing::debug!(%address, "the leader was not reached: {error}");
                // A connection that was never made carried nothing.
                let sent = !matches!(error, wire::http::HttpError::Connect { .. });
                if changes && sent {
                    Reply::InDoubt(format!("the leader did not answer: {error}"))
                } else {
                    Reply::NoLeader
                }
            }
        }
    }

    /// Tells the leader what was seen. Lost when there is none: it is seen again.
    pub async fn observe(&self, observation: Observation) {
        let leads = self.standing.borrow().leads;
        if leads {
            self.submit(Inbound::Observed(observation));
        } else {
            self.ask(Question::Observed(observation)).await;
        }
    }

    /// Has this voter knock at an instance's ports, if that is a primary.
    pub fn look(&self, instance: &InstanceId) {
        if self.projection.borrow().primaries.contains_key(instance) {
            let _dropped_when_busy = self.looks.try_send(instance.clone());
        }
    }

    fn client(&self, address: SocketAddr) -> Option<Client> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&address) {
            return Some(client.clone());
        }
        let client = Client::new(&self.identity, Kind::Voter, address).ok()?;
        clients.insert(address, client.clone());
        Some(client)
    }
}
