//! What clients were told: an acknowledged commit is never lost, a row that was read never
//! vanishes.

use std::time::Duration;

use failover::ids::{Epoch, Lsn};

use super::Oracle;
use crate::clock::At;
use crate::host::{Outcome, Record, Release};
use crate::hosts::Hosts;
use crate::world::Machine;

/// One client's commit.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Commit {
    /// Where it ends in its primary's log.
    pub(crate) at: Lsn,
    /// When it was written there.
    pub(super) written: At,
    /// No later primary may lack it.
    pub(crate) must: bool,
    /// Its session asked for less than the rule, or its wait was ended from outside: the
    /// invariants except it.
    pub(crate) excepted: bool,
    /// The machines whose disk was taken away while it was there.
    pub(crate) gone: Hosts,
}

/// After both its agent and its guard were stopped or gone a machine is not fenced at once: what
/// was under way may still be answered (docs/safety.md).
const WAKES: Duration = Duration::from_secs(1);

impl Oracle {
    pub(super) fn commit(&mut self, number: u64) -> &mut Commit {
        let index = usize::try_from(number).unwrap_or(0);
        if index >= self.commits.len() {
            self.commits.resize(index + 64, Commit::default());
        }
        &mut self.commits[index]
    }

    /// This commit will be made with `synchronous_commit = local`.
    pub(crate) fn local(&mut self, number: u64) {
        self.commit(number).excepted = true;
    }

    pub(super) fn released(
        &mut self,
        host: usize,
        commit: Option<u64>,
        how: Release,
        machines: &[Machine],
        now: At,
    ) {
        if how == Release::Posed {
            self.released_by_an_impostor(host, machines, now);
        }
        let overruled = self.hosts[host].overruled;
        let Some(number) = commit else { return };
        // What never waited though a rule was in force is judged like every other.
        if how != Release::NeverWaited || overruled {
            // A session that asked for less is nobody's doubt.
            let local = std::mem::replace(&mut self.commit(number).excepted, true);
            if !local && how != Release::Stolen {
                self.doubt(host, number, now);
            }
        }
    }

    /// A client is told something.
    pub(crate) fn told(&mut self, host: u8, outcome: Outcome, machines: &[Machine], now: At) {
        let host = usize::from(host);
        self.serves_proven(host, outcome);
        match outcome {
            Outcome::Acknowledged { commit, warned } => {
                if warned {
                    self.commit(commit).excepted = true;
                }
                self.acknowledged += 1;
                self.must_stay(host, commit, "I-01: acknowledged", machines);
                self.flushed_by_the_rule(host, commit, machines, now);
            }
            // A standby may show what nobody was promised yet (F-37): only a primary's rows count.
            Outcome::Seen { .. } if !self.hosts[host].writable => {}
            Outcome::Seen { newest } => {
                if let Some(commit) = newest {
                    self.must_stay(host, commit, "I-02: read", machines);
                }
                self.fresh(host, machines, now);
            }
            Outcome::Refused | Outcome::Lost => {}
        }
    }

    /// I-13: a writable instance says nothing to a client before it has proven its epoch.
    fn serves_proven(&mut self, host: usize, outcome: Outcome) {
        let said = matches!(outcome, Outcome::Acknowledged { .. } | Outcome::Seen { .. });
        if said && self.hosts[host].writable && self.hosts[host].proven.is_none() {
            let text = format!("I-13: {} answers clients, and has proven nothing", self.name(host));
            self.violate(&text);
        }
    }

