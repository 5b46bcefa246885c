//! What this instance promised, and what it must remember of itself, on disk before it is said.
//!
//! Its own directory and not PostgreSQL's: a clone or a rewind copies the latter from elsewhere,
//! and a promise must not change its owner.

use crate::reserve;
use failover::position::Position;
use failover::report::Pledge;
use failover::{Epoch, SystemIdentifier};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Everything that outlives a restart of the agent and of the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// The promises.
    pub pledge: Pledge,
    /// The identifier of the cluster whose directory we made.
    pub system_identifier: Option<SystemIdentifier>,
    /// The epoch in which it was last a primary, since it last followed one: its end may not be in
    /// anyone else's history.
    #[serde(default)]
    pub led: Option<Epoch>,
    /// Its stream was refused: its history is not the upstream's.
    #[serde(default)]
    pub refused: bool,
    /// A rewind failed or is impossible (I-15).
    #[serde(default)]
    pub beyond: bool,
    /// The highest position at which a wait for synchronous replication was cancelled, and in
    /// which epoch (I-12).
    #[serde(default)]
    pub doubt: Option<(Epoch, Position)>,
    /// A wait was cancelled, and the position could not be read yet.
    #[serde(default)]
    pub doubt_pending: bool,
    /// It was stopped cleanly because it was told to.
    #[serde(default)]
    pub stopped: bool,
    /// It has cut itself off for a drill, and not seen the end of it: PostgreSQL may be stopped in
    /// its tracks.
    #[serde(default)]
    pub cut_off: bool,
}

/// The memory and its file.
#[derive(Debug)]
pub struct Promises {
    path: PathBuf,
    memory: Mutex<Memory>,
}

impl Promises {
    /// Reads the file; a missing one is a new instance.
    ///
    /// # Errors
    /// An unreadable file: a forgotten promise is a broken one, so it is not started without.
    pub fn load(path: &Path) -> io::Result<Self> {
        let memory = match std::fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
                io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", path.display()))
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Memory::default(),
            Err(error) => return Err(error),
        };
        Ok(Self { path: path.to_owned(), memory: Mutex::new(memory) })
    }

    /// What is on disk.
    pub fn get(&self) -> Memory {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes it: on disk with fsync first, then visible.
    ///
    /// # Errors
    /// Those of the file system; nothing has changed then.
    pub fn update(&self, change: impl FnOnce(&mut Memory)) -> io::Result<()> {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = memory.clone();
        change(&mut next);
        if next != *memory {
            let bytes = serde_json::to_vec_pretty(&next)?;
            let folder = self.path.parent().unwrap_or(&self.path);
            reserve::write_with(folder, || wire::files::write_durably(&self.path, &bytes))?;
            *memory = next;
        }
        Ok(())
    }

    /// Promises never again to receive from a primary of this epoch or an earlier one.
    ///
    /// # Errors
    /// As [`Promises::update`].
    pub fn seal(&self, epoch: Epoch) -> io::Result<()> {
        self.update(|memory| memory.pledge.sealed = memory.pledge.sealed.max(epoch))
    }

    /// Accepts the primacy of an epoch: from here on its end may be in nobody else's history.
    ///
    /// # Errors
    /// As [`Promises::update`].
    pub fn grant(&self, epoch: Epoch) -> io::Result<()> {
        self.update(|memory| {
            memory.pledge.granted = memory.pledge.granted.max(epoch);
            memory.led = Some(memory.pledge.granted);
        })
    }
}
