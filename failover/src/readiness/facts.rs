//! Everything that is known when a service is looked at, and how old it is.

use super::finding::Findings;
use crate::checks::Checks;
use crate::decide::Case;
use crate::ids::{InstanceId, SiteId};
use crate::rehearse::Voters;
use crate::survey::{Software, Survey};
use crate::view::Surveyed;
use core::time::Duration;

/// What an agent looked at may be as old as three of its rounds and this.
const GRACE: Duration = Duration::from_mins(1);

const AGENT: &str = "see that its agent runs and reaches a voter: `baton status`";

/// One service as a decision sees it, and the voters.
pub(super) struct Facts<'a> {
    pub(super) case: Case<'a>,
    pub(super) voters: &'a Voters,
}

impl<'a> Facts<'a> {
    /// Every declared instance.
    pub(super) fn instances(&self) -> impl Iterator<Item = &'a InstanceId> + use<'a> {
        self.case.service.spec.instances.keys()
    }

    pub(super) fn is_primary(&self, id: &InstanceId) -> bool {
        self.case.service.primary.as_ref() == Some(id)
    }

    /// The site of the present primary.
    pub(super) fn home(&self) -> Option<&'a SiteId> {
        self.case.service.site_of(self.case.service.primary.as_ref()?)
    }

    /// The newest survey of an instance, however old.
    pub(super) fn surveyed(&self, id: &InstanceId) -> Option<&'a Surveyed> {
        self.case.view.surveys.get(id)
    }

    /// How old something is now that was `age` old when its survey was sent.
    pub(super) fn age(&self, surveyed: &Surveyed, age: Duration) -> Duration {
        self.case.now.since(surveyed.at).saturating_add(age)
    }

    /// Whether something of that age is still to be believed.
    pub(super) fn is_fresh(survey: &Survey, age: Duration) -> bool {
        age <= survey.every.saturating_mul(3).saturating_add(GRACE)
    }

    /// What was measured of an instance, if it is known and not stale; otherwise that is said. An
    /// instance that is not heard at all is named by the check that is about that.
    pub(super) fn checks(&self, id: &InstanceId, say: &mut Findings<'_>) -> Option<&'a Checks> {
        let report = self.case.report(id)?;
        let known = self.surveyed(id).and_then(|surveyed| {
            let age = Duration::from_millis(surveyed.survey.measured_ms?);
            Some((self.age(surveyed, age), &surveyed.survey))
        });
        match known {
            Some((age, survey)) if Self::is_fresh(survey, age) => Some(&report.checks),
            Some((age, _)) => {
                say.unknown(id, Some(age), "was not measured again", STALE);
                None
            }
            None => {
                say.unknown(id, None, "has not been measured yet", YET);
                None
            }
        }
    }

    /// What an instance's machine has beside PostgreSQL, if it is known and not stale; otherwise
    /// that is said.
    pub(super) fn software(&self, id: &InstanceId, say: &mut Findings<'_>) -> Option<&'a Software> {
        self.case.report(id)?;
        let known = self.surveyed(id).and_then(|surveyed| {
            let software = surveyed.survey.software.as_ref()?;
            Some((self.age(surveyed, software.age), &surveyed.survey, software))
        });
        match known {
            Some((age, survey, software)) if Self::is_fresh(survey, age) => Some(software),
            Some((age, ..)) => {
                say.unknown(id, Some(age), "was not looked at again", STALE);
                None
            }
            None => {
                say.unknown(id, None, "has not been looked at yet", YET);
                None
            }
        }
    }

    /// Says that an instance is not heard.
    pub(super) fn unheard(&self, id: &InstanceId, say: &mut Findings<'_>) {
        let age = self.case.view.reports.get(id).map(|heard| self.case.now.since(heard.at));
        say.unknown(id, age, "is not heard", AGENT);
    }
}

/// What was measured once and not again.
pub(super) const STALE: &str = "look at its agent's log: PostgreSQL does not answer; an agent of \
                                an earlier version than the voters is to be upgraded";
/// What was never measured.
pub(super) const YET: &str = "wait a minute; if it stays, look at its agent's log, and upgrade \
                              an agent of an earlier version than the voters";
