//! The probe writer's journal: what a client was told, written down outside the database.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

/// One attempted write. Times are of the boot clock, in microseconds.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Attempt {
    /// Its number.
    pub n: u64,
    /// When it was sent.
    pub sent_us: u64,
    /// When its commit was acknowledged.
    #[serde(default)]
    pub acked_us: Option<u64>,
    /// How it ended.
    pub outcome: Outcome,
    /// Which server: `address:port`.
    #[serde(default)]
    pub server: Option<String>,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Committed and acknowledged.
    Acked,
    /// Nobody can say: the connection ended before an answer.
    Unknown,
    /// Turned away before anything was written.
    Refused,
}

/// The longest time without an acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// When the last one before it came.
    pub last_us: u64,
    /// When the first one after it came.
    pub first_us: u64,
}

impl Gap {
    /// Its length in milliseconds.
    pub fn millis(self) -> f64 {
        millis(self.last_us, self.first_us)
    }
}

/// From one instant to another, in milliseconds; negative when it is the other way round.
pub fn millis(from_us: u64, to_us: u64) -> f64 {
    let micros = i64::try_from(to_us.abs_diff(from_us)).unwrap_or(i64::MAX);
    #[expect(clippy::cast_precision_loss, reason = "exact below 285 years of microseconds")]
    let millis = micros as f64 / 1_000.0;
    if to_us < from_us { -millis } else { millis }
}

/// A journal that is still being written, read as it grows.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    reader: Option<BufReader<File>>,
    half: String,
    /// All that was read, in the order of writing.
    pub attempts: Vec<Attempt>,
}

impl Journal {
    /// A journal at `path`, which may not exist yet.
    pub fn at(path: &Path) -> Self {
        Self { path: path.into(), reader: None, half: String::new(), attempts: Vec::new() }
    }

    /// Reads what was written since. A line that is not whole yet waits for its rest.
    ///
    /// # Errors
    /// When the file cannot be read or a line is not of a journal.
    pub fn read_on(&mut self) -> Result<()> {
        if self.reader.is_none() {
            match File::open(&self.path) {
                Ok(file) => self.reader = Some(BufReader::new(file)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
                Err(error) => {
                    return Err(error).with_context(|| format!("{}", self.path.display()));
                }
            }
        }
        let Some(reader) = &mut self.reader else { return Ok(()) };
        while reader.read_line(&mut self.half)? > 0 && self.half.ends_with('\n') {
            let line = std::mem::take(&mut self.half);
            // A journal may hold lines of other kinds, such as a head: they carry no number.
            let value: serde_json::Value = serde_json::from_str(&line)
                .with_context(|| format!("{}: `{}`", self.path.display(), line.trim()))?;
            if value.get("outcome").is_some() {
                self.attempts.push(serde_json::from_value(value)?);
            }
        }
        Ok(())
    }

    /// When each acknowledgement came, in order.
    fn acknowledgements(&self) -> Vec<u64> {
        let mut all: Vec<u64> =
            self.attempts.iter().filter_map(|attempt| attempt.acked_us).collect();
        all.sort_unstable();
        all
    }

    /// How many writes were acknowledged.
    pub fn acked(&self) -> usize {
        self.count(Outcome::Acked)
    }

    /// How many ended in a given way.
    pub fn count(&self, outcome: Outcome) -> usize {
        self.attempts.iter().filter(|attempt| attempt.outcome == outcome).count()
    }

    /// The longest gap that ends after `from_us`.
    pub fn gap_after(&self, from_us: u64) -> Option<Gap> {
        let all = self.acknowledgements();
        all.windows(2)
            .filter_map(|pair| match pair {
                [last_us, first_us] if *first_us > from_us => {
                    Some(Gap { last_us: *last_us, first_us: *first_us })
                }
                _ => None,
            })
            .max_by_key(|gap| gap.first_us - gap.last_us)
    }

    /// The first acknowledged write that was sent after `from_us`, and not to `avoid`.
    pub fn first_after(&self, from_us: u64, avoid: Option<&str>) -> Option<&Attempt> {
        self.attempts
            .iter()
            .filter(|attempt| attempt.sent_us >= from_us && attempt.acked_us.is_some())
            .find(|attempt| avoid.is_none() || attempt.server.as_deref() != avoid)
    }

    /// How many writes that were sent after `from_us` were acknowledged.
    pub fn acked_after(&self, from_us: u64) -> u64 {
        let sent = self.attempts.iter().filter(|attempt| attempt.sent_us > from_us);
        sent.filter(|attempt| attempt.acked_us.is_some()).count() as u64
    }

    /// Who acknowledged last.
    pub fn server(&self) -> Option<&str> {
        let last = self.attempts.iter().rev().find(|attempt| attempt.acked_us.is_some())?;
        last.server.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn line(n: u64, sent: u64, acked: Option<u64>, server: &str) -> String {
        let outcome = if acked.is_some() { "acked" } else { "unknown" };
        let acked = acked.map_or("null".to_owned(), |at| at.to_string());
        format!(
            "{{\"n\":{n},\"sent_us\":{sent},\"acked_us\":{acked},\"outcome\":\"{outcome}\",\
             \"server\":\"{server}\",\"error\":null}}\n"
        )
    }

    #[test]
    fn the_longest_gap_and_the_first_write_elsewhere() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("probe.jsonl");
        let mut journal = Journal::at(&path);
        journal.read_on().expect("not there yet is no error");
        let mut file = File::create(&path).expect("writable");
        file.write_all(b"{\"probe\":\"clinic\"}\n").expect("writable");
        for n in 1..=5 {
            let text = line(n, n * 10_000, Some(n * 10_000 + 2_000), "a:1");
            file.write_all(text.as_bytes()).expect("writable");
        }
        file.write_all(line(6, 60_000, None, "a:1").as_bytes()).expect("writable");
        let last = line(7, 900_000, Some(905_000), "b:1");
        let (head, tail) = last.split_at(20);
        file.write_all(head.as_bytes()).expect("writable");
        journal.read_on().expect("readable");
        assert_eq!(journal.attempts.len(), 6);
        assert_eq!(journal.server(), Some("a:1"));
        file.write_all(tail.as_bytes()).expect("writable");
        journal.read_on().expect("readable");
        assert_eq!((journal.acked(), journal.count(Outcome::Unknown)), (6, 1));
        let gap = journal.gap_after(55_000).expect("writes stopped");
        assert_eq!(gap, Gap { last_us: 52_000, first_us: 905_000 });
        assert!((gap.millis() - 853.0).abs() < 1e-9);
        assert_eq!(journal.first_after(55_000, Some("a:1")).map(|a| a.n), Some(7));
        assert!(journal.first_after(950_000, None).is_none());
        assert_eq!(journal.acked_after(45_000), 2);
    }

    #[test]
    fn time_has_a_sign() {
        assert!((millis(3_000, 1_500) + 1.5).abs() < 1e-9);
    }
}
