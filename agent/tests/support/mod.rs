//! Real instances on loopback, each with a guard of its own, all gone when the test ends.
#![allow(dead_code, reason = "each test file uses its part of it")]

pub mod pair;
pub mod process;
pub mod voter;

use agent::config::{Config, Postgres};
use agent::instance::{Instance, PerformError};
use agent::layout::Layout;
use agent::perform::perform;
use agent::senses;
use agent::sql::{Access, Connection, SqlError};
use failover::cluster::Enforce;
use failover::comply::Action;
use failover::topology::{Instance as Declared, Timing};
use failover::{Assignment, Epoch, Generation, InstanceId, Revision, Role};
use std::collections::BTreeMap;
use std::fs::Permissions;
use std::future::Future;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use tokio::task::JoinSet;
use wire::ca::{Authority, Leaf};
use wire::clock::now;

const PROGRAM: &str = env!("CARGO_BIN_EXE_baton-agent");
/// Where the agent is for the user that the test runs itself again as.
const COPIED: &str = "BATON_TEST_PROGRAM";

/// For what a slow machine may take, and only a hang exceeds.
const PATIENCE: Duration = Duration::from_secs(30);

/// The agent.
pub fn program() -> PathBuf {
    std::env::var_os(COPIED).map_or_else(|| PathBuf::from(PROGRAM), PathBuf::from)
}

/// PostgreSQL does not run as root: as root, the test runs itself again as `postgres`.
pub fn play(name: &str, test: impl Future<Output = ()>) {
    if nix::unistd::geteuid().is_root() {
        let user = nix::unistd::User::from_name("postgres").unwrap().expect("PostgreSQL's user");
        // The clone may lie in a folder that only root may enter.
        let copies = tempfile::tempdir().unwrap();
        std::fs::set_permissions(copies.path(), Permissions::from_mode(0o755)).unwrap();
        let copy = |from: &Path| {
            let to = copies.path().join(from.file_name().unwrap());
            std::fs::copy(from, &to).unwrap();
            to
        };
        let status = std::process::Command::new(copy(&std::env::current_exe().unwrap()))
            .env(COPIED, copy(Path::new(PROGRAM)))
            .args(["--exact", name, "--nocapture"])
            .uid(user.uid.as_raw())
            .gid(user.gid.as_raw())
            .env("HOME", "/")
            .current_dir("/")
            .status()
            .unwrap();
        assert!(status.success(), "{name} failed as postgres");
        return;
    }
    wire::log::init(wire::log::Format::Auto);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_mins(2), test).await.expect("in two minutes");
    });
}

/// Several instances of one service.
pub struct World {
    pub folder: TempDir,
    authority: Authority,
    pub peers: BTreeMap<InstanceId, Declared>,
    revision: AtomicU64,
    pub timing: Timing,
    pub watchdog: Option<PathBuf>,
    /// Where an agent of its own process is monitored.
    pub monitoring: Option<SocketAddr>,
    /// Programs beside every instance.
    pub hooks: Vec<agent::hooks::Hook>,
    /// Further settings of PostgreSQL.
    pub settings: Vec<(&'static str, &'static str)>,
}

pub fn id(name: &str) -> InstanceId {
    name.parse().unwrap()
}

/// One that nobody else is given for as long as this process runs: the one before it is listened
/// at. Below what connections and listeners at port 0 are given.
pub fn free_port() -> SocketAddr {
    static HELD: Mutex<Vec<TcpListener>> = Mutex::new(Vec::new());
    const FIRST: u16 = 31_300;
    const PAIRS: u16 = 700;
    let bind = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok();
    let begin = u16::try_from(std::process::id() % u32::from(PAIRS)).unwrap();
    for turn in 0..PAIRS {
        let held = FIRST + (begin + turn) % PAIRS * 2;
        if let Some(listener) = bind(held)
            && bind(held + 1).is_some()
        {
            HELD.lock().unwrap().push(listener);
            return (Ipv4Addr::LOCALHOST, held + 1).into();
        }
    }
    panic!("every port from {FIRST} on is taken");
}

