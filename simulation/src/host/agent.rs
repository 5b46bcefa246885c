//! What the agent knows, and the two accounts it gives of it.

use super::Host;
use super::interface::Peer;
use super::queue::{Commit, Event, Task};
use super::setting::Setting;
use super::turn::{Gist, Turn, micros};
use super::{beat::Beat, enforce::Establishing, voters::Voters, waits::Seeing};
use failover::checks::Checks;
use failover::comply::{Configured, Local};
use failover::hang::Hang;
use failover::position::Position;
use failover::report::{Down, Knock, Note, Proof, Receiver, Report, Server, Severity, Stream};
use failover::topology::Timing;
use failover::{
    Assignment, DrillId, Epoch, Generation, InstanceId, Lsn, Moment, Revision, Timeline,
};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Nothing of it is on disk.
#[derive(Debug)]
pub struct Agent {
    pub run: u64,
    pub attached: bool,
    pub life: u64,
    pub pid: Option<u64>,
    pub ended: Option<u64>,
    pub down: Down,
    pub down_since: Moment,
    pub refusal: Option<&'static str>,
    pub facts: Option<Facts>,
    pub looked: Moment,
    pub position: Position,
    pub configured: Configured,
    /// See [`Local::serves`].
    pub serves: bool,
    pub sealed_at: Option<Position>,
    pub proven: Option<Epoch>,
    pub enforced: Option<Generation>,
    pub prepared: Option<Epoch>,
    pub leased: Option<Moment>,
    pub committed: Option<Moment>,
    pub started: Moment,
    pub informed: bool,
    pub assigned: Option<Moment>,
    /// Until when it has cut itself off.
    pub isolated: Option<Moment>,
    /// What it rehearses or has rehearsed: for which drill, and when that is done.
    pub rehearses: Option<(DrillId, Moment)>,
    pub assignment: Option<Arc<Assignment>>,
    pub proving: Option<(u64, Epoch)>,
    pub enforcing: Option<Establishing>,
    pub doubted: Option<Moment>,
    /// Commits were seen to wait in this life of the server.
    pub waits: bool,
    pub seeing: Option<Seeing>,
    /// Somebody overruled the rule, and it is not proven again yet.
    pub overruled: bool,
    /// The marker returned, and is being looked for at the standbys: begun when, ends where, since.
    pub marking: Option<(Moment, Lsn, Moment)>,
    /// Commits are in doubt, and the disk would not take it.
    pub unwritten: bool,
    /// Since when the guard does not answer.
    pub knocked: Option<Moment>,
    /// Where the newest pulse ends.
    pub pulsed: Lsn,
    pub checks: Checks,
    pub rewinding: bool,
    pub stopping: bool,
    pub ends: VecDeque<(Moment, Lsn)>,
    /// The stamp of the last message from the upstream, and when it can have come at the earliest.
    pub message: (i64, Moment),
    pub knock: Option<(Knock, Moment)>,
    pub knocking: Option<u64>,
    pub broken_since: Option<Moment>,
    pub notes: BTreeMap<&'static str, (Severity, String)>,
    pub beat: Beat,
    pub voters: Voters,
    pub beat_at: Option<Moment>,
    pub probe_at: Option<Moment>,
    pub speak_at: Option<Moment>,
    /// Probes without an answer.
    pub failures: u32,
    pub probing: Option<u64>,
    /// When the first probe was not answered since one was.
    pub unanswered: Option<Moment>,
    /// For how long it has done nothing of what it must do by itself.
    pub hang: Hang,
}

/// PostgreSQL as one probe saw it.
#[derive(Clone, Debug)]
pub struct Facts {
    pub recovery: bool,
    pub replayed: Lsn,
    pub checkpoint: Timeline,
    pub receiver: Option<ReceiverFacts>,
    pub setting: Arc<Setting>,
    pub streams: Vec<StreamFacts>,
}

/// A row of `pg_stat_wal_receiver`.
#[derive(Clone, Copy, Debug)]
pub struct ReceiverFacts {
    pub streaming: bool,
    pub stamp: i64,
    pub age: Duration,
}

/// A row of `pg_stat_replication`.
#[derive(Clone, Copy, Debug)]
pub struct StreamFacts {
    pub stream: u64,
    pub name: Peer,
    pub role: Peer,
    /// Where it comes from.
    pub from: Peer,
    pub streaming: bool,
    pub flushed: Lsn,
}

