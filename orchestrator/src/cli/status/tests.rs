//! I-37: the verdict is good only when everything was seen lately.

use failover::time::Timestamp;
use serde_json::{Value, json};

use super::*;

fn well() -> Value {
    let position = json!({"timeline": 1, "history": [], "lsn": "0/3000A10"});
    let instance = |name: &str, primary: bool| {
        json!({
            "instance": format!("{name}-1"), "site": name, "postgres": "192.0.2.1:5432",
            "assigned": if primary {
                json!({"primary": {"initialise": false, "prepare": false}})
            } else {
                json!({"standby": {"upstream": "a-1"}})
            },
            "reported": if primary {
                json!({"writable": {"position": position, "admits": true, "checkpoint": 1}})
            } else {
                json!({"recovery":
                    {"position": position, "replayed": "0/3000A10", "admits": true}})
            },
            "age_ms": 100, "position": position, "lag_bytes": 0,
            "streaming": if primary { Value::Null } else { json!(true) },
            "in_rule": !primary, "admits": true, "pledge": null, "enforced": null,
            "notes": [], "version": "15.18", "knocks": []
        })
    };
    let voter = |id: u64, name: &str, state: &str| {
        json!({"id": id, "name": name, "site": name, "address": "192.0.2.1:7400",
            "state": state, "age_ms": 10, "lag_entries": 0, "recorded": true})
    };
    let leader = json!({"voter": 1, "name": "a", "site": "a"});
    json!({
        "cluster": "t", "revision": 9, "topology_version": 1, "zone_version": 4,
        "leader": leader, "answered_by": leader, "term": 2, "at": 0, "led_for_ms": 60_000,
        "voters": [voter(1, "a", "leader"), voter(2, "b", "follower")],
        "sites": {"a": {"operator": "", "jurisdiction": "", "certifications": []}},
        "services": [{
            "service": "clinic", "writable": "clinic", "read_only": "clinic-ro", "epoch": 1,
            "primary": "a-1", "system_identifier": null,
            "rule": {"generation": 2, "instances": ["b-1"], "required": 1,
                "enforce": {"instances": ["b-1"], "required": 1}},
            "is_site_safe": true, "hold": null, "transition": null,
            "published": {"instance": "a-1", "epoch": 1}, "unacknowledged": null,
            "lease_age_ms": 200, "instances": [instance("a", true), instance("b", false)],
            "findings": []
        }],
        "name_servers": [{"server": "ns1", "site": "a", "address": "192.0.2.1:53",
            "follows": 4, "follows_age_ms": 5_000,
            "asked": {"serves": {"version": 4, "writable": [["clinic", ["192.0.2.1"]]]}},
            "asked_age_ms": 300}]
    })
}

fn read(value: Value) -> Answer {
    serde_json::from_value(value).expect("it is a status")
}

#[test]
fn i37_all_seen_lately_is_well() {
    let status = read(well());
    assert_eq!(problems(&status), []);
    let text = render(&status, &[], Timestamp(0));
    assert_eq!(text.trim_end().lines().last(), Some("all is well"), "{text}");
}

#[test]
fn i37_whatever_is_missing_or_old_is_told() {
    for (path, value) in [
        ("/leader", Value::Null),
        ("/services", json!([])),
        ("/voters/1/state", json!("unknown")),
        ("/services/0/primary", Value::Null),
        ("/services/0/published", Value::Null),
        ("/services/0/published/instance", json!("b-1")),
        ("/services/0/lease_age_ms", Value::Null),
        ("/services/0/lease_age_ms", json!(60_000)),
        ("/services/0/is_site_safe", json!(false)),
        ("/services/0/unacknowledged", json!(3)),
        ("/services/0/hold", json!({"by": "alice", "reason": "x", "since": 0})),
        ("/services/0/instances/0/age_ms", json!(60_000)),
        ("/services/0/instances/0/age_ms", Value::Null),
        ("/services/0/instances/0/reported", Value::Null),
        ("/services/0/instances/0/reported", json!({"down": "crashed"})),
        ("/services/0/instances/0/reported/writable/admits", json!(false)),
        ("/services/0/instances/1/streaming", Value::Null),
        ("/services/0/instances/1/in_rule", json!(false)),
        (
            "/services/0/instances/1/notes",
            json!([{"subject": "clone", "severity": "warning", "text": "40 %"}]),
        ),
        (
            "/services/0/findings",
            json!([{"check": "x", "severity": "blocks", "instance": null, "text": "y"}]),
        ),
        ("/name_servers/0/asked", json!("silent")),
        ("/name_servers/0/asked", Value::Null),
        ("/name_servers/0/asked_age_ms", json!(60_000)),
        ("/name_servers/0/asked/serves/version", json!(3)),
        ("/name_servers/0/follows", json!(3)),
        ("/name_servers/0/follows_age_ms", Value::Null),
    ] {
        let mut changed = well();
        *changed.pointer_mut(path).expect(path) = value.clone();
        let status = read(changed);
        let found = problems(&status);
        assert!(!found.is_empty(), "{path} = {value}");
        let text = render(&status, &found, Timestamp(0));
        assert!(!text.contains("all is well"), "{path} = {value}\n{text}");
    }
}
