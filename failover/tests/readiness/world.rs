//! A cluster in which all is well, and what its leader has heard.

use std::time::Duration;

use failover::checks::{Checks, Exposures, FloorSettings, RewindReady};
use failover::cluster::{Outcome as Ended, Record, StepRecord, Trigger, Voter};
use failover::readiness::{Finding, Level, Looked, Readiness, Scope, SiteVerdict, look, readiness};
use failover::rehearse::Voters;
use failover::report::{NameServerAnswer, Observation};
use failover::survey::{Extension, Login, Prepared, Purpose, Software, Survey};
use failover::topology::NameServer;
use failover::{Epoch, Report, SiteId, Timestamp, TransitionId, VoterId};

use crate::support::{NAMES, Situation, clinic, id};

pub(crate) const WALL: Timestamp = Timestamp(1_700_000_000_000);
pub(crate) const YEAR: i64 = 365 * 86_400;

pub(crate) fn site(name: &str) -> SiteId {
    name.parse().unwrap()
}

pub(crate) fn measured(primary: bool) -> Checks {
    Checks {
        wal_free: Some(8 << 30),
        wal_need: Some(2 << 30),
        floor: Some(FloorSettings { max_connections: 100, ..FloorSettings::default() }),
        rewind: Some(RewindReady { hints: true, full_pages: true, granted: true }),
        exposures: primary.then(Exposures::default),
        ..Checks::default()
    }
}

pub(crate) fn survey(name: &str) -> Survey {
    let login = |to: &str, purpose| Login {
        to: id(to),
        purpose,
        failure: None,
        age: Duration::from_secs(5),
    };
    let others = || NAMES.into_iter().filter(|other| *other != name);
    let extension = Extension {
        name: "pg_trgm".into(),
        installed: "1.6".into(),
        available: Some("1.6".into()),
    };
    Survey {
        measured_ms: Some(3_000),
        every: Duration::from_secs(20),
        wall: WALL,
        certificate_seconds: Some(YEAR),
        logins: others()
            .flat_map(|to| [login(to, Purpose::Replication), login(to, Purpose::Rewind)])
            .collect(),
        prepared: (name == "a").then(Prepared::default),
        software: Some(Software { extensions: vec![extension], ..Software::default() }),
        replays: Some(100 << 20),
        paused: false,
    }
}

/// One cluster and its voters.
pub(crate) struct World {
    pub(crate) now: Situation,
    pub(crate) voters: Voters,
}

impl World {
    /// All is well; the voter of `c` leads.
    pub(crate) fn well() -> Self {
        let mut now = Situation::new();
        for (number, name) in (1..).zip(NAMES) {
            let address = format!("127.0.{number}.1:7400").parse().unwrap();
            let voter = Voter { name: name.into(), site: site(name), address, incarnation: None };
            now.cluster.voters.insert(VoterId(number), voter);
            let server = NameServer {
                site: site(name),
                address: format!("127.0.{number}.1:53").parse().unwrap(),
                public: None,
            };
            let label = format!("ns{number}").parse().unwrap();
            now.cluster.topology.dns.servers.insert(label, server);
        }
        let seats = now.cluster.voters.iter();
        let seats = seats.map(|(id, voter)| (*id, (Some(voter.site.clone()), true))).collect();
        let mut world = Self { now, voters: Voters { leader: VoterId(3), seats } };
        world.hear_all();
        world.now.cluster.transitions.insert(TransitionId(1), switched("b"));
        world
    }

    /// Everybody says again what was true in the beginning.
    pub(crate) fn hear_all(&mut self) {
        for name in NAMES {
            self.hear(name, |_, _| {});
        }
        let at = self.now.now;
        for number in 1..=3_u64 {
            let server: failover::NameServerId = format!("ns{number}").parse().unwrap();
            let writable = vec![(clinic(), vec!["127.0.0.1".parse().unwrap()])];
            let answer = NameServerAnswer::Serves { version: 0, writable, canaries: vec![] };
            let view = &mut self.now.view;
            view.observe(Observation::Asked { server: server.clone(), answer }, at);
            view.observe(Observation::Presented { server, certificate_seconds: YEAR }, at);
            let voter = VoterId(number);
            view.observe(Observation::Voter { voter, wall: WALL, certificate_seconds: YEAR }, at);
        }
        self.now.view.compare_clocks(WALL, at);
    }

    pub(crate) fn hear(&mut self, name: &str, change: impl FnOnce(&mut Report, &mut Survey)) {
        self.now.hear(name, |report| {
            report.checks = measured(name == "a");
            let mut said = survey(name);
            change(report, &mut said);
            report.survey = Some(Box::new(said));
        });
        self.now.view.compare_clocks(WALL, self.now.now);
    }

    pub(crate) fn answer(&self, scope: &Scope) -> Vec<Readiness> {
        let now = &self.now;
        readiness(&now.cluster, &now.view, &self.voters, scope, now.now)
    }

    pub(crate) fn all(&self) -> Readiness {
        self.answer(&Scope::default()).remove(0)
    }

    pub(crate) fn without(&self, name: &str) -> SiteVerdict {
        self.all().sites.into_iter().find(|verdict| verdict.site == site(name)).unwrap()
    }

    pub(crate) fn looked(&self) -> Vec<Looked> {
        let now = &self.now;
        look(&now.cluster, &clinic(), &now.view, &self.voters, now.now)
    }

    pub(crate) fn found(&self, check: &str) -> Vec<Finding> {
        self.looked().into_iter().find(|looked| looked.check == check).unwrap().findings
    }

    pub(crate) fn level(&self, check: &str) -> Level {
        self.looked().into_iter().find(|looked| looked.check == check).unwrap().level
    }
}

pub(crate) fn switched(to: &str) -> Record {
    let step = |name: &str, ms: u64| StepRecord {
        name: name.into(),
        at: Timestamp(0),
        voter: VoterId(1),
        monotonic_us: ms * 1_000,
        note: String::new(),
    };
    Record {
        id: TransitionId(1),
        service: clinic(),
        trigger: Trigger::Switchover,
        by: "alice".into(),
        cause: String::new(),
        plan: None,
        authority: None,
        given_up: None,
        drill: None,
        readiness: None,
        from: Some(id("a")),
        to: Some(id(to)),
        epoch: Epoch(0),
        steps: vec![
            step("started", 0),
            step("quiesce", 100),
            step("catch-up", 300),
            step("seal", 400),
            step("promote", 620),
            step("prove", 700),
            step("redirect", 740),
            step("verify", 800),
        ],
        examined: vec![],
        outcome: Ended::Done,
    }
}
