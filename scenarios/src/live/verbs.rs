//! The verbs of the language, done to real processes.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use super::attacks;
use super::faults::{befall, heal, packets};
use super::operator;
use super::stage::Stage;
use crate::lab::cluster::control::Part;
use crate::lab::disk::Disk;
use crate::lab::layout::Kind;
use crate::lab::network::Fate;
use crate::script::verb::{Lose, Target};
use crate::script::{Process, Processes, Verb};

/// The parts that processes are: the ones that would start others again first.
pub(super) fn parts(processes: &Processes) -> Vec<Part> {
    let mut parts: Vec<Part> = processes.iter().map(|process| part(*process)).collect();
    parts.sort_by_key(|part| match part {
        Part::Site => 0,
        Part::Daemon(_) => 1,
        Part::Guard => 2,
        Part::Postgres => 3,
    });
    parts
}

const fn part(process: Process) -> Part {
    match process {
        Process::Voter => Part::Daemon(Kind::Voter),
        Process::Agent => Part::Daemon(Kind::Agent),
        Process::Guard => Part::Guard,
        Process::Postgres => Part::Postgres,
        Process::Dns => Part::Daemon(Kind::Names),
        Process::Site => Part::Site,
    }
}

/// Does one.
///
/// # Errors
/// When it cannot be done here.
pub(super) fn act(stage: &Stage<'_>, verb: &Verb) -> Result<()> {
    let cluster = &stage.cluster;
    match verb {
        Verb::Cut(link) | Verb::CutOneWay(link) => {
            let network = cluster.network()?;
            let from = stage.sites(&link.from, Some(&link.to))?;
            let to = stage.sites(&link.to, Some(&link.from))?;
            let packets = packets(network, &from, &to, &link.planes);
            befall(network, &packets, matches!(verb, Verb::Cut(_)), Fate::Dropped)
        }
        Verb::Heal(what) => {
            let other = |one: &Option<_>| one.clone();
            let sites = |one: &Option<crate::script::Places>, its: &Option<_>| {
                one.as_ref().map(|one| stage.sites(one, other(its).as_ref())).transpose()
            };
            let from = sites(&what.from, &what.to)?;
            let to = sites(&what.to, &what.from)?;
            heal(cluster.network()?, from.as_deref(), to.as_deref(), &what.planes)
        }
        Verb::Lose(what) => lose(stage, what),
        Verb::Delay(_) => bail!("delays need `tc netem`, which this kernel does not have"),
        Verb::Crash(target) => crash(stage, target),
        Verb::Start(target) => each(stage, target, |site, part| start(stage, site, part)),
        Verb::Restart(target) => {
            each(stage, target, |site, part| {
                cluster.kill_part(site, part);
                Ok(())
            })?;
            each(stage, target, |site, part| start(stage, site, part))
        }
        Verb::Destroy(target) => each(stage, target, |site, part| cluster.destroy_part(site, part)),
        Verb::Pause(target) => signal(stage, target, Signal::SIGSTOP),
        Verb::Resume(target) => signal(stage, target, Signal::SIGCONT),
        Verb::Skew(_) => bail!("the wall clock is the whole machine's: simulation only"),
        Verb::SlowDisk(what) => disks(
            stage,
            &Target { process: what.process.clone(), site: what.site.clone() },
            |disk| disk.slow(what.by),
        ),
        Verb::FillDisk(target) => {
            disks(stage, target, Disk::fill)?;
            attacks::grow_log(stage)
        }
        Verb::FreeDisk(target) => disks(stage, target, |disk| {
            disk.free();
            Ok(())
        }),
        Verb::Damage(what) => attacks::damage(stage, what),
        Verb::Cancel(what) => attacks::cancel(stage, what),
        Verb::EmptySetting(at) => attacks::empty_setting(stage, &at.site),
        Verb::Impostor(what) => attacks::impostor(stage, what),
        Verb::StallCheckpointer(what) => attacks::stall_checkpointer(stage, what),
        Verb::LocalSession(what) => attacks::local_session(stage, what),
        Verb::LongQuery(what) => attacks::long_query(stage, what),
        Verb::Storm(what) => attacks::storm(stage, what),
        Verb::Ask(ask) => operator::ask(stage, ask),
        // Watched beside, see `play`.
        Verb::Expect(_) | Verb::Always(_) => Ok(()),
    }
}

