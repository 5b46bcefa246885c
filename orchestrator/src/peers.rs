//! Messages to the other voters: one task a voter behind a short queue.
//!
//! Raft repeats what is lost, so a queue that is full drops, and what could not be delivered is
//! told to Raft and forgotten. Several deliveries may be under way at once: a voter far away
//! would otherwise hold back each message until the one before it was answered.
//!
//! What a voter has to say to a message it says in the answer to the same request. The connection
//! is made to a certificate of that voter's name, so the answer is known to be from it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use failover::cluster::Voter;
use failover::ids::VoterId;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};
use wire::http::Client;
use wire::role::Kind;
use wire::tls::Identity;

use crate::message::Envelope;
use crate::routes::Inbound;

/// We read answers. A voter of an earlier version overlooks the word and posts its own.
const PATH: &str = "/v1/raft?answer=true";
const QUEUE: usize = 256;
const UNDER_WAY: usize = 4;
const DELIVERY: Duration = Duration::from_secs(1);
/// The whole state, over a slow line.
const DELIVERY_OF_SNAPSHOT: Duration = Duration::from_secs(10);
/// How many messages one body may gather.
const GATHER: usize = 64;

/// The other voters, as this process reaches them.
pub struct Peers {
    identity: Arc<Identity>,
    runtime: Handle,
    tell: Tell,
    queues: BTreeMap<VoterId, Queue>,
}

/// Where answers and failures go: into the voter's loop, which may be too busy for them.
pub type Tell = Arc<dyn Fn(Inbound) + Send + Sync>;

struct Queue {
    address: SocketAddr,
    name: String,
    sender: mpsc::Sender<Envelope>,
}

impl Peers {
    /// Nobody yet. `tell` gets every answer, and every delivery that failed.
    pub fn new(identity: Arc<Identity>, runtime: Handle, tell: Tell) -> Self {
        Self { identity, runtime, tell, queues: BTreeMap::new() }
    }

    /// Hands an envelope over; dropped when the peer is unknown or behind.
    pub fn send(&mut self, voter: Option<&Voter>, envelope: Envelope) {
        let Some(voter) = voter else { return };
        let to = envelope.to;
        let current = self.queues.get(&to);
        let current = current.filter(|q| q.address == voter.address && q.name == voter.name);
        let sender = match current {
            Some(queue) => queue.sender.clone(),
            None => match self.open(to, voter) {
                Some(sender) => sender,
                None => return,
            },
        };
        if sender.try_send(envelope).is_err() {
            tracing::debug!(%to, "the queue is full: a message is dropped");
            (self.tell)(Inbound::Unreachable(to));
        }
    }

    /// Forgets voters that are no longer there.
    pub fn retain(&mut self, known: &[VoterId]) {
        self.queues.retain(|id, _| known.contains(id));
    }

    fn open(&mut self, to: VoterId, voter: &Voter) -> Option<mpsc::Sender<Envelope>> {
        let Voter { address, name, .. } = voter;
        let client = match Client::named(&self.identity, Kind::Voter, name, *address) {
            Ok(client) => client,
            Err(error) => {
                tracing::error!(%to, %address, "no client for this voter: {error}");
                return None;
            }
        };
        let (sender, receiver) = mpsc::channel(QUEUE);
        let peer = Arc::new(Peer { to, name: name.clone(), client, tell: self.tell.clone() });
        self.runtime.spawn(deliver(peer, receiver));
        let queue = Queue { address: *address, name: name.clone(), sender: sender.clone() };
        self.queues.insert(to, queue);
        Some(sender)
    }
}

/// One other voter.
struct Peer {
    to: VoterId,
    name: String,
    client: Client,
    tell: Tell,
}

impl Peer {
    async fn post(&self, body: Vec<u8>, patience: Duration) -> Result<(), String> {
        let answer = self.client.post_bytes(PATH, body.into(), patience).await;
        let bytes = answer.map_err(|error| error.to_string())?;
        if bytes.is_empty() {
            return Ok(());
        }
        let envelope = serde_json::from_slice(&bytes)
            .map_err(|error| format!("its answer cannot be read: {error}"))?;
        (self.tell)(Inbound::Peer(self.name.clone(), Box::new(envelope), None));
        Ok(())
    }
}

async fn deliver(peer: Arc<Peer>, mut queue: mpsc::Receiver<Envelope>) {
    let under_way = Arc::new(Semaphore::new(UNDER_WAY));
    let failing = Arc::new(AtomicBool::new(false));
    let to = peer.to;
    while let Some(mut envelope) = queue.recv().await {
        let Ok(permit) = under_way.clone().acquire_owned().await else { return };
        while envelope.messages.len() < GATHER
            && let Ok(next) = queue.try_recv()
        {
            let Envelope { messages, look, expects, joined, lacks, records, .. } = next;
            envelope.messages.extend(messages);
            envelope.look.extend(look);
            envelope.expects = expects;
            envelope.joined = joined;
            envelope.lacks = lacks.or(envelope.lacks);
            if envelope.records.is_empty() {
                envelope.records = records;
            }
        }
        let whole = envelope.messages.iter().any(|message| message.snapshot.is_some());
        let patience = if whole { DELIVERY_OF_SNAPSHOT } else { DELIVERY };
        let body = match serde_json::to_vec(&envelope) {
            Ok(body) => body,
            Err(error) => {
                tracing::error!(%to, "a message cannot be written: {error}");
                continue;
            }
        };
        let (peer, failing) = (peer.clone(), failing.clone());
        tokio::spawn(async move {
            match peer.post(body, patience).await {
                Ok(()) => {
                    if failing.swap(false, Ordering::Relaxed) {
                        tracing::info!(%to, "voter reached again");
                    }
                }
                Err(error) => {
                    if !failing.swap(true, Ordering::Relaxed) {
                        tracing::warn!(%to, "voter not reached: {error}");
                    }
                    (peer.tell)(Inbound::Unreachable(to));
                }
            }
            drop(permit);
        });
    }
}
