//! The audit chain: the same at every voter, whole on every disk, before what it tells of (I-34).

use std::collections::BTreeMap;
use std::time::Duration;

use failover::Request;
use failover::event::{Note, NoteKind};
use failover::ids::VoterId;
use orchestrator::answers::AuditPage;
use orchestrator::audit::{self, Head, Line};
use orchestrator::log::{Batch, Hard, Place};
use orchestrator::message::{Group, Snapshot};
use orchestrator::replica::{Input, Output, Query, Replica, Reply};
use orchestrator::storage::{Store, first_snapshot};
use redb::{Database, TableDefinition};

use crate::world::{World, service, topology};

fn hold(n: u64) -> Request {
    if n.is_multiple_of(2) {
        Request::Hold { service: service(), reason: format!("{n}") }
    } else {
        Request::Resume { service: service(), reason: format!("{n}") }
    }
}

fn asked(world: &mut World, requests: u64) {
    for n in 0..requests {
        let leader = world.elected();
        let token = world.ask(leader, hold(n));
        world.until("an answer", |world| world.reply(token).is_some());
        world.replies.clear();
    }
}

/// Everything that a voter has, page by page, held against its own head.
fn whole(world: &mut World, id: VoterId) -> (Vec<String>, Head) {
    let mut lines: Vec<String> = Vec::new();
    let mut reached = Head::default();
    loop {
        let token = world.token();
        world.step(id, Input::Query { token, query: Query::Audit(reached.number + 1) });
        let Some(Reply::Found(value)) = world.reply(token) else { panic!("no page") };
        let page: AuditPage = serde_json::from_value(value.clone()).expect("a page");
        assert!(!page.hole.is_open(), "{:?}", page.hole);
        for line in &page.lines {
            reached = audit::follow(&reached, line).expect("it follows");
        }
        if page.lines.is_empty() {
            assert_eq!(reached, page.head, "voter {id}: it ends before its head");
            return (lines, reached);
        }
        lines.extend(page.lines);
    }
}

fn texts(lines: &[String]) -> Vec<(&'static str, String, String)> {
    let read = |line: &String| {
        let record = audit::read(line).expect("a record");
        let event: failover::Event = serde_json::from_value(record.event).expect("an event");
        (audit::kind(&event), event.by.clone(), audit::what(&event))
    };
    lines.iter().map(read).collect()
}

/// I-34: every entry that says anything is a record, from the first on, at every voter.
#[test]
fn i34_every_voter_has_the_whole_chain() {
    let mut world = World::new(3, 21);
    world.declare();
    asked(&mut world, 60);
    world.run(Duration::from_secs(5));
    let ids: Vec<VoterId> = world.voters.keys().copied().collect();
    let all: BTreeMap<_, _> = ids.iter().map(|id| (*id, whole(&mut world, *id))).collect();
    let (lines, head) = &all[&VoterId(1)];
    assert!(all.values().all(|(_, other)| other == head), "{all:?}");
    let texts = texts(lines);
    assert_eq!(texts[0].0, "decision", "voters are described first: {:?}", texts[0]);
    let commands = texts.iter().filter(|(kind, by, _)| *kind == "command" && by == "alice");
    assert_eq!(commands.count(), 61, "the topology, and what was asked");
    assert!(texts.iter().any(|(kind, by, _)| *kind == "decision" && by == "baton"));
    // Nothing is left out: the log was cut many times, and the records of what was cut are on disk.
    assert!(world.disks.values().all(|(_, saved)| saved.dropped.index > 20));
    assert!(world.records.values().all(|table| table.len() > 20));
    // A restart goes on with the same chain.
    world.crash(VoterId(2));
    world.start(VoterId(2));
    world.run(Duration::from_secs(5));
    let (again, after) = whole(&mut world, VoterId(2));
    assert!(again.starts_with(lines) && after.number >= head.number);
}

