//! The synchronous rule as PostgreSQL enforces it, and the proof that it does (layer 2).
//!
//! `pg_stat_replication` shows a walsender's own view of the setting, and it may say `sync` while
//! commits do not wait yet (F-15). So a rule counts as enforced only when a fresh session sees it,
//! no walsender outside of it has a part in it, and a commit made under it returned with enough of
//! the named at or beyond the log's end afterwards. Where nobody is named, nothing can return: the
//! proof is then a commit that is seen waiting.

use crate::bootstrap;
use crate::instance::{Instance, PerformError};
use crate::settings::{self, Dynamic};
use crate::sql::{Connection, SqlError};
use crate::start::RoleExt;
use failover::cluster::Enforce;
use failover::{Assignment, Generation};
use std::sync::Arc;
use std::time::Duration;
use wire::clock::now;

const BOUND: Duration = Duration::from_secs(5);
const STEP: Duration = Duration::from_millis(5);

/// Writes the rule, reloads, and begins the proof in the background.
///
/// # Errors
/// [`PerformError`]
pub async fn enforce(instance: &Arc<Instance>, generation: Generation) -> Result<(), PerformError> {
    let assignment = instance.assignment()?;
    let granted = instance.promises.get().pledge.granted;
    if assignment.generation != generation
        || !assignment.role_is_primary()
        || granted != assignment.epoch
    {
        return Err(PerformError::Stale("the rule is another now"));
    }
    let dynamic = Dynamic {
        upstream: None,
        generation: Some(generation),
        enforce: assignment.enforce.clone(),
    };
    write(instance, &dynamic).await?;
    let mut state = instance.state();
    let life = state.life;
    if state.enforcing == Some((life, generation)) || state.enforced == Some(generation) {
        return Ok(());
    }
    state.enforcing = Some((life, generation));
    drop(state);
    let instance = Arc::clone(instance);
    tokio::spawn(async move {
        while is_wanted(&instance, life, generation) {
            match establish(&instance, &assignment, life).await {
                Ok(()) => break,
                Err(error) => tracing::debug!(%error, %generation, "rule not proven yet"),
            }
            tokio::time::sleep(STEP * 10).await;
        }
        let mut state = instance.state();
        if state.enforcing == Some((life, generation)) {
            state.enforcing = None;
        }
        drop(state);
        instance.wake.notify_one();
        instance.speak.notify_one();
    });
    Ok(())
}

async fn write(instance: &Instance, dynamic: &Dynamic) -> Result<(), PerformError> {
    let cleared = settings::clear_auto_conf(&instance.layout)?;
    if cleared || Dynamic::load(&instance.layout) != *dynamic {
        dynamic.write(&instance.config, &instance.layout)?;
    }
    instance.reload().await?;
    Ok(())
}

/// Puts our files back in force, where somebody overruled them (F-13). True: somebody had.
///
/// # Errors
/// [`PerformError`]
pub async fn restore(instance: &Instance) -> Result<bool, PerformError> {
    let dynamic = Dynamic::load(&instance.layout);
    let wanted = settings::standby_names(&dynamic.enforce);
    let seen = instance.state().facts.as_ref().map(|facts| facts.standby_names.clone());
    if seen.is_none_or(|seen| seen == wanted) || dynamic.generation.is_none() {
        return Ok(false);
    }
    // A reload of our own may be under way: a fresh session tells.
    let connection = instance.access.connect().await?;
    let fresh = connection.text("show synchronous_standby_names", BOUND).await?;
    if fresh.as_deref() == Some(wanted.as_str()) {
        return Ok(false);
    }
    let overruled = settings::clear_auto_conf(&instance.layout)?;
    instance.reload().await?;
    Ok(overruled)
}

fn is_wanted(instance: &Instance, life: u64, generation: Generation) -> bool {
    let state = instance.state();
    state.enforcing == Some((life, generation))
        && state.assignment.as_ref().is_some_and(|a| a.generation == generation)
}

