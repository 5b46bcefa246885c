//! Sealing: this instance never again receives a byte from the primary of an epoch (layer 1).
//!
//! The argument. A walreceiver can deliver WAL, and an acknowledgement, only over a connection
//! that it authenticated with the key named in its `primary_conninfo`. That key is a copy of its
//! own for every epoch. So, in this order: the promise is on disk, and every later start obeys it;
//! `primary_conninfo` is emptied; the copy is unlinked. From here on no new connection can be
//! authenticated, even by a receiver that was forked with the old `primary_conninfo`. What is left
//! are receivers that read the key before: they are children of the postmaster *now*. Each child
//! that exists now is watched until its title says what it is (a child just forked still carries
//! its parent's), and receivers are ended. Children forked later cannot have read the key. When
//! none is left, no acknowledgement can follow, and what was received is on disk or gone.
//!
//! Then replay must finish, because the log after the last complete record is worthless and
//! positions of different instances are compared by whole records. Waiting for
//! `RecoveryRetrieveRetryInterval` alone is no proof: the startup process also sleeps there
//! *before* it looks again at what the dead receiver left in `pg_wal`. It is done when it sleeps
//! with everything received replayed; or, where the last bytes received are the beginning of a
//! record, when it has looked in vain several times. The position is then where replay ended: no
//! commit record beyond it is complete, so none was acknowledged.

use crate::instance::{Instance, PerformError};
use crate::settings::Dynamic;
use crate::start::waiting;
use crate::{history, identity, processes};
use failover::position::{Position, Replay, stands};
use failover::{Epoch, Lsn};
use nix::sys::signal::Signal;
use std::time::Duration;
use wire::clock::now;

const BOUND: Duration = Duration::from_secs(10);
const STEP: Duration = Duration::from_millis(2);

/// Seals this instance for an epoch.
///
/// # Errors
/// [`PerformError`]: then it is not proven sealed yet; the promise on disk holds all the same.
pub async fn seal(instance: &Instance, epoch: Epoch) -> Result<(), PerformError> {
    let begun = now();
    let layout = &instance.layout;
    // Where it stood for an earlier epoch is not told as its place for this one.
    instance.state().sealed_at = None;
    instance.promises.seal(epoch)?;
    instance.speak.notify_one();
    let before = Dynamic::load(layout);
    if before.upstream.is_some() || !layout.baton_conf().exists() {
        let dynamic = Dynamic { upstream: None, generation: None, enforce: waiting(), held: false };
        dynamic.write(&instance.config, layout)?;
    }
    identity::forbid_streams(layout, None)?;
    let (life, pid) = {
        let mut state = instance.state();
        state.read_files(layout);
        (state.life, state.pid)
    };
    let Some(pid) = pid else { return Ok(()) };
    instance.reload().await?;
    end_receivers(pid).await?;
    if instance.state().facts.is_none() {
        // Not answering yet: sealed as far as receiving goes; its place is asked for later.
        return Ok(());
    }
    let position = stand_still(instance).await?;
    let mut state = instance.state();
    if state.life == life && instance.promises.get().pledge.sealed == epoch {
        tracing::info!(%epoch, %position, took = ?now().since(begun), "sealed");
        state.sealed_at = Some(position);
    }
    drop(state);
    instance.speak.notify_one();
    Ok(())
}

/// Ends every walreceiver among the children that the postmaster has now.
async fn end_receivers(postmaster: u32) -> Result<(), PerformError> {
    let begun = now();
    let parent = processes::title(postmaster);
    let mut left = processes::children(postmaster);
    loop {
        left.retain(|pid| may_receive(*pid, &parent));
        if left.is_empty() {
            return Ok(());
        }
        for pid in &left {
            if processes::title(*pid).contains("walreceiver") {
                processes::send(*pid, Signal::SIGTERM);
            }
        }
        if now().since(begun) > BOUND {
            return Err(PerformError::NotYet("a walreceiver does not end".into()));
        }
        tokio::time::sleep(STEP).await;
    }
}

