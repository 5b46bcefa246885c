//! The faults that are measured, and one run of each.

use std::time::Duration;

use anyhow::{Context, Result};
use clap::ValueEnum;
use failover::time::Moment;
use nix::sys::signal::Signal;
use serde::Serialize;

use super::answers::Status;
use super::cluster::Cluster;
use super::directory::GENEROUS;
use super::layout::{Kind, SITES};
use super::phases::Phases;
use super::probe::Probe;
use super::rejoin::rejoin;
use super::stop::Stop;

/// What is done to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Case {
    /// Every process of the primary's site is killed: its ports refuse.
    SiteKilled,
    /// The primary's site is cut off while everything in it lives, clients too: silence.
    SiteCut,
    /// The primary's postmaster is killed while its agent lives.
    PostmasterKilled,
    /// A planned change of primary.
    Switchover,
    /// The primary's agent is killed, and started again by its supervisor.
    AgentKilled,
}

impl Case {
    /// All of them, in the order in which they are run.
    pub const ALL: [Self; 5] = [
        Self::SiteKilled,
        Self::SiteCut,
        Self::PostmasterKilled,
        Self::Switchover,
        Self::AgentKilled,
    ];

    /// Its name, as on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SiteKilled => "site-killed",
            Self::SiteCut => "site-cut",
            Self::PostmasterKilled => "postmaster-killed",
            Self::Switchover => "switchover",
            Self::AgentKilled => "agent-killed",
        }
    }

    /// Whether the service must have moved elsewhere before writes go on.
    const fn moves(self) -> bool {
        match self {
            Self::SiteKilled | Self::SiteCut | Self::Switchover => true,
            Self::PostmasterKilled | Self::AgentKilled => false,
        }
    }

    /// How many writes must be acknowledged after the first one, before the run is judged: a
    /// killed agent needs longer, for nothing may happen at all, or a fence may come late.
    const fn aftermath(self) -> usize {
        match self {
            Self::AgentKilled => 500,
            Self::SiteKilled | Self::SiteCut | Self::PostmasterKilled | Self::Switchover => 100,
        }
    }
}

/// What one run showed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Run {
    /// From the last acknowledged write before the fault to the first one after it.
    pub gap_ms: f64,
    /// The parts of the change of primary, where there was one.
    pub phases: Option<Phases>,
    /// From the end of the fault to full redundancy.
    pub back_ms: Option<f64>,
    /// Whether the service moved to another instance.
    pub moved: bool,
    /// Writes acknowledged.
    pub acked: u64,
    /// Acknowledged, but missing.
    pub lost: u64,
    /// Written twice.
    pub duplicates: u64,
    /// Of unknown outcome.
    pub unknown: u64,
    /// Writes that clients inside the cut site sent during the cut and had acknowledged.
    pub acked_inside: Option<u64>,
}

/// Plays one run on a cluster that has everything.
///
/// # Errors
/// When the cluster does not get through it.
pub fn play(cluster: &Cluster, case: Case, number: usize, stop: &Stop) -> Result<Run> {
    let status = cluster.wait_redundant(GENEROUS, &mut |_| ())?;
    cluster.acknowledge(&status)?;
    let site = status.home().context("the service has a primary")?;
    let transition = cluster.next_transition()?;
    let mut probe = Probe::start(cluster, &format!("{}-{number}", case.name()))?;
    probe.wait_acked(stop, 150)?;
    let mut inside = match case {
        Case::SiteCut => Some(write_inside(cluster, &site, number, stop)?),
        Case::SiteKilled | Case::PostmasterKilled | Case::Switchover | Case::AgentKilled => None,
    };
    let before = probe.journal.server().map(str::to_owned);
    let began = fault(cluster, case, &site, &status)?;
    let avoid = before.as_deref().filter(|_| case.moves());
    probe.wait_first(stop, began, avoid, Duration::from_mins(1))?;
    probe.wait_acked(stop, case.aftermath())?;
    if let Some(inside) = &mut inside {
        inside.end()?;
    }
    let back_ms = heal(cluster, case, &site, stop)?;
    probe.end()?;
    let after = cluster.wait_redundant(GENEROUS, &mut |_| ())?;
    let gap = probe.journal.gap_after(began.0).context("nothing was acknowledged afterwards")?;
    let record = cluster.report(transition)?;
    let counted = probe.reconcile(cluster)?;
    let mut run = Run {
        gap_ms: gap.millis(),
        phases: record.as_ref().map(|record| Phases::of(record, began.0)),
        back_ms,
        moved: after.home().as_deref() != Some(site.as_str()),
        acked: counted.acked,
        lost: counted.lost,
        duplicates: counted.duplicates,
        unknown: counted.unknown,
        acked_inside: None,
    };
    if let Some(inside) = &mut inside {
        // Through the name now: what was acknowledged inside must be with the new primary.
        run.lost += inside.reconcile(cluster)?.lost;
        run.acked_inside = Some(inside.journal.acked_after(began.0));
    }
    Ok(run)
}

fn write_inside(cluster: &Cluster, site: &str, number: usize, stop: &Stop) -> Result<Probe> {
    let mut inside = Probe::start_inside(cluster, site, &format!("inside-{number}"))?;
    inside.wait_acked(stop, 20)?;
    Ok(inside)
}

fn fault(cluster: &Cluster, case: Case, site: &str, status: &Status) -> Result<Moment> {
    match case {
        Case::SiteKilled => Ok(cluster.kill_site(site).0),
        Case::SiteCut => {
            let began = wire::clock::now();
            cluster.network()?.cut(site)?;
            Ok(began)
        }
        Case::PostmasterKilled => cluster.kill_postmaster(site),
        Case::Switchover => Ok(cluster.switch_over(&other(status, site)?)?.1),
        Case::AgentKilled => cluster.signal(site, Kind::Agent, Signal::SIGKILL),
    }
}

/// The instance to switch over to: turn about, so that every direction is measured.
fn other(status: &Status, site: &str) -> Result<String> {
    let epoch = usize::try_from(status.service().map_or(0, |service| service.epoch.0))?;
    let others: Vec<_> = SITES.iter().filter(|found| found.name != site).collect();
    let chosen = others.get(epoch % 2).context("there are two other sites")?;
    Ok(chosen.instance())
}

fn heal(cluster: &Cluster, case: Case, site: &str, stop: &Stop) -> Result<Option<f64>> {
    let began = wire::clock::now();
    match case {
        Case::SiteKilled => cluster.start_site(site)?,
        Case::SiteCut => cluster.network()?.heal(site)?,
        Case::PostmasterKilled | Case::Switchover | Case::AgentKilled => return Ok(None),
    }
    Ok(Some(rejoin(cluster, site, began, stop, None)?.millis))
}
