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
use crate::waits;
use failover::cluster::Enforce;
use failover::report::Severity;
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
    // Nobody may have been there to see it.
    let fresh = instance.access.connect().await?.text(SHOW, BOUND).await?;
    if is_overruled(instance, NAMES, fresh.as_deref()) {
        overruled(instance, "synchronous_standby_names was overruled: restored");
    }
    let waits = {
        let mut state = instance.state();
        let before = Dynamic::load(&instance.layout).enforce;
        let kept = before.instances.intersection(&assignment.enforce.instances).count() > 0;
        if kept && before.required < assignment.enforce.required {
            // A walsender does not show how many it asks for: all have to be seen reloading.
            state.waits = false;
        }
        state.waits
    };
    let dynamic = Dynamic {
        upstream: None,
        generation: Some(generation),
        enforce: assignment.enforce.clone(),
        held: !waits && assignment.enforce.required > 0,
    };
    // The record may narrow to this rule: an older one must never be taken up again (I-07).
    instance.kept.keep(instance)?;
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
    remember(instance, dynamic);
    if cleared || Dynamic::load(&instance.layout) != *dynamic {
        dynamic.write(&instance.config, &instance.layout)?;
    }
    instance.reload().await?;
    Ok(())
}

/// How many values of our own are known again in PostgreSQL's log.
const REMEMBERED: usize = 8;

fn remember(instance: &Instance, dynamic: &Dynamic) {
    let names = dynamic.names();
    let mut state = instance.state();
    if state.names.back() != Some(&names) {
        state.names.push_back(names);
        while state.names.len() > REMEMBERED {
            state.names.pop_front();
        }
    }
}

/// Whether PostgreSQL's log says that somebody else changed what the rule rests on (F-13).
pub fn is_overruled(instance: &Instance, name: &str, value: Option<&str>) -> bool {
    let dynamic = Dynamic::load(&instance.layout);
    match name {
        "synchronous_standby_names" => {
            let own = |value: &str| {
                value == settings::standby_names(&dynamic.enforce)
                    || value == settings::standby_names(&Enforce::default())
                    || instance.state().names.iter().any(|known| known == value)
            };
            !value.is_some_and(own)
        }
        "synchronous_commit" => {
            let single = dynamic.is_single_copy();
            !matches!((value, single), (Some("on"), _) | (Some("local"), true))
        }
        _ => false,
    }
}

/// Somebody overruled the rule: commits may be acknowledged without it from here on, until it is
/// in force and proven again; then its end is the end of the doubt (I-12).
pub fn overruled(instance: &Instance, text: &str) {
    let dynamic = Dynamic::load(&instance.layout);
    let writable = instance.state().facts.as_ref().is_none_or(|facts| !facts.recovery);
    if dynamic.waits() && writable {
        {
            let mut state = instance.state();
            state.doubted = Some(now());
            state.overruled = true;
            state.waits = false;
            state.enforced = None;
            state.enforcing = None;
        }
        if let Err(error) = instance.promises.update(|memory| memory.doubt_pending = true) {
            tracing::error!(%error, "that the rule was overruled cannot be written down");
            instance.state().unwritten = true;
        }
    }
    tracing::warn!(text, "the rule was overruled");
    instance.state().note("rule-overruled", Severity::Warning, text);
    instance.speak.notify_one();
}

/// Puts our files back in force where they are not (F-13). True: they were not.
///
/// # Errors
/// [`PerformError`]
pub async fn restore(instance: &Instance) -> Result<bool, PerformError> {
    let dynamic = Dynamic::load(&instance.layout);
    let seen = instance.state().facts.as_ref().map(|facts| facts.standby_names.clone());
    if seen.is_none_or(|seen| seen == dynamic.names()) || dynamic.generation.is_none() {
        return Ok(false);
    }
    // A reload of our own may be under way: a fresh session tells.
    let connection = instance.access.connect().await?;
    let fresh = connection.text(SHOW, BOUND).await?;
    if fresh == Some(Dynamic::load(&instance.layout).names()) {
        return Ok(false);
    }
    if fresh.as_deref().is_some_and(|names| !is_overruled(instance, NAMES, Some(names))) {
        // One of ours that is not loaded yet.
        instance.reload().await?;
        return Ok(false);
    }
    put_back(instance).await?;
    Ok(true)
}

const NAMES: &str = "synchronous_standby_names";
const SHOW: &str = "show synchronous_standby_names";

/// Writes every file of ours anew and loads them.
///
/// # Errors
/// [`PerformError`]
pub async fn put_back(instance: &Instance) -> Result<(), PerformError> {
    let layout = &instance.layout;
    settings::clear_auto_conf(layout)?;
    settings::write_static(&instance.config, layout, &instance.timing())?;
    Dynamic::rewrite(&instance.config, layout, |dynamic| {
        (dynamic.generation.is_some() || dynamic.upstream.is_some()).then_some(dynamic)
    })?;
    instance.reload().await?;
    Ok(())
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
    if enforce.required == 0 {
        shown(&connection, enforce).await?;
        // They wait for an acknowledgement that the new rule does not ask for any more. Ending
        // them tells their clients "unknown", which is the truth.
        connection.execute(END_WAITS, BOUND).await?;
    }
    bootstrap::ensure(&connection, assignment.peers.keys()).await?;
    if enforce.required > 0 {
        waits::see(instance, life).await?;
    }
    shown(&connection, enforce).await?;
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
        if state.overruled && (state.waits || enforce.required == 0) {
            // From here on commits wait again: the log's end now is the end of what is in doubt.
            state.overruled = false;
            state.doubted = Some(now());
            instance.look.notify_one();
        }
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

/// Waits until enough of the named have flushed all that is written now.
///
/// # Errors
/// [`PerformError`]
pub async fn flushed(connection: &Connection, enforce: &Enforce) -> Result<(), PerformError> {
    if enforce.required == 0 {
        return Ok(());
    }
    let end = connection.text("select pg_current_wal_flush_lsn()", BOUND).await?;
    let query = format!(
        "select count(distinct lower(application_name)) >= {} from pg_stat_replication \
         where state = 'streaming' and lower(application_name) in ({}) and flush_lsn >= '{}'",
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
