//! In which role somebody asks, and what needs a second person (I-33).

#![expect(clippy::unwrap_used, reason = "what cannot be made fails the test")]

mod support;

use failover::approval::{KEPT, Outcome, lowers};
use failover::cluster::Voter;
use failover::event::{Change, Event, Stamp};
use failover::ids::VoterId;
use failover::people::{Grant, Right, Role};
use failover::topology::OnLastCopy;
use failover::{Asker, Moment, Request, Ruled, Timestamp, apply, rule_for};
use std::time::Duration;
use support::{Situation, clinic, id};

const MINUTE: i64 = 60_000;

/// A cluster with something declared, and three voters.
struct People {
    now: Situation,
    wall: i64,
    /// The step of the code that whoever asks gives.
    totp_step: Option<u64>,
}

impl People {
    fn new() -> Self {
        let mut now = Situation::new();
        now.cluster.topology_version = 1;
        for number in 1..=3 {
            let voter = Voter {
                name: format!("v{number}"),
                site: "a".parse().unwrap(),
                address: format!("127.0.0.{number}:7400").parse().unwrap(),
                incarnation: None,
            };
            now.cluster.voters.insert(VoterId(number), voter);
        }
        Self { now, wall: 1_000_000, totp_step: None }
    }

    fn pass(&mut self, millis: i64) {
        self.wall += millis;
        let length = Duration::from_millis(millis.unsigned_abs());
        self.now.now = Moment(self.now.now.after(length).0);
        self.now.view.follow(&self.now.cluster, self.now.now);
    }

    /// The hash of a plan is made from what is asked and the epoch.
    fn rule(&self, name: &str, role: Role, request: &Request) -> Ruled {
        let asker = Asker { name, role, at: Timestamp(self.wall), totp_step: self.totp_step };
        let epoch = self.now.cluster.services[&clinic()].epoch;
        let plan = |request: &Request| Some(format!("{epoch} {:?}", request.without_reason()));
        rule_for(&self.now.cluster, &self.now.view, (request, asker), self.now.now, &plan)
    }

    fn refused(&self, name: &str, role: Role, request: &Request) -> String {
        match self.rule(name, role, request) {
            Ruled::Refused(findings) => findings[0].text.clone(),
            other @ (Ruled::Granted(_) | Ruled::Waits(_)) => panic!("{other:?}"),
        }
    }

    fn granted(&self, name: &str, role: Role, request: &Request) -> Grant {
        match self.rule(name, role, request) {
            Ruled::Granted(grant) => *grant,
            other @ (Ruled::Waits(_) | Ruled::Refused(_)) => panic!("{other:?}"),
        }
    }

    fn put(&mut self, grant: Grant) -> bool {
        let event = event(grant, self.wall);
        let had_effect = apply(&mut self.now.cluster, &event);
        self.now.view.follow(&self.now.cluster, self.now.now);
        had_effect
    }

    /// Alice asks, and it waits; its hash.
    fn asked(&mut self, request: &Request) -> String {
        let grant = self.granted("alice", Role::Admin, request);
        assert!(matches!(grant.change, Change::Asked { .. }), "{:?}", grant.change);
        assert!(self.put(grant));
        match self.rule("alice", Role::Admin, request) {
            Ruled::Waits(hash) => hash,
            other @ (Ruled::Granted(_) | Ruled::Refused(_)) => panic!("{other:?}"),
        }
    }
}

fn event(grant: Grant, wall: i64) -> Event {
    let Grant { change, cause, by, plan, authority } = grant;
    let stamp = Stamp { at: Timestamp(wall), ..Stamp::default() };
    Event { stamp, by, cause, plan, authority: Some(authority), change }
}

fn remove(id: u64) -> Request {
    Request::RemoveVoter { id: VoterId(id), reason: "its disk is gone".into() }
}

fn yes(plan: &str) -> Request {
    Request::Approve { plan: plan.into(), reason: "seen".into() }
}

fn hold() -> Request {
    Request::Hold { service: clinic(), reason: "a switch".into() }
}

