//! Parts of a cluster stopped, frozen, killed and taken away, one process or a whole site.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use failover::time::Moment;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use wire::clock;

use super::Cluster;
use crate::lab::daemon::Daemon;
use crate::lab::directory;
use crate::lab::layout::Kind;
use crate::lab::process::{self, Process};
use crate::lab::stop::settles;
use std::time::Duration;

/// A process at a site, or all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A daemon: the process alone, not its children.
    Daemon(Kind),
    /// The agent's guard.
    Guard,
    /// PostgreSQL: the postmaster and all of its processes.
    Postgres,
    /// Everything of the site.
    Site,
}

impl Cluster {
    /// Kills every process of a site at once; nothing of it is started again. Returns when, and
    /// how many there were.
    pub fn kill_site(&self, site: &str) -> (Moment, usize) {
        let mut daemons = self.daemons();
        daemons.iter_mut().filter(|daemon| daemon.recipe.site == site).for_each(Daemon::give_up);
        let doomed = self.processes(site);
        let at = clock::now();
        process::signal_all(&doomed, Signal::SIGKILL);
        // Whatever was being born meanwhile.
        self.mark.end(Some(site));
        drop(daemons);
        (at, doomed.len())
    }

    /// Starts the daemons of a site again.
    ///
    /// # Errors
    /// When one cannot be started.
    pub fn start_site(&self, site: &str) -> Result<()> {
        let mut daemons = self.daemons();
        for daemon in daemons.iter_mut().filter(|daemon| daemon.recipe.site == site) {
            daemon.tend();
            daemon.up()?;
        }
        Ok(())
    }

    /// Sends one daemon a signal, it alone; killed, it is started again by its supervisor.
    /// Returns when.
    ///
    /// # Errors
    /// When it does not run.
    pub fn signal(&self, site: &str, kind: Kind, signal: Signal) -> Result<Moment> {
        let daemons = self.daemons();
        let same = |daemon: &&Daemon| daemon.recipe.site == site && daemon.recipe.kind == kind;
        let at = clock::now();
        if !daemons.iter().find(same).is_some_and(|daemon| daemon.signal(signal)) {
            bail!("{} of {site} does not run", kind.program());
        }
        Ok(at)
    }

    /// Kills a site's postmaster, it alone. Returns when.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill_postmaster(&self, site: &str) -> Result<Moment> {
        let data = self.layout.data(site);
        let found = process::postmaster(&data);
        let postmaster = found.with_context(|| format!("no postmaster in {}", data.display()))?;
        let at = clock::now();
        kill(Pid::from_raw(postmaster.pid), Signal::SIGKILL)?;
        Ok(at)
    }

    /// The processes of a part of a site, as far as they run.
    pub fn part(&self, site: &str, part: Part) -> Vec<Process> {
        match part {
            Part::Daemon(kind) => {
                let daemons = self.daemons();
                let same = |d: &&Daemon| d.recipe.site == site && d.recipe.kind == kind;
                let pid = daemons.iter().find(same).and_then(Daemon::pid);
                pid.and_then(|pid| Process::read(pid.as_raw())).into_iter().collect()
            }
            Part::Guard => self.processes(site).into_iter().filter(is_guard).collect(),
            Part::Postgres => {
                let data = self.layout.data(site);
                let stands = |process: &Process| {
                    let found = std::fs::read_link(format!("/proc/{}/cwd", process.pid));
                    found.is_ok_and(|path| path.starts_with(&data))
                };
                // A postmaster that is starting has not moved to its data directory yet.
                let named = |process: &Process| process.name == "postgres";
                let all = self.processes(site).into_iter();
                all.filter(|process| stands(process) || named(process)).collect()
            }
            Part::Site => self.processes(site),
        }
    }

    /// Sends a signal to a part of a site. Returns how many got it.
    pub fn signal_part(&self, site: &str, part: Part, signal: Signal) -> usize {
        let found = self.part(site, part);
        process::signal_all(&found, signal);
        found.len()
    }

    /// Kills a part of a site; a daemon among it is not started again.
    pub fn kill_part(&self, site: &str, part: Part) {
        if part == Part::Site {
            self.kill_site(site);
            return;
        }
        if let Part::Daemon(kind) = part {
            let mut daemons = self.daemons();
            let same = |d: &&mut Daemon| d.recipe.site == site && d.recipe.kind == kind;
            daemons.iter_mut().filter(same).for_each(Daemon::give_up);
        }
        let doomed = self.part(site, part);
        process::signal_all(&doomed, Signal::SIGKILL);
        // Blocked in the kernel on a frozen disk they cannot die yet: that is for later.
        settles(Duration::from_secs(1), Duration::from_millis(5), || {
            process::reap_orphans();
            doomed.iter().all(|it| Process::read(it.pid).is_none_or(|now| now.zombie))
        });
    }

    /// Starts a daemon that is down, and again whenever it ends.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_daemon(&self, site: &str, kind: Kind) -> Result<()> {
        let mut daemons = self.daemons();
        let same = |d: &&mut Daemon| d.recipe.site == site && d.recipe.kind == kind;
        let found = daemons.iter_mut().find(same);
        let daemon = found.with_context(|| format!("{site} has no {}", kind.program()))?;
        daemon.tend();
        daemon.up()
    }

    /// Whether the site has a daemon of this kind.
    pub fn has(&self, site: &str, kind: Kind) -> bool {
        let daemons = self.daemons();
        daemons.iter().any(|d| d.recipe.site == site && d.recipe.kind == kind)
    }

    /// What a part of a site keeps on its disk.
    pub fn kept_by(&self, site: &str, part: Part) -> Vec<PathBuf> {
        let folder = |kind: Kind| self.layout.daemon(site, kind).0;
        match part {
            Part::Daemon(Kind::Voter) => vec![folder(Kind::Voter).join("data")],
            Part::Daemon(Kind::Names) => vec![folder(Kind::Names).join("data")],
            Part::Daemon(Kind::Agent) | Part::Guard => vec![self.layout.run(site)],
            Part::Postgres => vec![self.layout.data(site)],
            Part::Site => {
                let parts = [Kind::Voter, Kind::Names, Kind::Agent].map(Part::Daemon);
                let all = parts.into_iter().chain([Part::Postgres]);
                all.flat_map(|part| self.kept_by(site, part)).collect()
            }
        }
    }

    /// Kills a part of a site and takes what it kept away.
    ///
    /// # Errors
    /// When it does not die.
    pub fn destroy_part(&self, site: &str, part: Part) -> Result<()> {
        self.kill_part(site, part);
        // A machine with much to do takes its time to bury them.
        let gone = settles(Duration::from_secs(10), Duration::from_millis(20), || {
            process::reap_orphans();
            self.part(site, part).iter().all(|process| process.zombie)
        });
        if !gone {
            bail!("{part:?} of {site} does not die");
        }
        for path in self.kept_by(site, part) {
            directory::forget_memory(&path);
            let _ = std::fs::remove_dir_all(path);
        }
        Ok(())
    }
}

fn is_guard(process: &Process) -> bool {
    let line = std::fs::read(format!("/proc/{}/cmdline", process.pid)).unwrap_or_default();
    let mut words = line.split(|byte| *byte == 0);
    words.next().is_some_and(|program| program.ends_with(b"baton-agent"))
        && words.next() == Some(b"guard".as_slice())
}
