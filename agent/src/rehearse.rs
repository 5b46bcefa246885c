//! The way back of a former primary, rehearsed beside a standby that goes on.
//!
//! A copy of the instance is made on its own machine, from itself, so that nobody else's disk works
//! for it. The copy is promoted, writes, and is killed: it is now what a primary is after a
//! failover that it did not survive, with a tail that nobody has. Then it is brought back by the
//! very functions that bring a former primary back, towards the real primary: `pg_rewind` with the
//! instance's own rights and certificate, a start as a standby, and catching up.
//!
//! The copy is an [`Instance`] of its own, with a run directory and a guard of its own. It listens
//! nowhere but on its private socket, streams under a name that is in no rule (I-09), archives
//! nothing, and loads and subscribes to nothing: whatever would act on the world by being a
//! writable copy of the service is off. Clients cannot reach it. It is removed with all it holds
//! when the rehearsal is over, when it is not wanted any more, and when an agent starts.

use crate::clone::conninfo_as;
use crate::config::Setting;
use crate::instance::{Instance, PerformError};
use crate::layout::{self, Layout, patiently};
use crate::perform::perform;
use crate::senses::hear_guard;
use crate::sql::{Connection, SqlError};
use crate::start::{remove_tree, resolve};
use crate::{identity, processes};
use failover::comply::Action;
use failover::drill::{Progress, Rehearsed};
use failover::{Assignment, DrillId, Epoch, InstanceId, Moment, Role};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use wire::clock::now;

/// Under this name the copy streams; no instance can be in a rule by it.
pub const STREAMS_AS: &str = "baton-rehearsal";
/// How often it is looked whether a rehearsal is wanted.
const LOOK: Duration = Duration::from_millis(500);
const STEP: Duration = Duration::from_millis(100);
const BOUND: Duration = Duration::from_secs(10);
/// Starting, promoting and catching up take at most so long each.
const PATIENCE: Duration = Duration::from_mins(15);
/// What must be left on the disk beside the copy: the instance's own log comes first.
const HEADROOM: u64 = 512 << 20;
const MIB: u64 = 1 << 20;

/// What a writable copy of a service must not do, and needs not.
const OFF: &[(&str, &str)] = &[
    ("archive_mode", "off"),
    ("restore_command", ""),
    ("archive_cleanup_command", ""),
    ("recovery_end_command", ""),
    ("shared_preload_libraries", ""),
    ("session_preload_libraries", ""),
    ("local_preload_libraries", ""),
    ("max_logical_replication_workers", "0"),
    ("shared_buffers", "32MB"),
    ("huge_pages", "off"),
    ("autovacuum", "off"),
];

/// What the copy writes while it leads.
const WRITES: &str = "
create table public.baton_rehearsal (n int);
insert into public.baton_rehearsal select generate_series(1, 1000)";
const HAS_WRITTEN: &str = "select to_regclass('public.baton_rehearsal') is not null";

/// Rehearses whenever that is ordered, for as long as the agent runs.
pub async fn watch(instance: Arc<Instance>) {
    clean(&instance.layout).await;
    loop {
        let order = ordered(&instance);
        if order.is_none() {
            // Said and heard, or not wanted any more.
            instance.state().rehearsed = None;
        }
        let Some(drill) = order.filter(|drill| !is_said(&instance, *drill)) else {
            tokio::time::sleep(LOOK).await;
            continue;
        };
        tracing::info!(%drill, "rehearsing a former primary's way back");
        let stands = tokio::select! {
            done = rehearse(&instance, drill) => Some(match done {
                Ok(text) => Progress::Done(text),
                Err(error) => Progress::Failed(error.to_string()),
            }),
            () = withdrawn(&instance, drill) => None,
            () = crowded(&instance.layout) => {
                Some(Progress::Failed("the disk is filling up beside it".to_owned()))
            }
        };
        clean(&instance.layout).await;
        tracing::info!(%drill, ?stands, "the rehearsal is over");
        if let Some(stands) = stands {
            say(&instance, drill, stands);
        }
    }
}

/// What it is told to rehearse for; nothing before an orchestrator has spoken in this run.
fn ordered(instance: &Instance) -> Option<DrillId> {
    let state = instance.state();
    state.assignment.as_ref().filter(|_| state.informed)?.rehearse
}

fn is_said(instance: &Instance, drill: DrillId) -> bool {
    instance.state().rehearsed.as_ref().is_some_and(|said| said.drill == drill)
}

async fn withdrawn(instance: &Instance, drill: DrillId) {
    while ordered(instance) == Some(drill) {
        tokio::time::sleep(LOOK).await;
    }
}

