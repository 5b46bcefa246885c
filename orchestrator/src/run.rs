//! The one loop: an input comes, the replica steps, its outputs are carried out in their order.
//!
//! It shares one thread with all that talks: waking another for every message would cost more than
//! the message. Only the disk is waited for elsewhere, and while it is, inputs queue: the order of
//! the outputs holds. Should the disk fail, nothing that stood after the failed write leaves the
//! process, every question is answered with the reason, and the disk is tried again, from what it
//! holds, every few seconds (I-22).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use failover::Moment;
use failover::ids::{InstanceId, VoterId};
use tokio::sync::{mpsc, oneshot, watch};
use wire::clock;
use wire::role::{CertificateEnd, Kind};
use wire::tls::Identity;

use crate::alerts::Watcher;
use crate::codes::Codes;
use crate::config::Config;
use crate::evidence::key::Key;
use crate::log::{Batch, Saved};
use crate::message::Envelope;
use crate::monitoring::{Look, Monitored};
use crate::peers::Peers;
use crate::projection::{Projection, Standing};
use crate::replica::{
    COMPACT_AFTER, Clocks, ELECTION_TICKS, Input, Output, Replica, Reply, Setup, Whom,
};
use crate::routes::{Inbound, Own, Question, Routes};
use crate::storage::Store;
use crate::tally::Tally;
use crate::traces::Traces;
use crate::{api, feed, observe, page, raft_log};

const INBOX: usize = 4_096;
const LOOKS: usize = 64;
const RETRY_DISK: Duration = Duration::from_secs(5);
/// How long the end waits for a disk that hangs.
const LAST_WRITE: Duration = Duration::from_secs(5);
/// Everyone whose certificate may open a connection; each route narrows it.
const CALLERS: &[Kind] = Kind::ALL;

/// Loads this voter's certificate and checks that it is this voter's.
///
/// # Errors
/// Which file, and what is wrong with it.
pub fn identity(config: &Config) -> anyhow::Result<Identity> {
    let identity = Identity::load(&config.tls)?;
    let peer = identity.peer();
    if peer.kind != Kind::Voter || peer.name != config.name || peer.cluster != config.cluster {
        return Err(anyhow!(
            "{}: this certificate is for {peer}, and this is voter `{}` of cluster `{}`",
            config.tls.certificate.display(),
            config.name,
            config.cluster
        ));
    }
    Ok(identity)
}

/// Runs one voter until it is told to end.
///
/// # Errors
/// When it cannot start: the port, the disk; or when its loop ended by itself.
pub fn run(config: Config, identity: Identity) -> anyhow::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("no threads")?;
    runtime.block_on(serve(config, Arc::new(identity)))
}

async fn serve(config: Config, identity: Arc<Identity>) -> anyhow::Result<()> {
    let listener = wire::http::bind(config.listen).await?;
    let shutdown = wire::shutdown::on_signal();
    let (inbox, inputs) = mpsc::channel(INBOX);
    let (projected, projection) = watch::channel(Arc::new(Projection::default()));
    let (stands, standing) = watch::channel(Standing::default());
    let (look, looks) = mpsc::channel(LOOKS);
    let tell = {
        let inbox = inbox.clone();
        Arc::new(move |inbound| {
            let _dropped_when_busy = inbox.try_send(inbound);
        })
    };
    let peers = Peers::new(identity.clone(), tokio::runtime::Handle::current(), tell);
    let key = key(&config);
    let (test, tests) = mpsc::channel(1);
    let watched = (projection, standing);
    let own = Own { key, sla: config.sla.clone(), codes: Codes::of(&config.totp_secrets) };
    let routes = Routes::new(identity.clone(), inbox, watched, (look.clone(), test), own);
    let routes = Arc::new(routes);
    let turn = Loop::new(&config, peers, projected, stands, look)?;
    let mut voter = tokio::spawn(turn.run(inputs));
    tokio::spawn(observe::knock(routes.clone(), config.site.clone(), looks));
    tokio::spawn(observe::ask_name_servers(routes.clone()));
    let certificate_ends = identity.not_after();
    let monitored = Arc::new(Monitored { routes: routes.clone(), certificate_ends });
    let monitored = wire::monitoring::router(monitored);
    tokio::spawn(wire::monitoring::serve(config.monitoring, monitored, shutdown.clone()));
    let until = CertificateEnd(certificate_ends);
    tokio::spawn(observe::tell_of_oneself(routes.clone(), config.id, until));
    let (id, name, listen) = (config.id, &config.name, config.listen);
    tracing::info!(voter = %id, name, %listen, "voter started");
    let watcher = Watcher {
        routes: routes.clone(),
        cluster: config.cluster.clone(),
        channels: config.channels.clone(),
        tests,
    };
    watcher.start().context("no thread for alerts")?;
    if let Some(collector) = config.traces {
        let (routes, cluster) = (routes.clone(), config.cluster.clone());
        Traces { routes, cluster, collector }.start().context("no thread for traces")?;
    }
    let router = api::router(routes.clone());
    tokio::spawn(feed::run(routes.clone()));
    let page = page::router(routes.clone());
    tokio::spawn(wire::monitoring::serve_page(config.page, page, shutdown.clone()));
    tokio::spawn(routes.clone().tell_key());
    tokio::spawn(routes.clone().tell_notes());
    let door = routes.clone();
    let told = move |who| door.turned_away(who);
    let stop = shutdown.clone();
    let serving = wire::http::serve_and_tell(listener, identity, CALLERS, router, stop, told);
    tokio::select! {
        served = serving => served.context("the listener failed")?,
        _ = &mut voter => return Err(anyhow!("the voter's loop ended: see the log above")),
    }
    routes.submit(Inbound::End);
    // What is being written is written to its end.
    let _ended_either_way = tokio::time::timeout(LAST_WRITE, voter).await;
    tracing::info!("voter ended");
    Ok(())
}