impl Agent {
    pub fn new(run: u64, now: Moment, assignment: Option<Arc<Assignment>>, voters: Voters) -> Self {
        Self {
            run,
            attached: false,
            life: 0,
            pid: None,
            ended: None,
            down: Down::NotStarted,
            down_since: now,
            refusal: None,
            facts: None,
            looked: Moment(0),
            position: Position::default(),
            configured: Configured::default(),
            sealed_at: None,
            serves: false,
            proven: None,
            enforced: None,
            prepared: None,
            leased: None,
            committed: None,
            started: now,
            informed: false,
            assigned: None,
            isolated: None,
            rehearses: None,
            assignment,
            proving: None,
            enforcing: None,
            doubted: None,
            waits: false,
            seeing: None,
            overruled: false,
            marking: None,
            unwritten: false,
            knocked: None,
            pulsed: Lsn(0),
            checks: Checks::default(),
            rewinding: false,
            stopping: false,
            ends: VecDeque::new(),
            message: (0, now),
            knock: None,
            knocking: None,
            broken_since: None,
            notes: BTreeMap::new(),
            beat: Beat::default(),
            voters,
            beat_at: None,
            probe_at: None,
            speak_at: None,
            failures: 0,
            probing: None,
            unanswered: None,
            hang: Hang::default(),
        }
    }

    pub fn begin_life(&mut self, pid: u64) {
        self.forget();
        self.pid = Some(pid);
        self.stopping = false;
    }

    pub fn end_life(&mut self, down: Down, now: Moment) {
        self.forget();
        self.pid = None;
        self.down = down;
        self.down_since = now;
        self.stopping = false;
    }

    fn forget(&mut self) {
        self.life += 1;
        self.facts = None;
        (self.unanswered, self.hang) = (None, Hang::default());
        (self.sealed_at, self.serves) = (None, false);
        self.proven = None;
        self.enforced = None;
        self.proving = None;
        self.enforcing = None;
        self.seeing = None;
        self.marking = None;
        self.waits = false;
        self.checks = Checks::default();
        self.ends.clear();
    }

    pub fn note(&mut self, subject: &'static str, severity: Severity, text: String) {
        self.notes.insert(subject, (severity, text));
    }

    /// The log's end at least `age` before the newest probe.
    fn end_before(&self, age: Duration) -> Option<Lsn> {
        let limit = self.looked.before(age);
        self.ends.iter().rev().find(|(at, _)| *at <= limit).map(|(_, lsn)| *lsn)
    }
}

impl Host {
    /// The newest assignment's timing.
    pub(super) fn timing(&self) -> &Timing {
        let assignment = self.agent.as_ref().and_then(|agent| agent.assignment.as_deref());
        assignment
            .or(self.disk.assignment.get().as_deref())
            .map_or(&self.setup.timing, |a| &a.timing)
    }

    pub(super) fn heartbeat(&self) -> u64 {
        micros(self.timing().heartbeat)
    }

    /// A task of the agent that runs now.
    pub(super) fn agent_task(&mut self, turn: &mut Turn, takes: u64, task: Task) {
        if let Some(agent) = &self.agent {
            self.queue.push(turn.later(takes), Event::Agent(agent.run, task));
        }
    }

    /// A task of the agent of one run.
    pub(super) fn agent_run(&mut self, turn: &mut Turn, takes: u64, run: u64, task: Task) {
        self.queue.push(turn.later(takes), Event::Agent(run, task));
    }

    /// The law is asked soon.
    pub(super) fn wake(&mut self, turn: &mut Turn) {
        self.beat_within(turn, 60);
    }

    pub(super) fn beat_within(&mut self, turn: &mut Turn, takes: u64) {
        let at = turn.later(takes.max(1));
        let Some(agent) = &mut self.agent else { return };
        if agent.attached && agent.beat_at.is_none_or(|known| known > at) {
            agent.beat_at = Some(at);
            self.queue.push(at, Event::Agent(agent.run, Task::Beat));
        }
    }

    /// PostgreSQL is probed soon.
    pub(super) fn look(&mut self, turn: &mut Turn) {
        self.probe_within(turn, 400);
    }

    pub(super) fn probe_within(&mut self, turn: &mut Turn, takes: u64) {
        let at = turn.later(takes.max(1));
        let Some(agent) = &mut self.agent else { return };
        if agent.attached && agent.probe_at.is_none_or(|known| known > at) {
            agent.probe_at = Some(at);
            self.queue.push(at, Event::Agent(agent.run, Task::Probe));
        }
    }

