//! Initialise, start, stop.

use crate::admission;
use crate::instance::{Instance, PerformError};
use crate::layout::{patiently, remove_durably, sync_folder, sync_tree};
use crate::settings::{self, Dynamic, Upstream};
use crate::{history, identity};
use failover::InstanceId;
use failover::cluster::Enforce;
use nix::sys::signal::Signal;
use std::time::Duration;

/// The longest an action waits for PostgreSQL's end; the lease and the guard go on meanwhile.
const STOP_BOUND: Duration = Duration::from_mins(1);

/// A guard that takes longer is stuck, and is done without.
const GUARD_BOUND: Duration = Duration::from_millis(250);

/// Makes the data directory of a new service, beside its place first, so that an interrupted
/// attempt leaves nothing that looks like a cluster.
///
/// # Errors
/// [`PerformError`]; the data directory does not exist then.
pub async fn initialise(instance: &Instance) -> Result<(), PerformError> {
    let layout = &instance.layout;
    let occupied = std::fs::read_dir(&layout.data).is_ok_and(|mut found| found.next().is_some());
    if occupied {
        return Err(PerformError::Stale("the data directory is not empty"));
    }
    if let Some(parent) = layout.data.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let fresh = layout.beside("new");
    remove_tree(&fresh)?;
    let target = fresh.display().to_string();
    let common = ["-D", &target, "-U", settings::SUPERUSER, "-k", "-N", "-E", "UTF8"];
    let access = ["--auth-local=peer", "--auth-host=scram-sha-256"];
    let arguments = |locale: &'static str| -> Vec<&str> {
        common.into_iter().chain(access).chain([locale]).collect()
    };
    if instance.programs.run("initdb", &arguments("--locale=C.UTF-8")).await.is_err() {
        // Not every system has that locale; C is always there.
        remove_tree(&fresh)?;
        instance.programs.run("initdb", &arguments("--locale=C")).await?;
    }
    sync_tree(&fresh)?;
    let control = history::control(&fresh)?;
    drop(std::fs::remove_dir(&layout.data));
    instance.promises.update(|memory| {
        memory.system_identifier = Some(control.system_identifier);
        memory.led = None;
        memory.refused = false;
        memory.beyond = false;
    })?;
    put_in_place(instance, &fresh)
}

/// Renames a finished directory to the data directory's name.
///
/// # Errors
/// Those of the file system.
pub fn put_in_place(instance: &Instance, fresh: &std::path::Path) -> Result<(), PerformError> {
    let layout = &instance.layout;
    std::fs::rename(fresh, &layout.data)?;
    if let Some(parent) = layout.data.parent() {
        sync_folder(parent)?;
    }
    instance.examine();
    Ok(())
}

