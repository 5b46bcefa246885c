//! A record of a change of primary, in OTLP's words (opentelemetry-proto, `trace/v1`, as JSON:
//! identifiers in hexadecimal, 64-bit numbers as text).
//!
//! People are not named, nor is what they wrote: a collector is somebody else's. The reasons of
//! baton's own decisions are told.

use failover::cluster::{Outcome, Record, StepRecord, Trigger};
use failover::ids::TransitionId;
use serde_json::{Value, json};

use crate::audit::Hash;

/// `SPAN_KIND_INTERNAL`.
const INTERNAL: u8 = 1;
/// `STATUS_CODE_OK`, `STATUS_CODE_ERROR`.
const OK: u8 = 1;
const ERROR: u8 = 2;

/// The whole request.
pub(super) fn of(cluster: &str, voter: &str, record: &Record) -> Value {
    let resource = [
        text("service.name", "baton"),
        text("service.version", env!("CARGO_PKG_VERSION")),
        text("service.instance.id", voter),
        text("baton.cluster", cluster),
    ];
    json!({ "resourceSpans": [{
        "resource": { "attributes": resource },
        "scopeSpans": [{
            "scope": { "name": "baton.transitions", "version": env!("CARGO_PKG_VERSION") },
            "spans": spans(cluster, record),
        }],
    }] })
}

fn spans(cluster: &str, record: &Record) -> Vec<Value> {
    let times = times(&record.steps);
    let (Some(began), Some(ended)) = (times.first(), times.last()) else { return Vec::new() };
    let trace = identifier(32, &[cluster, &record.id.to_string()]);
    let span = |number: usize| identifier(16, &[&trace, &number.to_string()]);
    let (code, message) = match &record.outcome {
        Outcome::Open | Outcome::Done => (OK, String::new()),
        Outcome::Aborted(why) => (ERROR, why.clone()),
        Outcome::Superseded(by) => (ERROR, format!("transition {by} took over")),
    };
    let root = json!({
        "traceId": trace,
        "spanId": span(0),
        "name": record.trigger.name(),
        "kind": INTERNAL,
        "startTimeUnixNano": began.to_string(),
        "endTimeUnixNano": ended.to_string(),
        "attributes": attributes(record),
        "status": { "code": code, "message": message },
    });
    // A step is told of when it is left: it began when the one before it was left.
    let left = record.steps.iter().zip(&times).enumerate().skip(1);
    let steps = left.zip(&times).map(|((number, (step, until)), since)| {
        json!({
            "traceId": trace,
            "spanId": span(number),
            "parentSpanId": span(0),
            "name": step.name,
            "kind": INTERNAL,
            "startTimeUnixNano": since.to_string(),
            "endTimeUnixNano": until.to_string(),
            "attributes": [
                text("baton.note", &step.note),
                text("baton.voter", &step.voter.to_string()),
            ],
            "status": {},
        })
    });
    std::iter::once(root).chain(steps).collect()
}

fn attributes(record: &Record) -> Vec<Value> {
    let mut all = vec![
        number("baton.transition", record.id.0),
        text("baton.service", record.service.as_str()),
        number("baton.epoch.before", record.epoch.0),
    ];
    let instances = [("baton.primary.before", &record.from), ("baton.primary.after", &record.to)];
    for (key, instance) in instances {
        all.extend(instance.as_ref().map(|instance| text(key, instance.as_str())));
    }
    all.extend(record.drill.map(|drill| number("baton.drill", drill.0)));
    match record.trigger {
        Trigger::Bootstrap | Trigger::PrimaryLost => all.push(text("baton.cause", &record.cause)),
        Trigger::Switchover | Trigger::Failover => {}
    }
    all.push(text("baton.outcome", record.outcome.name()));
    if let Outcome::Superseded(TransitionId(by)) = record.outcome {
        all.push(number("baton.superseded_by", by));
    }
    all
}

/// When each step was left, in nanoseconds since 1970: by the wall clock of the voter that recorded
/// it, and between two steps of one voter by its monotonic clock, which does not jump.
fn times(steps: &[StepRecord]) -> Vec<u128> {
    let mut times: Vec<u128> = Vec::with_capacity(steps.len());
    let mut before: Option<(&StepRecord, u128)> = None;
    for step in steps {
        let wall = u128::try_from(step.at.0).unwrap_or(0) * 1_000_000;
        let at = match before {
            Some((last, at))
                if last.voter == step.voter && step.monotonic_us >= last.monotonic_us =>
            {
                at + u128::from(step.monotonic_us - last.monotonic_us) * 1_000
            }
            Some((_, at)) => wall.max(at),
            None => wall,
        };
        before = Some((step, at));
        times.push(at);
    }
    times
}

