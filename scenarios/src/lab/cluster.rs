//! The whole cluster: made, supervised, broken in parts, looked at, and ended without a trace.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use failover::Moment;
use nix::sys::signal::Signal;
use serde::de::DeserializeOwned;

use super::answers::{Accepted, Report, Status};
use super::binaries::{self, Binaries, complaint};
use super::daemon::{Daemon, Recipe};
use super::directory::{Account, Directory, GENEROUS, give, keep_logs};
use super::disk::Disk;
use super::layout::{Kind, Layout, SERVICE, Shape, loopbacks, writable_name};
use super::names::Watched;
use super::network::{CLIENTS, Network, Spot};
use super::ports::Ports;
use super::process::{self, MARK, Mark, Process};
use super::stop::Stop;

pub mod control;

/// What the supervisor has to say, oldest first.
type Notices = Arc<Mutex<Vec<String>>>;

/// What kind of cluster to make.
#[derive(Clone, Debug)]
pub struct Options {
    /// The timing profile, for people: `default` or `metro`.
    pub profile: String,
    /// Its sites and rules.
    pub shape: Shape,
    /// Whether each site gets a network of its own, so that it can be cut off.
    pub networks: bool,
    /// Where runs are written down and the logs of failed ones are kept: `target/lab`.
    pub registry: PathBuf,
    /// The folder below `logs` for this run's logs; empty: `logs` itself.
    pub keep_as: String,
    /// Where the run's folder is made.
    pub base: PathBuf,
    /// Programs that every user can reach; none: those beside the lab's own, copied where needed.
    pub programs: Option<Binaries>,
    /// Daemons that get disks of their own.
    pub disks: Vec<(&'static str, Kind)>,
}

/// A cluster. Dropped: every process of it ended, its folder and networks gone.
#[derive(Debug)]
pub struct Cluster {
    stop: Stop,
    /// Where everything stands.
    pub layout: Layout,
    binaries: Binaries,
    mark: Mark,
    daemons: Arc<Mutex<Vec<Daemon>>>,
    over: Stop,
    keeper: Option<JoinHandle<()>>,
    notices: Notices,
    keep_logs_in: Option<PathBuf>,
    /// The disks that daemons have of their own.
    pub disks: Vec<Disk>,
    // Last: removed when nothing uses it any more.
    network: Option<Network>,
    directory: Directory,
}

impl Cluster {
    /// Makes a cluster and starts its daemons. It has no service yet: see [`Cluster::bring_up`].
    ///
    /// # Errors
    /// When something is missing on this machine or `baton init` refuses.
    pub fn make(options: &Options, stop: &Stop) -> Result<Self> {
        let account = Account::choose()?;
        let run = run_name();
        let sites = options.shape.names();
        let namespaces =
            if options.networks { Network::namespaces(&run, &sites) } else { Vec::new() };
        let directory = Directory::make(&run, &namespaces, &options.registry, &options.base)?;
        let network = options.networks.then(|| Network::make(&run, &sites)).transpose()?;
        let ports = if options.networks { Ports::usual() } else { Ports::reserve(&loopbacks())? };
        let binaries = match &options.programs {
            Some(programs) => programs.clone(),
            None => Binaries::beside_own()?.for_account(&account, directory.path())?,
        };
        let folder = directory.path().join("cluster");
        let (shape, networks) = (options.shape.clone(), options.networks);
        let layout = Layout { folder: folder.clone(), ports, shape, networks };
        let notices = Notices::default();
        let daemons = Arc::new(Mutex::new(Vec::new()));
        let over = Stop::default();
        let keeper = keep(Arc::clone(&daemons), over.clone(), Arc::clone(&notices))?;
        let mut cluster = Self {
            stop: stop.clone(),
            layout,
            binaries,
            mark: Mark { run, folder },
            daemons,
            over,
            keeper: Some(keeper),
            notices,
            keep_logs_in: Some(options.registry.join("logs").join(&options.keep_as)),
            disks: Vec::new(),
            network,
            directory,
        };
        cluster.initialise()?;
        give(&cluster.layout.folder, &account)?;
        for (site, kind) in &options.disks {
            let folder = cluster.layout.daemon(site, *kind).0;
            let image = cluster.directory.path().join(format!("{site}-{}.img", kind.program()));
            cluster.disks.push(Disk::make(&folder, &image)?);
        }
        cluster.start_daemons(&account)?;
        Ok(cluster)
    }

