//! I-37: what is shown is as old as it is, and only to whom it may be.

use failover::fitness::Promise;
use serde_json::{Value, json};

use super::*;

fn status(voter: u64, leader: Option<u64>, revision: u64) -> Value {
    let named = |id: u64| json!({"voter": id, "name": format!("v{id}"), "site": format!("s{id}")});
    let leads = leader == Some(voter);
    let measured = |value: Value| if leads { value } else { Value::Null };
    let voters = [1, 2].map(|id| {
        let state = if leader == Some(id) {
            "leader"
        } else if leads {
            "follower"
        } else {
            "unknown"
        };
        json!({"id": id, "name": format!("v{id}"), "site": format!("s{id}"), "state": state,
            "address": "192.0.2.1:7400", "lag_entries": null, "recorded": true,
            "age_ms": if leads && id != voter { json!(20) } else { Value::Null }})
    });
    let instance = json!({
        "instance": "a", "site": "s1", "postgres": "192.0.2.1:5432", "assigned": "idle",
        "reported": measured(json!("absent")), "age_ms": measured(json!(100)),
        "position": null, "lag_bytes": null, "streaming": null, "in_rule": false,
        "admits": null, "pledge": null, "enforced": null, "version": null, "notes": [],
        "knocks": []
    });
    json!({
        "cluster": "t", "revision": revision, "topology_version": 1, "zone_version": 4,
        "leader": leader.map(named), "answered_by": named(voter), "term": 2, "at": 0,
        "led_for_ms": measured(json!(60_000)), "voters": voters,
        "sites": {
            "s1": {"operator": "", "jurisdiction": "", "certifications": []},
            "s2": {"operator": "", "jurisdiction": "", "certifications": []}
        },
        "services": [{
            "service": "clinic", "writable": "clinic", "read_only": "clinic-ro", "epoch": 1,
            "primary": "a", "system_identifier": null,
            "rule": {"generation": 2, "instances": [], "required": 1,
                "enforce": {"instances": [], "required": 1}},
            "is_site_safe": true, "zero_loss": if leads { Promise::Yes } else { Promise::Unasked },
            "hold": {"by": "alice", "reason": "a secret", "since": 0}, "transition": null,
            "published": {"instance": "a", "epoch": 1}, "unacknowledged": null,
            "lease_age_ms": measured(json!(200)),
            "instances": [instance],
            "findings": [
                {"check": "hold", "severity": "blocks", "text": "on hold by alice: a secret"},
                {"check": "durability-floor", "severity": "warning",
                    "text": "below the rule by table patients"}
            ]
        }],
        "name_servers": []
    })
}

fn known(voter: u64, leader: Option<u64>, revision: u64) -> Known {
    let history = json!([{"revision": 1, "at": 0, "by": "alice", "service": null, "epoch": 0,
        "text": "a secret at 192.0.2.1:7400"}]);
    let value = json!({"status": status(voter, leader, revision), "transitions": [],
        "history": history, "drills": []});
    serde_json::from_value(value).expect("it is what a voter knows")
}

fn age(overview: &Overview) -> Option<u64> {
    overview.known.status.services[0].instances[0].age_ms
}

fn ready() -> Vec<SiteReady> {
    let finding = json!({"check": "unlogged", "service": "clinic", "instance": "b", "level":
        "warning", "text": "patients is not logged", "remedy": "log it"});
    let answer = json!({"revision": 9, "at": 0, "level": "warning", "services": [{
    "service": "clinic", "epoch": 1, "primary": "a", "checks": [], "sites": [
        {"site": "s1", "level": "warning", "outcome": "fails-over", "target": "b",
            "rpo": {"zero": true, "reasons": []}, "interrupted_ms": null,
            "rto": {"detection_ms": 3_000, "seal_ms": 600, "replay_ms": 0,
                "promotion_ms": null, "dns_ms": 40, "ttl_ms": 5_000, "total_ms": null,
                "at_least_ms": 8_640, "measured_in": 7, "notes": []},
            "findings": [finding, finding]},
        {"site": "s2", "level": "unknown", "outcome": "goes-on", "target": "a", "rto": null,
            "rpo": {"zero": null, "reasons": []}, "interrupted_ms": 300, "findings": []}
    ]}]});
    verdicts(&serde_json::from_value(answer).expect("it is an answer"))
}

