//! Looked at rarely: what a failover rests on and no decision asks for. Logins at the other
//! instances as replication and `pg_rewind` make them, the programs that the data needs beside
//! PostgreSQL, the certificate, prepared transactions. Facts only; the law judges them
//! (`failover/src/readiness/`).
//!
//! A login here never streams: it asks who the server is and leaves, under a name that is in no
//! rule and that only programs have (I-09). A pledge is not touched by it.

use crate::instance::Instance;
use crate::layout::Layout;
use crate::measure::{open_databases, rows, text};
use crate::probe::Facts;
use crate::settings;
use crate::sql::{Connection, SqlError};
use failover::position::reaches;
use failover::survey::{
    COLLATIONS, Collation, EXTENSIONS, Extension, Login, Prepared, Purpose, Software, Survey,
};
use failover::topology::Instance as Declared;
use failover::{InstanceId, Moment, Role, SystemIdentifier, Timestamp};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::task::JoinSet;
use wire::clock;

/// A login takes no longer, or has failed.
const LOGIN: Duration = Duration::from_secs(5);
/// So many databases are looked into; the others are named as not seen.
const DATABASES: usize = 64;
/// A backlog that was worked off altogether says how fast replay is only if it was this large.
const WORTH: u64 = 1 << 20;
/// Between two surveys that say the same but for ages.
const TOLD_EVERY: Duration = Duration::from_secs(10);

const PREPARED: &str = "
select count(*), coalesce(extract(epoch from max(clock_timestamp() - prepared)), 0)::float8
  from pg_prepared_xacts";

const PAUSED: &str = "
select pg_is_in_recovery() and pg_get_wal_replay_pause_state() <> 'not paused'";

const EXTENSIONS_HERE: &str = "
select e.extname::text, e.extversion, a.default_version
  from pg_extension e left join pg_available_extensions a on a.name = e.extname order by 1";

const COLLATIONS_HERE: &str = "
select 'database ' || datname, datcollversion, pg_database_collation_actual_version(oid)
  from pg_database where datname = current_database()
   and datcollversion <> pg_database_collation_actual_version(oid)
union all
select current_database() || ': ' || collname, collversion, pg_collation_actual_version(oid)
  from pg_collation where collversion <> pg_collation_actual_version(oid)
 order by 1 limit 16";

/// What was looked at, and when; forgotten with the life of the server.
#[derive(Clone, Debug, Default)]
pub struct Looked {
    /// When the server and its machine were last measured ([`crate::measure`]).
    pub measured: Option<Moment>,
    /// How often that is.
    pub every: Duration,
    certificate: Option<Timestamp>,
    logins: BTreeMap<(InstanceId, Purpose), (Moment, Option<String>)>,
    prepared: Option<Prepared>,
    paused: bool,
    software: Option<(Moment, Software)>,
    replays: Option<u64>,
}

impl Looked {
    /// The account of it.
    pub fn tell(&self, now: Moment, wall: Timestamp) -> Survey {
        let age = |at: Moment| now.since(at);
        let login =
            |((to, purpose), (at, failure)): (&(InstanceId, Purpose), &(Moment, _))| Login {
                to: to.clone(),
                purpose: *purpose,
                failure: Clone::clone(failure),
                age: age(*at),
            };
        Survey {
            measured_ms: self.measured.map(|at| u64::try_from(age(at).as_millis()).unwrap_or(0)),
            every: self.every,
            wall,
            certificate_seconds: self
                .certificate
                .map(|end| end.0.saturating_sub(wall.0).div_euclid(1_000)),
            logins: self.logins.iter().map(login).collect(),
            prepared: self.prepared,
            software: self
                .software
                .clone()
                .map(|(at, software)| Software { age: age(at), ..software }),
            replays: self.replays,
            paused: self.paused,
        }
    }