/// Removes a directory with all it holds; it may be missing.
///
/// # Errors
/// Those of the file system.
pub fn remove_tree(path: &std::path::Path) -> std::io::Result<()> {
    match patiently(|| std::fs::remove_dir_all(path)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// What both kinds of start write: closed to clients, our files, nothing of ours overruled.
fn write_files(instance: &Instance, dynamic: &Dynamic) -> Result<(), PerformError> {
    let layout = &instance.layout;
    if let Some(reason) = instance.state().refusal.clone() {
        return Err(PerformError::NotYet(reason));
    }
    identity::install(&instance.config, layout)?;
    admission::close(layout)?;
    settings::clear_auto_conf(layout)?;
    settings::write_static(&instance.config, layout, &instance.timing())?;
    dynamic.write(&instance.config, layout)?;
    Ok(())
}

/// Starts as a standby that admits no client.
///
/// # Errors
/// [`PerformError`]
pub async fn standby(
    instance: &Instance,
    upstream: Option<&InstanceId>,
) -> Result<(), PerformError> {
    let upstream = upstream.map(|upstream| resolve(instance, upstream)).transpose()?;
    let assignment = instance.assignment()?;
    let layout = &instance.layout;
    identity::forbid_streams(layout, upstream.as_ref().map(|upstream| upstream.epoch))?;
    if let Some(upstream) = &upstream {
        identity::allow_stream(layout, upstream.epoch)?;
    }
    let own = assignment.role_is_primary();
    let dynamic = Dynamic {
        upstream,
        generation: own.then_some(assignment.generation),
        enforce: if own { assignment.enforce.clone() } else { waiting() },
        held: own && assignment.enforce.required > 0,
    };
    write_files(instance, &dynamic)?;
    history::forget_unreached(&layout.data)?;
    wire::files::write_secret(&layout.data.join("standby.signal"), b"")?;
    instance.start().await
}

/// The rule of an instance that is no primary: should it ever write, it waits (I-08).
pub fn waiting() -> Enforce {
    Enforce { instances: std::collections::BTreeSet::new(), required: 1 }
}

/// Starts as a primary that admits no client.
///
/// # Errors
/// [`PerformError`]
pub async fn primary(instance: &Instance) -> Result<(), PerformError> {
    let assignment = instance.assignment()?;
    if !assignment.role_is_primary() || instance.promises.get().pledge.granted != assignment.epoch {
        return Err(PerformError::Stale("the epoch was not granted to this instance"));
    }
    identity::forbid_streams(&instance.layout, None)?;
    let dynamic = Dynamic {
        upstream: None,
        generation: Some(assignment.generation),
        enforce: assignment.enforce.clone(),
        held: assignment.enforce.required > 0,
    };
    write_files(instance, &dynamic)?;
    instance.promises.update(|memory| memory.led = Some(assignment.epoch))?;
    remove_durably(&instance.layout.data.join("standby.signal"))?;
    instance.start().await
}

/// Whom to follow, where, and as of which epoch; refused when this epoch was sealed (I-20).
///
/// # Errors
/// [`PerformError::Stale`]
pub fn resolve(instance: &Instance, upstream: &InstanceId) -> Result<Upstream, PerformError> {
    let assignment = instance.assignment()?;
    if assignment.epoch <= instance.promises.get().pledge.sealed {
        return Err(PerformError::Stale("sealed against the primary of this epoch"));
    }
    instance.kept.keep(instance)?;
    let peer = assignment
        .peers
        .get(upstream)
        .ok_or(PerformError::Stale("the upstream is no instance of this service"))?;
    Ok(Upstream { instance: upstream.clone(), address: peer.postgres, epoch: assignment.epoch })
}

/// Whether an assignment makes its instance the primary.
pub trait RoleExt {
    /// True for [`failover::Role::Primary`].
    fn role_is_primary(&self) -> bool;
}

impl RoleExt for failover::Assignment {
    fn role_is_primary(&self) -> bool {
        matches!(self.role, failover::Role::Primary { .. })
    }
}

/// SIGKILL to everything of PostgreSQL: crash recovery comes after any other hurry too, and this
/// one cannot be delayed by a backend that does not listen.
///
/// # Errors
/// None: what the guard does not do is done without it.
pub async fn fence(instance: &Instance, reason: &str) -> Result<(), PerformError> {
    tracing::warn!(reason, "fencing PostgreSQL");
    let killed = match instance.guard() {
        Ok(guard) => tokio::time::timeout(GUARD_BOUND, guard.kill()).await.is_ok_and(|k| k.is_ok()),
        Err(_) => false,
    };
    if killed && ended(instance, GUARD_BOUND).await.is_ok() {
        return Ok(());
    }
    tracing::error!("fencing without the guard");
    crate::processes::end_within(&instance.layout.data).await;
    instance.note_fenced();
    Ok(())
}

/// Turns clients away and stops, with all of the log at every connected standby.
///
/// # Errors
/// [`PerformError::NotYet`]
pub async fn stop_cleanly(instance: &Instance) -> Result<(), PerformError> {
    instance.promises.update(|memory| memory.stopped = true)?;
    admission::close(&instance.layout)?;
    instance.state().stopping = true;
    instance.reload().await?;
    let guard = instance.guard()?;
    guard.signal(Signal::SIGINT).await?;
    // No client is left to read anything stale, and the stop may take longer than a lease.
    instance.state().serves = false;
    guard.refresh(None).await?;
    ended(instance, STOP_BOUND).await
}

/// Waits for PostgreSQL's end.
async fn ended(instance: &Instance, bound: Duration) -> Result<(), PerformError> {
    let begun = wire::clock::now();
    while instance.state().pid.is_some() {
        if wire::clock::now().since(begun) > bound {
            return Err(PerformError::NotYet("PostgreSQL has not ended yet".into()));
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}
