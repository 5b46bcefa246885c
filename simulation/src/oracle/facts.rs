//! What machines do, held against what they may.

use std::collections::VecDeque;

use failover::ids::{Epoch, Lsn, Timeline};

use super::Oracle;
use super::commits::on_disk;
use super::lost::Reports;
use crate::clock::At;
use crate::host::{Fact, Process, Setting};
use crate::world::Machine;

/// One machine, as the judge sees it.
#[derive(Clone, Debug, Default)]
pub struct HostState {
    /// The epoch in which its PostgreSQL is, or last was, writable.
    pub writable_in: Option<Epoch>,
    /// Whether it is writable now.
    pub writable: bool,
    /// The epoch that it has proven since it last started.
    pub proven: Option<Epoch>,
    /// Whether clients are admitted.
    pub admits: bool,
    /// Where it stood when it sealed, and which epoch.
    pub sealed_at: Option<(Epoch, Lsn)>,
    pub(crate) sealed: Epoch,
    pub(crate) granted: Epoch,
    /// The newest tail that was kept.
    pub kept: Option<(Lsn, Lsn)>,
    /// Its disk was taken away once.
    pub(crate) wiped: bool,
    /// A superuser has overruled the setting.
    pub(crate) overruled: bool,
    /// When there was last neither an agent nor a guard that ran: nobody could fence it.
    pub(crate) unguarded: Option<At>,
    /// The setting is empty, because somebody overruled it.
    pub(crate) emptied: Option<At>,
    /// When something was last done to it.
    pub(super) disturbed: Option<At>,
    /// Something was done to it by which its PostgreSQL may hang.
    pub(super) strained: bool,
    /// What its agent said.
    pub(super) reports: Reports,
    /// When the last commits were written of which clients were told and that the rule's standbys
    /// hold, and when they were told, as far as they may vouch for a primary.
    pub(super) acknowledged: VecDeque<(At, At)>,
    /// When its PostgreSQL last ended.
    pub(super) ended: Option<At>,
    /// Where its log ended when it was last found writable, and when that was.
    pub(super) began: Option<(Lsn, At)>,
    /// When its data was last replaced by another copy.
    pub(super) remade: Option<At>,
}

impl Oracle {
    /// Something happened in a machine; in words, where it is worth a line.
    pub(crate) fn fact(
        &mut self,
        host: u8,
        fact: &Fact,
        machines: &[Machine],
        now: At,
    ) -> Option<String> {
        self.overdue(machines, now);
        let host = usize::from(host);
        if matches!(fact, Fact::Rewound { .. } | Fact::Cloned | Fact::Quarantined) {
            self.remade(host, machines, now);
        }
        match fact {
            Fact::Writable { epoch, promoted, timeline, from } => {
                self.hosts[host].began = Some((*from, now));
                if self.hosts[host].emptied.take().is_some() {
                    // What a standby was told comes into force now, unless it was put back.
                    self.emptied_setting(host, now);
                }
                self.writable(host, (*epoch, *timeline), *promoted, machines);
                let how = if *promoted { "promoted" } else { "is a primary again" };
                Some(format!("{how}, epoch {epoch}, timeline {timeline}"))
            }
            Fact::Ended { fenced } => Some(self.ended(host, *fenced, machines, now)),
            Fact::Admitted { epoch, writable: true } => {
                Some(self.admitted(host, *epoch, machines, now))
            }
            Fact::Wrote { commit, at, .. } => {
                let commit = self.commit(*commit);
                (commit.at, commit.written) = (*at, now);
                None
            }
            Fact::Proven { epoch } => self.proven(host, *epoch, machines),
            Fact::Released { commit, how, at } => {
                self.released(host, *commit, *how, machines, now);
                Some(format!("a wait ended without the standbys: {how:?} at {at}"))
            }
            Fact::Setting { process, setting } => {
                self.setting(host, *process, setting);
                None
            }
            Fact::Pledged { sealed, granted } => {
                self.pledged(host, *sealed, *granted);
                None
            }
            Fact::Sealed { epoch, at } => {
                self.hosts[host].sealed_at = Some((*epoch, *at));
                Some(format!("sealed epoch {epoch} at {at}"))
            }
            Fact::Received { epoch } => {
                self.received(host, *epoch);
                None
            }
            Fact::TailKept { from, to } => {
                self.hosts[host].kept = Some((*from, *to));
                Some(format!("kept its tail from {from} to {to}"))
            }
            Fact::Rewound { from, to } => Some(self.rewound(host, *from, *to)),
            Fact::StartedBroken => {
                let text = format!("I-15: {} started a half rewound directory", self.name(host));
                self.violate(&text);
                None
            }
            Fact::Isolated => Some(self.isolated(host, now)),
            Fact::Posed { stream } => Some(self.posed(host, *stream, now)),
            Fact::Cloned => Some("copied anew".into()),
            Fact::Quarantined => Some("a failed rewind is put aside".into()),
            Fact::Admitted { .. }
            | Fact::Enforced { .. }
            | Fact::Wiped
            | Fact::Began { .. }
            | Fact::Done { .. }
            | Fact::Step { .. } => None,
            Fact::ClientsClosed => {
                self.hosts[host].admits = false;
                None
            }
        }
    }

