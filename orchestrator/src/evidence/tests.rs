//! One changed byte is one too many, and a signature under an untrue story does not make it true.

use failover::cluster::{Examined, Step, Trigger};
use failover::event::{Change, Event, Seen as State, ServiceChange, Stamp};
use failover::ids::{DrillId, Epoch, Generation, Revision, TransitionId, VoterId};

use super::*;
use crate::answers::VoterRef;
use crate::audit::{Happened, extend};

pub(super) fn key(folder: &tempfile::TempDir) -> key::Key {
    key::Key::open(folder.path()).expect("a key")
}

pub(super) fn event(number: u64, by: &str, change: Change) -> Event {
    let at = Timestamp(1_700_000_000_000 + i64::try_from(number).expect("small"));
    let stamp = Stamp { at, voter: VoterId(1), monotonic_us: number * 1_000 };
    let (by, cause) = (by.into(), format!("cause {number}"));
    Event { stamp, by, cause, plan: None, authority: None, change }
}

pub(super) fn of_service(service: &str, change: ServiceChange) -> Change {
    let seen = State { epoch: Epoch(1), step: None, generation: Generation(1) };
    Change::Service { service: service.parse().expect("a name"), seen, change }
}

pub(super) fn step(event: &Event, name: &str) -> StepRecord {
    let Stamp { at, voter, monotonic_us } = event.stamp;
    StepRecord { name: name.into(), at, voter, monotonic_us, note: event.cause.clone() }
}

/// What a change of primary that `first` began becomes, without its steps.
pub(super) fn record(id: u64, first: &Event, drill: Option<DrillId>) -> Record {
    let switchover = drill.is_some();
    Record {
        id: TransitionId(id),
        service: "clinic".parse().expect("a name"),
        trigger: if switchover { Trigger::Switchover } else { Trigger::PrimaryLost },
        by: first.by.clone(),
        cause: first.cause.clone(),
        plan: None,
        authority: None,
        given_up: None,
        drill,
        readiness: None,
        from: None,
        to: None,
        epoch: Epoch(1),
        steps: Vec::new(),
        examined: Vec::new(),
        outcome: Outcome::Done,
    }
}

/// The audit records of events.
pub(super) fn chain(events: &[Event]) -> Vec<String> {
    let mut head = Head::default();
    let mut lines = Vec::new();
    for (number, event) in (1..).zip(events) {
        let text = serde_json::to_string(event).expect("JSON");
        let (entry, revision) = (number, Revision(number));
        let happened = Happened { entry, term: 1, effect: true, revision, event: &text };
        let (line, end) = extend(&head, &happened);
        lines.push(line.text);
        head = end;
    }
    lines
}

pub(super) fn status() -> Status {
    Status {
        cluster: "test".into(),
        revision: Revision(12),
        topology_version: 3,
        zone_version: 1,
        leader: None,
        answered_by: VoterRef { voter: VoterId(1), name: "v1".into(), site: None },
        term: 1,
        at: Timestamp(0),
        led_for_ms: None,
        voters: Vec::new(),
        sites: std::collections::BTreeMap::new(),
        services: Vec::new(),
        name_servers: Vec::new(),
        drill: None,
        missed_drills: Vec::new(),
    }
}

/// A chain of twelve records, and the transition whose steps are the fifth, eighth and tenth.
fn story() -> (Vec<String>, Record) {
    let events = (1..=12).map(|number| {
        let (service, change) = match number {
            5 => ("clinic", ServiceChange::started(Trigger::PrimaryLost, None, Step::Seal)),
            8 | 10 => ("clinic", ServiceChange::StepDone),
            9 => ("other", ServiceChange::StepDone),
            _ => ("clinic", ServiceChange::Resumed),
        };
        event(number, "baton", of_service(service, change))
    });
    let events: Vec<Event> = events.collect();
    let record = Record {
        from: Some("a-1".parse().expect("a name")),
        to: Some("b-1".parse().expect("a name")),
        steps: [5, 8, 10].map(|n| step(&events[n - 1], &format!("step {n}"))).into(),
        examined: vec![Examined {
            instance: "c-1".parse().expect("a name"),
            position: None,
            verdict: "silent".into(),
        }],
        ..record(2, &events[4], None)
    };
    (chain(&events), record)
}

fn found(lines: &[String], record: &Record) -> Option<Slice> {
    let mut search = Search::new(Story::of_transition(record));
    for line in lines {
        if search.take(line).expect("it follows") {
            break;
        }
    }
    search.done()
}

fn told() -> Evidence {
    let (lines, record) = story();
    let audit = found(&lines, &record).expect("it is on record");
    evidence(("v1".into(), Timestamp(7)), &record, &status(), Topology::default(), audit)
}

