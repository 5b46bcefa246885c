//! A drill's bundle: one changed byte is one too many, and so is a step that is not on record.

use failover::Event;
use failover::cluster::{Step, Trigger};
use failover::drill::{DrillChange, Kind, Stage};
use failover::event::{Change, ServiceChange};
use failover::ids::{DrillId, TransitionId};

use super::*;
use crate::evidence::Search;
use crate::evidence::tests::{chain, event, key, of_service, record, status, step};

/// A drill whose switchover there is overtaken by a failover that is not its own.
struct Told {
    lines: Vec<String>,
    drill: Drill,
    transitions: Vec<Record>,
}

fn of_clinic(change: ServiceChange) -> Change {
    of_service("clinic", change)
}

fn of_drill(stage: Option<Stage>, change: DrillChange) -> Change {
    Change::Drill { drill: DrillId(4), stage, change }
}

fn started(trigger: Trigger, drill: Option<DrillId>) -> Change {
    let (target, step) = (None, if drill.is_some() { Step::Quiesce } else { Step::Seal });
    let (readiness, given_up) = (None, None);
    of_clinic(ServiceChange::Started { trigger, target, step, drill, readiness, given_up })
}

fn drill_of(begun: &Event) -> Drill {
    Drill {
        id: DrillId(4),
        kind: Kind::Switchover,
        service: "clinic".parse().expect("a name"),
        home: None,
        target: None,
        dwell: std::time::Duration::from_mins(5),
        at_most: None,
        by: begun.by.clone(),
        reason: begun.cause.clone(),
        despite: Some("protected".into()),
        plan: None,
        stage: Stage::Dwell,
        there: Some(TransitionId(7)),
        back: None,
        after: TransitionId(6),
        upto: Some(TransitionId(8)),
        until: None,
        abort: None,
        steps: Vec::new(),
        verdicts: Vec::new(),
        findings: Vec::new(),
        outcome: Outcome::Overtaken("cause 8".into()),
    }
}

fn story() -> Told {
    let service = "clinic".parse().expect("a name");
    let (kind, dwell) = (Kind::Switchover, std::time::Duration::from_mins(5));
    let (target, occasion, despite) = (None, None, Some("protected".into()));
    let at_most = None;
    let begun = DrillChange::Begun { kind, service, target, dwell, at_most, occasion, despite };
    let done = || DrillChange::StageDone { verdicts: Vec::new() };
    let outcome = Outcome::Overtaken("cause 8".into());
    let ended = DrillChange::Ended { outcome, verdicts: Vec::new(), findings: Vec::new() };
    let own = Some(DrillId(4));
    let events = [
        event(1, "anna", of_clinic(ServiceChange::Resumed)),
        event(2, "anna", of_drill(None, begun)),
        event(3, "baton", of_drill(Some(Stage::Check), done())),
        event(4, "drill 4", started(Trigger::Switchover, own)),
        event(5, "baton", of_clinic(ServiceChange::Resumed)),
        event(6, "baton", of_clinic(ServiceChange::StepDone)),
        event(7, "baton", of_drill(Some(Stage::There), done())),
        event(8, "baton", started(Trigger::PrimaryLost, None)),
        event(9, "baton", of_drill(Some(Stage::Dwell), ended)),
        event(10, "baton", of_clinic(ServiceChange::StepDone)),
        event(11, "baton", of_clinic(ServiceChange::Resumed)),
    ];
    let at = |number: usize| &events[number - 1];
    let mut drill = drill_of(at(2));
    drill.steps = [(2, "started"), (3, "check"), (7, "there"), (9, "ended")]
        .map(|(n, s)| step(at(n), s))
        .into();
    let mut transitions = vec![record(7, at(4), own), record(8, at(8), None)];
    transitions[0].steps = vec![step(at(4), "started"), step(at(6), "quiesce")];
    transitions[1].steps = vec![step(at(8), "started"), step(at(10), "promote")];
    Told { lines: chain(&events), drill, transitions }
}

fn slice(told: &Told) -> Option<Slice> {
    let mut search = Search::new(Story::of_drill(&told.drill, &told.transitions));
    for line in &told.lines {
        if search.take(line).expect("it follows") {
            break;
        }
    }
    search.done()
}

fn whole() -> DrillEvidence {
    let told = story();
    let audit = slice(&told).expect("it is on record");
    let made = ("v1".into(), Timestamp(7));
    evidence(made, (told.drill, told.transitions), &status(), Topology::default(), audit)
}

/// From the drill's beginning to the last step of what it met, and nothing after.
#[test]
fn the_slice_of_a_drill_is_found_in_the_record() {
    let told = story();
    let slice = slice(&told).expect("it is there");
    assert_eq!(slice.lines, &told.lines[1..10]);
    assert_eq!((slice.after.number, slice.head.number), (1, 10));
}

/// I-34, I-36: whoever changes a byte of a drill's bundle is found out without any cluster.
#[test]
fn i34_i36_a_changed_byte_of_a_drills_bundle_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = key(&folder);
    let evidence = whole();
    let bundle = sign(&evidence, &key).expect("it is signed");
    assert!(is_of_drill(&bundle));
    let verified = verify(&bundle).expect("it stands");
    assert_eq!(verified, Verified { evidence, key: key.public() });
    assert!(crate::evidence::verify(&bundle).is_err(), "it is about no single transition");
    let bytes = bundle.as_bytes();
    for at in 0..bytes.len() {
        let mut changed = bytes.to_vec();
        changed[at] ^= 1 << (at % 7);
        if let Ok(text) = String::from_utf8(changed) {
            assert!(verify(&text).is_err(), "byte {at}");
        }
    }
    // What is signed as evidence of another kind is none of this kind.
    let (_, rest) = bundle.split_once(':').expect("a frame");
    assert!(crate::evidence::verify(&format!("{{\"evidence\":{rest}")).is_err());
}

/// I-34, I-36: a signature is not enough: what is told must be what is on record.
#[test]
fn i34_i36_a_signed_drill_that_is_not_on_record_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = key(&folder);
    let changes: [fn(&mut DrillEvidence); 13] = [
        |e| e.drill.despite = None,
        |e| e.drill.outcome = Outcome::Passed,
        |e| e.drill.reason = "because".into(),
        |e| e.drill.by = "bob".into(),
        |e| e.drill.kind = Kind::Readiness,
        |e| e.drill.steps[1].at = Timestamp(1),
        |e| drop(e.drill.steps.remove(1)),
        |e| e.drill.steps.clear(),
        |e| e.transitions[0].drill = None,
        |e| e.transitions[1].drill = Some(DrillId(4)),
        |e| drop(e.transitions.remove(1)),
        |e| e.transitions.reverse(),
        |e| drop(e.audit.lines.remove(3)),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut evidence = whole();
        change(&mut evidence);
        let signed = sign(&evidence, &key).expect("it is signed");
        assert!(verify(&signed).is_err(), "change {number}");
    }
}

#[test]
fn what_was_not_as_it_should_be_in_a_drill_is_said() {
    let told = story();
    let said = deviations_of(&told.drill, &told.transitions, &[]).join("; ");
    for part in ["was overtaken: cause 8", "transition 8 was not the drill's"] {
        assert!(said.contains(part), "{said}");
    }
}
