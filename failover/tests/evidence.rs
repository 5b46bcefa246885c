//! What counts as the loss of a primary, and what does not.

#![expect(clippy::unwrap_used, reason = "what cannot be made fails the test")]

use failover::cluster::{Cluster, Enforce, Hold, Published, Rule, Service, Step, Trigger};
use failover::event::{Change, ServiceChange};
use failover::position::Position;
use failover::report::{
    Down, Knock, Observation, Pledge, Port, Proof, Receiver, Report, Server, Stream,
};
use failover::topology::{Instance, OnLastCopy, ServiceSpec, Site, Topology};
use failover::{
    Epoch, Generation, InstanceId, Lsn, Moment, Request, Ruling, ServiceId, SystemIdentifier,
    Timeline, Timestamp, TransitionId, View, decide, lease, rule_on,
};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const NAMES: [&str; 3] = ["a", "b", "c"];

fn id(name: &str) -> InstanceId {
    name.parse().unwrap()
}

fn clinic() -> ServiceId {
    "clinic".parse().unwrap()
}

fn at(lsn: u64) -> Position {
    Position { timeline: Timeline(1), history: vec![], lsn: Lsn(lsn) }
}

/// Three sites `a`, `b`, `c`, each with an instance of the same name; `a` is the primary of epoch
/// 1 under `1 of b, c`.
fn cluster() -> Cluster {
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

fn report(name: &str, sequence: u64) -> Report {
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
        revision: failover::Revision(1),
        pledge: Pledge { sealed: Epoch(0), granted: Epoch(u64::from(primary)) },
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
        knock: None,
        notes: vec![],
        version: "15".into(),
    }
}

/// A leader of long standing that has just heard everyone.
struct Situation {
    cluster: Cluster,
    view: View,
    now: Moment,
    sequence: u64,
}

impl Situation {
    fn new() -> Self {
        let start = Moment(1_000_000_000);
        let mut situation =
            Self { cluster: cluster(), view: View::new(start), now: start, sequence: 0 };
        situation.pass(60_000);
        for name in NAMES {
            situation.hear(name, |_| {});
        }
        situation
    }

    fn pass(&mut self, ms: u64) {
        self.now = self.now.after(Duration::from_millis(ms));
    }

    fn hear(&mut self, name: &str, change: impl FnOnce(&mut Report)) {
        self.sequence += 1;
        let mut report = report(name, self.sequence);
        change(&mut report);
        self.view.hear(&self.cluster, report, self.now);
    }

    fn standbys(&mut self, streaming: bool) {
        for name in ["b", "c"] {
            self.hear(name, |report| {
                report.receiver =
                    Some(Receiver { upstream: id("a"), streaming, age: Duration::ZERO });
            });
        }
    }

    fn refused_from(&mut self, site: &str) {
        let knock = Knock {
            target: id("a"),
            from: site.parse().unwrap(),
            agent: Port::Refused,
            postgres: Port::Refused,
            age: Duration::ZERO,
        };
        self.view.observe(Observation::Knocked(knock), self.now);
    }

    fn verdict(&mut self) -> (Option<ServiceChange>, Vec<String>) {
        self.view.follow(&self.cluster, self.now);
        let verdict = decide(&self.cluster, &self.view, self.now).remove(&clinic()).unwrap();
        let change = verdict.change.map(|(change, _)| match change {
            Change::Service { change, .. } => change,
            Change::Topology { .. } | Change::VoterSet { .. } | Change::VoterRemoved { .. } => {
                panic!("a service's verdict is about the service")
            }
        });
        (change, verdict.findings.into_iter().map(|finding| finding.check).collect())
    }

    fn fails_over(&mut self) -> bool {
        matches!(
            self.verdict().0,
            Some(ServiceChange::Started { trigger: Trigger::PrimaryLost, step: Step::Seal, .. })
        )
    }

    fn blocked_by(&mut self, check: &str) -> bool {
        let (change, findings) = self.verdict();
        change.is_none() && findings.iter().any(|found| found == check)
    }
}

#[test]
fn a_healthy_service_is_left_alone() {
    assert_eq!(Situation::new().verdict().0, None);
}

/// SC-12: the control plane's way to the primary is cut, its stream lives.
#[test]
fn i24_i26_a_live_stream_is_proof_of_life() {
    let mut now = Situation::new();
    for _ in 0..20 {
        now.pass(500);
        now.standbys(true);
    }
    assert!(now.blocked_by("primary-streams"));
}