impl World {
    pub fn new(names: &[&str]) -> Self {
        let folder = TempDir::with_prefix("baton").unwrap();
        let declared = |name: &&str| {
            let instance = Declared {
                site: "here".parse().unwrap(),
                postgres: free_port(),
                agent: free_port(),
                public: None,
            };
            (id(name), instance)
        };
        Self {
            folder,
            authority: Authority::create("test").unwrap(),
            peers: names.iter().map(declared).collect(),
            revision: AtomicU64::new(1),
            timing: Timing { heartbeat: Duration::from_millis(200), ..Timing::default() },
            watchdog: None,
            monitoring: None,
            hooks: Vec::new(),
            settings: Vec::new(),
        }
    }

    /// Leases that last, for a test in which nobody renews them.
    pub fn lease_for(&mut self, fence_after: Duration) {
        self.timing.fence_after = fence_after;
        self.timing.suspect_after = fence_after + self.timing.fence_time * 2;
    }

    /// The time within which a primary is fenced is wide enough for a machine that stands still.
    pub fn fence_at_leisure(&mut self) {
        self.timing.fence_time = Duration::from_secs(4);
        self.timing.suspect_after = self.timing.fence_after + self.timing.fence_time * 2;
    }

    pub fn issue(&self, folder: &Path, leaf: &Leaf) -> wire::tls::Files {
        let tls = wire::tls::Files {
            ca: folder.join("ca.crt"),
            certificate: folder.join("tls.crt"),
            key: folder.join("tls.key"),
        };
        if !tls.key.exists() {
            let issued = self.authority.issue(leaf).unwrap();
            std::fs::write(&tls.ca, self.authority.certificate_pem()).unwrap();
            std::fs::write(&tls.certificate, &issued.certificate_pem).unwrap();
            wire::files::write_secret(&tls.key, issued.key_pem.as_bytes()).unwrap();
        }
        tls
    }

    pub fn config(&self, name: &str) -> Config {
        let folder = self.folder.path().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let leaf = Leaf {
            common_name: format!("baton-{name}"),
            uri: format!("baton://test/agent/{name}"),
            addresses: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
            names: Vec::new(),
        };
        let tls = self.issue(&folder, &leaf);
        let declared = self.peers.get(&id(name)).unwrap();
        Config {
            cluster: "test".into(),
            service: "clinic".parse().unwrap(),
            instance: id(name),
            site: "here".parse().unwrap(),
            listen: declared.agent,
            data: folder.join("pgdata"),
            run: folder.join("run"),
            postgres: Postgres {
                bin: None,
                listen: declared.postgres,
                user: "postgres".into(),
                settings: [("shared_buffers", "16MB")]
                    .iter()
                    .chain(&self.settings)
                    .map(|(name, value)| {
                        let value = agent::config::Setting::Text((*value).into());
                        ((*name).to_owned(), value)
                    })
                    .collect(),
            },
            tls,
            voters: vec![free_port()],
            watchdog: self.watchdog.clone(),
            monitoring: self.monitoring.map(|listen| wire::monitoring::Settings { listen }),
            hooks: self.hooks.clone(),
            rehearses: false,
        }
    }

    /// The way into an instance's PostgreSQL.
    pub fn access(&self, name: &str) -> Access {
        let config = self.config(name);
        let layout = Layout::create(&config.data, &config.run).unwrap();
        Access::new(&layout, config.postgres.listen)
    }

    /// An instance whose senses run, and that does only what the test tells it.
    pub async fn site(&self, name: &str) -> Site {
        let (instance, notices) = Instance::open(self.config(name), program()).unwrap();
        let tasks = senses::start(&instance, notices).await.unwrap();
        Site { instance, tasks }
    }

    pub fn assign(&self, site: &Site, epoch: u64, role: Role, names: &[&str], generation: u64) {
        let instance = &site.instance.config.instance;
        let system_identifier = site.instance.local().system_identifier;
        let assignment = self.assignment(instance.as_str(), epoch, role, names, generation);
        site.instance.hear(Assignment { system_identifier, ..assignment });
    }