    /// Whether a login failed the last time, or was not tried yet.
    pub fn lacks_a_login(&self) -> bool {
        self.logins.is_empty() || self.logins.values().any(|(_, failure)| failure.is_some())
    }

    /// What has no age of its own is not known any more.
    pub fn forget_what_was_not_seen(&mut self) {
        self.prepared = None;
        self.paused = false;
    }

    /// How fast it replays, between the probe before and this one: as fast as it can where it was
    /// busy all the time; where it worked off a large backlog, at least so fast.
    pub fn note_replay(&mut self, before: (Moment, &Facts), now: (Moment, &Facts)) {
        let ((then, old), (at, new)) = (before, now);
        let micros = at.since(then).as_micros();
        if !old.recovery || !new.recovery || micros == 0 {
            return;
        }
        let had = reaches(old.received, old.replayed);
        let done = new.replayed.bytes_since(old.replayed);
        let busy = had > old.replayed && (new.replayed < had || done >= WORTH);
        if busy {
            let rate = u128::from(done) * 1_000_000 / micros;
            self.replays = self.replays.max(u64::try_from(rate).ok());
        }
    }
}

/// When a survey was last told, and what it said.
#[derive(Debug, Default)]
pub struct Told(Option<(Moment, Survey)>);

impl Told {
    /// The survey, if it is due: it says something new, or was not told for a while.
    pub fn due(&mut self, instance: &Instance) -> Option<Box<Survey>> {
        let now = clock::now();
        let survey = instance.state().survey.tell(now, clock::wall());
        let essence = essence(&survey);
        let due = self
            .0
            .as_ref()
            .is_none_or(|(at, before)| now.since(*at) >= TOLD_EVERY || *before != essence);
        due.then(|| {
            self.0 = Some((now, essence));
            Box::new(survey)
        })
    }
}

/// What of a survey is worth telling at once: everything but ages.
fn essence(survey: &Survey) -> Survey {
    let mut essence = survey.clone();
    essence.measured_ms = survey.measured_ms.map(|_| 0);
    essence.wall = Timestamp(0);
    essence.certificate_seconds = survey.certificate_seconds.map(|_| 0);
    essence.logins.iter_mut().for_each(|login| login.age = Duration::ZERO);
    essence.replays = survey.replays.map(|_| 0);
    if let Some(prepared) = &mut essence.prepared {
        prepared.oldest = Duration::ZERO;
    }
    if let Some(software) = &mut essence.software {
        software.age = Duration::ZERO;
    }
    essence
}

/// Looks at everything that is cheap, and with `thorough` at the rest; of one life of the server.
///
/// # Errors
/// [`SqlError`]: PostgreSQL does not answer; what was known grows old.
pub async fn look(instance: &Instance, life: u64, thorough: bool) -> Result<(), SqlError> {
    let connection = instance.access.connect().await?;
    let prepared = prepared(&connection).await?;
    let paused = rows(&connection, PAUSED).await?;
    let paused = paused.first().and_then(|row| row.try_get(0).ok()).unwrap_or(false);
    let certificate = wire::tls::end_of(&instance.layout.tls("tls.crt"));
    note(instance, life, |looked| {
        (looked.prepared, looked.paused) = (prepared, paused);
        looked.certificate = certificate;
    });
    if thorough {
        let began = clock::now();
        let software = software(instance, &connection).await?;
        note(instance, life, |looked| looked.software = Some((began, software)));
        let logins = log_in_everywhere(instance).await;
        note(instance, life, |looked| looked.logins = logins);
    }
    Ok(())
}

fn note(instance: &Instance, life: u64, change: impl FnOnce(&mut Looked)) {
    let mut state = instance.state();
    if state.life == life {
        change(&mut state.survey);
    }
}

