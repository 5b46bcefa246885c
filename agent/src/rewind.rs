//! The return of a former primary: keep what will be lost, then `pg_rewind`.
//!
//! A rewind that was begun and not finished leaves a directory that looks whole and is not (I-15).
//! So before it begins, the memory says that this directory is beyond help, and only its success
//! takes that back: whatever happens in between, the directory is never started.

use crate::clone::{conninfo_as, move_aside};
use crate::history::{self, Control};
use crate::identity;
use crate::instance::{Instance, PerformError};
use crate::layout::{remove_durably, sync_folder, sync_tree};
use crate::postgres::PostgresError;
use crate::settings::{self, Upstream};
use crate::start::resolve;
use crate::tail;
use failover::position::Position;
use failover::report::Severity;
use failover::{Epoch, InstanceId, Lsn, Timeline};
use serde_json::json;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

const STEP: Duration = Duration::from_millis(50);

/// Makes this directory's history a part of the upstream's.
///
/// # Errors
/// [`PerformError`]: before the rewind began the directory is as it was; after, it is quarantined.
pub async fn rewind(instance: &Instance, upstream: &InstanceId) -> Result<(), PerformError> {
    let upstream = resolve(instance, upstream)?;
    let layout = &instance.layout;
    if instance.state().pid.is_some() {
        return Err(PerformError::Stale("PostgreSQL is running"));
    }
    crate::processes::end_strangers(&layout.data).await;
    identity::allow_stream(layout, upstream.epoch)?;
    let source = conninfo_as(instance, &upstream, "pg_rewind");
    let target = settled(instance, &upstream, &source).await?;
    let control = history::control(&layout.data)?;
    // After a crash the control file may still be of the timeline before its promotion.
    let own = history::newest_timeline(&layout.data).max(control.timeline);
    let led = instance.promises.get().led.filter(|_| control.led);
    let twin = led.is_some()
        && (own == target.timeline
            || is_unknown(instance, led.unwrap_or_default(), &source).await?);
    if !twin && is_in(history::clean_end(&layout.data, &control).as_ref(), &target) {
        tracing::info!("its end is in the primary's history: nothing to rewind");
        return follows_again(instance);
    }
    instance.forget_locks();
    keep_tail(instance, &control, &target)?;
    if twin {
        // Two instances that were promoted from one place, the second without having heard of the
        // first, both count on to the same number. Whoever led wrote a timeline of its own, and
        // whoever leads after it was promoted to another; but `pg_rewind` takes them for one, and
        // says that nothing is to be done.
        instance.promises.update(|memory| memory.beyond = true)?;
        return Err(PerformError::NotYet(format!(
            "timeline {own} of {} is another one: only a new copy helps",
            upstream.instance
        )));
    }
    remove_durably(&layout.data.join("standby.signal"))?;
    let _under_way = UnderWay::begin(instance);
    instance.promises.update(|memory| memory.beyond = true)?;
    instance.state().note("rewind", Severity::Info, format!("to {}", upstream.instance));
    instance.speak.notify_one();
    let data = layout.data.display().to_string();
    let server = format!("{source} dbname=postgres");
    // Its crash recovery ends with a checkpoint, which with the data directory's own settings would
    // remove the very log that a rewind needs: ours keep it.
    settings::write_static(&instance.config, layout, &instance.timing())?;
    let ours = format!("--config-file={}", layout.postgresql_conf().display());
    let arguments = ["-D", &data, "--source-server", &server, &ours, "--no-sync"];
    let outcome = instance.programs.run("pg_rewind", &arguments).await;
    instance.state().notes.remove("rewind");
    match outcome {
        Ok(_) => {
            wire::files::write_secret(&layout.data.join("standby.signal"), b"")?;
            sync_tree(&layout.data)?;
            follows_again(instance)
        }
        Err(error) if never_began(&error) => {
            instance.promises.update(|memory| memory.beyond = false)?;
            Err(error.into())
        }
        Err(error) => {
            quarantine(instance, &error)?;
            Err(error.into())
        }
    }
}

/// Whether the primary's history lacks this instance's leadership of an epoch: then whatever it
/// wrote as a primary may hide behind a timeline's number, also one that the primary has since
/// left for another.
async fn is_unknown(instance: &Instance, epoch: Epoch, source: &str) -> Result<bool, PerformError> {
    let query = format!(
        "select count(*) from baton.marker where epoch = {epoch} and instance = '{}'",
        instance.config.instance
    );
    Ok(instance.programs.ask(source, &query).await?.trim() != "1")
}

/// While it lives, the law sees a rewind that goes on, and not a directory beyond help.
struct UnderWay<'a>(&'a Instance);

impl<'a> UnderWay<'a> {
    fn begin(instance: &'a Instance) -> Self {
        instance.state().rewinding = true;
        Self(instance)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.state().rewinding = false;
    }
}