    /// I-06: a seal lasts. It stands once the instance says where it is, and not with the pledge
    /// alone: a receiver that was stopped meanwhile may read what lay in its socket.
    fn received(&mut self, host: usize, epoch: Epoch) {
        let sealed = self.hosts[host].sealed_at.map_or(Epoch(0), |(sealed, _)| sealed);
        if epoch.0 > 0 && sealed >= epoch {
            let text = format!(
                "I-06: {} received from epoch {epoch} after it had sealed it",
                self.name(host)
            );
            self.violate(&text);
        }
    }

    fn writable(
        &mut self,
        host: usize,
        (epoch, timeline): (Epoch, Timeline),
        promoted: bool,
        machines: &[Machine],
    ) {
        if promoted {
            self.own_timeline(host, epoch, timeline);
        }
        let service = self.service_of[host];
        {
            let state = &mut self.hosts[host];
            state.writable_in = Some(epoch);
            state.writable = true;
            state.admits = false;
            state.proven = None;
        }
        self.one_cluster(host, machines);
        if !accepted(machines, host, epoch) {
            let text = format!(
                "I-04: {} is writable in epoch {epoch}, and its disk says another",
                self.name(host)
            );
            self.violate(&text);
        }
        let state = &self.services[service];
        let newest = epoch == state.epoch;
        if !promoted {
            if newest {
                self.keeps_all(host, epoch, machines);
            }
            return;
        }
        let granted = state.grants.get(&epoch) == Some(&host);
        self.services[service].promotions += 1;
        if !granted {
            let text = format!("I-04: {} promoted without a grant of {epoch}", self.name(host));
            self.violate(&text);
        } else if self.hosts[host].sealed >= epoch {
            let text = format!("I-20: {} promoted in epoch {epoch}, sealed", self.name(host));
            self.violate(&text);
        }
        if newest {
            self.beyond_examined(host, machines);
            self.holds_doubts(host, machines);
            self.keeps_all(host, epoch, machines);
        }
    }

    /// I-05: the number of a timeline is one history's: those of two promotions that share it
    /// cannot be told apart.
    fn own_timeline(&mut self, host: usize, epoch: Epoch, timeline: Timeline) {
        let known = &mut self.services[self.service_of[host]].timelines;
        let first = *known.entry(timeline).or_insert(epoch);
        if first != epoch {
            let text = format!(
                "I-05: {} was promoted in epoch {epoch} on timeline {timeline}, which is that of \
                 epoch {first}",
                self.name(host)
            );
            self.violate(&text);
        }
    }

    /// I-05: it stands at or beyond every examined position, along one history.
    fn beyond_examined(&mut self, host: usize, machines: &[Machine]) {
        let Some(own) = machines[host].host.log() else { return };
        let examined = &self.services[self.service_of[host]].examined;
        let behind = examined.iter().find(|(other, at)| {
            let log = machines[*other].host.log();
            *other != host && log.is_some_and(|log| log.end() >= *at && own.fork(log) < *at)
        });
        if let Some((other, at)) = behind {
            let text = format!(
                "I-05: {} was promoted and lacks what {} held at {at} when it was examined",
                self.name(host),
                self.name(*other)
            );
            self.violate(&text);
        }
    }

