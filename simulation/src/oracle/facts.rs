//! What machines do, held against what they may.

use failover::ids::{Epoch, Lsn};

use super::Oracle;
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
    /// Its agent or its guard was stopped or killed once: nobody may have been there to fence it.
    pub(crate) was_frozen: bool,
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
        let host = usize::from(host);
        match fact {
            Fact::Writable { epoch, promoted, timeline, .. } => {
                self.writable(host, *epoch, *promoted, machines);
                let how = if *promoted { "promoted" } else { "is a primary again" };
                Some(format!("{how}, epoch {epoch}, timeline {timeline}"))
            }
            Fact::Ended { fenced } => {
                let state = &mut self.hosts[host];
                state.writable = false;
                state.admits = false;
                state.proven = None;
                Some(if *fenced { "fenced".into() } else { "PostgreSQL ended".into() })
            }
            Fact::Admitted { epoch, writable: true } => Some(self.admitted(host, *epoch, now)),
            Fact::Wrote { commit, at, .. } => {
                self.commit(*commit).at = *at;
                None
            }
            Fact::Proven { epoch } => self.proven(host, *epoch),
            Fact::Released { commit, how, at } => {
                self.released(host, *commit, *how);
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

    /// I-06: a seal lasts.
    fn received(&mut self, host: usize, epoch: Epoch) {
        if epoch.0 > 0 && self.hosts[host].sealed >= epoch {
            let text = format!(
                "I-06: {} received from epoch {epoch} after it had sealed it",
                self.name(host)
            );
            self.violate(&text);
        }
    }

    fn writable(&mut self, host: usize, epoch: Epoch, promoted: bool, machines: &[Machine]) {
        let service = self.service_of[host];
        {
            let state = &mut self.hosts[host];
            state.writable_in = Some(epoch);
            state.writable = true;
            state.admits = false;
            state.proven = None;
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
            self.keeps_all(host, epoch, machines);
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

    fn admitted(&mut self, host: usize, epoch: Epoch, now: At) -> String {
        let service = self.service_of[host];
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

    fn proven(&mut self, host: usize, epoch: Epoch) -> Option<String> {
        let service = self.service_of[host];
        self.hosts[host].proven = Some(epoch);
        // One that takes the next epoch itself is its primary from here on, without a restart.
        self.hosts[host].writable_in = self.hosts[host].writable_in.max(Some(epoch));
        let proven = &mut self.services[service].proven;
        let newest = proven.last().copied();
        let news = proven.insert(epoch);
        if newest.is_some_and(|newest| newest > epoch) {
            let text = format!(
                "I-03: {} committed durably in epoch {epoch} after a newer one had",
                self.name(host)
            );
            self.violate(&text);
        }
        news.then(|| format!("marker of epoch {epoch} is durable"))
    }

    /// I-07 and I-08, by the setting itself.
    fn setting(&mut self, host: usize, process: Process, setting: &Setting) {
        let state = &self.services[self.service_of[host]];
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
        let beyond = setting.names.iter().filter(|name| state.rule & (1 << name.0) == 0).count();
        let counted = usize::from(setting.required).saturating_sub(beyond);
        if !setting.names.is_empty() && counted < state.required as usize {
            let text = format!(
                "I-07: {process:?} of {} enforces {} of {:?}, and the rule records {} of {:b}",
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
}
