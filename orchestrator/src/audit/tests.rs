//! Whatever is done to an export is found, and a flood of notes becomes few.

use std::time::Duration;

use failover::event::{Note, NoteKind};
use failover::ids::Revision;
use failover::{Moment, Timestamp};

use super::*;

fn event(number: u64) -> String {
    format!(
        "{{\"stamp\":{{\"at\":1700000000000,\"voter\":1,\"monotonic_us\":{number}}},\
         \"by\":\"änna\",\"cause\":\"a \\\"reason\\\" of many\",\
         \"change\":{{\"noted\":{{\"note\":{{\"kind\":\
         \"question\",\"text\":\"why {number}\",\"times\":1,\"since\":0}}}}}}}}"
    )
}

fn chain(records: u64) -> (Vec<String>, Head) {
    let mut head = Head::default();
    let mut lines = Vec::new();
    for number in 1..=records {
        let event = event(number);
        let happened = Happened {
            entry: number * 3,
            term: 2,
            effect: number % 2 == 0,
            revision: Revision(number / 2),
            event: &event,
        };
        let (line, end) = extend(&head, &happened);
        assert_eq!(line.number, number);
        assert_eq!(follow(&head, &line.text), Ok(end));
        head = end;
        lines.push(line.text);
    }
    (lines, head)
}

fn export(lines: &[String], head: &Head) -> Vec<u8> {
    let mut text = lines.join("\n");
    if !lines.is_empty() {
        text.push('\n');
    }
    text.push_str(&end_of(head));
    text.push('\n');
    text.into_bytes()
}

/// The line that comes after these bytes, counted from 1.
fn line_at(before: &[u8]) -> u64 {
    before.split(|byte| *byte == b'\n').count() as u64
}

#[test]
fn what_was_exported_is_verified() {
    let (lines, head) = chain(7);
    let verified = verify(&*export(&lines, &head), Some(&head)).expect("it stands");
    assert_eq!(verified, Verified { records: 7, after: Head::default(), head });
    let record = read(&lines[6]).expect("a record");
    assert_eq!((record.number, record.hash), (7, head.hash));
    let of: failover::Event = serde_json::from_value(record.event).expect("an event");
    assert_eq!((kind(&of), what(&of)), ("question", "why 7: a \"reason\" of many".to_owned()));
    // A part stands by itself, and says after what.
    let (_, third) = chain(3);
    let verified = verify(&*export(&lines[3..], &head), None).expect("it stands");
    assert_eq!(verified, Verified { records: 4, after: third, head });
    // So does one of nothing.
    let none = Head::default();
    assert_eq!(verify(&*export(&[], &none), None).map(|v| v.records), Ok(0));
}

/// The same bytes with one bit changed, each bit of each byte once, and which byte it is.
fn flipped(whole: &[u8]) -> impl Iterator<Item = (usize, Vec<u8>)> {
    (0..whole.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))).map(|(at, bit)| {
        let mut changed = whole.to_vec();
        changed[at] ^= 1 << bit;
        (at, changed)
    })
}

/// I-34: every bit of every byte.
#[test]
fn i34_a_changed_byte_is_found() {
    let (lines, head) = chain(3);
    let whole = export(&lines, &head);
    for (at, changed) in flipped(&whole) {
        let line = line_at(&whole[..at]);
        let broken = verify(&*changed, Some(&head)).expect_err("it was changed");
        // The end of a line belongs to it; a first line that lies about what it stands after is
        // found out at once or by whoever knows the end.
        assert!(broken.line <= line + 1, "byte {at} of line {line}: {broken}");
    }
}

/// I-34: the same, to whoever does not know how it should end: all but what makes of the whole a
/// part that begins elsewhere.
#[test]
fn i34_a_changed_byte_is_found_without_knowing_the_end() {
    let (lines, head) = chain(3);
    let whole = export(&lines, &head);
    for (at, changed) in flipped(&whole) {
        assert!(verify(&*changed, None).is_err(), "byte {at} as {}", changed[at]);
    }
}

/// I-34: cut off after any number of bytes.
#[test]
fn i34_what_was_cut_off_is_missed() {
    let (lines, head) = chain(4);
    let whole = export(&lines, &head);
    for length in 0..whole.len() {
        let broken = verify(&whole[..length], None).expect_err("it was cut off");
        let line = line_at(&whole[..length]);
        assert_eq!(broken.line, line, "{length} bytes: {broken}");
    }
    // Cut off cleanly, with an end forged for what is left: who knows the head finds it.
    let (_, third) = chain(3);
    let forged = export(&lines[..3], &third);
    assert_eq!(verify(&*forged, None).map(|v| v.head), Ok(third));
    let broken = verify(&*forged, Some(&head)).expect_err("it should end later");
    assert_eq!(broken.line, 4);
}

