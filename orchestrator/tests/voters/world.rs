//! A handful of voters in one thread: a seeded network that drops, delays and reorders, disks that
//! keep what was persisted, crashes between any two outputs. And what must always be true of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use failover::cluster::Voter;
use failover::ids::{InstanceId, ServiceId, SiteId, VoterId};
use failover::people::Role;
use failover::report::{Pledge, Report, Server};
use failover::topology::{Dns, Instance, NameServer, OnLastCopy, ServiceSpec, Site, Topology};
use failover::{Moment, Request, Timestamp};
use orchestrator::audit::PAGE_LINES;
use orchestrator::log::{Batch, Saved};
use orchestrator::message::Envelope;
use orchestrator::raft_log;
use orchestrator::replica::{Clocks, Input, Output, Replica, Reply, Setup, Whom};
use orchestrator::storage::first_saved;

/// One tick.
pub(crate) const TICK: Duration = Duration::from_millis(100);

/// SplitMix64: enough dice for a test, and the same everywhere.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }
}

pub(crate) struct World {
    pub(crate) dice: Dice,
    pub(crate) now: Moment,
    pub(crate) group: BTreeMap<VoterId, Voter>,
    pub(crate) voters: BTreeMap<VoterId, Replica>,
    pub(crate) disks: BTreeMap<VoterId, (String, Saved)>,
    /// The audit records on each disk.
    pub(crate) records: BTreeMap<VoterId, BTreeMap<u64, String>>,
    pub(crate) replies: Vec<(VoterId, u64, Reply)>,
    /// Links that are cut, in one direction.
    pub(crate) cut: BTreeSet<(VoterId, VoterId)>,
    /// Of a hundred messages, how many are lost.
    pub(crate) loss: u64,
    /// Messages arrive up to this many microseconds late.
    pub(crate) delay: u64,
    /// Of ten thousand outputs, before how many the voter dies.
    pub(crate) deaths: u64,
    pub(crate) compact_after: u64,
    pub(crate) transcript: String,
    ticks: BTreeMap<VoterId, Moment>,
    net: BTreeMap<(Moment, u64), Envelope>,
    sent: u64,
    token: u64,
    leaders: BTreeMap<u64, VoterId>,
    states: BTreeMap<u64, String>,
}

pub(crate) fn voter(id: u64) -> Voter {
    Voter {
        name: format!("v{id}"),
        site: format!("s{id}").parse().expect("a name"),
        address: format!("127.0.{id}.1:7400").parse().expect("an address"),
        incarnation: None,
    }
}

impl World {
    pub(crate) fn new(count: u64, seed: u64) -> Self {
        let group: BTreeMap<_, _> = (1..=count).map(|id| (VoterId(id), voter(id))).collect();
        let ids: Vec<u64> = (1..=count).collect();
        let mut world = Self {
            dice: Dice(seed),
            now: Moment(1_000_000),
            group,
            voters: BTreeMap::new(),
            disks: BTreeMap::new(),
            records: BTreeMap::new(),
            replies: Vec::new(),
            cut: BTreeSet::new(),
            loss: 0,
            delay: 2_000,
            deaths: 0,
            compact_after: 40,
            transcript: String::new(),
            ticks: BTreeMap::new(),
            net: BTreeMap::new(),
            sent: 0,
            token: 0,
            leaders: BTreeMap::new(),
            states: BTreeMap::new(),
        };
        for id in 1..=count {
            let disk = (format!("disk-{id}"), first_saved(&ids));
            world.disks.insert(VoterId(id), disk);
            world.start(VoterId(id));
        }
        world
    }

