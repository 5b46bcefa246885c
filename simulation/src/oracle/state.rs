//! The replicated state as the judge sees it: copied from whoever has applied the most.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use failover::cluster::{Cluster, Record, Service, Step, Trigger};
use failover::ids::{Epoch, InstanceId, Lsn, SystemIdentifier, Timeline, TransitionId};
use failover::topology::ServiceSpec;

use super::Oracle;
use super::doubts::{Doubtful, Recorded};
use crate::clock::At;
use crate::host::Process;
use crate::hosts::Hosts;
use crate::world::Machine;

/// One service.
#[derive(Clone, Debug)]
pub struct ServiceState {
    /// The writable name.
    pub writable: String,
    /// The epoch.
    pub epoch: Epoch,
    /// Who holds it, as a machine.
    pub primary: Option<usize>,
    /// N of the recorded rule.
    pub rule: Hosts,
    /// W of it.
    pub required: u32,
    /// Whether `PostgreSQL` is told to wait for the same instances as are recorded.
    pub settled: bool,
    /// The step of the open transition.
    pub step: Option<Step>,
    /// The published epoch.
    pub published: Option<Epoch>,
    /// Between which positions commits are in doubt.
    pub in_doubt: Option<(Lsn, Lsn)>,
    /// The holder of each epoch.
    pub grants: BTreeMap<Epoch, usize>,
    /// The epoch of each promotion's timeline.
    pub(super) timelines: BTreeMap<Timeline, Epoch>,
    /// Epochs whose marker is durable.
    pub proven: BTreeSet<Epoch>,
    /// The newest epoch in which clients were admitted to a writable instance, and when first.
    pub admitted: Option<(Epoch, At)>,
    /// Where those stood who had sealed the epoch before, when the present one was chosen.
    pub examined: Vec<(usize, Lsn)>,
    /// Promotions so far.
    pub promotions: u32,
    /// Commits that no later primary may lack.
    pub must: Vec<u64>,
    pub(crate) unacknowledged: bool,
    pub(crate) auto_at: Option<At>,
    pub(crate) resumed_at: Option<At>,
    /// When its step last changed.
    pub(super) stepped: Option<At>,
    /// A person asked automation to pause.
    held: bool,
    /// A person gave commits in doubt up.
    pub(super) forgo_asked: bool,
    /// A person gave up what is behind this.
    pub(super) loss_asked: Option<Lsn>,
    /// The number of the open transition.
    transition: Option<TransitionId>,
    /// Commits that returned without their standbys.
    pub(super) doubtful: Vec<Doubtful>,
    /// The doubts that the log has.
    pub(super) recorded: Vec<Recorded>,
    /// Those that the chosen primary must have.
    pub(super) barring: Vec<(u64, Lsn)>,
    /// The cluster that its first primary was of.
    pub(super) system: Option<SystemIdentifier>,
}

impl ServiceState {
    pub(super) fn new(spec: &ServiceSpec) -> Self {
        Self {
            writable: spec.writable.clone(),
            epoch: Epoch(0),
            primary: None,
            rule: Hosts::default(),
            required: 0,
            settled: false,
            step: None,
            published: None,
            in_doubt: None,
            grants: BTreeMap::new(),
            timelines: BTreeMap::new(),
            proven: BTreeSet::new(),
            admitted: None,
            examined: Vec::new(),
            promotions: 0,
            must: Vec::new(),
            unacknowledged: false,
            auto_at: None,
            resumed_at: None,
            stepped: None,
            held: false,
            forgo_asked: false,
            loss_asked: None,
            transition: None,
            doubtful: Vec::new(),
            recorded: Vec::new(),
            barring: Vec::new(),
            system: None,
        }
    }
}

