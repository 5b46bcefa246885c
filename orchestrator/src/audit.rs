//! The audit chain: every entry of the log that says anything, as one line of JSON each, where each
//! line carries the hash of the one before (I-34).
//!
//! A line is made from the entry as it stands in the log and from what came of it: nothing in it
//! depends on who makes it, when, or in which version's words, so every voter has the same chain.
//! The entry is on the disks of a majority before anything comes of it, and with it the line.
//!
//! A line is held against its hash as bytes and never written anew for that: no other spelling of
//! the same record passes. What cannot be seen in a chain alone is that its end was cut off; for
//! that an export ends with a line that names the last record, and whoever wants to know that this
//! is really the last compares it with what a voter says.

mod ledger;
#[cfg(test)]
mod tests;
mod words;

use std::fmt::{self, Write as _};
use std::io::{BufRead, Read as _};
use std::str::FromStr;

use failover::ids::Revision;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use crate::message::EVENT_BYTES;

pub use ledger::{Heard, Ledger};
pub use words::{about, asked, is_note, kind, what};

/// The longest line: an event and what stands round it, in bytes.
pub const LINE_BYTES: usize = EVENT_BYTES + 1_024;
/// One answer with lines holds about this many bytes of them, and one line at the least.
pub const PAGE_BYTES: usize = 256 << 10;
/// And at the most this many lines.
pub const PAGE_LINES: usize = 500;

/// What stands between a record and its hash, and after that.
const BEFORE_HASH: &str = ",\"hash\":\"";
const AFTER_HASH: &str = "\"}";
const HASH_DIGITS: usize = 64;

/// A SHA-256, written as 64 digits of `0-9a-f`.
#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hash([u8; 32]);

impl Hash {
    /// Of some bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
        Self(hash)
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::with_capacity(HASH_DIGITS);
        for byte in self.0 {
            write!(text, "{byte:02x}")?;
        }
        f.pad(&text)
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is no hash.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a hash: 64 of 0-9 and a-f")]
pub struct HashError(String);

impl FromStr for Hash {
    type Err = HashError;

    fn from_str(text: &str) -> Result<Self, HashError> {
        let refuse = || HashError(text.escape_debug().to_string());
        let plain = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() != HASH_DIGITS || !text.bytes().all(plain) {
            return Err(refuse());
        }
        let mut hash = [0; 32];
        for (byte, pair) in hash.iter_mut().zip(text.as_bytes().chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| refuse())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| refuse())?;
        }
        Ok(Self(hash))
    }
}

impl TryFrom<String> for Hash {
    type Error = HashError;

    fn try_from(text: String) -> Result<Self, HashError> {
        text.parse()
    }
}

impl From<Hash> for String {
    fn from(hash: Hash) -> Self {
        hash.to_string()
    }
}

/// The end of a chain, or a place in it: the number of a record and its hash. Number 0, with a
/// hash of zeros, stands before the first record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// The record's number, counted from 1.
    pub number: u64,
    /// Its hash, which covers everything before it.
    pub hash: Hash,
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.number, self.hash)
    }
}

impl FromStr for Head {
    type Err = String;

    /// Reads `NUMBER:HASH`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (number, hash) = text.split_once(':').ok_or("a number, `:` and a hash")?;
        let number = number.parse().map_err(|_| format!("`{number}` is not a number"))?;
        Ok(Self { number, hash: hash.parse().map_err(|e: HashError| e.to_string())? })
    }
}

/// What a voter lacks: the records after `lower` up to `upper`, which it knows from a snapshot.
/// Nothing, when both are the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hole {
    /// The last record before it.
    pub lower: Head,
    /// The last record that is missing.
    pub upper: Head,
}

impl Hole {
    /// Whether anything is missing.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.lower.number < self.upper.number
    }

    /// Takes lines that come next. Those that fit are returned, and the hole begins after them.
    ///
    /// # Errors
    /// When one does not follow the one before, or when the last does not lead to what is known
    /// of the other end: then none of them is to be trusted, and nothing has changed.
    pub fn fill(&mut self, lines: &[String]) -> Result<Vec<Line>, String> {
        let mut lower = self.lower;
        let mut filled = Vec::new();
        for text in lines.iter().take_while(|_| self.is_open()) {
            if lower.number == self.upper.number {
                break;
            }
            lower = follow(&lower, text)?;
            filled.push(Line { number: lower.number, text: text.clone() });
        }
        if lower.number == self.upper.number && lower.hash != self.upper.hash {
            return Err(format!("record {} has another hash than {}", lower.number, self.upper));
        }
        self.lower = lower;
        Ok(filled)
    }
}

/// One line, without the end of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The record's number.
    pub number: u64,
    /// The line as it is exported.
    pub text: String,
}

/// An entry of the log that took its turn, and what came of it.
#[derive(Clone, Copy, Debug)]
pub struct Happened<'a> {
    /// Its place in the log.
    pub entry: u64,
    /// Its term.
    pub term: u64,
    /// Whether it changed anything: one that was decided in another state does not.
    pub effect: bool,
    /// The cluster's revision after it.
    pub revision: Revision,
    /// The event, as it stands in the log.
    pub event: &'a str,
}

