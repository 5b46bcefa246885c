//! The journal held against the table.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio_postgres::Client;

use super::journal::{Journal, Outcome};

/// What a run shows, now that the table is known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reconciled {
    /// The run.
    pub run: String,
    /// Writes acknowledged.
    pub acked: u64,
    /// Acknowledged, but missing in the table: the figure that must be 0.
    pub lost: u64,
    /// Their numbers.
    pub lost_numbers: Vec<u64>,
    /// Numbers acknowledged more than once. (The table cannot hold one twice.)
    pub duplicates: u64,
    /// Writes whose outcome was never learned.
    pub unknown: u64,
    /// Of those, the ones that are in the table.
    pub unknown_found: u64,
    /// Of those, the ones that are not.
    pub unknown_missing: u64,
    /// Writes turned away.
    pub refused: u64,
    /// Turned away, but in the table all the same: the server contradicted itself.
    pub refused_found: u64,
    /// Rows of the run that no line of the journal knows: the writer was killed in mid-write.
    pub unrecorded: u64,
    /// The last acknowledgement before the longest gap, in microseconds of the boot clock.
    pub last_ack_us: Option<u64>,
    /// The first one after it.
    pub first_ack_us: Option<u64>,
    /// The longest time between two acknowledgements.
    pub gap_ms: Option<f64>,
}

/// All numbers of a run that are in the table.
///
/// # Errors
/// Those of PostgreSQL.
pub async fn numbers_in_table(
    client: &Client,
    run: &str,
) -> Result<BTreeSet<u64>, tokio_postgres::Error> {
    let rows = client.query("select n from baton_probe.writes where run = $1", &[&run]).await?;
    let number = |row: &tokio_postgres::Row| row.try_get::<_, i64>(0);
    rows.iter().map(|row| Ok(u64::try_from(number(row)?).unwrap_or(u64::MAX))).collect()
}

/// Lets rows go that are older than `keep`, of the runs whose names begin so. How many went.
///
/// # Errors
/// Those of PostgreSQL.
pub async fn let_go(
    client: &Client,
    prefix: &str,
    keep: Duration,
) -> Result<u64, tokio_postgres::Error> {
    let old = "delete from baton_probe.writes \
        where starts_with(run, $1) and at < clock_timestamp() - $2 * interval '1 second'";
    client.execute(old, &[&prefix, &keep.as_secs_f64()]).await
}

/// Compares a journal with the numbers that are in the table.
pub fn held_against(journal: &Journal, table: &BTreeSet<u64>) -> Reconciled {
    let mut acks: BTreeMap<u64, u64> = BTreeMap::new();
    let (mut found, mut missing) = (0, 0);
    let (mut refused, mut refused_found) = (0, 0);
    for attempt in &journal.attempts {
        let there = table.contains(&attempt.n);
        match attempt.outcome {
            Outcome::Acked => *acks.entry(attempt.n).or_default() += 1,
            Outcome::Unknown if there => found += 1,
            Outcome::Unknown => missing += 1,
            Outcome::Refused => {
                refused += 1;
                refused_found += u64::from(there);
            }
        }
    }
    let lost: Vec<u64> = acks.keys().copied().filter(|n| !table.contains(n)).collect();
    let known: BTreeSet<u64> = journal.attempts.iter().map(|attempt| attempt.n).collect();
    let gap = journal.largest_gap();
    Reconciled {
        run: journal.head.run.clone(),
        acked: acks.len() as u64,
        lost: lost.len() as u64,
        lost_numbers: lost,
        duplicates: acks.values().filter(|count| **count > 1).count() as u64,
        unknown: found + missing,
        unknown_found: found,
        unknown_missing: missing,
        refused,
        refused_found,
        unrecorded: table.difference(&known).count() as u64,
        last_ack_us: gap.map(|gap| gap.last_ack_us),
        first_ack_us: gap.map(|gap| gap.first_ack_us),
        gap_ms: gap.map(super::journal::Gap::ms),
    }
}

#[cfg(test)]
mod tests;