impl ServiceState {
    /// Whoever leads the voters from here on knows nothing of it.
    pub(super) fn forget(&mut self) {
        self.epoch = Epoch(0);
        self.primary = None;
        self.rule = Hosts::default();
        self.required = 0;
        self.settled = false;
        self.step = None;
        self.published = None;
        self.examined.clear();
        self.unacknowledged = false;
        self.held = false;
        self.transition = None;
        self.doubtful.clear();
        self.recorded.clear();
        self.barring.clear();
    }
}

impl Oracle {
    /// A voter has applied entries up to `index`. What is new is put into words.
    pub(crate) fn applied(
        &mut self,
        index: u64,
        cluster: &Cluster,
        machines: &[Machine],
        now: At,
    ) -> Vec<String> {
        self.reached.clear();
        let known = *self.revisions.entry(index).or_insert(cluster.revision.0);
        if known != cluster.revision.0 {
            let newest = cluster.history.back().map(|entry| entry.text.as_str());
            let text = format!(
                "I-19: entry {index} makes revision {known} at one voter and {} at another ({})",
                cluster.revision,
                newest.unwrap_or_default()
            );
            self.violate(&text);
        }
        if index <= self.index {
            return Vec::new();
        }
        self.index = index;
        for position in 0..self.services.len() {
            let Some(service) = cluster.services.get(&self.names[position]) else { continue };
            let record = service.transition.as_ref().map(|transition| transition.id);
            let record = record.and_then(|id| cluster.transitions.get(&id));
            let examined = record.map(|record| self.examined(record)).unwrap_or_default();
            if let Err(text) = self.follow(position, (service, examined), machines, now) {
                self.violate(&text);
            }
        }
        self.tell(cluster)
    }

    fn tell(&mut self, cluster: &Cluster) -> Vec<String> {
        let known = self.told;
        let news = cluster.history.iter().rev().take_while(|entry| entry.revision.0 > known);
        let mut lines: Vec<String> = news
            .map(|entry| match &entry.service {
                Some(service) => format!("{service}: {}", entry.text),
                None => entry.text.clone(),
            })
            .collect();
        lines.reverse();
        self.told = cluster.revision.0;
        lines
    }

    /// Those that the decision says it examined, and where they stood.
    fn examined(&self, record: &Record) -> Vec<(usize, Lsn)> {
        let each = record.examined.iter();
        each.filter_map(|one| Some((self.index_of(&one.instance)?, one.position.as_ref()?.lsn)))
            .collect()
    }

    fn index_of(&self, instance: &InstanceId) -> Option<usize> {
        self.instances.iter().position(|other| other == instance)
    }

    fn follow(
        &mut self,
        position: usize,
        (service, examined): (&Service, Vec<(usize, Lsn)>),
        machines: &[Machine],
        now: At,
    ) -> Result<(), String> {
        let primary = service.primary.as_ref().and_then(|id| self.index_of(id));
        let rule = service.rule.instances.iter().filter_map(|id| self.index_of(id));
        let rule: Hosts = rule.collect();
        let before = self.services[position].clone_small();
        if service.epoch != before.epoch {
            let given_up = self.given_up(position, (service, primary), machines)?;
            self.epoch_moved(position, (service.epoch, primary, given_up), &examined, machines)?;
            self.services[position].examined = examined;
            self.doubts_bar(position, primary.unwrap_or(usize::MAX), service);
        } else if primary != before.primary {
            return Err(format!("I-04: epoch {} has two primaries", service.epoch));
        }
        self.doubts_follow(position, (service, primary), machines, now)?;
        self.steps_forward(position, service)?;
        self.auto_failovers(position, service, machines, now)?;
        self.name_moved(position, service)?;
        let step = service.step();
        if step != before.step {
            self.services[position].stepped = Some(now);
            self.reach(step.map_or("step: done", step_name));
        }
        if rule != before.rule {
            self.reach("rule: recorded");
        }
        let state = &mut self.services[position];
        state.epoch = service.epoch;
        state.primary = primary;
        state.rule = rule;
        state.required = service.rule.required;
        state.settled = service.rule.instances == service.rule.enforce.instances;
        state.step = step;
        state.held = service.hold.is_some();
        state.transition = service.transition.as_ref().map(|transition| transition.id);
        state.in_doubt = service.in_doubt().map(|(from, to, _)| (from, to));
        // The record covers what is enforced now, whichever of them has moved (I-07).
        let moved = rule != before.rule || service.rule.required != before.required;
        if let Some(host) = primary.filter(|_| moved)
            && let Some(setting) = machines.get(host).and_then(|machine| machine.host.goes_by())
            && !setting.empty
        {
            self.setting(host, Process::Postmaster, setting);
        }
        Ok(())
    }

