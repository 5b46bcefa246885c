//! The judge of a run. It has the clients' journal and the rows of the last primary, and shares no
//! code with anything that decides.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result};
use failover::time::Moment;
use nix::sys::signal::Signal;
use serde::Serialize;
use wire::clock;

use super::database;
use super::faults::heal;
use super::journal::{Item, Outcome, Read, Write};
use super::stage::Stage;
use crate::lab::cluster::control::Part;
use crate::lab::layout::SERVICE;
use crate::script::Planes;

/// What clients were told and what is left of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Writes sent.
    pub writes: u64,
    /// Acknowledged.
    pub acknowledged: u64,
    /// Of unknown outcome.
    pub unknown: u64,
    /// Acknowledged with a warning that nobody had been waited for (F-10).
    pub warned: u64,
    /// Reads answered.
    pub reads: u64,
    /// Acknowledged, but missing (I-01).
    pub missing: u64,
    /// Of those with a warning, missing.
    pub warned_missing: u64,
    /// Read, but vanished (I-02).
    pub vanished: u64,
    /// Acknowledged by a former primary after a later one had acknowledged (I-03).
    pub late: u64,
    /// Reads by a former primary that were begun after a later one had acknowledged.
    pub stale: u64,
}

/// Ends the clients and holds their journal against the rows of the last primary, once there is
/// one: for that, everything is healed and started again.
///
/// # Errors
/// When no primary can be read.
pub(super) fn judge(stage: &Stage<'_>, given_up: bool) -> Result<Tally> {
    let rows = rows(stage)?;
    let journal = {
        let mut load = stage.lock_load();
        load.end();
        std::sync::Arc::clone(&load.journal)
    };
    // What was acknowledged between the query and the end of the clients is in neither: again.
    let rows = rows.union(&self::rows(stage)?).copied().collect::<BTreeSet<Item>>();
    let (writes, reads, seen, pending) = journal.whole();
    let local: BTreeSet<Item> =
        writes.iter().filter(|w| w.outcome == Outcome::Local).map(|w| w.item).collect();
    let count = |outcome: Outcome| writes.iter().filter(|w| w.outcome == outcome).count() as u64;
    let lost = |outcome: Outcome| {
        let acked = writes.iter().filter(|w| w.outcome == outcome);
        acked.filter(|w| !rows.contains(&w.item)).count() as u64
    };
    let (late, stale) = out_of_order(&writes, &reads);
    // What an operator gave up by name was in doubt: acknowledged with a warning, or not known.
    let doubtful = |write: &&Write| matches!(write.outcome, Outcome::Warned | Outcome::Unknown);
    let forgone: BTreeSet<Item> =
        writes.iter().filter(doubtful).map(|write| write.item).chain(pending.clone()).collect();
    let gone = seen.iter().filter(|item| !rows.contains(item) && !local.contains(item));
    let vanished = gone.filter(|item| !given_up || !forgone.contains(item)).count() as u64;
    Ok(Tally {
        writes: (writes.len() + pending.len()) as u64,
        acknowledged: count(Outcome::Acked),
        unknown: count(Outcome::Unknown) + pending.len() as u64,
        warned: count(Outcome::Warned),
        reads: reads.len() as u64,
        missing: lost(Outcome::Acked),
        warned_missing: lost(Outcome::Warned),
        vanished,
        late,
        stale,
    })
}

