//! Measured at leisure: what a promise or a later promotion of this instance rests on. Facts only;
//! the law judges them (`failover/src/fitness.rs`).
//!
//! What cannot be known from outside: what a running session has set for itself. PostgreSQL shows
//! no session the settings of another, so `set synchronous_commit = local` in a client is seen by
//! nobody (F-16); only what makes sessions start that way is.

use crate::guard::watchdog;
use crate::instance::Instance;
use crate::layout::Layout;
use crate::settings;
use crate::sql::{Connection, SqlError};
use crate::state::State;
use crate::{survey, tail};
use failover::checks::{
    Checks, EXPOSURES_NAMED, Exposure, ExposureKind, Exposures, FloorSettings, RewindReady,
    SLOTS_NAMED, Slot,
};
use failover::report::Severity;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::Row;
use wire::clock::now;

/// Between two measurements, while there are few databases.
const EVERY: Duration = Duration::from_secs(20);
const BOUND: Duration = Duration::from_secs(10);
/// So many databases are looked into; the others are named as not seen.
const DATABASES: usize = 64;
/// So many exposures are read from one database.
const AT_MOST: usize = 1_000;

const SETTINGS: &str = "
select name, setting, coalesce(unit, '') from pg_settings
 where name in ('max_wal_size', 'wal_keep_size', 'max_slot_wal_keep_size', 'fsync',
                'full_page_writes', 'wal_log_hints', 'data_checksums', 'max_connections',
                'max_worker_processes', 'max_wal_senders', 'max_prepared_transactions',
                'max_locks_per_transaction')";

const GRANTED: &str = "
select coalesce(bool_and(
         has_function_privilege(m.member, 'pg_ls_dir(text, boolean, boolean)', 'execute')
     and has_function_privilege(m.member, 'pg_stat_file(text, boolean)', 'execute')
     and has_function_privilege(m.member, 'pg_read_binary_file(text)', 'execute')
     and has_function_privilege(m.member, 'pg_read_binary_file(text, bigint, bigint, boolean)',
                                'execute')), false)
  from pg_auth_members m where m.roleid = to_regrole('baton_instances')::oid";

const SLOTS: &str = "
select slot_name::text, active, coalesce(wal_status = 'lost', false),
       coalesce(greatest(0, pg_wal_lsn_diff(
         case when pg_is_in_recovery() then pg_last_wal_replay_lsn()
              else pg_current_wal_flush_lsn() end, restart_lsn)), 0)::bigint
  from pg_replication_slots order by 4 desc, 1";

const DAMAGED: &str = "select coalesce(sum(checksum_failures), 0)::bigint from pg_stat_database";

/// Levels below `on`; and what would hide a cancelled wait from the server's log.
const SET_FOR: &str = "
select coalesce('role ' || r.rolname, 'every role')
       || coalesce(' in database ' || d.datname, ''), c
  from pg_db_role_setting s cross join unnest(s.setconfig) c
  left join pg_roles r on r.oid = s.setrole left join pg_database d on d.oid = s.setdatabase
 where c ~* '^synchronous_commit=(off|local|remote_write|false|no|0)$'
    or c ~* '^log_min_messages=(error|log|fatal|panic)$'
    or (c ~* '^lc_messages=' and c !~* '^lc_messages=(c|posix)$')
 order by 1, 2";

const OPEN: &str = "
select datname::text from pg_database where datallowconn and not datistemplate order by 1";

const WITHIN: &str = "
select 'function', p.oid::regprocedure::text, c
  from pg_proc p cross join unnest(p.proconfig) c
 where c ~* '^synchronous_commit=(off|local|remote_write|false|no|0)$'
union all
select 'table', c.oid::regclass::text, 'is not replicated, and empty after a failover'
  from pg_class c where c.relpersistence = 'u' and c.relkind in ('r', 'p')
 order by 1, 2 limit 1000";