    fn initialise(&self) -> Result<()> {
        let topology = self.topology();
        std::fs::write(&topology, self.layout.topology())?;
        let mut init = self.baton_without_config();
        init.arg("init").arg(&topology).args(["--operator", "lab"]);
        init.arg("--out").arg(&self.layout.folder);
        let output = binaries::run(&self.stop, &mut init, Duration::from_secs(30))?;
        if !output.status.success() {
            bail!("`baton init` refused:\n{}", complaint(&output));
        }
        // What is written there is shown on the page.
        let journals = self.folder().join("journals");
        std::fs::create_dir_all(&journals)?;
        for site in self.layout.shape.sites {
            let (_, config) = self.layout.daemon(site.name, Kind::Voter);
            let text = std::fs::read_to_string(&config)?;
            let (page, read) = (self.layout.page(site.name), journals.to_string_lossy());
            let more = format!("\n[page]\nlisten = \"{page}\"\n\n[sla]\njournal = [{read:?}]\n");
            std::fs::write(&config, text + &more)?;
        }
        for site in self.layout.shape.holders() {
            // A killed postmaster's memory lies in its own directory then, and goes with it.
            let (_, config) = self.layout.daemon(site.name, Kind::Agent);
            let text = std::fs::read_to_string(&config)?;
            let table = "[postgres.settings]\n";
            let own = format!("{table}dynamic_shared_memory_type = \"mmap\"\n");
            std::fs::write(&config, text.replacen(table, &own, 1))?;
        }
        Ok(())
    }

    fn topology(&self) -> PathBuf {
        self.directory.path().join("topology.toml")
    }

    fn start_daemons(&self, account: &Account) -> Result<()> {
        let recipe = |site: &'static str, kind: Kind| {
            let (folder, config) = self.layout.daemon(site, kind);
            Recipe {
                site,
                kind,
                program: self.binaries.path(kind.program()),
                folder,
                config,
                log: self.layout.log(site, kind),
                mark: format!("{}/{site}", self.mark.run),
                account: account.clone(),
                namespace: self.network.as_ref().map(|found| found.namespace(site, kind.spot())),
            }
        };
        let mut daemons = self.daemons();
        for site in self.layout.shape.names() {
            let holds = self.layout.shape.holders().iter().any(|holder| holder.name == site);
            let kinds = Kind::ALL.into_iter().filter(|kind| holds || *kind != Kind::Agent);
            daemons.extend(kinds.map(|kind| Daemon::new(recipe(site, kind))));
        }
        daemons.iter_mut().try_for_each(Daemon::up)
    }

    fn daemons(&self) -> MutexGuard<'_, Vec<Daemon>> {
        self.daemons.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Applies the topology and waits until the service is complete: bootstrapped, published,
    /// synchronous everywhere. `progress` hears what is still missing whenever that changes.
    ///
    /// # Errors
    /// When it does not come about within generous bounds.
    pub fn bring_up(&self, progress: &mut dyn FnMut(&str)) -> Result<Status> {
        let topology = self.topology().to_string_lossy().into_owned();
        let mut refused = String::new();
        let apply = || {
            let output = self.output(
                &["apply", &topology, "--yes", "--reason", "a lab begins"],
                Duration::from_secs(30),
            )?;
            if output.status.success() {
                return Ok(Some(()));
            }
            refused = complaint(&output);
            Ok(None)
        };
        progress("electing a leader among the voters");
        let every = Duration::from_millis(200);
        let applied = self.stop.until("the topology applied", GENEROUS, every, apply);
        applied.with_context(|| format!("`baton apply` said last: {refused}"))?;
        self.wait_redundant(GENEROUS * 2, progress)
    }

    /// Waits until nothing is missing any more.
    ///
    /// # Errors
    /// When that takes longer than `bound`: what was missing last.
    pub fn wait_redundant(
        &self,
        bound: Duration,
        progress: &mut dyn FnMut(&str),
    ) -> Result<Status> {
        let mut said = String::new();
        let look = || {
            let status = match self.status() {
                Ok(status) => status,
                Err(error) => {
                    self.stop.check()?;
                    said = format!("{error:#}");
                    return Ok(None);
                }
            };
            let Some(missing) = status.missing() else { return Ok(Some(status)) };
            if missing != said {
                progress(&missing);
                said = missing;
            }
            Ok(None)
        };
        let found = self.stop.until("full redundancy", bound, Duration::from_millis(150), look);
        found.with_context(|| format!("still missing: {said}"))
    }

