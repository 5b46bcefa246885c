//! What may happen next, and why. The only judge.

use crate::advance::advance;
use crate::cluster::{Cluster, Service};
use crate::doubt;
use crate::event::{Change, Seen, ServiceChange};
use crate::ids::{InstanceId, ServiceId};
use crate::report::{Report, Severity};
use crate::steady::steady;
use crate::time::Moment;
use crate::topology::Timing;
use crate::view::View;
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// One reason: what was looked at and what it says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Finding {
    /// The condition's name, stable: `primary-heard`, `seal-quorum`, `hold`.
    pub check: String,
    /// Whether it stands in the way.
    pub severity: Severity,
    /// Whom it is about.
    pub instance: Option<InstanceId>,
    /// What it says, with the numbers, and what would change it.
    pub text: String,
}

/// Makes a finding.
#[must_use]
pub fn finding(
    check: &str,
    severity: Severity,
    instance: Option<&InstanceId>,
    text: impl Into<String>,
) -> Finding {
    Finding { check: check.to_string(), severity, instance: instance.cloned(), text: text.into() }
}

/// What the law says of one service now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// The one change to propose, with its cause.
    pub change: Option<(Change, String)>,
    /// Why it is so; the first unmet condition first.
    pub findings: Vec<Finding>,
}

/// A verdict before it is stamped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Opinion {
    pub(crate) change: Option<(ServiceChange, String)>,
    pub(crate) findings: Vec<Finding>,
}

impl Opinion {
    pub(crate) fn propose(change: ServiceChange, cause: impl Into<String>) -> Self {
        Self { change: Some((change, cause.into())), findings: Vec::new() }
    }

    pub(crate) fn wait(findings: Vec<Finding>) -> Self {
        Self { change: None, findings }
    }
}

/// One service and all that is known of it.
pub(crate) struct Case<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) id: &'a ServiceId,
    pub(crate) service: &'a Service,
    pub(crate) view: &'a View,
    pub(crate) timing: &'a Timing,
    pub(crate) now: Moment,
}

impl<'a> Case<'a> {
    /// `None`: the service is not declared.
    pub(crate) fn of(
        cluster: &'a Cluster,
        id: &ServiceId,
        view: &'a View,
        now: Moment,
    ) -> Option<Self> {
        let (id, service) = cluster.services.get_key_value(id)?;
        let timing = &cluster.topology.timing;
        Some(Self { cluster, id, service, view, timing, now })
    }

    /// What an instance reports, if it was heard within `suspect_after`.
    pub(crate) fn report(&self, id: &InstanceId) -> Option<&'a Report> {
        self.view.fresh(id, self.timing.suspect_after, self.now)
    }

    /// What the primary reports, if it was heard.
    pub(crate) fn primary_report(&self) -> Option<&'a Report> {
        self.report(self.service.primary.as_ref()?)
    }
}

/// Judges every service. Leader only. Each change is stamped with the state it was judged in, so
/// proposing it twice, or late, has no effect.
#[must_use]
pub fn decide(cluster: &Cluster, view: &View, now: Moment) -> BTreeMap<ServiceId, Verdict> {
    let all = cluster.services.keys();
    all.filter_map(|id| Some((id.clone(), decide_one(cluster, id, view, now)?))).collect()
}

/// Judges one service, as [`decide`] does: nothing of the others has a part in it. `None`: it is
/// not declared.
#[must_use]
pub fn decide_one(cluster: &Cluster, id: &ServiceId, view: &View, now: Moment) -> Option<Verdict> {
    let case = Case::of(cluster, id, view, now)?;
    // What has happened already is recorded before anything else is judged by it.
    let opinion = doubt::record(&case).unwrap_or_else(|| match &case.service.transition {
        Some(transition) => advance(&case, transition),
        None => steady(&case),
    });
    Some(stamp(case.id, case.service, opinion))
}

fn stamp(id: &ServiceId, service: &Service, opinion: Opinion) -> Verdict {
    Verdict {
        change: opinion.change.map(|(change, cause)| (stamped(id, service, change), cause)),
        findings: opinion.findings,
    }
}

/// A change of a service, stamped with what it was judged in.
pub(crate) fn stamped(id: &ServiceId, service: &Service, change: ServiceChange) -> Change {
    Change::Service {
        service: id.clone(),
        seen: Seen {
            epoch: service.epoch,
            step: service.step(),
            generation: service.rule.generation,
        },
        change,
    }
}