#[test]
fn each_role_has_its_own() {
    let has = |role: Role| {
        [Right::Look, Right::Operate, Right::Approve, Right::Administer]
            .map(|right| role.has(right))
    };
    assert_eq!(has(Role::Viewer), [true, false, false, false]);
    assert_eq!(has(Role::Operator), [true, true, false, false]);
    assert_eq!(has(Role::Approver), [true, false, true, false]);
    assert_eq!(has(Role::Admin), [true, true, true, true]);
    let people = People::new();
    for role in [Role::Viewer, Role::Approver] {
        assert!(people.refused("eve", role, &hold()).contains("operator or admin"));
    }
    assert!(people.refused("otto", Role::Operator, &remove(3)).contains("--person otto:admin"));
    assert!(people.refused("otto", Role::Operator, &yes("x")).contains("approver or admin"));
    people.granted("otto", Role::Operator, &hold());
}

#[test]
fn nothing_is_asked_for_without_a_reason() {
    let people = People::new();
    let silent = Request::Hold { service: clinic(), reason: " \n".into() };
    assert!(people.refused("otto", Role::Operator, &silent).contains("--reason"));
}

/// I-33: what is asked for waits, another person's yes has it done, and it is on record.
#[test]
fn i33_another_person_s_yes_has_it_done_once() {
    let mut people = People::new();
    let plan = people.asked(&remove(3));
    assert!(people.now.cluster.voters.contains_key(&VoterId(3)), "nothing is done yet");
    assert!(people.refused("alice", Role::Admin, &yes(&plan)).contains("another person"));
    assert!(people.refused("bob", Role::Admin, &remove(3)).contains("alice asked for the same"));
    assert!(people.refused("bob", Role::Operator, &yes(&plan)).contains("role approver or admin"));
    assert!(people.refused("bob", Role::Approver, &yes("x")).contains("no request waits"));
    let grant = people.granted("bob", Role::Approver, &yes(&plan));
    assert_eq!((grant.by.as_str(), grant.plan.as_deref()), ("alice", Some(plan.as_str())));
    assert!(people.put(grant.clone()));
    assert!(!people.now.cluster.voters.contains_key(&VoterId(3)));
    let text = &people.now.cluster.history.back().unwrap().text;
    assert!(text.contains("its disk is gone; approved by bob: seen"), "{text}");
    let outcome = &people.now.cluster.pending[&plan].outcome;
    assert!(matches!(outcome, Outcome::Approved { approved, .. } if approved.by == "bob"));
    assert!(people.refused("carol", Role::Approver, &yes(&plan)).contains("bob approved this"));
}

/// I-33: what somebody asked for he takes back, nobody else does, and no yes is good after it.
#[test]
fn i33_whoever_asked_may_withdraw_it() {
    let mut people = People::new();
    let plan = people.asked(&remove(3));
    let withdraw = Request::Withdraw { plan: plan.clone(), reason: "the wrong one".into() };
    assert!(people.refused("eve", Role::Viewer, &withdraw).contains("operator or admin"));
    assert!(people.refused("bob", Role::Admin, &withdraw).contains("nobody else withdraws it"));
    let raced = people.granted("bob", Role::Approver, &yes(&plan));
    let grant = people.granted("alice", Role::Admin, &withdraw);
    let mut forged = grant.clone();
    forged.by = "bob".into();
    assert!(!people.put(forged), "bob did not ask for it");
    assert!(people.put(grant.clone()));
    assert!(!people.put(grant), "once");
    let text = &people.now.cluster.history.back().unwrap().text;
    assert!(text.ends_with("is withdrawn: the wrong one"), "{text}");
    let stands = |people: &People| people.now.cluster.pending[&plan].outcome.clone();
    assert!(
        matches!(stands(&people), Outcome::Withdrawn { reason, .. } if reason == "the wrong one")
    );
    let said = "alice withdrew this: the wrong one";
    assert!(people.refused("bob", Role::Approver, &yes(&plan)).contains(said));
    assert!(people.refused("alice", Role::Admin, &withdraw).contains(said));
    // The group of voters changes by itself: that yes came in time. Any other comes too late.
    assert!(matches!(raced.change, Change::VoterRemoved { .. }));
    assert_eq!(people.asked(&remove(3)), plan, "she may ask again");
    assert!(people.put(people.granted("bob", Role::Approver, &yes(&plan))));
    assert!(people.refused("alice", Role::Admin, &withdraw).contains("bob approved this already"));
}

