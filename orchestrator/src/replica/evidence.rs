//! Reports and observations: the view is updated at once, the answer may have to wait.

use std::time::Duration;

use failover::ids::{Epoch, InstanceId, ServiceId};
use failover::report::{Answer, Observation, Port, Report};
use failover::{Assignment, assignment, lease};

use super::leading::Due;
use super::{Output, Replica, Reply, Token};

/// The same instance is looked at on somebody's word at most this often.
const LOOK_EVERY: Duration = Duration::from_millis(200);

impl Replica {
    pub(super) fn hear_report(&mut self, token: Token, report: Report) {
        let reply = match self.take_report(token, report) {
            Ok(()) => return,
            Err(reply) => reply,
        };
        self.outputs.push(Output::Reply { token, reply });
    }

    fn take_report(&mut self, token: Token, report: Report) -> Result<(), Reply> {
        let now = self.clocks.now;
        let lead = self.lead.as_mut().ok_or(Reply::NoLeader)?;
        let instance = report.instance.clone();
        let declared = self
            .cluster
            .services
            .get(&report.service)
            .filter(|service| service.spec.instances.contains_key(&instance));
        let Some(service) = declared else {
            return Err(Reply::Unknown(format!(
                "instance `{instance}` of service `{}` is not declared: `baton apply` the topology",
                report.service
            )));
        };
        let owed = lead.view.owes_echo(&report, &self.cluster.topology.timing, now);
        let primary = service.primary.clone();
        let lost_stream = report.receiver.as_ref().filter(|receiver| !receiver.streaming);
        let broken = lost_stream.map(|receiver| receiver.upstream.clone());
        let busy = service.transition.is_some();
        let id = report.service.clone();
        // In the middle of a change every place counts; otherwise what is no news can wait for
        // the next tick.
        let surveyed = report.survey.is_some();
        if lead.view.hear(&self.cluster, report, now) || busy {
            self.due.add(Due::One(id));
        }
        if surveyed {
            lead.view.compare_clocks(self.clocks.wall, now);
        }
        if broken.is_some() && broken == primary {
            self.look(broken);
        }
        if primary.as_ref() == Some(&instance) && !owed {
            // The primary's answer may carry a lease, and must not before a quorum has spoken.
            if let Some(lead) = &mut self.lead {
                lead.waiting.push((token, instance));
            }
        } else {
            let reply = self.answer(&instance);
            self.outputs.push(Output::Reply { token, reply });
        }
        Ok(())
    }

    pub(super) fn hear_observation(&mut self, observation: Observation) {
        let now = self.clocks.now;
        let Some(lead) = &mut self.lead else { return };
        // Only news is worth everyone's look: an old refusal would have voters knock for ever.
        let suspect = match &observation {
            Observation::Knocked(knock) if knock.agent != Port::Open => {
                let before = lead.view.knocks.get(&(knock.target.clone(), knock.from.clone()));
                let known = before.is_some_and(|(_, before)| {
                    (before.agent, before.postgres) == (knock.agent, knock.postgres)
                });
                (!known).then(|| knock.target.clone())
            }
            Observation::Knocked(_)
            | Observation::Asked { .. }
            | Observation::Follows { .. }
            | Observation::Presented { .. }
            | Observation::Voter { .. } => None,
        };
        lead.view.observe(observation, now);
        lead.view.compare_clocks(self.clocks.wall, now);
        self.look(suspect);
    }

    /// Has every voter look at the primaries that are overdue: between reports nobody knocks.
    pub(super) fn look_at_the_overdue(&mut self) {
        let now = self.clocks.now;
        let Some(lead) = &self.lead else { return };
        let timing = &self.cluster.topology.timing;
        let overdue: Vec<InstanceId> = self
            .cluster
            .services
            .values()
            .filter_map(|service| service.primary.clone())
            .filter(|primary| lead.view.is_overdue(primary, timing, now))
            .collect();
        for primary in overdue {
            self.look(Some(primary));
        }
    }

    /// Has every voter look at an instance that somebody found unwell.
    fn look(&mut self, instance: Option<InstanceId>) {
        let now = self.clocks.now;
        let (Some(lead), Some(instance)) = (&mut self.lead, instance) else { return };
        if lead.looked.get(&instance).is_some_and(|at| now.since(*at) < LOOK_EVERY) {
            return;
        }
        lead.looked.insert(instance.clone(), now);
        self.outputs.push(Output::Look(instance));
    }

    fn answer(&self, instance: &InstanceId) -> Reply {
        match assignment(&self.cluster, instance) {
            Some(assignment) => {
                Reply::Report(Box::new(self.answer_with(instance, assignment, None)))
            }
            None => Reply::Unknown(format!("instance `{instance}` is not declared any more")),
        }
    }

    /// The answer to a report once a quorum has confirmed this leadership after it arrived.
    pub(super) fn answer_confirmed(&mut self, instance: &InstanceId) -> Reply {
        let Some(assignment) = assignment(&self.cluster, instance) else {
            return self.answer(instance);
        };
        let heard = self.lead.as_ref().and_then(|lead| lead.view.reports.get(instance));
        let lease = heard.and_then(|heard| lease::grant(&self.cluster, &heard.report));
        if lease.is_some() {
            self.note_lease(assignment.service.clone());
        }
        Reply::Report(Box::new(self.answer_with(instance, assignment, lease)))
    }

    fn answer_with(
        &self,
        instance: &InstanceId,
        assignment: Assignment,
        lease: Option<Epoch>,
    ) -> Answer {
        let view = self.lead.as_ref().map(|lead| &lead.view);
        let heard = view.and_then(|view| view.reports.get(instance));
        let newest = heard.map_or((0, 0), |heard| (heard.report.run, heard.report.sequence));
        Answer {
            assignment,
            lease,
            echo: view.map(|view| view.echo(self.clocks.now)),
            run: newest.0,
            sequence: newest.1,
            leader: None,
        }
    }

    fn note_lease(&mut self, service: ServiceId) {
        let now = self.clocks.now;
        if let Some(lead) = &mut self.lead {
            lead.leases.insert(service, now);
        }
    }
}