/// I-34: in a cluster that an earlier version made, the chain begins at the same entry everywhere,
/// however far each voter's snapshot is.
#[test]
fn i34_in_an_older_cluster_the_record_begins_with_an_entry() {
    let mut world = World::new(3, 27);
    world.declare();
    asked(&mut world, 30);
    world.run(Duration::from_secs(5));
    for n in 1..=3 {
        world.crash(VoterId(n));
        let (_, saved) = world.disks.get_mut(&VoterId(n)).expect("its disk");
        saved.snapshot.as_mut().expect("it has one").audit = None;
        world.records.clear();
    }
    world.forget_states();
    for n in 1..=3 {
        world.start(VoterId(n));
    }
    asked(&mut world, 60);
    world.run(Duration::from_secs(5));
    let (lines, head) = whole(&mut world, VoterId(1));
    let texts = texts(&lines);
    assert_eq!(texts.iter().filter(|(kind, ..)| *kind == "began").count(), 1);
    assert_eq!(
        (texts[0].0, texts[0].2.as_str()),
        ("began", "the record of the cluster test begins")
    );
    assert_eq!(whole(&mut world, VoterId(2)), (lines.clone(), head));
    assert_eq!(whole(&mut world, VoterId(3)), (lines, head));
}

/// I-34: what a snapshot skips is fetched from the others, and nothing else is taken for it.
#[test]
fn i34_a_voter_that_was_away_fetches_what_it_lacks() {
    let mut world = World::new(3, 22);
    world.declare();
    asked(&mut world, 5);
    world.run(Duration::from_secs(5));
    let leader = world.elected();
    let away = *world.group.keys().find(|id| **id != leader).expect("there are three");
    world.crash(away);
    asked(&mut world, 120);
    world.loss = 40;
    world.start(away);
    world.until("a hole", |world| {
        world.voters.get(&away).is_some_and(|replica| replica.audit_hole().is_open())
    });
    // It dies in the middle of it, and goes on where it was.
    world.until("half of it", |world| world.records[&away].len() > 60);
    world.crash(away);
    world.start(away);
    world.until("the hole to be filled", |world| {
        let replica = world.voters.get(&away);
        replica.is_some_and(|replica| {
            !replica.audit_hole().is_open() && replica.audit_head().is_some_and(|h| h.number > 120)
        })
    });
    world.loss = 0;
    world.run(Duration::from_secs(5));
    let leader = world.elected();
    let (lines, head) = whole(&mut world, away);
    let (others, end) = whole(&mut world, leader);
    assert_eq!(head, end);
    assert_eq!(lines, others);
}

/// I-34: a new voter gets all there ever was; a voter that lies is not believed.
#[test]
fn i34_false_records_are_refused() {
    let mut world = World::new(3, 23);
    world.declare();
    world.run(Duration::from_secs(5));
    let leader = world.elected();
    let away = *world.group.keys().find(|id| **id != leader).expect("there are three");
    world.crash(away);
    asked(&mut world, 120);
    // One of the others tells another story, and the story is well told.
    let liar = *world.group.keys().find(|id| **id != leader && **id != away).expect("three");
    let first = world.records[&liar].keys().copied().find(|n| *n > 30).expect("some");
    for (_, text) in world.records.get_mut(&liar).expect("its disk").range_mut(first..) {
        *text = text.replace("automation", "AUTOMATION").replace("\"reason\":\"", "\"reason\":\"x");
    }
    world.start(away);
    world.until("the hole to be filled", |world| {
        let replica = world.voters.get(&away);
        replica.is_some_and(|replica| {
            !replica.audit_hole().is_open() && replica.audit_head().is_some_and(|h| h.number > 120)
        })
    });
    let (lines, head) = whole(&mut world, away);
    assert_eq!(whole(&mut world, leader), (lines, head));
}

