//! Three sites and what is heard of them, for tests of the law.

#![allow(dead_code, reason = "each test file uses its part of it")]

use failover::checks::Checks;
use failover::cluster::{Cluster, Enforce, Published, Rule, Service, Step, Trigger};
use failover::comply::{Configured, Divergence};
use failover::event::{Change, ServiceChange};
use failover::position::Position;
use failover::report::{Knock, Observation, Pledge, Port, Proof, Receiver, Report, Server, Stream};
use failover::topology::{Instance, OnLastCopy, ServiceSpec, Site, Topology};
use failover::{
    Epoch, Generation, InstanceId, Local, Lsn, Moment, ServiceId, SystemIdentifier, Timeline, View,
    decide,
};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub const NAMES: [&str; 3] = ["a", "b", "c"];

pub fn id(name: &str) -> InstanceId {
    name.parse().unwrap()
}

pub fn clinic() -> ServiceId {
    "clinic".parse().unwrap()
}

pub fn at(lsn: u64) -> Position {
    Position { timeline: Timeline(1), history: vec![], lsn: Lsn(lsn) }
}

/// Three sites `a`, `b`, `c`, each with an instance of the same name; `a` is the primary of epoch
/// 1 under `1 of b, c`.
pub fn cluster() -> Cluster {
    let instance = |index: usize| Instance {
        site: NAMES[index].parse().unwrap(),
        postgres: format!("127.0.{index}.1:5432").parse().unwrap(),
        agent: format!("127.0.{index}.1:7500").parse().unwrap(),
        public: None,
    };
    let spec = ServiceSpec {
        writable: "clinic".into(),
        read_only: "clinic-ro".into(),
        aliases: vec![],
        required: 1,
        on_last_copy: OnLastCopy::Block,
        client_access: vec![],
        instances: (0..3).map(|index| (id(NAMES[index]), instance(index))).collect(),
        preference: NAMES.map(id).to_vec(),
    };
    let standbys: BTreeSet<InstanceId> = [id("b"), id("c")].into();
    let mut service = Service::new(spec.clone(), failover::Revision(1));
    service.epoch = Epoch(1);
    service.primary = Some(id("a"));
    service.system_identifier = Some(SystemIdentifier(7));
    service.published = Some(Published { instance: id("a"), epoch: Epoch(1) });
    service.rule = Rule {
        generation: Generation(1),
        instances: standbys.clone(),
        required: 1,
        enforce: Enforce { instances: standbys, required: 1 },
    };
    Cluster {
        topology: Topology {
            sites: NAMES.map(|name| (name.parse().unwrap(), Site::default())).into(),
            services: BTreeMap::from([(clinic(), spec)]),
            ..Topology::default()
        },
        services: BTreeMap::from([(clinic(), service)]),
        ..Cluster::default()
    }
}

pub fn report(name: &str, sequence: u64) -> Report {
    let primary = name == "a";
    let standby = |other: &str| Stream {
        instance: id(other),
        streaming: true,
        flushed: Lsn(100),
        caught_up: true,
    };
    Report {
        service: clinic(),
        instance: id(name),
        run: 1,
        sequence,
        echo: None,
        revision: failover::Revision(1),
        pledge: Pledge { sealed: Epoch(0), granted: Epoch(u64::from(primary)), isolated: None },
        server: if primary {
            Server::Writable { position: at(100), admits: true, checkpoint: Timeline(1) }
        } else {
            Server::Recovery { position: at(100), replayed: Lsn(100), admits: true }
        },
        system_identifier: Some(SystemIdentifier(7)),
        sealed_at: None,
        proof: primary.then_some(Proof { epoch: Epoch(1), age: Duration::ZERO }),
        enforced: primary.then_some(Generation(1)),
        prepared: None,
        streams: if primary { vec![standby("b"), standby("c")] } else { vec![] },
        receiver: (!primary).then(|| Receiver {
            upstream: id("a"),
            streaming: true,
            age: Duration::ZERO,
        }),
        doubt: None,
        looked: Some(Duration::ZERO),
        knock: None,
        notes: vec![],
        version: "15".into(),
        checks: Checks::default(),
        rehearsed: None,
        survey: None,
    }
}

