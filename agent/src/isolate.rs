//! Falling silent for a drill, as a machine does whose site is cut off; and the dead man's switch.
//!
//! No firewall is touched, so no right is needed: the agent sends nothing, hears nothing and
//! answers nobody, and PostgreSQL with all that it started is stopped in its tracks (SIGSTOP). To
//! whoever is connected, and to whoever tries, that is a line on which nothing comes any more. What
//! follows is as in a real disaster: no lease and no durable commit reach this instance, so the
//! agent, or the guard, fences it when the last one has run out, and it stays down until this is
//! over.
//!
//! It ends by the agent's own clock, which goes on while the machine sleeps, and needs nobody: a
//! run of the agent that did not begin it knows nothing of it, so an agent that is started again
//! has ended it, and wakes what it finds stopped. Which drill it was for is on disk before it
//! begins: nobody is cut off twice for one.

use crate::instance::{Instance, PerformError};
use crate::processes;
use failover::report::Severity;
use failover::{DrillId, Moment};
use nix::sys::signal::Signal;
use std::sync::Arc;
use std::time::Duration;
use wire::clock::now;

/// A sleep of the machine must not prolong it by more.
const LOOK: Duration = Duration::from_millis(100);
/// What is told to stop stops at once, or when its system call ends.
const STOPS_WITHIN: u32 = 100;

impl Instance {
    /// Until when it has cut itself off; `None`: it has not, or that is over.
    pub fn isolated(&self) -> Option<Moment> {
        self.state().isolated.filter(|until| now() < *until)
    }
}

/// Cuts itself off.
///
/// # Errors
/// The promise cannot be written; nothing has happened then.
pub async fn begin(
    instance: &Instance,
    drill: DrillId,
    at_most: Duration,
) -> Result<(), PerformError> {
    if instance.promises.get().pledge.isolated >= Some(drill) {
        return Err(PerformError::Stale("it cut itself off for this drill already"));
    }
    instance.promises.update(|memory| {
        memory.pledge.isolated = Some(drill);
        memory.cut_off = true;
    })?;
    let until = now().after(at_most);
    let postmaster = {
        let mut state = instance.state();
        state.isolated = Some(until);
        state.pid
    };
    tracing::warn!(%drill, ?at_most, "cut off, as in a disaster");
    instance.cut.notify_one();
    if let Some(postmaster) = postmaster {
        freeze(postmaster).await;
    }
    Ok(())
}

/// The postmaster first, so that there are no more of them than are listed after.
async fn freeze(postmaster: u32) {
    processes::send(postmaster, Signal::SIGSTOP);
    for _ in 0..STOPS_WITHIN {
        if processes::stat(postmaster).is_none_or(|stat| matches!(stat.state, 'T' | 'Z')) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for pid in processes::descendants(postmaster) {
        processes::send(pid, Signal::SIGSTOP);
    }
}

/// Wakes what was stopped, if anything was: also by the run of the agent before this one.
pub fn thaw(instance: &Instance, postmaster: Option<u32>) {
    if !instance.promises.get().cut_off {
        return;
    }
    if let Some(postmaster) = postmaster {
        wake(postmaster);
    }
    // Unwritten, the next run of the agent wakes what is awake.
    if let Err(error) = instance.promises.update(|memory| memory.cut_off = false) {
        tracing::warn!(%error, "the end of the isolation cannot be written down");
    }
}

/// The postmaster last: what it hears of its children is true by then.
fn wake(postmaster: u32) {
    for pid in processes::descendants(postmaster) {
        processes::send(pid, Signal::SIGCONT);
    }
    processes::send(postmaster, Signal::SIGCONT);
}

/// Ends it when its time has come.
pub async fn watch(instance: Arc<Instance>) {
    loop {
        let until = instance.state().isolated;
        match until {
            None => instance.cut.notified().await,
            Some(until) if now() < until => sleep_towards(until).await,
            Some(_) => heal(&instance),
        }
    }
}

async fn sleep_towards(until: Moment) {
    let rest = until.since(now()).min(LOOK).max(Duration::from_millis(1));
    tokio::time::sleep(rest).await;
}

fn heal(instance: &Instance) {
    let postmaster = {
        let mut state = instance.state();
        state.isolated = None;
        // What it was told of before is old: whether it still leads is asked first.
        state.started = now();
        let drill = instance.promises.get().pledge.isolated.unwrap_or_default();
        let text = format!("was cut off for drill {drill}, and is back");
        state.note("isolated", Severity::Info, text);
        state.pid
    };
    tracing::warn!("not cut off any more");
    thaw(instance, postmaster);
    instance.wake.notify_one();
    instance.look.notify_one();
    instance.speak.notify_one();
}

/// Returns once it is not cut off: at once, as a rule.
pub async fn over(instance: &Instance) {
    while let Some(until) = instance.isolated() {
        sleep_towards(until).await;
    }
}