    /// The orchestrator may have to hear something.
    pub(super) fn speak(&mut self, turn: &mut Turn) {
        self.speak_within(turn, 80);
    }

    pub(super) fn speak_within(&mut self, turn: &mut Turn, takes: u64) {
        let at = turn.later(takes.max(1));
        let Some(agent) = &mut self.agent else { return };
        if agent.attached && agent.speak_at.is_none_or(|known| known > at) {
            agent.speak_at = Some(at);
            self.queue.push(at, Event::Agent(agent.run, Task::Speak));
        }
    }

    /// Reads again what the files tell PostgreSQL to be.
    pub(super) fn read_files(&mut self) {
        let dynamic = self.disk.dynamic.get();
        let Some(agent) = &mut self.agent else { return };
        agent.configured.standby = self.disk.data.as_ref().is_some_and(|data| data.standby);
        let upstream =
            dynamic.upstream.and_then(|(peer, _)| self.setup.instances.get(peer.index()));
        if agent.configured.upstream.as_ref() != upstream {
            agent.configured.upstream = upstream.cloned();
        }
        agent.configured.generation = dynamic.generation;
        agent.configured.admits = *self.disk.open.get();
    }

    /// Looks at the data directory: whose it is, and whether it may be touched.
    pub(super) fn examine(&mut self) {
        self.read_files();
        let memory = &self.disk.memory;
        let Some(agent) = &mut self.agent else { return };
        let data = self.disk.data.as_ref();
        agent.refusal = match (data, memory.system) {
            (Some(_), None) => Some("the data directory was not made by this agent"),
            (Some(data), Some(ours)) if ours != data.system => {
                Some("the data directory is of another system identifier")
            }
            (None, _) | (Some(_), Some(_)) => None,
        };
        if memory.stopped
            && agent.pid.is_none()
            && let Some(end) = data.and_then(super::disk::Data::clean_end)
        {
            agent.down = Down::Clean(end);
        }
    }

    /// How the server stands, as the agent sees it.
    pub(super) fn server_seen(&self, agent: &Agent) -> Server {
        if let Some(reason) = agent.refusal {
            return Server::Refused(reason.to_owned());
        }
        if agent.pid.is_none() {
            let there = self.disk.data.is_some();
            return if there { Server::Down(agent.down.clone()) } else { Server::Absent };
        }
        let admits = agent.configured.admits;
        match &agent.facts {
            None => Server::Starting,
            Some(facts) if facts.recovery => Server::Recovery {
                position: agent.position.clone(),
                replayed: facts.replayed,
                admits,
            },
            Some(facts) => Server::Writable {
                position: agent.position.clone(),
                admits,
                checkpoint: facts.checkpoint,
            },
        }
    }

    /// The account to the law.
    pub(super) fn local(&self, agent: &Agent) -> Local {
        Local {
            server: self.server_seen(agent),
            system_identifier: self.disk.data.as_ref().map(|data| data.system),
            pledge: self.disk.memory.pledge,
            configured: agent.configured.clone(),
            sealed: agent.sealed_at.is_some(),
            serves: agent.serves,
            proven: agent.proven,
            enforced: agent.enforced,
            prepared: agent.prepared,
            divergence: self.divergence(agent),
            leased: agent.leased,
            committed: agent.committed,
            started: agent.started,
            down_since: agent.down_since,
            informed: agent.informed,
            assigned: agent.assigned,
            isolated: agent.isolated,
        }
    }

    /// The account to the orchestrator.
    pub(super) fn report(&self, agent: &Agent, now: Moment) -> Report {
        let memory = &self.disk.memory;
        let facts = agent.facts.as_ref();
        let doubt = memory.doubt.as_ref().filter(|(epoch, _)| *epoch >= memory.pledge.granted);
        Report {
            service: self.setup.service.clone(),
            instance: self.name(self.setup.own),
            run: 0,
            sequence: 0,
            echo: None,
            revision: agent.assignment.as_ref().map_or(Revision(0), |a| a.revision),
            pledge: memory.pledge,
            server: self.server_told(agent, now),
            looked: Some(agent.pid.map_or(Duration::ZERO, |_| now.since(agent.looked))),
            system_identifier: self.disk.data.as_ref().map(|data| data.system),
            sealed_at: agent.sealed_at.clone(),
            proof: agent.proven.map(|epoch| Proof {
                epoch,
                age: agent.committed.map_or(Duration::from_hours(1), |at| now.since(at)),
            }),
            enforced: agent.enforced,
            prepared: agent.prepared,
            streams: facts.map(|facts| self.streams(agent, facts)).unwrap_or_default(),
            receiver: facts.and_then(|facts| facts.receiver.as_ref()).and_then(|receiver| {
                Some(Receiver {
                    upstream: agent.configured.upstream.clone()?,
                    streaming: receiver.streaming,
                    age: now.since(agent.message.1),
                })
            }),
            doubt: doubt.map(|(_, position)| position.clone()),
            knock: agent
                .knock
                .as_ref()
                .map(|(knock, at)| Knock { age: now.since(*at), ..knock.clone() }),
            notes: agent.notes.iter().map(note).collect(),
            version: String::from("15.18"),
            checks: Checks {
                exposed: memory.doubt_pending || agent.unwritten,
                hangs: agent.hang.lasts(),
                ..agent.checks.clone()
            },
            rehearsed: agent.rehearsed(now),
            survey: None,
        }
    }

