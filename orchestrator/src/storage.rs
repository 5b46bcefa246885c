//! The log, the vote and the snapshot on disk.
//!
//! One redb file; every record carries a checksum of its own, the whole file is checked at start,
//! and one transaction with fsync makes one batch durable. A file that is not whole is refused: a
//! voter that silently forgot what it acknowledged would break what the others rely on (I-22).

mod records;

use std::path::{Path, PathBuf};

use failover::cluster::Cluster;
use failover::ids::VoterId;
use redb::{Database, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition};
use ring::rand::SecureRandom;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::audit::{Head, Hole};
use crate::log::{Batch, Hard, Place, Saved};
use crate::message::{Entry, Group, Snapshot};

const LOG: TableDefinition<u64, &[u8]> = TableDefinition::new("log");
const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
const SNAPSHOT: TableDefinition<u64, &[u8]> = TableDefinition::new("snapshot");

/// The cache of the database: all but the audit records is a few hundred kilobytes.
const CACHE_BYTES: usize = 1 << 20;

/// Why the disk could not be used. After one of these while writing, nothing more may be said.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The file is damaged or incomplete.
    #[error(
        "{file}: {reason}. This voter will not act: remove it (`baton voters remove`), delete its \
         data directory and add it again under a new number"
    )]
    Damaged {
        /// Which file.
        file: String,
        /// What was found.
        reason: String,
    },
    /// The file is another voter's.
    #[error("{file}: belongs to {theirs}, and this is {ours}: check `data`, `cluster` and `id`")]
    Foreign {
        /// Which file.
        file: String,
        /// Whose it is.
        theirs: String,
        /// Who we are.
        ours: String,
    },
    /// The disk refused: full, read-only, gone, or in use by another process.
    #[error("{file}: {reason}")]
    Refused {
        /// Which file.
        file: String,
        /// What was said.
        reason: String,
    },
}

/// Whose disk it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Birth {
    /// The cluster.
    pub cluster: String,
    /// The voter's number.
    pub voter: VoterId,
    /// Random text made when the file was: another file is another incarnation (I-22).
    pub incarnation: String,
}

/// The open file.
#[derive(Debug)]
pub struct Store {
    database: Database,
    name: String,
    birth: Birth,
}

