//! One voter's machine: the real `Replica`, its loop as in `orchestrator::run`, and a disk that
//! may be slow, full, emptied, or lose what it had not yet confirmed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use failover::Moment;
use failover::cluster::Voter as Described;
use failover::ids::{Incarnation, InstanceId, Revision, VoterId};
use orchestrator::audit::PAGE_LINES;
use orchestrator::log::{Batch, Hard, Saved};
use orchestrator::projection::Projection;
use orchestrator::replica::{Clocks, ELECTION_TICKS, Input, Output, Replica, Reply, Setup};
use orchestrator::routes::Question;
use orchestrator::storage;
use orchestrator::{message::Envelope, raft_log};

use crate::clock::{At, HostClock};
use crate::hosts::Hosts;

/// After a failure the disk is tried again this often.
pub(crate) const RETRY_DISK: Duration = Duration::from_secs(5);
/// How many inputs wait at most, as in the product.
const INBOX: usize = 4_096;

/// What reaches the loop of a voter.
#[derive(Debug)]
pub(crate) enum Inbound {
    Peer(Arc<str>, Box<Envelope>),
    Unreachable(VoterId),
    Ask(Option<Asker>, Question),
}

/// Who waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asker {
    /// An agent, by its machine, for its report.
    Agent { host: u8, token: u64 },
    /// Another voter that passed the question on.
    Voter { voter: u8, token: u64 },
    /// An operator.
    Operator { ask: u32 },
}

/// An agent's long poll that is held back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Poll {
    pub(crate) host: u8,
    pub(crate) token: u64,
    pub(crate) after: Revision,
    pub(crate) until: Moment,
}

/// A name server's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ZonePoll {
    pub(crate) server: u8,
    pub(crate) token: u64,
    pub(crate) after: u32,
    pub(crate) until: Moment,
}

/// A machine that is being looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    pub(crate) host: u8,
    pub(crate) id: u32,
    pub(crate) attempt: u8,
    /// The agent's port has been refused: PostgreSQL's is asked.
    pub(crate) second: bool,
}

/// How a voter stands, as its handlers of requests know it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) leader: Option<VoterId>,
    pub(crate) leads: bool,
    pub(crate) stopped: bool,
}

/// A running process.
pub(crate) struct Running {
    pub(crate) replica: Replica,
    pub(crate) inbox: VecDeque<Inbound>,
    pub(crate) outputs: VecDeque<Output>,
    /// The batch that is being written: nothing goes on until it is on disk.
    pub(crate) writing: Option<Box<Batch>>,
    pub(crate) tick_missed: bool,
    pub(crate) pending: BTreeMap<u64, Asker>,
    pub(crate) next_token: u64,
    pub(crate) polls: Vec<Poll>,
    pub(crate) zone_polls: Vec<ZonePoll>,
    pub(crate) looks: Vec<Look>,
    /// Machines whose agent's port was open the last time.
    pub(crate) seen_open: Hosts,
    pub(crate) standing: Standing,
    pub(crate) projection: Projection,
    pub(crate) zone: Arc<failover::zone::Zone>,
    pub(crate) changed: bool,
    /// When the disk is tried again after it failed.
    pub(crate) retry: Option<Moment>,
    /// When name servers are next asked.
    pub(crate) ask_at: Moment,
    /// Name servers that have not answered yet, as bits.
    pub(crate) asking: u64,
    /// The number of the question that each was asked last.
    pub(crate) asked: [u32; 64],
    pub(crate) questions: u32,
}

/// A voter's disk.
pub(crate) struct Disk {
    pub(crate) incarnation: Incarnation,
    pub(crate) saved: Saved,
    /// The audit records.
    pub(crate) records: BTreeMap<u64, String>,
    pub(crate) slow: Duration,
    pub(crate) full: bool,
    pub(crate) births: u32,
    /// What its first disk held of terms and votes when it was taken away.
    pub(crate) lost: Option<Hard>,
}