    /// What `baton status` says.
    ///
    /// # Errors
    /// When it cannot say.
    pub fn status(&self) -> Result<Status> {
        self.ask(&["status"])
    }

    /// The report of a transition; `None` while there is none of that number.
    ///
    /// # Errors
    /// [`super::stop::Stopped`]
    pub fn report(&self, id: u64) -> Result<Option<Report>> {
        let asked = self.ask(&["report", &id.to_string()]);
        self.stop.check()?;
        Ok(asked.ok())
    }

    /// The number that the next transition will have.
    ///
    /// # Errors
    /// Those of `baton report`.
    pub fn next_transition(&self) -> Result<u64> {
        let all: Vec<Report> = self.ask(&["report"])?;
        Ok(all.iter().map(|record| record.id.0).max().unwrap_or(0) + 1)
    }

    /// Asks for a planned change of primary, as soon as that is granted, and does not wait for it.
    /// Returns its number, and when it was asked for.
    ///
    /// # Errors
    /// Why it was refused to the last.
    pub fn switch_over(&self, to: &str) -> Result<(u64, Moment)> {
        let mut said = None;
        let granted = self.stop.until("a switchover", GENEROUS, Duration::from_millis(300), || {
            // Whoever is not caught up at this instant is refused.
            let asked = wire::clock::now();
            match self.ask_to_switch_over(to) {
                Ok(id) => Ok(Some((id, asked))),
                Err(error) => {
                    self.stop.check()?;
                    said = Some(error);
                    Ok(None)
                }
            }
        });
        self.stop.check()?;
        granted.map_err(|error| said.unwrap_or(error))
    }

    fn ask_to_switch_over(&self, to: &str) -> Result<u64> {
        let reason = ["--reason", "the lab measures it", "--no-wait"];
        let words: Vec<&str> =
            ["switchover", SERVICE, "--to", to].into_iter().chain(reason).collect();
        let accepted: Accepted = self.ask(&words)?;
        let id = accepted.transition.context("a switchover begins a transition")?;
        Ok(id.0)
    }

    /// Runs `baton WORDS -o json` and reads its answer. An answer counts even where the exit
    /// status says that it is a bad one.
    ///
    /// # Errors
    /// When there is none: its own words.
    pub fn ask<T: DeserializeOwned>(&self, words: &[&str]) -> Result<T> {
        let all: Vec<&str> = words.iter().copied().chain(["-o", "json"]).collect();
        let output = self.output(&all, Duration::from_secs(40))?;
        if !output.status.success() && output.stdout.trim_ascii().is_empty() {
            bail!("`baton {}`: {}", words.join(" "), complaint(&output));
        }
        serde_json::from_slice(&output.stdout).with_context(|| {
            let text = String::from_utf8_lossy(&output.stdout);
            let head: String = text.chars().take(200).collect();
            format!("`baton {}` printed something else than expected: {head}", words.join(" "))
        })
    }

    /// Runs `baton WORDS` to its end.
    ///
    /// # Errors
    /// When it cannot be run within `bound`; its own failure is in the output.
    pub fn output(&self, words: &[&str], bound: Duration) -> Result<std::process::Output> {
        let mut command = self.baton();
        command.args(words);
        self.at_clients(|| binaries::run(&self.stop, &mut command, bound))?
    }

    /// Runs `baton WORDS` and insists.
    ///
    /// # Errors
    /// Its own words.
    pub fn must(&self, words: &[&str], bound: Duration) -> Result<()> {
        let output = self.output(words, bound)?;
        if !output.status.success() {
            bail!("`baton {}` failed: {}", words.join(" "), complaint(&output));
        }
        Ok(())
    }

    /// `baton` as the operator of this cluster.
    pub fn baton(&self) -> Command {
        let mut command = self.baton_without_config();
        command.arg("--config").arg(self.layout.operator());
        command
    }

    /// `baton` as whoever a `--config` says, or nobody.
    pub fn baton_without_config(&self) -> Command {
        let mut command = Command::new(self.binaries.path("baton"));
        command.env(MARK, format!("{}/{CLIENTS}", self.mark.run));
        command.env("NO_COLOR", "1").current_dir(self.directory.path());
        command
    }

