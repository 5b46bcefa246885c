//! What wakes the agent: the guard's notices, PostgreSQL's log, and the probe.

use crate::enforce;
use crate::guard::client::Notice;
use crate::instance::Instance;
use crate::measure;
use crate::probe::Facts;
use crate::processes;
use crate::rehearse::STREAMS_AS;
use crate::server_log::{self, Batch, Line};
use crate::settings::{self, Dynamic};
use failover::report::Severity;
use nix::sys::signal::Signal;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use wire::clock::now;

/// Starts all of them and connects to the guard; they end when the set is dropped.
///
/// # Errors
/// The log cannot be followed, or no guard be started.
pub async fn start(
    instance: &Arc<Instance>,
    notices: mpsc::UnboundedReceiver<Notice>,
) -> io::Result<JoinSet<()>> {
    let mut tasks = JoinSet::new();
    let batches = server_log::follow(&instance.layout.log())?;
    tasks.spawn(hear_guard(Arc::clone(instance), notices));
    tasks.spawn(hear_log(Arc::clone(instance), batches));
    instance.attach().await.map_err(io::Error::other)?;
    let runs = instance.state().pid.is_some();
    // The agent before may have died between a file and its reload.
    if runs && let Err(error) = enforce::put_back(instance).await {
        tracing::warn!(%error, "the files may not be loaded");
    }
    tasks.spawn(probe(Arc::clone(instance)));
    tasks.spawn(measure::measure(Arc::clone(instance)));
    Ok(tasks)
}

/// Takes the guard's word for what ends.
pub async fn hear_guard(instance: Arc<Instance>, mut notices: mpsc::UnboundedReceiver<Notice>) {
    while let Some(notice) = notices.recv().await {
        match notice {
            Notice::Exited(exited) => instance.note_exit(&exited),
            Notice::Lost => instance.replace_guard().await,
        }
    }
}

/// How often it is written down how far the log was read, when nothing in it mattered.
const MARK_EVERY: Duration = Duration::from_secs(1);

/// How soon the log is followed again when that ended: the disk was full, or the file is another.
const FOLLOW_AGAIN: Duration = Duration::from_millis(200);

/// Follows the log for as long as the agent runs: without it a cancelled wait is nobody's news.
async fn hear_log(instance: Arc<Instance>, mut batches: mpsc::Receiver<Batch>) {
    loop {
        hear_batches(&instance, &mut batches).await;
        tracing::error!("PostgreSQL's log is not followed any more: it is followed anew");
        batches = loop {
            tokio::time::sleep(FOLLOW_AGAIN).await;
            match server_log::follow(&instance.layout.log()) {
                Ok(batches) => break batches,
                Err(error) => tracing::error!(%error, "PostgreSQL's log cannot be followed"),
            }
        };
    }
}

async fn hear_batches(instance: &Arc<Instance>, batches: &mut mpsc::Receiver<Batch>) {
    let mut marked = now();
    while let Some(batch) = batches.recv().await {
        let matters = !batch.lines.is_empty();
        for line in batch.lines {
            if batch.missed {
                hear_missed(instance, &line).await;
            } else {
                hear_line(instance, line).await;
            }
        }
        // Only now: what was read and not yet heeded must be read again by the next agent.
        if matters || batch.missed || now().since(marked) > MARK_EVERY {
            marked = now();
            batch.mark.keep(&instance.layout.log());
        }
    }
}

/// A line that no agent was there to read: only what it says of commits still matters.
async fn hear_missed(instance: &Arc<Instance>, line: &Line) {
    match line {
        Line::WaitCancelled | Line::Gap | Line::Setting { .. } => {
            hear_line(instance, line.clone()).await;
        }
        Line::StreamLost | Line::Diverged(_) | Line::Ready | Line::Replication { .. } => {}
    }
}

async fn hear_line(instance: &Arc<Instance>, line: Line) {
    match line {
        Line::WaitCancelled => {
            instance.tally.wait_cancelled();
            doubt(instance, "a wait for synchronous replication was cancelled");
        }
        Line::Gap => doubt(instance, "lines of PostgreSQL's log may be missing"),
        Line::Setting { name, value } => hear_setting(instance, &name, value.as_deref()).await,
        Line::Diverged(text) => diverged(instance, &text),
        Line::StreamLost | Line::Ready => instance.look.notify_one(),
        Line::Replication { pid, role, name } => {
            judge_stream(instance, pid, &role, &name);
            instance.look.notify_one();
        }
    }
}

