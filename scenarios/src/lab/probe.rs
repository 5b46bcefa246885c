//! The probe writer, run beside the cluster: `baton probe`, a process of its own.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use failover::time::Moment;
use nix::sys::signal::{Signal, kill};
use std::os::unix::process::CommandExt;

use super::answers::Reconciled;
use super::cluster::Cluster;
use super::directory::GENEROUS;
use super::journal::Journal;
use super::layout::SERVICE;
use super::process::{self, pid_of, wait_or_kill};
use super::stop::Stop;

fn recording(cluster: &Cluster, name: &str) -> Result<(Command, PathBuf)> {
    let file = cluster.folder().join(format!("{name}.jsonl"));
    let log = std::fs::File::create(file.with_extension("log"))?;
    let mut command: Command = cluster.baton();
    command.args(["probe", SERVICE, "--every", "10ms", "--journal"]).arg(&file);
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
    Ok((command, file))
}

/// A running probe writer. Dropped: ended.
#[derive(Debug)]
pub struct Probe {
    child: Option<Child>,
    file: PathBuf,
    /// What it wrote down so far.
    pub journal: Journal,
}

impl Probe {
    /// Starts writing a row every 10 ms through the service's name; `name` names its journal.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(cluster: &Cluster, name: &str) -> Result<Self> {
        let (mut command, file) = recording(cluster, name)?;
        Self::run(cluster.at_clients(|| process::spawn(&mut command))?, file)
    }

    /// Starts one inside a site, which writes to that site's own PostgreSQL whatever DNS says.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_inside(cluster: &Cluster, site: &str, name: &str) -> Result<Self> {
        let (mut command, file) = recording(cluster, name)?;
        command.arg("--address").arg(cluster.layout.postgres(site).to_string());
        Self::run(cluster.at_site(site, || process::spawn(&mut command))?, file)
    }

    fn run(started: std::io::Result<Child>, file: PathBuf) -> Result<Self> {
        let child = started.context("cannot start the probe writer")?;
        Ok(Self { child: Some(child), journal: Journal::at(&file), file })
    }

    /// Reads what it wrote since.
    ///
    /// # Errors
    /// When the journal is broken or the writer has ended by itself.
    pub fn read_on(&mut self) -> Result<()> {
        self.journal.read_on()?;
        if let Some(child) = &mut self.child
            && let Some(status) = child.try_wait()?
        {
            let log = self.file.with_extension("log");
            let said = std::fs::read_to_string(log).unwrap_or_default();
            bail!("the probe writer ended by itself ({status}): {}", said.trim());
        }
        Ok(())
    }

    /// Waits until `count` writes more are acknowledged.
    ///
    /// # Errors
    /// When that takes longer than is reasonable.
    pub fn wait_acked(&mut self, stop: &Stop, count: usize) -> Result<()> {
        self.read_on()?;
        let wanted = self.journal.acked() + count;
        stop.until("acknowledged writes", GENEROUS, Duration::from_millis(20), || {
            self.read_on()?;
            Ok((self.journal.acked() >= wanted).then_some(()))
        })
    }

    /// Waits for the first acknowledged write that was sent after `from`, and to another server
    /// than `avoid`.
    ///
    /// # Errors
    /// When that takes longer than `bound`.
    pub fn wait_first(
        &mut self,
        stop: &Stop,
        from: Moment,
        avoid: Option<&str>,
        bound: Duration,
    ) -> Result<()> {
        stop.until("an acknowledged write", bound, Duration::from_millis(20), || {
            self.read_on()?;
            Ok(self.journal.first_after(from.0, avoid).map(drop))
        })
    }

    /// Ends the writer; its journal is then whole.
    ///
    /// # Errors
    /// When the journal is broken.
    pub fn end(&mut self) -> Result<()> {
        self.halt();
        self.journal.read_on()
    }

    fn halt(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = kill(pid_of(&child), Signal::SIGINT);
            wait_or_kill(&mut child, Duration::from_secs(5));
        }
    }

    /// Ends the writer and holds its journal against the table.
    ///
    /// # Errors
    /// When `baton probe --reconcile` fails.
    pub fn reconcile(&mut self, cluster: &Cluster) -> Result<Reconciled> {
        self.end()?;
        let file = self.file.to_string_lossy().into_owned();
        cluster.ask(&["probe", SERVICE, "--reconcile", &file])
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.halt();
    }
}
