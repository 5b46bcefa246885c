//! What whoever monitors a voter is told from: a copy of the numbers, because writing them down
//! takes longer than the loop should wait.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use failover::cluster::{Cluster, Record};
use failover::ids::ServiceId;
use failover::rehearse::bare;

use super::{Place, Replica};
use crate::answers::Status;
use crate::replica::ReadinessQuestion;

/// What of a voter can be counted and measured, of one instant.
#[derive(Debug)]
pub struct Sight {
    /// Everything on one screen.
    pub status: Status,
    /// Whether it leads.
    pub leads: bool,
    /// Why it does not act.
    pub stopped: Option<String>,
    /// The newest entry that was applied.
    pub applied: Place,
    /// The newest entry that is known to be committed.
    pub committed: u64,
    /// How many records the audit chain has here.
    pub audit: u64,
    /// How many ranges of commits are in doubt, by service.
    pub doubts: BTreeMap<ServiceId, usize>,
    /// Changes of primary there ever were.
    pub transitions: BTreeMap<Kind, u64>,
    /// As leader: for how long each service has stood where it stands.
    pub in_step: BTreeMap<ServiceId, Duration>,
    /// As leader: by how many milliseconds each clock is behind ours, by kind and name.
    pub behind_ms: BTreeMap<(&'static str, String), i64>,
    /// As leader: what could be lost now is worked out from this.
    pub readiness: Option<ReadinessQuestion>,
}

/// Changes of primary that count as alike.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kind {
    /// Of which service.
    pub service: ServiceId,
    /// What set them off.
    pub trigger: &'static str,
    /// How they ended.
    pub outcome: &'static str,
}

impl Kind {
    fn of(record: &Record) -> Self {
        Self {
            service: record.service.clone(),
            trigger: record.trigger.name(),
            outcome: record.outcome.name(),
        }
    }
}

impl Replica {
    /// What can be counted and measured now.
    pub fn sight(&self) -> Sight {
        let now = self.clocks.now;
        let services = &self.cluster.services;
        let lead = self.lead.as_ref();
        let in_step = |id: &ServiceId| Some((id.clone(), lead?.view.in_step(id, now)));
        let mut transitions = BTreeMap::new();
        for record in self.cluster.transitions.values() {
            *transitions.entry(Kind::of(record)).or_default() += 1;
        }
        Sight {
            status: self.status(),
            leads: self.is_leader(),
            stopped: self.stopped().map(str::to_owned),
            applied: self.applied(),
            committed: self.raw.raft.raft_log.committed,
            audit: self.chain.head().map_or(0, |head| head.number),
            doubts: services.iter().map(|(id, it)| (id.clone(), it.doubts.len())).collect(),
            transitions,
            in_step: services.keys().filter_map(in_step).collect(),
            behind_ms: self.clocks_behind(),
            readiness: lead.and_then(|_| self.readiness_of(self.without_history(), None)),
        }
    }

    fn clocks_behind(&self) -> BTreeMap<(&'static str, String), i64> {
        let Some(lead) = self.lead.as_ref() else { return BTreeMap::new() };
        let declared: BTreeSet<_> =
            self.cluster.services.values().flat_map(|it| it.spec.instances.keys()).collect();
        let agents = lead.view.surveys.iter().filter(|(id, _)| declared.contains(id));
        let agents = agents
            .filter_map(|(id, surveyed)| Some((("agent", id.to_string()), surveyed.behind_ms?)));
        let voters = lead.view.voters.iter().filter_map(|(id, (_, said))| {
            let name = self.voter(*id)?.name.clone();
            Some((("voter", name), said.behind_ms?))
        });
        agents.chain(voters).collect()
    }

    /// A copy of all that readiness rests on: of what was long ago it needs what machines took.
    pub(super) fn without_history(&self) -> Cluster {
        let known = &self.cluster;
        Cluster { transitions: known.transitions.clone(), ..bare(known, None) }
    }
}