/// I-33: an entry that was proposed twice, or for a request that does not wait, has no effect.
#[test]
fn i33_a_yes_is_good_once() {
    let mut people = People::new();
    let mut next = people.now.cluster.topology.clone();
    next.people.two_persons = false;
    next.dns.origin = "db.example.".into();
    next.dns.contact = "host.example.".into();
    let topology = Box::new(next);
    let request = Request::Apply { expected: 1, topology, reason: "a lab".into() };
    let plan = people.asked(&request);
    let grant = people.granted("bob", Role::Approver, &yes(&plan));
    let mut forged = grant.clone();
    forged.by = "bob".into();
    assert!(!people.put(forged), "whoever asked is not who approved");
    assert!(people.put(grant.clone()));
    assert!(!people.put(grant));
    // From here on an admin is enough, and an operator is not.
    assert!(people.refused("otto", Role::Operator, &remove(3)).contains("admin"));
    let alone = people.granted("alice", Role::Admin, &remove(3));
    assert!(matches!(alone.change, Change::VoterRemoved { .. }));
}

/// I-33: its time ends by the wall clock, and by the leader's own if that is wrong.
#[test]
fn i33_the_time_for_a_yes_ends() {
    let mut people = People::new();
    let plan = people.asked(&remove(3));
    people.pass(10 * MINUTE - 1);
    people.granted("bob", Role::Approver, &yes(&plan));
    people.pass(1);
    assert!(people.refused("bob", Role::Approver, &yes(&plan)).contains("time for it is over"));
    people.wall -= 60 * MINUTE;
    assert!(people.refused("bob", Role::Approver, &yes(&plan)).contains("time for it is over"));
    // Whoever asked asks again.
    let again = people.asked(&remove(3));
    people.granted("bob", Role::Approver, &yes(&again));
}

/// I-33: what was approved is what was seen.
#[test]
fn i33_another_plan_needs_another_yes() {
    let mut people = People::new();
    let plan = people.asked(&remove(3));
    people.now.cluster.services.get_mut(&clinic()).unwrap().epoch.0 += 1;
    assert!(people.refused("bob", Role::Approver, &yes(&plan)).contains("another plan"));
    people.now.cluster.services.get_mut(&clinic()).unwrap().epoch.0 -= 1;
    people.now.cluster.voters.remove(&VoterId(3));
    assert!(people.refused("bob", Role::Approver, &yes(&plan)).contains("would be refused now"));
}

/// I-33: what lowers durability by a topology, and what does not.
#[test]
fn i33_a_topology_that_lowers_is_known() {
    let people = People::new();
    let now = &people.now.cluster;
    let lowers = |change: &dyn Fn(&mut failover::topology::Topology)| {
        let mut topology = Box::new(now.topology.clone());
        change(&mut topology);
        let request = Request::Apply { expected: 1, topology, reason: "x".into() };
        failover::approval::lowers(now, &request).len()
    };
    assert_eq!(lowers(&|_| {}), 0);
    assert_eq!(lowers(&|t| t.services.get_mut(&clinic()).unwrap().required = 2), 0);
    assert_eq!(lowers(&|t| t.services.get_mut(&clinic()).unwrap().required = 0), 1);
    let single = OnLastCopy::SingleCopy;
    assert_eq!(lowers(&|t| t.services.get_mut(&clinic()).unwrap().on_last_copy = single), 1);
    assert_eq!(lowers(&|t| t.people.two_persons = false), 1);
    assert_eq!(lowers(&|t| t.people.approval_expires = Duration::from_mins(5)), 0);
    assert_eq!(lowers(&|t| t.services.clear()), 1);
    let gone = |t: &mut failover::topology::Topology| {
        t.services.get_mut(&clinic()).unwrap().instances.remove(&id("c"));
    };
    assert_eq!(lowers(&gone), 1);
    let moved = |t: &mut failover::topology::Topology| {
        let instances = &mut t.services.get_mut(&clinic()).unwrap().instances;
        instances.get_mut(&id("c")).unwrap().site = "b".parse().unwrap();
    };
    assert_eq!(lowers(&moved), 1);
    // Before anything is declared there is nothing to lower.
    let mut first = People::new();
    first.now.cluster.topology_version = 0;
    let alone = first.granted("alice", Role::Admin, &remove(3));
    assert!(matches!(alone.change, Change::VoterRemoved { .. }));
}

