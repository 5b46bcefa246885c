//! The audit chain, read without the product's code (I-34): whatever says anything in a voter's log
//! is in its table of records before the log is cut, in the order of the log, each with the hash of
//! what stands before it; and the chain is the same at every voter.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use orchestrator::audit::Head;
use orchestrator::log::Batch;
use orchestrator::message::{Body, Members};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::Oracle;
use crate::voter::Disk;

/// What is known of every record that was ever on a disk.
#[derive(Clone, Debug, Default)]
pub(super) struct Records {
    /// By number: its hash and its entry.
    known: BTreeMap<u64, (String, u64)>,
    /// The end of the chain at each entry, whoever applied it.
    ends: BTreeMap<u64, Head>,
}

impl Oracle {
    /// A voter has applied everything up to entry `index`.
    pub(crate) fn chained(&mut self, index: u64, end: Head) {
        let known = *self.records.ends.entry(index).or_insert(end);
        if known != end {
            let text =
                format!("I-34: at entry {index} a chain ends with {known}, another with {end}");
            self.violate(&text);
        }
    }

    /// Records are about to stand on a voter's disk, and what they tell of to leave its log.
    pub(crate) fn recorded(&mut self, disk: &Disk, batch: &Batch) {
        let mut entries = Vec::new();
        for line in &batch.audit {
            match self.records.take(line.number, &line.text) {
                Ok(entry) => entries.push((entry, line.text.as_str())),
                Err(text) => {
                    self.violate(&format!("I-34: audit record {}: {text}", line.number));
                    return;
                }
            }
        }
        let (Some((first, _)), Some(snapshot)) = (entries.first(), &batch.snapshot) else { return };
        if batch.replaces {
            return;
        }
        let of_log = disk.saved.entries.iter();
        for entry in of_log.filter(|e| (*first..=snapshot.index).contains(&e.index)) {
            let said = match &entry.body {
                Body::Event(said) | Body::Members(Members { event: said, .. }) => said,
                Body::Empty => continue,
            };
            let ending = format!(",\"event\":{said},\"hash\":");
            let told = entries.iter().find(|(at, _)| *at == entry.index);
            if !said.is_empty() && !told.is_some_and(|(_, text)| text.contains(&ending)) {
                let index = entry.index;
                self.violate(&format!("I-34: entry {index} leaves the log and is not on record"));
                return;
            }
        }
    }
}

impl Records {
    /// Judges one record; the entry that it tells of.
    fn take(&mut self, number: u64, text: &str) -> Result<u64, String> {
        let (before, rest) = text.rsplit_once(",\"hash\":\"").ok_or("it has no hash")?;
        let mut own = String::new();
        for byte in Sha256::digest(before.as_bytes()) {
            let _ = write!(own, "{byte:02x}");
        }
        if rest != format!("{own}\"}}") {
            return Err(format!("its hash is {own}, and it says {rest}"));
        }
        let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let entry = value["entry"].as_u64().ok_or("it names no entry")?;
        let previous = value["previous"].as_str().ok_or("it names none before it")?;
        if value["number"].as_u64() != Some(number) {
            return Err("it has another number".into());
        }
        let start = (String::from("0").repeat(64), 0);
        let stands_after = if number == 1 { Some(&start) } else { self.known.get(&(number - 1)) };
        if let Some((hash, earlier)) = stands_after {
            if previous != hash {
                return Err(format!("it stands after {previous}, and that is {hash}"));
            }
            if entry <= *earlier {
                return Err(format!("entry {entry} comes after entry {earlier}"));
            }
        }
        let known = self.known.entry(number).or_insert_with(|| (own.clone(), entry));
        if *known != (own.clone(), entry) {
            return Err(format!("another voter has {known:?} there, and this one {own}"));
        }
        Ok(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use orchestrator::audit::{Happened, extend};

    fn records(count: u64) -> Vec<(u64, String)> {
        let mut head = Head::default();
        let mut lines = Vec::new();
        for number in 1..=count {
            let event = format!("{{\"said\":{number}}}");
            let revision = failover::Revision(number);
            let (entry, term, effect) = (number * 2, 1, true);
            let (line, end) =
                extend(&head, &Happened { entry, term, effect, revision, event: &event });
            lines.push((line.number, line.text));
            head = end;
        }
        lines
    }

    /// The judge sees what is wrong with a chain: it would be worth nothing otherwise.
    #[test]
    fn i34_what_is_wrong_with_a_chain_is_seen() {
        let good = records(5);
        let mut judge = Records::default();
        for (number, text) in &good {
            assert_eq!(judge.take(*number, text), Ok(number * 2));
        }
        for (number, text) in &good {
            assert_eq!(judge.take(*number, text), Ok(number * 2), "again, from another voter");
            let told = text.replace("said", "sang");
            assert!(judge.clone().take(*number, &told).is_err(), "changed");
            let other = number % 5 + 1;
            assert!(judge.clone().take(other, text).is_err(), "in another place");
        }
        let other = records(6).pop().expect("six").1.replace("\"term\":1", "\"term\":2");
        assert!(judge.take(6, &other).is_err(), "its hash is not its own");
    }
}
