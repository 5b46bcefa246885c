//! A simulated world for the law: agents that comply, a coarse PostgreSQL, one replicated log
//! with changing leaders, sites that die and links that are cut. Same seed, same run.
//!
//! The oracle shares nothing with the law: it keeps its own list of acknowledged commits and its
//! own copy of what every instance has written.

use crate::instance::{Host, Link};
use failover::cluster::Cluster;
use failover::event::{Change, Event, Stamp};
use failover::report::{NameServerAnswer, Observation};
use failover::topology::Topology;
use failover::{
    Answer, InstanceId, Moment, NameServerId, Report, Request, Ruling, ServiceId, SiteId,
    Timestamp, View, apply, assignment, decide, lease, rule_on, zone,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// Small, fast, repeatable dice.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Dice that fall the same way for the same seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32_D192_ED03)
    }

    /// A number from `0` to `below - 1`; 0 when `below` is 0.
    pub fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)).checked_rem(below).unwrap_or(0)
    }
}

/// How far one step of the world goes.
pub const STEP: Duration = Duration::from_millis(10);

/// The world.
pub struct World {
    /// Now, on every clock: this world has one rate of time.
    pub now: Moment,
    /// Chance.
    pub dice: Dice,
    /// The replicated state.
    pub cluster: Cluster,
    /// The leader's evidence, while there is a leader.
    view: Option<View>,
    leader: Option<SiteId>,
    /// Changes proposed: when they commit.
    proposals: VecDeque<(Moment, Event)>,
    /// The machines.
    pub hosts: BTreeMap<InstanceId, Host>,
    /// Links that are cut, both ways.
    pub cuts: BTreeSet<Link>,
    /// Sites that are dead.
    pub dead: BTreeSet<SiteId>,
    /// Zone version that each name server serves.
    served: BTreeMap<NameServerId, u32>,
    /// Every commit that a client was told is durable.
    pub acknowledged: BTreeSet<u64>,
    next_commit: u64,
    /// What happened, for people.
    pub transcript: Vec<String>,
    /// The first thing that must not be.
    pub violation: Option<String>,
}

impl World {
    /// A world of empty machines.
    #[must_use]
    pub fn new(seed: u64, topology: &Topology) -> Self {
        let mut cluster = Cluster::default();
        let change = Change::Topology { expected: 0, topology: Box::new(topology.clone()) };
        let event =
            Event { stamp: Stamp::default(), by: "seed".into(), cause: String::new(), change };
        apply(&mut cluster, &event);
        let mut hosts = BTreeMap::new();
        for (id, service) in &topology.services {
            for (instance, declared) in &service.instances {
                let host = Host::new(id.clone(), instance.clone(), declared.site.clone());
                hosts.insert(instance.clone(), host);
            }
        }
        let served = topology.dns.servers.keys().map(|id| (id.clone(), 0)).collect();
        Self {
            now: Moment(1_000_000),
            dice: Dice::new(seed),
            cluster,
            view: None,
            leader: None,
            proposals: VecDeque::new(),
            hosts,
            cuts: BTreeSet::new(),
            dead: BTreeSet::new(),
            served,
            acknowledged: BTreeSet::new(),
            next_commit: 1,
            transcript: Vec::new(),
            violation: None,
        }
    }

    fn say(&mut self, text: &str) {
        let seconds = self.now.since(Moment(1_000_000)).as_secs_f64();
        self.transcript.push(format!("{seconds:>8.2}s  {text}"));
    }

    /// Whether two sites reach each other.
    #[must_use]
    pub fn reaches(&self, a: &SiteId, b: &SiteId) -> bool {
        !self.dead.contains(a)
            && !self.dead.contains(b)
            && (a == b || !self.cuts.contains(&Link::between(a, b)))
    }

    /// A whole site dies.
    pub fn kill(&mut self, site: &SiteId) {
        self.say(&format!("KILL {site}"));
        self.dead.insert(site.clone());
        let now = self.now;
        self.hosts.values_mut().filter(|host| host.site == *site).for_each(|host| host.crash(now));
    }

    /// A dead site comes back, every process new.
    pub fn revive(&mut self, site: &SiteId) {
        self.say(&format!("REVIVE {site}"));
        self.dead.remove(site);
        let now = self.now;
        let salt = self.dice.roll(u64::MAX);
        self.hosts
            .values_mut()
            .filter(|host| host.site == *site)
            .for_each(|host| host.boot(now, salt));
    }

    /// PostgreSQL of one instance is killed under its agent.
    pub fn kill_postgres(&mut self, instance: &InstanceId) {
        self.say(&format!("KILL POSTGRES {instance}"));
        let now = self.now;
        if let Some(host) = self.hosts.get_mut(instance) {
            host.kill_postgres(now);
        }
    }

    /// A site is cut off from all others, alive inside.
    pub fn cut_off(&mut self, site: &SiteId) {
        self.say(&format!("CUT {site}"));
        let others: Vec<SiteId> = self.cluster.topology.sites.keys().cloned().collect();
        for other in others.iter().filter(|other| *other != site) {
            self.cuts.insert(Link::between(site, other));
        }
    }

