//! A cluster in which all is well, whose drills are judged and whose switchovers go through.

use failover::cluster::{Enforce, Rule, Step};
use failover::drill::{self, Drill, Kind, Outcome, Stage};
use failover::event::{Change, Event, Seen, ServiceChange, Stamp};
use failover::report::{
    NameServerAnswer, Observation, Pledge, Proof, Receiver, Report, Server, Stream,
};
use failover::survey::Survey;
use failover::zone::{Data, zone};
use failover::{
    DrillId, Generation, InstanceId, Lsn, Request, Ruling, Timeline, Timestamp, apply, rule_on,
};
use std::time::Duration;

use crate::support::{NAMES, at, clinic, id};
use crate::world::{self, World};

/// A cluster in which all is well, with a clock on the wall.
pub(crate) struct Exercise {
    pub(crate) world: World,
    pub(crate) wall: Timestamp,
}

pub(crate) const DWELL: Duration = Duration::from_mins(5);

pub(crate) fn asks(kind: Kind) -> Request {
    let (service, reason) = (clinic(), "quarterly".into());
    let to = matches!(kind, Kind::Dns | Kind::Switchover).then(|| id("b"));
    let (dwell, at_most) = (DWELL, None);
    Request::Drill { kind, service, to, dwell, at_most, despite_hours: false, reason }
}

impl Exercise {
    pub(crate) fn well() -> Self {
        Self { world: World::well(), wall: world::WALL }
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        let ms = u64::try_from(time.as_millis()).unwrap();
        self.world.now.pass(ms);
        self.wall.0 += i64::try_from(ms).unwrap();
    }

    /// Time passes, and all but one go on saying what they said last.
    pub(crate) fn pass_without(&mut self, silent: &str, time: Duration) {
        let others: Vec<&str> = NAMES.into_iter().filter(|name| *name != silent).collect();
        let ms = u64::try_from(time.as_millis()).unwrap();
        self.world.now.pass_with(ms, &others);
        self.wall.0 += i64::try_from(ms).unwrap();
    }

    pub(crate) fn ask(&mut self, request: &Request) -> Ruling {
        let now = &mut self.world.now;
        now.view.follow(&now.cluster, now.now);
        rule_on(&now.cluster, &now.view, request, ("alice", self.wall), now.now)
    }

    pub(crate) fn refused_by(&mut self, request: &Request) -> String {
        match self.ask(request) {
            Ruling::Refused(findings) => findings[0].check.clone(),
            Ruling::Granted { .. } => panic!("it is granted: {request:?}"),
        }
    }

    pub(crate) fn granted(&mut self, request: &Request) {
        match self.ask(request) {
            Ruling::Granted { change, cause } => assert!(self.happens(*change, cause, "alice")),
            Ruling::Refused(findings) => panic!("{findings:#?}"),
        }
    }

    pub(crate) fn happens(&mut self, change: Change, cause: String, by: &str) -> bool {
        let stamp = Stamp { at: self.wall, monotonic_us: self.world.now.now.0, ..Stamp::default() };
        let event = Event { stamp, by: by.into(), cause, plan: None, authority: None, change };
        apply(&mut self.world.now.cluster, &event)
    }

    /// What the law says of the open drill.
    pub(crate) fn verdict(&mut self) -> Option<drill::DrillVerdict> {
        let (now, voters) = (&mut self.world.now, &self.world.voters);
        now.view.follow(&now.cluster, now.now);
        drill::watch(&mut now.view, &now.cluster, voters, now.now);
        drill::decide(&now.cluster, &now.view, voters, (self.wall, now.now))
    }

    /// What is decided happens; `false`: nothing is.
    pub(crate) fn goes_on(&mut self) -> bool {
        let Some((change, cause)) = self.verdict().and_then(|verdict| verdict.change) else {
            return false;
        };
        assert!(self.happens(change, cause, "drill 1"));
        true
    }

    /// What it waits for.
    pub(crate) fn waits(&mut self) -> Vec<String> {
        let verdict = self.verdict().unwrap();
        assert_eq!(verdict.change, None);
        verdict.findings.into_iter().map(|finding| finding.check).collect()
    }

    pub(crate) fn drill(&self) -> &Drill {
        &self.world.now.cluster.drills[&DrillId(1)]
    }

    pub(crate) fn stage(&self) -> Stage {
        assert!(self.drill().is_open(), "{:?}", self.drill().outcome);
        self.drill().stage
    }

    pub(crate) fn primary(&self) -> InstanceId {
        self.world.now.cluster.services[&clinic()].primary.clone().unwrap()
    }

    pub(crate) fn of_service(&mut self, change: ServiceChange) {
        let service = &self.world.now.cluster.services[&clinic()];
        let (epoch, generation) = (service.epoch, service.rule.generation);
        let seen = Seen { epoch, step: service.step(), generation };
        let change = Change::Service { service: clinic(), seen, change };
        assert!(self.happens(change, "because".into(), "baton"));
    }

