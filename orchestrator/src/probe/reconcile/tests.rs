//! Synthetic journals against synthetic tables.

use std::io::Write as _;

use super::*;
use crate::probe::{Attempt, Gap, Head};

fn head() -> Head {
    Head {
        run: "r".into(),
        service: "clinic".into(),
        through: "clinic.db.example.".into(),
        every_ms: 10,
        us: 0,
        at: 0,
        last_ack_us: None,
    }
}

fn attempt(n: u64, outcome: Outcome, done_us: u64) -> Attempt {
    Attempt {
        n,
        sent_us: done_us.saturating_sub(2_000),
        acked_us: (outcome == Outcome::Acked).then_some(done_us),
        done_us,
        outcome,
        server: ([192, 0, 2, 1], 5432).into(),
        error: None,
    }
}

#[test]
fn each_write_is_counted_once_and_where_it_belongs() {
    let attempts = vec![
        attempt(1, Outcome::Acked, 10_000),
        attempt(2, Outcome::Acked, 20_000),
        attempt(3, Outcome::Unknown, 30_000),
        attempt(4, Outcome::Unknown, 31_000),
        attempt(5, Outcome::Refused, 32_000),
        attempt(6, Outcome::Acked, 900_000),
        attempt(6, Outcome::Acked, 901_000),
    ];
    let journal = Journal { head: head(), attempts };
    // 2 is missing, 3 is there, 7 was written by a writer that did not live to note it.
    let found = held_against(&journal, &BTreeSet::from([1, 3, 6, 7]));
    assert_eq!((found.acked, found.lost), (3, 1));
    assert_eq!(found.lost_numbers, [2]);
    assert_eq!(found.duplicates, 1);
    assert_eq!((found.unknown, found.unknown_found, found.unknown_missing), (2, 1, 1));
    assert_eq!((found.refused, found.refused_found, found.unrecorded), (1, 0, 1));
    assert_eq!((found.last_ack_us, found.first_ack_us), (Some(20_000), Some(900_000)));
    assert_eq!(found.gap_ms, Some(880.0));
}

#[test]
fn an_empty_run_has_no_gap() {
    let journal = Journal { head: head(), attempts: Vec::new() };
    let found = held_against(&journal, &BTreeSet::new());
    assert_eq!((found.acked, found.lost, found.gap_ms), (0, 0, None));
}

#[test]
fn a_journal_reads_what_it_wrote_and_forgives_a_torn_end() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("j.jsonl");
    let mut writing = super::super::Writing::begin(&path, &head()).expect("it is new");
    writing.remark("resolved", Some(([192, 0, 2, 1], 5432).into()), None).expect("writable");
    writing.attempt(&attempt(1, Outcome::Acked, 10_000)).expect("writable");
    writing.attempt(&attempt(2, Outcome::Acked, 25_000)).expect("writable");
    let mut file = std::fs::OpenOptions::new().append(true).open(&path).expect("it is there");
    file.write_all(b"{\"n\":3,\"sent").expect("writable");
    let journal = Journal::read(&path).expect("readable");
    assert_eq!((journal.head.run.as_str(), journal.attempts.len()), ("r", 2));
    let gap = journal.largest_gap().expect("two acknowledgements");
    assert_eq!(gap, Gap { last_ack_us: 10_000, first_ack_us: 25_000 });
    let again = super::super::Writing::begin(&path, &head()).expect_err("never written over");
    assert!(again.to_string().contains("is there already"), "{again}");
}
