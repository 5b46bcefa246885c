//! Promotion. `pg_promote` that says false, or nothing in time, has still asked for it (F-19): the
//! outcome is unknown until `pg_is_in_recovery()` says otherwise (I-21).

use crate::admission;
use crate::history;
use crate::identity;
use crate::instance::{Instance, PerformError};
use crate::settings::{self, Dynamic};
use crate::start::RoleExt;
use std::sync::Arc;
use std::time::Duration;
use wire::clock::now;

const STEP: Duration = Duration::from_millis(2);
/// One attempt; the law asks again.
const BOUND: Duration = Duration::from_secs(1);
/// Whoever still holds replay up after this long is ended.
const GRACE: Duration = Duration::from_millis(100);

/// Promotes under the epoch's rule, which is written before.
///
/// # Errors
/// [`PerformError`]; whether it was promoted is then not known.
pub async fn promote(instance: &Arc<Instance>) -> Result<(), PerformError> {
    let assignment = instance.assignment()?;
    if !assignment.role_is_primary() || instance.promises.get().pledge.granted != assignment.epoch {
        return Err(PerformError::Stale("the epoch was not granted to this instance"));
    }
    let begun = now();
    let layout = &instance.layout;
    admission::close(layout)?;
    identity::forbid_streams(layout, None)?;
    settings::clear_auto_conf(layout)?;
    let dynamic = Dynamic {
        upstream: None,
        generation: Some(assignment.generation),
        enforce: assignment.enforce.clone(),
        // Its clients come only after the marker, and that shows first that commits wait.
        held: assignment.enforce.required > 0,
    };
    if Dynamic::load(layout) != dynamic {
        dynamic.write(&instance.config, layout)?;
    }
    instance.promises.update(|memory| memory.led = Some(assignment.epoch))?;
    instance.reload().await?;
    history::reserve(&layout.data, assignment.epoch)?;
    let connection = instance.control().await?;
    // The answer says nothing that the loop below does not find out.
    drop(connection.text("select pg_promote(false)", BOUND).await);
    let mut ended = begun;
    while connection.text("select pg_is_in_recovery()", BOUND).await?.as_deref() != Some("f") {
        let moment = now();
        if moment.since(begun) > BOUND {
            return Err(PerformError::NotYet("asked to promote, still in recovery".into()));
        }
        if moment.since(ended) > GRACE {
            ended = moment;
            connection.execute(END_CLIENTS, BOUND).await?;
        }
        tokio::time::sleep(STEP).await;
    }
    // Whoever came to read from the standby has not been admitted to the primary (I-13): no lease
    // would end these sessions, and they can write now.
    connection.execute(END_CLIENTS, BOUND).await?;
    tracing::info!(epoch = %assignment.epoch, took = ?now().since(begun), "promoted");
    {
        let mut state = instance.state();
        state.sealed_at = None;
        state.waits = false;
        state.committed = None;
        state.leased = None;
    }
    instance.look.notify_one();
    Ok(())
}

/// Sessions of clients; ours belong to the bootstrap superuser.
const END_CLIENTS: &str = "
select pg_terminate_backend(pid) from pg_stat_activity
 where backend_type = 'client backend' and usesysid <> 10";