/// I-34: a refusal, and a note of what a voter saw, are on the disks before they are answered.
#[test]
fn i34_a_refusal_is_on_record_before_it_is_told() {
    let mut world = World::new(3, 24);
    let leader = world.declare();
    world.run(Duration::from_secs(1));
    let before = world.voters[&leader].audit_head().expect("it has begun");
    let request = Request::Resume { service: service(), reason: "x".into() };
    let token = world.ask(leader, request.clone());
    assert_eq!(world.reply(token), None, "it is not committed yet");
    world.until("an answer", |world| world.reply(token).is_some());
    assert!(matches!(world.reply(token), Some(Reply::Refused { .. })), "{:?}", world.reply(token));
    let after = world.voters[&leader].audit_head().expect("it has begun");
    assert!(after.number > before.number);
    let (lines, _) = whole(&mut world, leader);
    let refused = texts(&lines).into_iter().find(|(kind, ..)| *kind == "refusal");
    let (_, by, text) = refused.expect("it is on record");
    assert_eq!(by, "alice");
    assert!(text.starts_with("resume clinic: nothing is on hold"), "{text}");
    // The same again, and again: counted.
    for _ in 0..200 {
        let token = world.ask(leader, request.clone());
        assert!(matches!(world.reply(token), Some(Reply::Refused { .. })));
    }
    world.run(Duration::from_secs(90));
    let (lines, _) = whole(&mut world, leader);
    let refused: Vec<_> =
        texts(&lines).into_iter().filter(|(kind, ..)| *kind == "refusal").collect();
    assert_eq!(refused.len(), 2, "{refused:?}");
    assert!(refused[1].2.ends_with("(200 times)"), "{refused:?}");
    // A note from another voter's door.
    let note = Note {
        kind: NoteKind::Login,
        service: None,
        text: "anna".into(),
        times: 1,
        since: failover::Timestamp(0),
    };
    let leader = world.elected();
    let token = world.token();
    world.step(leader, Input::Noted { token, by: "anna".into(), note: Box::new(note.clone()) });
    assert_eq!(world.reply(token), None);
    world.until("an answer", |world| world.reply(token).is_some());
    assert_eq!(world.reply(token), Some(&Reply::Found(serde_json::Value::Null)));
    // Where nobody can commit, nothing was refused: it can be asked again elsewhere.
    world.isolate(leader);
    let token = world.ask(leader, Request::RemoveVoter { id: VoterId(9), reason: "x".into() });
    world.run(Duration::from_secs(10));
    assert_eq!(world.reply(token), Some(&Reply::NoLeader));
}

/// I-34: an entry is in the log of a majority before it is applied, and its record comes from it:
/// at the leader nothing is answered or applied whose entry was not written before.
#[test]
fn i34_the_entry_is_written_before_the_effect() {
    let mut world = World::new(1, 25);
    let leader = world.elected();
    let token = world.token();
    let clocks = world.clocks();
    let request =
        Request::Apply { expected: 0, topology: Box::new(topology()), reason: "x".into() };
    let request = Box::new(request);
    let replica = world.voters.get_mut(&leader).expect("it runs");
    let outputs = replica.step(
        Input::Request {
            token,
            by: "alice".into(),
            role: failover::people::Role::Admin,
            totp_step: None,
            request,
        },
        clocks,
    );
    let at = |wanted: &dyn Fn(&Output) -> bool| outputs.iter().position(wanted);
    let says = |output: &Output| {
        matches!(output, Output::Persist(batch) if batch.entries.iter().any(|entry| {
            serde_json::to_string(&entry.body).is_ok_and(|text| text.contains("topology"))
        }))
    };
    let written = at(&says).expect("it is written");
    let applied = at(&|output| matches!(output, Output::Applied(_))).expect("it is applied");
    let answered = at(&|output| matches!(output, Output::Reply { .. })).expect("it is answered");
    assert!(written < applied && written < answered);
}

