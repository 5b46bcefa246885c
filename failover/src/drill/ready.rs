//! Is everything as it must be for a drill? What readiness looks at, and nothing of its own (I-36).

use super::{Drill, Kind, Stage, Watched};
use crate::cluster::Cluster;
use crate::ids::{InstanceId, ServiceId, SiteId};
use crate::readiness::{DNS_CHECK, Finding, Level, Readiness, Scope, SiteVerdict, look, readiness};
use crate::rehearse::Voters;
use crate::time::Moment;
use crate::view::View;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

/// How many findings of a verdict are kept for ever: the worst come first.
const KEPT: usize = 20;
/// For so long something may be amiss while the former primary comes back as a standby.
const SETTLES_IN: Duration = Duration::from_secs(30);

/// What was looked at before a drill.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preconditions {
    /// Could each site be lost?
    pub verdicts: Vec<SiteVerdict>,
    /// What stands in its way.
    pub against: Vec<Finding>,
    /// What nobody knows, or not any more.
    pub unknown: Vec<Finding>,
}

/// Looks at everything that a drill rests on.
#[must_use]
pub fn preconditions(
    cluster: &Cluster,
    view: &View,
    voters: &Voters,
    (kind, service, target): (Kind, &ServiceId, Option<&InstanceId>),
    now: Moment,
) -> Preconditions {
    let scope = Scope { service: Some(service.clone()), site: None };
    let Some(known) = readiness(cluster, view, voters, &scope, now).pop() else {
        return Preconditions::default();
    };
    let (against, unknown) = match kind {
        Kind::Readiness => of_every_site(&known),
        Kind::Dns => of_name_servers(&known),
        Kind::Switchover | Kind::Isolate => of_one_move(cluster, &known, target),
        Kind::RestorePath => of_one_instance(&known, target),
    };
    let mut verdicts = known.sites;
    for verdict in &mut verdicts {
        verdict.findings.truncate(KEPT);
    }
    let few = |mut findings: Vec<Finding>| {
        findings.truncate(KEPT);
        findings
    };
    Preconditions { verdicts, against: few(against), unknown: few(unknown) }
}

/// What is not good about the loss of any site.
fn of_every_site(known: &Readiness) -> (Vec<Finding>, Vec<Finding>) {
    let (mut against, mut unknown) = (Vec::new(), Vec::new());
    for verdict in &known.sites {
        sort(verdict.level, &verdict.findings, (&mut against, &mut unknown));
    }
    (against, unknown)
}

/// What is not good about name servers.
fn of_name_servers(known: &Readiness) -> (Vec<Finding>, Vec<Finding>) {
    let (mut against, mut unknown) = (Vec::new(), Vec::new());
    for looked in known.checks.iter().filter(|looked| looked.check == DNS_CHECK) {
        sort(looked.level, &looked.findings, (&mut against, &mut unknown));
    }
    (against, unknown)
}

/// What is not good about one instance.
fn of_one_instance(known: &Readiness, target: Option<&InstanceId>) -> (Vec<Finding>, Vec<Finding>) {
    let (mut against, mut unknown) = (Vec::new(), Vec::new());
    let looked = known.checks.iter().flat_map(|looked| &looked.findings);
    let own =
        looked.filter(|finding| finding.instance.is_some() && finding.instance.as_ref() == target);
    let own: Vec<Finding> = own.cloned().collect();
    let worst = own.iter().map(|finding| finding.level).max().unwrap_or(Level::Good);
    sort(worst, &own, (&mut against, &mut unknown));
    (against, unknown)
}

