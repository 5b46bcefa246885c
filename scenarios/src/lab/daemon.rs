//! One daemon under supervision: kept running as a service manager would (started again 100 ms
//! after it ended), unless it was told to stay down.

use std::fs::{File, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use failover::time::Moment;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use wire::clock;

use super::directory::Account;
use super::layout::Kind;
use super::network;
use super::process::{self, MARK};

/// The pause before a daemon that ended is started again: `RestartSec=100ms`.
const RESTART: Duration = Duration::from_millis(100);

/// How a daemon is started.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// Its site.
    pub site: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Its program.
    pub program: PathBuf,
    /// Its folder; it starts there.
    pub folder: PathBuf,
    /// Its configuration.
    pub config: PathBuf,
    /// Where its output goes.
    pub log: PathBuf,
    /// The value of [`MARK`].
    pub mark: String,
    /// Whom it runs as.
    pub account: Account,
    /// The network namespace it lives in.
    pub namespace: Option<String>,
}

impl Recipe {
    fn start(&self) -> Result<Child> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log);
        let log: File = log.with_context(|| format!("cannot write {}", self.log.display()))?;
        let mut command = Command::new(&self.program);
        command
            .arg("--config")
            .arg(&self.config)
            .current_dir(&self.folder)
            .env(MARK, &self.mark)
            .env_remove("NOTIFY_SOCKET")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0);
        if let Some((uid, gid)) = self.account.drop_to {
            command.uid(uid).gid(gid).env("HOME", &self.folder).env("USER", &self.account.name);
        }
        let started = match &self.namespace {
            Some(namespace) => network::within(namespace, || process::spawn(&mut command))?,
            None => process::spawn(&mut command),
        };
        started.with_context(|| format!("cannot start {}", self.program.display()))
    }
}

/// A daemon.
#[derive(Debug)]
pub struct Daemon {
    /// How it is started.
    pub recipe: Recipe,
    child: Option<Child>,
    wanted: bool,
    again_at: Option<Moment>,
}

impl Daemon {
    /// One that is not started yet.
    pub const fn new(recipe: Recipe) -> Self {
        Self { recipe, child: None, wanted: false, again_at: None }
    }

    /// Its process, while it runs.
    pub fn pid(&self) -> Option<Pid> {
        self.child.as_ref().map(process::pid_of)
    }

    /// Starts it, and again whenever it ends.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn up(&mut self) -> Result<()> {
        self.wanted = true;
        if self.child.is_none() {
            self.again_at = None;
            self.child = Some(self.recipe.start()?);
        }
        Ok(())
    }

    /// From now on it stays down once it has ended; nothing is sent to it.
    pub const fn give_up(&mut self) {
        self.wanted = false;
        self.again_at = None;
    }

    /// Sends it a signal; it alone, not its children. `false`: it does not run.
    pub fn signal(&self, signal: Signal) -> bool {
        self.pid().is_some_and(|pid| kill(pid, signal).is_ok())
    }

    /// Looks after it; call often. Returns what there is to say: that it ended unbidden.
    pub fn tend(&mut self) -> Option<String> {
        let mut said = None;
        if let Some(child) = &mut self.child
            && let Ok(Some(status)) = child.try_wait()
        {
            process::waited(process::pid_of(child));
            self.child = None;
            if self.wanted {
                self.again_at = Some(clock::now().after(RESTART));
                let (program, site) = (self.recipe.kind.program(), self.recipe.site);
                said = Some(format!("{program} of {site} ended ({status}); started again"));
            }
        }
        if self.wanted && self.again_at.is_some_and(|at| clock::now() >= at) {
            self.again_at = None;
            match self.recipe.start() {
                Ok(child) => self.child = Some(child),
                Err(error) => {
                    self.again_at = Some(clock::now().after(RESTART * 10));
                    said = Some(format!("{error:#}"));
                }
            }
        }
        said
    }
}
