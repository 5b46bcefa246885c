//! A coarse PostgreSQL under an agent that complies. Its log is a list of commits, a position is a
//! length of that list, and everything takes a while.

mod report;

use failover::assignment::Role;
use failover::comply::{Configured, Divergence};
use failover::position::{Position, Switch};
use failover::report::{Down, Pledge, Server};
use failover::{
    Action, Answer, Assignment, Epoch, Generation, InstanceId, Local, Lsn, Moment, Report,
    ServiceId, SiteId, SystemIdentifier, Timeline, comply,
};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The way between two sites; the same from both ends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Link(SiteId, SiteId);

impl Link {
    /// The link between two sites.
    #[must_use]
    pub fn between(a: &SiteId, b: &SiteId) -> Self {
        if a < b { Self(a.clone(), b.clone()) } else { Self(b.clone(), a.clone()) }
    }
}

/// A data directory.
#[derive(Clone, Debug)]
struct Data {
    timeline: u32,
    history: Vec<Switch>,
    log: Vec<u64>,
}

/// What the server process does.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Running {
    Down(Down),
    Starting(Moment),
    Recovery,
    Writable,
}

/// A commit that waits for the standbys.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Waiter {
    Client(u64),
    Marker(Epoch),
    Enforcement(Generation),
    Pulse(Moment),
}

/// A machine: its disk, its PostgreSQL, its agent.
#[derive(Clone, Debug)]
pub struct Host {
    service: ServiceId,
    name: InstanceId,
    /// Where it stands.
    pub site: SiteId,
    data: Option<Data>,
    running: Running,
    configured: Configured,
    setting: (BTreeSet<InstanceId>, u32),
    pledge: Pledge,
    divergence: Divergence,
    assignment: Option<Assignment>,
    sealed: bool,
    proven: Option<Epoch>,
    enforced: Option<Generation>,
    prepared: Option<Epoch>,
    leased: Option<Moment>,
    committed: Option<Moment>,
    started: Moment,
    down_since: Moment,
    informed: bool,
    pending: Option<(Action, Moment)>,
    waiters: Vec<(usize, Waiter)>,
    streaming: Option<(InstanceId, Moment)>,
    caught: BTreeMap<InstanceId, usize>,
    run: u64,
    sequence: u64,
    reported: Option<(Moment, Report)>,
    serial: u64,
}

impl Host {
    /// An empty machine whose agent has just started.
    #[must_use]
    pub fn new(service: ServiceId, name: InstanceId, site: SiteId) -> Self {
        Self {
            service,
            name,
            site,
            data: None,
            running: Running::Down(Down::NotStarted),
            configured: Configured::default(),
            setting: (BTreeSet::new(), 1),
            pledge: Pledge::default(),
            divergence: Divergence::None,
            assignment: None,
            sealed: false,
            proven: None,
            enforced: None,
            prepared: None,
            leased: None,
            committed: None,
            started: Moment(0),
            down_since: Moment(0),
            informed: false,
            pending: None,
            waiters: Vec::new(),
            streaming: None,
            caught: BTreeMap::new(),
            run: 1,
            sequence: 0,
            reported: None,
            serial: 0,
        }
    }

    /// Everything that runs on it dies; the disk stays.
    pub fn crash(&mut self, now: Moment) {
        self.stop(Down::NotStarted, now);
        self.pending = None;
        self.leased = None;
        self.committed = None;
        self.informed = false;
        self.reported = None;
    }

    /// Its agent starts anew.
    pub fn boot(&mut self, now: Moment, run: u64) {
        self.started = now;
        self.down_since = now;
        self.run = run;
        self.sequence = 0;
    }

    /// PostgreSQL dies under its agent.
    pub fn kill_postgres(&mut self, now: Moment) {
        if self.is_running() {
            self.stop(Down::Crashed, now);
        }
    }

