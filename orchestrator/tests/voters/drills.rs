//! Drills with real voters: begun, outliving a leader, held by the calendar or missed; and `baton`.

use std::process::Output;
use std::time::Duration;

use failover::calendar::{Calendar, Entry, Occasion};
use failover::drill::{Drill, Kind, Outcome};
use failover::ids::VoterId;
use failover::position::Position;
use failover::report::{
    NameServerAnswer, Observation, Pledge, Proof, Receiver, Report, Server, Stream,
};
use failover::topology::{NameServer, OnLastCopy, Topology};
use failover::{DrillId, Epoch, Lsn, Request, ScheduleId, SystemIdentifier, Timeline, Timestamp};
use orchestrator::answers::{CalendarTold, DrillPlan, DrillTold, Status};
use orchestrator::replica::{Input, Query, Reply};

use crate::http::{Group, code, declare, get};
use crate::on_record::Baton;
use crate::world::{World, absent, instance, service, topology};

fn at() -> Position {
    Position { timeline: Timeline(1), history: Vec::new(), lsn: Lsn(100) }
}

/// What an instance of a service says in which all is well, as far as a drill needs it.
fn well(world: &World, leader: VoterId, site: u64, sequence: u64) -> Report {
    let state = &world.voters[&leader].cluster().services[&service()];
    let (age, position) = (Duration::ZERO, at());
    if state.primary.is_none() {
        return absent(site, sequence);
    }
    let known = Report { system_identifier: Some(SystemIdentifier(7)), ..absent(site, sequence) };
    if state.primary == Some(instance(site)) {
        let (streaming, caught_up) = (true, true);
        let stream = Stream { instance: instance(2), streaming, flushed: Lsn(100), caught_up };
        return Report {
            pledge: Pledge { granted: state.epoch, ..Pledge::default() },
            server: Server::Writable { position, admits: true, checkpoint: Timeline(1) },
            proof: Some(Proof { epoch: state.epoch, age }),
            enforced: Some(state.rule.generation),
            streams: vec![stream],
            ..known
        };
    }
    Report {
        server: Server::Recovery { position, replayed: Lsn(100), admits: true },
        receiver: Some(Receiver { upstream: instance(1), streaming: true, age }),
        ..known
    }
}

/// A world whose service has a primary that serves, and nothing to do.
struct Served {
    world: World,
    sequence: u64,
}

impl Served {
    fn new(seed: u64) -> Self {
        let mut served = Self { world: World::new(3, seed), sequence: 0 };
        served.world.declare();
        apply(&mut served.world, 1, declared());
        for _ in 0..600 {
            served.everybody_reports();
            let leader = served.world.elected();
            let state = &served.world.voters[&leader].cluster().services[&service()];
            if state.epoch == Epoch(1) && state.transition.is_none() {
                return served;
            }
        }
        panic!("no primary ever served");
    }

    /// Everybody says once that all is well, and a tick passes.
    fn everybody_reports(&mut self) {
        self.sequence += 1;
        let leader = self.world.elected();
        for site in [1, 2] {
            let report = well(&self.world, leader, site, self.sequence);
            self.world.report(leader, report);
        }
        let version = self.world.voters[&leader].cluster().zone_version;
        let writable = vec![(service(), vec!["127.0.1.1".parse().expect("an address")])];
        for server in ["ns1", "ns2"] {
            let (writable, canaries) = (writable.clone(), Vec::new());
            let answer = NameServerAnswer::Serves { version, writable, canaries };
            let server = server.parse().expect("a name");
            self.world.step(leader, Input::Observed(Observation::Asked { server, answer }));
        }
        self.world.run(Duration::from_millis(100));
    }

    /// The hash of the plan, looked at for another reason.
    fn plan(&mut self, leader: VoterId) -> Option<String> {
        let mut request = asks(Kind::Readiness);
        if let Request::Drill { reason, .. } = &mut request {
            *reason = "a look".into();
        }
        let token = self.world.token();
        let query = Query::DrillPlan(Box::new(request));
        self.world.step(leader, Input::Query { token, query });
        let Some(Reply::Found(found)) = self.world.reply(token) else { panic!("it leads") };
        let plan: DrillPlan = serde_json::from_value(found.clone()).expect("a plan");
        assert!(plan.refused.is_empty() && !plan.unknown.is_empty(), "{plan:?}");
        plan.plan
    }