    /// All links are whole again.
    pub fn heal(&mut self) {
        self.say("HEAL");
        self.cuts.clear();
    }

    /// An operator asks; whether it was granted.
    pub fn ask(&mut self, request: &Request) -> bool {
        let Some(view) = &self.view else { return false };
        match rule_on(&self.cluster, view, request, ("operator", Timestamp(0)), self.now) {
            Ruling::Granted { change, cause } => {
                self.propose(*change, cause);
                true
            }
            Ruling::Refused(findings) => {
                let text = findings.first().map(|f| f.text.clone()).unwrap_or_default();
                self.say(&format!("refused: {text}"));
                false
            }
        }
    }

    fn propose(&mut self, change: Change, cause: String) {
        let delay = Duration::from_millis(2 + self.dice.roll(20));
        let event = Event { stamp: Stamp::default(), by: "baton".into(), cause, change };
        self.proposals.push_back((self.now.after(delay), event));
    }

    /// One step of everything.
    pub fn step(&mut self) {
        self.now = self.now.after(STEP);
        self.elect();
        self.commit();
        self.stream();
        self.write();
        self.agents();
        self.name_servers();
        self.judge();
        self.check();
    }

    /// Steps until `done` or for `limit`; whether it was done.
    pub fn until(&mut self, limit: Duration, done: impl Fn(&Self) -> bool) -> bool {
        let end = self.now.after(limit);
        while self.now < end && self.violation.is_none() {
            if done(self) {
                return true;
            }
            self.step();
        }
        done(self)
    }

    /// A leader is one that reaches a majority of sites. Losing it loses what it had proposed.
    fn elect(&mut self) {
        let sites: Vec<SiteId> = self.cluster.topology.sites.keys().cloned().collect();
        let majority = |world: &Self, site: &SiteId| {
            sites.iter().filter(|other| world.reaches(site, other)).count() * 2 > sites.len()
        };
        let stands = self.leader.as_ref().is_some_and(|leader| majority(self, leader));
        let deposed = self.dice.roll(20_000) == 0;
        if stands && !deposed {
            return;
        }
        if self.leader.take().is_some() {
            self.view = None;
            self.proposals.clear();
        }
        // An election takes a while.
        if self.dice.roll(60) != 0 {
            return;
        }
        let fit: Vec<&SiteId> = sites.iter().filter(|site| majority(self, site)).collect();
        let choice = usize::try_from(self.dice.roll(fit.len() as u64)).unwrap_or(0);
        self.leader = fit.get(choice).map(|site| (*site).clone());
        self.view = self.leader.as_ref().map(|_| View::new(self.now));
    }

    fn commit(&mut self) {
        while self.proposals.front().is_some_and(|(at, _)| *at <= self.now) {
            let Some((_, event)) = self.proposals.pop_front() else { return };
            if apply(&mut self.cluster, &event)
                && let Some(entry) = self.cluster.history.back()
            {
                let text = entry.text.clone();
                self.say(&text);
            }
        }
    }

    /// Replication: who follows a primary that it reaches gets what it lacks.
    fn stream(&mut self) {
        let sources: BTreeMap<InstanceId, Host> = self
            .hosts
            .iter()
            .filter(|(_, host)| host.is_writable())
            .map(|(id, host)| (id.clone(), host.clone()))
            .collect();
        let (now, dead, cuts) = (self.now, &self.dead, &self.cuts);
        for host in self.hosts.values_mut() {
            let source = host.upstream().and_then(|upstream| sources.get(&upstream)).filter(|s| {
                let link = Link::between(&s.site, &host.site);
                !dead.contains(&host.site) && (s.site == host.site || !cuts.contains(&link))
            });
            let burst = 1 + self.dice.roll(50);
            host.receive(source, burst, now);
        }
    }

    /// A client writes at every instance that lets it; the oracle notes what is acknowledged.
    fn write(&mut self) {
        let names: Vec<InstanceId> = self.hosts.keys().cloned().collect();
        for name in names {
            let flushed = self.flushed(&name);
            let Some(host) = self.hosts.get_mut(&name) else { continue };
            if host.admits_writes() && self.dice.roll(2) == 0 {
                host.append(self.next_commit);
                self.next_commit += 1;
            }
            for commit in host.release(&flushed, self.now) {
                self.acknowledged.insert(commit);
            }
        }
    }

    /// What each standby that streams from `source` holds of it, as a length of its log.
    fn flushed(&self, source: &InstanceId) -> BTreeMap<InstanceId, usize> {
        self.hosts
            .iter()
            .filter(|(_, host)| host.streams_from(source, self.now))
            .map(|(id, host)| (id.clone(), host.length()))
            .collect()
    }