/// The rows of the primary that there is in the end.
fn rows(stage: &Stage<'_>) -> Result<BTreeSet<Item>> {
    let query = format!(
        "select writer, n from baton_probe.items where run = '{}' and not pg_is_in_recovery()",
        stage.run
    );
    let mut healed = false;
    let began = clock::now();
    let bound = Duration::from_secs(100);
    let every = Duration::from_millis(500);
    let text = stage.stop.until("a primary that can be read", bound, every, || {
        let home = stage.look().as_ref().and_then(crate::lab::answers::Status::home);
        let asked = home.map(|home| {
            let recovering = "select pg_is_in_recovery()";
            let soon = Duration::from_secs(5);
            if database::ask(&stage.cluster, &home, recovering, soon)? != "f" {
                return Ok(None);
            }
            database::ask(&stage.cluster, &home, &query, Duration::from_secs(30)).map(Some)
        });
        if let Some(Ok(Some(text))) = asked {
            return Ok(Some(text));
        }
        if !healed && clock::now().since(began) > Duration::from_secs(3) {
            healed = true;
            mend(stage);
        }
        Ok(None)
    })?;
    let row = |line: &str| {
        let (writer, n) = line.split_once('|')?;
        Some(Item { writer: writer.parse().ok()?, n: n.parse().ok()? })
    };
    text.lines().map(|line| row(line).with_context(|| format!("`{line}` is no row"))).collect()
}

/// Everything goes again, as far as it is still there.
fn mend(stage: &Stage<'_>) {
    let cluster = &stage.cluster;
    if let Ok(network) = cluster.network() {
        let _ = heal(network, None, None, &Planes::default());
    }
    cluster.disks.iter().for_each(|disk| {
        disk.thaw();
        disk.free();
    });
    for site in stage.all() {
        cluster.signal_part(&site, Part::Site, Signal::SIGCONT);
        let _ = cluster.start_site(&site);
    }
    let resume = ["resume", SERVICE, "--reason", "the scenario is over"];
    let _ = cluster.output(&resume, Duration::from_secs(10));
}

/// Acknowledgements and reads of a timeline begun after one of a later timeline was over. Every
/// promotion raises the timeline, so in real time it never falls.
fn out_of_order(writes: &[Write], reads: &[Read]) -> (u64, u64) {
    let acked = |write: &&Write| matches!(write.outcome, Outcome::Acked | Outcome::Warned);
    let mut ends: Vec<(Moment, u32)> = writes
        .iter()
        .filter(acked)
        .filter_map(|write| Some((write.done, write.timeline?)))
        .collect();
    ends.sort_unstable();
    let mut highest = 0;
    for (_, timeline) in &mut ends {
        highest = highest.max(*timeline);
        *timeline = highest;
    }
    let before = |at: Moment| {
        let index = ends.partition_point(|(done, _)| *done < at);
        index.checked_sub(1).and_then(|last| ends.get(last)).map_or(0, |(_, timeline)| *timeline)
    };
    let late = writes.iter().filter(|write| {
        matches!(write.outcome, Outcome::Acked | Outcome::Warned | Outcome::Local)
            && write.timeline.is_some_and(|timeline| timeline < before(write.sent))
    });
    let stale = reads.iter().filter(|read| read.timeline < before(read.sent));
    (late.count() as u64, stale.count() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(sent: u64, done: u64, timeline: u32) -> Write {
        Write {
            item: Item { writer: 1, n: sent },
            outside: true,
            sent: Moment(sent),
            done: Moment(done),
            server: ([127, 0, 0, 1], 1).into(),
            timeline: Some(timeline),
            outcome: Outcome::Acked,
        }
    }

    #[test]
    fn i03_an_acknowledgement_of_a_former_primary_is_seen() {
        let in_order = [write(1, 2, 1), write(3, 9, 1), write(4, 5, 2), write(6, 7, 2)];
        assert_eq!(out_of_order(&in_order, &[]), (0, 0), "the third overlaps the second");
        let late = [write(1, 2, 1), write(4, 5, 2), write(6, 7, 1)];
        assert_eq!(out_of_order(&late, &[]), (1, 0));
        let read = |sent: u64, timeline| Read {
            outside: true,
            sent: Moment(sent),
            done: Moment(sent + 1),
            server: ([127, 0, 0, 1], 1).into(),
            timeline,
        };
        assert_eq!(out_of_order(&in_order, &[read(5, 1), read(6, 1)]), (0, 1));
    }
}