/// I-34: lines taken out, moved, doubled, put in.
#[test]
fn i34_lines_taken_out_moved_or_put_in_are_found() {
    let (lines, head) = chain(6);
    for one in 0..lines.len() {
        let mut out = lines.clone();
        out.remove(one);
        // Without its first records it is a part, and says so: only who wants all misses them.
        let verified = verify(&*export(&out, &head), None);
        if one == 0 {
            assert_eq!(verified.map(|v| v.after.number), Ok(1));
        } else {
            assert_eq!(verified.map_err(|b| b.line), Err(one as u64 + 1), "without {one}");
        }
        for other in 0..=lines.len() {
            let mut doubled = lines.clone();
            doubled.insert(other, lines[one].clone());
            assert!(verify(&*export(&doubled, &head), None).is_err(), "{one} again at {other}");
        }
        for other in one + 1..lines.len() {
            let mut swapped = lines.clone();
            swapped.swap(one, other);
            assert!(verify(&*export(&swapped, &head), None).is_err(), "{one} for {other}");
        }
        // One that fits where it stands, but tells another story: those after it do not fit.
        let before = if one == 0 { Head::default() } else { chain(one as u64).1 };
        let text = event(99);
        let told =
            Happened { entry: 1, term: 1, effect: true, revision: Revision(1), event: &text };
        let mut forged = lines.clone();
        forged[one] = extend(&before, &told).0.text;
        let broken = verify(&*export(&forged, &head), None).expect_err("it was forged");
        assert_eq!(broken.line, one as u64 + 2, "{one}: {broken}");
    }
}

#[test]
fn other_spellings_are_refused() {
    let (lines, head) = chain(2);
    let whole = String::from_utf8(export(&lines, &head)).expect("text");
    for other in [
        whole.replacen(":1,", ": 1,", 1),
        whole.replacen('\n', "\r\n", 1),
        whole.replacen('\n', "\n\n", 1),
        format!("{whole}\n"),
        format!("{whole}{}\n", end_of(&head)),
        whole.replace(&head.hash.to_string(), &head.hash.to_string().to_uppercase()),
    ] {
        assert!(verify(other.as_bytes(), None).is_err(), "{other}");
    }
    // What is no file of ours is refused, however it looks.
    for other in ["", "\n", "{}\n", "[1]\n", "\u{1F}\n", &"9".repeat(LINE_BYTES + 9)] {
        assert_eq!(verify(other.as_bytes(), None).map_err(|b| b.line), Err(1));
    }
}

#[test]
fn a_hole_is_filled_with_what_fits_only() {
    let (lines, head) = chain(9);
    let (_, second) = chain(2);
    let (_, seventh) = chain(7);
    let mut hole = Hole { lower: second, upper: seventh };
    assert_eq!(hole.fill(&[]), Ok(Vec::new()));
    assert!(hole.fill(&lines[3..]).is_err(), "one is missing");
    let filled = hole.fill(&lines[2..4]).expect("they fit");
    assert_eq!(filled.iter().map(|line| line.number).collect::<Vec<_>>(), [3, 4]);
    // What comes after the hole is left alone.
    let filled = hole.fill(&lines[4..]).expect("they fit");
    assert_eq!(filled.len(), 3);
    assert!(!hole.is_open());
    // Another chain of the same length does not close it.
    let mut false_end = Hole { lower: second, upper: Head { hash: head.hash, ..seventh } };
    assert!(false_end.fill(&lines[2..]).is_err());
    assert_eq!(false_end.lower, second);
}

#[test]
fn a_flood_of_notes_becomes_few_and_all_are_counted() {
    let alike = Duration::from_mins(1);
    let mut ledger = Ledger::new(alike);
    let (mut told, mut counted, mut heard) = (0_u64, 0_u64, 0_u64);
    let note = |number: u64| Note {
        kind: NoteKind::Refusal,
        service: None,
        text: format!("no {number}"),
        times: 1,
        since: Timestamp(i64::try_from(number).expect("small")),
    };
    // A thousand different refusals a second, for an hour.
    for second in 0..3_600_u64 {
        let now = Moment(1_000_000 * (second + 1));
        for number in 0..1_000 {
            heard += 1;
            match ledger.hear("mallory", note(second * 1_000 + number), now) {
                Heard::Now(note) => (told, counted) = (told + 1, counted + note.times),
                Heard::Counted => {}
            }
        }
        while let Some((_, note)) = ledger.due(now) {
            (told, counted) = (told + 1, counted + note.times);
        }
    }
    assert!(told <= 64 + 3_600 / 5 + 1, "{told} entries");
    // Others are not kept from theirs.
    let login = Note { kind: NoteKind::Login, ..note(1) };
    let last = Moment(1_000_000 * 3_600);
    assert!(matches!(ledger.hear("anna", login, last), Heard::Now(_)));
    let mut now = last;
    while !ledger.is_empty() {
        now = now.after(Duration::from_secs(5));
        while let Some((_, note)) = ledger.due(now) {
            counted += note.times;
        }
    }
    assert_eq!(counted, heard, "every one is counted");
}

#[test]
fn alike_notes_are_one_with_a_number() {
    let mut ledger = Ledger::new(Duration::from_mins(1));
    let note = |at: i64| Note {
        kind: NoteKind::Question,
        service: None,
        text: "why".into(),
        times: 1,
        since: Timestamp(at),
    };
    let second = |second: u64| Moment(1_000_000 * second);
    assert!(matches!(ledger.hear("anna", note(1), second(1)), Heard::Now(_)));
    for at in 2..50 {
        let heard = ledger.hear("anna", note(i64::try_from(at).expect("small")), second(at));
        assert_eq!(heard, Heard::Counted);
        assert_eq!(ledger.due(second(at)), None);
    }
    assert!(matches!(ledger.hear("berta", note(50), second(50)), Heard::Now(_)));
    let (by, counted) = ledger.due(second(62)).expect("it is time");
    assert_eq!((by.as_str(), counted.times, counted.since), ("anna", 48, Timestamp(2)));
    // What could not be told waits, and is told as soon as it can be.
    ledger.put_back("anna", counted.clone());
    assert_eq!(ledger.due(second(63)), Some(("anna".into(), counted)));
    assert!(ledger.is_empty());
}