    /// Starts a voter from its disk.
    pub(crate) fn start(&mut self, id: VoterId) {
        let (incarnation, saved) = self.disks.get(&id).expect("it has a disk").clone();
        assert_eq!(orchestrator::storage::fits(&saved), Ok(()), "voter {id} would refuse its disk");
        let setup = Setup {
            cluster: "test".into(),
            id,
            incarnation: incarnation.into(),
            group: self.group.clone(),
            election_timeout: TICK * 10,
            seed: 7,
            compact_after: self.compact_after,
        };
        let replica = Replica::new(setup, &saved, &raft_log::silent()).expect("it starts");
        self.voters.insert(id, replica);
        let first = Duration::from_micros(self.dice.roll(100_000));
        self.ticks.insert(id, self.now.after(first));
    }

    pub(crate) fn crash(&mut self, id: VoterId) {
        self.voters.remove(&id);
    }

    pub(crate) fn clocks(&self) -> Clocks {
        Clocks {
            now: self.now,
            wall: Timestamp(1_700_000_000_000 + i64::try_from(self.now.0 / 1_000).unwrap_or(0)),
        }
    }

    pub(crate) fn step(&mut self, id: VoterId, input: Input) {
        let clocks = self.clocks();
        let Some(replica) = self.voters.get_mut(&id) else { return };
        let outputs = replica.step(input, clocks);
        self.carry_out(id, outputs);
        self.check(id);
    }

    fn carry_out(&mut self, id: VoterId, outputs: Vec<Output>) {
        for output in outputs {
            if self.deaths > 0 && self.dice.roll(10_000) < self.deaths {
                self.crash(id);
                return;
            }
            let line = format!("{} {id} {output:?}\n", self.now.0);
            self.transcript.push_str(&line);
            match output {
                Output::Persist(batch) => {
                    let table = self.records.entry(id).or_default();
                    table.extend(batch.audit.iter().map(|l| (l.number, l.text.clone())));
                    persist(&mut self.disks.get_mut(&id).expect("it has a disk").1, &batch);
                }
                Output::Send { to, message } => {
                    let Some(replica) = self.voters.get(&id) else { return };
                    let mut envelope = replica.envelope(to);
                    envelope.messages.push(*message);
                    self.post(&envelope);
                }
                Output::Reply { token, reply } => self.replies.push((id, token, reply)),
                Output::Lack { to, from } => {
                    let Some(replica) = self.voters.get(&id) else { return };
                    let mut envelope = replica.envelope(to);
                    envelope.lacks = Some(from);
                    self.post(&envelope);
                }
                Output::Records { whom, from } => self.give_records(id, whom, from),
                Output::Applied(_) | Output::Look(_) | Output::Stop(_) => {}
            }
        }
    }

    /// The same as `Store::records`, and what the loop does with them.
    fn give_records(&mut self, id: VoterId, whom: Whom, from: u64) {
        let table = self.records.entry(id).or_default();
        let lines = (from..).map_while(|number| table.get(&number).cloned());
        let lines: Vec<String> = lines.take(PAGE_LINES.min(7)).collect();
        match whom {
            Whom::Voter(to) => {
                let Some(replica) = self.voters.get(&id) else { return };
                let mut envelope = replica.envelope(to);
                envelope.records = lines;
                self.post(&envelope);
            }
            Whom::Asker { token, mut page } => {
                page.lines = lines;
                self.replies.push((id, token, Reply::found(&*page)));
            }
        }
    }

    pub(crate) fn post(&mut self, envelope: &Envelope) {
        if self.dice.roll(100) < self.loss {
            return;
        }
        self.sent += 1;
        let due = self.now.after(Duration::from_micros(200 + self.dice.roll(self.delay.max(1))));
        // Through JSON, as on the wire.
        let text = serde_json::to_string(envelope).expect("it can be written");
        let envelope = serde_json::from_str(&text).expect("it can be read");
        self.net.insert((due, self.sent), envelope);
    }