/// What waits is bounded, and what is over makes room.
#[test]
fn so_many_wait_and_no_more() {
    let mut people = People::new();
    for number in 4..4 + KEPT as u64 {
        let voter = people.now.cluster.voters[&VoterId(1)].clone();
        people.now.cluster.voters.insert(VoterId(number), voter);
        people.asked(&remove(number));
    }
    assert!(people.refused("alice", Role::Admin, &remove(1)).contains("wait for a second person"));
    people.pass(11 * MINUTE);
    people.asked(&remove(1));
    assert_eq!(people.now.cluster.pending.len(), KEPT);
}

/// I-33: where a second factor is declared, a certificate alone changes nothing, and a code is good
/// once, also where two requests are under way with the same.
#[test]
fn i33_a_code_is_wanted_and_good_once() {
    let mut people = People::new();
    let otto = |people: &People| people.refused("otto", Role::Operator, &hold());
    people.granted("otto", Role::Operator, &hold());
    // Whoever declares it shows that he has one.
    let mut topology = people.now.cluster.topology.clone();
    topology.people.totp = true;
    let (expected, declared) = (people.now.cluster.topology_version, Box::new(topology));
    let declares = Request::Apply { expected, topology: declared, reason: "audit".into() };
    assert!(people.refused("alice", Role::Admin, &declares).contains("--code"));
    people.now.cluster.topology.people.totp = true;
    assert!(otto(&people).contains("--code"), "{}", otto(&people));
    people.totp_step = Some(100);
    let first = people.granted("otto", Role::Operator, &hold());
    assert_eq!(first.authority.totp_step, Some(100));
    let resume = Request::Resume { service: clinic(), reason: "over".into() };
    let second = people.granted("otto", Role::Operator, &hold());
    assert!(people.put(first));
    assert!(!people.put(second), "its code was used meanwhile");
    for used in [99, 100] {
        people.totp_step = Some(used);
        assert!(people.refused("otto", Role::Operator, &resume).contains("was used"));
    }
    // Everybody has his own.
    people.granted("alice", Role::Admin, &resume);
    people.totp_step = Some(101);
    let over = people.granted("otto", Role::Operator, &resume);
    assert!(people.put(over));
    // A code that nobody asks for is good once as well.
    people.now.cluster.topology.people.totp = false;
    assert!(people.refused("otto", Role::Operator, &hold()).contains("was used"));
}

/// I-33: both persons give a code of their own; and that none is wanted any more needs two.
#[test]
fn i33_a_second_person_gives_a_code_too() {
    let mut people = People::new();
    people.now.cluster.topology.people.totp = true;
    people.totp_step = Some(7);
    let grant = people.granted("alice", Role::Admin, &remove(3));
    let Change::Asked { plan, .. } = grant.change.clone() else { panic!("{grant:?}") };
    assert!(people.put(grant));
    people.totp_step = None;
    assert!(people.refused("bob", Role::Approver, &yes(&plan)).contains("--code"));
    people.totp_step = Some(7);
    let grant = people.granted("bob", Role::Approver, &yes(&plan));
    assert!(people.put(grant));
    assert_eq!(
        people.now.cluster.codes,
        [("alice", 7), ("bob", 7)].map(|(k, v)| (k.into(), v)).into()
    );
    let mut topology = people.now.cluster.topology.clone();
    topology.people.totp = false;
    let (expected, topology) = (people.now.cluster.topology_version, Box::new(topology));
    let request = Request::Apply { expected, topology, reason: "it is a bother".into() };
    let lowers = lowers(&people.now.cluster, &request);
    assert!(lowers.iter().any(|it| it.contains("certificate alone")), "{lowers:?}");
}
