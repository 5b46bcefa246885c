//! One voter as a value: Raft, the replicated state and the leader's evidence behind one `step`.
//!
//! It reads no clock, no file, no socket and no dice: what happens comes in as an [`Input`] with
//! the clocks' readings, what is to be done goes out as a list of [`Output`]s, so that thousands
//! of runs with faults fit into a test. The order of the outputs is the contract: what stands
//! after a [`Output::Persist`] may leave this process only once that batch is on disk. Should
//! that fail, the rest must be thrown away and this value with it (I-22).
//!
//! Decisions are made by a leader that has applied everything committed before its election, in
//! the same step that brought the evidence. A lease is given only after a round of heartbeats,
//! begun after the report came, was answered by a quorum (I-19).

mod answering;
mod aside;
mod chain;
mod drills;
mod evidence;
mod exchange;
mod leading;
mod members;
mod notes;
mod readiness;
mod requests;
mod sight;

use std::collections::BTreeMap;

use failover::cluster::{Cluster, Voter};
use failover::event::{Event, Stamp};
use failover::ids::VoterId;
use failover::{Asker, Moment};
use raft::eraftpb;
use raft::{RawNode, StateRole};

use crate::admission::admit;
use crate::log::{Batch, Hard, Log, Place, Saved};
use crate::message::{Body, Entry, Envelope, Group, Kind, Message, Refusal, Snapshot};

pub use aside::Aside;
use chain::Chain;
pub use exchange::{Clocks, Input, Output, Query, Reply, Setup, Token, Whom};
use leading::{Due, Lead};
use members::Ranked;
pub use readiness::Question as ReadinessQuestion;
use readiness::Standing;
pub use sight::{Kind as TransitionKind, Sight};

/// The fewest ticks of an election's timeout; at the most it is twice this.
pub const ELECTION_TICKS: u16 = 10;
/// Ticks between the heartbeats that Raft wants to send.
const HEARTBEAT_TICKS: usize = 2;
/// In how many tenths of the election timeout one heartbeat to each voter is enough: the rounds
/// that confirm a lease are heartbeats too, and usually all that is needed.
const HEARTBEAT_SPACING: u32 = 5;
/// How many entries a log usually grows between snapshots: see [`Setup::compact_after`].
pub const COMPACT_AFTER: u64 = 1_000;
/// The largest message with entries, in bytes.
const MESSAGE_BYTES: u64 = 1 << 20;
/// Ticks without a leader after which nobody is preferred any more.
const LEADERLESS_TICKS: u32 = 30;

/// One voter.
pub struct Replica {
    setup: Setup,
    raw: RawNode<Log>,
    cluster: Cluster,
    applied: Place,
    chain: Chain,
    lead: Option<Lead>,
    /// Voters that others say have joined; the log has the last word.
    joined: BTreeMap<VoterId, Voter>,
    /// When each voter was last heard.
    heard: BTreeMap<VoterId, Moment>,
    /// When each voter was last sent a heartbeat.
    beaten: BTreeMap<VoterId, Moment>,
    /// Why each voter was last refused: said once, not at every message.
    refusals: BTreeMap<VoterId, (Moment, String)>,
    leaderless: u32,
    /// This voter's place in the order of candidates, from 0.
    rank: usize,
    /// What the rank and the priority were last made from.
    ranked: Option<Ranked>,
    clocks: Clocks,
    stopped: Option<String>,
    compaction_due: bool,
    /// Of whom something came that a judgement may rest on; most messages of other voters are no
    /// such.
    due: Due,
    readiness: Standing,
    outputs: Vec<Output>,
}

