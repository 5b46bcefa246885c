//! The file of a voter: what was said to be on disk is there, or the file is refused.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use failover::ids::VoterId;
use orchestrator::log::{Batch, Hard, Place};
use orchestrator::message::{Body, Entry, Group, Snapshot};
use orchestrator::storage::{StorageError, Store, first_saved};
use redb::StorageBackend;

use crate::world::Dice;

const GROUP: [u64; 3] = [1, 2, 3];

fn entry(index: u64, term: u64) -> Entry {
    Entry { term, index, id: String::new(), body: Body::Event(format!("{{\"entry\":{index}}}")) }
}

fn batch(first: u64, count: u64, term: u64, commit: u64) -> Batch {
    Batch {
        hard: Some(Hard { term, vote: 1, commit }),
        entries: (first..first + count).map(|index| entry(index, term)).collect(),
        ..Batch::default()
    }
}

fn open(path: &Path) -> Result<(Store, orchestrator::log::Saved), StorageError> {
    Store::open(path, "test", VoterId(1), &GROUP)
}

#[test]
fn i22_a_restart_finds_what_was_persisted() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("voter.redb");
    let (store, saved) = open(&path).expect("it opens");
    assert_eq!(saved, first_saved(&GROUP));
    let born = store.incarnation().to_owned();
    store.persist(&batch(2, 5, 2, 4)).expect("it writes");
    // A new leader overwrites what was not committed.
    store.persist(&batch(5, 1, 3, 5)).expect("it writes");
    drop(store);
    let (store, saved) = open(&path).expect("it opens again");
    assert_eq!(store.incarnation(), born);
    assert_eq!(saved.hard, Hard { term: 3, vote: 1, commit: 5 });
    let terms: Vec<_> = saved.entries.iter().map(|entry| (entry.index, entry.term)).collect();
    assert_eq!(terms, [(2, 2), (3, 2), (4, 2), (5, 3)]);
}

#[test]
fn the_log_is_cut_behind_a_snapshot() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("voter.redb");
    let (store, _) = open(&path).expect("it opens");
    store.persist(&batch(2, 20, 2, 21)).expect("it writes");
    let snapshot = Snapshot {
        index: 15,
        term: 2,
        group: Group { voters: GROUP.to_vec(), ..Group::default() },
        cluster: failover::Cluster::default(),
        audit: None,
    };
    let cut = Batch {
        dropped: Some(Place { index: 10, term: 2 }),
        snapshot: Some(snapshot.clone()),
        ..Batch::default()
    };
    store.persist(&cut).expect("it writes");
    let saved = store.load().expect("it reads");
    assert_eq!(saved.entries.first().map(|entry| entry.index), Some(11));
    let install = Batch {
        replaces: true,
        hard: Some(Hard { term: 5, vote: 0, commit: 90 }),
        dropped: Some(Place { index: 90, term: 4 }),
        snapshot: Some(Snapshot { index: 90, term: 4, ..snapshot }),
        ..Batch::default()
    };
    store.persist(&install).expect("it writes");
    let saved = store.load().expect("it reads");
    assert!(saved.entries.is_empty());
    assert_eq!(saved.dropped, Place { index: 90, term: 4 });
}

#[test]
fn another_voters_file_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("voter.redb");
    drop(open(&path).expect("it opens"));
    let other = Store::open(&path, "test", VoterId(2), &GROUP).expect_err("it is another's");
    assert!(matches!(other, StorageError::Foreign { .. }), "{other}");
    let other = Store::open(&path, "else", VoterId(1), &GROUP).expect_err("it is another's");
    assert!(matches!(other, StorageError::Foreign { .. }), "{other}");
    let (_held, _) = open(&path).expect("it opens");
    let twice = open(&path).expect_err("it is open already");
    assert!(twice.to_string().contains("running already"), "{twice}");
}

