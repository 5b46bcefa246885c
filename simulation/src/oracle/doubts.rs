//! Commits that returned without their standbys, and what is overdue: a wait that was ended from
//! outside is recorded while nothing keeps the law from knowing, the record is not dropped before
//! the rule's disks hold the commit, and it bars whoever lacks it (I-08, I-12).

use std::time::Duration;

use failover::cluster::Service;
use failover::ids::{Epoch, Lsn};

use super::Oracle;
use super::commits::on_disk;
use crate::clock::At;
use crate::world::Machine;

/// What must have come about by then, if nothing disturbed it.
const BOUND: Duration = Duration::from_secs(5);
/// For so long an impostor may stream before it is ended.
const MOMENT: Duration = Duration::from_secs(1);
/// Calm has lasted this long: there is a leader, and it has heard everybody.
pub(super) const SETTLED: Duration = Duration::from_secs(10);

/// A commit that PostgreSQL called successful without asking the rule's standbys.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Doubtful {
    number: u64,
    host: usize,
    epoch: Epoch,
    at: Lsn,
    /// The log says that there may be such a commit.
    recorded: bool,
}

/// A doubt as the log has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Recorded {
    epoch: Epoch,
    to: Lsn,
    open: bool,
}

impl Recorded {
    fn covers(&self, commit: &Doubtful) -> bool {
        self.epoch == commit.epoch && (self.open || commit.at <= self.to)
    }
}

/// What is due.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Due {
    /// A doubt about this commit is in the log.
    Told { service: usize, number: u64 },
    /// The machine's own setting is back.
    Restored { host: usize },
    /// A stream under another's name is ended.
    Unmasked { host: usize, stream: u64 },
}

impl Oracle {
    /// A wait of a client's ended without the standbys.
    pub(super) fn doubt(&mut self, host: usize, number: u64, now: At) {
        let Some(epoch) = self.hosts[host].writable_in else { return };
        let service = self.service_of[host];
        let at = self.commit(number).at;
        let mut commit = Doubtful { number, host, epoch, at, recorded: false };
        let state = &mut self.services[service];
        commit.recorded = state.recorded.iter().any(|doubt| doubt.covers(&commit));
        state.doubtful.push(commit);
        self.due.push((now, Due::Told { service, number }));
    }

    /// Somebody overrules the setting.
    pub(super) fn emptied_setting(&mut self, host: usize, now: At) {
        self.hosts[host].emptied.get_or_insert(now);
        self.due.push((now, Due::Restored { host }));
    }

    /// Somebody without a database streams under another's name.
    pub(super) fn posed(&mut self, host: usize, stream: u64, now: At) -> String {
        self.due.push((now, Due::Unmasked { host, stream }));
        "streams to somebody under another's name".into()
    }

    /// I-09: whoever can see it has ended it. `false`: something keeps it from that.
    fn unmasked(&mut self, (host, stream): (usize, u64), since: At, it: &Machine, now: At) -> bool {
        if !it.host.poses(stream) {
            return true;
        }
        // At a standby it can release nothing.
        let known = &self.hosts[host];
        let after = |at: Option<At>| at.is_some_and(|at| at.plus(MOMENT) >= now || at >= since);
        let disturbed = after(known.disturbed) || after(known.began.map(|(_, at)| at));
        if disturbed || !it.host.is_well() || !known.writable {
            return false;
        }
        let text = format!(
            "I-09: {:?} after it began {} still streams to somebody under another's name",
            now.since(since),
            self.name(host)
        );
        self.violate(&text);
        true
    }

    /// In the moment before its end it may release a commit (F-14), and not later.
    pub(super) fn released_by_an_impostor(&mut self, host: usize, machines: &[Machine], now: At) {
        let old = self.due.iter().find_map(|(since, due)| match due {
            Due::Unmasked { host: of, stream } if *of == host => Some((*since, *stream)),
            Due::Unmasked { .. } | Due::Told { .. } | Due::Restored { .. } => None,
        });
        if let Some((since, stream)) = old.filter(|(since, _)| now > since.plus(MOMENT)) {
            self.unmasked((host, stream), since, &machines[host], now);
        }
    }

    /// What the log says of commits in doubt has changed, perhaps.
    pub(super) fn doubts_follow(
        &mut self,
        position: usize,
        (service, primary): (&Service, Option<usize>),
        machines: &[Machine],
        now: At,
    ) -> Result<(), String> {
        let recorded: Vec<Recorded> = service
            .doubts
            .iter()
            .map(|it| Recorded { epoch: it.epoch, to: it.position.lsn, open: it.open })
            .collect();
        let mut again = Vec::new();
        let state = &mut self.services[position];
        state.recorded.clone_from(&recorded);
        if state.doubtful.is_empty() {
            return Ok(());
        }
        for commit in &mut state.doubtful {
            let covered = recorded.iter().any(|doubt| doubt.covers(commit));
            // One that was open may have been closed below this commit by what was said before it
            // was made, and recorded late: what is said next tells of this one.
            let below = |doubt: &Recorded| {
                doubt.epoch == commit.epoch && !doubt.open && doubt.to < commit.at
            };
            if !covered && commit.recorded && recorded.iter().any(below) {
                commit.recorded = false;
                again.push(commit.number);
            }
            commit.recorded |= covered;
        }
        let dropped: Vec<Doubtful> = state
            .doubtful
            .iter()
            .filter(|it| it.recorded && !recorded.iter().any(|doubt| doubt.covers(it)))
            .copied()
            .collect();
        // Nobody can tell of an epoch that is over what was not told while it lasted.
        let epoch = service.epoch;
        state.doubtful.retain(|it| {
            let covered = recorded.iter().any(|doubt| doubt.covers(it));
            covered || (!it.recorded && it.epoch == epoch)
        });
        let told = |number| (now, Due::Told { service: position, number });
        self.due.extend(again.into_iter().map(told));
        for commit in dropped {
            let given_up =
                service.forgone.is_some_and(|(epoch, to)| epoch == commit.epoch && commit.at <= to);
            if given_up && self.services[position].forgo_asked {
                continue;
            }
            self.settled(position, commit, (service.epoch, primary), machines)?;
        }
        Ok(())
    }