/// Measures for as long as the agent runs.
pub async fn measure(instance: Arc<Instance>) {
    let mut rest = Duration::from_secs(1);
    let mut seen = (0, false);
    let mut round: u64 = 0;
    loop {
        let asked = wait(&instance, rest, seen).await;
        let (life, primary) = {
            let state = instance.state();
            (state.life, state.facts.as_ref().map(|facts| !facts.recovery))
        };
        let Some(primary) = primary else {
            rest = Duration::from_secs(1);
            continue;
        };
        seen = (life, primary);
        if let Err(error) = tail::resolve(&instance).await {
            tracing::debug!(%error, "a lost tail's tables cannot be named now");
        }
        crate::reserve::keep(&instance.layout.run);
        match look(&instance, primary).await {
            Ok((checks, databases)) => {
                take(&instance, life, checks, databases);
                rest = beat(databases);
                // Every second time also what costs more; what failed is tried again at once.
                let failed = instance.state().survey.lacks_a_login();
                let thorough = asked || failed || round.is_multiple_of(2);
                round = round.wrapping_add(1);
                if let Err(error) = survey::look(&instance, life, thorough).await {
                    tracing::debug!(%error, "cannot be looked at now");
                    instance.state().survey.forget_what_was_not_seen();
                }
                instance.speak.notify_one();
            }
            Err(error) => {
                tracing::debug!(%error, "cannot be measured now");
                rest = Duration::from_secs(2);
            }
        }
    }
}

/// Waits for the next round: until somebody asks, or the server is another, or has become a
/// primary or a standby since the last. True: it was not only time that passed.
async fn wait(instance: &Instance, rest: Duration, seen: (u64, bool)) -> bool {
    let until = now().after(rest);
    loop {
        let left = until.since(now()).min(Duration::from_secs(1));
        if tokio::time::timeout(left, instance.measure.notified()).await.is_ok() {
            return true;
        }
        let state = instance.state();
        let known = state.facts.as_ref().map(|facts| (state.life, !facts.recovery));
        drop(state);
        if known.is_some_and(|known| known != seen) {
            return true;
        }
        if now() >= until {
            return false;
        }
    }
}

/// Takes over what was measured in a life of the server.
fn take(instance: &Instance, life: u64, checks: Checks, databases: usize) {
    let mut state = instance.state();
    if state.life == life {
        state.checks = checks;
        state.survey.measured = Some(now());
        state.survey.every = beat(databases);
        judge_watchdog(instance, &mut state);
        drop(state);
        instance.speak.notify_one();
    }
}

/// The more databases there are, the rarer.
fn beat(databases: usize) -> Duration {
    EVERY.saturating_mul(u32::try_from(databases / 4).unwrap_or(u32::MAX).max(1))
}

/// Whether the watchdog that the operator switched on can do what it is there for.
fn judge_watchdog(instance: &Instance, state: &mut State) {
    let Some(path) = &instance.config.watchdog else { return };
    let timing = state.assignment.as_ref().map(|known| known.timing.clone()).unwrap_or_default();
    let within = timing.suspect_after.saturating_sub(crate::guard::patience(&timing));
    match watchdog::doubtful(path, within) {
        Some(text) => state.note("watchdog", Severity::Warning, text),
        None => drop(state.notes.remove("watchdog")),
    }
}

