//! The world: everything that runs, the network between, and true time.

mod clients;
mod deeds;
mod eyes;
mod hosts;
mod names;
mod operators;
mod parts;
mod post;
mod turns;
mod voters;
mod wal;
mod whole;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use failover::ids::{InstanceId, ServiceId, SiteId, VoterId};
use failover::topology::Topology;

use crate::clock::{At, HostClock};
use crate::coverage::Coverage;
use crate::dice::Dice;
use crate::host;
use crate::network::{Network, Plane};
use crate::oracle::Oracle;
use crate::queue::Queue;
use crate::voter::{self, Common, Voter};

pub use clients::Workload;
pub use deeds::Deed;
pub use hosts::Crash;
pub use operators::AskId;
pub(crate) use parts::{Ask, Body, Client, Machine, NameServer};

/// How a run is set up, beside its topology and its seed.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whether what happens is put into words.
    pub talkative: bool,
    /// Who writes and reads.
    pub workload: Workload,
    /// How far sites are apart, in microseconds: at the least, at the most.
    pub way: (u32, u32),
    /// Of a thousand, how much the machines' clocks may be wrong.
    pub clock_error: u64,
    /// After how many entries a voter takes a snapshot.
    pub compact_after: u64,
    /// Machines tell what the model has none of as if all of it were good.
    pub surveyed: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            talkative: false,
            workload: Workload::default(),
            way: (1_000, 12_000),
            clock_error: 0,
            compact_after: orchestrator::replica::COMPACT_AFTER,
            surveyed: false,
        }
    }
}

/// What happens next.
pub(crate) enum Event {
    Tick { voter: u8, run: u32 },
    Synced { voter: u8, run: u32 },
    Failed { voter: u8, run: u32, about: VoterId },
    Eye { voter: u8, run: u32, id: u32, second: bool },
    EyeAgain { voter: u8, run: u32, id: u32 },
    AskNames { voter: u8, run: u32 },
    Unasked { voter: u8, run: u32, server: u8, question: u32 },
    Arrive { plane: Plane, from: u8, to: u8, body: Box<Body> },
    Wal { channel: u16, era: u32, order: u32, message: Box<host::Wal> },
    Wake { host: u8 },
    Unknocked { host: u8, token: u64 },
    Ping { host: u8, voter: u8, token: u64 },
    ZonePing { server: u8, voter: u8, token: u64 },
    Follow { server: u8, run: u32, voter: u8 },
    Kept { server: u8, run: u32 },
    Turn { client: u16 },
    Late { client: u16, session: u64 },
    AskAgain { ask: u32 },
    AskLate { ask: u32, attempt: u32 },
    Deed { index: u32 },
}

/// One run.
pub struct World {
    pub(crate) now: At,
    pub(crate) dice: Dice,
    pub(crate) queue: Queue<Event>,
    /// The network.
    pub network: Network,
    pub(crate) options: Options,
    pub(crate) topology: Arc<Topology>,
    /// Sites by their place; the clients' place is the one after the last.
    pub(crate) sites: Vec<SiteId>,
    pub(crate) common: Common,
    pub(crate) logger: slog::Logger,
    pub(crate) voters: Vec<Voter>,
    /// The voter that stands at each site now, of those that ever did.
    pub(crate) current: Vec<u8>,
    pub(crate) machines: Vec<Machine>,
    pub(crate) instances: Arc<[InstanceId]>,
    pub(crate) services: Vec<ServiceId>,
    pub(crate) servers: Vec<NameServer>,
    pub(crate) clients: Vec<Client>,
    pub(crate) channels: Vec<wal::Channel>,
    pub(crate) addresses: BTreeMap<IpAddr, u8>,
    pub(crate) asks: Vec<Ask>,
    pub(crate) deeds: Vec<Option<Deed>>,
    pub(crate) scratch: Vec<host::Output>,
    /// A crash that is to come about at a numbered step.
    pub(crate) trap: Option<hosts::Trap>,
    /// The judge.
    pub oracle: Oracle,
    /// What came about.
    pub coverage: Coverage,
    pub(crate) transcript: Vec<String>,
    /// What was done to it and when, where that is wanted.
    pub(crate) record: Option<Vec<(At, Deed)>>,
    /// When all was healed.
    pub(crate) healed: Option<At>,
    pub(crate) next_commit: u64,
    pub(crate) ended: bool,
    /// How many events there were.
    pub(crate) happened: u64,
}

