//! Whether everything is as it should be.

use std::time::Duration;

use failover::drill::Drill;
use failover::ids::{InstanceId, Lsn, ServiceId};
use orchestrator::replica::{Clocks, Input, Output, Query, Reply};

use super::World;
use crate::hosts::Hosts;

/// A commit of a client is young for this long.
const YOUNG: Duration = Duration::from_secs(6);

impl World {
    /// Whether every service has one primary, its whole rule and its name, every process runs and
    /// clients write.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.lacks().is_none()
    }

    /// What is not as it should be; the first thing.
    #[must_use]
    pub fn lacks(&self) -> Option<String> {
        for (index, service) in self.services.iter().enumerate() {
            if let Some(text) = self.service_lacks(index) {
                return Some(format!("{service}: {text}"));
            }
        }
        let running = |index: &u8| {
            let process = self.voters[usize::from(*index)].process.as_ref();
            process.is_some_and(|process| !process.standing.stopped)
        };
        if let Some(place) = self.current.iter().position(|index| !running(index)) {
            return Some(format!("the voter at {} does not act", self.sites[place]));
        }
        let lacks = |index: &u8| {
            let process = self.voters[usize::from(*index)].process.as_ref();
            process.is_some_and(|process| process.replica.audit_hole().is_open())
        };
        if let Some(place) = self.current.iter().position(lacks) {
            return Some(format!("the voter at {} lacks audit records", self.sites[place]));
        }
        let young = self.oracle.newest_write().is_some_and(|(began, _)| {
            self.now.since(began) < YOUNG.max(self.options.workload.every * 3)
        });
        (!young).then(|| "no client's commit was acknowledged lately".to_owned())
    }

    fn service_lacks(&self, index: usize) -> Option<String> {
        let state = self.oracle.service(index)?;
        let Some(primary) = state.primary else { return Some("no primary".into()) };
        if let Some(step) = state.step {
            return Some(format!("a transition is at {}", step.name()));
        }
        if state.published != Some(state.epoch) {
            return Some("its name is not of its epoch".into());
        }
        let own = &self.machines[primary];
        if !own.host.is_writable() || !own.host.admits() {
            return Some(format!("{} does not serve", self.instances[primary]));
        }
        let wanted: Hosts = self
            .machines
            .iter()
            .enumerate()
            .filter(|(host, machine)| {
                usize::from(machine.service) == index
                    && *host != primary
                    && machine.place != own.place
            })
            .map(|(host, _)| host)
            .collect();
        if !state.rule.contain_all(wanted) || !state.settled {
            return Some(format!("its rule is {:?}, and should be {wanted:?}", state.rule));
        }
        if state.required == 0 {
            return Some("its record still says that commits may be on the primary alone".into());
        }
        if state.in_doubt.is_some() {
            return Some("commits are in doubt".into());
        }
        let service = &self.services[index];
        let stale = self.servers.iter().position(|server| {
            let served = server.served.as_ref().and_then(|zone| zone.epochs.get(service));
            served != state.published.as_ref()
        });
        stale.map(|server| format!("name server {server} answers something else"))
    }

    /// Whether every voter, every agent and what they say to each other is as it should be:
    /// whatever becomes of the rest, nothing keeps the law from knowing.
    pub(crate) fn is_calm(&self) -> bool {
        let voter = |index: &u8| {
            let voter = &self.voters[usize::from(*index)];
            let acts = voter.process.as_ref().is_some_and(|process| !process.standing.stopped);
            voter.powered && !voter.paused && acts && !voter.disk.full && voter.disk.slow.is_zero()
        };
        self.network.carries_control()
            && self.current.iter().all(voter)
            && self.machines.iter().all(|machine| machine.host.is_well())
    }

    /// The leader's own explanation of each service, for a run that is stuck. The run ends here.
    pub fn explain(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        let services = self.services.clone();
        for voter in &mut self.voters {
            let clocks: Clocks = voter.clocks(self.now);
            let Some(process) = voter.process.as_mut().filter(|p| p.standing.leads) else {
                continue;
            };
            for service in &services {
                let query = Query::Explain(service.clone());
                let outputs = process.replica.step(Input::Query { token: 0, query }, clocks);
                for output in outputs {
                    if let Output::Reply { reply: Reply::Found(value), .. } = output {
                        lines.push(format!("{} explains {value}", voter.name));
                    }
                }
            }
        }
        for (index, machine) in self.machines.iter().enumerate() {
            let (agent, postgres) = machine.host.ports();
            lines.push(format!(
                "{}: power {}, agent {agent:?}, PostgreSQL {postgres:?}, pledge {:?}, {}",
                self.instances[index],
                machine.on,
                machine.host.pledge(),
                machine.host.describe()
            ));
        }
        for voter in &self.voters {
            let process = voter.process.as_ref();
            lines.push(format!(
                "{}: {:?}, paused {}, {:?}",
                voter.name,
                process.map(|process| process.standing),
                voter.paused,
                process.and_then(|process| process.replica.stopped())
            ));
        }
        lines
    }
}