    pub fn assignment(
        &self,
        name: &str,
        epoch: u64,
        role: Role,
        names: &[&str],
        generation: u64,
    ) -> Assignment {
        let revision = self.revision.fetch_add(1, Ordering::SeqCst);
        Assignment {
            revision: Revision(revision),
            service: "clinic".parse().unwrap(),
            instance: id(name),
            epoch: Epoch(epoch),
            role,
            enforce: Enforce {
                instances: names.iter().map(|name| id(name)).collect(),
                required: 1,
            },
            generation: Generation(generation),
            system_identifier: None,
            peers: self.peers.clone(),
            client_access: Vec::new(),
            timing: self.timing.clone(),
            isolate: None,
            rehearse: None,
        }
    }

    pub fn lead(&self, site: &Site, epoch: u64, names: &[&str], generation: u64) {
        let role = Role::Primary { initialise: epoch == 1, prepare: false };
        self.assign(site, epoch, role, names, generation);
    }

    pub fn follow(&self, site: &Site, epoch: u64, upstream: &str) {
        self.assign(site, epoch, Role::Standby { upstream: id(upstream) }, &[], 0);
    }

    /// A primary of epoch 1 that waits for the named, its marker under way.
    pub async fn first(&self, name: &str, names: &[&str]) -> Site {
        let site = self.site(name).await;
        self.lead(&site, 1, names, 1);
        site.act(Action::Initialise).await;
        site.act(Action::Accept { epoch: Epoch(1) }).await;
        site.act(Action::StartPrimary).await;
        site.until("writable", |local| {
            matches!(local.server, failover::report::Server::Writable { .. })
        })
        .await;
        site.act(Action::Enforce { generation: Generation(1) }).await;
        site.act(Action::Prove { epoch: Epoch(1) }).await;
        site
    }

    /// A standby of it that streams.
    pub async fn second(&self, name: &str, primary: &Site) -> Site {
        let upstream = primary.instance.config.instance.clone();
        let site = self.site(name).await;
        self.follow(&site, 1, upstream.as_str());
        primary.until_role(name).await;
        site.act(Action::Clone { upstream: upstream.clone() }).await;
        site.act(Action::StartStandby { upstream: Some(upstream) }).await;
        site.until_streaming().await;
        site
    }

    /// Primary `a` and standby `b`, proven and enforced.
    pub async fn pair(&self) -> (Site, Site) {
        let a = self.first("a", &["b"]).await;
        let b = self.second("b", &a).await;
        a.until_proven(Epoch(1)).await;
        a.until("enforced", |local| local.enforced == Some(Generation(1))).await;
        (a, b)
    }
}

/// One instance.
pub struct Site {
    pub instance: Arc<Instance>,
    pub tasks: JoinSet<()>,
}