fn say(instance: &Instance, drill: DrillId, stands: Progress) {
    instance.state().rehearsed = Some(Rehearsed { drill, stands });
    instance.speak.notify_one();
}

/// From the copy to its coming back; what is told is how long each part took.
async fn rehearse(instance: &Arc<Instance>, drill: DrillId) -> Result<String, PerformError> {
    let under_way = |text: &str| say(instance, drill, Progress::UnderWay(text.to_owned()));
    let assignment = instance.assignment()?;
    let Role::Standby { upstream } = assignment.role.clone() else {
        return Err(PerformError::Stale("it follows nobody"));
    };
    under_way("looking for room");
    let bytes = has_room(&instance.layout)?;
    let copy = Beside::begin(instance).await?;

    under_way("copying");
    let began = now();
    copy.assign(&assignment, assignment.epoch, standby(&instance.config.instance));
    copy.perform(&Action::Clone { upstream: instance.config.instance.clone() }).await?;
    copy.forget_altered()?;
    let copied = now().since(began);

    under_way("promoting");
    let began = now();
    copy.perform(&Action::StartStandby { upstream: None }).await?;
    copy.until("it takes connections", "select pg_is_in_recovery()").await?;
    let epoch = assignment.epoch.next();
    copy.assign(&assignment, epoch, Role::Primary { initialise: false, prepare: false });
    copy.perform(&Action::Accept { epoch }).await?;
    copy.insist(&Action::Promote).await?;
    copy.connect().await?.execute(WRITES, PATIENCE).await?;
    copy.perform(&Action::Fence { reason: "a rehearsal".into() }).await?;
    let led = now().since(began);

    under_way("rewinding");
    let began = now();
    // The epoch was the copy's own: nobody's record is to be asked for it.
    copy.instance.promises.update(|memory| memory.led = None)?;
    copy.assign(&assignment, epoch, standby(&upstream));
    copy.perform(&Action::Rewind { upstream: upstream.clone() }).await?;
    copy.forget_altered()?;
    let rewound = now().since(began);

    under_way("catching up");
    let began = now();
    let end = copy.end_of(&upstream).await?;
    copy.perform(&Action::StartStandby { upstream: Some(upstream.clone()) }).await?;
    let reached = format!("select pg_last_wal_replay_lsn() >= '{end}'::pg_lsn");
    copy.until("it catches up", &reached).await?;
    copy.until("it streams", "select exists (select from pg_stat_wal_receiver)").await?;
    if copy.ask(HAS_WRITTEN).await?.as_deref() != Some("f") {
        return Err(PerformError::Stale("what it wrote alone is still there"));
    }
    let caught = now().since(began);
    Ok(format!(
        "{} MiB copied in {}, promoted and killed in {}, rewound in {}, caught up with {upstream} \
         at {end} in {}",
        bytes / MIB,
        told(copied),
        told(led),
        told(rewound),
        told(caught)
    ))
}

fn standby(upstream: &InstanceId) -> Role {
    Role::Standby { upstream: upstream.clone() }
}

fn told(took: Duration) -> String {
    format!("{}.{} s", took.as_secs(), took.subsec_millis() / 100)
}

/// Returns once there is so little room left that the instance comes first.
async fn crowded(layout: &Layout) {
    while free(layout).is_ok_and(|free| free >= HEADROOM / 2) {
        tokio::time::sleep(LOOK).await;
    }
}

fn free(layout: &Layout) -> io::Result<u64> {
    layout::free(layout.data.parent().unwrap_or(Path::new("/")))
}

/// How large a copy becomes, if there is room for it.
fn has_room(layout: &Layout) -> Result<u64, PerformError> {
    let size = patiently(|| size(&layout.data))?;
    let free = free(layout)?;
    let need = size.saturating_add(size / 10).saturating_add(HEADROOM);
    if free < need {
        return Err(PerformError::NotYet(format!(
            "a copy needs {} MiB with what must be left free beside it, and {} MiB are free",
            need / MIB,
            free / MIB
        )));
    }
    Ok(size)
}

/// The bytes in a folder and below; what vanishes meanwhile counts for nothing.
fn size(folder: &Path) -> io::Result<u64> {
    let mut sum = 0_u64;
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        let entries = match std::fs::read_dir(&next) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Err(_) => continue,
            Ok(entries) => entries,
        };
        for entry in entries.flatten() {
            // A tablespace is a link: what lies behind it is copied as well.
            match std::fs::metadata(entry.path()) {
                Ok(found) if found.is_dir() => folders.push(entry.path()),
                Ok(found) => sum = sum.saturating_add(found.len()),
                Err(_) => {}
            }
        }
    }
    Ok(sum)
}

/// The copy, while it lives.
struct Beside {
    instance: Arc<Instance>,
    hears: JoinHandle<()>,
}

