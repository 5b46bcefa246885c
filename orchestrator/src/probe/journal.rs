//! The journal: what the writer was told, one JSON line each, outside the database.
//!
//! The first line names the run. Lines with an `outcome` are attempts; lines with an `event` are
//! remarks. Each is written whole before the writer goes on. Every [`BEAT`] the writer says what
//! both clocks show: while it is silent for longer nothing was measured.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use std::time::Duration;

use failover::Timestamp;
use serde::{Deserialize, Serialize};

use super::folder::{self, Folder};

/// How often a writer says that it runs.
pub const BEAT: Duration = Duration::from_secs(5);

/// The remark that a write was due and the connection was gone.
pub const LOST: &str = "lost";

/// The remark that says what both clocks show.
const CLOCK: &str = "clock";

/// The first line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The run: in the table's `run` column too.
    pub run: String,
    /// The service.
    pub service: String,
    /// The name written through, or the address where DNS was passed by.
    pub through: String,
    /// A write is begun this often, in milliseconds.
    pub every_ms: u64,
    /// The boot clock when the run began, in microseconds.
    pub us: u64,
    /// The wall clock then, in milliseconds since 1970.
    pub at: i64,
    /// Where it goes on from another file of the same run: the last acknowledgement in that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_ack_us: Option<u64>,
}

/// One attempted write. Times are of the boot clock, in microseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Its number.
    pub n: u64,
    /// When it was sent.
    pub sent_us: u64,
    /// When its commit was acknowledged.
    #[serde(default)]
    pub acked_us: Option<u64>,
    /// When its outcome was known, or given up.
    pub done_us: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// Which server it was sent to.
    pub server: SocketAddr,
    /// What was said, where it was not acknowledged.
    #[serde(default)]
    pub error: Option<String>,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Committed and acknowledged.
    Acked,
    /// Nobody can say: the connection ended, or the run, before an answer.
    Unknown,
    /// Turned away: nothing was committed.
    Refused,
}

/// Something noticed beside the attempts.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Remark {
    /// What.
    pub event: String,
    /// When, by the boot clock.
    pub us: u64,
    /// What the wall clock showed then.
    #[serde(default)]
    pub at: Option<i64>,
}

/// A line of a journal after the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// An attempted write.
    Attempt(Attempt),
    /// A remark.
    Remark(Remark),
}

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file system says no.
    #[error("{}: {source}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// There is one already.
    #[error("{}: is there already; a journal is never written over, name another", .0.display())]
    Exists(PathBuf),
    /// A line is not a journal's.
    #[error("{}:{line}: not a line of a journal ({reason})", file.display())]
    Line {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
}

/// A journal being written: one file, or in a folder one a day.
#[derive(Debug)]
pub struct Writing {
    file: File,
    path: PathBuf,
    head: Head,
    /// Where the files of other days go, and the day of this one.
    folder: Option<(Folder, String)>,
}

impl Writing {
    /// Begins a journal.
    ///
    /// # Errors
    /// [`JournalError::Exists`], [`JournalError::Io`].
    pub fn begin(path: &Path, head: &Head) -> Result<Self, JournalError> {
        let file = create(path)?;
        let mut writing = Self { file, path: path.to_owned(), head: head.clone(), folder: None };
        writing.line(head)?;
        Ok(writing)
    }

    /// Begins a journal that is kept for long: a file a day, in UTC.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub fn begin_in(folder: Folder, head: &Head) -> Result<Self, JournalError> {
        let day = folder::day(Timestamp(head.at));
        let mut writing = Self::begin(&folder.file(&day, head), head)?;
        writing.folder = Some((folder, day));
        Ok(writing)
    }

    /// Writes an attempt.
    ///
    /// # Errors
    /// [`JournalError::Io`]
    pub fn attempt(&mut self, attempt: &Attempt) -> Result<(), JournalError> {
        self.head.last_ack_us = attempt.acked_us.or(self.head.last_ack_us);
        self.line(attempt)
    }

    /// Says that the writer runs, and what both clocks show. In a folder the next day's file is
    /// begun here.
    ///
    /// # Errors
    /// [`JournalError`]
    pub fn beat(&mut self) -> Result<(), JournalError> {
        let (us, at) = (wire::clock::now().0, wire::clock::wall().0);
        self.line(&serde_json::json!({"event": CLOCK, "us": us, "at": at}))?;
        let day = folder::day(Timestamp(at));
        let Some((folder, _)) = self.folder.as_ref().filter(|(_, begun)| *begun != day) else {
            return Ok(());
        };
        // The file before ends with the very instant in which this one begins.
        let head = Head { us, at, ..self.head.clone() };
        self.path = folder.file(&day, &head);
        self.file = create(&self.path)?;
        self.folder = Some((folder.clone(), day));
        self.head = head.clone();
        self.line(&head)
    }

    /// Writes a remark: `{"event": "resolved", "server": "192.0.2.1:5432", "us": 1}`.
    ///
    /// # Errors
    /// [`JournalError::Io`]
    pub fn remark(
        &mut self,
        event: &str,
        server: Option<SocketAddr>,
        text: Option<&str>,
    ) -> Result<(), JournalError> {
        let us = wire::clock::now().0;
        self.line(&serde_json::json!({"event": event, "server": server, "us": us, "text": text}))
    }

    fn line(&mut self, value: &impl Serialize) -> Result<(), JournalError> {
        let mut bytes = serde_json::to_vec(value).expect("plain data with text keys");
        bytes.push(b'\n');
        // One system call a line: whoever reads along sees whole lines.
        let written = self.file.write_all(&bytes);
        written.map_err(|source| JournalError::Io { file: self.path.clone(), source })
    }
}