/// The record of what happened, and the chain's new end.
#[must_use]
pub fn extend(head: &Head, happened: &Happened<'_>) -> (Line, Head) {
    let number = head.number.saturating_add(1);
    let Happened { entry, term, effect, revision, event } = happened;
    // In JSON that was read they stand between words only, where a blank says the same.
    let event = event.replace(|c: char| c < ' ', " ");
    let mut text = format!(
        "{{\"number\":{number},\"previous\":\"{}\",\"entry\":{entry},\"term\":{term},\"effect\":\
         {effect},\"revision\":{revision},\"event\":{event}",
        head.hash
    );
    let hash = Hash::of(text.as_bytes());
    let _ = write!(text, "{BEFORE_HASH}{hash}{AFTER_HASH}");
    (Line { number, text }, Head { number, hash })
}

/// One record, read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Counted from 1.
    pub number: u64,
    /// The hash of the record before.
    pub previous: Hash,
    /// The entry of the log.
    pub entry: u64,
    /// Its term.
    pub term: u64,
    /// Whether it changed anything.
    pub effect: bool,
    /// The cluster's revision after it.
    pub revision: Revision,
    /// The event: a [`failover::Event`] of this or of another version.
    pub event: serde_json::Value,
    /// The hash of everything before it in its line.
    pub hash: Hash,
}

/// Reads a line, without holding it against its hash.
///
/// # Errors
/// When it is no record.
pub fn read(text: &str) -> Result<Record, String> {
    serde_json::from_str(text).map_err(|error| format!("not a record: {error}"))
}

/// Holds a line against its own hash and against the record before it.
///
/// # Errors
/// What does not fit.
pub fn follow(before: &Head, text: &str) -> Result<Head, String> {
    let (body, hash) = split(text)?;
    let number = before.number.saturating_add(1);
    let begins = format!("{{\"number\":{number},\"previous\":\"{}\",", before.hash);
    if !body.starts_with(&begins) {
        return Err(format!(
            "it is not record {number} after {}: one was taken out, put in, moved or changed",
            before.hash
        ));
    }
    if Hash::of(body.as_bytes()) != hash {
        return Err("it does not have the hash that it names: it was changed".into());
    }
    // What has the right hash was written by us; that it can be read is still not taken on trust.
    read(text)?;
    Ok(Head { number, hash })
}

/// A line's record and its hash.
fn split(text: &str) -> Result<(&str, Hash), String> {
    let unlike = || String::from("it does not end as a record does, with its hash");
    let rest = text.strip_suffix(AFTER_HASH).ok_or_else(unlike)?;
    let at = rest.len().checked_sub(HASH_DIGITS).ok_or_else(unlike)?;
    let (body, hash) = rest.split_at_checked(at).ok_or_else(unlike)?;
    let body = body.strip_suffix(BEFORE_HASH).ok_or_else(unlike)?;
    Ok((body, hash.parse().map_err(|_| unlike())?))
}

/// The last line of an export.
#[must_use]
pub fn end_of(head: &Head) -> String {
    format!("{{\"end\":{{\"number\":{},\"hash\":\"{}\"}}}}", head.number, head.hash)
}

/// What an export holds, once it is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// How many records.
    pub records: u64,
    /// What the first of them stands after: number 0 when it holds everything.
    pub after: Head,
    /// The last.
    pub head: Head,
}

/// The first line that does not stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct Broken {
    /// Counted from 1.
    pub line: u64,
    /// Why not.
    pub reason: String,
}

/// Verifies an export from its first byte to its last; `expected`: the end that it must have,
/// where that is known from elsewhere.
///
/// # Errors
/// The first line that does not stand.
pub fn verify(mut export: impl BufRead, expected: Option<&Head>) -> Result<Verified, Broken> {
    let mut verified: Option<Verified> = None;
    let mut line = 0_u64;
    loop {
        line += 1;
        let broken = |reason: String| Broken { line, reason };
        let text = next(&mut export).map_err(broken)?;
        let Some(text) = text else {
            return Err(broken("the end is missing: the file was cut off".into()));
        };
        let before = match &verified {
            Some(verified) => verified.head,
            None => before_first(&text).map_err(broken)?,
        };
        if text == end_of(&before) {
            if next(&mut export).map_err(broken)?.is_some() {
                return Err(Broken { line: line + 1, reason: "something after the end".into() });
            }
            if let Some(expected) = expected.filter(|expected| **expected != before) {
                return Err(broken(format!("it ends with {before}, and should with {expected}")));
            }
            let none = Verified { records: 0, after: before, head: before };
            return Ok(verified.unwrap_or(none));
        }
        let head = follow(&before, &text).map_err(broken)?;
        let so_far = verified.unwrap_or(Verified { records: 0, after: before, head: before });
        verified = Some(Verified { records: so_far.records + 1, head, ..so_far });
    }
}

/// What the first line says it stands after. An export of everything stands after nothing.
fn before_first(text: &str) -> Result<Head, String> {
    if text == end_of(&Head::default()) {
        return Ok(Head::default());
    }
    let first = read(text)?;
    let number = first.number.checked_sub(1).ok_or("records are counted from 1")?;
    let before = Head { number, hash: first.previous };
    if number == 0 && before != Head::default() {
        return Err("the first record of all stands after nothing: the hash before it is 0".into());
    }
    Ok(before)
}

/// The next whole line, without its end; `None`: there is nothing more.
fn next(export: &mut impl BufRead) -> Result<Option<String>, String> {
    let mut bytes = Vec::new();
    let most = LINE_BYTES as u64 + 1;
    let read = export.take(most).read_until(b'\n', &mut bytes);
    if read.map_err(|error| format!("it cannot be read: {error}"))? == 0 {
        return Ok(None);
    }
    if bytes.pop() != Some(b'\n') {
        return Err("the line has no end: it was cut off, or is too long for a record".into());
    }
    String::from_utf8(bytes).map(Some).map_err(|_| "it is not text".into())
}
