//! Phases of made-up transitions.

use failover::ids::{Epoch, TransitionId, VoterId};
use failover::time::Timestamp;
use orchestrator::probe::{Attempt, Head};

use super::*;

pub(crate) fn record(steps: &[(&str, u64, u64)]) -> Record {
    let step = |(name, voter, ms): &(&str, u64, u64)| StepRecord {
        name: (*name).to_owned(),
        at: Timestamp(i64::try_from(1_000_000 + ms).expect("small")),
        voter: VoterId(*voter),
        // Every voter's clock begins somewhere else.
        monotonic_us: voter * 1_000_000_000 + ms * 1_000,
        note: String::new(),
    };
    Record {
        id: TransitionId(3),
        service: "clinic".parse().expect("a name"),
        trigger: Trigger::PrimaryLost,
        by: "baton".into(),
        cause: "primary lost: both ports refuse".into(),
        plan: None,
        authority: None,
        given_up: None,
        drill: None,
        readiness: None,
        from: Some("arezzo-1".parse().expect("a name")),
        to: Some("roubaix-1".parse().expect("a name")),
        epoch: Epoch(1),
        steps: steps.iter().map(step).collect(),
        examined: Vec::new(),
        outcome: Outcome::Done,
    }
}

pub(crate) const STEPS: [(&str, u64, u64); 6] = [
    ("started", 2, 0),
    ("seal", 2, 40),
    ("promote", 2, 240),
    ("prove", 2, 260),
    ("redirect", 2, 300),
    ("verify", 2, 350),
];

#[test]
fn each_phase_ends_with_its_step() {
    let found = phases(&record(&STEPS));
    assert_eq!(found.seal_ms, Some(40.0));
    assert_eq!(found.promote_ms, Some(200.0));
    assert_eq!(found.prove_ms, Some(20.0));
    assert_eq!(found.redirect_ms, Some(40.0));
    assert_eq!(found.verify_ms, Some(50.0));
    assert_eq!(found.total_ms, Some(350.0));
    assert_eq!((found.quiesce_ms, found.catch_up_ms), (None, None));
}

/// I-23: clocks of two voters are never subtracted from each other.
#[test]
fn a_new_leader_is_measured_by_the_wall() {
    let mut steps = STEPS;
    for step in steps.iter_mut().skip(2) {
        step.1 = 1;
    }
    let found = phases(&record(&steps));
    assert_eq!(found.promote_ms, Some(200.0));
    assert_eq!(found.total_ms, Some(350.0));
}

#[test]
fn a_journal_tells_when_it_was_noticed() {
    let attempt = |n: u64, us: u64| Attempt {
        n,
        sent_us: us - 1_000,
        acked_us: Some(us),
        done_us: us,
        outcome: Write::Acked,
        server: ([192, 0, 2, 1], 5432).into(),
        error: None,
    };
    let begun = 2_000_000_000;
    let journal = Journal {
        head: Head {
            run: "r".into(),
            service: "clinic".into(),
            through: "clinic.db.example.".into(),
            every_ms: 10,
            us: 0,
            at: 0,
            last_ack_us: None,
        },
        // A longer gap long before is another story.
        attempts: vec![
            attempt(1, begun - 9_000_000),
            attempt(2, begun - 210_000),
            attempt(3, begun + 310_000),
        ],
    };
    let record = record(&STEPS);
    let felt = clients(&record, &journal, None);
    let full = with_phases(&record, Some(felt.clone()));
    assert_eq!(full.phases.detect_ms, Some(210.0));
    assert_eq!(full.clients.as_ref().and_then(|clients| clients.gap_ms), Some(520.0));
    let text = text(&record, Some(&felt));
    assert!(text.contains("no write was acknowledged for  520 ms"), "{text}");
    assert!(text.contains("lost                           unknown"), "{text}");
}

#[test]
fn json_is_the_record_with_its_phases() {
    let record = record(&STEPS);
    let value = serde_json::to_value(with_phases(&record, None)).expect("plain data");
    assert!(value.get("steps").is_some() && value.get("outcome").is_some());
    assert_eq!(value.pointer("/phases/total_ms"), Some(&serde_json::json!(350.0)));
    assert!(serde_json::from_value::<Record>(value).is_ok(), "it still reads as a record");
}