/// The key to sign evidence with. A voter decides without one, too.
fn key(config: &Config) -> Result<Key, String> {
    Key::open(&config.data).map_err(|error| {
        tracing::warn!("no evidence will be signed: {error}");
        error.to_string()
    })
}

/// A voter whose messages are being handled, and where the answer to them goes.
type Asker = (VoterId, oneshot::Sender<Envelope>);

/// The loop's own state.
struct Loop {
    config: Config,
    store: Option<Arc<Store>>,
    replica: Replica,
    peers: Peers,
    waiting: HashMap<u64, oneshot::Sender<Reply>>,
    next_token: u64,
    projected: watch::Sender<Arc<Projection>>,
    stands: watch::Sender<Standing>,
    look: mpsc::Sender<InstanceId>,
    /// When the disk is tried again after it failed.
    retry: Option<Moment>,
    /// What is counted for whoever monitors.
    tally: Tally,
}

impl Loop {
    fn new(
        config: &Config,
        peers: Peers,
        projected: watch::Sender<Arc<Projection>>,
        stands: watch::Sender<Standing>,
        look: mpsc::Sender<InstanceId>,
    ) -> anyhow::Result<Self> {
        let (store, replica) = open(config)?;
        projected.send_replace(Arc::new(Projection::of(replica.cluster())));
        Ok(Self {
            config: config.clone(),
            store: Some(Arc::new(store)),
            replica,
            peers,
            waiting: HashMap::new(),
            next_token: 0,
            projected,
            stands,
            look,
            retry: None,
            tally: Tally::default(),
        })
    }

    async fn run(mut self, mut inputs: mpsc::Receiver<Inbound>) {
        let every = self.config.raft.election_timeout / u32::from(ELECTION_TICKS);
        let mut due = clock::now().after(every);
        loop {
            // Something comes to a leader every few dozen milliseconds, and a tick that waits for
            // it costs no waking of its own. Followers wait for silence, and are on time.
            let slack = if self.replica.is_leader() { every } else { Duration::ZERO };
            let wait = due.after(slack).since(clock::now());
            match tokio::time::timeout(wait, inputs.recv()).await {
                Ok(Some(Inbound::End) | None) => return,
                Ok(Some(inbound)) => self.take(inbound).await,
                Err(_) => {}
            }
            let now = clock::now();
            if now >= due {
                self.retry_disk(now);
                self.step(Input::Tick, None).await;
                due = due.after(every);
                if now >= due {
                    self.step(Input::Tick, None).await;
                    // After a pause this is enough: time that nobody lived through is not time
                    // without a leader.
                    due = now.after(every);
                }
            }
        }
    }

