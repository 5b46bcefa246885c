//! What would follow if a site were lost now: the same judgement, on a copy without that site.

use crate::cluster::{Cluster, Service};
use crate::decide::{Case, Finding, finding};
use crate::ids::{InstanceId, ServiceId, SiteId};
use crate::report::Severity;
use crate::steady;
use crate::time::Moment;
use crate::view::View;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// What the loss of a site would mean for a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Prospect {
    /// Its primary stands elsewhere and commits go on.
    GoesOn,
    /// It fails over.
    FailsOver,
    /// Commits wait until something returns, or a person acts.
    Waits,
}

/// The answer for one service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outlook {
    /// What it would mean.
    pub prospect: Prospect,
    /// Why.
    pub findings: Vec<Finding>,
}

/// What the loss of `site` would mean for every service.
#[must_use]
pub fn lose_site(
    cluster: &Cluster,
    view: &View,
    site: &SiteId,
    now: Moment,
) -> BTreeMap<ServiceId, Outlook> {
    let stands_in = |service: &Service, id: &InstanceId| service.site_of(id) == Some(site);
    let mut left = view.clone();
    for service in cluster.services.values() {
        left.reports.retain(|id, _| !stands_in(service, id));
    }
    cluster
        .services
        .iter()
        .map(|(id, service)| {
            let case =
                Case { cluster, id, service, view: &left, timing: &cluster.topology.timing, now };
            (id.clone(), outlook(&case, site))
        })
        .collect()
}

fn outlook(case: &Case<'_>, site: &SiteId) -> Outlook {
    let Some(primary) = &case.service.primary else {
        return Outlook { prospect: Prospect::Waits, findings: vec![] };
    };
    if case.service.site_of(primary) == Some(site) {
        let mut findings = steady::bars(case);
        findings.extend(steady::infeasible(case, true));
        let prospect = if findings.is_empty() { Prospect::FailsOver } else { Prospect::Waits };
        return Outlook { prospect, findings };
    }
    let rule = &case.service.rule;
    let left = rule
        .enforce
        .instances
        .iter()
        .filter(|id| case.service.site_of(id) != Some(site) && steady::can_seal(case, id))
        .count();
    if left >= rule.enforce.required as usize {
        return Outlook { prospect: Prospect::GoesOn, findings: vec![] };
    }
    let text = format!("{left} standbys would be left and {} are required", rule.enforce.required);
    Outlook {
        prospect: Prospect::Waits,
        findings: vec![finding("last-copy", Severity::Blocks, None, text)],
    }
}
