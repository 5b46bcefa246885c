//! Journals that are kept for months: a file a day, and of each that is over a summary, which keeps
//! every interruption. The file itself is let go after a while.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use failover::Timestamp;

use super::journal::{Head, JournalError};
use crate::sla::Measured;

/// A file that was written to this lately may be written to again.
const LATELY: Duration = Duration::from_mins(10);
const JOURNAL: &str = ".jsonl";
const SUMMARY: &str = ".summary.json";

/// The day of a moment, in UTC.
#[must_use]
pub fn day(at: Timestamp) -> String {
    let at = jiff::Timestamp::from_millisecond(at.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    at.strftime("%Y-%m-%d").to_string()
}

/// A folder of journals. Several writers may share it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder(PathBuf);

/// What is left of one journal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kept {
    /// All of it.
    Journal(PathBuf),
    /// Its summary.
    Summary(PathBuf),
}

impl Kept {
    /// A file, by its name.
    #[must_use]
    pub fn file(path: &Path) -> Self {
        let is_summary = path.to_string_lossy().ends_with(SUMMARY);
        if is_summary { Self::Summary(path.to_owned()) } else { Self::Journal(path.to_owned()) }
    }

    /// What was measured in it.
    ///
    /// # Errors
    /// [`JournalError`]
    pub fn measured(&self) -> Result<Measured, JournalError> {
        match self {
            Self::Journal(path) => Measured::of_journal(path),
            Self::Summary(path) => {
                let text = fs::read_to_string(path).map_err(|e| failed(path, e))?;
                serde_json::from_str(&text).map_err(|error| JournalError::Line {
                    file: path.clone(),
                    line: error.line(),
                    reason: error.to_string(),
                })
            }
        }
    }
}

fn failed(path: &Path, source: io::Error) -> JournalError {
    JournalError::Io { file: path.to_owned(), source }
}

impl Folder {
    /// A folder; made if it is not there.
    ///
    /// # Errors
    /// [`JournalError::Io`]
    pub fn create(path: &Path) -> Result<Self, JournalError> {
        fs::create_dir_all(path).map_err(|error| failed(path, error))?;
        Ok(Self(path.to_owned()))
    }

    /// A folder that is there.
    #[must_use]
    pub fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// The file of a day and run.
    #[must_use]
    pub fn file(&self, day: &str, head: &Head) -> PathBuf {
        self.0.join(format!("{day}.{}.{}{JOURNAL}", head.at, head.run))
    }

    /// Every journal once, oldest first: by its summary where there is one.
    ///
    /// # Errors
    /// [`JournalError::Io`]
    pub fn kept(&self) -> Result<Vec<Kept>, JournalError> {
        let mut kept = Vec::new();
        for path in self.files()? {
            let name = path.to_string_lossy();
            if name.ends_with(SUMMARY) {
                kept.push(Kept::Summary(path));
            } else if name.ends_with(JOURNAL) && !summary_of(&path).exists() && size(&path)? > 0 {
                kept.push(Kept::Journal(path));
            }
        }
        Ok(kept)
    }

    fn files(&self) -> Result<Vec<PathBuf>, JournalError> {
        let failed = |error| failed(&self.0, error);
        let entries = fs::read_dir(&self.0).map_err(failed)?;
        let paths: Result<Vec<_>, _> = entries.map(|entry| Ok(entry?.path())).collect();
        let mut paths = paths.map_err(failed)?;
        paths.sort();
        Ok(paths)
    }

    /// Sums up what is over, and lets go journals that are older than `keep` and summed up. What
    /// cannot be read stays, and is told.
    ///
    /// # Errors
    /// [`JournalError::Io`] of the folder itself.
    pub fn tidy(&self, wall: Timestamp, keep: Duration) -> Result<Vec<JournalError>, JournalError> {
        let mut problems = Vec::new();
        for path in self.files()? {
            if path.to_string_lossy().ends_with(JOURNAL)
                && let Err(problem) = tidy(&path, wall, keep)
            {
                problems.push(problem);
            }
        }
        Ok(problems)
    }
}

fn summary_of(journal: &Path) -> PathBuf {
    let name = journal.to_string_lossy();
    PathBuf::from(format!("{}{SUMMARY}", name.strip_suffix(JOURNAL).unwrap_or(&name)))
}