/// I-37: whether a site could be lost is as old as it is, and is not known by default.
#[test]
fn i37_verdicts_of_readiness_have_their_age() {
    let shown = Overview::of(known(1, Some(1), 9), None);
    assert_eq!((shown.readiness.len(), shown.readiness_age_ms), (0, None));
    let shown = shown.with_readiness(Some((ready(), 400)));
    assert_eq!(shown.readiness_age_ms, Some(400));
    let said = |one: &SiteReady| {
        let is = (one.ready.is.clone(), one.zero_loss.is.clone());
        (one.site.to_string(), is, one.then.clone(), one.takes.clone())
    };
    let said: Vec<_> = shown.readiness.iter().map(said).collect();
    let is = |ready: &str, zero: &str| (ready.to_owned(), zero.to_owned());
    assert_eq!(
        said,
        [
            ("s1".into(), is("yes (!)", "proven"), "b takes over".into(), "> 8.6 s".into()),
            ("s2".into(), is("unknown", "unknown"), "a stays".into(), "300 ms".into()),
        ]
    );
    assert_eq!(shown.readiness[0].ready.remarks, ["b: patients is not logged"], "said once");
    let open = shown.for_anyone();
    assert_eq!((open.readiness.len(), open.readiness_age_ms), (2, Some(400)));
}

#[test]
fn i37_a_leader_shows_its_own_evidence() {
    let shown = Overview::of(known(1, Some(1), 9), Some((&known(2, Some(2), 99), 5)));
    assert_eq!(shown.evidence.as_ref().map(|evidence| evidence.age_ms), Some(0));
    assert_eq!((age(&shown), shown.known.status.revision.0), (Some(100), 9));
}

#[test]
fn i37_another_shows_the_leaders_with_its_age() {
    let told = known(1, Some(1), 9);
    for (own, revision) in [(9, 9), (8, 9), (10, 10)] {
        let shown = Overview::of(known(2, Some(1), own), Some((&told, 700)));
        assert_eq!(age(&shown), Some(800));
        // The newer of the two states is shown.
        assert_eq!(shown.known.status.revision.0, revision);
        assert_eq!(shown.shown_by.name, "v2");
        let evidence = shown.evidence.as_ref().expect("the leader told it");
        assert_eq!((evidence.from.name.as_str(), evidence.age_ms), ("v1", 700));
        assert_eq!(shown.known.status.services[0].zero_loss, Promise::Yes);
    }
}

#[test]
fn i37_a_leader_that_is_gone_leads_no_more_and_promises_nothing() {
    let told = known(1, Some(1), 9);
    let shown = Overview::of(known(2, None, 9), Some((&told, LIMIT_MS + 1)));
    assert_eq!(shown.known.status.leader, None);
    assert_eq!(age(&shown), Some(LIMIT_MS + 101));
    assert_eq!(shown.known.status.services[0].zero_loss, Promise::Unasked);
    assert!(shown.remarks.iter().any(|remark| remark.text.contains("no leader")));
    assert!(shown.reach.iter().all(|way| way.seen == Seen::Unknown), "{:?}", shown.reach);
}

#[test]
fn i37_without_a_leaders_word_nothing_is_known() {
    let shown = Overview::of(known(2, None, 9), None);
    assert_eq!((age(&shown), shown.evidence), (None, None));
}

#[test]
fn ways_are_as_old_as_the_oldest_they_rest_on() {
    let shown = Overview::of(known(1, Some(1), 9), None);
    let way = |plane, to: &str| {
        shown.reach.iter().find(|way| way.plane == plane && way.to.as_str() == to)
    };
    let voters = way(Plane::Voters, "s2").expect("the leader hears the other");
    assert_eq!((voters.seen, voters.age_ms), (Seen::Reached, Some(20)));
    let agents = way(Plane::Agents, "s1").expect("the agent reports");
    assert_eq!((agents.seen, agents.age_ms), (Seen::Reached, Some(100)));
    assert_eq!(way(Plane::Replication, "s1"), None);
}

#[test]
fn whoever_shows_no_certificate_learns_no_name_reason_or_address() {
    let shown = Overview::of(known(1, Some(1), 9), None).with_readiness(Some((ready(), 400)));
    let text = |overview: &Overview, addresses| {
        let parts = overview.parts(addresses).expect("it is JSON");
        parts.into_values().collect::<Vec<_>>().join("\n")
    };
    let secrets = ["alice", "a secret", "patients", "192.0.2.1"];
    let whole = text(&shown, Addresses::Told);
    assert!(secrets.iter().all(|secret| whole.contains(secret)), "{whole}");
    let open = text(&shown.for_anyone(), Addresses::Hidden);
    assert!(!secrets.iter().any(|secret| open.contains(secret)), "{open}");
}
