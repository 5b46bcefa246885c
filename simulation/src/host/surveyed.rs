//! What the model has nothing of and readiness looks at, told as if all of it were good.

use super::Host;
use super::agent::Agent;
use failover::InstanceId;
use failover::survey::{Login, Prepared, Purpose, Software, Survey};
use std::time::Duration;

/// Nothing expires while a world lasts.
pub const YEAR: i64 = 365 * 86_400;

impl Host {
    /// A survey in which all is well, where a scenario wants that.
    pub(super) fn well_surveyed(&self, agent: &Agent, survey: Box<Survey>) -> Box<Survey> {
        let Some(assignment) = agent.assignment.as_ref().filter(|_| self.setup.surveyed) else {
            return survey;
        };
        let others = assignment.peers.keys().filter(|other| **other != assignment.instance);
        let login = |to: &InstanceId, purpose| Login {
            to: to.clone(),
            purpose,
            failure: None,
            age: Duration::from_secs(1),
        };
        let logins = others
            .flat_map(|to| [login(to, Purpose::Replication), login(to, Purpose::Rewind)])
            .collect();
        let leads = agent.facts.as_ref().is_some_and(|facts| !facts.recovery);
        Box::new(Survey {
            certificate_seconds: Some(YEAR),
            logins,
            prepared: leads.then(Prepared::default),
            software: Some(Software::default()),
            replays: Some(100 << 20),
            ..*survey
        })
    }
}