async fn look(instance: &Instance, primary: bool) -> Result<(Checks, usize), SqlError> {
    let connection = instance.access.connect().await?;
    let found = rows(&connection, SETTINGS).await?;
    let known: BTreeMap<String, (String, String)> = found
        .iter()
        .filter_map(|row| Some((text(row, 0)?, (text(row, 1)?, text(row, 2)?))))
        .collect();
    let number = |name: &str| known.get(name).and_then(|(value, _)| value.parse::<u64>().ok());
    // A limit of -1 is none: it is no number here.
    let bytes = |name: &str| {
        let unit = known.get(name).map(|(_, unit)| unit_bytes(unit))?;
        number(name).map(|value| value.saturating_mul(unit))
    };
    let on = |name: &str| known.get(name).is_some_and(|(value, _)| value == "on");
    let small = |name: &str| number(name).and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
    let granted = rows(&connection, GRANTED).await?;
    let granted = granted.first().and_then(|row| row.try_get(0).ok()).unwrap_or(false);
    let damaged = rows(&connection, DAMAGED).await?;
    let damaged: i64 = damaged.first().and_then(|row| row.try_get(0).ok()).unwrap_or(0);
    let slots = rows(&connection, SLOTS).await?;
    let need = bytes("max_wal_size").zip(bytes("wal_keep_size"));
    let (exposures, databases) = if primary {
        let (exposures, databases) = exposures(instance, &connection, &known).await?;
        (Some(exposures), databases)
    } else {
        (None, 0)
    };
    let checks = Checks {
        exposed: false,
        hangs: Duration::ZERO,
        wal_free: room(&instance.layout),
        wal_need: need.map(|(size, kept)| size.saturating_add(kept)),
        floor: Some(FloorSettings {
            max_connections: small("max_connections"),
            max_worker_processes: small("max_worker_processes"),
            max_wal_senders: small("max_wal_senders"),
            max_prepared_transactions: small("max_prepared_transactions"),
            max_locks_per_transaction: small("max_locks_per_transaction"),
        }),
        rewind: Some(RewindReady {
            hints: on("wal_log_hints") || on("data_checksums"),
            full_pages: on("full_page_writes"),
            granted,
        }),
        slots: slots.iter().take(SLOTS_NAMED).filter_map(slot).collect(),
        slot_limit: bytes("max_slot_wal_keep_size"),
        checksum_failures: damaged.unsigned_abs(),
        exposures,
    };
    Ok((checks, databases))
}

fn unit_bytes(unit: &str) -> u64 {
    match unit {
        "kB" => 1 << 10,
        "8kB" => 8 << 10,
        "MB" => 1 << 20,
        "GB" => 1 << 30,
        _ => 1,
    }
}

/// Bytes that PostgreSQL's user may still write where the log is written. Cheap, and looked at with
/// every probe: a disk fills in seconds, and who has no room is not promoted.
pub fn room(layout: &Layout) -> Option<u64> {
    crate::layout::free(&layout.data.join("pg_wal")).ok()
}

fn slot(row: &Row) -> Option<Slot> {
    let holds: i64 = row.try_get(3).ok()?;
    Some(Slot {
        name: text(row, 0)?,
        holds: holds.unsigned_abs(),
        active: row.try_get(1).ok()?,
        lost: row.try_get(2).ok()?,
    })
}

async fn exposures(
    instance: &Instance,
    connection: &Connection,
    known: &BTreeMap<String, (String, String)>,
) -> Result<(Exposures, usize), SqlError> {
    let mut found = Vec::new();
    for name in ["fsync", "full_page_writes"] {
        if known.get(name).is_some_and(|(value, _)| value == "off") {
            found.push(exposure(ExposureKind::Server, name, "off"));
        }
    }
    for row in rows(connection, SET_FOR).await? {
        if let (Some(whom), Some(what)) = (text(&row, 0), text(&row, 1)) {
            found.push(exposure(ExposureKind::RoleOrDatabase, &whom, &what));
        }
    }
    let open = open_databases(connection).await?;
    let mut unseen: Vec<String> = open.iter().skip(DATABASES).cloned().collect();
    for database in open.iter().take(DATABASES) {
        match within(instance, database).await {
            Ok(more) => found.extend(more),
            Err(error) => {
                tracing::debug!(%error, database, "cannot be looked into");
                unseen.push(database.clone());
            }
        }
    }
    unseen.truncate(EXPOSURES_NAMED);
    let more = u64::try_from(found.len().saturating_sub(EXPOSURES_NAMED)).unwrap_or(0);
    found.truncate(EXPOSURES_NAMED);
    Ok((Exposures { named: found, more, unseen }, open.len()))
}

