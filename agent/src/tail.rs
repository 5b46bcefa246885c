//! What a lost tail held, by table, for whoever has to decide what to do about it (I-14).
//!
//! `pg_waldump` reads the kept segments; the log names tables by number, and the names come later
//! from the catalogue of the instance that follows again. A table that was made or rewritten after
//! the fork is in no catalogue any more: its number stays.

use crate::history;
use crate::instance::Instance;
use crate::sql::SqlError;
use failover::report::Severity;
use failover::{Lsn, Timeline};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};

/// The longest that the log is read for.
const READ_FOR: Duration = Duration::from_mins(2);
const BOUND: Duration = Duration::from_secs(10);
/// So many tables are named to people; all are in the file.
const NAMED: usize = 5;

/// What a tail held. Changes of transactions that did not commit are counted as well.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Transactions that committed in it.
    pub commits: u64,
    /// When the first and the last of them did, as the server that wrote it tells.
    pub committed: Option<(String, String)>,
    /// Changes of rows, by table.
    pub tables: Vec<Table>,
    /// It was read to its end.
    pub complete: bool,
    /// Names were looked up.
    #[serde(default)]
    pub resolved: bool,
}

/// Changes of one table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Tablespace, database and file, by number.
    pub file: (u32, u32, u32),
    /// Its name, where a catalogue knows it: `database.schema.table`.
    pub name: Option<String>,
    /// Rows.
    pub inserted: u64,
    /// Rows.
    pub updated: u64,
    /// Rows.
    pub deleted: u64,
}

impl Summary {
    /// Takes one line of `pg_waldump` in.
    fn read(&mut self, line: &str, tables: &mut BTreeMap<(u32, u32, u32), Table>) {
        let Some((head, rest)) = line.split_once(", desc: ") else { return };
        let resource = head.strip_prefix("rmgr: ").and_then(|text| text.split(' ').next());
        let what = rest.split([' ', '+']).next().unwrap_or_default();
        match (resource, what) {
            (Some("Transaction"), "COMMIT") => {
                self.commits += 1;
                let stamp = rest.trim_start_matches("COMMIT ").split(';').next();
                let stamp = stamp.unwrap_or_default().trim().to_owned();
                let first = self.committed.take().map_or_else(|| stamp.clone(), |known| known.0);
                self.committed = Some((first, stamp));
            }
            (
                Some("Heap" | "Heap2"),
                "INSERT" | "MULTI_INSERT" | "UPDATE" | "HOT_UPDATE" | "DELETE",
            ) => {
                let Some(file) = file_of(rest) else { return };
                let table = tables.entry(file).or_default();
                table.file = file;
                match what {
                    "INSERT" => table.inserted += 1,
                    "MULTI_INSERT" => table.inserted += first_number(rest),
                    "DELETE" => table.deleted += 1,
                    _ => table.updated += 1,
                }
            }
            _ => {}
        }
    }

    /// In one line.
    pub fn text(&self) -> String {
        let mut changes: Vec<String> = self.tables.iter().take(NAMED).map(Table::text).collect();
        if self.tables.len() > NAMED {
            changes.push(format!("{} more tables", self.tables.len() - NAMED));
        }
        let when = self
            .committed
            .as_ref()
            .map_or_else(String::new, |(first, last)| format!(", from {first} to {last}"));
        let what = if changes.is_empty() { "no rows".to_owned() } else { changes.join("; ") };
        let all = if self.complete { "" } else { " (not read to its end)" };
        format!("{} committed transactions{when}: {what}{all}", self.commits)
    }
}

impl Table {
    fn text(&self) -> String {
        let (space, database, file) = self.file;
        let name = self.name.clone().unwrap_or_else(|| format!("file {space}/{database}/{file}"));
        format!("{name} +{} ~{} -{}", self.inserted, self.updated, self.deleted)
    }
}

/// `… blkref #0: rel 1663/5/16384 blk 0`
fn file_of(text: &str) -> Option<(u32, u32, u32)> {
    let mut numbers = text.split(" rel ").nth(1)?.split(' ').next()?.split('/').map(str::parse);
    let mut next = || numbers.next()?.ok();
    Some((next()?, next()?, next()?))
}

fn first_number(text: &str) -> u64 {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).filter(|part| !part.is_empty());
    numbers.next().and_then(|number| number.parse().ok()).unwrap_or(1)
}

/// Reads the tail in the background; what follows does not wait for it.
pub fn summarise(instance: &Instance, folder: PathBuf, fork: Lsn, segment: u64) {
    let program = instance.programs.path("pg_waldump");
    tokio::spawn(async move {
        match read(&program, &folder, fork, segment).await {
            Ok(summary) => keep(&folder, &summary),
            Err(error) => tracing::warn!(%error, "the lost tail cannot be read"),
        }
    });
}

async fn read(program: &Path, folder: &Path, fork: Lsn, segment: u64) -> io::Result<Summary> {
    let mut starts: BTreeMap<Timeline, Lsn> = BTreeMap::new();
    for name in history::segments(folder) {
        if let Some((timeline, start)) = history::parse_segment(&name, segment) {
            let known = starts.entry(timeline).or_insert(start);
            *known = start.min(*known);
        }
    }
    let mut summary = Summary { complete: true, ..Summary::default() };
    let mut tables = BTreeMap::new();
    for (timeline, start) in starts {
        let reading = dump(program, folder, (timeline, start.max(fork)), &mut summary, &mut tables);
        match tokio::time::timeout(READ_FOR, reading).await {
            Ok(read) => read?,
            Err(_) => summary.complete = false,
        }
    }
    // PostgreSQL's own tables say nothing to people.
    summary.tables = tables.into_values().filter(|table| table.file.2 >= 16_384).collect();
    Ok(summary)
}