    fn drill(&self, voter: VoterId) -> Option<&Drill> {
        self.world.voters[&voter].cluster().drills.values().next_back()
    }
}

/// Name servers at two sites, so that nothing is in the way of a drill but what is not known.
fn declared() -> Topology {
    let mut declared = topology();
    let server = NameServer {
        site: "s2".parse().expect("a name"),
        address: "127.0.2.1:5300".parse().expect("an address"),
        public: None,
    };
    for spec in declared.services.values_mut() {
        spec.on_last_copy = OnLastCopy::SingleCopy;
    }
    declared.people.two_persons = false;
    declared.dns.servers.insert("ns2".parse().expect("a name"), server);
    declared
}

fn apply(world: &mut World, expected: u64, topology: Topology) {
    let leader = world.elected();
    let token = world
        .ask(leader, Request::Apply { expected, topology: Box::new(topology), reason: "x".into() });
    world.until("an answer", |world| world.reply(token).is_some());
    assert!(matches!(world.reply(token), Some(Reply::Accepted(_))), "{:?}", world.reply(token));
}

fn asks(kind: Kind) -> Request {
    let (service, reason, dwell) = (service(), "quarterly".into(), Duration::from_secs(5));
    Request::Drill { kind, service, to: None, dwell, at_most: None, despite_hours: true, reason }
}

/// I-36: the one that leads when it is time ends it; whoever led when it began may be gone.
#[test]
fn i36_a_drill_outlives_its_leader() {
    let mut served = Served::new(3);
    let old = served.world.elected();
    let plan = served.plan(old);
    let token = served.world.ask(old, asks(Kind::Readiness));
    served.world.until("an answer", |world| world.reply(token).is_some());
    let Some(Reply::Accepted(accepted)) = served.world.reply(token) else {
        panic!("{:?}", served.world.reply(token));
    };
    assert_eq!((accepted.drill, accepted.transition), (Some(DrillId(1)), None));
    let recorded = served.drill(old).and_then(|drill| drill.plan.clone());
    assert_eq!(plan, recorded, "what was looked at is what is done, whatever the reason");
    let again = served.world.ask(old, asks(Kind::Readiness));
    served.world.until("an answer", |world| world.reply(again).is_some());
    let Some(Reply::Refused { findings, .. }) = served.world.reply(again) else {
        panic!("there is one at a time: {:?}", served.drill(old));
    };
    assert_eq!(findings[0].check, "drill-open");
    served.world.crash(old);
    served.world.until("another leader", |world| world.leader().is_some_and(|id| id != old));
    for _ in 0..1_500 {
        served.everybody_reports();
        let leader = served.world.elected();
        let drill = served.drill(leader).expect("it is in the log");
        if !drill.is_open() {
            // Nobody ever surveyed these machines: that is not good.
            assert!(matches!(drill.outcome, Outcome::Failed(_)), "{drill:?}");
            assert_ne!(drill.steps.last().map(|step| step.voter), Some(old));
            return;
        }
    }
    panic!("it never ended: {:?}", served.drill(served.world.leader().expect("a leader")));
}

fn entry() -> ScheduleId {
    "nightly".parse().expect("a name")
}

/// The world begins at 23:13:20 in Rome, a Tuesday.
fn scheduled(world: &mut World, expected: u64) {
    let mut declared = declared();
    let entry_of = Entry {
        kind: Kind::Readiness,
        service: service(),
        to: None,
        dwell: Duration::from_mins(5),
        at_most: None,
        when: "daily 23:20".parse().expect("a time"),
        within: Duration::from_mins(2),
    };
    declared.drills = Calendar { schedule: [(entry(), entry_of)].into(), ..Calendar::default() };
    apply(world, expected, declared);
}

fn occasion(world: &World) -> Option<&Occasion> {
    world.voters[&world.leader()?].cluster().calendar.get(&entry())
}

const DUE: Timestamp = Timestamp(1_700_000_400_000);

