//! Proof of writability: the epoch's marker, then a durable pulse once a heartbeat.
//!
//! A commit that waits for its standbys is never cancelled (F-10): a cancelled wait is a commit
//! that PostgreSQL calls successful and that may exist nowhere else. It is left waiting on its own
//! connection; when the server dies, it is begun anew.

use crate::bootstrap;
use crate::instance::{Instance, PerformError};
use crate::settings::Dynamic;
use failover::{Assignment, Epoch};
use std::sync::Arc;
use std::time::Duration;
use wire::clock::now;

/// Begins the proof of an epoch in the background, unless it is under way.
///
/// # Errors
/// [`PerformError::Stale`]
pub fn prove(instance: &Arc<Instance>, epoch: Epoch) -> Result<(), PerformError> {
    let assignment = instance.assignment()?;
    if assignment.epoch != epoch || instance.promises.get().pledge.granted != epoch {
        return Err(PerformError::Stale("the epoch to be proven is not this instance's"));
    }
    let mut state = instance.state();
    let life = state.life;
    if state.proving == Some((life, epoch)) {
        return Ok(());
    }
    state.proving = Some((life, epoch));
    drop(state);
    let instance = Arc::clone(instance);
    tokio::spawn(async move {
        let outcome = mark(&instance, &assignment, life).await;
        let mut state = instance.state();
        if state.proving == Some((life, epoch)) {
            state.proving = None;
        }
        drop(state);
        if let Err(error) = outcome {
            tracing::warn!(%error, %epoch, "the marker is not committed yet");
        }
        instance.wake.notify_one();
        instance.speak.notify_one();
    });
    Ok(())
}

async fn mark(
    instance: &Arc<Instance>,
    assignment: &Assignment,
    life: u64,
) -> Result<(), PerformError> {
    let epoch = assignment.epoch;
    let connection = instance.access.connect().await?;
    bootstrap::ensure(&connection, assignment.peers.keys()).await?;
    let (commit, counts) = durability(instance);
    let begun = now();
    let statements = format!(
        "begin; set local synchronous_commit = {commit}; \
         insert into baton.marker values ({epoch}, '{}', clock_timestamp()) \
         on conflict do nothing; \
         update baton.pulse set beat = beat + 1, at = clock_timestamp() where id = 2; commit",
        assignment.instance
    );
    let warned = connection.warnings();
    connection.client().batch_execute(&statements).await.map_err(crate::sql::SqlError::from)?;
    if connection.warnings() != warned {
        return Err(PerformError::NotYet("the marker's wait was cancelled".into()));
    }
    let mut state = instance.state();
    if state.life != life {
        return Err(PerformError::Stale("the server has ended since"));
    }
    tracing::info!(%epoch, took = ?now().since(begun), "marker committed");
    state.proven = Some(epoch);
    if counts {
        state.committed = state.committed.max(Some(begun));
    }
    drop(state);
    tokio::spawn(pulse(Arc::clone(instance), life));
    Ok(())
}

/// How commits are made durable now, and whether one says anything about the standbys.
fn durability(instance: &Instance) -> (&'static str, bool) {
    if Dynamic::load(&instance.layout).is_single_copy() { ("local", false) } else { ("on", true) }
}

/// One durable commit a heartbeat, for as long as the server lives; each begins only after the one
/// before is done. The begin of the newest is when enough standbys were last known to answer.
async fn pulse(instance: Arc<Instance>, life: u64) {
    let Ok(connection) = instance.access.connect().await else { return };
    let update = "update baton.pulse set beat = beat + 1, at = clock_timestamp() where id = 1";
    let Ok(statement) = connection.client().prepare(update).await else { return };
    while instance.state().life == life {
        let (_, counts) = durability(&instance);
        let warned = connection.warnings();
        let begun = now();
        if connection.client().execute(&statement, &[]).await.is_err() {
            break;
        }
        if counts && connection.warnings() == warned {
            let mut state = instance.state();
            if state.life != life {
                return;
            }
            let waits = state.committed.is_none();
            state.committed = state.committed.max(Some(begun));
            drop(state);
            if waits {
                instance.wake.notify_one();
            }
        }
        let rest = instance.timing().heartbeat.saturating_sub(now().since(begun));
        tokio::time::sleep(rest.max(Duration::from_millis(10))).await;
    }
    // Its connection was ended and the server was not: the proof begins again.
    let mut state = instance.state();
    if state.life == life {
        state.proven = None;
    }
    drop(state);
    instance.wake.notify_one();
}
