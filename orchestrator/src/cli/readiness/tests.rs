//! I-37: what is not known is not ready, and everything printed comes from the answer.

use serde_json::{Value, json};

use super::*;

fn finding(level: &str, check: &str) -> Value {
    json!({
        "check": check, "service": "clinic", "instance": "b-1", "level": level,
        "text": "something", "since_ms": 65_000, "age_ms": 5_000, "remedy": "do something"
    })
}

fn answer(level: &str, findings: &[Value]) -> Answer {
    let rto = json!({
        "detection_ms": 3_000, "seal_ms": 600, "replay_ms": 0, "promotion_ms": null,
        "dns_ms": 40, "ttl_ms": 5_000, "total_ms": null, "at_least_ms": 8_640,
        "measured_in": 7, "notes": []
    });
    let rpo = json!({"zero": true, "reasons": ["every acknowledged commit is on 1 of b-1"]});
    let looked = |check: &str, level: &str, found: &[Value]| {
        let about = "all is well";
        json!({"check": check, "about": about, "level": level, "findings": found})
    };
    let value = json!({
        "revision": 9, "at": 0, "level": level,
        "services": [{
            "service": "clinic", "epoch": 1, "primary": "a-1",
            "sites": [
                {"site": "arezzo", "level": level, "outcome": "fails-over", "target": "b-1",
                    "rpo": rpo, "rto": rto, "interrupted_ms": null, "findings": findings},
                {"site": "roubaix", "level": "good", "outcome": "goes-on", "target": "a-1",
                    "rpo": rpo, "rto": null, "interrupted_ms": null, "findings": []}
            ],
            "checks": [looked("heard", "good", &[]), looked("clocks", level, findings)]
        }]
    });
    serde_json::from_value(value).expect("it is an answer")
}

#[test]
fn a_line_a_site_with_every_phase() {
    let text = text(&answer("good", &[]), false);
    let row = |name: &str| {
        let line = text.lines().find(|line| line.trim_start().starts_with(name)).unwrap();
        line.split_whitespace().map(str::to_owned).collect::<Vec<_>>().join(" ")
    };
    let phases = "> 8.6 s 3.0 s 600 ms 0 ms ? 40 ms 5.0 s";
    assert_eq!(row("arezzo"), format!("arezzo clinic yes b-1 takes over proven {phases}"));
    assert_eq!(row("roubaix"), "roubaix clinic yes a-1 stays proven 0 ms");
    assert!(text.contains("clinic: 2 of 2 checks are good"), "{text}");
    assert!(text.ends_with("READY\n") && !text.contains("NOT"), "{text}");
}

#[test]
fn what_stands_in_the_way_is_named_with_its_age_and_remedy() {
    let text = text(&answer("blocks", &[finding("blocks", "clocks")]), false);
    let line = "  clocks (blocks, for 1 min 5 s): b-1: something (known 5.0 s ago)";
    assert!(text.contains(line), "{text}");
    assert!(text.contains("      do something\n"), "{text}");
    assert!(text.contains("clinic: 1 of 2 checks are good"), "{text}");
    assert!(text.ends_with("NOT READY\n"), "{text}");
    let unknown = super::text(&answer("unknown", &[finding("unknown", "clocks")]), true);
    assert!(unknown.ends_with("\nUNKNOWN\n"), "{unknown}");
    assert!(unknown.contains("all is well"), "the good ones too: {unknown}");
}

#[test]
fn what_many_checks_say_is_said_once() {
    let both = [finding("unknown", "clocks"), finding("unknown", "slots")];
    let text = text(&answer("unknown", &both), false);
    assert!(text.contains("  clocks, slots (unknown, for 1 min 5 s): b-1: something"), "{text}");
    assert_eq!(text.matches("do something").count(), 1, "{text}");
}

#[test]
fn the_exit_status_tells_unknown_from_not_ready() {
    let levels = [Level::Good, Level::Warning, Level::Unknown, Level::Blocks];
    assert_eq!(levels.map(status), [0, 0, 6, 1]);
}