impl Drop for Beside {
    fn drop(&mut self) {
        self.instance.leave();
        self.hears.abort();
    }
}

impl Beside {
    async fn begin(of: &Instance) -> Result<Self, PerformError> {
        let mut config = of.config.clone();
        let layout = &of.layout;
        (config.data, config.run) = places(layout);
        config.tls = identity::installed(layout);
        (config.watchdog, config.monitoring) = (None, None);
        config.hooks.clear();
        config.rehearses = true;
        // It names the socket only.
        config.postgres.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 5432));
        for (name, value) in OFF {
            let value = Setting::Text((*value).to_owned());
            config.postgres.settings.insert((*name).to_owned(), value);
        }
        let (instance, notices) = Instance::open(config, of.guard_program.clone())?;
        let hears = tokio::spawn(hear_guard(Arc::clone(&instance), notices));
        let copy = Self { instance, hears };
        copy.instance.attach().await?;
        Ok(copy)
    }

    /// Tells it what to be, as a voter would.
    fn assign(&self, of: &Assignment, epoch: Epoch, role: Role) {
        let revision =
            self.instance.state().assignment.as_ref().map_or(of.revision, |known| {
                failover::Revision(known.revision.0.saturating_add(1))
            });
        let assignment = Assignment {
            revision,
            epoch,
            role,
            enforce: failover::cluster::Enforce::default(),
            isolate: None,
            rehearse: None,
            ..of.clone()
        };
        self.instance.hear(assignment);
    }

    async fn perform(&self, action: &Action) -> Result<(), PerformError> {
        perform(&self.instance, action).await
    }

    /// Until it is done: one attempt may be too short for it.
    async fn insist(&self, action: &Action) -> Result<(), PerformError> {
        let began = now();
        while let Err(error) = self.perform(action).await {
            if is_over(began) {
                return Err(error);
            }
            tokio::time::sleep(STEP).await;
        }
        Ok(())
    }

    async fn connect(&self) -> Result<Connection, SqlError> {
        self.instance.access.connect().await
    }

    async fn ask(&self, query: &str) -> Result<Option<String>, SqlError> {
        self.connect().await?.text(query, BOUND).await
    }

    /// Waits until a query says yes.
    async fn until(&self, what: &str, query: &str) -> Result<(), PerformError> {
        let began = now();
        loop {
            let said = self.ask(query).await;
            if matches!(&said, Ok(Some(yes)) if yes == "t") {
                return Ok(());
            }
            if self.instance.state().pid.is_none() {
                let log = self.instance.layout.log();
                let text = format!("PostgreSQL ended before {what}: {}", last_line(&log));
                return Err(PerformError::NotYet(text));
            }
            if is_over(began) {
                let minutes = PATIENCE.as_secs() / 60;
                return Err(PerformError::NotYet(format!("not within {minutes} min: {what}")));
            }
            tokio::time::sleep(STEP).await;
        }
    }

    /// Where the upstream's log ends now.
    async fn end_of(&self, upstream: &InstanceId) -> Result<String, PerformError> {
        let upstream = resolve(&self.instance, upstream)?;
        let source = conninfo_as(&self.instance, &upstream, "pg_rewind");
        let query = "select pg_current_wal_flush_lsn()";
        Ok(self.instance.programs.ask(&source, query).await?.trim().to_owned())
    }

    /// What somebody said to the service by `ALTER SYSTEM` is not for the copy: it would stand
    /// above what is off.
    fn forget_altered(&self) -> io::Result<()> {
        let file = self.instance.layout.data.join("postgresql.auto.conf");
        layout::replace(&file, b"")
    }
}

fn is_over(began: Moment) -> bool {
    now().since(began) >= PATIENCE
}

fn last_line(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    text.lines().rev().find(|line| line.contains("FATAL")).unwrap_or_default().to_owned()
}

/// The copy's data directory and run directory.
fn places(of: &Layout) -> (PathBuf, PathBuf) {
    (of.beside("rehearsal"), of.run.join("rehearsal"))
}

/// Ends whatever is left of a rehearsal, and removes it.
pub async fn clean(layout: &Layout) {
    let (data, run) = places(layout);
    processes::end_within(&data).await;
    // Its guard, which has nothing to guard and nobody to serve, ends by itself.
    let others = ["new", "aside", "quarantine"];
    let others = others.map(|suffix| layout.beside(&format!("rehearsal.{suffix}")));
    let sockets = layout::sockets_of(&run);
    for path in others.iter().chain([&data, &run, &sockets]) {
        if let Err(error) = remove_tree(path) {
            tracing::warn!(%error, path = %path.display(), "what is left of a rehearsal stays");
        }
    }
}