/// I-22: a damaged file is refused, or what it says is what was persisted. Never anything else.
#[test]
fn i22_a_damaged_file_never_forgets_silently() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("voter.redb");
    let (store, _) = open(&path).expect("it opens");
    for step in 0..60 {
        store.persist(&batch(2 + step * 4, 4, 2, 2 + step * 4)).expect("it writes");
    }
    let truth = store.load().expect("it reads");
    drop(store);
    let whole = std::fs::read(&path).expect("it can be read");
    let mut dice = Dice(1);
    let mut refused = 0;
    for round in 0..120 {
        let mut bytes = whole.clone();
        if round % 4 == 0 {
            bytes.truncate(usize::try_from(dice.roll(whole.len() as u64)).expect("small"));
            if bytes.is_empty() {
                continue;
            }
        } else {
            let at = usize::try_from(dice.roll(whole.len() as u64)).expect("small");
            for byte in bytes.iter_mut().skip(at).take(64) {
                *byte ^= u8::try_from(1 + dice.roll(255)).expect("a byte");
            }
        }
        let copy = folder.path().join("copy.redb");
        std::fs::write(&copy, &bytes).expect("it can be written");
        match open(&copy) {
            Err(_) => refused += 1,
            Ok((_, saved)) => assert_eq!(saved, truth, "round {round} read something else"),
        }
    }
    assert!(refused > 30, "only {refused} were refused");
}

/// A disk in memory that loses what was not synced, and fails on demand.
#[derive(Clone, Debug, Default)]
struct Flaky {
    now: Arc<Mutex<Vec<u8>>>,
    synced: Arc<Mutex<Vec<u8>>>,
    full: Arc<AtomicBool>,
}

impl Flaky {
    fn refuse(&self) -> io::Result<()> {
        if self.full.load(Ordering::Relaxed) {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        Ok(())
    }

    /// The disk after a power cut: what was synced, and any part of what was not.
    fn after_power_cut(&self, dice: &mut Dice) -> Self {
        let now = self.now.lock().expect("no panic").clone();
        let mut bytes = self.synced.lock().expect("no panic").clone();
        bytes.resize(bytes.len().max(now.len()), 0);
        for (sector, chunk) in now.chunks(512).enumerate() {
            if dice.roll(2) == 0 {
                let at = sector * 512;
                bytes[at..at + chunk.len()].copy_from_slice(chunk);
            }
        }
        let disk = Arc::new(Mutex::new(bytes));
        let synced = Arc::new(Mutex::new(disk.lock().expect("no panic").clone()));
        Self { now: disk, synced, full: Arc::default() }
    }
}

impl StorageBackend for Flaky {
    fn len(&self) -> io::Result<u64> {
        Ok(self.now.lock().expect("no panic").len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let bytes = self.now.lock().expect("no panic");
        let at = usize::try_from(offset).expect("small");
        out.copy_from_slice(&bytes[at..at + out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.refuse()?;
        self.now.lock().expect("no panic").resize(usize::try_from(len).expect("small"), 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.refuse()?;
        let now = self.now.lock().expect("no panic").clone();
        *self.synced.lock().expect("no panic") = now;
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.refuse()?;
        let mut bytes = self.now.lock().expect("no panic");
        let at = usize::try_from(offset).expect("small");
        bytes[at..at + data.len()].copy_from_slice(data);
        Ok(())
    }
}

#[test]
fn i22_a_power_cut_loses_nothing_that_was_persisted() {
    for seed in 0..40 {
        let mut dice = Dice(seed);
        let disk = Flaky::default();
        let (store, _) =
            Store::with_backend(disk.clone(), "test", VoterId(1), &GROUP).expect("it opens");
        let count = 1 + dice.roll(12);
        for step in 0..count {
            store.persist(&batch(2 + step, 1, 2, 1 + step)).expect("it writes");
        }
        let truth = store.load().expect("it reads");
        let copy = disk.after_power_cut(&mut dice);
        drop(store);
        let (_, saved) =
            Store::with_backend(copy, "test", VoterId(1), &GROUP).expect("it opens again");
        assert_eq!(saved, truth, "seed {seed}");
    }
}

#[test]
fn i22_a_full_disk_is_said_and_nothing_is_half_written() {
    let disk = Flaky::default();
    let (store, _) =
        Store::with_backend(disk.clone(), "test", VoterId(1), &GROUP).expect("it opens");
    store.persist(&batch(2, 3, 2, 3)).expect("it writes");
    let truth = store.load().expect("it reads");
    disk.full.store(true, Ordering::Relaxed);
    let error = store.persist(&batch(5, 1, 2, 4)).expect_err("the disk is full");
    assert!(matches!(error, StorageError::Refused { .. }), "{error}");
    drop(store);
    disk.full.store(false, Ordering::Relaxed);
    let (_, saved) = Store::with_backend(disk, "test", VoterId(1), &GROUP).expect("it opens again");
    assert_eq!(saved, truth);
}
