//! PostgreSQL's log, followed by inotify: some things it says nowhere else, or nowhere sooner.
//!
//! That a wait was cancelled is said here only (F-10), so no line may be missed: how far the log
//! was read is kept in a file beside it, and what was written while no agent ran is read first.
//! Where lines may be missing all the same, because somebody else shortened the log, that is said
//! too, and counts as a cancelled wait.

pub mod window;

use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::mpsc;

/// The log is copied to `.1` and shortened when it is larger than this, in bytes.
const ROTATE_AT: u64 = 64 << 20;
/// Shortening removes whole multiples of this: the largest block of the usual file systems.
const BLOCK: u64 = 64 << 10;

/// A line that matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// A commit's wait ended without its standbys. Cancelled, it was acknowledged all the same
    /// (F-10, F-11); ended with its session, nobody was told, but others can see it (F-17).
    WaitCancelled,
    /// Lines may be missing here.
    Gap,
    /// A setting has another value since the last reload.
    Setting {
        /// Its name.
        name: String,
        /// Its new value; `None`: it is set nowhere any more.
        value: Option<String>,
    },
    /// The stream from the upstream has ended.
    StreamLost,
    /// This history is not the upstream's.
    Diverged(String),
    /// It accepts connections, or has become consistent.
    Ready,
    /// A replication connection, by process, role and the name it gave itself.
    Replication {
        /// Its process.
        pid: u32,
        /// The role it proved.
        role: String,
        /// `application_name`.
        name: String,
    },
}

/// Reads one line of the log.
pub fn read_line(line: &str) -> Option<Line> {
    const LOST: &[&str] = &[
        "could not receive data from WAL stream",
        "terminating walreceiver",
        "replication terminated by primary server",
        "could not connect to the primary server",
    ];
    const DIVERGED: &[&str] = &[
        "is ahead of the WAL flush position",
        "is not in this server's history",
        "forked off current database system timeline",
    ];
    let (pid, message) = own_line(line)?;
    let (severity, text) = message.split_once(": ")?;
    let text = text.trim_start();
    let any = |phrases: &[&str]| phrases.iter().any(|phrase| text.contains(phrase));
    match severity {
        "WARNING"
            if text.starts_with("canceling wait for synchronous replication")
                || text.starts_with("canceling the wait for synchronous replication") =>
        {
            Some(Line::WaitCancelled)
        }
        "LOG" if text.starts_with("parameter \"") => setting(text),
        "LOG" if text.starts_with("replication connection authorized: ") => {
            let word = |key: &str| {
                let value = text.split(key).nth(1)?;
                Some(value.split(' ').next()?.to_owned())
            };
            Some(Line::Replication {
                pid,
                role: word(" user=")?,
                name: word(" application_name=").unwrap_or_default(),
            })
        }
        "LOG" if text.starts_with("database system is ready") => Some(Line::Ready),
        "LOG" | "FATAL" | "ERROR" if any(DIVERGED) => Some(Line::Diverged(text.to_owned())),
        "LOG" | "FATAL" if any(LOST) => Some(Line::StreamLost),
        _ => None,
    }
}

/// The process and the message of a line that the server began itself: `2026-11-22 01:02:03.456 UTC
/// [4711] …`. A client's text may hold anything, but the server begins each of its further lines
/// with a tab.
fn own_line(line: &str) -> Option<(u32, &str)> {
    let (head, message) = line.split_once("] ")?;
    let (time, pid) = head.rsplit_once(" [")?;
    let mut words = time.split(' ');
    let (date, clock, zone) = (words.next()?, words.next()?, words.next()?);
    let like = |text: &str, form: &str| {
        text.len() == form.len()
            && text.bytes().zip(form.bytes()).all(|(byte, form)| match form {
                b'0' => byte.is_ascii_digit(),
                other => byte == other,
            })
    };
    let right = like(date, "0000-00-00") && like(clock, "00:00:00.000") && !zone.is_empty();
    (right && words.next().is_none()).then_some((pid.parse().ok()?, message))
}