/// It is a receiver, or too young to tell.
fn may_receive(pid: u32, parent_title: &str) -> bool {
    if !processes::is_alive(pid) {
        return false;
    }
    let title = processes::title(pid);
    title.contains("walreceiver") || title == parent_title || !title.starts_with("postgres:")
}

const RESUME: &str = "select pg_wal_replay_resume() where pg_is_in_recovery()";

const PLACE: &str = "
select pg_last_wal_replay_lsn()::text || ' ' ||
       coalesce(pg_last_wal_receive_lsn(), '0/0')::text || ' ' ||
       (select pid from pg_stat_activity where backend_type = 'startup') || ' ' ||
       coalesce((select wait_event from pg_stat_activity where backend_type = 'startup'), '-')";

/// One look, and the startup process.
fn place(text: &str) -> Option<(Replay, u32)> {
    let mut words = text.split(' ');
    let (replayed, received) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let startup = words.next()?.parse().ok()?;
    let sleeps = words.next()? == "RecoveryRetrieveRetryInterval";
    Some((Replay { replayed, received: Some(received), sleeps }, startup))
}

/// Replay that stands still for so long is taken to wait for a reader's lock or snapshot (F-19):
/// whatever delay a superuser granted readers, a failover does not wait for them.
const CONFLICT: Duration = Duration::from_millis(700);

/// Sessions of clients; ours belong to the bootstrap superuser.
const END_READERS: &str = "
select pg_terminate_backend(pid) from pg_stat_activity
 where backend_type = 'client backend' and usesysid <> 10";

/// Waits until replay has finished, and says where.
async fn stand_still(instance: &Instance) -> Result<Position, PerformError> {
    let connection = instance.control().await?;
    // A person may have paused it, and would be waited for in vain.
    connection.execute(RESUME, BOUND).await?;
    let begun = now();
    let mut seen: Option<Replay> = None;
    let (mut vain, mut wakes) = (0, 0);
    let mut moved = begun;
    loop {
        if now().since(begun) > BOUND {
            return Err(PerformError::NotYet("replay has not finished yet".into()));
        }
        let text = connection.text(PLACE, BOUND).await?;
        let Some((here, startup)) = text.as_deref().and_then(place) else {
            tokio::time::sleep(STEP).await;
            continue;
        };
        if here.sleeps && Some(here.replayed) < here.received {
            // A wake that it slept through proves nothing, and disproves nothing.
            let woken = switches(startup);
            vain = if seen == Some(here) { vain + u32::from(woken > wakes) } else { 0 };
            wakes = woken;
        } else {
            vain = 0;
        }
        if let Some(lsn) = stands(seen.as_ref(), &here, vain) {
            return position(instance, lsn);
        }
        if seen.as_ref().is_none_or(|seen| seen.replayed != here.replayed) {
            moved = now();
        } else if now().since(moved) > CONFLICT && !here.sleeps {
            connection.execute(END_READERS, BOUND).await?;
            moved = now();
        }
        if here.sleeps && Some(here.replayed) < here.received {
            // Wake it, so that it looks at once.
            processes::send(startup, Signal::SIGHUP);
            tokio::time::sleep(STEP * 4).await;
        } else {
            tokio::time::sleep(STEP).await;
        }
        seen = Some(here);
    }
}

fn position(instance: &Instance, lsn: Lsn) -> Result<Position, PerformError> {
    let data = &instance.layout.data;
    let timeline = history::timeline_at(data, lsn);
    timeline
        .and_then(|timeline| history::position(data, timeline, lsn))
        .ok_or_else(|| PerformError::NotYet("the timeline's history cannot be read".into()))
}

/// How often a process has gone to sleep of its own accord.
fn switches(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))
        .and_then(|count| count.trim().parse().ok())
        .unwrap_or(0)
}