#[test]
fn i36_a_drill_that_cannot_begin_in_time_is_missed_and_told() {
    let mut world = World::new(3, 5);
    world.declare();
    scheduled(&mut world, 1);
    world.until("the entry to be known", |world| occasion(world).is_some());
    let known = occasion(&world).expect("it was just seen").clone();
    assert!(known.due < DUE && known.missed.is_none(), "what was before is not missed: {known:?}");
    world.run(Duration::from_mins(8));
    assert_eq!(occasion(&world), Some(&known), "it may still begin");
    world.run(Duration::from_mins(2));
    let missed = occasion(&world).expect("it is known").clone();
    assert_eq!((missed.due, missed.drill), (DUE, None));
    assert!(missed.missed.is_some_and(|why| why.contains("primary")), "why is told");
    let leader = world.elected();
    let token = world.token();
    world.step(leader, Input::Query { token, query: Query::Status });
    let Some(Reply::Found(found)) = world.reply(token) else { panic!("it leads") };
    let status: Status = serde_json::from_value(found.clone()).expect("a status");
    assert_eq!(status.missed_drills.len(), 1);
    // It is missed once, for every later leader too.
    world.crash(leader);
    world.until("another leader", |world| world.leader().is_some_and(|id| id != leader));
    world.run(Duration::from_secs(20));
    let leader = world.elected();
    let revision = world.voters[&leader].cluster().revision;
    world.run(Duration::from_mins(1));
    let leader = world.elected();
    assert_eq!(world.voters[&leader].cluster().revision, revision);
}

#[test]
fn i36_what_is_due_is_held() {
    let mut served = Served::new(6);
    scheduled(&mut served.world, 2);
    for _ in 0..6_000 {
        served.everybody_reports();
        let leader = served.world.elected();
        if let Some(drill) = served.drill(leader) {
            assert_eq!((&*drill.by, drill.kind), ("calendar", Kind::Readiness));
            let began = drill.steps[0].at;
            assert!(began >= DUE && began.0 < DUE.0 + 10_000, "{began:?}");
            let occasion = occasion(&served.world).expect("it is known");
            assert_eq!((occasion.due, occasion.drill), (DUE, Some(DrillId(1))));
            assert_eq!(occasion.missed, None);
            return;
        }
    }
    panic!("it was never begun: {:?}", occasion(&served.world));
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Every verb, with nobody to drill with: it says so, with its exit status.
#[tokio::test]
async fn baton_drill_ends_with_what_became_of_it() {
    let group = Group::start();
    let operator = group.client(0, "operator", "alice");
    group.elected(&operator).await;
    declare(&group, &operator).await;
    let agent = group.client(0, "agent", "s1-1");
    for path in ["/v1/drills", "/v1/calendar", "/v1/drill-plan?request=x"] {
        assert_eq!(code(get::<serde_json::Value>(&agent, path).await), 403, "{path}");
    }
    assert_eq!(code(get::<DrillTold>(&operator, "/v1/drills/1").await), 404);
    assert_eq!(code(get::<DrillTold>(&operator, "/v1/evidence/drills/1").await), 404);
    for (words, status, text) in [
        (&["drill", "list"] as &[&str], 0, "no drills yet"),
        (&["drill", "schedule"], 0, "nothing is held by itself"),
        (&["drill", "report", "1"], 2, "there is no drill 1"),
        (&["drill", "plan", "switchover", "clinic"], 4, "there is no primary yet"),
        (&["drill", "plan", "earthquake", "clinic"], 2, "possible values"),
        (&["drill", "run", "switchover", "nowhere", "--reason", "x"], 4, "no service `nowhere`"),
        (&["drill", "run", "dns", "clinic", "--reason", "x"], 4, "there is no primary yet"),
        (&["drill", "run", "dns", "clinic"], 2, "--reason"),
        (&["drill", "abort", "1", "--reason", "x"], 4, "there is no drill 1"),
    ] {
        let output = Baton::of(&group, "alice").run(words);
        let said = said(&output);
        assert_eq!(output.status.code(), Some(status), "{words:?}: {said}");
        assert!(said.contains(text), "{words:?}: {said}");
    }
    let output = Baton::of(&group, "alice").run(&["drill", "schedule", "-o", "json"]);
    let told: CalendarTold = serde_json::from_slice(&output.stdout).expect("the calendar");
    assert_eq!((told.time_zone.as_str(), told.protected.len()), ("Europe/Rome", 1));
}