fn size(path: &Path) -> Result<u64, JournalError> {
    Ok(fs::metadata(path).map_err(|error| failed(path, error))?.len())
}

fn tidy(path: &Path, wall: Timestamp, keep: Duration) -> Result<(), JournalError> {
    let failed = |error| failed(path, error);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let written = fs::metadata(path).and_then(|data| data.modified()).map_err(failed)?;
    let age = SystemTime::UNIX_EPOCH
        .checked_add(Duration::from_millis(wall.0.max(0).unsigned_abs()))
        .and_then(|now| now.duration_since(written).ok())
        .unwrap_or_default();
    if age < LATELY || name.starts_with(&day(wall)) {
        return Ok(());
    }
    let summary = summary_of(path);
    if !summary.exists() && size(path)? > 0 {
        let measured = Measured::of_journal(path)?;
        let mut text = serde_json::to_vec(&measured).expect("plain data with text keys");
        text.push(b'\n');
        wire::files::write_durably(&summary, &text).map_err(failed)?;
    }
    if age > keep { fs::remove_file(path).map_err(failed) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::{Attempt, Outcome, Writing, lines};

    fn head(at: i64) -> Head {
        let us = wire::clock::now().0.saturating_sub(10_000_000);
        let through = "clinic.db.example.".into();
        let (run, service) = ("clinic-standing-1-1".into(), "clinic".into());
        Head { run, service, through, every_ms: 1_000, us, at, last_ack_us: None }
    }

    fn attempt(us: u64) -> Attempt {
        Attempt {
            n: 1,
            sent_us: us,
            acked_us: Some(us + 1),
            done_us: us + 1,
            outcome: Outcome::Acked,
            server: ([192, 0, 2, 1], 5432).into(),
            error: None,
        }
    }

    /// Nothing is unmeasured between the two, and what was acknowledged last is known.
    #[test]
    fn the_next_day_has_a_file_that_goes_on_where_the_one_before_ended() {
        let place = tempfile::tempdir().expect("a temporary folder");
        let folder = Folder::create(&place.path().join("journal")).expect("writable");
        let now = wire::clock::wall();
        let yesterday = head(now.0 - 86_400_000);
        let mut writing = Writing::begin_in(folder.clone(), &yesterday).expect("it is empty");
        writing.attempt(&attempt(yesterday.us + 1)).expect("writable");
        writing.beat().expect("writable");
        writing.beat().expect("writable");
        let files = folder.files().expect("readable");
        let [before, after] = &files[..] else { panic!("two days: {files:?}") };
        let begun = lines(after, |head| head, |_, _| {}).expect("whole lines");
        assert_eq!((begun.run, begun.last_ack_us), (yesterday.run, Some(yesterday.us + 2)));
        // The clock was a day behind all the while: told as a step of that day's file.
        let measured = Kept::file(before).measured().expect("a journal");
        assert_eq!(measured.steps.len(), 1);
        assert_eq!(measured.steps[0].at, begun.at);
    }

    /// What a killed writer left: no line, or half of one. And a file that is none is told.
    #[test]
    fn what_a_killed_writer_left_is_no_obstacle() {
        let place = tempfile::tempdir().expect("a temporary folder");
        let folder = Folder::at(place.path());
        std::fs::write(place.path().join("2026-01-01.1.a.jsonl"), "").expect("writable");
        let first = serde_json::to_string(&head(1_767_225_600_000)).expect("JSON");
        let torn = format!("{first}\n{{\"n\":1,\"outc");
        std::fs::write(place.path().join("2026-01-01.2.b.jsonl"), torn).expect("writable");
        let later = Timestamp(wire::clock::wall().0 + 30 * 86_400_000);
        let told = folder.tidy(later, Duration::from_hours(9_000)).expect("readable");
        assert!(told.is_empty(), "{told:?}");
        let kept = folder.kept().expect("readable");
        assert!(matches!(&kept[..], [Kept::Summary(_)]), "{kept:?}");
        std::fs::write(place.path().join("2026-01-02.3.c.jsonl"), "x\n").expect("writable");
        let told = folder.tidy(later, Duration::from_hours(9_000)).expect("readable");
        let [problem] = &told[..] else { panic!("one: {told:?}") };
        assert!(problem.to_string().contains("c.jsonl:1: not a line of a journal"), "{problem}");
        assert!(place.path().join("2026-01-02.3.c.jsonl").exists(), "it stays");
    }
}