/// I-26: silence counts only once it has lasted, by every path.
#[test]
fn i26_silence_must_last_by_every_path() {
    let mut now = Situation::new();
    now.pass(2_900);
    now.standbys(false);
    assert!(!now.fails_over());
    now.pass(200);
    now.standbys(false);
    assert!(now.fails_over());
}

/// Layer 3: a stream that ended a moment ago vouches for the lease that it renewed.
#[test]
fn i02_a_stream_that_just_ended_is_waited_for() {
    let mut now = Situation::new();
    for _ in 0..20 {
        now.pass(500);
        now.standbys(true);
    }
    now.pass(500);
    now.standbys(false);
    assert!(!now.fails_over());
    for _ in 0..6 {
        now.pass(500);
        now.standbys(false);
    }
    assert!(now.fails_over());
}

#[test]
fn i26_two_other_sites_must_see_both_ports_refuse() {
    let mut now = Situation::new();
    now.pass(100);
    now.refused_from("a");
    now.refused_from("b");
    assert!(!now.fails_over(), "the primary's own site does not count");
    now.refused_from("c");
    assert!(now.fails_over());
    now.pass(10);
    now.hear("a", |_| {});
    assert!(!now.fails_over(), "heard since");
}

#[test]
fn i26_its_own_agent_says_that_it_died() {
    let mut now = Situation::new();
    now.pass(100);
    now.hear("a", |report| report.server = Server::Down(Down::Crashed));
    assert!(now.fails_over());
}

/// I-19, I-24: a new leader has no evidence, and takes nobody's silence before its own time.
#[test]
fn i19_a_new_leader_starts_deaf() {
    let mut now = Situation::new();
    now.view = View::new(now.now);
    now.pass(1_000);
    now.standbys(false);
    assert!(!now.fails_over());
    now.pass(2_100);
    now.standbys(false);
    assert!(now.fails_over());
}

#[test]
fn i06_without_enough_to_seal_nothing_is_begun() {
    let mut now = Situation::new();
    now.pass(3_100);
    now.hear("b", |report| report.receiver = None);
    assert!(now.blocked_by("seal-quorum"));
}

#[test]
fn i25_a_hold_and_an_unacknowledged_failover_bar_the_next() {
    let mut now = Situation::new();
    now.hear("a", |report| report.server = Server::Down(Down::Crashed));
    now.cluster.services.get_mut(&clinic()).unwrap().hold =
        Some(Hold { by: "x".into(), reason: "y".into(), since: Timestamp(0) });
    assert!(now.blocked_by("hold"));
    let service = now.cluster.services.get_mut(&clinic()).unwrap();
    service.hold = None;
    service.unacknowledged = Some(TransitionId(1));
    assert!(now.blocked_by("failover-window"));
    now.pass(601_000);
    now.standbys(true);
    now.hear("a", |report| report.server = Server::Down(Down::Crashed));
    assert!(now.fails_over(), "the window has passed");
}

/// I-12: a cancelled wait is recorded, and raises what a later primary must hold.
#[test]
fn i12_a_cancelled_wait_is_recorded() {
    let mut now = Situation::new();
    now.hear("a", |report| report.doubt = Some(at(150)));
    assert_eq!(now.verdict().0, Some(ServiceChange::Doubted { position: at(150) }));
}

/// I-05: a candidate must be earned.
#[test]
fn i05_a_switchover_needs_a_candidate_of_the_rule() {
    let mut now = Situation::new();
    let ask = |to: &str| Request::Switchover {
        service: clinic(),
        to: Some(id(to)),
        reason: "because".into(),
    };
    let rule = |now: &Situation, to| {
        let by = ("operator", Timestamp(0));
        matches!(rule_on(&now.cluster, &now.view, &ask(to), by, now.now), Ruling::Granted { .. })
    };
    assert!(rule(&now, "b"));
    assert!(!rule(&now, "a"), "the primary already");
    assert!(!rule(&now, "stranger"));
    now.cluster.services.get_mut(&clinic()).unwrap().rule.instances = [id("c")].into();
    assert!(!rule(&now, "b"), "not in the rule");
}

/// I-19, I-20: a lease is for the primary that accepted the epoch, and for nobody on the way out.
#[test]
fn i20_a_lease_is_for_the_accepted_epoch_only() {
    let mut cluster = cluster();
    assert_eq!(lease::grant(&cluster, &report("a", 1)), Some(Epoch(1)));
    assert_eq!(lease::grant(&cluster, &report("b", 1)), None);
    cluster.services.get_mut(&clinic()).unwrap().epoch = Epoch(2);
    assert_eq!(lease::grant(&cluster, &report("a", 1)), None);
}