impl Replica {
    /// A voter as its disk has it.
    ///
    /// # Errors
    /// When Raft cannot start from what was saved.
    pub fn new(setup: Setup, saved: &Saved, logger: &slog::Logger) -> Result<Self, Refusal> {
        let log = Log::new(saved)?;
        let start = log.snapshot_index();
        let config = raft::Config {
            id: setup.id.0,
            election_tick: usize::from(ELECTION_TICKS),
            heartbeat_tick: HEARTBEAT_TICKS,
            applied: start,
            max_size_per_msg: MESSAGE_BYTES,
            max_inflight_msgs: 64,
            check_quorum: true,
            pre_vote: true,
            read_only_option: raft::ReadOnlyOption::Safe,
            ..raft::Config::default()
        };
        let term = saved.snapshot.as_ref().map_or(0, |snapshot| snapshot.term);
        let cluster = saved.snapshot.as_ref().map(|s| s.cluster.clone()).unwrap_or_default();
        let raw = RawNode::new(&config, log, logger).map_err(|e| Refusal(format!("Raft: {e}")))?;
        let mut replica = Self {
            setup,
            raw,
            cluster,
            applied: Place { index: start, term },
            chain: Chain::new(saved),
            lead: None,
            joined: BTreeMap::new(),
            heard: BTreeMap::new(),
            beaten: BTreeMap::new(),
            refusals: BTreeMap::new(),
            leaderless: 0,
            rank: 0,
            ranked: None,
            clocks: Clocks::default(),
            stopped: None,
            compaction_due: false,
            due: Due::All,
            readiness: Standing::default(),
            outputs: Vec::new(),
        };
        replica.rank = replica.rank_of(replica.setup.id);
        replica.steady_dice();
        Ok(replica)
    }

    /// Takes one input and says what is to be done about it.
    #[must_use]
    pub fn step(&mut self, input: Input, clocks: Clocks) -> Vec<Output> {
        self.clocks = clocks;
        if let Some(reason) = self.stopped.clone() {
            self.refuse_stopped(&input, &reason);
            return std::mem::take(&mut self.outputs);
        }
        match &input {
            Input::Tick => self.due.add(Due::Old),
            Input::Observed(_) | Input::Request { .. } => self.due = Due::All,
            Input::Report { .. }
            | Input::Peer { .. }
            | Input::Unreachable(_)
            | Input::Noted { .. }
            | Input::Alert { .. }
            | Input::Query { .. } => {}
        }
        match input {
            Input::Tick => self.tick(),
            Input::Peer { name, envelope } => self.hear_peer(&name, &envelope),
            Input::Unreachable(voter) => self.not_delivered(voter),
            Input::Report { token, report } => self.hear_report(token, *report),
            Input::Observed(observation) => self.hear_observation(observation),
            Input::Request { token, by, role, totp_step, request } => {
                let asker = Asker { name: &by, role, at: self.clocks.wall, totp_step };
                self.hear_request(token, asker, &request);
            }
            Input::Noted { token, by, note } => self.hear_note(token, &by, *note),
            Input::Alert { token, key, change } => self.hear_alert(token, key, change),
            Input::Query { token, query: Query::Audit(from) } => self.page(token, from),
            Input::Query { token, query } => {
                let reply = self.look_up(&query);
                self.outputs.push(Output::Reply { token, reply });
            }
        }
        self.settle();
        std::mem::take(&mut self.outputs)
    }

    /// The replicated state as applied here.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The leader that this voter knows of.
    pub fn leader(&self) -> Option<VoterId> {
        Some(VoterId(self.raw.raft.leader_id)).filter(|id| id.0 != 0 && self.stopped.is_none())
    }

    /// Whether this voter leads.
    pub fn is_leader(&self) -> bool {
        self.lead.is_some()
    }

    /// Raft's term.
    pub fn term(&self) -> u64 {
        self.raw.raft.term
    }

    /// The newest entry that was applied.
    pub fn applied(&self) -> Place {
        self.applied
    }

    /// Why this voter does not act any more.
    pub fn stopped(&self) -> Option<&str> {
        self.stopped.as_deref()
    }

    /// Stops this voter for a reason that it cannot see itself, such as its disk.
    pub fn stop(&mut self, reason: String) {
        if self.stopped.is_none() {
            self.lead = None;
            self.stopped = Some(reason.clone());
            self.outputs.push(Output::Stop(reason));
        }
    }

    fn refuse_stopped(&mut self, input: &Input, reason: &str) {
        if let Input::Report { token, .. }
        | Input::Request { token, .. }
        | Input::Noted { token, .. }
        | Input::Alert { token, .. }
        | Input::Query { token, .. } = input
        {
            let reply = Reply::Stopped(reason.into());
            self.outputs.push(Output::Reply { token: *token, reply });
        }
    }

    fn tick(&mut self) {
        self.leaderless =
            if self.raw.raft.leader_id == 0 { self.leaderless.saturating_add(1) } else { 0 };
        self.take_rank();
        self.raw.tick();
        self.steady_dice();
        self.ask_for_records();
        self.lead_tick();
        self.watch_readiness();
    }