/// The end of the log is an error to `pg_waldump`: whatever it read before counts.
async fn dump(
    program: &Path,
    folder: &Path,
    (timeline, start): (Timeline, Lsn),
    summary: &mut Summary,
    tables: &mut BTreeMap<(u32, u32, u32), Table>,
) -> io::Result<()> {
    let mut child = tokio::process::Command::new(program)
        .arg(format!("--path={}", folder.display()))
        .arg(format!("--timeline={timeline}"))
        .arg(format!("--start={start}"))
        .env("LC_ALL", "C")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    if let Some(output) = child.stdout.take() {
        let mut lines = BufReader::new(output).lines();
        while let Some(line) = lines.next_line().await? {
            summary.read(&line, tables);
        }
    }
    child.wait().await.map(drop)
}

fn file(folder: &Path) -> PathBuf {
    folder.join("summary.json")
}

fn keep(folder: &Path, summary: &Summary) {
    let bytes = serde_json::to_vec_pretty(summary).unwrap_or_default();
    if let Err(error) = wire::files::write_durably(&file(folder), &bytes) {
        tracing::warn!(%error, "what the lost tail held cannot be written down");
    }
    tracing::info!(folder = %folder.display(), held = summary.text(), "lost tail read");
}

/// Looks up the names of tables in tails that were read, once PostgreSQL answers; says what the
/// newest of them held.
///
/// # Errors
/// [`SqlError`]: it is tried again.
pub async fn resolve(instance: &Arc<Instance>) -> Result<(), SqlError> {
    let folders = std::fs::read_dir(instance.layout.run.join("lost-tail"));
    for folder in folders.into_iter().flatten().flatten().map(|entry| entry.path()) {
        let known = std::fs::read(file(&folder)).ok();
        let known = known.and_then(|bytes| serde_json::from_slice::<Summary>(&bytes).ok());
        let Some(mut summary) = known.filter(|summary| !summary.resolved) else { continue };
        for table in &mut summary.tables {
            table.name = name_of(instance, table.file).await?;
        }
        summary.resolved = true;
        keep(&folder, &summary);
        let text = format!("kept in {}: {}", folder.display(), summary.text());
        instance.state().note("lost-tail", Severity::Info, text);
        instance.speak.notify_one();
    }
    Ok(())
}

async fn name_of(
    instance: &Instance,
    (space, database, file): (u32, u32, u32),
) -> Result<Option<String>, SqlError> {
    let connection = instance.access.connect().await?;
    let query = format!(
        "select datname || ' ' || case when dattablespace = {space} then 0 else {space} end \
         from pg_database where oid = {database} and datallowconn"
    );
    let Some(found) = connection.text(&query, BOUND).await? else { return Ok(None) };
    let Some((name, space)) = found.rsplit_once(' ') else { return Ok(None) };
    let connection = instance.access.of_database(name).connect().await?;
    let query = format!(
        "select n.nspname || '.' || c.relname from pg_class c join pg_namespace n \
         on n.oid = c.relnamespace where c.oid = pg_filenode_relation({space}, {file})"
    );
    let relation = connection.text(&query, BOUND).await?;
    Ok(relation.map(|relation| format!("{name}.{relation}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_counted_by_table() {
        let lines = [
            "rmgr: Heap        len (rec/tot):     59/    59, tx:        735, lsn: 0/0152A1F8, \
             prev 0/0152A1C0, desc: INSERT off 2 flags 0x00, blkref #0: rel 1663/5/16384 blk 0",
            "rmgr: Heap        len (rec/tot):     59/    59, tx:        735, lsn: 0/0152A1F8, \
             prev 0/0152A1C0, desc: HOT_UPDATE off 2, blkref #0: rel 1663/5/16384 blk 0",
            "rmgr: Heap2       len (rec/tot):     59/    59, tx:        735, lsn: 0/0152A1F8, \
             prev 0/0152A1C0, desc: MULTI_INSERT+INIT 185 tuples flags 0x02, blkref #0: rel \
             1663/5/16390 blk 0",
            "rmgr: Transaction len (rec/tot):     34/    34, tx:        735, lsn: 0/0152A238, \
             prev 0/0152A1F8, desc: COMMIT 2026-11-22 01:02:03.456789 UTC; inval msgs: catcache 7",
            "rmgr: XLOG        len (rec/tot):    114/   114, tx:          0, lsn: 0/0152A260, \
             prev 0/0152A238, desc: CHECKPOINT_SHUTDOWN redo 0/152A260; tli 1",
            "not a line of it",
        ];
        let (mut summary, mut tables) = (Summary::default(), BTreeMap::new());
        for line in lines {
            summary.read(line, &mut tables);
        }
        summary.tables = tables.into_values().collect();
        summary.complete = true;
        assert_eq!(
            summary.text(),
            "1 committed transactions, from 2026-11-22 01:02:03.456789 UTC to 2026-11-22 \
             01:02:03.456789 UTC: file 1663/5/16384 +1 ~1 -0; file 1663/5/16390 +185 ~0 -0"
        );
    }
}
