//! Messages to the other voters: one task a voter behind a short queue.
//!
//! Raft repeats what is lost, so a queue that is full drops, and what could not be delivered is
//! told to Raft and forgotten. Several deliveries may be under way at once: a voter far away
//! would otherwise hold back each message until the one before it was answered.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use failover::ids::VoterId;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};
use wire::http::Client;
use wire::role::Kind;
use wire::tls::Identity;

use crate::message::Envelope;

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
    unreachable: Arc<dyn Fn(VoterId) + Send + Sync>,
    queues: BTreeMap<VoterId, Queue>,
}

struct Queue {
    address: SocketAddr,
    sender: mpsc::Sender<Envelope>,
}

impl Peers {
    /// Nobody yet. `unreachable` is called for every delivery that failed.
    pub fn new(
        identity: Arc<Identity>,
        runtime: Handle,
        unreachable: Arc<dyn Fn(VoterId) + Send + Sync>,
    ) -> Self {
        Self { identity, runtime, unreachable, queues: BTreeMap::new() }
    }

    /// Hands an envelope over; dropped when the peer is unknown or behind.
    pub fn send(&mut self, address: Option<SocketAddr>, envelope: Envelope) {
        let Some(address) = address else { return };
        let to = envelope.to;
        let current = self.queues.get(&to).filter(|queue| queue.address == address);
        let sender = match current {
            Some(queue) => queue.sender.clone(),
            None => match self.open(to, address) {
                Some(sender) => sender,
                None => return,
            },
        };
        if sender.try_send(envelope).is_err() {
            tracing::debug!(%to, "the queue is full: a message is dropped");
            (self.unreachable)(to);
        }
    }

    /// Forgets voters that are no longer there.
    pub fn retain(&mut self, known: &[VoterId]) {
        self.queues.retain(|id, _| known.contains(id));
    }

    fn open(&mut self, to: VoterId, address: SocketAddr) -> Option<mpsc::Sender<Envelope>> {
        let client = match Client::new(&self.identity, Kind::Voter, address) {
            Ok(client) => client,
            Err(error) => {
                tracing::error!(%to, %address, "no client for this voter: {error}");
                return None;
            }
        };
        let (sender, receiver) = mpsc::channel(QUEUE);
        self.runtime.spawn(deliver(to, client, receiver, self.unreachable.clone()));
        self.queues.insert(to, Queue { address, sender: sender.clone() });
        Some(sender)
    }
}

async fn deliver(
    to: VoterId,
    client: Client,
    mut queue: mpsc::Receiver<Envelope>,
    unreachable: Arc<dyn Fn(VoterId) + Send + Sync>,
) {
    let under_way = Arc::new(Semaphore::new(UNDER_WAY));
    let failing = Arc::new(std::sync::atomic::AtomicBool::new(false));
    while let Some(mut envelope) = queue.recv().await {
        let Ok(permit) = under_way.clone().acquire_owned().await else { return };
        while envelope.messages.len() < GATHER
            && let Ok(next) = queue.try_recv()
        {
            let Envelope { messages, look, expects, joined, .. } = next;
            envelope.messages.extend(messages);
            envelope.look.extend(look);
            envelope.expects = expects;
            envelope.joined = joined;
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
        let (client, unreachable, failing) = (client.clone(), unreachable.clone(), failing.clone());
        tokio::spawn(async move {
            use std::sync::atomic::Ordering;
            let outcome = client.post_bytes("/v1/raft", body.into(), patience).await;
            match outcome {
                Ok(_) => {
                    if failing.swap(false, Ordering::Relaxed) {
                        tracing::info!(%to, "voter reached again");
                    }
                }
                Err(error) => {
                    if !failing.swap(true, Ordering::Relaxed) {
                        tracing::warn!(%to, "voter not reached: {error}");
                    }
                    unreachable(to);
                }
            }
            drop(permit);
        });
    }
}