/// The machine.
pub(crate) struct Voter {
    pub(crate) id: VoterId,
    pub(crate) name: Arc<str>,
    pub(crate) place: u8,
    pub(crate) described: Described,
    pub(crate) clock: HostClock,
    pub(crate) powered: bool,
    pub(crate) paused: bool,
    /// Counts starts: what was meant for an earlier process does not reach a later one.
    pub(crate) run: u32,
    pub(crate) process: Option<Box<Running>>,
    pub(crate) disk: Disk,
    /// Added to a group that exists.
    pub(crate) joins: bool,
}

/// What all voters of a run have in common.
pub(crate) struct Common {
    pub(crate) cluster: String,
    pub(crate) group: BTreeMap<VoterId, Described>,
    pub(crate) election_timeout: Duration,
    pub(crate) compact_after: u64,
    pub(crate) seed: u64,
}

impl Voter {
    pub(crate) fn new(id: VoterId, described: Described, place: u8, clock: HostClock) -> Self {
        let name = described.name.as_str().into();
        let disk = Disk {
            incarnation: Incarnation::default(),
            saved: storage::first_saved(&[]),
            records: BTreeMap::new(),
            slow: Duration::ZERO,
            full: false,
            births: 0,
            lost: None,
        };
        let mut voter = Self {
            id,
            name,
            place,
            described,
            clock,
            powered: true,
            paused: false,
            run: 0,
            process: None,
            disk,
            joins: false,
        };
        voter.disk.slow = Duration::ZERO;
        voter
    }

    /// An empty disk, as the first start of a process finds it.
    pub(crate) fn wipe(&mut self, initial: &[u64]) {
        if self.disk.births == 1 {
            self.disk.lost = Some(self.disk.saved.hard);
        }
        self.disk.births += 1;
        self.disk.incarnation = format!("disk-{}-{}", self.id, self.disk.births).into();
        let initial = if self.joins { &[] } else { initial };
        self.disk.saved = storage::first_saved(initial);
        self.disk.records.clear();
    }

    /// Starts a process from what the disk holds.
    pub(crate) fn start(&mut self, common: &Common, logger: &slog::Logger, at: At) {
        self.run += 1;
        self.paused = false;
        let Some(replica) = self.open(common, logger) else { return };
        let projection = Projection::of(replica.cluster());
        let now = self.clock.moment(at);
        self.process = Some(Box::new(Running {
            zone: projection.zone.clone(),
            projection,
            replica,
            inbox: VecDeque::new(),
            outputs: VecDeque::new(),
            writing: None,
            tick_missed: false,
            pending: BTreeMap::new(),
            next_token: 0,
            polls: Vec::new(),
            zone_polls: Vec::new(),
            looks: Vec::new(),
            seen_open: Hosts::default(),
            standing: Standing::default(),
            changed: false,
            retry: None,
            ask_at: now,
            asking: 0,
            asked: [0; 64],
            questions: 0,
        }));
    }

    fn open(&self, common: &Common, logger: &slog::Logger) -> Option<Replica> {
        storage::fits(&self.disk.saved).ok()?;
        let setup = Setup {
            cluster: common.cluster.clone(),
            id: self.id,
            incarnation: self.disk.incarnation.clone(),
            group: common.group.clone(),
            election_timeout: common.election_timeout,
            seed: common.seed,
            compact_after: common.compact_after,
        };
        Replica::new(setup, &self.disk.saved, logger).ok()
    }

    /// Begins again from what the disk holds, in the same process.
    pub(crate) fn reopen(&mut self, common: &Common, logger: &slog::Logger) -> bool {
        let opened = if self.disk.full { None } else { self.open(common, logger) };
        let (Some(replica), Some(process)) = (opened, &mut self.process) else { return false };
        process.projection = Projection::of(replica.cluster());
        process.zone = process.projection.zone.clone();
        process.replica = replica;
        process.outputs.clear();
        process.writing = None;
        process.retry = None;
        true
    }

    /// Kills the process. What was being written may or may not be there afterwards; after a
    /// loss of power it is not, for it was never confirmed.
    pub(crate) fn kill(&mut self, written: bool) -> Option<Box<Running>> {
        let mut process = self.process.take()?;
        self.run += 1;
        self.paused = false;
        if let Some(batch) = process.writing.take().filter(|_| written && !self.disk.full) {
            self.disk.write(*batch);
        }
        Some(process)
    }