    /// A doubt was dropped from the log: W of the rule have the commit, or the primary of a later
    /// epoch, which the entry that drops it may begin.
    fn settled(
        &self,
        position: usize,
        commit: Doubtful,
        (epoch, primary): (Epoch, Option<usize>),
        machines: &[Machine],
    ) -> Result<(), String> {
        let state = &self.services[position];
        let holders = (0..machines.len())
            .filter(|host| state.rule.contains(*host))
            .filter(|host| on_disk(&machines[*host], commit.number, commit.at))
            .count();
        let later = epoch > commit.epoch
            && primary.is_some_and(|it| on_disk(&machines[it], commit.number, commit.at));
        let wiped = self.hosts.iter().any(|host| host.wiped);
        if holders >= state.required as usize || later || wiped {
            return Ok(());
        }
        Err(format!(
            "I-12: the doubt about commit {} at {} by {} was dropped, and {holders} of the rule's \
             {} have it",
            commit.number,
            commit.at,
            self.name(commit.host),
            state.required
        ))
    }

    /// A primary was chosen: what the log said of commits in doubt bars whoever lacks them.
    pub(super) fn doubts_bar(&mut self, position: usize, chosen: usize, service: &Service) {
        let forgone = service.forgone;
        let state = &mut self.services[position];
        let asked = state.forgo_asked;
        state.barring = state
            .doubtful
            .iter()
            .filter(|it| it.recorded && it.host != chosen)
            .filter(|it| {
                let given_up = forgone.is_some_and(|(e, to)| e == it.epoch && it.at <= to);
                !(asked && given_up)
            })
            .map(|it| (it.number, it.at))
            .collect();
    }

    /// The chosen one is writable.
    pub(super) fn holds_doubts(&mut self, host: usize, machines: &[Machine]) {
        let barring = std::mem::take(&mut self.services[self.service_of[host]].barring);
        let lacks = barring.iter().find(|(number, at)| !on_disk(&machines[host], *number, *at));
        if let Some((number, at)) = lacks {
            let text = format!(
                "I-12: {} was promoted without commit {number} at {at}, which is recorded as in \
                 doubt",
                self.name(host)
            );
            self.violate(&text);
        }
    }

    /// What was due by now has come about, or something kept it from it.
    pub(super) fn overdue(&mut self, machines: &[Machine], now: At) {
        while let Some((since, due)) = self.due.first().copied() {
            if now < since.plus(BOUND) {
                return;
            }
            self.due.remove(0);
            if let Due::Unmasked { host, stream } = due
                && !self.unmasked((host, stream), since, &machines[host], now)
            {
                self.posed(host, stream, now);
            }
            if !self.is_calm_since(since) {
                continue;
            }
            match due {
                Due::Unmasked { .. } => {}
                Due::Told { service, number } => self.told_in_time(service, number, machines),
                Due::Restored { host } => {
                    // It may have been put back, and emptied again since.
                    let lasts = self.hosts[host].emptied.is_some_and(|emptied| emptied <= since);
                    if lasts && self.hosts[host].writable {
                        let text = format!(
                            "I-08: the setting of {} was emptied, and {BOUND:?} later it still is",
                            self.name(host)
                        );
                        self.violate(&text);
                    }
                }
            }
        }
    }

    fn told_in_time(&mut self, position: usize, number: u64, machines: &[Machine]) {
        let state = &self.services[position];
        let commit = state.doubtful.iter().find(|it| it.number == number && !it.recorded);
        let Some(commit) = commit.filter(|it| it.epoch == state.epoch).copied() else { return };
        if self.settled(position, commit, (state.epoch, state.primary), machines).is_err() {
            let text = format!(
                "I-12: commit {number} at {} returned at {} without its standbys, and {BOUND:?} \
                 later no doubt is recorded",
                commit.at,
                self.name(commit.host)
            );
            self.violate(&text);
        }
    }

    /// Whether nothing has kept the law from knowing since a while before then.
    pub(super) fn is_calm_since(&self, then: At) -> bool {
        self.calm.is_some_and(|calm| calm.plus(SETTLED) <= then)
    }

    /// Something happened that could keep a voter or an agent from what it has to do; or all of
    /// that is over.
    pub(crate) fn disturbed(&mut self, disturbed: bool, calm: bool, now: At) {
        if disturbed {
            self.calm = calm.then_some(now);
        }
    }

    /// Whether it is not calm, as far as is known.
    pub(crate) fn is_disturbed(&self) -> bool {
        self.calm.is_none()
    }
}