    /// Lets time pass.
    pub(crate) fn run(&mut self, duration: Duration) {
        let until = self.now.after(duration);
        loop {
            let tick = self
                .ticks
                .iter()
                .filter(|(id, _)| self.voters.contains_key(id))
                .map(|(id, at)| (*at, *id))
                .min();
            let message = self.net.keys().next().copied();
            let next_tick = tick.map_or(until, |(at, _)| at);
            let next_message = message.map_or(until, |(at, _)| at);
            let next = next_tick.min(next_message);
            if next >= until {
                self.now = until;
                return;
            }
            self.now = self.now.max(next);
            if let Some(key) = message
                && next_message <= next_tick
            {
                let envelope = self.net.remove(&key).expect("it was just seen");
                self.arrive(envelope);
            } else if let Some((at, id)) = tick {
                self.ticks.insert(id, at.after(TICK));
                self.step(id, Input::Tick);
            }
        }
    }

    fn arrive(&mut self, envelope: Envelope) {
        let (from, to) = (envelope.from, envelope.to);
        if self.cut.contains(&(from, to)) {
            return;
        }
        let name = format!("v{from}").into();
        self.step(to, Input::Peer { name, envelope: Box::new(envelope) });
    }

    /// Runs until `done`, at most a minute of the world's time.
    pub(crate) fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        for _ in 0..6_000 {
            if done(self) {
                return;
            }
            self.run(Duration::from_millis(10));
        }
        panic!("never: {what}");
    }

    pub(crate) fn leader(&self) -> Option<VoterId> {
        let leads = |(_, replica): &(&VoterId, &Replica)| replica.is_leader();
        self.voters.iter().filter(leads).max_by_key(|(_, r)| r.term()).map(|(id, _)| *id)
    }

    pub(crate) fn elected(&mut self) -> VoterId {
        self.until("a leader", |world| world.leader().is_some());
        self.leader().expect("there is one")
    }

    /// Cuts a voter off from all others, in both directions.
    pub(crate) fn isolate(&mut self, id: VoterId) {
        for other in self.group.keys() {
            self.cut.insert((id, *other));
            self.cut.insert((*other, id));
        }
    }

    pub(crate) fn token(&mut self) -> u64 {
        self.token += 1;
        self.token
    }

    pub(crate) fn reply(&self, token: u64) -> Option<&Reply> {
        self.replies.iter().find(|(_, t, _)| *t == token).map(|(_, _, reply)| reply)
    }

    pub(crate) fn ask(&mut self, id: VoterId, request: Request) -> u64 {
        let token = self.token();
        self.step(
            id,
            Input::Request {
                token,
                by: "alice".into(),
                role: Role::Admin,
                totp_step: None,
                request: Box::new(request),
            },
        );
        token
    }

    /// As an agent reports that the leader has answered before.
    pub(crate) fn report(&mut self, id: VoterId, mut report: Report) -> u64 {
        let token = self.token();
        self.step(id, Input::Report { token, report: Box::new(report.clone()) });
        if let Some(Reply::Report(answer)) = self.reply(token) {
            report.echo = answer.echo;
        }
        let token = self.token();
        self.step(id, Input::Report { token, report: Box::new(report) });
        token
    }

    /// What must always be true: one leader a term, and one state at each place of the log.
    fn check(&mut self, id: VoterId) {
        let Some(replica) = self.voters.get(&id) else { return };
        if replica.is_leader() {
            let known = *self.leaders.entry(replica.term()).or_insert(id);
            assert_eq!(known, id, "two leaders in term {}", replica.term());
        }
        let place = replica.applied();
        let state = || {
            let json = serde_json::to_string(replica.cluster()).expect("it can be written");
            format!("{} {:?} {json}", place.term, replica.audit_head())
        };
        if let Some(known) = self.states.get(&place.index) {
            assert!(*known == state(), "two states at entry {}", place.index);
        } else {
            self.states.insert(place.index, state());
        }
    }

    /// What was seen of the states so far is not compared with what comes.
    pub(crate) fn forget_states(&mut self) {
        self.states.clear();
    }

    /// Applies the topology of [`topology`] and waits until every voter has it.
    pub(crate) fn declare(&mut self) -> VoterId {
        self.elected();
        self.until("the topology", |world| {
            world.leader().is_some_and(|id| world.voters[&id].cluster().voters.len() >= 3)
        });
        let leader = self.elected();
        // One person acts in these worlds.
        let mut topology = Box::new(topology());
        topology.people.two_persons = false;
        let request = Request::Apply { expected: 0, topology, reason: "x".into() };
        let token = self.ask(leader, request);
        self.until("an answer", |world| world.reply(token).is_some());
        assert!(matches!(self.reply(token), Some(Reply::Accepted(_))), "{:?}", self.reply(token));
        self.until("everyone to know", |world| {
            world.voters.values().all(|replica| replica.cluster().topology_version == 1)
        });
        self.elected()
    }
}