fn each(
    stage: &Stage<'_>,
    target: &Target,
    mut act: impl FnMut(&str, Part) -> Result<()>,
) -> Result<()> {
    for site in stage.sites(&target.site, None)? {
        for part in parts(&target.process) {
            let of_data = !matches!(part, Part::Daemon(Kind::Voter | Kind::Names) | Part::Site);
            if !of_data || stage.holds_data(&site) {
                act(&site, part)?;
            }
        }
    }
    Ok(())
}

/// Together: nobody among them acts on the death of another.
fn crash(stage: &Stage<'_>, target: &Target) -> Result<()> {
    let mut doomed = 0;
    each(stage, target, |_, _| {
        doomed += 1;
        Ok(())
    })?;
    if doomed > 1 {
        signal(stage, target, Signal::SIGSTOP)?;
    }
    each(stage, target, |site, part| {
        stage.cluster.kill_part(site, part);
        Ok(())
    })
}

fn start(stage: &Stage<'_>, site: &str, part: Part) -> Result<()> {
    let cluster = &stage.cluster;
    match part {
        Part::Site => cluster.start_site(site),
        Part::Daemon(kind) => cluster.start_daemon(site, kind),
        // The agent starts its guard, and the guard PostgreSQL: unless it is not there.
        Part::Guard => Ok(()),
        Part::Postgres if !cluster.part(site, Part::Daemon(Kind::Agent)).is_empty() => Ok(()),
        Part::Postgres => attacks::start_behind_the_back(stage, site),
    }
}

fn signal(stage: &Stage<'_>, target: &Target, signal: Signal) -> Result<()> {
    each(stage, target, |site, part| {
        stage.cluster.signal_part(site, part, signal);
        // Whoever was born between the look and the signal.
        if signal == Signal::SIGSTOP {
            stage.cluster.signal_part(site, part, signal);
        }
        Ok(())
    })
}

/// Loss, and what is caught by checksums like it. Doubling and reordering need `tc netem`.
fn lose(stage: &Stage<'_>, what: &Lose) -> Result<()> {
    if what.duplicate > 0 || what.reorder > 0 {
        stage
            .remark("doubled and reordered packets need `tc netem`: only the loss was real".into());
    }
    let network = stage.cluster.network()?;
    let from = stage.sites(&what.from, Some(&what.to))?;
    let to = stage.sites(&what.to, Some(&what.from))?;
    let packets = packets(network, &from, &to, &what.planes);
    let percent = what.percent.saturating_add(what.corrupt).min(100);
    befall(network, &packets, true, Fate::Lost(percent))
}

fn disks(stage: &Stage<'_>, target: &Target, act: impl Fn(&Disk) -> Result<()>) -> Result<()> {
    let mut found = 0_u32;
    for site in stage.sites(&target.site, None)? {
        for kind in disk_kinds(&target.process) {
            let folder = stage.cluster.layout.daemon(&site, kind).0;
            for disk in stage.cluster.disks.iter().filter(|disk| disk.holds(&folder)) {
                act(disk)?;
                found += 1;
            }
        }
    }
    (found > 0).then_some(()).context("no disk of its own was made for this")
}

/// Whose disks processes write to.
pub(super) fn disk_kinds(processes: &Processes) -> Vec<Kind> {
    let kinds = processes.iter().flat_map(|process| match process {
        Process::Voter => vec![Kind::Voter],
        Process::Agent | Process::Guard | Process::Postgres => vec![Kind::Agent],
        Process::Dns => vec![Kind::Names],
        Process::Site => vec![Kind::Voter, Kind::Agent],
    });
    kinds.collect()
}

/// The bound of a thing that is done at once.
pub(super) const SOON: Duration = Duration::from_secs(10);