    fn streams(&self, agent: &Agent, facts: &Facts) -> Vec<Stream> {
        let earlier = agent.end_before(self.timing().heartbeat);
        facts
            .streams
            .iter()
            .filter(|row| row.name == row.role)
            .map(|row| Stream {
                instance: self.name(row.name),
                streaming: row.streaming,
                flushed: row.flushed,
                caught_up: earlier.is_some_and(|end| row.flushed >= end),
            })
            .collect()
    }

    /// An instance's name.
    pub(super) fn name(&self, peer: Peer) -> InstanceId {
        let known = self.setup.instances.get(peer.index());
        known.expect("every peer of the run is in the list that all machines share").clone()
    }

    /// An instance's place in the list.
    pub(super) fn peer(&self, name: &InstanceId) -> Option<Peer> {
        let at = self.setup.instances.iter().position(|other| other == name)?;
        u8::try_from(at).ok().map(Peer)
    }

    /// What of a report is worth sending at once, as one number.
    pub(super) fn gist(&self, agent: &Agent) -> u64 {
        use std::hash::{Hash, Hasher};
        let mut hash = Gist::default();
        let memory = &self.disk.memory;
        agent.assignment.as_ref().map(|a| a.revision).hash(&mut hash);
        (memory.pledge.sealed, memory.pledge.granted).hash(&mut hash);
        (agent.pid.is_some(), agent.refusal.is_some(), self.disk.data.is_some()).hash(&mut hash);
        if agent.pid.is_none() {
            let kind = match &agent.down {
                Down::Crashed => 0_u8,
                Down::Fenced => 1,
                Down::Clean(_) => 2,
                Down::NotStarted => 3,
            };
            kind.hash(&mut hash);
        }
        (agent.configured.admits, agent.position.timeline).hash(&mut hash);
        agent.position.history.len().hash(&mut hash);
        agent.sealed_at.as_ref().map(|at| (at.timeline, at.lsn)).hash(&mut hash);
        (agent.proven, agent.enforced, agent.prepared).hash(&mut hash);
        (memory.doubt_pending, agent.unwritten).hash(&mut hash);
        (agent.checks.wal_free, agent.checks.exposures.is_some()).hash(&mut hash);
        if let Some(facts) = &agent.facts {
            (facts.recovery, facts.checkpoint).hash(&mut hash);
            facts.receiver.map(|receiver| receiver.streaming).hash(&mut hash);
            let earlier = agent.end_before(self.timing().heartbeat);
            for row in &facts.streams {
                let caught_up = earlier.is_some_and(|end| row.flushed >= end);
                (row.name, row.role, row.streaming, caught_up).hash(&mut hash);
            }
        }
        agent.configured.upstream.is_some().hash(&mut hash);
        memory.doubt.as_ref().map(|(epoch, at)| (*epoch, at.lsn)).hash(&mut hash);
        if let Some((knock, _)) = &agent.knock {
            (knock.agent as u8, knock.postgres as u8).hash(&mut hash);
        }
        for (subject, (_, text)) in &agent.notes {
            (subject, text).hash(&mut hash);
        }
        hash.finish()
    }

    /// What comes of a commit of the agent's own.
    pub(super) fn who(agent: &Agent, commit: Commit) -> super::server::Who {
        super::server::Who::Agent(agent.run, agent.life, commit)
    }
}

fn note((subject, (severity, text)): (&&'static str, &(Severity, String))) -> Note {
    Note { subject: (*subject).to_owned(), severity: *severity, text: text.clone() }
}
