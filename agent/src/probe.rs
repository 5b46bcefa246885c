//! What PostgreSQL says of itself: two prepared statements on one kept connection.

use crate::sql::{Access, Connection, SqlError};
use failover::{Lsn, Timeline};
use std::time::Duration;
use tokio_postgres::{Row, Statement};

const FACTS: &str = "
select pg_is_in_recovery(),
       case when not pg_is_in_recovery()
            then pg_walfile_name(pg_current_wal_insert_lsn()) end,
       case when not pg_is_in_recovery() then pg_current_wal_flush_lsn()::text end,
       case when pg_is_in_recovery() then pg_last_wal_receive_lsn()::text end,
       case when pg_is_in_recovery() then pg_last_wal_replay_lsn()::text end,
       (select timeline_id from pg_control_checkpoint()),
       r.status,
       r.received_tli,
       extract(epoch from r.last_msg_receipt_time)::float8,
       greatest(0, extract(epoch from clock_timestamp() - r.last_msg_receipt_time))::float8,
       current_setting('synchronous_standby_names'),
       (select wait_event from pg_stat_activity where backend_type = 'startup'),
       current_setting('fsync') || current_setting('full_page_writes'),
       exists (select from pg_stat_get_activity($1) a
                where $1 > 0 and a.wait_event_type in ('IO', 'LWLock')),
       r.latest_end_lsn::text
  from (select 1) one left join pg_stat_wal_receiver r on true";

const STREAMS: &str = "
select application_name, coalesce(usename, ''), state = 'streaming', flush_lsn::text, pid,
       sync_priority, client_addr::text
  from pg_stat_replication";

/// Longer than a server that answers needs to understand two questions.
const BOUND: Duration = Duration::from_secs(2);

/// PostgreSQL as one probe saw it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// In recovery, so read-only.
    pub recovery: bool,
    /// The end of its durable log, where it is writable.
    pub end: Lsn,
    /// The timeline it writes.
    pub timeline: Timeline,
    /// What it received, in recovery; `None`: nothing since its start.
    pub received: Option<Lsn>,
    /// What it replayed, in recovery.
    pub replayed: Lsn,
    /// The timeline of its last checkpoint.
    pub checkpoint: Timeline,
    /// The receiver, if there is one.
    pub receiver: Option<ReceiverFacts>,
    /// The rule that new sessions see.
    pub standby_names: String,
    /// What the startup process waits for.
    pub startup_waits: Option<String>,
    /// `fsync` and `full_page_writes` are on.
    pub durable: bool,
    /// The commit under way that was asked about waits for the server's own disk: for its turn to
    /// write the log, or in writing.
    pub writes: bool,
    /// Who streams from it.
    pub streams: Vec<StreamFacts>,
}

impl Facts {
    /// It is writable, and has written no checkpoint on its timeline yet.
    pub fn lacks_checkpoint(&self) -> bool {
        !self.recovery && self.checkpoint != self.timeline
    }
}

/// A row of `pg_stat_wal_receiver`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReceiverFacts {
    /// Its status is `streaming`.
    pub streaming: bool,
    /// The timeline it receives.
    pub timeline: Timeline,
    /// When the last message came, by the wall clock: only ever compared for being the same.
    pub stamp: f64,
    /// How long ago that was, by the same clock.
    pub age: Duration,
    /// The end of the upstream's log, as it said then.
    pub upstream_end: Option<Lsn>,
}

/// A row of `pg_stat_replication`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamFacts {
    /// The name it gave itself.
    pub name: String,
    /// The role it proved.
    pub role: String,
    /// Its state is `streaming`.
    pub streaming: bool,
    /// What it flushed.
    pub flushed: Lsn,
    /// Its process.
    pub pid: i32,
    /// Its place in the rule; 0: it is in none.
    pub priority: i32,
    /// Its address; `None`: over the agent's own socket.
    pub from: Option<String>,
}

/// A kept connection with the statements prepared.
#[derive(Debug)]
pub struct Probe {
    connection: Connection,
    facts: Statement,
    streams: Statement,
}

impl Probe {
    /// Connects and prepares.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn connect(access: &Access) -> Result<Self, SqlError> {
        let connection = access.connect().await?;
        let client = connection.client();
        let preparing =
            async { Ok((client.prepare(FACTS).await?, client.prepare(STREAMS).await?)) };
        let prepared: Result<_, SqlError> =
            tokio::time::timeout(BOUND, preparing).await.map_err(|_| SqlError::Timeout)?;
        let (facts, streams) = prepared?;
        Ok(Self { connection, facts, streams })
    }

    /// Asks; `commit` is the session with the commit under way, 0 for none.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn look(&self, commit: i32) -> Result<Facts, SqlError> {
        let row = self.connection.client().query_one(&self.facts, &[&commit]).await?;
        let mut facts = read(&row)?;
        if !facts.recovery {
            let rows = self.connection.client().query(&self.streams, &[]).await?;
            facts.streams = rows.iter().filter_map(|row| stream(row).ok()).collect();
        }
        Ok(facts)
    }
}

fn read(row: &Row) -> Result<Facts, SqlError> {
    let lsn = |at: usize| -> Result<Option<Lsn>, SqlError> {
        let text: Option<&str> = row.try_get(at)?;
        text.map(|text| text.parse().map_err(|_| SqlError::Answer("a WAL position"))).transpose()
    };
    let timeline = |at: usize| -> Result<Timeline, SqlError> {
        let number: Option<i32> = row.try_get(at)?;
        Ok(Timeline(number.map_or(0, i32::unsigned_abs)))
    };
    let file: Option<&str> = row.try_get(1)?;
    let written = file.and_then(|name| u32::from_str_radix(name.get(..8)?, 16).ok());
    let status: Option<&str> = row.try_get(6)?;
    let age: Option<f64> = row.try_get(9)?;
    let stamp: Option<f64> = row.try_get(8)?;
    let receiver = match status {
        Some(status) => Some(ReceiverFacts {
            streaming: status == "streaming",
            timeline: timeline(7)?,
            stamp: stamp.unwrap_or(0.0),
            age: Duration::try_from_secs_f64(age.unwrap_or(0.0)).unwrap_or_default(),
            upstream_end: lsn(14)?,
        }),
        None => None,
    };
    Ok(Facts {
        recovery: row.try_get(0)?,
        end: lsn(2)?.unwrap_or_default(),
        timeline: Timeline(written.unwrap_or(0)),
        received: lsn(3)?,
        replayed: lsn(4)?.unwrap_or_default(),
        checkpoint: timeline(5)?,
        receiver,
        standby_names: row.try_get(10)?,
        startup_waits: row.try_get(11)?,
        durable: row.try_get::<_, &str>(12)? == "onon",
        writes: row.try_get(13)?,
        streams: Vec::new(),
    })
}

fn stream(row: &Row) -> Result<StreamFacts, SqlError> {
    let flushed: Option<&str> = row.try_get(3)?;
    Ok(StreamFacts {
        name: row.try_get(0)?,
        role: row.try_get(1)?,
        streaming: row.try_get::<_, Option<bool>>(2)?.unwrap_or(false),
        flushed: flushed.and_then(|text| text.parse().ok()).unwrap_or_default(),
        pid: row.try_get(4)?,
        priority: row.try_get::<_, Option<i32>>(5)?.unwrap_or(0),
        from: row.try_get(6)?,
    })
}