impl World {
    /// How many services there are.
    #[must_use]
    pub fn service_count(&self) -> usize {
        self.services.len()
    }

    /// Whether a service's primary holds no data.
    #[must_use]
    pub fn is_headless(&self, index: usize) -> bool {
        let primary = self.oracle.service(index).and_then(|state| state.primary);
        primary.is_some_and(|primary| {
            let machine = &self.machines[primary];
            machine.host.pledge().granted == failover::ids::Epoch(0)
        })
    }

    /// Between which positions commits of a service are in doubt, as an operator reads it.
    #[must_use]
    pub fn in_doubt(&self, index: usize) -> Option<(Lsn, Lsn)> {
        self.oracle.service(index)?.in_doubt
    }

    /// The newest drill, as whoever has applied most knows it.
    #[must_use]
    pub fn drill(&self) -> Option<&Drill> {
        let running = self.voters.iter().filter_map(|voter| voter.process.as_ref());
        let newest = running.map(|process| process.replica.cluster()).max_by_key(|it| it.revision);
        newest?.drills.values().next_back()
    }

    /// Where the voter that leads stands.
    #[must_use]
    pub fn leader_place(&self) -> Option<u8> {
        let leading = self.voters.iter().find(|voter| {
            voter.process.as_ref().is_some_and(|process| process.replica.is_leader())
        });
        leading.map(|voter| voter.place)
    }

    /// A service's name.
    #[must_use]
    pub fn service_name(&self, index: usize) -> Option<ServiceId> {
        self.services.get(index).cloned()
    }

    /// Whether an instance stands at a place.
    #[must_use]
    pub fn holds(&self, place: u8, instance: &InstanceId) -> bool {
        let mut services = self.topology.services.values();
        let declared = services.find_map(|spec| spec.instances.get(instance));
        declared.is_some_and(|declared| self.place_of(&declared.site) == Some(place))
    }

    /// One of a service's instances.
    #[must_use]
    pub fn instance_of(&self, service: usize, any: u64) -> Option<InstanceId> {
        let spec = self.topology.services.values().nth(service)?;
        let count = spec.instances.len() as u64;
        let index = usize::try_from(any % count.max(1)).unwrap_or(0);
        spec.instances.keys().nth(index).cloned()
    }

    /// Whether every instance is well, and holds what its primary holds but for a few of the newest
    /// records. One that has just ceased to be well may be about to leave the record: then the
    /// primary is the only copy that the record counts.
    #[must_use]
    pub fn all_caught_up(&self) -> bool {
        self.machines.iter().all(|machine| {
            if !machine.host.is_well() {
                return false;
            }
            let state = self.oracle.service(usize::from(machine.service));
            let primary = state.and_then(|state| state.primary);
            let primary = primary.and_then(|primary| self.machines[primary].host.log());
            let own = machine.host.log();
            own.zip(primary).is_some_and(|(own, primary)| own.end().0 + 4 >= primary.end().0)
        })
    }

    /// What was still to be done to the world is not done.
    pub fn forget_deeds(&mut self) {
        self.deeds.iter_mut().for_each(|deed| *deed = None);
    }
}