/// By what right, and what was given up for it, stands in the text and on the page.
#[test]
fn who_said_yes_and_what_was_given_up_is_told() {
    use failover::event::{Approved, Authority};
    use failover::people::Role;
    let bob = Approved { by: "bob".into(), role: Role::Approver, reason: "both burned".into() };
    let position = failover::position::Position {
        timeline: failover::Timeline(1),
        history: Vec::new(),
        lsn: failover::Lsn(0x50),
    };
    let record = Record {
        by: "anna".into(),
        authority: Some(Authority { role: Role::Operator, approved: Some(bob), totp_step: None }),
        given_up: Some(failover::loss::GivenUp { kept: position, bytes: Some(20) }),
        ..record(&STEPS)
    };
    let page = page_of(record.clone()).1;
    for said in ["anna (operator)", "bob (approver): both burned", "giving up what is behind"] {
        let text = text(&record, None);
        assert!(text.contains(said) && page.contains(said), "{said}: {text}");
    }
    let text = text(&super::tests::record(&STEPS), None);
    assert!(text.contains("  by       baton\n") && !text.contains("approved"), "{text}");
}

/// A bundle and its page.
fn page_of(transition: Record) -> (String, String, orchestrator::evidence::Verified) {
    use orchestrator::audit::Head;
    use orchestrator::evidence::{Evidence, FORMAT, Slice, Verified};
    let evidence = Evidence {
        format: FORMAT,
        cluster: "test".into(),
        made_by: "v1".into(),
        made_at: Timestamp(1_700_000_000_000),
        version: "0".into(),
        transition,
        topology_version: 1,
        topology: failover::topology::Topology::default(),
        instances: Vec::new(),
        name_servers: Vec::new(),
        deviations: vec!["a <deviation>".into()],
        audit: Slice { after: Head::default(), lines: Vec::new(), head: Head::default() },
    };
    let bundle = serde_json::to_string(&evidence).expect("JSON");
    let verified = Verified { evidence, key: "00".into() };
    let page = html::page(&bundle, &verified, None);
    (bundle, page, verified)
}

/// What `baton verify` does: the page must be what its own bundle makes. It carries that, runs
/// nothing of what was said, loads nothing, and is another after any changed byte.
pub(crate) fn guarded(page: &str, bundle: &str, again: impl Fn() -> String) {
    assert_eq!(html::bundle_of(page).as_deref(), Some(bundle), "it carries its bundle");
    for said in ["<b>", "<deviation>", "<not>"] {
        assert!(!page.contains(said), "what was said runs nothing: {said}");
    }
    for outside in ["http://", "https://", "src=", "href=", "<script", "url("] {
        assert!(!page.contains(outside), "it loads nothing: {outside}");
    }
    for at in 0..page.len() {
        let mut changed = page.to_owned().into_bytes();
        changed[at] ^= 1;
        let Ok(changed) = String::from_utf8(changed) else { continue };
        let same = html::bundle_of(&changed).is_some_and(|told| told == bundle);
        assert!(!same || again() != changed, "byte {at}");
    }
}

/// I-34: a page is refused after one changed byte, wherever it stands.
#[test]
fn i34_a_changed_byte_of_a_page_is_refused() {
    let cause = "<b>&amp; \"why\"</pre>".into();
    let (bundle, page, verified) = page_of(Record { cause, ..record(&STEPS) });
    assert!(page.contains("<svg") && page.contains(">200 ms</text>"), "{page}");
    guarded(&page, &bundle, || html::page(&bundle, &verified, None));
}

/// What the probe writer says is carried, shown as its own word, and guarded like the rest of the
/// page against changes of the page; of another transition it is refused.
#[test]
fn what_the_probe_writer_says_stands_beside_the_bundle() {
    let told = witness::Witness {
        transition: record(&STEPS).id,
        run: "r".into(),
        through: "clinic.db.example.".into(),
        every_ms: 10,
        journal_sha256: "00".into(),
        ran: true,
        interruptions: vec![(Timestamp(1_700_000_000_000), Timestamp(1_700_000_008_600))],
        table: None,
    };
    let line = serde_json::json!({"probe_writer": told}).to_string() + "\n";
    let bundle = "{\"evidence\":1}\n";
    assert_eq!(witness::split(bundle), (bundle, None));
    let both = bundle.to_owned() + &line;
    assert_eq!(witness::split(&both), (bundle, Some(line.as_str())));
    assert_eq!(witness::read(&line, told.transition), Ok(told.clone()));
    assert!(witness::read(&line, failover::ids::TransitionId(99)).is_err());
    assert!(witness::read(&line.replace("\"ran\"", "\"won\""), told.transition).is_err());
    let said = witness::lines(&told).join("\n");
    assert!(said.contains("for 8.6 s") && said.contains("whether anything is lost is not known"));
}