impl Site {
    /// Does it, again and again where a slow machine has not done it yet: so does the law.
    pub async fn act(&self, action: Action) {
        let begun = now();
        while let Err(error) = self.try_act(action.clone()).await {
            let is_over = matches!(error, PerformError::Stale(_) | PerformError::File(_));
            assert!(!is_over && now().since(begun) < PATIENCE, "{action:?}: {error}");
            println!("again: {action:?}: {error}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn try_act(&self, action: Action) -> Result<(), PerformError> {
        perform(&self.instance, &action).await
    }

    /// Lets clients in. A slow machine may end the lease just then: as in the agent's own beat,
    /// that is tried again.
    pub async fn admit(&self) {
        for _ in 0..500 {
            match self.try_act(Action::Admit).await {
                Ok(()) => return,
                Err(PerformError::Stale(_)) => tokio::time::sleep(Duration::from_millis(20)).await,
                Err(error) => panic!("{error}"),
            }
        }
        panic!("no lease");
    }

    pub async fn until(&self, what: &str, check: impl Fn(&failover::comply::Local) -> bool) {
        wait_for(what, || check(&self.instance.local())).await;
    }

    /// Its marker is committed: begun again, as the law does, where that failed.
    pub async fn until_proven(&self, epoch: Epoch) {
        let begun = now();
        while self.instance.local().proven != Some(epoch) {
            assert!(now().since(begun) < PATIENCE, "{epoch} is not proven");
            self.act(Action::Prove { epoch }).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub async fn until_streaming(&self) {
        wait_for("streaming", || {
            let state = self.instance.state();
            let receiver = state.facts.as_ref().and_then(|facts| facts.receiver.clone());
            receiver.is_some_and(|receiver| receiver.streaming)
        })
        .await;
    }

    pub async fn until_role(&self, name: &str) {
        let query = format!("select 'there' from pg_roles where rolname = 'baton-{name}'");
        self.until_sql(&query, "there").await;
    }

    pub async fn sql(&self, query: &str) -> Option<String> {
        let connection = connected(&self.instance.access).await.ok()?;
        connection.text(query, PATIENCE).await.ok().flatten()
    }

    /// The agent ends, PostgreSQL goes on under its guard.
    pub async fn end_agent(mut self) {
        self.tasks.shutdown().await;
        self.instance.leave();
        // Dropped, it would end the guard as well.
        std::mem::forget(self);
    }

    /// A client's commit, begun.
    pub async fn begin(&self, statements: &str) -> Commit {
        let connection = connected(&self.instance.access).await.unwrap();
        let bound = Duration::from_mins(1);
        let pid = connection.text("select pg_backend_pid()", bound).await.unwrap().unwrap();
        let statements = statements.to_owned();
        let task = tokio::spawn(async move {
            let outcome = connection.execute(&statements, bound).await;
            (outcome.is_ok(), connection.warnings())
        });
        Commit { pid: pid.parse().unwrap(), task }
    }

    /// A client's commit that waits for its standbys.
    pub async fn begin_waiting(&self, statements: &str) -> Commit {
        let commit = self.begin(statements).await;
        let query = format!("select wait_event from pg_stat_activity where pid = {}", commit.pid);
        self.until_sql(&query, "SyncRep").await;
        commit
    }

    pub async fn until_sql(&self, query: &str, wanted: &str) {
        let mut seen = None;
        for _ in 0..4_000 {
            seen = self.sql(query).await;
            if seen.as_deref() == Some(wanted) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{query}: {seen:?}, not {wanted}");
    }

    pub fn data(&self) -> &Path {
        &self.instance.layout.data
    }

    pub fn pid(&self) -> Option<u32> {
        self.instance.state().pid
    }
}

/// A session, if the server is there: of a slow one, the answer is waited for.
pub async fn connected(access: &Access) -> Result<Connection, SqlError> {
    let begun = now();
    loop {
        match access.connect().await {
            Err(SqlError::Timeout) if now().since(begun) < PATIENCE => {}
            other => return other,
        }
    }
}

/// A commit under way: its backend, and whether it succeeded and with how many warnings.
pub struct Commit {
    pub pid: u32,
    pub task: tokio::task::JoinHandle<(bool, u64)>,
}

pub async fn wait_for(what: &str, mut check: impl FnMut() -> bool) {
    for _ in 0..6_000 {
        if check() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("waited in vain: {what}");
}

impl Drop for Site {
    fn drop(&mut self) {
        self.instance.leave();
        end_guard(&self.instance.layout.guard_socket());
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for name in self.peers.keys() {
            let run = self.folder.path().join(name.as_str()).join("run");
            end_guard(&run.join("guard.sock"));
        }
    }
}

/// Kills PostgreSQL and the guard; waits until the guard is gone.
pub fn end_guard(socket: &Path) {
    if let Ok(mut stream) = std::os::unix::net::UnixStream::connect(socket) {
        drop(stream.write_all(b"\"end\"\n"));
        drop(stream.read_to_end(&mut Vec::new()));
    }
}
