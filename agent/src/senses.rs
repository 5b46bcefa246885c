//! What wakes the agent: the guard's notices, PostgreSQL's log, and the probe.

use crate::enforce;
use crate::guard::client::Notice;
use crate::instance::Instance;
use crate::server_log::{self, Line};
use failover::report::Severity;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Starts all of them and connects to the guard; they end when the set is dropped.
///
/// # Errors
/// The log cannot be followed, or no guard be started.
pub async fn start(
    instance: &Arc<Instance>,
    notices: mpsc::UnboundedReceiver<Notice>,
) -> io::Result<JoinSet<()>> {
    let mut tasks = JoinSet::new();
    let lines = server_log::follow(&instance.layout.log())?;
    tasks.spawn(hear_guard(Arc::clone(instance), notices));
    tasks.spawn(hear_log(Arc::clone(instance), lines));
    instance.attach().await.map_err(io::Error::other)?;
    tasks.spawn(probe(Arc::clone(instance)));
    Ok(tasks)
}

async fn hear_guard(instance: Arc<Instance>, mut notices: mpsc::UnboundedReceiver<Notice>) {
    while let Some(notice) = notices.recv().await {
        match notice {
            Notice::Exited(exited) => instance.note_exit(&exited),
            Notice::Lost => instance.replace_guard().await,
        }
    }
}

async fn hear_log(instance: Arc<Instance>, mut lines: mpsc::Receiver<Line>) {
    while let Some(line) = lines.recv().await {
        match line {
            Line::WaitCancelled => {
                tracing::warn!("a wait for synchronous replication was cancelled");
                if let Err(error) = instance.promises.update(|memory| memory.doubt_pending = true) {
                    tracing::error!(%error, "the cancelled wait cannot be written down");
                }
                instance.state().doubted = Some(wire::clock::now());
                instance.look.notify_one();
            }
            Line::Diverged(text) => diverged(&instance, &text),
            Line::StreamLost | Line::Ready => instance.look.notify_one(),
            Line::Replication { pid, role, name } => {
                judge_stream(&instance, pid, &role, &name);
                instance.look.notify_one();
            }
        }
    }
}

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
    role != format!("baton-{name}") && !matches!(name, "pg_basebackup" | "pg_rewind")
}

fn judge_stream(instance: &Instance, pid: u32, role: &str, name: &str) {
    if !is_impostor(role, name) {
        return;
    }
    if let Ok(number) = i32::try_from(pid) {
        let _ = kill(Pid::from_raw(number), Signal::SIGTERM);
    }
    tracing::error!(pid, role, name, "a replication connection under another's name: ended");
    let text = format!("{role} tried to stream as {name}: its connection was ended");
    instance.state().note("impostor", Severity::Warning, text);
    instance.speak.notify_one();
}

/// Probes once a heartbeat and whenever asked to.
async fn probe(instance: Arc<Instance>) {
    let mut failures: u32 = 0;
    loop {
        match instance.look_now().await {
            Ok(running) => {
                failures = 0;
                if running {
                    after_look(&instance).await;
                }
            }
            Err(error) => {
                failures = failures.saturating_add(1);
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

async fn after_look(instance: &Arc<Instance>) {
    {
        let mut state = instance.state();
        state.notes.remove("postgresql");
        let Some(facts) = state.facts.clone() else { return };
        if !facts.durable {
            let text = "fsync or full_page_writes is off: commits may be lost (I-10)";
            state.note("durability", Severity::Warning, text);
        }
        drop(state);
        for stream in &facts.streams {
            judge_stream(instance, stream.pid.unsigned_abs(), &stream.role, &stream.name);
        }
        if !facts.recovery {
            record_doubt(instance);
        }
    }
    match enforce::restore(instance).await {
        Ok(true) => {
            let text = "synchronous_standby_names was overruled: restored";
            tracing::warn!(text);
            instance.state().note("rule-overruled", Severity::Warning, text);
        }
        Ok(false) => {}
        Err(error) => tracing::warn!(%error, "the rule in force cannot be checked"),
    }
    instance.stream.notify_one();
    instance.speak.notify_one();
}

/// The cancelled commit stands at or before the log's end as probed after its warning (I-12).
fn record_doubt(instance: &Instance) {
    let memory = instance.promises.get();
    if !memory.doubt_pending {
        return;
    }
    let position = {
        let state = instance.state();
        // A probe that began before the warning may have seen an earlier end.
        if state.doubted.is_some_and(|heard| state.looked < heard) {
            drop(state);
            instance.look.notify_one();
            return;
        }
        state.position.clone()
    };
    let epoch = memory.pledge.granted;
    let noted = instance.promises.update(|memory| {
        memory.doubt = Some((epoch, position.clone()));
        memory.doubt_pending = false;
    });
    match noted {
        Ok(()) => {
            let text =
                format!("a wait for synchronous replication was cancelled before {position}");
            instance.state().note("wait-cancelled", Severity::Warning, text);
        }
        Err(error) => tracing::error!(%error, "the cancelled wait cannot be written down"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i09_only_the_own_name_counts() {
        assert!(!is_impostor("baton-a", "a"));
        assert!(!is_impostor("baton-a", "pg_basebackup"));
        for name in ["b", "A", "", "baton-nobody", "*"] {
            assert!(is_impostor("baton-a", name), "{name}");
        }
    }
}