    /// Does `work` where the clients are.
    ///
    /// # Errors
    /// When that place cannot be entered.
    pub fn at_clients<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        match &self.network {
            Some(network) => network.inside(CLIENTS, Spot::Clients, work),
            None => Ok(work()),
        }
    }

    /// Does `work` where a site's own clients are.
    ///
    /// # Errors
    /// When its network cannot be entered.
    pub fn at_site<T: Send>(&self, site: &str, work: impl FnOnce() -> T + Send) -> Result<T> {
        match &self.network {
            Some(network) => network.inside(site, Spot::Clients, work),
            None => Ok(work()),
        }
    }

    /// The network, where sites have their own.
    ///
    /// # Errors
    /// When they do not.
    pub fn network(&self) -> Result<&Network> {
        self.network.as_ref().context("this cluster's sites share the machine's network")
    }

    /// The name server of each site, to be asked for the writable name.
    ///
    /// # Errors
    /// When no socket can be had.
    pub fn watch_names(&self) -> Result<Vec<Watched>> {
        let watch =
            |site: &&str| Watched::new(site, self.layout.name_server(site), &writable_name());
        self.at_clients(|| self.layout.shape.names().iter().map(watch).collect())?
    }

    /// A folder of the run for the clients' own files.
    pub fn folder(&self) -> &Path {
        self.directory.path()
    }

    /// The mark that every process of a site carries.
    pub fn mark_of(&self, site: &str) -> String {
        format!("{}/{site}", self.mark.run)
    }

    /// Every process of a site.
    pub fn processes(&self, site: &str) -> Vec<Process> {
        self.mark.processes(Some(site))
    }

    /// What the supervisor saw since it was last asked: daemons that ended unbidden.
    pub fn notices(&self) -> Vec<String> {
        std::mem::take(&mut *self.notices.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Acknowledges the last automatic failover, if there is one, so that the next may happen.
    ///
    /// # Errors
    /// Those of `baton`.
    pub fn acknowledge(&self, status: &Status) -> Result<()> {
        if status.service().is_some_and(|service| service.unacknowledged.is_some()) {
            self.must(&["resume", SERVICE, "--reason", "the lab saw it"], Duration::from_secs(20))?;
        }
        Ok(())
    }

    /// All went well: the logs need not be kept.
    pub fn forget_logs(&mut self) {
        self.keep_logs_in = None;
    }

    /// Ends every process of the cluster, all at once.
    fn end(&mut self) {
        self.over.tell(Signal::SIGTERM);
        if let Some(keeper) = self.keeper.take() {
            let _ = keeper.join();
        }
        let mut daemons = self.daemons();
        daemons.iter_mut().for_each(Daemon::give_up);
        self.disks.iter().for_each(Disk::thaw);
        self.mark.end(None);
        // Reaps them.
        daemons.iter_mut().for_each(|daemon| drop(daemon.tend()));
        drop(daemons);
        process::reap_orphans();
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.end();
        if let Some(to) = &self.keep_logs_in
            && self.stop.check().is_ok()
        {
            let _ = std::fs::remove_dir_all(to);
            if keep_logs(self.directory.path(), to) > 0 {
                eprintln!("the daemons' logs are kept in {}", to.display());
            }
        }
    }
}

/// A name that no other run has: several may be up in one lab.
fn run_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    match COUNT.fetch_add(1, Ordering::Relaxed) {
        0 => format!("lab{}", std::process::id()),
        number => format!("lab{}x{number}", std::process::id()),
    }
}

/// The supervisor: tends all daemons until `over`.
fn keep(daemons: Arc<Mutex<Vec<Daemon>>>, over: Stop, notices: Notices) -> Result<JoinHandle<()>> {
    let tend = move || {
        while over.pause(Duration::from_millis(20)).is_ok() {
            let mut held = daemons.lock().unwrap_or_else(PoisonError::into_inner);
            let said: Vec<String> = held.iter_mut().filter_map(Daemon::tend).collect();
            drop(held);
            notices.lock().unwrap_or_else(PoisonError::into_inner).extend(said);
            process::reap_orphans();
        }
    };
    Ok(std::thread::Builder::new().name("supervisor".into()).spawn(tend)?)
}