#[test]
fn the_slice_of_a_change_is_found_in_the_record() {
    let (lines, record) = story();
    let slice = found(&lines, &record).expect("it is there");
    assert_eq!(slice.lines, &lines[4..10]);
    assert_eq!((slice.after.number, slice.head.number), (4, 10));
    // One that is not over: up to its last step so far.
    let mut open = record.clone();
    open.steps.pop();
    let slice = found(&lines, &open).expect("it is there");
    assert_eq!(slice.lines, &lines[4..8]);
    // Another service's steps are not its own.
    let other = Record { service: "other".parse().expect("a name"), ..record };
    assert_eq!(found(&lines, &other), None);
}

/// I-34: whoever changes a byte of a bundle is found out without any cluster.
#[test]
fn i34_a_changed_byte_of_a_bundle_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = key(&folder);
    let evidence = told();
    let bundle = sign(&evidence, &key).expect("it is signed");
    let verified = verify(&bundle).expect("it stands");
    assert_eq!(verified, Verified { evidence, key: key.public() });
    let bytes = bundle.as_bytes();
    for at in 0..bytes.len() {
        // Every bit of what is round the evidence, one of each byte of the rest.
        let frame = at < 20 || at > bytes.len() - 260;
        for bit in if frame { 0..8 } else { at % 7..at % 7 + 1 } {
            let mut changed = bytes.to_vec();
            changed[at] ^= 1 << bit;
            if let Ok(text) = String::from_utf8(changed) {
                assert!(verify(&text).is_err(), "byte {at}, bit {bit}");
            }
        }
    }
    for cut in [0, 1, bytes.len() / 2, bytes.len() - 1] {
        assert!(verify(&bundle[..cut]).is_err());
    }
    assert!(verify(&format!("{bundle} ")).is_err());
}

/// I-34: a signature is not enough: what is told must be what is on record.
#[test]
fn i34_a_signed_story_that_is_not_on_record_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = key(&folder);
    let refused = |change: &dyn Fn(&mut Evidence)| {
        let mut evidence = told();
        change(&mut evidence);
        verify(&sign(&evidence, &key).expect("it is signed")).expect_err("it is not true")
    };
    let text = refused(&|e| e.transition.steps[1].at = Timestamp(1));
    assert!(text.contains("record 8 says something else"), "{text}");
    let text = refused(&|e| e.transition.steps[2].note = "because".into());
    assert!(text.contains("record 10 says something else"), "{text}");
    refused(&|e| e.transition.steps.clear());
    refused(&|e| drop(e.transition.steps.remove(1)));
    let text = refused(&|e| {
        let again = e.transition.steps[2].clone();
        e.transition.steps.push(again);
    });
    assert!(text.contains("not on record"), "{text}");
    for change in [
        (|e| e.transition.by = "anna".into()) as fn(&mut Evidence),
        |e| e.transition.cause = "because".into(),
        |e| e.transition.plan = Some("00".into()),
        |e| e.transition.trigger = Trigger::Switchover,
    ] {
        let text = refused(&change);
        assert!(text.contains("record 5 says something else"), "{text}");
    }
    let text = refused(&|e| drop(e.audit.lines.remove(2)));
    assert!(text.contains("record 7"), "{text}");
    refused(&|e| e.audit.lines[1] = e.audit.lines[1].replace("cause 6", "cause x"));
    let text = refused(&|e| e.format = 2);
    assert!(text.contains("format 2"), "{text}");
}

#[test]
fn a_key_is_made_once_and_a_damaged_one_is_not_replaced() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().expect("a folder");
    let nowhere = folder.path().join("not-made-yet");
    assert!(key::Key::open(&nowhere).is_ok(), "the first start of a voter has no folder");
    let first = key(&folder).public();
    assert_eq!(key(&folder).public(), first);
    let path = folder.path().join(key::FILE);
    let mode = std::fs::metadata(&path).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    std::fs::write(&path, b"damaged").expect("it can be written");
    let refused = key::Key::open(folder.path()).expect_err("it is damaged").to_string();
    assert!(refused.contains("evidence.key"), "{refused}");
    std::fs::remove_file(&path).expect("it is there");
    assert_ne!(key(&folder).public(), first);
}

#[test]
fn what_was_not_as_it_should_be_is_said() {
    let (_, mut record) = story();
    assert_eq!(deviations(&record, &[]), ["c-1 was not heard: silent"]);
    record.steps[1].voter = VoterId(2);
    record.steps[2].at = Timestamp(1_700_000_020_000);
    record.outcome = Outcome::Aborted("too slow".into());
    let said = deviations(&record, &[]).join("; ");
    for part in ["rolled back: too slow", "voter 2 went on for voter 1", "the goal is 10000 ms"] {
        assert!(said.contains(part), "{said}");
    }
}
