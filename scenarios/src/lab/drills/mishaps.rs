//! What may happen in the middle of a drill: it is given up, its leader dies, its primary dies.

use std::time::Duration;

use anyhow::{Context, Result};
use failover::drill::{Drill, Kind, Outcome, Stage};
use failover::ids::DrillId;
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use super::{Told, bundle, show, wait_ready};
use crate::lab::cluster::Cluster;
use crate::lab::directory::GENEROUS;
use crate::lab::layout::{Kind as Daemon, SERVICE};
use crate::lab::screen::{Screen, Tone};
use crate::lab::stop::Stop;

/// What happens while the service runs elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mishap {
    /// An operator gives it up.
    GivenUp,
    /// The orchestrator that leads is killed.
    LeaderKilled,
    /// The PostgreSQL that is the primary there is killed.
    PrimaryKilled,
}

/// What became of the drill.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ended {
    mishap: Mishap,
    outcome: Outcome,
    primary: String,
    as_it_should: bool,
    bundle_stands: bool,
    changed_byte_refused: bool,
}

impl Ended {
    /// What happened and what became of it.
    pub fn words(&self) -> String {
        let told = self.outcome.told();
        let told =
            self.outcome.reason().map_or_else(|| told.into(), |why| format!("{told} ({why})"));
        format!("{}: the drill {told}, the primary is at {}", self.mishap.words(), self.primary)
    }

    /// Whether all of it is as it should be.
    pub fn is_fine(&self) -> bool {
        self.as_it_should && self.bundle_stands && self.changed_byte_refused
    }
}

#[derive(Debug, Deserialize)]
struct Accepted {
    drill: DrillId,
}

/// In this order: after the last the primary is elsewhere.
pub const MISHAPS: [Mishap; 3] = [Mishap::GivenUp, Mishap::LeaderKilled, Mishap::PrimaryKilled];
/// Longer than a mishap and what follows take, shorter than anybody waits.
const DWELL: &str = "20s";
const LOOK: Duration = Duration::from_millis(200);

/// A drill of a change of primary, and its mishap.
///
/// # Errors
/// When a part of it does not come about at all.
pub fn meet(
    cluster: &Cluster,
    mishap: Mishap,
    stop: &Stop,
    (folder, screen): (&std::path::Path, Screen),
) -> Result<Ended> {
    screen.heading(&format!("Drill: switchover, {}", mishap.words()));
    wait_ready(cluster, Kind::Switchover, stop, screen)?;
    let home = cluster.status()?.home().context("the service has a primary")?;
    let words = ["drill", "run", "switchover", SERVICE, "--dwell", DWELL, "--no-wait"];
    let more = ["--in-protected-hours", "--reason", "the lab shows what may go wrong"];
    let words: Vec<&str> = words.into_iter().chain(more).collect();
    let Accepted { drill } = cluster.ask(&words)?;
    let id = drill.to_string();
    let told = || cluster.ask::<Told>(&["drill", "report", &id]).ok().map(|told| told.drill);
    stop.until("the dwell", GENEROUS, LOOK, || {
        Ok(told().filter(|drill| drill.stage >= Stage::Dwell || !drill.is_open()))
    })?;
    if mishap == Mishap::PrimaryKilled {
        // Before the former primary is back a failover would leave a single copy, which the
        // service forbids: what is killed then is started again where it is, and the drill goes on.
        cluster.wait_redundant(GENEROUS, &mut |missing| screen.progress(missing))?;
    }
    let away = cluster.status()?.home().context("the service has a primary")?;
    happens(cluster, mishap, &id, &away)?;
    screen.line(&screen.paint(Tone::Bad, &format!("  {} while {away} leads", mishap.words())));
    let over: Drill = stop
        .until("the drill's end", GENEROUS, LOOK, || Ok(told().filter(|drill| !drill.is_open())))?;
    show(cluster, over.id, screen)?;
    let status = cluster.wait_redundant(GENEROUS, &mut |missing| screen.progress(missing))?;
    let primary = status.home().context("the service has a primary")?;
    let as_it_should = match (mishap, &over.outcome) {
        (Mishap::GivenUp, Outcome::Aborted(_)) | (Mishap::LeaderKilled, Outcome::Passed) => {
            primary == home
        }
        (Mishap::PrimaryKilled, Outcome::Overtaken(_)) => primary != away,
        (Mishap::GivenUp | Mishap::LeaderKilled | Mishap::PrimaryKilled, _) => false,
    };
    let name = format!("drill-{}.json", mishap.words().replace(' ', "-"));
    let (bundle_stands, changed_byte_refused) = bundle(cluster, over.id, (folder, &name), screen)?;
    let outcome = over.outcome;
    Ok(Ended { mishap, outcome, primary, as_it_should, bundle_stands, changed_byte_refused })
}

fn happens(cluster: &Cluster, mishap: Mishap, id: &str, away: &str) -> Result<()> {
    match mishap {
        Mishap::GivenUp => {
            let words = ["drill", "abort", id, "--reason", "the lab has seen enough"];
            cluster.must(&words, Duration::from_secs(40))?;
        }
        Mishap::LeaderKilled => {
            let leader = cluster.status()?.leader.context("the voters have a leader")?;
            cluster.signal(&leader.name, Daemon::Voter, Signal::SIGKILL)?;
        }
        Mishap::PrimaryKilled => {
            cluster.kill_postmaster(away)?;
        }
    }
    Ok(())
}

impl Mishap {
    /// What happens, in words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::GivenUp => "given up",
            Self::LeaderKilled => "leader killed",
            Self::PrimaryKilled => "primary killed",
        }
    }
}