    fn epoch_moved(
        &mut self,
        position: usize,
        (epoch, primary, given_up): (Epoch, Option<usize>, bool),
        examined: &[(usize, Lsn)],
        machines: &[Machine],
    ) -> Result<(), String> {
        let state = &self.services[position];
        if epoch != state.epoch.next() {
            return Err(format!("I-04: from epoch {} to epoch {epoch}", state.epoch));
        }
        let Some(chosen) = primary else {
            return Err(format!("I-04: epoch {epoch} has no primary"));
        };
        let old = state.epoch;
        let sealed: Vec<(usize, Lsn)> = (0..self.hosts.len())
            .filter(|host| state.rule.contains(*host))
            .filter(|host| machines[*host].host.pledge().sealed >= old)
            .filter_map(|host| {
                let (epoch, at) = self.hosts[host].sealed_at?;
                (epoch == old).then_some((host, at))
            })
            .collect();
        let size = state.rule.count();
        let required = state.required;
        let returned = state.primary == Some(chosen);
        let needed = size.saturating_sub(required) + 1;
        let count = u32::try_from(sealed.len()).unwrap_or(u32::MAX);
        if old.0 > 0 && !returned && !given_up && (required == 0 || count < needed) {
            return Err(format!(
                "I-06: epoch {epoch} was granted with {count} of {size} sealed, {needed} needed"
            ));
        }
        // What was compared stood still: the former primary's own word is its clean stop.
        let moving = examined.iter().find(|(host, at)| {
            let sealed = self.hosts[*host].sealed_at;
            let end = machines[*host].host.log().map(crate::host::Log::end);
            let moved = end.is_some_and(|end| end > *at);
            state.primary != Some(*host) && (sealed != Some((old, *at)) || moved)
        });
        if let Some((host, at)) = moving.filter(|_| old.0 > 0) {
            return Err(format!(
                "I-06: epoch {epoch} was granted by {} at {at}, which did not stand there sealed \
                     from {old}",
                self.name(*host)
            ));
        }
        if returned {
            self.reach("return to the former primary");
        }
        let state = &mut self.services[position];
        state.grants.insert(epoch, chosen);
        Ok(())
    }

    /// I-20, I-21: a transition goes forward, one step after the other, or ends; the next begins
    /// when it has ended, or when the primary that it chose is lost.
    fn steps_forward(&self, position: usize, service: &Service) -> Result<(), String> {
        let before = &self.services[position];
        let open = service.transition.as_ref();
        let Some(known) = before.transition else { return Ok(()) };
        match open {
            Some(open) if open.id == known => {
                let back = before.step.is_some_and(|step| open.step < step);
                let jumped =
                    before.step.is_some_and(|step| open.step > Step::Seal && step < Step::Seal);
                if back || jumped {
                    let from = before.step.map_or("nothing", Step::name);
                    return Err(format!(
                        "I-20: a transition went from {from} to {}",
                        open.step.name()
                    ));
                }
                Ok(())
            }
            Some(open) if open.id < known => {
                Err(format!("I-20: transition {} came after {known}", open.id))
            }
            Some(_) => Ok(()),
            None => match before.step {
                Some(step @ (Step::Promote | Step::Prove | Step::Redirect)) => {
                    Err(format!("I-20: a transition ended at {}", step.name()))
                }
                Some(Step::Quiesce | Step::CatchUp | Step::Seal | Step::Verify) | None => Ok(()),
            },
        }
    }