    fn stop(&mut self, down: Down, now: Moment) {
        let clean = matches!(down, Down::Clean(_));
        if !clean && self.running == Running::Writable {
            self.divergence = Divergence::Suspected;
        }
        self.running = Running::Down(down);
        self.down_since = now;
        self.configured.admits = false;
        self.sealed = false;
        self.proven = None;
        self.enforced = None;
        self.waiters.clear();
        self.streaming = None;
        self.caught.clear();
    }

    /// Whether its server process is there.
    #[must_use]
    pub fn is_running(&self) -> bool {
        !matches!(self.running, Running::Down(_))
    }

    /// Whether it is out of recovery.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.running == Running::Writable
    }

    /// Whether clients may write to it.
    #[must_use]
    pub fn admits_writes(&self) -> bool {
        self.is_writable() && self.configured.admits
    }

    /// The newest epoch that it accepted.
    #[must_use]
    pub fn granted(&self) -> Epoch {
        self.pledge.granted
    }

    /// The first acknowledged commit that it lacks.
    #[must_use]
    pub fn lacks(&self, acknowledged: &BTreeSet<u64>) -> Option<u64> {
        let have: BTreeSet<u64> =
            self.data.iter().flat_map(|data| data.log.iter().copied()).collect();
        acknowledged.difference(&have).next().copied()
    }

    /// Whom it is configured to follow.
    #[must_use]
    pub fn upstream(&self) -> Option<InstanceId> {
        (self.running == Running::Recovery).then(|| self.configured.upstream.clone())?
    }

    /// Whom its assignment tells it to follow or to take over from.
    #[must_use]
    pub fn upstream_wanted(&self) -> Option<InstanceId> {
        match &self.assignment.as_ref()?.role {
            Role::Standby { upstream } => Some(upstream.clone()),
            Role::Idle | Role::Primary { .. } | Role::Stopped | Role::Fenced | Role::Sealed => None,
        }
    }

    /// Whether it receives from `source` now.
    #[must_use]
    pub fn streams_from(&self, source: &InstanceId, now: Moment) -> bool {
        self.running == Running::Recovery
            && self.configured.upstream.as_ref() == Some(source)
            && self.streaming.as_ref().is_some_and(|(from, at)| from == source && *at == now)
    }

    /// The length of its log.
    #[must_use]
    pub fn length(&self) -> usize {
        self.data.as_ref().map_or(0, |data| data.log.len())
    }

    /// Receives up to `burst` commits from the upstream that it reaches, if any.
    pub fn receive(&mut self, source: Option<&Self>, burst: u64, now: Moment) {
        let (Some(source), Running::Recovery) = (source, &self.running) else { return };
        let (Some(mine), Some(theirs)) = (&mut self.data, &source.data) else { return };
        let length = mine.log.len();
        let shared = length == 0 || theirs.log.get(length - 1) == mine.log.last();
        if !shared {
            self.divergence = Divergence::Suspected;
            return;
        }
        let end = theirs.log.len().min(length + usize::try_from(burst).unwrap_or(1));
        mine.log.extend(theirs.log.get(length..end).into_iter().flatten());
        mine.timeline = theirs.timeline;
        mine.history.clone_from(&theirs.history);
        self.streaming = Some((source.name.clone(), now));
    }

    /// Appends a commit that a client waits for.
    pub fn append(&mut self, commit: u64) {
        self.push(commit, Waiter::Client(commit));
    }

    fn push(&mut self, commit: u64, waiter: Waiter) {
        if let Some(data) = &mut self.data {
            data.log.push(commit);
            self.waiters.push((data.log.len(), waiter));
        }
    }

    /// Appends a commit of the agent's own.
    fn push_own(&mut self, waiter: Waiter, now: Moment) {
        self.serial += 1;
        let salt = self
            .name
            .as_str()
            .bytes()
            .fold(0_u64, |sum, b| sum.wrapping_mul(31).wrapping_add(u64::from(b)));
        let own = (now.0 << 24) ^ (salt << 16) ^ self.serial;
        self.push(1 << 63 | own, waiter);
    }

    /// Releases the commits that the setting lets go, and tells which clients were told.
    pub fn release(&mut self, flushed: &BTreeMap<InstanceId, usize>, now: Moment) -> Vec<u64> {
        let (names, required) = self.setting.clone();
        let is_done = |length: usize| {
            let holders =
                names.iter().filter(|name| flushed.get(*name).is_some_and(|f| *f >= length));
            holders.count() >= required as usize
        };
        let mut told = Vec::new();
        let waiters = std::mem::take(&mut self.waiters);
        for (length, waiter) in waiters {
            if !is_done(length) || self.running != Running::Writable {
                self.waiters.push((length, waiter));
                continue;
            }
            match waiter {
                Waiter::Client(commit) => told.push(commit),
                Waiter::Marker(epoch) => {
                    self.proven = Some(epoch);
                    self.committed = self.committed.max(Some(now));
                }
                Waiter::Enforcement(generation) => self.enforced = Some(generation),
                Waiter::Pulse(begun) => self.committed = self.committed.max(Some(begun)),
            }
        }
        told
    }

    fn position(&self) -> Position {
        self.data.as_ref().map_or_else(Position::default, |data| Position {
            timeline: Timeline(data.timeline),
            history: data.history.clone(),
            lsn: Lsn(data.log.len() as u64),
        })
    }

    fn server(&self) -> Server {
        if self.data.is_none() {
            return Server::Absent;
        }
        let position = self.position();
        let admits = self.configured.admits;
        match &self.running {
            Running::Down(down) => Server::Down(down.clone()),
            Running::Starting(_) => Server::Starting,
            Running::Recovery => Server::Recovery { replayed: position.lsn, position, admits },
            Running::Writable => {
                let checkpoint = position.timeline;
                Server::Writable { position, admits, checkpoint }
            }
        }
    }

    fn identifier(&self) -> Option<SystemIdentifier> {
        self.data.as_ref().map(|_| SystemIdentifier(7))
    }

    fn local(&self) -> Local {
        Local {
            server: self.server(),
            system_identifier: self.identifier(),
            pledge: self.pledge,
            configured: self.configured.clone(),
            sealed: self.sealed,
            proven: self.proven,
            enforced: self.enforced,
            prepared: self.prepared,
            divergence: self.divergence,
            leased: self.leased,
            committed: self.committed,
            started: self.started,
            down_since: self.down_since,
            informed: self.informed,
        }
    }

    /// A moment of the agent's life: ends what was under way, asks the law, begins the next.
    pub fn live(&mut self, upstream: Option<&Self>, now: Moment, dice: u64) {
        if let Running::Starting(until) = self.running
            && until <= now
        {
            self.running =
                if self.configured.standby { Running::Recovery } else { Running::Writable };
        }
        if self.pending.as_ref().is_some_and(|(_, at)| *at <= now)
            && let Some((action, _)) = self.pending.take()
        {
            self.perform(action, upstream, now, dice);
        }
        let wanted = comply(self.assignment.as_ref(), &self.local(), now);
        match (wanted, &self.pending) {
            (Some(action), Some((under_way, _))) if action == *under_way => {}
            (Some(Action::Fence { .. }), _) => {
                self.pending = None;
                self.stop(Down::Fenced, now);
            }
            (Some(action), _) if !self.waits_already(&action) => {
                if action == Action::StopCleanly {
                    self.configured.admits = false;
                }
                let takes = Duration::from_millis(5 + dice % 300);
                self.pending = Some((action, now.after(takes)));
            }
            (Some(_) | None, _) => {}
        }
        self.pulse(now);
    }

    fn waits_already(&self, action: &Action) -> bool {
        self.waiters.iter().any(|(_, waiter)| match (waiter, action) {
            (Waiter::Marker(epoch), Action::Prove { epoch: wanted }) => epoch == wanted,
            (Waiter::Enforcement(generation), Action::Enforce { generation: wanted }) => {
                generation == wanted && self.configured.generation == Some(*wanted)
            }
            _ => false,
        })
    }

    fn pulse(&mut self, now: Moment) {
        let outstanding = self.waiters.iter().any(|(_, w)| matches!(w, Waiter::Pulse(_)));
        let due = self.committed.is_none_or(|last| now.since(last) > Duration::from_millis(400));
        if self.is_writable() && self.proven.is_some() && !outstanding && due {
            self.push_own(Waiter::Pulse(now), now);
        }
    }

    fn perform(&mut self, action: Action, upstream: Option<&Self>, now: Moment, dice: u64) {
        let start = Running::Starting(now.after(Duration::from_millis(20 + dice % 800)));
        match action {
            Action::Initialise => {
                self.data = Some(Data { timeline: 1, history: Vec::new(), log: Vec::new() });
                self.configured = Configured::default();
            }
            Action::Clone { .. } | Action::Rewind { .. } => self.copy(upstream),
            Action::StartStandby { upstream } => {
                self.configured.standby = true;
                self.configured.upstream = upstream;
                self.running = start;
            }
            Action::StartPrimary => {
                self.configured.standby = false;
                self.running = start;
            }
            Action::Fence { .. } => self.stop(Down::Fenced, now),
            Action::StopCleanly => self.stop(Down::Clean(self.position()), now),
            Action::Seal { epoch } => {
                self.pledge.sealed = self.pledge.sealed.max(epoch);
                self.configured.upstream = None;
                self.streaming = None;
                self.sealed = self.running == Running::Recovery;
            }
            Action::Accept { epoch } => self.pledge.granted = self.pledge.granted.max(epoch),
            Action::Promote => self.promote(),
            Action::Enforce { generation } => {
                self.take_rule(generation);
                self.push_own(Waiter::Enforcement(generation), now);
            }
            Action::Prove { epoch } => self.push_own(Waiter::Marker(epoch), now),
            Action::Prepare { epoch } => self.prepared = Some(epoch),
            Action::Follow { upstream } => self.configured.upstream = Some(upstream),
            Action::Admit => self.configured.admits = true,
        }
    }

    fn copy(&mut self, upstream: Option<&Self>) {
        if let Some(source) = upstream.filter(|source| source.is_writable()) {
            self.data.clone_from(&source.data);
            self.configured = Configured { standby: true, ..Configured::default() };
            self.divergence = Divergence::None;
        }
    }

    fn promote(&mut self) {
        if self.running != Running::Recovery {
            return;
        }
        if let Some(data) = &mut self.data {
            let at = Lsn(data.log.len() as u64);
            data.history.push(Switch { timeline: Timeline(data.timeline), at });
            data.timeline += 1;
        }
        self.running = Running::Writable;
        self.configured.standby = false;
        self.configured.upstream = None;
        if let Some(generation) = self.assignment.as_ref().map(|a| a.generation) {
            self.take_rule(generation);
        }
    }

    fn take_rule(&mut self, generation: Generation) {
        if let Some(assignment) = self.assignment.as_ref().filter(|a| a.generation == generation) {
            let enforce = &assignment.enforce;
            self.setting = (enforce.instances.clone(), enforce.required);
            self.configured.generation = Some(generation);
        }
    }

    /// Takes in the answer to a report.
    pub fn hear(&mut self, answer: Answer, sent: Moment) {
        let known = self.assignment.as_ref().map(|a| a.revision).unwrap_or_default();
        if answer.assignment.revision < known || answer.assignment.epoch < self.pledge.granted {
            return;
        }
        if answer.lease == Some(self.pledge.granted) {
            self.leased = Some(sent);
        }
        self.informed = true;
        self.assignment = Some(answer.assignment);
    }
}