fn create(path: &Path) -> Result<File, JournalError> {
    let opened = OpenOptions::new().append(true).create_new(true).open(path);
    opened.map_err(|source| {
        if source.kind() == io::ErrorKind::AlreadyExists {
            JournalError::Exists(path.to_owned())
        } else {
            JournalError::Io { file: path.to_owned(), source }
        }
    })
}

/// Reads a journal line by line: what is made of the first takes the others. A last line that is
/// not whole (the writer was killed in it) is left out.
///
/// # Errors
/// [`JournalError`]
pub fn lines<S>(
    path: &Path,
    begin: impl FnOnce(Head) -> S,
    mut take: impl FnMut(&mut S, Line),
) -> Result<S, JournalError> {
    let failed = |source| JournalError::Io { file: path.to_owned(), source };
    let wrong = |line, reason| JournalError::Line { file: path.to_owned(), line, reason };
    let mut reader = BufReader::new(File::open(path).map_err(failed)?);
    let mut text = String::new();
    let mut next = |text: &mut String| {
        text.clear();
        reader.read_line(text).map(|_| text.ends_with('\n')).map_err(failed)
    };
    if !next(&mut text)? {
        return Err(wrong(1, "it is empty".to_owned()));
    }
    let mut state = begin(serde_json::from_str(&text).map_err(|e| wrong(1, e.to_string()))?);
    for line in 2.. {
        if !next(&mut text)? {
            break;
        }
        // Inside of a text the quotation marks would be escaped.
        let read = if text.contains("\"outcome\":") {
            serde_json::from_str(&text).map(Line::Attempt)
        } else {
            serde_json::from_str(&text).map(Line::Remark)
        };
        take(&mut state, read.map_err(|error| wrong(line, error.to_string()))?);
    }
    Ok(state)
}

/// A journal as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Journal {
    /// Its first line.
    pub head: Head,
    /// Its attempts, in the order of writing.
    pub attempts: Vec<Attempt>,
}

/// The longest time without an acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// When the last acknowledgement before it came, in microseconds of the boot clock.
    pub last_ack_us: u64,
    /// When the first one after it came.
    pub first_ack_us: u64,
}

impl Journal {
    /// Reads a journal: see [`lines`].
    ///
    /// # Errors
    /// [`JournalError`]
    pub fn read(path: &Path) -> Result<Self, JournalError> {
        let begin = |head| Self { head, attempts: Vec::new() };
        lines(path, begin, |journal, line| match line {
            Line::Attempt(attempt) => journal.attempts.push(attempt),
            Line::Remark(_) => {}
        })
    }

    /// How many attempts ended so.
    pub fn count(&self, outcome: Outcome) -> usize {
        self.attempts.iter().filter(|attempt| attempt.outcome == outcome).count()
    }

    /// The longest time between two acknowledgements; `None` with fewer than two.
    pub fn largest_gap(&self) -> Option<Gap> {
        let mut acks: Vec<u64> = self.attempts.iter().filter_map(|a| a.acked_us).collect();
        acks.sort_unstable();
        acks.windows(2)
            .filter_map(|pair| match pair {
                [last, first] => Some(Gap { last_ack_us: *last, first_ack_us: *first }),
                _ => None,
            })
            .max_by_key(|gap| gap.first_ack_us - gap.last_ack_us)
    }
}

impl Gap {
    /// Its length in milliseconds.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "exact below 285 years of microseconds")]
    pub fn ms(self) -> f64 {
        (self.first_ack_us - self.last_ack_us) as f64 / 1_000.0
    }
}