async fn prepared(connection: &Connection) -> Result<Option<Prepared>, SqlError> {
    let found = rows(connection, PREPARED).await?;
    Ok(found.first().and_then(|row| {
        let (count, oldest): (i64, f64) = (row.try_get(0).ok()?, row.try_get(1).ok()?);
        let oldest = Duration::try_from_secs_f64(oldest).unwrap_or_default();
        Some(Prepared { count: count.unsigned_abs(), oldest })
    }))
}

async fn software(instance: &Instance, connection: &Connection) -> Result<Software, SqlError> {
    let preloads = rows(connection, "select current_setting('shared_preload_libraries')").await?;
    let mut software = Software {
        preloads: preloads.first().and_then(|row| text(row, 0)).unwrap_or_default(),
        ..Software::default()
    };
    let open = open_databases(connection).await?;
    software.unseen = open.iter().skip(DATABASES).cloned().collect();
    for database in open.iter().take(DATABASES) {
        match within(instance, database).await {
            Ok((extensions, collations)) => {
                software.extensions.extend(extensions);
                software.collations.extend(collations);
            }
            Err(error) => {
                tracing::debug!(%error, database, "its extensions cannot be looked at");
                software.unseen.push(database.clone());
            }
        }
    }
    // What is there comes last: it is what may be left out.
    software
        .extensions
        .sort_by(|a, b| (a.available.is_some(), &a.name).cmp(&(b.available.is_some(), &b.name)));
    software.extensions.dedup();
    software.extensions.truncate(EXTENSIONS);
    software.collations.truncate(COLLATIONS);
    software.unseen.truncate(COLLATIONS);
    Ok(software)
}

async fn within(
    instance: &Instance,
    database: &str,
) -> Result<(Vec<Extension>, Vec<Collation>), SqlError> {
    let connection = instance.access.of_database(database).connect().await?;
    let extensions = rows(&connection, EXTENSIONS_HERE).await?;
    let extension = |row| {
        Some(Extension { name: text(row, 0)?, installed: text(row, 1)?, available: text(row, 2) })
    };
    let extensions = extensions.iter().filter_map(extension).collect();
    let collations = rows(&connection, COLLATIONS_HERE).await?;
    let collation = |row| {
        Some(Collation { name: text(row, 0)?, recorded: text(row, 1)?, actual: text(row, 2)? })
    };
    Ok((extensions, collations.iter().filter_map(collation).collect()))
}

/// Tries to log in at every other instance, for both purposes, all at once. Not while this
/// instance is sealed or stopped: it has sworn off its upstream then.
async fn log_in_everywhere(
    instance: &Instance,
) -> BTreeMap<(InstanceId, Purpose), (Moment, Option<String>)> {
    let Ok(assignment) = instance.assignment() else { return BTreeMap::new() };
    match assignment.role {
        Role::Primary { .. } | Role::Standby { .. } => {}
        Role::Idle | Role::Stopped | Role::Fenced | Role::Sealed => return BTreeMap::new(),
    }
    let own = instance.state().system_identifier;
    let mut tries = JoinSet::new();
    for (to, declared) in assignment.peers {
        for purpose in [Purpose::Replication, Purpose::Rewind] {
            if to != instance.config.instance {
                let source = conninfo(instance, &declared, purpose);
                let (to, programs) = (to.clone(), instance.programs.clone());
                tries.spawn(async move {
                    let trying = log_in(&programs, &source, purpose, own);
                    let failure = match tokio::time::timeout(LOGIN, trying).await {
                        Ok(tried) => tried.err(),
                        Err(_) => Some(format!("no answer within {} s", LOGIN.as_secs())),
                    };
                    ((to, purpose), (clock::now(), failure))
                });
            }
        }
    }
    tries.join_all().await.into_iter().collect()
}

fn conninfo(instance: &Instance, to: &Declared, purpose: Purpose) -> String {
    let program = match purpose {
        Purpose::Replication => "pg_basebackup",
        Purpose::Rewind => "pg_rewind",
    };
    let layout: &Layout = &instance.layout;
    let key = layout.tls("tls.key");
    settings::conninfo_with(&instance.config, layout, to.postgres, (program, &key))
}