/// A leader of long standing that has just heard everyone.
pub struct Situation {
    pub cluster: Cluster,
    pub view: View,
    pub now: Moment,
    pub sequence: u64,
}

impl Situation {
    pub fn new() -> Self {
        let start = Moment(1_000_000_000);
        let mut situation =
            Self { cluster: cluster(), view: View::new(1, start), now: start, sequence: 0 };
        situation.pass(60_000);
        for name in NAMES {
            situation.hear(name, |_| {});
        }
        situation
    }

    pub fn pass(&mut self, ms: u64) {
        self.now = self.now.after(Duration::from_millis(ms));
    }

    pub fn hear(&mut self, name: &str, change: impl FnOnce(&mut Report)) {
        self.sequence += 1;
        let mut report = report(name, self.sequence);
        report.echo = Some(self.view.echo(self.now));
        change(&mut report);
        self.view.hear(&self.cluster, report, self.now);
    }

    /// Time passes, and these go on saying what they said last.
    pub fn pass_with(&mut self, ms: u64, names: &[&str]) {
        let mut left = ms;
        while left > 0 {
            let step = left.min(400);
            self.pass(step);
            left -= step;
            for name in names {
                let last = self.view.reports[&id(name)].report.clone();
                self.hear(name, |report| {
                    let (sequence, echo) = (report.sequence, report.echo);
                    *report = Report { sequence, echo, ..last };
                    if let Some(receiver) = &mut report.receiver {
                        receiver.age += Duration::from_millis(step);
                    }
                });
            }
        }
    }

    pub fn standbys(&mut self, streaming: bool) {
        for name in ["b", "c"] {
            self.hear(name, |report| {
                report.receiver =
                    Some(Receiver { upstream: id("a"), streaming, age: Duration::ZERO });
            });
        }
    }

    pub fn refused_from(&mut self, site: &str) {
        let knock = Knock {
            target: id("a"),
            from: site.parse().unwrap(),
            agent: Port::Refused,
            postgres: Port::Refused,
            age: Duration::ZERO,
        };
        self.view.observe(Observation::Knocked(knock), self.now);
    }

    pub fn verdict(&mut self) -> (Option<ServiceChange>, Vec<String>) {
        self.view.follow(&self.cluster, self.now);
        let verdict = decide(&self.cluster, &self.view, self.now).remove(&clinic()).unwrap();
        let change = verdict.change.map(|(change, _)| match change {
            Change::Service { change, .. } => change,
            Change::Topology { .. }
            | Change::VoterSet { .. }
            | Change::VoterRemoved { .. }
            | Change::Asked { .. }
            | Change::Withdrawn { .. }
            | Change::Noted { .. }
            | Change::Drill { .. }
            | Change::Occasion { .. }
            | Change::Alert { .. } => panic!("a service's verdict is about the service"),
        });
        (change, verdict.findings.into_iter().map(|finding| finding.check).collect())
    }

    pub fn fails_over(&mut self) -> bool {
        matches!(
            self.verdict().0,
            Some(ServiceChange::Started { trigger: Trigger::PrimaryLost, step: Step::Seal, .. })
        )
    }

    pub fn blocked_by(&mut self, check: &str) -> bool {
        let (change, findings) = self.verdict();
        change.is_none() && findings.iter().any(|found| found == check)
    }
}

/// An instance that has accepted the epoch `granted`, and nothing else is to be said of it.
pub fn local(server: Server, granted: u64) -> Local {
    Local {
        server,
        system_identifier: Some(SystemIdentifier(7)),
        pledge: Pledge { granted: Epoch(granted), sealed: Epoch(0), isolated: None },
        configured: Configured::default(),
        sealed: false,
        serves: false,
        proven: None,
        enforced: None,
        prepared: None,
        divergence: Divergence::None,
        leased: None,
        committed: None,
        started: Moment(0),
        down_since: Moment(0),
        informed: true,
        assigned: None,
        isolated: None,
    }
}