    fn hear_peer(&mut self, name: &str, envelope: &Envelope) {
        if let Err(refusal) = self.check_sender(name, envelope) {
            self.note_refusal(envelope.from, name, refusal);
            return;
        }
        if envelope.expects.as_ref().is_some_and(|expected| *expected != self.setup.incarnation) {
            self.stop(format!(
                "voter {} of this cluster has another disk than the one it joined with: its log \
                 is lost. Remove it (`baton voters remove {}`) and add it again under a new number",
                self.setup.id, self.setup.id
            ));
            return;
        }
        self.heard.insert(envelope.from, self.clocks.now);
        self.note_incarnation(envelope);
        self.hear_of_records(envelope);
        for (id, voter) in &envelope.joined {
            if !self.cluster.voters.contains_key(id) {
                self.joined.insert(*id, voter.clone());
            }
        }
        for message in &envelope.messages {
            let admitted = admit(&self.raw, envelope.from, message);
            let result = admitted
                .and_then(|message| self.raw.step(message).map_err(|e| Refusal(e.to_string())));
            self.steady_dice();
            if let Err(refusal) = result {
                self.note_refusal(envelope.from, name, refusal);
            }
            self.carry_out();
            if self.stopped.is_some() {
                return;
            }
        }
    }

    /// Does everything that the last input has made possible.
    fn settle(&mut self) {
        loop {
            self.carry_out();
            if self.stopped.is_some() || !self.lead_on() {
                break;
            }
        }
        self.compact();
    }

    /// Raft's ready cycles, until there is nothing left.
    fn carry_out(&mut self) {
        while self.stopped.is_none() && self.raw.has_ready() {
            let mut ready = self.raw.ready();
            self.send(ready.take_messages());
            let committed = ready.take_committed_entries();
            let reads = ready.take_read_states();
            if let Err(refusal) = self.write(&ready) {
                self.stop(format!("the log cannot be written: {refusal}"));
                return;
            }
            self.apply(&committed);
            self.send(ready.take_persisted_messages());
            let mut light = self.raw.advance(ready);
            if let Some(commit) = light.commit_index() {
                self.raw.mut_store().set_commit(commit);
            }
            self.send(light.take_messages());
            let committed = light.take_committed_entries();
            self.apply(&committed);
            self.raw.advance_apply();
            self.step_down_when_removed();
            self.steady_dice();
            self.follow_role();
            for read in reads {
                self.round_done(&read);
            }
        }
    }

    /// What a ready cycle changes on disk, in memory first.
    fn write(&mut self, ready: &raft::Ready) -> Result<(), Refusal> {
        let mut batch = Batch::default();
        if let Some(hard) = ready.hs() {
            let hard = Hard { term: hard.term, vote: hard.vote, commit: hard.commit };
            self.raw.mut_store().set_hard(hard);
        }
        if !ready.snapshot().is_empty() {
            self.install(ready.snapshot(), &mut batch)?;
        }
        if !ready.entries().is_empty() {
            self.raw.mut_store().append(ready.entries());
            batch.entries = ready.entries().iter().map(Entry::of).collect::<Result<_, _>>()?;
        }
        if ready.must_sync() {
            batch.hard = Some(self.raw.store().hard());
        }
        if !batch.is_empty() {
            self.outputs.push(Output::Persist(Box::new(batch)));
        }
        Ok(())
    }

    fn install(&mut self, snapshot: &eraftpb::Snapshot, batch: &mut Batch) -> Result<(), Refusal> {
        let ours = Snapshot::of(snapshot)?;
        let place = Place { index: ours.index, term: ours.term };
        self.raw.mut_store().install(snapshot.clone());
        self.cluster = ours.cluster.clone();
        self.applied = place;
        batch.replaces = true;
        batch.dropped = Some(place);
        self.chain.skip_to(ours.audit, batch);
        batch.snapshot = Some(ours);
        self.outputs.push(Output::Applied(self.cluster.revision));
        Ok(())
    }

    fn apply(&mut self, entries: &[eraftpb::Entry]) {
        for entry in entries {
            if let Err(refusal) = self.apply_entry(entry) {
                self.stop(format!(
                    "entry {} of the log cannot be read by this version: {refusal}. Install the \
                     version that the other voters run",
                    entry.index
                ));
                return;
            }
            self.applied = Place { index: entry.index, term: entry.term };
            self.due = Due::All;
        }
    }