    /// The open transition goes through to its end.
    pub(crate) fn switches_to(&mut self, name: &str) {
        while self.world.now.cluster.services[&clinic()].step() != Some(Step::Seal) {
            self.of_service(ServiceChange::StepDone);
        }
        let rest: std::collections::BTreeSet<InstanceId> =
            NAMES.into_iter().filter(|other| *other != name).map(id).collect();
        let enforce = Enforce { instances: rest.clone(), required: 1 };
        let rule = Rule { generation: Generation(0), instances: rest, required: 1, enforce };
        self.of_service(ServiceChange::PrimaryChosen {
            primary: id(name),
            position: Some(at(100)),
            rule,
            examined: vec![],
        });
        while self.world.now.cluster.services[&clinic()].transition.is_some() {
            self.of_service(ServiceChange::StepDone);
        }
        self.all_is_well();
    }

    /// Everybody says that all is well with the present primary.
    pub(crate) fn all_is_well(&mut self) {
        self.all_is_well_but(|_, _, _| {});
    }

    /// The same, with something changed in what some of them say.
    pub(crate) fn all_is_well_but(&mut self, change: impl Fn(&str, &mut Report, &mut Survey)) {
        self.world.hear_all();
        let primary = self.primary();
        let site = NAMES.iter().position(|name| id(name) == primary).unwrap();
        self.name_servers_say(&format!("127.0.{site}.1"), None);
        let service = &self.world.now.cluster.services[&clinic()];
        let (epoch, generation) = (service.epoch, service.rule.generation);
        for name in NAMES {
            let others = || NAMES.into_iter().filter(|other| *other != name);
            let leads = id(name) == primary;
            let upstream = primary.clone();
            self.world.hear(name, |report, survey| {
                let none = Pledge::default();
                report.pledge = if leads { Pledge { granted: epoch, ..none } } else { none };
                let position = at(100);
                report.server = if leads {
                    Server::Writable { position, admits: true, checkpoint: Timeline(1) }
                } else {
                    Server::Recovery { position, replayed: Lsn(100), admits: true }
                };
                report.checks = world::measured(leads);
                survey.prepared = leads.then(Default::default);
                report.proof = leads.then_some(Proof { epoch, age: Duration::ZERO });
                report.enforced = leads.then_some(generation);
                let streams = others().map(|other| Stream {
                    instance: id(other),
                    streaming: true,
                    flushed: Lsn(100),
                    caught_up: true,
                });
                report.streams = if leads { streams.collect() } else { vec![] };
                let receiver = Receiver { upstream, streaming: true, age: Duration::ZERO };
                report.receiver = (!leads).then_some(receiver);
                change(name, report, survey);
            });
        }
    }

    /// As far as the dwell.
    pub(crate) fn dwells() -> Self {
        let mut exercise = Self::well();
        exercise.granted(&asks(Kind::Switchover));
        assert!(exercise.goes_on(), "{:?}", exercise.verdict());
        assert!(exercise.goes_on() && exercise.stage() == Stage::There);
        exercise.switches_to("b");
        assert!(exercise.goes_on());
        assert_eq!((exercise.stage(), exercise.primary()), (Stage::Dwell, id("b")));
        exercise
    }

    pub(crate) fn outcome(&mut self) -> &Outcome {
        assert!(self.goes_on(), "it is not over: {:?}", self.waits());
        assert!(!self.drill().is_open(), "{:#?}", self.drill());
        &self.drill().outcome
    }
}

impl Exercise {
    /// Name servers answer, all but `but`: with the present zone, and the canary at `address`.
    pub(crate) fn name_servers_say(&mut self, address: &str, but: Option<&str>) {
        let primary = self.primary();
        let now = &mut self.world.now;
        let spec = &now.cluster.services[&clinic()].spec;
        let primary = spec.instances[&primary].client_address();
        for name in ["ns1", "ns2", "ns3"].into_iter().filter(|name| Some(*name) != but) {
            let answer = NameServerAnswer::Serves {
                version: now.cluster.zone_version,
                writable: vec![(clinic(), vec![primary])],
                canaries: vec![(clinic(), vec![address.parse().unwrap()])],
            };
            let server = name.parse().unwrap();
            now.view.observe(Observation::Asked { server, answer }, now.now);
        }
    }

    pub(crate) fn canary(&self) -> Vec<Data> {
        let records = zone(&self.world.now.cluster).records.remove("_canary.clinic");
        records.unwrap_or_default()
    }
}

pub(crate) fn gives_up() -> Request {
    Request::AbortDrill { drill: DrillId(1), reason: "a storm".into() }
}