/// What one database holds that lowers durability.
async fn within(instance: &Instance, database: &str) -> Result<Vec<Exposure>, SqlError> {
    let connection = instance.access.of_database(database).connect().await?;
    let kind = |word: &str| {
        if word == "table" { ExposureKind::Unlogged } else { ExposureKind::Function }
    };
    let found = rows(&connection, WITHIN).await?;
    let each = found.iter().take(AT_MOST).filter_map(|row| {
        let name = format!("{database}.{}", text(row, 1)?);
        Some(exposure(kind(&text(row, 0)?), &name, &text(row, 2)?))
    });
    Ok(each.collect())
}

fn exposure(kind: ExposureKind, name: &str, detail: &str) -> Exposure {
    let short = |text: &str| text.chars().take(120).collect::<String>();
    Exposure { kind, name: short(name), detail: short(detail) }
}

/// The databases that can be looked into.
pub(crate) async fn open_databases(connection: &Connection) -> Result<Vec<String>, SqlError> {
    Ok(rows(connection, OPEN).await?.iter().filter_map(|row| text(row, 0)).collect())
}

pub(crate) fn text(row: &Row, at: usize) -> Option<String> {
    row.try_get::<_, String>(at).ok()
}

pub(crate) async fn rows(connection: &Connection, query: &str) -> Result<Vec<Row>, SqlError> {
    let asking = connection.client().query(query, &[]);
    Ok(tokio::time::timeout(BOUND, asking).await.map_err(|_| SqlError::Timeout)??)
}

/// Two that stream under one name from different places, each with that name's certificate: the
/// processes of those that do not come from where the instance was declared, if one does (F-14).
/// `None`: there are two, and it cannot be told which is which.
pub fn twins(
    streams: &[crate::probe::StreamFacts],
    declared: &BTreeMap<failover::InstanceId, failover::topology::Instance>,
) -> Option<Vec<u32>> {
    let mut strangers = Vec::new();
    for stream in streams {
        let others = |other: &&crate::probe::StreamFacts| {
            other.name.eq_ignore_ascii_case(&stream.name) && other.from != stream.from
        };
        if !streams.iter().any(|other| others(&other)) {
            continue;
        }
        let Some(instance) = stream.name.parse().ok().and_then(|id| declared.get(&id)) else {
            continue;
        };
        let home = |from: &Option<String>| {
            let from = from.as_deref().and_then(|text| text.parse().ok());
            from == Some(instance.postgres.ip()) || from == Some(instance.agent.ip())
        };
        if home(&stream.from) {
            continue;
        }
        if !streams.iter().filter(others).any(|other| home(&other.from)) {
            return None;
        }
        strangers.push(stream.pid.unsigned_abs());
    }
    Some(strangers)
}

/// The names that release commits: those of the rule, and the placeholder's.
pub fn releases(enforce: &failover::cluster::Enforce, name: &str) -> bool {
    name.eq_ignore_ascii_case(settings::NOBODY)
        || enforce.instances.iter().any(|id| id.as_str().eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::StreamFacts;

    fn stream(name: &str, from: &str, pid: i32) -> StreamFacts {
        StreamFacts {
            name: name.into(),
            role: format!("baton-{name}"),
            streaming: true,
            flushed: failover::Lsn(1),
            pid,
            priority: 1,
            from: Some(from.into()),
        }
    }

    #[test]
    fn i09_a_twin_from_elsewhere_is_told_from_the_instance() {
        let instance = failover::topology::Instance {
            site: "b".parse().unwrap(),
            postgres: "10.0.0.2:5432".parse().unwrap(),
            agent: "10.0.0.2:7500".parse().unwrap(),
            public: None,
        };
        let declared = BTreeMap::from([("b".parse().unwrap(), instance)]);
        let (own, other) = (stream("b", "10.0.0.2", 1), stream("b", "10.0.0.9", 2));
        assert_eq!(twins(&[own.clone(), own.clone()], &declared), Some(vec![]), "a reconnection");
        assert_eq!(twins(&[own.clone(), other.clone()], &declared), Some(vec![2]));
        let third = stream("b", "10.0.0.8", 3);
        assert_eq!(twins(&[other.clone(), third], &declared), None);
        assert_eq!(twins(&[other], &declared), Some(vec![]), "behind a translation, perhaps");
    }
}
