//! Could a site be lost now? The standing answer: for each site and service who would take over,
//! whether nothing acknowledged would be lost, how long it would take, and what stands in the way.
//!
//! What would be decided is not predicted here: it is rehearsed ([`crate::rehearse`]), by the law
//! itself on a copy of the state. Around it stand [`CHECKS`]: what a failover rests on and no
//! decision asks for, each a file of its own and a line in the table, a pure function from what is
//! known to findings. What is not known, or was known long ago, is never good: it has a level of
//! its own, and its age (I-37).
//!
//! A verdict is what the rehearsal says, worsened by the findings that concern it: those about the
//! instance that would be primary, those about the present primary where its site is the one lost,
//! those about that site, and those about the service.

mod before;
mod certificates;
mod checksums;
mod clocks;
mod collations;
mod disk;
mod dns;
mod durability;
mod extensions;
mod facts;
mod finding;
mod heard;
mod lineage;
mod logins;
mod parameters;
mod prepared;
mod quorum;
mod remedy;
mod replay;
mod rewind;
mod rto;
mod rule;
mod slots;
mod unlogged;
mod verdict;
mod versions;
mod watch;

use crate::cluster::Cluster;
use crate::decide::Case;
use crate::ids::{Epoch, InstanceId, ServiceId, SiteId};
use crate::rehearse::{Hypothesis, Voters, bare, rehearse};
use crate::time::Moment;
use crate::view::View;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use facts::Facts;
use finding::Findings;
use serde::{Deserialize, Serialize};

pub use before::{Before, FINDINGS, Known};
pub use finding::{Finding, Level};
pub use rto::{CONTRACT, GOAL, Rto};
pub use verdict::{Outcome, Rpo, SiteVerdict};
pub use watch::Watch;

/// One thing that is looked at.
#[derive(Clone, Copy)]
pub struct Check {
    /// Its name, stable.
    pub name: &'static str,
    /// What must hold, in one line.
    pub about: &'static str,
    look: fn(&Facts<'_>, &mut Findings<'_>),
}

/// The name of the check of name servers.
pub const DNS_CHECK: &str = dns::CHECK.name;

/// Everything that is looked at, in the order in which it is told.
pub const CHECKS: &[Check] = &[
    heard::CHECK,
    quorum::CHECK,
    rule::CHECK,
    durability::CHECK,
    unlogged::CHECK,
    prepared::CHECK,
    lineage::CHECK,
    versions::CHECK,
    logins::CHECK,
    rewind::CHECK,
    parameters::CHECK,
    slots::CHECK,
    disk::CHECK,
    replay::CHECK,
    checksums::CHECK,
    extensions::CHECK,
    collations::CHECK,
    certificates::CHECK,
    clocks::CHECK,
    dns::CHECK,
];

/// What one check found of one service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Looked {
    /// The check's name.
    pub check: String,
    /// What must hold.
    pub about: String,
    /// The worst that was found.
    pub level: Level,
    /// What was found; empty where all is well.
    pub findings: Vec<Finding>,
}

/// One service: its verdicts by site, and everything that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// Its name.
    pub service: ServiceId,
    /// Its epoch.
    pub epoch: Epoch,
    /// Its primary.
    pub primary: Option<InstanceId>,
    /// Could it lose each site, now?
    pub sites: Vec<SiteVerdict>,
    /// Every check of the table, in its order.
    pub checks: Vec<Looked>,
}

/// Runs every check for one service. Cheap: a leader does it all the time. Empty: not declared.
#[must_use]
pub fn look(
    cluster: &Cluster,
    id: &ServiceId,
    view: &View,
    voters: &Voters,
    now: Moment,
) -> Vec<Looked> {
    let Some(case) = Case::of(cluster, id, view, now) else { return Vec::new() };
    let facts = Facts { case, voters };
    CHECKS.iter().map(|check| one(check, &facts)).collect()
}

fn one(check: &Check, facts: &Facts<'_>) -> Looked {
    let mut findings = Findings::new(check.name, facts.case.id);
    (check.look)(facts, &mut findings);
    let findings = findings.done();
    let level = findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Good);
    Looked { check: check.name.to_string(), about: check.about.to_string(), level, findings }
}

/// What is asked about; an empty field is everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// The loss of this site only.
    pub site: Option<SiteId>,
    /// This service only.
    pub service: Option<ServiceId>,
}

/// The standing answer. Leader only: nobody else has the evidence.
#[must_use]
pub fn readiness(
    cluster: &Cluster,
    view: &View,
    voters: &Voters,
    scope: &Scope,
    now: Moment,
) -> Vec<Readiness> {
    let sites = |site: &&SiteId| scope.site.as_ref().is_none_or(|wanted| wanted == *site);
    let asked = |id: &ServiceId| scope.service.as_ref().is_none_or(|wanted| wanted == id);
    let services = cluster.services.iter().filter(|(id, _)| asked(id));
    services
        .map(|(id, service)| {
            // No service has a part in another's judgement: alone it is rehearsed sooner.
            let alone = bare(cluster, Some(id));
            let checks = look(cluster, id, view, voters, now);
            let ending = |site: &SiteId| {
                let lost = Hypothesis::LoseSite(site.clone());
                rehearse(&alone, view, voters, &lost, now).endings.remove(id)
            };
            let verdict = |site: &SiteId| {
                let facts = Facts { case: Case::of(cluster, id, view, now)?, voters };
                Some(verdict::verdict(&facts, site, &ending(site)?, &checks))
            };
            let all = cluster.topology.sites.keys().filter(sites);
            Readiness {
                service: id.clone(),
                epoch: service.epoch,
                primary: service.primary.clone(),
                sites: all.filter_map(verdict).collect(),
                checks,
            }
        })
        .collect()
}