    /// I-26: a primary that serves, and of which nothing keeps the law from knowing, is not lost.
    fn was_well(&self, position: usize, machines: &[Machine], now: At) -> bool {
        let primary = self.services[position].primary.and_then(|host| machines.get(host));
        primary.is_some_and(|primary| primary.host.is_writable() && primary.host.admits())
            && self.is_calm_since(now)
    }

    /// I-25.
    fn auto_failovers(
        &mut self,
        position: usize,
        service: &Service,
        machines: &[Machine],
        now: At,
    ) -> Result<(), String> {
        let window = self.window;
        let (held, well) = (self.services[position].held, self.was_well(position, machines, now));
        let trigger = service.transition.as_ref().map(|transition| transition.trigger);
        let state = &mut self.services[position];
        let began = state.step.is_none() && service.step().is_some();
        let barred = state.unacknowledged
            && state.auto_at.is_some_and(|at| {
                now.since(at) < window.mul_f64(0.8)
                    && state.resumed_at.is_none_or(|resumed| resumed < at)
            });
        if service.unacknowledged.is_some() && !state.unacknowledged {
            state.auto_at = Some(now);
        }
        state.unacknowledged = service.unacknowledged.is_some();
        if !began {
            return Ok(());
        }
        self.reach(match trigger {
            Some(Trigger::Bootstrap) => "began: bootstrap",
            Some(Trigger::PrimaryLost) => "began: primary lost",
            Some(Trigger::Switchover) => "began: switchover",
            Some(Trigger::Failover) => "began: failover asked for",
            None => "began: nothing",
        });
        if trigger == Some(Trigger::PrimaryLost) && barred && window > Duration::ZERO {
            return Err("I-25: a second automatic failover within the window".into());
        }
        if trigger == Some(Trigger::PrimaryLost) && held {
            return Err("I-25: an automatic failover although a person said to wait".into());
        }
        if trigger == Some(Trigger::PrimaryLost) && well {
            return Err("I-26: a primary that serves was taken for lost".into());
        }
        match trigger {
            Some(Trigger::PrimaryLost) => self.lost_rightly(position, machines, now),
            Some(Trigger::Bootstrap) => self.begins_empty(position, machines),
            Some(Trigger::Switchover | Trigger::Failover) | None => Ok(()),
        }
    }

    fn name_moved(&mut self, position: usize, service: &Service) -> Result<(), String> {
        let published = service.published.as_ref().map(|published| published.epoch);
        let state = &mut self.services[position];
        if published == state.published {
            return Ok(());
        }
        let Some(epoch) = published else {
            return Err("I-29: the writable name points at nobody any more".into());
        };
        if state.published.is_some_and(|before| before > epoch) {
            return Err(format!("I-29: the name went back to epoch {epoch}"));
        }
        if !state.proven.contains(&epoch) {
            return Err(format!("I-30: the name moved to epoch {epoch} before its marker"));
        }
        state.published = published;
        Ok(())
    }
}

/// The few fields that are compared.
struct Small {
    epoch: Epoch,
    primary: Option<usize>,
    rule: Hosts,
    required: u32,
    step: Option<Step>,
}

impl ServiceState {
    const fn clone_small(&self) -> Small {
        Small {
            epoch: self.epoch,
            primary: self.primary,
            rule: self.rule,
            required: self.required,
            step: self.step,
        }
    }
}

const fn step_name(step: Step) -> &'static str {
    match step {
        Step::Quiesce => "step: quiesce",
        Step::CatchUp => "step: catch-up",
        Step::Seal => "step: seal",
        Step::Promote => "step: promote",
        Step::Prove => "step: prove",
        Step::Redirect => "step: redirect",
        Step::Verify => "step: verify",
    }
}