/// `parameter "x" changed to "y"`, or `parameter "x" removed from configuration file, …`.
fn setting(text: &str) -> Option<Line> {
    let (name, rest) = text.strip_prefix("parameter \"")?.split_once("\" ")?;
    let value = rest.strip_prefix("changed to \"").and_then(|value| value.strip_suffix('"'));
    let removed = rest.starts_with("removed from configuration file");
    (value.is_some() || removed)
        .then(|| Line::Setting { name: name.to_owned(), value: value.map(str::to_owned) })
}

/// Up to where a log was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Which file.
    inode: u64,
    /// How many of its bytes.
    at: u64,
}

impl Mark {
    /// Reads it back; `None`: there is none.
    pub fn load(log: &Path) -> Option<Self> {
        let bytes = std::fs::read(Self::file(log)).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Keeps it. It may be lost, or be old: then lines are read again, which does no harm.
    pub fn keep(self, log: &Path) {
        if let Ok(bytes) = serde_json::to_vec(&self) {
            drop(crate::layout::replace(&Self::file(log), &bytes));
        }
    }

    fn file(log: &Path) -> PathBuf {
        log.with_extension("log.read")
    }
}

/// Lines read at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Those that matter.
    pub lines: Vec<Line>,
    /// They were written while nobody read: what they say of processes is of the past.
    pub missed: bool,
    /// Up to where the log is read with them.
    pub mark: Mark,
}

/// Follows the log from where it was last read, on a thread of its own; ends when nobody listens.
///
/// # Errors
/// The log cannot be opened or watched.
pub fn follow(path: &Path) -> io::Result<mpsc::Receiver<Batch>> {
    let mut tail = Tail::open(path, ROTATE_AT)?;
    let mut inotify = watch(path)?;
    let (batches, received) = mpsc::channel(1024);
    std::thread::Builder::new().name("server-log".into()).stack_size(256 * 1024).spawn(
        move || {
            let mut missed = true;
            loop {
                let lines = tail.read().unwrap_or_else(|error| {
                    // A full disk, say: what could not be read is said to be missing.
                    tracing::warn!(%error, "PostgreSQL's log cannot be read");
                    pause();
                    vec![Line::Gap]
                });
                let Ok(mark) = tail.mark() else {
                    pause();
                    continue;
                };
                if batches.blocking_send(Batch { lines, missed, mark }).is_err() {
                    return;
                }
                missed = false;
                if tail.is_replaced() {
                    // Somebody took it away, and PostgreSQL was started anew with another.
                    if let (Ok(next), Ok(watching)) = (tail.reopen(), watch(&tail.path)) {
                        (tail, inotify) = (next, watching);
                        continue;
                    }
                }
                if inotify.read_events().is_err() {
                    pause();
                }
                if batches.is_closed() {
                    return;
                }
            }
        },
    )?;
    Ok(received)
}

/// After an error.
const AGAIN: Duration = Duration::from_millis(500);

/// Until what failed may be tried again. The thread is the log's own, and a disk gives no sign.
#[expect(clippy::disallowed_methods, reason = "there is no event to wait for")]
fn pause() {
    std::thread::sleep(AGAIN);
}

fn watch(path: &Path) -> io::Result<Inotify> {
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC)?;
    let events =
        AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_ATTRIB;
    inotify.add_watch(path, events)?;
    Ok(inotify)
}

struct Tail {
    path: PathBuf,
    file: File,
    at: u64,
    partial: Vec<u8>,
    rotate_at: u64,
    gap: bool,
    /// The present line is longer than any that is read: all of it is skipped.
    overlong: bool,
}