    async fn take(&mut self, inbound: Inbound) {
        let Some(inbound) = self.set_aside(inbound) else { return };
        let mut asker = None;
        let input = match inbound {
            Inbound::Peer(name, envelope, answer) => {
                asker = answer.map(|sender| (envelope.from, sender));
                for instance in &envelope.look {
                    let _dropped_when_busy = self.look.try_send(instance.clone());
                }
                Input::Peer { name: name.into(), envelope }
            }
            Inbound::Unreachable(voter) => Input::Unreachable(voter),
            Inbound::Observed(observation) => Input::Observed(observation),
            Inbound::Ask(question, sender) => {
                self.next_token += 1;
                let token = self.next_token;
                self.waiting.insert(token, sender);
                match question {
                    Question::Report(report) => Input::Report { token, report },
                    Question::Request { by, role, totp_step, request } => {
                        Input::Request { token, by, role, totp_step, request }
                    }
                    Question::Noted { by, note } => Input::Noted { token, by, note },
                    Question::Alert { key, change } => Input::Alert { token, key, change },
                    Question::Query(query) => Input::Query { token, query },
                    Question::Observed(observation) => {
                        self.reply(token, Reply::Found(serde_json::Value::Null));
                        Input::Observed(observation)
                    }
                }
            }
            Inbound::Look(sender) => {
                let look = Look { sight: self.replica.sight(), tally: self.tally.clone() };
                let _asker_is_gone = sender.send(Box::new(look));
                return;
            }
            Inbound::Know(sender) => {
                let replica = self.replica.as_of(clocks());
                if replica.stopped().is_none() {
                    let _asker_is_gone = sender.send(Box::new(replica.known()));
                }
                return;
            }
            Inbound::End => return,
        };
        self.step(input, asker).await;
    }

    async fn step(&mut self, input: Input, asker: Option<Asker>) {
        let outputs = self.replica.step(input, clocks());
        self.tally.note(self.config.id, &outputs);
        self.carry_out(outputs, asker).await;
        self.publish_standing();
    }

    /// Does what is to be done, in its order. An `asker` is answered at the end, when all that
    /// had to be on disk is.
    async fn carry_out(&mut self, outputs: Vec<Output>, asker: Option<Asker>) {
        let mut post: BTreeMap<VoterId, Envelope> = BTreeMap::new();
        let mut answer = asker.as_ref().map(|(from, _)| self.replica.envelope(*from));
        let mut changed = false;
        for output in outputs {
            match output {
                Output::Send { to, message } => {
                    // A snapshot is posted: whether it arrived must be known.
                    let answered = answer.as_mut().filter(|answer| answer.to == to);
                    if let (Some(answer), None) = (answered, &message.snapshot) {
                        answer.messages.push(*message);
                        continue;
                    }
                    post.entry(to)
                        .or_insert_with(|| self.replica.envelope(to))
                        .messages
                        .push(*message);
                }
                Output::Persist(batch) => {
                    self.deliver(&mut post);
                    if let Err(error) = self.persist(batch).await {
                        self.disk_failed(&error);
                        return;
                    }
                }
                Output::Reply { token, reply } => self.reply(token, reply),
                Output::Applied(_) => changed = true,
                Output::Look(instance) => {
                    let _dropped_when_busy = self.look.try_send(instance.clone());
                    for (peer, _) in self.replica.peers() {
                        post.entry(peer)
                            .or_insert_with(|| self.replica.envelope(peer))
                            .look
                            .push(instance.clone());
                    }
                }
                Output::Lack { to, from } => {
                    let envelope = post.entry(to).or_insert_with(|| self.replica.envelope(to));
                    envelope.lacks = Some(from);
                }
                Output::Records { whom, from } => {
                    let records = self.records(from).await;
                    self.give_records(whom, records, &mut post);
                }
                Output::Stop(reason) => tracing::error!("this voter stops acting: {reason}"),
            }
        }
        self.deliver(&mut post);
        if let (Some(answer), Some((_, sender))) = (answer, asker) {
            let _asker_is_gone = sender.send(answer);
        }
        if changed {
            self.projected.send_replace(Arc::new(Projection::of(self.replica.cluster())));
            let known: Vec<VoterId> = self.replica.peers().into_iter().map(|(id, _)| id).collect();
            self.peers.retain(&known);
        }
    }

    /// What takes long to answer and changes nothing is answered beside the loop, from a copy:
    /// leases and heartbeats must not wait for it.
    fn set_aside(&mut self, inbound: Inbound) -> Option<Inbound> {
        let Inbound::Ask(Question::Query(query), sender) = inbound else { return Some(inbound) };
        let Some(aside) = self.replica.as_of(clocks()).aside(&query) else {
            return Some(Inbound::Ask(Question::Query(query), sender));
        };
        tokio::task::spawn_blocking(move || {
            let _asker_is_gone = sender.send(aside.answer());
        });
        None
    }

