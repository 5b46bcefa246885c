//! The judge. It shares no code with what it judges: it keeps its own list of what clients were
//! told, reads the machines' disks, and holds both against the numbered invariants after every
//! event. What it is told of the replicated state it copies into small facts of its own.

mod commits;
mod doubts;
mod facts;
mod given_up;
mod lost;
mod names;
mod records;
mod state;
#[cfg(test)]
mod tests;
mod voters;

use std::collections::BTreeMap;
use std::time::Duration;

use failover::Request;
use failover::ids::{InstanceId, ServiceId};
use failover::topology::Topology;

use crate::clock::At;
use crate::host::HostFault;
use crate::world::Machine;
pub(crate) use commits::Commit;
pub use facts::HostState;
pub use state::ServiceState;

/// The judge of one run.
pub struct Oracle {
    violation: Option<String>,
    pub(crate) services: Vec<ServiceState>,
    pub(crate) names: Vec<ServiceId>,
    pub(crate) instances: Vec<InstanceId>,
    /// Which service each machine belongs to.
    pub(crate) service_of: Vec<usize>,
    pub(crate) hosts: Vec<HostState>,
    /// Every client's commit, by its number.
    pub(crate) commits: Vec<Commit>,
    /// The entry up to which the state is known.
    pub(crate) index: u64,
    /// The revision up to which the history was told.
    pub(crate) told: u64,
    /// The revision that each entry made, the same at every voter.
    revisions: BTreeMap<u64, u64>,
    records: records::Records,
    leaders: BTreeMap<u64, u8>,
    elections: u32,
    /// When somebody led first in each term.
    elected_at: Vec<(u64, At)>,
    servers: Vec<names::Served>,
    reached: Vec<&'static str>,
    window: Duration,
    /// Lasting promises about reads hold only while clocks keep to the law.
    lawful_clocks: bool,
    acknowledged: u64,
    /// When the newest commit that a client was told of had begun, and when it was told.
    newest: Option<(At, At)>,
    newest_read: Option<(At, At)>,
    gap: Duration,
    counting_from: Option<At>,
    /// How many voters there are.
    group: usize,
    /// The log describes all of them.
    described: bool,
    /// Since when nothing keeps voters and agents from what they have to do.
    calm: Option<At>,
    /// What must come about soon, oldest first, and since when.
    due: Vec<(At, doubts::Due)>,
    suspect_after: Duration,
    fence_after: Duration,
    /// Between two commits of an agent's own, at the most.
    pause: Duration,
    /// From how many sites beside its own each machine can be seen.
    eyes: Vec<u8>,
    /// When each place was last kept from seeing.
    blinded: Vec<Option<At>>,
}

impl Oracle {
    pub(crate) fn new(topology: &Topology) -> Self {
        let mut instances = Vec::new();
        let mut service_of = Vec::new();
        for (index, spec) in topology.services.values().enumerate() {
            for instance in spec.instances.keys() {
                instances.push(instance.clone());
                service_of.push(index);
            }
        }
        Self {
            violation: None,
            services: topology.services.values().map(ServiceState::new).collect(),
            names: topology.services.keys().cloned().collect(),
            hosts: vec![HostState::default(); instances.len()],
            instances,
            service_of,
            commits: Vec::new(),
            index: 0,
            told: 0,
            revisions: BTreeMap::new(),
            records: records::Records::default(),
            leaders: BTreeMap::new(),
            elections: 0,
            elected_at: Vec::new(),
            servers: vec![names::Served::default(); topology.dns.servers.len()],
            reached: Vec::new(),
            window: topology.timing.failover_window,
            lawful_clocks: true,
            acknowledged: 0,
            newest: None,
            newest_read: None,
            gap: Duration::ZERO,
            counting_from: None,
            group: topology.sites.len(),
            described: false,
            calm: None,
            due: Vec::new(),
            suspect_after: topology.timing.suspect_after,
            fence_after: topology.timing.fence_after,
            pause: topology.timing.heartbeat * 3 / 2,
            eyes: Vec::new(),
            blinded: Vec::new(),
        }
    }

    /// The first thing that must not be.
    #[must_use]
    pub fn violation(&self) -> Option<&str> {
        self.violation.as_deref()
    }

    /// It must not be.
    pub fn violate(&mut self, text: &str) {
        self.violation.get_or_insert_with(|| text.to_owned());
    }

    /// What is known of a service's replicated state.
    #[must_use]
    pub fn service(&self, index: usize) -> Option<&ServiceState> {
        self.services.get(index)
    }

    /// What is known of a machine.
    #[must_use]
    pub fn host(&self, index: usize) -> Option<&HostState> {
        self.hosts.get(index)
    }

    /// How many promotions there were, over all services.
    #[must_use]
    pub fn promotions(&self) -> u32 {
        self.services.iter().map(|service| service.promotions).sum()
    }