/// The address a voter listens at.
fn voter_address(place: usize) -> SocketAddr {
    let place = u8::try_from(place).unwrap_or(u8::MAX);
    SocketAddr::from(([10, 0, place, 1], 7400))
}

impl World {
    /// A world in which everything was just switched on, with a voter at every site; the topology
    /// is applied by an operator as soon as there is a leader.
    #[must_use]
    pub fn new(seed: u64, topology: &Topology, options: &Options) -> Self {
        let mut dice = Dice::new(seed);
        let sites: Vec<SiteId> = topology.sites.keys().cloned().collect();
        let places = sites.len() + 1;
        let (low, high) = options.way;
        let network = Network::new(places, |a, b| {
            let way = dice.between(u64::from(low), u64::from(high));
            if a == b { 80 } else { u32::try_from(way).unwrap_or(1_000) }
        });
        let group = group(&sites);
        let voters = voters(&group, &mut dice, options.clock_error);
        let common = Common {
            cluster: topology.cluster.clone(),
            group,
            election_timeout: topology.timing.election_timeout,
            compact_after: options.compact_after,
            seed,
        };
        let mut world = Self {
            now: At(0),
            dice,
            queue: Queue::new(),
            network,
            options: options.clone(),
            topology: Arc::new(topology.clone()),
            sites,
            common,
            logger: voter::logger(),
            current: (0..u8::try_from(voters.len()).unwrap_or(0)).collect(),
            voters,
            machines: Vec::new(),
            instances: Arc::new([]),
            services: topology.services.keys().cloned().collect(),
            servers: Vec::new(),
            clients: Vec::new(),
            channels: Vec::new(),
            addresses: BTreeMap::new(),
            asks: Vec::new(),
            deeds: Vec::new(),
            scratch: Vec::new(),
            trap: None,
            oracle: Oracle::new(topology),
            coverage: Coverage::default(),
            transcript: Vec::new(),
            record: None,
            healed: None,
            next_commit: 1,
            ended: false,
            happened: 0,
        };
        world.build_machines();
        world.build_name_servers();
        world.build_clients();
        world.switch_on();
        world
    }

    fn switch_on(&mut self) {
        for voter in 0..self.voters.len() {
            self.start_voter(voter);
        }
        for host in 0..self.machines.len() {
            self.boot(host);
        }
        for server in 0..self.servers.len() {
            self.start_name_server(server);
        }
        let topology = Box::new(self.topology.as_ref().clone());
        let reason = String::from("the first");
        let request = failover::Request::Apply { expected: 0, topology, reason };
        self.ask(request, Duration::from_mins(2));
    }

    /// True time.
    #[must_use]
    pub const fn now(&self) -> At {
        self.now
    }

    /// The first thing that must not be.
    #[must_use]
    pub fn violation(&self) -> Option<&str> {
        self.oracle.violation()
    }

    /// What happened, for people.
    #[must_use]
    pub fn transcript(&self) -> &[String] {
        &self.transcript
    }

    /// A number that is another one as soon as anything in the run was different.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        self.dice.clone().draw() ^ self.happened.wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }

    /// Adds a line to the transcript.
    pub fn say(&mut self, text: impl FnOnce() -> String) {
        if self.options.talkative {
            let line = format!("{}  {}", self.now, text());
            self.transcript.push(line);
        }
    }

    /// The place of a site.
    #[must_use]
    pub fn place_of(&self, site: &SiteId) -> Option<u8> {
        let index = self.sites.iter().position(|other| other == site)?;
        u8::try_from(index).ok()
    }

    /// The sites, by place; the clients' place is the one after the last.
    #[must_use]
    pub fn sites(&self) -> &[SiteId] {
        &self.sites
    }