/// The first digits of a hash: the same for the same thing, whoever tells it.
fn identifier(digits: usize, of: &[&str]) -> String {
    let mut text = Hash::of(format!("baton/{}", of.join("/")).as_bytes()).to_string();
    text.truncate(digits);
    text
}

fn text(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}

fn number(key: &str, value: u64) -> Value {
    json!({ "key": key, "value": { "intValue": value.to_string() } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use failover::Timestamp;
    use failover::ids::{Epoch, VoterId};

    fn step(name: &str, at: i64, voter: u64, monotonic_us: u64) -> StepRecord {
        let (name, note) = (name.to_owned(), format!("left {name}"));
        StepRecord { name, at: Timestamp(at), voter: VoterId(voter), monotonic_us, note }
    }

    fn record() -> Record {
        Record {
            id: TransitionId(7),
            service: "clinic".parse().expect("a name"),
            trigger: Trigger::Switchover,
            by: "alice".into(),
            cause: "kernel update".into(),
            plan: None,
            authority: None,
            given_up: None,
            drill: None,
            readiness: None,
            from: Some("arezzo-1".parse().expect("a name")),
            to: Some("roubaix-1".parse().expect("a name")),
            epoch: Epoch(3),
            steps: vec![
                step("started", 1_000, 1, 5_000_000),
                step("quiesce", 1_250, 1, 5_250_400),
                // Another voter leads now; its wall clock is behind.
                step("seal", 1_100, 2, 90),
                step("promote", 1_300, 2, 200_090),
            ],
            examined: Vec::new(),
            outcome: Outcome::Done,
        }
    }

    fn spans_of(record: &Record) -> Vec<Value> {
        of("test", "arezzo", record)["resourceSpans"][0]["scopeSpans"][0]["spans"]
            .as_array()
            .expect("a list")
            .clone()
    }

    #[test]
    fn one_span_a_step_below_one_for_the_whole() {
        let spans = spans_of(&record());
        let names: Vec<&str> = spans.iter().filter_map(|it| it["name"].as_str()).collect();
        assert_eq!(names, ["switchover", "quiesce", "seal", "promote"]);
        let times = |of: &Value| {
            ["startTimeUnixNano", "endTimeUnixNano"]
                .map(|key| of[key].as_str().expect("64-bit numbers are text").to_owned())
        };
        assert_eq!(times(&spans[0]), ["1000000000", "1450400000"]);
        assert_eq!(times(&spans[1]), ["1000000000", "1250400000"], "monotonic between its own");
        assert_eq!(times(&spans[2]), ["1250400000", "1250400000"], "never backwards");
        assert_eq!(times(&spans[3]), ["1250400000", "1450400000"]);
        for span in &spans[1..] {
            assert_eq!(span["parentSpanId"], spans[0]["spanId"]);
            assert_eq!(span["traceId"], spans[0]["traceId"]);
        }
        let hex = |of: &Value, digits| {
            let text = of.as_str().expect("text");
            text.len() == digits && text.bytes().all(|it| it.is_ascii_hexdigit())
        };
        assert!(hex(&spans[0]["traceId"], 32) && hex(&spans[0]["spanId"], 16));
        assert_eq!(spans_of(&record()), spans, "whoever tells it");
        let other = Record { id: TransitionId(8), ..record() };
        assert_ne!(spans_of(&other)[0]["traceId"], spans[0]["traceId"]);
    }

    #[test]
    fn people_and_their_reasons_are_not_told() {
        let told = of("test", "arezzo", &record()).to_string();
        assert!(!told.contains("alice") && !told.contains("kernel update"), "{told}");
        let lost = Record { trigger: Trigger::PrimaryLost, cause: "silent".into(), ..record() };
        assert!(of("test", "arezzo", &lost).to_string().contains("silent"));
    }

    #[test]
    fn what_did_not_end_well_is_an_error() {
        let aborted = Record { outcome: Outcome::Aborted("too late".into()), ..record() };
        assert_eq!(spans_of(&aborted)[0]["status"]["code"], ERROR);
        assert_eq!(spans_of(&aborted)[0]["status"]["message"], "too late");
        let superseded = Record { outcome: Outcome::Superseded(TransitionId(9)), ..record() };
        let told = spans_of(&superseded)[0].to_string();
        assert!(told.contains("baton.superseded_by"), "{told}");
        assert_eq!(spans_of(&Record { steps: Vec::new(), ..record() }), [Value::Null; 0]);
    }
}