async fn establish(
    instance: &Arc<Instance>,
    assignment: &Assignment,
    life: u64,
) -> Result<(), PerformError> {
    let enforce = &assignment.enforce;
    let generation = assignment.generation;
    let connection = instance.access.connect().await?;
    shown(&connection, enforce).await?;
    if enforce.required == 0 {
        // They wait for an acknowledgement that the new rule does not ask for any more. Ending
        // them tells their clients "unknown", which is the truth.
        connection.execute(END_WAITS, BOUND).await?;
    }
    bootstrap::ensure(&connection, assignment.peers.keys()).await?;
    while outsiders(&connection, enforce).await? > 0 {
        if !is_wanted(instance, life, generation) {
            return Err(PerformError::Stale("the rule is another now"));
        }
        tokio::time::sleep(STEP).await;
    }
    commit(instance, &connection, enforce).await?;
    let mut state = instance.state();
    if state.life == life && state.enforcing == Some((life, generation)) {
        tracing::info!(%generation, names = settings::standby_names(enforce), "rule enforced");
        state.enforced = Some(generation);
    }
    Ok(())
}

const END_WAITS: &str =
    "select pg_terminate_backend(pid) from pg_stat_activity where wait_event = 'SyncRep'";

/// A fresh session sees the setting.
async fn shown(connection: &Connection, enforce: &Enforce) -> Result<(), PerformError> {
    let query = "select current_setting('synchronous_standby_names') || ' ' \
                 || current_setting('synchronous_commit')";
    let commit = if enforce.required == 0 { "local" } else { "on" };
    let wanted = format!("{} {commit}", settings::standby_names(enforce));
    let seen = connection.text(query, BOUND).await?.unwrap_or_default();
    if seen == wanted {
        return Ok(());
    }
    Err(PerformError::NotYet(format!("a fresh session sees {seen}")))
}

/// The names, quoted for SQL; they hold only a-z, 0-9 and -.
fn listed(enforce: &Enforce) -> String {
    let names: Vec<String> = enforce.instances.iter().map(|name| format!("'{name}'")).collect();
    if names.is_empty() { "''".to_owned() } else { names.join(",") }
}

/// How many walsenders outside of the rule still have a part in it.
async fn outsiders(connection: &Connection, enforce: &Enforce) -> Result<u64, SqlError> {
    let query = format!(
        "select count(*) from pg_stat_replication \
         where sync_priority > 0 and lower(application_name) not in ({})",
        listed(enforce)
    );
    let count = connection.text(&query, BOUND).await?;
    Ok(count.and_then(|text| text.parse().ok()).unwrap_or(1))
}

/// A commit under the rule that returns, with the flush of enough of the named behind it; or, with
/// nobody named, one that waits.
async fn commit(
    instance: &Instance,
    connection: &Connection,
    enforce: &Enforce,
) -> Result<(), PerformError> {
    let level = if enforce.required == 0 { "local" } else { "on" };
    let own = instance.access.connect().await?;
    let pid = own.text("select pg_backend_pid()", BOUND).await?.unwrap_or_default();
    let update = format!(
        "begin; set local synchronous_commit = {level}; \
         update baton.pulse set beat = beat + 1, at = clock_timestamp() where id = 3; commit"
    );
    let warned = own.warnings();
    let committing = own.client().batch_execute(&update);
    if enforce.instances.is_empty() && enforce.required > 0 {
        let waits = async {
            let query = format!("select wait_event from pg_stat_activity where pid = {pid}");
            while connection.text(&query, BOUND).await?.as_deref() != Some("SyncRep") {
                tokio::time::sleep(STEP).await;
            }
            Ok::<(), SqlError>(())
        };
        // Dropping the connection leaves the commit waiting in the server.
        return tokio::select! {
            biased;
            returned = committing => {
                returned.map_err(SqlError::from)?;
                Err(PerformError::NotYet("a commit returned that should have waited".into()))
            }
            waiting = waits => Ok(waiting?),
        };
    }
    committing.await.map_err(SqlError::from)?;
    if own.warnings() != warned {
        return Err(PerformError::NotYet("the proof's wait was cancelled".into()));
    }
    flushed(connection, enforce).await
}

async fn flushed(connection: &Connection, enforce: &Enforce) -> Result<(), PerformError> {
    if enforce.required == 0 {
        return Ok(());
    }
    let end = connection.text("select pg_current_wal_flush_lsn()", BOUND).await?;
    let query = format!(
        "select count(*) >= {} from pg_stat_replication where state = 'streaming' \
         and lower(application_name) in ({}) and flush_lsn >= '{}'",
        enforce.required,
        listed(enforce),
        end.unwrap_or_default()
    );
    let begun = now();
    while connection.text(&query, BOUND).await?.as_deref() != Some("t") {
        if now().since(begun) > BOUND {
            return Err(PerformError::NotYet("too few of the named have flushed".into()));
        }
        tokio::time::sleep(STEP).await;
    }
    Ok(())
}