impl Store {
    /// Opens the file of voter `voter`, or makes it. `initial`: the group that a new file begins
    /// with; empty for a voter that waits to be added.
    ///
    /// # Errors
    /// [`StorageError`]; a damaged file is never repaired.
    pub fn open(
        path: &Path,
        cluster: &str,
        voter: VoterId,
        initial: &[u64],
    ) -> Result<(Self, Saved), StorageError> {
        let name = path.display().to_string();
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|e| refused(&name, &e))?;
        }
        let is_new = !path.exists();
        let opened = guarded(&name, || {
            let database = Database::builder().set_cache_size(CACHE_BYTES).create(path);
            let database = database.map_err(|e| opening(&name, &e))?;
            Self::begin(database, name.clone(), cluster, voter, initial)
        })?;
        if is_new {
            sync_folder(path).map_err(|e| refused(&name, &e))?;
        }
        Ok(opened)
    }

    /// The same on any backend: memory, or a disk that fails on purpose.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn with_backend(
        backend: impl StorageBackend,
        cluster: &str,
        voter: VoterId,
        initial: &[u64],
    ) -> Result<(Self, Saved), StorageError> {
        let name = String::from("backend");
        guarded(&name, || {
            let database =
                Database::builder().set_cache_size(CACHE_BYTES).create_with_backend(backend);
            let database = database.map_err(|e| opening(&name, &e))?;
            Self::begin(database, name.clone(), cluster, voter, initial)
        })
    }

    /// What the file was born with.
    pub fn incarnation(&self) -> &str {
        &self.birth.incarnation
    }

    fn begin(
        mut database: Database,
        name: String,
        cluster: &str,
        voter: VoterId,
        initial: &[u64],
    ) -> Result<(Self, Saved), StorageError> {
        match database.check_integrity() {
            Ok(true) => {}
            Ok(false) => return Err(damaged(&name, "its contents do not agree with themselves")),
            Err(error) => return Err(damaged(&name, &error.to_string())),
        }
        let birth = match read_birth(&database, &name)? {
            Some(birth) => birth,
            None => give_birth(&database, &name, cluster, voter, initial)?,
        };
        if birth.cluster != cluster || birth.voter != voter {
            return Err(StorageError::Foreign {
                file: name,
                theirs: format!("voter {} of cluster `{}`", birth.voter, birth.cluster),
                ours: format!("voter {voter} of cluster `{cluster}`"),
            });
        }
        let store = Self { database, name, birth };
        let saved = store.load()?;
        Ok((store, saved))
    }

    /// Everything that is on disk.
    ///
    /// # Errors
    /// [`StorageError::Damaged`] when anything is missing or does not fit together.
    pub fn load(&self) -> Result<Saved, StorageError> {
        let read = || -> Result<Saved, Trouble> {
            let transaction = self.database.begin_read()?;
            let meta = transaction.open_table(META)?;
            let required = |key: &str| meta.get(key)?.ok_or_else(|| Trouble::missing(key));
            let hard: Hard = unseal(required("hard")?.value())?;
            let dropped: Place = unseal(required("dropped")?.value())?;
            let mut entries: Vec<Entry> = Vec::new();
            for row in transaction.open_table(LOG)?.iter()? {
                let (index, bytes) = row?;
                let entry: Entry = unseal(bytes.value())?;
                let expected = dropped.index + 1 + entries.len() as u64;
                if entry.index != index.value() || entry.index != expected {
                    return Err(Trouble(format!("entry {expected} of the log is missing")));
                }
                entries.push(entry);
            }
            let snapshot = match transaction.open_table(SNAPSHOT)?.get(0)? {
                Some(bytes) => Some(unseal::<Snapshot>(bytes.value())?),
                None => None,
            };
            let hole: Hole = match meta.get("hole")? {
                Some(bytes) => unseal(bytes.value())?,
                None => Hole::default(),
            };
            let end = snapshot.as_ref().and_then(|snapshot| snapshot.audit).unwrap_or_default();
            records::check(&transaction, &hole, &end)?;
            Ok(Saved { hard, dropped, entries, snapshot, hole })
        };
        let saved = read().map_err(|trouble| damaged(&self.name, &trouble.0))?;
        fits(&saved).map_err(|reason| damaged(&self.name, &reason))?;
        Ok(saved)
    }

    /// Makes a batch durable: all of it or nothing. Returns after fsync.
    ///
    /// # Errors
    /// [`StorageError::Refused`]: whether it is on disk is not known, and the caller must not
    /// say anything that rests on it, nor write again through this value (I-22).
    pub fn persist(&self, batch: &Batch) -> Result<(), StorageError> {
        self.write(batch)
            .map_err(|trouble| StorageError::Refused { file: self.name.clone(), reason: trouble.0 })
    }

    fn write(&self, batch: &Batch) -> Result<(), Trouble> {
        let transaction = self.database.begin_write()?;
        {
            let mut log = transaction.open_table(LOG)?;
            let mut meta = transaction.open_table(META)?;
            if batch.replaces {
                log.retain(|_, _| false)?;
            } else if let Some(first) = batch.entries.first() {
                log.retain_in(first.index.., |_, _| false)?;
            }
            if let Some(dropped) = batch.dropped {
                log.retain_in(..=dropped.index, |_, _| false)?;
                meta.insert("dropped", seal(&dropped)?.as_slice())?;
            }
            for entry in &batch.entries {
                log.insert(entry.index, seal(entry)?.as_slice())?;
            }
            if let Some(hard) = &batch.hard {
                meta.insert("hard", seal(hard)?.as_slice())?;
            }
            if let Some(hole) = &batch.hole {
                meta.insert("hole", seal(hole)?.as_slice())?;
            }
            records::write(&transaction, &batch.audit)?;
            if let Some(snapshot) = &batch.snapshot {
                transaction.open_table(SNAPSHOT)?.insert(0, seal(snapshot)?.as_slice())?;
            }
        }
        transaction.commit()?;
        Ok(())
    }
}

/// Opens a file that may hold anything: the library panics on some damage that it finds.
fn guarded<T>(
    name: &str,
    open: impl FnOnce() -> Result<T, StorageError>,
) -> Result<T, StorageError> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(open))
        .unwrap_or_else(|_| Err(damaged(name, "its inner bookkeeping is broken")))
}

/// Whether what was read can be one voter's past.
///
/// # Errors
/// What does not fit.
pub fn fits(saved: &Saved) -> Result<(), String> {
    let last = saved.dropped.index + saved.entries.len() as u64;
    let snapshot = saved.snapshot.as_ref().map_or(0, |snapshot| snapshot.index);
    if saved.hard.commit > last {
        return Err(format!(
            "the log ends at entry {last}, and entry {} was committed",
            saved.hard.commit
        ));
    }
    if snapshot < saved.dropped.index || snapshot > saved.hard.commit {
        return Err(format!(
            "the snapshot is of entry {snapshot}, the log begins after entry {} and entry {} was \
             committed",
            saved.dropped.index, saved.hard.commit
        ));
    }
    let mut term = saved.dropped.term;
    for entry in &saved.entries {
        if entry.term < term || entry.term > saved.hard.term {
            return Err(format!("entry {} is of term {}", entry.index, entry.term));
        }
        term = entry.term;
    }
    if saved.snapshot.as_ref().is_some_and(|snapshot| !snapshot.group.is_sound()) {
        return Err(String::from("the group in the snapshot is impossible"));
    }
    Ok(())
}