/// What is not good about moving the primary: whatever concerns it, whoever takes over, their sites
/// or everyone; and whoever would take over if its site were really lost meanwhile.
fn of_one_move(
    cluster: &Cluster,
    known: &Readiness,
    target: Option<&InstanceId>,
) -> (Vec<Finding>, Vec<Finding>) {
    let service = cluster.services.get(&known.service);
    let site = |id: Option<&InstanceId>| -> Option<&SiteId> { service?.site_of(id?) };
    let sites = [site(known.primary.as_ref()), site(target)];
    let concerns = |finding: &&Finding| match (&finding.instance, &finding.site) {
        (Some(id), _) => Some(id) == target || Some(id) == known.primary.as_ref(),
        (None, Some(of)) => sites.contains(&Some(of)),
        (None, None) => true,
    };
    let home = known.sites.iter().filter(|verdict| Some(&verdict.site) == sites[0]);
    let told = home.clone().flat_map(|verdict| &verdict.findings);
    let looked = known.checks.iter().flat_map(|looked| &looked.findings);
    let looked = looked.filter(concerns);
    let findings: Vec<Finding> = told.chain(looked).cloned().collect();
    let worst = findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Good);
    // A leader that was just elected calls unknown what would else be in the way.
    let young = home.clone().any(|verdict| verdict.level == Level::Unknown);
    let (mut against, mut unknown) = (Vec::new(), Vec::new());
    let level = if young && worst == Level::Blocks { Level::Unknown } else { worst };
    sort(level, &findings, (&mut against, &mut unknown));
    (against, unknown)
}

/// Adds what is not good, each once.
fn sort(
    level: Level,
    findings: &[Finding],
    (against, unknown): (&mut Vec<Finding>, &mut Vec<Finding>),
) {
    for finding in findings.iter().filter(|finding| finding.level >= Level::Unknown) {
        let blocks = level == Level::Blocks && finding.level == Level::Blocks;
        let list = if blocks { &mut *against } else { &mut *unknown };
        if !list.contains(finding) {
            list.push(finding.clone());
        }
    }
}

/// Notes since when the open drill stands where it stands, and whether all is well meanwhile.
/// Called before every judgement of a drill.
pub fn watch(view: &mut View, cluster: &Cluster, voters: &Voters, now: Moment) {
    let Some(drill) = super::judge::open(cluster) else {
        view.drill = None;
        return;
    };
    let known =
        view.drill.take().filter(|seen| (seen.drill, seen.stage) == (drill.id, drill.stage));
    let trouble = trouble(drill, cluster, view, voters, now);
    let before = known.as_ref().and_then(|seen| seen.unready.as_ref().map(|(since, _)| *since));
    view.drill = Some(Watched {
        drill: drill.id,
        stage: drill.stage,
        since: known.map_or(now, |seen| seen.since),
        unready: trouble.map(|text| (before.unwrap_or(now), text)),
    });
}

/// What speaks against the service's staying where it is while it dwells.
fn trouble(
    drill: &Drill,
    cluster: &Cluster,
    view: &View,
    voters: &Voters,
    now: Moment,
) -> Option<String> {
    if drill.stage != Stage::Dwell {
        return None;
    }
    let primary = cluster.services.get(&drill.service)?.primary.as_ref();
    let looked = look(cluster, &drill.service, view, voters, now);
    let mut findings = looked.iter().flat_map(|looked| &looked.findings);
    let worst = findings.find(|finding| {
        let concerns = finding.instance.is_none() && finding.site.is_none();
        finding.level == Level::Blocks && (concerns || finding.instance.as_ref() == primary)
    })?;
    Some(format!("{}: {}", worst.check, worst.text))
}

impl View {
    /// Since when the open drill has been in its stage, as far as this leader saw it.
    pub(super) fn drilled(&self, drill: &Drill, now: Moment) -> Duration {
        let seen = self.drill.as_ref().filter(|seen| seen.stage == drill.stage);
        seen.map_or(Duration::ZERO, |seen| now.since(seen.since))
    }

    /// What has not been as it must be for long while a service dwells elsewhere.
    pub(super) fn drill_trouble(&self, drill: &Drill, now: Moment) -> Option<&str> {
        let (since, text) = self.drill.as_ref()?.unready.as_ref()?;
        // One that was cut off settles when that is over.
        let settles = drill.at_most.unwrap_or_default() + SETTLES_IN;
        (now.since(*since) >= settles).then_some(text.as_str())
    }
}