    fn agents(&mut self) {
        let names: Vec<InstanceId> = self.hosts.keys().cloned().collect();
        for name in names {
            let upstream = self
                .hosts
                .get(&name)
                .and_then(Host::upstream_wanted)
                .and_then(|id| self.hosts.get(&id))
                .cloned();
            let Some(host) = self.hosts.get(&name) else { continue };
            if self.dead.contains(&host.site) {
                continue;
            }
            let site = host.site.clone();
            let reachable = upstream.filter(|source| self.reaches(&site, &source.site));
            let flushed = self.flushed(&name);
            let knock = self.knock(&name);
            let dice = self.dice.roll(u64::MAX);
            let (now, timing) = (self.now, self.cluster.topology.timing.clone());
            let Some(host) = self.hosts.get_mut(&name) else { continue };
            host.live(reachable.as_ref(), now, dice);
            let due = host.report(&flushed, knock, &timing, now);
            if let Some((report, sent)) = due {
                self.deliver(&name, report, sent);
            }
        }
    }

    /// What a standby finds at its primary's ports while its stream is broken.
    fn knock(&self, name: &InstanceId) -> Option<failover::report::Knock> {
        use failover::report::{Knock, Port};
        let host = self.hosts.get(name)?;
        let target = host.upstream_wanted()?;
        let other = self.hosts.get(&target)?;
        if host.streams_from(&target, self.now) {
            return None;
        }
        let cut =
            host.site != other.site && self.cuts.contains(&Link::between(&host.site, &other.site));
        // A dead site of this world is one whose machine still refuses.
        let port = |up: bool| match (cut, up) {
            (true, _) => Port::Silent,
            (false, true) => Port::Open,
            (false, false) => Port::Refused,
        };
        let alive = !self.dead.contains(&other.site);
        Some(Knock {
            target,
            from: host.site.clone(),
            agent: port(alive),
            postgres: port(alive && other.is_running()),
            age: Duration::ZERO,
        })
    }

    fn deliver(&mut self, name: &InstanceId, report: Report, sent: Moment) {
        let Some(host) = self.hosts.get(name) else { return };
        let Some(leader) = self.leader.clone() else { return };
        // Through any voter that it reaches and that reaches the leader.
        let through = self
            .cluster
            .topology
            .sites
            .keys()
            .any(|voter| self.reaches(&host.site, voter) && self.reaches(voter, &leader));
        if !through {
            return;
        }
        let granted = lease::grant(&self.cluster, &report);
        if let Some(view) = &mut self.view {
            view.hear(&self.cluster, report, self.now);
        }
        let Some(assignment) = assignment(&self.cluster, name) else { return };
        let answer = Answer { assignment, lease: granted, leader: None };
        if let Some(host) = self.hosts.get_mut(name) {
            host.hear(answer, sent);
        }
    }

    fn name_servers(&mut self) {
        let version = zone(&self.cluster).version;
        let servers = self.cluster.topology.dns.servers.clone();
        for (id, server) in servers {
            let follows = !self.dead.contains(&server.site)
                && self.leader.as_ref().is_some_and(|leader| self.reaches(&server.site, leader));
            if follows && self.dice.roll(3) == 0 {
                self.served.insert(id.clone(), version);
            }
            let Some(leader) = &self.leader else { continue };
            let answer = if self.dead.contains(&server.site) {
                NameServerAnswer::Refused
            } else if self.reaches(&server.site, leader) {
                NameServerAnswer::Serves {
                    version: self.served.get(&id).copied().unwrap_or(0),
                    writable: self.writable(),
                }
            } else {
                NameServerAnswer::Silent
            };
            if let Some(view) = &mut self.view {
                view.observe(Observation::Asked { server: id, answer }, self.now);
            }
        }
    }

    fn writable(&self) -> Vec<(ServiceId, Vec<std::net::IpAddr>)> {
        self.cluster
            .services
            .iter()
            .filter_map(|(id, service)| {
                let published = service.published.as_ref()?;
                let instance = service.spec.instances.get(&published.instance)?;
                Some((id.clone(), vec![instance.client_address()]))
            })
            .collect()
    }

    fn judge(&mut self) {
        let Some(view) = &mut self.view else { return };
        view.follow(&self.cluster, self.now);
        if !self.proposals.is_empty() {
            return;
        }
        let verdicts = decide(&self.cluster, view, self.now);
        for verdict in verdicts.into_values() {
            if let Some((change, cause)) = verdict.change {
                self.propose(change, cause);
            }
        }
    }

    /// The oracle: whoever serves holds everything that ever was acknowledged, and nobody of an
    /// older epoch serves beside it.
    fn check(&mut self) {
        let newest = self
            .hosts
            .iter()
            .filter(|(_, host)| host.admits_writes())
            .max_by_key(|(_, host)| host.granted());
        let Some((newest, first)) = newest else { return };
        let beside = self
            .hosts
            .iter()
            .find(|(id, host)| *id != newest && host.admits_writes())
            .map(|(id, _)| format!("I-02: {id} still serves while {newest} does"));
        let missing = first
            .lacks(&self.acknowledged)
            .map(|n| format!("I-01: {newest} serves as primary without acknowledged commit {n}"));
        if let Some(text) = missing.or(beside) {
            self.say(&text);
            self.violation = Some(text);
        }
    }
}
