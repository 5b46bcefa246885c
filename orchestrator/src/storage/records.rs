//! The audit records on disk: a table of their own, in the same file and the same transactions as
//! the log. A record is written when the entry that it tells of leaves the log; until then that
//! entry is it. None is ever dropped.

use redb::{ReadTransaction, ReadableDatabase, TableDefinition, WriteTransaction};

use super::{StorageError, Store, Trouble, damaged};
use crate::audit::{Head, Hole, Line, PAGE_BYTES, PAGE_LINES, follow};

const RECORDS: TableDefinition<u64, &[u8]> = TableDefinition::new("audit");

/// Adds records.
pub(super) fn write(transaction: &WriteTransaction, lines: &[Line]) -> Result<(), Trouble> {
    if lines.is_empty() {
        return Ok(());
    }
    let mut table = transaction.open_table(RECORDS)?;
    for line in lines {
        table.insert(line.number, line.text.as_bytes())?;
    }
    Ok(())
}

/// Holds every record against its hash and against the one before it, from the first to `end`,
/// which the snapshot names; what the hole says is missing may be missing (I-34).
pub(super) fn check(transaction: &ReadTransaction, hole: &Hole, end: &Head) -> Result<(), Trouble> {
    let mut parts = vec![(Head::default(), *end)];
    if hole.is_open() {
        parts = vec![(Head::default(), hole.lower), (hole.upper, *end)];
    }
    for (begin, end) in parts {
        let mut reached = begin;
        while reached.number < end.number {
            let lines = read(transaction, reached.number + 1)?;
            if lines.is_empty() {
                let missing = reached.number + 1;
                return Err(Trouble(format!("audit record {missing} is missing")));
            }
            let wanted = usize::try_from(end.number - reached.number).unwrap_or(usize::MAX);
            for line in lines.iter().take(wanted) {
                reached = follow(&reached, line).map_err(|reason| {
                    Trouble(format!("audit record {}: {reason}", reached.number + 1))
                })?;
            }
        }
        if reached != end {
            return Err(Trouble(format!("audit record {reached} should be {end}")));
        }
    }
    Ok(())
}

/// The lines from record `from` on, without a gap, as many as fit one page.
fn read(transaction: &ReadTransaction, from: u64) -> Result<Vec<String>, Trouble> {
    let table = match transaction.open_table(RECORDS) {
        Ok(table) => table,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let (mut lines, mut bytes) = (Vec::new(), 0);
    for (expected, row) in (from..).zip(table.range(from..)?).take(PAGE_LINES) {
        let (number, text) = row?;
        bytes += text.value().len();
        if number.value() != expected || (bytes > PAGE_BYTES && !lines.is_empty()) {
            break;
        }
        let text = String::from_utf8(text.value().to_vec());
        lines.push(text.map_err(|_| Trouble(format!("audit record {expected} is not text")))?);
    }
    Ok(lines)
}

impl Store {
    /// The audit records from number `from` on, as they are exported, without a gap and as many as
    /// fit one page. Nothing, where there is none yet or it is missing.
    ///
    /// # Errors
    /// [`StorageError::Damaged`] when the table cannot be read.
    pub fn records(&self, from: u64) -> Result<Vec<String>, StorageError> {
        let transaction = self.database.begin_read().map_err(Trouble::from);
        transaction
            .and_then(|transaction| read(&transaction, from))
            .map_err(|trouble| damaged(&self.name, &trouble.0))
    }
}