/// Commits may have been acknowledged without the rule; up to where, the next probe tells.
fn doubt(instance: &Instance, text: &str) {
    tracing::warn!(text, "commits are in doubt");
    // In this order: whoever records a position looks at the time after it has written.
    instance.state().doubted = Some(now());
    if let Err(error) = instance.promises.update(|memory| memory.doubt_pending = true) {
        tracing::error!(%error, "the doubt cannot be written down");
        // Said all the same, until it is.
        instance.state().unwritten = true;
    }
    instance.state().note("wait-cancelled", Severity::Warning, text);
    instance.speak.notify_one();
    instance.look.notify_one();
}

/// Somebody reloaded other values (F-13): ours are put back at once.
async fn hear_setting(instance: &Arc<Instance>, name: &str, value: Option<&str>) {
    if enforce::is_overruled(instance, name, value) {
        let value = value.unwrap_or_default();
        enforce::overruled(instance, &format!("{name} was set to '{value}': restored"));
    } else if !settings::is_ours(name) || (ROUTINE.contains(&name) && !in_auto_conf(instance)) {
        return;
    } else {
        let text = format!("{name} was changed: restored");
        tracing::warn!(text);
        instance.state().note("setting-overruled", Severity::Warning, text);
    }
    if let Err(error) = enforce::put_back(instance).await {
        tracing::warn!(%error, "our settings cannot be put back");
    }
    instance.look.notify_one();
}

/// Whether `ALTER SYSTEM` stands above ours.
fn in_auto_conf(instance: &Instance) -> bool {
    settings::clear_auto_conf(&instance.layout).unwrap_or(false)
}

/// Settings of ours that we change ourselves while PostgreSQL runs.
const ROUTINE: &[&str] =
    &["synchronous_standby_names", "synchronous_commit", "primary_conninfo", "primary_slot_name"];

fn diverged(instance: &Instance, text: &str) {
    let follows = instance.state().configured.upstream.is_some();
    let refused = instance.promises.get().refused;
    if follows && !refused {
        tracing::warn!(text, "its history has left that of the upstream");
        if let Err(error) = instance.promises.update(|memory| memory.refused = true) {
            tracing::error!(%error, "the divergence cannot be written down");
        }
        instance.wake.notify_one();
    }
}

/// A role streams under its own name or, as a copying program, under one that is in no rule; any
/// other could release commits in someone else's name (I-09).
fn is_impostor(role: &str, name: &str) -> bool {
    role != format!("baton-{name}") && !matches!(name, "pg_basebackup" | "pg_rewind" | STREAMS_AS)
}

fn judge_stream(instance: &Instance, pid: u32, role: &str, name: &str) {
    if is_impostor(role, name) {
        end_stream(instance, pid, role, name);
    }
}

fn end_stream(instance: &Instance, pid: u32, role: &str, name: &str) {
    let postmaster = instance.state().pid;
    let parent = processes::stat(pid).map(|stat| stat.parent);
    if postmaster.is_some() && parent == postmaster {
        processes::send(pid, Signal::SIGTERM);
    }
    tracing::error!(pid, role, name, "a replication connection under another's name: ended");
    if measure::releases(&Dynamic::load(&instance.layout).enforce, name) {
        // In the moment before its end it may have released a commit in that name (F-14).
        doubt(instance, "an impostor streamed under a name of the rule");
    }
    let text = format!("{role} tried to stream as {name}: its connection was ended");
    instance.state().note("impostor", Severity::Warning, text);
    instance.speak.notify_one();
}

/// Two under one name and certificate: those from elsewhere are ended, where it can be told.
fn judge_twins(instance: &Instance, facts: &Facts) {
    let declared = instance.state().assignment.as_ref().map(|known| known.peers.clone());
    let Some(declared) = declared.filter(|_| facts.streams.len() > 1) else { return };
    match measure::twins(&facts.streams, &declared) {
        None => {
            let text = "two stream under one name from places where it was not declared";
            instance.state().note("twin", Severity::Warning, text);
        }
        Some(strangers) => {
            for stream in &facts.streams {
                let pid = stream.pid.unsigned_abs();
                if strangers.contains(&pid) {
                    let from = stream.from.as_deref().unwrap_or("an unknown place");
                    end_stream(
                        instance,
                        pid,
                        &format!("{} from {from}", stream.role),
                        &stream.name,
                    );
                }
            }
        }
    }
}