impl Tail {
    /// From the mark on, where it fits the file; from the present end, where there is none.
    fn open(path: &Path, rotate_at: u64) -> io::Result<Self> {
        let known = Mark::load(path);
        let fresh = !path.exists();
        let file = OpenOptions::new().create(true).read(true).append(true).open(path)?;
        let found = file.metadata()?;
        let fits = |mark: &Mark| mark.inode == found.ino() && mark.at <= found.len();
        let (at, gap) = match known {
            Some(mark) if fits(&mark) => (mark.at, false),
            Some(_) => (0, true),
            None if fresh => (0, false),
            None => (found.len(), false),
        };
        let path = path.to_owned();
        Ok(Self { path, file, at, partial: Vec::new(), rotate_at, gap, overlong: false })
    }

    /// Whether another file has the name now. While none has, the one read is still written to.
    fn is_replaced(&self) -> bool {
        let own = self.file.metadata().map(|found| found.ino());
        let named = std::fs::metadata(&self.path).map(|found| found.ino());
        matches!((own, named), (Ok(own), Ok(named)) if own != named)
    }

    /// The file that has the name now, from its beginning.
    fn reopen(&mut self) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).read(true).append(true).open(&self.path)?;
        let path = self.path.clone();
        let (partial, rotate_at) = (Vec::new(), self.rotate_at);
        Ok(Self { path, file, at: 0, partial, rotate_at, gap: false, overlong: false })
    }

    fn mark(&self) -> io::Result<Mark> {
        let unread = u64::try_from(self.partial.len()).unwrap_or(0);
        Ok(Mark { inode: self.file.metadata()?.ino(), at: self.at.saturating_sub(unread) })
    }

    fn read(&mut self) -> io::Result<Vec<Line>> {
        let mut found = self.read_more()?;
        if self.at > self.rotate_at {
            // Where there is no room for the copy, the log grows; it must still be read.
            match std::fs::copy(&self.path, self.path.with_extension("log.1")) {
                Ok(_) => found.extend(self.shorten()?),
                Err(_) => self.rotate_at = self.at.saturating_mul(2),
            }
        }
        if std::mem::take(&mut self.gap) {
            found.push(Line::Gap);
        }
        Ok(found)
    }

    /// Takes away what was read. Appenders go on at the new end: without a byte lost where the
    /// file system can remove a range; elsewhere what came in between may be.
    fn shorten(&mut self) -> io::Result<Vec<Line>> {
        let range = self.at / BLOCK * BLOCK;
        let length = i64::try_from(range).unwrap_or(0);
        let flags = FallocateFlags::FALLOC_FL_COLLAPSE_RANGE;
        // A range that reaches the end cannot be removed: the last block stays.
        if length > 0 && fallocate(&self.file, flags, 0, length).is_ok() {
            self.at -= range;
            return self.read_more();
        }
        let found = self.read_more()?;
        self.file.set_len(0)?;
        self.at = 0;
        self.gap = true;
        Ok(found)
    }

    fn read_more(&mut self) -> io::Result<Vec<Line>> {
        let mut found = Vec::new();
        let mut chunk = vec![0u8; 64 * 1024];
        if self.file.metadata()?.len() < self.at {
            self.at = 0;
            self.gap = true;
            self.partial.clear();
        }
        self.file.seek(SeekFrom::Start(self.at))?;
        loop {
            let count = self.file.read(&mut chunk)?;
            if count == 0 {
                return Ok(found);
            }
            self.at += count as u64;
            self.partial.extend_from_slice(chunk.get(..count).unwrap_or_default());
            while let Some(end) = self.partial.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.partial.drain(..=end).collect();
                if std::mem::take(&mut self.overlong) {
                    continue;
                }
                found.extend(read_line(String::from_utf8_lossy(&line).trim_end()));
            }
            // A line without end is nobody's line.
            if self.partial.len() > 1 << 20 {
                self.partial.clear();
                self.overlong = true;
            }
        }
    }
}

#[cfg(test)]
mod tests;