    pub(crate) fn clocks(&self, at: At) -> Clocks {
        Clocks { now: self.clock.moment(at), wall: self.clock.wall(at) }
    }

    /// Whether its process takes requests in.
    pub(crate) fn listens(&self) -> bool {
        self.powered && self.process.is_some()
    }

    pub(crate) fn tick_every(common: &Common) -> Duration {
        common.election_timeout / u32::from(ELECTION_TICKS)
    }
}

impl Running {
    /// Whether it can take the next input now.
    pub(crate) fn is_idle(&self) -> bool {
        self.writing.is_none() && self.outputs.is_empty()
    }

    pub(crate) fn enqueue(&mut self, inbound: Inbound) {
        if self.inbox.len() < INBOX {
            self.inbox.push_back(inbound);
        }
    }

    /// Lets the replica take one input; what is to be done about it is in `outputs` then.
    pub(crate) fn take(&mut self, inbound: Inbound, clocks: Clocks) {
        let input = match inbound {
            Inbound::Peer(name, envelope) => Input::Peer { name, envelope },
            Inbound::Unreachable(voter) => Input::Unreachable(voter),
            Inbound::Ask(asker, question) => {
                self.next_token += 1;
                let token = self.next_token;
                if let Some(asker) = asker {
                    self.pending.insert(token, asker);
                }
                match question {
                    Question::Report(report) => Input::Report { token, report },
                    Question::Request { by, role, totp_step, request } => {
                        Input::Request { token, by, role, totp_step, request }
                    }
                    Question::Noted { by, note } => Input::Noted { token, by, note },
                    Question::Alert { key, change } => Input::Alert { token, key, change },
                    Question::Query(query) => Input::Query { token, query },
                    Question::Observed(observation) => Input::Observed(observation),
                }
            }
        };
        self.outputs.extend(self.replica.step(input, clocks));
    }

    /// What its handlers of requests are told about its standing.
    pub(crate) fn stands(&self) -> Standing {
        Standing {
            leader: self.replica.leader(),
            leads: self.replica.is_leader(),
            stopped: self.replica.stopped().is_some(),
        }
    }

    /// Every waiting question is answered with the reason why nothing is answered.
    pub(crate) fn drain(&mut self, reason: &str) -> Vec<(Asker, Reply)> {
        std::mem::take(&mut self.pending)
            .into_values()
            .map(|asker| (asker, Reply::Stopped(reason.into())))
            .collect()
    }

    /// Whether an instance is a primary, as far as this voter knows.
    pub(crate) fn knows_primary(&self, instance: &InstanceId) -> bool {
        self.projection.primaries.contains_key(instance)
    }
}

impl Disk {
    /// The same as `Store::records`.
    pub(crate) fn page(&self, from: u64) -> Vec<String> {
        let lines = self.records.range(from..).zip(from..);
        let lines = lines.take_while(|((number, _), expected)| *number == expected);
        lines.map(|((_, text), _)| text.clone()).take(PAGE_LINES).collect()
    }

    /// The same as `Store::persist`.
    pub(crate) fn write(&mut self, batch: Batch) {
        let saved = &mut self.saved;
        if batch.replaces {
            saved.entries.clear();
        } else if let Some(first) = batch.entries.first() {
            let keep = first.index.saturating_sub(saved.dropped.index + 1);
            saved.entries.truncate(usize::try_from(keep).unwrap_or(usize::MAX));
        }
        if let Some(dropped) = batch.dropped {
            let gone = dropped.index.saturating_sub(saved.dropped.index);
            let gone = usize::try_from(gone).unwrap_or(usize::MAX).min(saved.entries.len());
            saved.entries.drain(..gone);
            saved.dropped = dropped;
        }
        saved.entries.extend(batch.entries);
        saved.hard = batch.hard.unwrap_or(saved.hard);
        saved.hole = batch.hole.unwrap_or(saved.hole);
        self.records.extend(batch.audit.into_iter().map(|line| (line.number, line.text)));
        if let Some(snapshot) = batch.snapshot {
            saved.snapshot = Some(snapshot);
        }
    }
}

/// Silences Raft.
pub(crate) fn logger() -> slog::Logger {
    raft_log::silent()
}