    /// How often a leader was elected.
    #[must_use]
    pub const fn elections(&self) -> u32 {
        self.elections
    }

    /// How many commits clients were told of.
    #[must_use]
    pub const fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// When the newest commit that a client was told of had begun, and when it was told.
    #[must_use]
    pub const fn newest_write(&self) -> Option<(At, At)> {
        self.newest
    }

    /// The same for reads.
    #[must_use]
    pub const fn newest_read(&self) -> Option<(At, At)> {
        self.newest_read
    }

    /// The longest time between two acknowledged commits since [`Oracle::count_from`].
    #[must_use]
    pub fn gap(&self, now: At) -> Duration {
        let from = self.counting_from.unwrap_or_default();
        let last = self.newest.map_or(from, |(_, told)| told.max(from));
        self.gap.max(now.since(last))
    }

    /// Gaps, elections and promotions are counted from here on.
    pub fn count_from(&mut self, now: At) {
        self.counting_from = Some(now);
        self.gap = Duration::ZERO;
        self.elections = 0;
        for service in &mut self.services {
            service.promotions = 0;
        }
    }

    pub(crate) fn client_acknowledged(&mut self, began: At, now: At) {
        let from = self.counting_from.unwrap_or_default();
        let last = self.newest.map_or(from, |(_, told)| told.max(from));
        self.gap = self.gap.max(now.since(last));
        if self.newest.is_none_or(|(known, _)| began >= known) {
            self.newest = Some((began, now));
        }
    }

    pub(crate) fn client_read(&mut self, began: At, now: At) {
        if self.newest_read.is_none_or(|(known, _)| began >= known) {
            self.newest_read = Some((began, now));
        }
    }

    pub(crate) fn voter_stopped(&mut self, _voter: u8, reason: &str) {
        if reason.contains("cannot be read by this version") {
            self.violate(&format!("I-27: {reason}"));
        }
    }

    pub(crate) fn operator_asks(&mut self, request: &Request, now: At) {
        let of = |service: &ServiceId| self.names.iter().position(|name| name == service);
        if let Request::Resume { service, .. } | Request::Failover { service, .. } = request
            && let Some(state) = of(service).and_then(|index| self.services.get_mut(index))
        {
            state.resumed_at = Some(now);
        }
        if let Request::Forgo { service, .. } = request
            && let Some(state) = of(service).and_then(|index| self.services.get_mut(index))
        {
            state.forgo_asked = true;
        }
        if let Request::AcceptLoss { service, kept, .. } = request
            && let Some(state) = of(service).and_then(|index| self.services.get_mut(index))
        {
            state.loss_asked = Some(kept.lsn);
        }
    }

    /// Something was done to a machine that bends what may be demanded of it.
    pub(crate) fn faulted(&mut self, host: u8, fault: &HostFault, machines: &[Machine], now: At) {
        let index = usize::from(host);
        let Some(state) = self.hosts.get_mut(index) else { return };
        state.disturbed = Some(now);
        if !machines[index].host.is_guarded() {
            state.unguarded = Some(now);
        }
        match fault {
            HostFault::EmptySetting => {
                state.overruled = true;
                self.emptied_setting(index, now);
            }
            HostFault::ClockRate(rate) => {
                self.lawful_clocks &= (950_000..=1_050_000).contains(rate);
            }
            // Its PostgreSQL may hang: its own agent says when.
            HostFault::Pause(_) | HostFault::SlowDisk(_) | HostFault::FillDisk => {
                state.strained = true;
            }
            HostFault::CrashAgent
            | HostFault::CrashGuard
            | HostFault::CrashPostgres
            | HostFault::StartAgent
            | HostFault::Resume(_)
            | HostFault::DiskFreed
            | HostFault::CancelWaits
            | HostFault::Impostor { .. }
            | HostFault::StallCheckpointer(_)
            | HostFault::LocalSession { .. }
            | HostFault::LongQuery(_)
            | HostFault::SlowReplay(_)
            | HostFault::LoseFlushed(_)
            | HostFault::ClockJump(_)
            | HostFault::Wipe => {}
        }
    }

    /// A disk is taken away: what it held it held.
    pub(crate) fn wiped(&mut self, host: u8, machines: &[Machine]) {
        let index = usize::from(host);
        let Some(state) = self.hosts.get_mut(index) else { return };
        *state = HostState { wiped: true, ..HostState::default() };
        for (number, commit) in (0_u64..).zip(&mut self.commits) {
            if commits::on_disk(&machines[index], number, commit.at) {
                commit.gone.insert(index);
            }
        }
    }

    pub(crate) fn reached(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.reached.iter().copied()
    }

    fn reach(&mut self, name: &'static str) {
        self.reached.push(name);
    }

    fn name(&self, host: usize) -> &str {
        self.instances.get(host).map_or("?", InstanceId::as_str)
    }
}