fn read_birth(database: &Database, name: &str) -> Result<Option<Birth>, StorageError> {
    let read = || -> Result<Option<Birth>, Trouble> {
        let transaction = database.begin_read()?;
        let meta = match transaction.open_table(META) {
            Ok(meta) => meta,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let found = meta.get("birth")?;
        let bytes = found.ok_or_else(|| Trouble::missing("birth"))?;
        unseal(bytes.value()).map(Some)
    };
    read().map_err(|trouble| damaged(name, &trouble.0))
}

/// The first transaction of a new file. The log of every voter begins after an entry 1 that
/// nobody proposed, so that a voter added later is sent a snapshot, and with it the group.
fn give_birth(
    database: &Database,
    name: &str,
    cluster: &str,
    voter: VoterId,
    initial: &[u64],
) -> Result<Birth, StorageError> {
    let mut bytes = [0_u8; 16];
    ring::rand::SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| refused(name, &"the kernel gives no random bytes"))?;
    let incarnation = format!("{:032x}", u128::from_be_bytes(bytes));
    let birth = Birth { cluster: cluster.into(), voter, incarnation };
    let begins = u64::from(!initial.is_empty());
    let hard = Hard { term: begins, vote: 0, commit: begins };
    let write = || -> Result<(), Trouble> {
        let transaction = database.begin_write()?;
        {
            transaction.open_table(LOG)?;
            let mut snapshot = transaction.open_table(SNAPSHOT)?;
            let mut meta = transaction.open_table(META)?;
            meta.insert("birth", seal(&birth)?.as_slice())?;
            meta.insert("hard", seal(&hard)?.as_slice())?;
            meta.insert("dropped", seal(&Place { index: begins, term: begins })?.as_slice())?;
            if begins == 1 {
                let first = first_snapshot(initial);
                snapshot.insert(0, seal(&first)?.as_slice())?;
            }
        }
        transaction.commit()?;
        Ok(())
    };
    write().map_err(|trouble| refused(name, &trouble.0))?;
    Ok(birth)
}

/// The state that every voter of the initial group begins with.
pub fn first_snapshot(initial: &[u64]) -> Snapshot {
    let mut voters = initial.to_vec();
    voters.sort_unstable();
    Snapshot {
        index: 1,
        term: 1,
        group: Group { voters, ..Group::default() },
        cluster: Cluster::default(),
        audit: Some(Head::default()),
    }
}

/// What a new voter of the initial group has on disk.
pub fn first_saved(initial: &[u64]) -> Saved {
    if initial.is_empty() {
        return Saved {
            hard: Hard::default(),
            dropped: Place::default(),
            entries: Vec::new(),
            snapshot: None,
            hole: Hole::default(),
        };
    }
    Saved {
        hard: Hard { term: 1, vote: 0, commit: 1 },
        dropped: Place { index: 1, term: 1 },
        entries: Vec::new(),
        snapshot: Some(first_snapshot(initial)),
        hole: Hole::default(),
    }
}

/// A record: four bytes of CRC-32, then JSON.
fn seal<T: Serialize>(value: &T) -> Result<Vec<u8>, Trouble> {
    let json = serde_json::to_vec(value).map_err(|e| Trouble(e.to_string()))?;
    let mut record = crc32fast::hash(&json).to_le_bytes().to_vec();
    record.extend_from_slice(&json);
    Ok(record)
}

fn unseal<T: DeserializeOwned>(record: &[u8]) -> Result<T, Trouble> {
    let (sum, json) =
        record.split_first_chunk::<4>().ok_or_else(|| Trouble("a record is too short".into()))?;
    if crc32fast::hash(json).to_le_bytes() != *sum {
        return Err(Trouble("a record's checksum is wrong".into()));
    }
    serde_json::from_slice(json)
        .map_err(|e| Trouble(format!("a record of a version that this one cannot read: {e}")))
}

fn sync_folder(path: &Path) -> std::io::Result<()> {
    let folder: PathBuf = path.parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf);
    std::fs::File::open(folder)?.sync_all()
}

/// Any error of the database, as text: what follows from it does not depend on which it was.
struct Trouble(String);

impl Trouble {
    fn missing(key: &str) -> Self {
        Self(format!("its record `{key}` is missing"))
    }
}

impl<E: Into<redb::Error>> From<E> for Trouble {
    fn from(error: E) -> Self {
        Self(error.into().to_string())
    }
}

fn damaged(file: &str, reason: &str) -> StorageError {
    StorageError::Damaged { file: file.into(), reason: reason.into() }
}

fn refused(file: &str, reason: &dyn std::fmt::Display) -> StorageError {
    StorageError::Refused { file: file.into(), reason: reason.to_string() }
}

fn opening(file: &str, error: &redb::DatabaseError) -> StorageError {
    if matches!(error, redb::DatabaseError::DatabaseAlreadyOpen) {
        return refused(file, &"another process has it open: is this voter running already?");
    }
    if let redb::DatabaseError::Storage(redb::StorageError::Io(io)) = error
        && io.kind() != std::io::ErrorKind::InvalidData
        && io.kind() != std::io::ErrorKind::UnexpectedEof
    {
        return refused(file, io);
    }
    damaged(file, &error.to_string())
}