/// Probes once a heartbeat and whenever asked to.
async fn probe(instance: Arc<Instance>) {
    let mut failures: u32 = 0;
    let mut checkpoint: Option<JoinHandle<()>> = None;
    loop {
        let began = now();
        match instance.look_now().await {
            Ok(running) => {
                failures = 0;
                if running {
                    instance.tally.probed(now().since(began));
                    after_look(&instance).await;
                    let lacks =
                        instance.state().facts.as_ref().is_some_and(Facts::lacks_checkpoint);
                    if lacks && checkpoint.as_ref().is_none_or(JoinHandle::is_finished) {
                        checkpoint = Some(ask_for_checkpoint(&instance));
                    }
                }
            }
            Err(error) => {
                failures = failures.saturating_add(1);
                instance.tally.probe_failed();
                instance.state().note_silence(began, now());
                tracing::debug!(%error, "PostgreSQL does not answer");
                if failures > 100 && instance.state().facts.is_some() {
                    let text = format!("does not answer: {error}");
                    instance.state().note("postgresql", Severity::Warning, text);
                }
            }
        }
        instance.wake.notify_one();
        let heartbeat = instance.timing().heartbeat;
        let rest = match failures {
            0 => heartbeat,
            1..=100 => Duration::from_millis(10).min(heartbeat),
            _ => Duration::from_millis(200).min(heartbeat),
        };
        drop(tokio::time::timeout(rest, instance.look.notified()).await);
    }
}

/// Asks for a checkpoint of a server that wrote none on its timeline yet: nobody can be rewound
/// from there before, and PostgreSQL's own takes its time. Whoever promoted it may be gone.
fn ask_for_checkpoint(instance: &Arc<Instance>) -> JoinHandle<()> {
    let instance = Arc::clone(instance);
    tokio::spawn(async move {
        let done = match instance.access.connect().await {
            Ok(connection) => connection.execute("checkpoint", Duration::from_hours(1)).await,
            Err(error) => Err(error),
        };
        match done {
            Ok(()) => instance.look.notify_one(),
            // The next look, a heartbeat later, asks again.
            Err(error) => tracing::warn!(%error, "the checkpoint after the promotion failed"),
        }
    })
}

async fn after_look(instance: &Arc<Instance>) {
    {
        let mut state = instance.state();
        state.notes.remove("postgresql");
        state.checks.wal_free = measure::room(&instance.layout);
        let Some(facts) = state.facts.clone() else { return };
        if !facts.durable {
            let text = "fsync or full_page_writes is off: commits may be lost (I-10)";
            state.note("durability", Severity::Warning, text);
        }
        drop(state);
        for stream in &facts.streams {
            judge_stream(instance, stream.pid.unsigned_abs(), &stream.role, &stream.name);
        }
        judge_twins(instance, &facts);
        if !facts.recovery {
            record_doubt(instance);
        }
    }
    match enforce::restore(instance).await {
        Ok(true) => {
            enforce::overruled(instance, "synchronous_standby_names was overruled: restored");
        }
        Ok(false) => {}
        Err(error) => tracing::warn!(%error, "the rule in force cannot be checked"),
    }
    instance.stream.notify_one();
    instance.speak.notify_one();
}

/// The commits in doubt stand at or before the log's end as probed after they were heard of; or,
/// while the rule is overruled, after it is proven again (I-12).
fn record_doubt(instance: &Instance) {
    let unwritten = instance.state().unwritten;
    let memory = instance.promises.get();
    if !memory.doubt_pending && !unwritten {
        return;
    }
    let (position, looked) = {
        let state = instance.state();
        if state.overruled {
            return;
        }
        // A probe that began before may have seen an earlier end.
        if state.doubted.is_some_and(|heard| state.looked < heard) {
            drop(state);
            instance.look.notify_one();
            return;
        }
        (state.position.clone(), state.looked)
    };
    let epoch = memory.pledge.granted;
    let noted = instance.promises.update(|memory| {
        memory.doubt = Some((epoch, position.clone()));
        memory.doubt_pending = false;
    });
    let another = instance.state().doubted.is_some_and(|heard| looked < heard);
    let noted = noted.and_then(|()| {
        // What was heard of since is not covered.
        instance.promises.update(|memory| memory.doubt_pending |= another)
    });
    match noted {
        Ok(()) => {
            instance.state().unwritten = false;
            let text =
                format!("commits up to {position} may have been acknowledged without the standbys");
            instance.state().note("wait-cancelled", Severity::Warning, text);
            instance.speak.notify_one();
        }
        Err(error) => tracing::error!(%error, "the doubt cannot be written down"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i09_only_the_own_name_counts() {
        assert!(!is_impostor("baton-a", "a"));
        assert!(!is_impostor("baton-a", "pg_basebackup"));
        assert!(!is_impostor("baton-a", STREAMS_AS));
        for name in ["b", "A", "", "baton-nobody", "*"] {
            assert!(is_impostor("baton-a", name), "{name}");
        }
    }
}