fn follows_again(instance: &Instance) -> Result<(), PerformError> {
    instance.promises.update(|memory| {
        memory.led = None;
        memory.refused = false;
        memory.beyond = false;
        memory.doubt_pending = false;
    })?;
    instance.state().overruled = false;
    instance.examine();
    Ok(())
}

/// The source could not be reached: `pg_rewind` connects before it writes.
fn never_began(error: &PostgresError) -> bool {
    matches!(error, PostgresError::Tool { message, .. }
        if message.contains("connection to server") && !message.contains("servers diverged"))
}

fn quarantine(instance: &Instance, error: &PostgresError) -> Result<(), PerformError> {
    tracing::error!(%error, "the rewind failed: the directory is set aside and copied anew");
    move_aside(instance, "quarantine")?;
    let text = format!("failed, data directory quarantined: {error}");
    instance.state().note("rewind-failed", Severity::Warning, text);
    Ok(())
}

/// Waits until the upstream is writable and its control file is on its current timeline: before
/// that `pg_rewind` would say that nothing is to be done. Gives its place in history, without end.
async fn settled(
    instance: &Instance,
    upstream: &Upstream,
    source: &str,
) -> Result<Position, PerformError> {
    let query = "select case when pg_is_in_recovery() then '0 0' else \
                 (select timeline_id from pg_control_checkpoint()) || ' ' || \
                 ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int end";
    for _ in 0..100 {
        let text = instance.programs.ask(source, query).await?;
        let mut numbers = text.split(' ').filter_map(|word| word.parse::<u32>().ok());
        if let (Some(checkpoint), Some(current)) = (numbers.next(), numbers.next())
            && checkpoint == current
            && current > 0
        {
            let timeline = Timeline(current);
            let history = history_of(instance, source, timeline).await?;
            return Ok(Position { timeline, history, lsn: Lsn(u64::MAX) });
        }
        tokio::time::sleep(STEP).await;
    }
    Err(PerformError::NotYet(format!("{} is not ready to be rewound to", upstream.instance)))
}

async fn history_of(
    instance: &Instance,
    source: &str,
    timeline: Timeline,
) -> Result<Vec<failover::position::Switch>, PerformError> {
    if timeline.0 <= 1 {
        return Ok(Vec::new());
    }
    let query = format!(
        "select convert_from(pg_read_binary_file('pg_wal/{}'), 'UTF8')",
        history::file_name(timeline)
    );
    Ok(history::parse(&instance.programs.ask(source, &query).await?))
}

/// Whether a clean end is known, and part of the target's history.
fn is_in(end: Option<&Position>, target: &Position) -> bool {
    end.is_some_and(|end| target.contains(end))
}

/// Copies the segments from the fork on: acknowledged by nobody, but someone's all the same
/// (I-14).
fn keep_tail(
    instance: &Instance,
    control: &Control,
    target: &Position,
) -> Result<(), PerformError> {
    let layout = &instance.layout;
    let fork = target
        .history
        .iter()
        .find(|switch| switch.timeline == control.timeline)
        .map_or(Lsn(0), |switch| switch.at);
    let epoch = instance.promises.get().led.unwrap_or_default();
    let folder = layout.lost_tail(epoch);
    std::fs::create_dir_all(&folder)?;
    let wal = layout.data.join("pg_wal");
    let mut kept = Vec::new();
    for name in history::segments(&wal) {
        let Some((timeline, start)) = history::parse_segment(&name, control.segment) else {
            continue;
        };
        let reaches = start.0.saturating_add(control.segment) > fork.0;
        // Also what it wrote after a promotion whose first checkpoint it did not live to see.
        if timeline >= control.timeline && reaches && is_written(&wal.join(&name), start) {
            let copy = folder.join(&name);
            std::fs::copy(wal.join(&name), &copy)?;
            File::open(&copy)?.sync_all()?;
            kept.push(name);
        }
    }
    let manifest = json!({
        "system_identifier": control.system_identifier,
        "epoch": epoch,
        "timeline": control.timeline,
        "fork": fork,
        "segment_bytes": control.segment,
        "segments": kept,
        "kept_at": wire::clock::wall(),
    });
    wire::files::write_durably(&folder.join("manifest.json"), manifest.to_string().as_bytes())?;
    sync_folder(&folder)?;
    tracing::info!(%fork, segments = kept.len(), folder = %folder.display(), "lost tail kept");
    let text = format!("the log from {fork} on is kept in {}", folder.display());
    instance.state().note("lost-tail", Severity::Info, text);
    tail::summarise(instance, folder, fork, control.segment);
    Ok(())
}

/// A recycled segment carries a name of the future and pages of the past.
fn is_written(path: &Path, start: Lsn) -> bool {
    let mut address = [0u8; 8];
    File::open(path).and_then(|file| file.read_exact_at(&mut address, 8)).is_ok()
        && u64::from_ne_bytes(address) == start.0
}