/// What a batch does to a disk: the same as `Store::persist`.
fn persist(saved: &mut Saved, batch: &Batch) {
    if batch.replaces {
        saved.entries.clear();
    } else if let Some(first) = batch.entries.first() {
        saved.entries.retain(|entry| entry.index < first.index);
    }
    if let Some(dropped) = batch.dropped {
        saved.entries.retain(|entry| entry.index > dropped.index);
        saved.dropped = dropped;
    }
    saved.entries.extend(batch.entries.iter().cloned());
    saved.hard = batch.hard.unwrap_or(saved.hard);
    saved.hole = batch.hole.unwrap_or(saved.hole);
    if let Some(snapshot) = &batch.snapshot {
        saved.snapshot = Some(snapshot.clone());
    }
}

pub(crate) fn service() -> ServiceId {
    "clinic".parse().expect("a name")
}

pub(crate) fn instance(site: u64) -> InstanceId {
    format!("s{site}-1").parse().expect("a name")
}

/// Three sites; one service with an instance in sites 1 and 2; site 3 is a witness.
pub(crate) fn topology() -> Topology {
    let site = |n: u64| -> SiteId { format!("s{n}").parse().expect("a name") };
    let place = |n: u64| Instance {
        site: site(n),
        postgres: format!("127.0.{n}.1:5432").parse().expect("an address"),
        agent: format!("127.0.{n}.1:7500").parse().expect("an address"),
        public: None,
    };
    let server = NameServer {
        site: site(1),
        address: "127.0.1.1:5300".parse().expect("an address"),
        public: None,
    };
    let spec = ServiceSpec {
        writable: "clinic".into(),
        read_only: "clinic-ro".into(),
        aliases: Vec::new(),
        required: 1,
        on_last_copy: OnLastCopy::Block,
        client_access: Vec::new(),
        instances: [1, 2].map(|n| (instance(n), place(n))).into(),
        preference: vec![instance(1), instance(2)],
    };
    Topology {
        cluster: "test".into(),
        sites: (1..=3).map(|n| (site(n), Site::default())).collect(),
        dns: Dns {
            origin: "db.test.".into(),
            contact: "hostmaster.test.".into(),
            servers: [("ns1".parse().expect("a name"), server)].into(),
            ..Dns::default()
        },
        services: [(service(), spec)].into(),
        ..Topology::default()
    }
}

/// A report of an instance that has nothing yet.
pub(crate) fn absent(site: u64, sequence: u64) -> Report {
    Report {
        service: service(),
        instance: instance(site),
        run: 1,
        sequence,
        echo: None,
        revision: failover::Revision(0),
        pledge: Pledge::default(),
        server: Server::Absent,
        system_identifier: None,
        sealed_at: None,
        proof: None,
        enforced: None,
        streams: Vec::new(),
        receiver: None,
        doubt: None,
        prepared: None,
        looked: Some(Duration::ZERO),
        knock: None,
        notes: Vec::new(),
        version: "15.18".into(),
        checks: failover::checks::Checks::default(),
        rehearsed: None,
        survey: None,
    }
}