    fn admitted(&mut self, host: usize, epoch: Epoch, machines: &[Machine], now: At) -> String {
        let service = self.service_of[host];
        self.flushed_before(host, machines);
        if self.hosts[host].proven != Some(epoch) {
            let text = format!("I-13: {} admits clients unproven, epoch {epoch}", self.name(host));
            self.violate(&text);
        }
        let known = self.services[service].admitted;
        if known.is_some_and(|(newest, _)| epoch < newest) {
            let text = format!("I-13: {} admits clients in the old epoch {epoch}", self.name(host));
            self.violate(&text);
        }
        if known.is_none_or(|(newest, _)| epoch > newest) {
            self.services[service].admitted = Some((epoch, now));
        }
        self.hosts[host].admits = true;
        format!("admits clients, epoch {epoch}")
    }

    fn proven(&mut self, host: usize, epoch: Epoch, machines: &[Machine]) -> Option<String> {
        let service = self.service_of[host];
        if !accepted(machines, host, epoch) {
            let text = format!("I-04: {} proves epoch {epoch}, not accepted", self.name(host));
            self.violate(&text);
        }
        self.hosts[host].proven = Some(epoch);
        // One that takes the next epoch itself is its primary from here on, without a restart.
        self.hosts[host].writable_in = self.hosts[host].writable_in.max(Some(epoch));
        let proven = &mut self.services[service].proven;
        let newest = proven.last().copied();
        let news = proven.insert(epoch);
        if newest.is_some_and(|newest| newest > epoch) && !self.marked_before(host, epoch, machines)
        {
            let text = format!(
                "I-03: {} committed durably in epoch {epoch} after a newer one had",
                self.name(host)
            );
            self.violate(&text);
        }
        news.then(|| format!("marker of epoch {epoch} is durable"))
    }

    /// Whether the newest marker of a host is in the log of its service's primary: then it was
    /// durable before that one was chosen, though its agent stood still and learns it only now.
    fn marked_before(&self, host: usize, epoch: Epoch, machines: &[Machine]) -> bool {
        let primary = self.services[self.service_of[host]].primary.filter(|it| *it != host);
        let log = |host: usize| machines.get(host).and_then(|it| it.host.log());
        let end = machines.get(host).and_then(|it| it.host.marker_of(epoch));
        let (Some(own), Some(theirs), Some(end)) = (log(host), primary.and_then(log), end) else {
            return false;
        };
        end <= theirs.end() && end <= own.fork(theirs)
    }

    /// I-07 and I-08, by the setting itself.
    pub(super) fn setting(&mut self, host: usize, process: Process, setting: &Setting) {
        if !setting.empty {
            // Who says whether commits wait at all, and who is asked first.
            self.hosts[host].overruled &= process != Process::Checkpointer;
            if process == Process::Postmaster {
                self.hosts[host].emptied = None;
            }
        }
        let state = &self.services[self.service_of[host]];
        if setting.local && state.primary == Some(host) && state.required > 0 {
            let text = format!(
                "I-07: commits of {} do not wait, and the rule records {}",
                self.name(host),
                state.required
            );
            self.violate(&text);
            return;
        }
        if setting.local || self.hosts[host].overruled || state.primary != Some(host) {
            if setting.empty && !setting.local && !self.hosts[host].overruled {
                let text = format!("I-08: the names of {} are empty", self.name(host));
                self.violate(&text);
            }
            return;
        }
        if setting.empty && state.required > 0 {
            let text = format!("I-08: the names of {} are empty", self.name(host));
            self.violate(&text);
            return;
        }
        let beyond = setting.names.iter().filter(|name| !state.rule.contains(name.index())).count();
        let counted = usize::from(setting.required).saturating_sub(beyond);
        if !setting.names.is_empty() && counted < state.required as usize {
            let text = format!(
                "I-07: {process:?} of {} enforces {} of {:?}, and the rule records {} of {:?}",
                self.name(host),
                setting.required,
                setting.names,
                state.required,
                state.rule
            );
            self.violate(&text);
        }
    }

    fn pledged(&mut self, host: usize, sealed: Epoch, granted: Epoch) {
        let state = &mut self.hosts[host];
        let back = sealed < state.sealed || granted < state.granted;
        state.sealed = sealed;
        state.granted = granted;
        if back {
            let text = format!("I-04: {} took a promise back", self.name(host));
            self.violate(&text);
        }
    }