    /// Where the clients are.
    #[must_use]
    pub fn clients_place(&self) -> u8 {
        u8::try_from(self.sites.len()).unwrap_or(u8::MAX)
    }

    /// Lets time pass until `end`, or until something is violated.
    pub fn run_until(&mut self, end: At) {
        while !self.ended && self.queue.next().is_some_and(|at| at <= end) {
            let Some((at, event)) = self.queue.pop() else { break };
            self.now = at;
            self.happened += 1;
            self.happen(event);
            if self.oracle.violation().is_some() {
                self.ended = true;
                return;
            }
        }
        if !self.ended {
            self.now = self.now.max(end);
        }
    }

    /// Lets time pass until `done`, looked at every 50 ms, or until `limit` has passed; whether
    /// it was done.
    pub fn until(&mut self, limit: Duration, mut done: impl FnMut(&Self) -> bool) -> bool {
        let end = self.now.plus(limit);
        while self.now < end && !self.ended {
            if done(self) {
                return true;
            }
            let next = self.now.after(50_000).min(end);
            self.run_until(next);
        }
        done(self)
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Tick { voter, run } => self.tick(voter, run),
            Event::Synced { voter, run } => self.synced(voter, run),
            Event::Failed { voter, run, about } => self.delivery_failed(voter, run, about),
            Event::Eye { voter, run, id, second } => self.unseen(voter, run, id, second),
            Event::EyeAgain { voter, run, id } => self.look_again(voter, run, id),
            Event::AskNames { voter, run } => self.ask_names(voter, run),
            Event::Unasked { voter, run, server, question } => {
                self.unasked(voter, run, server, question);
            }
            Event::Arrive { plane, from, to, body } => self.arrive(plane, (from, to), *body),
            Event::Wal { channel, era, order, message } => {
                self.wal_arrives(channel, era, order, message);
            }
            Event::Wake { host } => self.wake(host),
            Event::Unknocked { host, token } => self.unknocked(host, token),
            Event::Ping { host, voter, token } => self.ping(host, voter, token),
            Event::ZonePing { server, voter, token } => self.zone_ping(server, voter, token),
            Event::Follow { server, run, voter } => self.follow_voter(server, run, voter),
            Event::Kept { server, run } => self.zone_kept(server, run),
            Event::Turn { client } => self.client_turn(client),
            Event::Late { client, session } => self.client_late(client, session),
            Event::AskAgain { ask } => self.ask_again(ask),
            Event::AskLate { ask, attempt } => self.ask_late(ask, attempt),
            Event::Deed { index } => self.deed_due(index),
        }
    }
}

/// The initial group: a voter at every site.
fn group(sites: &[SiteId]) -> BTreeMap<VoterId, failover::cluster::Voter> {
    let described = sites.iter().enumerate().map(|(place, site)| {
        let voter = failover::cluster::Voter {
            name: format!("voter-{site}"),
            site: site.clone(),
            address: voter_address(place),
            incarnation: None,
        };
        (VoterId(place as u64 + 1), voter)
    });
    described.collect()
}

/// Their machines, each with an empty disk.
fn voters(
    group: &BTreeMap<VoterId, failover::cluster::Voter>,
    dice: &mut Dice,
    clock_error: u64,
) -> Vec<Voter> {
    let initial: Vec<u64> = group.keys().map(|id| id.0).collect();
    let mut voters = Vec::new();
    for (place, (id, described)) in group.iter().enumerate() {
        let place = u8::try_from(place).unwrap_or(u8::MAX);
        let mut voter = Voter::new(*id, described.clone(), place, clock(dice, clock_error));
        voter.wipe(&initial);
        voters.push(voter);
    }
    voters
}

/// A machine's clocks: begun at some time before the run, a little too fast or too slow.
fn clock(dice: &mut Dice, error: u64) -> HostClock {
    let mut clock = HostClock::new(At(0), 1_000_000 + dice.roll(1 << 32));
    if error > 0 {
        let off = dice.roll(2 * error + 1);
        clock
            .set_rate(At(0), (crate::clock::TRUE_RATE + off * 1_000).saturating_sub(error * 1_000));
    }
    clock
}
