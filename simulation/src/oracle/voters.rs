//! Voters: whatever takes effect stands on the disks of a majority, and whoever leads was given
//! the votes that those disks show (I-19, I-22).

use failover::cluster::Cluster;
use orchestrator::log::Place;

use super::Oracle;
use crate::clock::At;
use crate::voter::Voter;

impl Oracle {
    /// An entry takes effect at a voter: it is on enough disks.
    pub(crate) fn durable(&mut self, place: Place, cluster: &Cluster, voters: &[Voter]) {
        if place.index <= self.index {
            return;
        }
        // In the beginning they are described one after another.
        self.described |= cluster.voters.len() >= self.group;
        let size = if self.described { cluster.voters.len() } else { self.group };
        let holders = voters.iter().filter(|voter| has(voter, place)).count();
        if holders + emptied(voters) < self.majority(size) {
            let Place { index, term } = place;
            self.violate(&format!(
                "I-22: entry {index} of term {term} takes effect, and is on {holders} of {size} \
                 disks"
            ));
        }
        self.group = size;
    }

    /// A voter leads.
    pub(crate) fn elected(&mut self, voter: u8, term: u64, voters: &[Voter], now: At) {
        self.elections += 1;
        self.elected_at.push((term, now));
        let known = *self.leaders.entry(term).or_insert(voter);
        if known != voter {
            self.violate(&format!("I-19: two leaders in term {term}"));
        }
        let Some(leader) = voters.get(usize::from(voter)) else { return };
        let given = |other: &&Voter| {
            // Who comes back with another disk has no vote under its old number; what it gave
            // before may still be on its way.
            let hard = other.disk.lost.unwrap_or(other.disk.saved.hard);
            hard.term > term || (hard.term == term && hard.vote == leader.id.0)
        };
        let votes = voters.iter().filter(given).count();
        let size = self.group;
        if votes < self.majority(size) {
            self.violate(&format!(
                "I-22: {} leads in term {term} by {votes} votes of {size} that are on disk",
                leader.name
            ));
        }
    }

    /// I-19: a leader grants a lease only while it is one: nobody led in a later term when what it
    /// answers was said.
    pub(crate) fn granted(&mut self, host: u8, token: u64, term: u64) {
        let host = usize::from(host);
        let Some(sent) = self.hosts.get(host).and_then(|it| it.reports.sent_at(token)) else {
            return;
        };
        let newer = self.elected_at.iter().find(|(later, at)| *later > term && *at < sent);
        if let Some((later, at)) = newer {
            let text = format!(
                "I-19: {} was granted a lease by the leader of term {term} for what it said {} ms \
                 after another led in term {later}",
                self.name(host),
                sent.since(*at).as_millis()
            );
            self.violate(&text);
        }
    }

    /// While a voter joins or leaves, either majority decides.
    fn majority(&self, size: usize) -> usize {
        size.min(self.group) / 2 + 1
    }
}

/// Whether an entry is on a voter's disk, by itself or in a snapshot.
fn has(voter: &Voter, place: Place) -> bool {
    let saved = &voter.disk.saved;
    let stands = |index: u64| {
        let at = usize::try_from(index.checked_sub(saved.dropped.index + 1)?).ok()?;
        saved.entries.get(at)
    };
    saved.dropped.index >= place.index
        || saved.snapshot.as_ref().is_some_and(|snapshot| snapshot.index >= place.index)
        || stands(place.index).is_some_and(|entry| entry.term == place.term)
}

/// What a disk held that is gone nobody can read any more.
fn emptied(voters: &[Voter]) -> usize {
    voters.iter().map(|voter| voter.disk.births.saturating_sub(1) as usize).sum()
}