    async fn persist(&self, batch: Box<Batch>) -> Result<(), String> {
        let store = self.store.clone().ok_or("it is not open")?;
        let written = tokio::task::spawn_blocking(move || store.persist(&batch)).await;
        written.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
    }

    async fn records(&self, from: u64) -> Result<Vec<String>, String> {
        let store = self.store.clone().ok_or("the disk is not open")?;
        let read = tokio::task::spawn_blocking(move || store.records(from)).await;
        read.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
    }

    fn give_records(
        &mut self,
        whom: Whom,
        records: Result<Vec<String>, String>,
        post: &mut BTreeMap<VoterId, Envelope>,
    ) {
        match (whom, records) {
            (Whom::Voter(to), Ok(records)) => {
                post.entry(to).or_insert_with(|| self.replica.envelope(to)).records = records;
            }
            (Whom::Voter(to), Err(error)) => {
                tracing::warn!(%to, "no audit records for this voter: {error}");
            }
            (Whom::Asker { token, mut page }, Ok(lines)) => {
                page.lines = lines;
                self.reply(token, Reply::found(&*page));
            }
            (Whom::Asker { token, .. }, Err(error)) => {
                self.reply(token, Reply::Stopped(format!("audit records: {error}")));
            }
        }
    }

    fn deliver(&mut self, post: &mut BTreeMap<VoterId, Envelope>) {
        for (to, envelope) in std::mem::take(post) {
            self.peers.send(self.replica.voter(to), envelope);
        }
    }

    fn reply(&mut self, token: u64, reply: Reply) {
        if let Some(sender) = self.waiting.remove(&token) {
            let _asker_is_gone = sender.send(reply);
        }
    }

    /// Nothing more may be said that rests on what is not on disk.
    fn disk_failed(&mut self, reason: &str) {
        let reason = format!("the disk failed: {reason}");
        tracing::error!("this voter stops acting: {reason}");
        self.replica.stop(reason.clone());
        for (_, sender) in self.waiting.drain() {
            let _asker_is_gone = sender.send(Reply::Stopped(reason.clone()));
        }
        self.retry = Some(clock::now().after(RETRY_DISK));
    }

    /// Begins again from what the disk holds, as after a restart.
    fn retry_disk(&mut self, now: Moment) {
        if self.retry.is_none_or(|at| now < at) {
            return;
        }
        // The file is locked while it is open: close it first.
        self.store = None;
        match open(&self.config) {
            Ok((store, replica)) => {
                tracing::warn!("the disk answers again: this voter acts again");
                self.store = Some(Arc::new(store));
                self.replica = replica;
                self.retry = None;
                let projection = Projection::of(self.replica.cluster());
                self.projected.send_replace(Arc::new(projection));
            }
            Err(error) => {
                tracing::warn!("the disk still fails: {error:#}");
                self.retry = Some(now.after(RETRY_DISK));
            }
        }
    }

    fn publish_standing(&self) {
        let leader = self.replica.leader();
        let own = self.config.id;
        let address = |id: VoterId| {
            if id == own {
                Some(self.config.listen)
            } else {
                self.replica.voter(id).map(|v| v.address)
            }
        };
        let standing = Standing {
            leader: leader.and_then(|id| Some((id, address(id)?))),
            leads: self.replica.is_leader(),
            stopped: self.replica.stopped().map(str::to_owned),
        };
        self.stands.send_if_modified(|current| {
            let differs = *current != standing;
            if differs {
                *current = standing;
            }
            differs
        });
    }
}

fn clocks() -> Clocks {
    Clocks { now: clock::now(), wall: clock::wall() }
}

fn open(config: &Config) -> anyhow::Result<(Store, Replica)> {
    let group = config.group();
    let initial: Vec<u64> =
        if config.join { Vec::new() } else { group.keys().map(|id| id.0).collect() };
    let path = config.data.join("voter.redb");
    let (store, saved): (Store, Saved) = Store::open(&path, &config.cluster, config.id, &initial)?;
    let setup = Setup {
        cluster: config.cluster.clone(),
        id: config.id,
        incarnation: store.incarnation().into(),
        group,
        election_timeout: config.raft.election_timeout,
        seed: 0,
        compact_after: COMPACT_AFTER,
    };
    let replica = Replica::new(setup, &saved, &raft_log::logger())?;
    Ok((store, replica))
}