    fn must_stay(&mut self, host: usize, number: u64, why: &str, machines: &[Machine]) {
        let service = self.service_of[host];
        let commit = self.commit(number);
        if commit.excepted {
            return;
        }
        let (at, known) = (commit.at, commit.must);
        commit.must = true;
        if !known {
            self.services[service].must.push(number);
        }
        // One that was told after a newer primary stood must be there too.
        let state = &self.services[service];
        let Some(primary) = state.primary.filter(|primary| *primary != host) else { return };
        let newer = self.hosts[primary].writable_in.is_some_and(|epoch| {
            epoch == state.epoch && self.hosts[host].writable_in.is_some_and(|own| own < epoch)
        });
        if newer && !holds(&machines[primary], number, at) {
            let (old, new) = (self.name(host), self.name(primary));
            let text = format!(
                "{why}: commit {number} by {old} is not in the log of {new}, the primary of epoch \
                 {}",
                state.epoch
            );
            self.violate(&text);
        }
    }

    /// I-07, by its effect: what was acknowledged is on the disks of W of the recorded rule.
    fn flushed_by_the_rule(&mut self, host: usize, number: u64, machines: &[Machine], now: At) {
        let commit = *self.commit(number);
        let state = &self.services[self.service_of[host]];
        if commit.excepted || state.primary != Some(host) || state.required == 0 {
            return;
        }
        let holders = (0..machines.len())
            .filter(|other| state.rule.contains(*other))
            // What was on a disk that is gone since was there when it was acknowledged.
            .filter(|other| {
                commit.gone.contains(*other) || on_disk(&machines[*other], number, commit.at)
            })
            .count();
        if holders >= state.required as usize {
            let window = self.fence_after;
            let known = &mut self.hosts[host].acknowledged;
            known.push_back((commit.written, now));
            while known.front().is_some_and(|(written, _)| now.since(*written) > window) {
                known.pop_front();
            }
        } else {
            let ends: Vec<_> = machines.iter().map(|it| it.host.flushed_to()).collect();
            let text = format!(
                "I-07: commit {number} at {} was acknowledged by {} with {holders} of the \
                 recorded rule's {} of {:?} required; flushed: {:?}",
                commit.at,
                self.name(host),
                state.required,
                state.rule,
                ends
            );
            self.violate(&text);
        }
    }

    /// Layer 3: once a newer primary admits clients, nobody reads at the older one.
    fn fresh(&mut self, host: usize, machines: &[Machine], now: At) {
        let state = &self.services[self.service_of[host]];
        let Some((epoch, since)) = state.admitted else { return };
        // As a standby of the newer one it may be read again.
        let own = self.hosts[host].writable_in.filter(|_| self.hosts[host].writable);
        let stale = own.is_some_and(|own| own < epoch) && now > since;
        let awake = machines.get(host).is_none_or(|machine| machine.host.is_guarded())
            && self.hosts[host].unguarded.is_none_or(|at| now > at.plus(WAKES));
        if stale && self.lawful_clocks && awake {
            let text = format!(
                "I-03: {} answered a reader {} ms after epoch {epoch} admitted clients",
                self.name(host),
                now.since(since).as_millis()
            );
            self.violate(&text);
        }
    }

    /// Everything that must stay is in the log of a primary.
    pub(super) fn keeps_all(&mut self, host: usize, epoch: Epoch, machines: &[Machine]) {
        let state = &self.services[self.service_of[host]];
        let lost = state.must.iter().copied().find(|number| {
            let commit = self.commits[usize::try_from(*number).unwrap_or(0)];
            !commit.excepted && !holds(&machines[host], *number, commit.at)
        });
        if let Some(number) = lost {
            let text = format!(
                "I-01: commit {number} was acknowledged or read, and is not in the log of {}, the \
                 primary of epoch {epoch}",
                self.name(host)
            );
            self.violate(&text);
        }
    }
}

/// Whether a commit is on a machine's disk, at its place.
pub(super) fn on_disk(machine: &Machine, number: u64, at: Lsn) -> bool {
    at <= machine.host.flushed_to() && holds(machine, number, at)
}

/// Whether a commit is in a machine's log, at its place.
pub(super) fn holds(machine: &Machine, number: u64, at: Lsn) -> bool {
    machine.host.log().is_some_and(|log| {
        let before = Lsn(at.0.saturating_sub(1));
        log.get(before) == Some(Record(number))
    })
}
