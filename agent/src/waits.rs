//! Proof that commits wait (F-15).
//!
//! PostgreSQL lets a commit wait only while a flag in its shared memory says that standbys are
//! named, and that flag is the checkpointer's to set: at the server's start, and after a reload
//! that changed the list from empty. A view that says `sync`, and a commit that returned with its
//! standbys' flush behind it, are no proof of the flag. So a placeholder that nobody can be stands
//! in for the rule until a commit is *seen waiting*; the list is never empty afterwards, so the
//! flag stays, and the rule can take the placeholder's place. On the way every walsender is seen
//! to have loaded the placeholder, so none is left that asks for fewer than the rule does.
//!
//! Done once in a life of the server, before its first client; and again when somebody emptied the
//! list, or more standbys are required. Commits of clients wait for the few milliseconds.

use crate::instance::{Instance, PerformError};
use crate::settings::{self, Dynamic};
use crate::sql::Connection;
use failover::cluster::Enforce;
use std::sync::Arc;
use std::time::Duration;
use wire::clock::now;

const BOUND: Duration = Duration::from_secs(5);
const STEP: Duration = Duration::from_millis(1);
/// A walsender that has not loaded the placeholder by then is ended.
const PATIENCE: Duration = Duration::from_secs(1);

/// Something that is written and changes nothing: a transaction without it would not wait.
const WRITE: &str = "begin; set local synchronous_commit = on; \
                     select pg_logical_emit_message(true, 'baton', ''); commit";

/// Sees a commit wait, unless one was seen in this life of the server already; then the rule is
/// in the file again and loaded.
///
/// # Errors
/// [`PerformError`]: commits may not wait, and the placeholder stays.
pub async fn see(instance: &Arc<Instance>, life: u64) -> Result<(), PerformError> {
    let _one = instance.proof.lock().await;
    if instance.state().waits {
        // A rule may have been written held just before.
        return if Dynamic::load(&instance.layout).held { release(instance).await } else { Ok(()) };
    }
    let connection = instance.access.connect().await?;
    hold(instance, &connection).await?;
    let own = instance.access.connect().await?;
    let pid = own.text("select pg_backend_pid()", BOUND).await?.unwrap_or_default();
    let query = format!("select wait_event from pg_stat_activity where pid = {pid}");
    let seen = async {
        let begun = now();
        while connection.text(&query, BOUND).await?.as_deref() != Some("SyncRep") {
            if now().since(begun) > BOUND {
                return Err(PerformError::NotYet("no commit was seen waiting".into()));
            }
            tokio::time::sleep(STEP).await;
        }
        Ok(())
    };
    // Dropping the connection leaves the commit waiting in the server.
    tokio::select! {
        biased;
        returned = own.client().batch_execute(WRITE) => {
            returned.map_err(crate::sql::SqlError::from)?;
            return Err(PerformError::NotYet("a commit returned that should have waited".into()));
        }
        seen = seen => seen?,
    }
    {
        let mut state = instance.state();
        if state.life != life {
            return Err(PerformError::Stale("the server has ended since"));
        }
        state.waits = true;
    }
    release(instance).await
}

/// Puts the rule in the placeholder's place.
async fn release(instance: &Instance) -> Result<(), PerformError> {
    let change = |dynamic| Some(Dynamic { held: false, ..dynamic });
    let written = Dynamic::rewrite(&instance.config, &instance.layout, change)?;
    instance.reload().await?;
    shown(instance, &written.unwrap_or_default().names()).await
}

/// Puts the placeholder in force: for new sessions, and for every walsender.
async fn hold(instance: &Instance, connection: &Connection) -> Result<(), PerformError> {
    let layout = &instance.layout;
    let written = Dynamic::rewrite(&instance.config, layout, |dynamic| {
        let wanted = dynamic.generation.is_some() && !dynamic.held;
        wanted.then_some(Dynamic { held: true, ..dynamic })
    })?;
    if written.is_some() {
        instance.reload().await?;
    } else if Dynamic::load(layout).generation.is_none() {
        return Err(PerformError::Stale("no rule is written"));
    }
    shown(instance, &settings::standby_names(&Enforce::default())).await?;
    let begun = now();
    let mut ended = false;
    let count = "select count(*) from pg_stat_replication where sync_priority > 0";
    while connection.text(count, BOUND).await?.as_deref() != Some("0") {
        let waited = now().since(begun);
        if waited > BOUND {
            return Err(PerformError::NotYet("a walsender does not load the rule".into()));
        }
        if waited > PATIENCE && !ended {
            ended = true;
            let end = "select pg_terminate_backend(pid) from pg_stat_replication \
                       where sync_priority > 0";
            connection.execute(end, BOUND).await?;
        }
        tokio::time::sleep(STEP).await;
    }
    Ok(())
}

/// Waits until a fresh session sees the names: the postmaster has loaded them.
async fn shown(instance: &Instance, names: &str) -> Result<(), PerformError> {
    let begun = now();
    loop {
        let connection = instance.access.connect().await?;
        let seen = connection.text("show synchronous_standby_names", BOUND).await?;
        if seen.as_deref() == Some(names) {
            return Ok(());
        }
        if now().since(begun) > BOUND {
            let seen = seen.unwrap_or_default();
            return Err(PerformError::NotYet(format!("a fresh session sees {seen}")));
        }
        tokio::time::sleep(STEP).await;
    }
}