    /// I-14.
    fn rewound(&mut self, host: usize, from: Lsn, to: Lsn) -> String {
        let kept = self.hosts[host].kept;
        let covered = kept.is_some_and(|(first, last)| first <= from && last >= to);
        if to > from && !covered {
            let text = format!("I-14: {} rewound {from}..{to} and kept no tail", self.name(host));
            self.violate(&text);
        }
        format!("rewound to {from}")
    }

    /// I-11: what recovery brought to light is on the disks of W of the rule before anybody sees
    /// it.
    fn flushed_before(&mut self, host: usize, machines: &[Machine]) {
        let state = &self.services[self.service_of[host]];
        let Some((end, since)) = self.hosts[host].began else { return };
        let Some(own) = machines.get(host).and_then(|machine| machine.host.log()) else { return };
        if state.primary != Some(host) || state.required == 0 {
            return;
        }
        let named = (0..machines.len()).filter(|other| state.rule.contains(*other));
        let holders = named
            .filter(|other| {
                let it = &machines[*other].host;
                let there = it.log().is_some_and(|log| own.fork(log) >= end);
                let remade = self.hosts[*other].remade.is_some_and(|at| at >= since);
                (there && it.flushed_to() >= end) || remade || self.hosts[*other].wiped
            })
            .count();
        if holders < state.required as usize {
            let text = format!(
                "I-11: {} admits clients, and {holders} of the rule's {} hold its log up to {end}",
                self.name(host),
                state.required
            );
            self.violate(&text);
        }
    }

    /// I-05: a service is one cluster for ever.
    fn one_cluster(&mut self, host: usize, machines: &[Machine]) {
        let Some(found) = machines.get(host).and_then(|machine| machine.host.system()) else {
            return;
        };
        let known = &mut self.services[self.service_of[host]].system;
        let first = *known.get_or_insert(found);
        if first != found {
            let text = format!("I-05: {} is primary of another cluster", self.name(host));
            self.violate(&text);
        }
    }

    /// I-18: the data of a machine was replaced, or put aside.
    fn remade(&mut self, host: usize, machines: &[Machine], now: At) {
        self.hosts[host].remade = Some(now);
        let service = self.service_of[host];
        if self.services[service].primary == Some(host) && !self.hosts[host].wiped {
            let text = format!("I-18: the data of {}, the primary, was replaced", self.name(host));
            self.violate(&text);
        }
        if self.hosts.iter().any(|it| it.wiped) {
            return;
        }
        let lost = self.services[service].must.iter().copied().find(|number| {
            let commit = self.commits[usize::try_from(*number).unwrap_or(0)];
            !commit.excepted && !machines.iter().any(|it| on_disk(it, *number, commit.at))
        });
        if let Some(number) = lost {
            let text = format!("I-18: the last copy of commit {number} was at {}", self.name(host));
            self.violate(&text);
        }
    }

    /// It cut itself off, for a drill: what follows is not calm.
    fn isolated(&mut self, host: usize, now: At) -> String {
        self.hosts[host].disturbed = Some(now);
        self.disturbed(true, false, now);
        "cut itself off".into()
    }

    /// I-24: the primary was ended by its own agent or guard, and nothing had happened.
    fn ended(&mut self, host: usize, fenced: bool, machines: &[Machine], now: At) -> String {
        let state = &self.services[self.service_of[host]];
        let ours = state.primary == Some(host) && self.hosts[host].writable;
        let newest = self.hosts[host].writable_in == Some(state.epoch);
        if fenced && ours && newest && state.step.is_none() && self.is_calm_since(now) {
            let text = format!("I-24: {} was fenced, and nothing had happened", self.name(host));
            self.violate(&text);
        }
        if fenced && ours && newest {
            self.fenced_rightly(host, &machines[host], now);
        }
        let state = &mut self.hosts[host];
        state.ended = Some(now);
        state.acknowledged.clear();
        state.writable = false;
        state.admits = false;
        state.proven = None;
        if fenced { "fenced".into() } else { "PostgreSQL ended".into() }
    }
}

/// Whether a machine's disk says that it accepted an epoch.
fn accepted(machines: &[Machine], host: usize, epoch: Epoch) -> bool {
    machines.get(host).is_none_or(|machine| machine.host.pledge().granted == epoch)
}