async fn log_in(
    programs: &crate::postgres::Programs,
    source: &str,
    purpose: Purpose,
    own: Option<SystemIdentifier>,
) -> Result<(), String> {
    let asked = match purpose {
        Purpose::Replication => {
            programs.ask(&format!("{source} replication=true"), "IDENTIFY_SYSTEM").await
        }
        Purpose::Rewind => {
            programs
                .ask(source, "select pg_read_binary_file('global/pg_control') is not null")
                .await
        }
    };
    let said = asked.map_err(|error| brief(&error.to_string()))?;
    // systemid|timeline|xlogpos|dbname
    let theirs = said.split('|').next().unwrap_or_default();
    match own {
        Some(own) if purpose == Purpose::Replication && theirs != own.to_string() => {
            Err(format!("it is of system identifier {theirs}, this is {own}"))
        }
        Some(_) | None => Ok(()),
    }
}

/// What libpq said, without who said it and what it suggests.
fn brief(error: &str) -> String {
    let said = error.rsplit("psql: error: ").next().unwrap_or(error);
    said.split(" / ").next().unwrap_or(said).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use failover::Lsn;

    fn probe(received: u64, replayed: u64) -> Facts {
        let received = Some(Lsn(received));
        Facts { recovery: true, received, replayed: Lsn(replayed), ..Facts::default() }
    }

    #[test]
    fn how_fast_it_replays_is_seen_only_while_it_is_busy() {
        let (then, at) = (Moment(0), Moment(500_000));
        let mib = 1_u64 << 20;
        let mut looked = Looked::default();
        let mut note = |old: &Facts, new: &Facts| {
            looked.note_replay((then, old), (at, new));
            looked.replays
        };
        assert_eq!(note(&probe(100, 100), &probe(200, 200)), None, "nothing was to be done");
        assert_eq!(note(&probe(1_000, 0), &probe(1_000, 1_000)), None, "done at once");
        assert_eq!(note(&probe(mib, 0), &probe(mib, mib / 2)), Some(mib), "busy throughout");
        assert_eq!(note(&probe(4 * mib, 0), &probe(4 * mib, 4 * mib)), Some(8 * mib), "at least");
        assert_eq!(note(&probe(mib, 0), &probe(mib, 0)), Some(8 * mib), "stuck is no measure");
        let primary = Facts::default();
        assert_eq!(note(&primary, &probe(mib, mib / 2)), Some(8 * mib));
    }

    #[test]
    fn what_libpq_says_is_brief() {
        let said = "psql: exit status: 2: psql: error: connection to server at \"127.0.2.1\", port \
                    5432 failed: Connection refused / \tIs the server running on that host";
        let short = "connection to server at \"127.0.2.1\", port 5432 failed: Connection refused";
        assert_eq!(brief(said), short);
        assert_eq!(brief("no answer"), "no answer");
    }

    #[test]
    fn ages_alone_are_no_news() {
        let mut looked = Looked { measured: Some(Moment(0)), ..Looked::default() };
        let login = ("b".parse().unwrap(), Purpose::Rewind);
        looked.logins.insert(login.clone(), (Moment(0), None));
        looked.certificate = Some(Timestamp(9_000_000));
        let early = looked.tell(Moment(1_000_000), Timestamp(5_000));
        let late = looked.tell(Moment(9_000_000), Timestamp(13_000));
        assert_ne!(early, late);
        assert_eq!(essence(&early), essence(&late));
        assert_eq!(late.certificate_seconds, Some(8_987));
        assert_eq!((late.measured_ms, late.logins[0].age), (Some(9_000), Duration::from_secs(9)));
        looked.logins.insert(login, (Moment(0), Some("refused".into())));
        assert_ne!(essence(&early), essence(&looked.tell(Moment(0), Timestamp(0))));
    }
}