/// A file with a chain of `count` records.
fn with_records(path: &std::path::Path, count: u64) -> Head {
    let (store, _) = Store::open(path, "test", VoterId(1), &[1, 2, 3]).expect("it opens");
    let mut head = Head::default();
    let mut audit: Vec<Line> = Vec::new();
    for number in 1..=count {
        let event = format!("{{\"number\":{number}}}");
        let happened = audit::Happened {
            entry: number + 1,
            term: 1,
            effect: true,
            revision: failover::Revision(number),
            event: &event,
        };
        let (line, end) = audit::extend(&head, &happened);
        audit.push(line);
        head = end;
    }
    let group = Group { voters: vec![1, 2, 3], ..Group::default() };
    let snapshot = Snapshot { index: 9, audit: Some(head), group, ..first_snapshot(&[1, 2, 3]) };
    let batch = Batch {
        hard: Some(Hard { term: 1, vote: 1, commit: 9 }),
        dropped: Some(Place { index: 9, term: 1 }),
        snapshot: Some(snapshot),
        audit,
        ..Batch::default()
    };
    store.persist(&batch).expect("it writes");
    head
}

const RECORDS: TableDefinition<u64, &[u8]> = TableDefinition::new("audit");

/// I-34: a record that was changed on disk, with all of the database's own sums put right, is found
/// when the voter starts; so is one that was taken out.
#[test]
fn i34_a_record_changed_on_disk_is_found_at_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("voter.redb");
    with_records(&path, 700);
    let open = || Store::open(&path, "test", VoterId(1), &[1, 2, 3]);
    let (store, _) = open().expect("it is whole");
    let page = store.records(500).expect("it reads");
    assert!(!page.is_empty() && audit::read(&page[0]).expect("a record").number == 500);
    assert!(store.records(701).expect("it reads").is_empty());
    drop(store);
    let change = |number: u64, text: Option<&str>| -> Option<String> {
        let database = Database::open(&path).expect("it opens");
        let transaction = database.begin_write().expect("it begins");
        let before = {
            let mut table = transaction.open_table(RECORDS).expect("a table");
            let before = match text {
                None => table.remove(number).expect("it writes"),
                Some(text) => table.insert(number, text.as_bytes()).expect("it writes"),
            };
            before.map(|bytes| String::from_utf8(bytes.value().to_vec()).expect("text"))
        };
        transaction.commit().expect("it commits");
        before
    };
    let truth = change(623, None).expect("it was there");
    let refused = open().expect_err("one is missing").to_string();
    assert!(refused.contains("audit record 623 is missing"), "{refused}");
    change(623, Some(&truth.replace("\"effect\":true", "\"effect\":false")));
    let refused = open().expect_err("one was changed").to_string();
    assert!(refused.contains("audit record 623"), "{refused}");
    change(623, Some(&truth));
    drop(open().expect("it is whole again"));
    change(700, None);
    let refused = open().expect_err("the last is missing").to_string();
    assert!(refused.contains("audit record 700 is missing"), "{refused}");
}

/// Whatever a voter is told about records, it goes on: they are text from outside (I-27).
#[test]
fn i27_garbage_in_place_of_records_changes_nothing() {
    let mut world = World::new(3, 26);
    let leader = world.declare();
    let other = *world.group.keys().find(|id| **id != leader).expect("there are three");
    for (lacks, records) in [
        (Some(0), vec![]),
        (Some(u64::MAX), vec![]),
        (None, vec![String::new(), "{}".into()]),
        (Some(1), vec!["x".repeat(100_000); 3]),
    ] {
        let mut envelope = world.voters[&other].envelope(leader);
        envelope.lacks = lacks;
        envelope.records = records;
        world.post(&envelope);
        world.run(Duration::from_secs(1));
    }
    assert_eq!(world.elected(), leader);
    assert!(world.voters.values().all(|replica: &Replica| replica.stopped().is_none()));
}