    fn apply_entry(&mut self, entry: &eraftpb::Entry) -> Result<(), Refusal> {
        let ours = Entry::of(entry)?;
        let text = match &ours.body {
            Body::Empty => None,
            Body::Event(text) => Some(text),
            Body::Members(members) => {
                let change = members.to_raft();
                self.raw.apply_conf_change(&change).map_err(|e| Refusal(e.to_string()))?;
                self.compaction_due = true;
                Some(&members.event).filter(|event| !event.is_empty())
            }
        };
        let had_effect = match text {
            None => false,
            Some(text) => {
                let event: Event =
                    serde_json::from_str(text).map_err(|e| Refusal(e.to_string()))?;
                let effect = failover::apply(&mut self.cluster, &event);
                self.record(&ours, (text, &event), effect);
                effect
            }
        };
        if had_effect {
            self.outputs.push(Output::Applied(self.cluster.revision));
        }
        self.proposal_applied(&ours.id, had_effect);
        Ok(())
    }

    /// Takes a snapshot when the log has grown long, and after every change of the group: a voter
    /// that joins can only be sent a snapshot that names it.
    fn compact(&mut self) {
        let since = self.applied.index.saturating_sub(self.raw.store().snapshot_index());
        let long = since >= self.setup.compact_after;
        if self.stopped.is_some() || !(long || self.compaction_due) {
            return;
        }
        self.compaction_due = false;
        let snapshot = Snapshot {
            index: self.applied.index,
            term: self.applied.term,
            group: Group::of(&self.raw.raft.prs().conf().to_conf_state()),
            cluster: self.cluster.clone(),
            audit: self.chain.head(),
        };
        match snapshot.to_raft() {
            Ok(form) => {
                let keep_after = self.applied.index.saturating_sub(self.setup.compact_after / 5);
                self.raw.mut_store().compact(form, keep_after);
                let mut batch = Batch {
                    hard: Some(self.raw.store().hard()),
                    dropped: Some(self.raw.store().dropped()),
                    snapshot: Some(snapshot),
                    ..Batch::default()
                };
                self.chain.keep(&mut batch);
                self.outputs.push(Output::Persist(Box::new(batch)));
            }
            Err(refusal) => self.stop(format!("no snapshot can be taken: {refusal}")),
        }
    }

    fn send(&mut self, messages: Vec<eraftpb::Message>) {
        for message in messages {
            match Message::of(&message) {
                Ok(None) => {}
                Ok(Some(form)) => {
                    let to = VoterId(message.to);
                    if form.kind == Kind::Heartbeat && !self.beat_is_due(to, &form) {
                        continue;
                    }
                    self.outputs.push(Output::Send { to, message: Box::new(form) });
                }
                Err(refusal) => {
                    self.stop(format!("a message cannot be written: {refusal}"));
                    return;
                }
            }
        }
    }

    /// Whether a heartbeat is needed. One that belongs to a round always is; one of the clock's
    /// only when none went lately. Raft takes a message that is not sent for one that is lost.
    fn beat_is_due(&mut self, to: VoterId, beat: &Message) -> bool {
        let now = self.clocks.now;
        let spacing = self.setup.election_timeout / u32::from(ELECTION_TICKS) * HEARTBEAT_SPACING;
        let lately = self.beaten.get(&to).is_some_and(|at| now.since(*at) < spacing);
        let due = !lately || !beat.context.is_empty();
        if due {
            self.beaten.insert(to, now);
        }
        due
    }

    /// The library draws election timeouts from dice of its own; they are set again after every
    /// step, from values only, so that one seed always plays the same run. Two voters never have
    /// the same timeout, so a split vote is not repeated, and the best placed is the first.
    fn steady_dice(&mut self) {
        let ticks = usize::from(ELECTION_TICKS);
        self.raw.raft.set_randomized_election_timeout(ticks + (self.rank * 2).min(ticks - 1));
    }

    fn follow_role(&mut self) {
        let leads = self.raw.raft.state == StateRole::Leader;
        let term = self.raw.raft.term;
        let same = self.lead.as_ref().map(|lead| lead.term) == leads.then_some(term);
        if same {
            return;
        }
        if let Some(lead) = self.lead.take() {
            self.outputs.extend(lead.abandoned());
            tracing::info!(term = lead.term, "no longer the leader");
        }
        if leads {
            tracing::info!(term, "elected leader");
            self.lead = Some(Lead::new(term, self.clocks.now));
        }
    }

    fn stamp(&self) -> Stamp {
        Stamp { at: self.clocks.wall, voter: self.setup.id, monotonic_us: self.clocks.now.0 }
    }
}
