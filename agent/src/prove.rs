//! Proof of writability: the epoch's marker, then a durable pulse once a heartbeat.
//!
//! A commit that waits for its standbys is never cancelled (F-10): a cancelled wait is a commit
//! that PostgreSQL calls successful and that may exist nowhere else. It is left waiting on its own
//! connection; when the server dies, it is begun anew.

use crate::instance::{Instance, PerformError};
use crate::settings::Dynamic;
use crate::sql::{Connection, SqlError};
use crate::{bootstrap, enforce, waits};
use failover::{Assignment, Epoch, InstanceId};
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::Statement;
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
    let dynamic = Dynamic::load(&instance.layout);
    let counts = !dynamic.is_single_copy();
    let commit = level(&dynamic);
    if counts {
        waits::see(instance, life).await?;
    }
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
    if counts {
        // Not because PostgreSQL let it return, but because enough have it (I-11).
        enforce::flushed(&connection, &Dynamic::load(&instance.layout).enforce).await?;
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

/// How commits are made durable now.
fn level(dynamic: &Dynamic) -> &'static str {
    if dynamic.is_single_copy() { "local" } else { "on" }
}

const BEAT: &str = "update baton.pulse set beat = beat + 1, at = clock_timestamp() where id = 1 \
                    returning pg_current_wal_insert_lsn()::text";

/// How many of the named have flushed up to a position, each under its own role.
const HOLD: &str = "select count(distinct application_name) from pg_stat_replication \
                    where flush_lsn >= $1::text::pg_lsn and application_name = any($2) \
                    and usename = 'baton-' || application_name";

/// One durable commit a heartbeat, for as long as the server lives; each begins only after the one
/// before is done. The begin of the newest that enough standbys hold is when they were last known
/// to answer: that it returned is not enough, for somebody may have overruled the rule (F-13).
async fn pulse(instance: Arc<Instance>, life: u64) {
    let pulsing = Pulse::begin(&instance).await;
    if let Ok(mut pulse) = pulsing {
        loop {
            let begun = now();
            if !instance.state().begin_commit(life, (pulse.session, begun)) {
                break;
            }
            let Ok(counts) = pulse.beat(&instance).await else { break };
            match instance.state().end_commit(life, begun, counts) {
                None => return,
                Some(false) => {}
                Some(true) => instance.wake.notify_one(),
            }
            let rest = instance.timing().heartbeat.saturating_sub(now().since(begun));
            tokio::time::sleep(rest.max(Duration::from_millis(10))).await;
        }
    }
    // Its connection was ended and the server was not: the proof begins again.
    let mut state = instance.state();
    if state.life == life {
        state.proven = None;
        state.commit = None;
    }
    drop(state);
    instance.wake.notify_one();
}

struct Pulse {
    connection: Connection,
    beat: Statement,
    hold: Statement,
    level: &'static str,
    session: i32,
}

impl Pulse {
    async fn begin(instance: &Instance) -> Result<Self, SqlError> {
        let connection = instance.access.connect().await?;
        let beat = connection.client().prepare(BEAT).await?;
        let hold = connection.client().prepare(HOLD).await?;
        let session = connection.client().query_one("select pg_backend_pid()", &[]).await?;
        Ok(Self { beat, hold, level: "", session: session.try_get(0)?, connection })
    }

    /// One commit. True: enough standbys hold what it wrote.
    async fn beat(&mut self, instance: &Instance) -> Result<bool, SqlError> {
        let dynamic = Dynamic::load(&instance.layout);
        let level = level(&dynamic);
        let client = self.connection.client();
        if self.level != level {
            // Whatever the role or the database is set to.
            client.batch_execute(&format!("set synchronous_commit = {level}")).await?;
            self.level = level;
        }
        let row = client.query_one(&self.beat, &[]).await?;
        let written: String = row.try_get(0)?;
        // The rule may have changed meanwhile: the newer one is asked for.
        let dynamic = Dynamic::load(&instance.layout);
        if !dynamic.waits() {
            return Ok(false);
        }
        let names: Vec<&str> = dynamic.enforce.instances.iter().map(InstanceId::as_str).collect();
        let row = client.query_one(&self.hold, &[&written, &names]).await?;
        let holding: i64 = row.try_get(0)?;
        Ok(holding >= i64::from(dynamic.enforce.required))
    }
}
