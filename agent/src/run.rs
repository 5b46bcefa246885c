//! The first beat: whatever changes, ask the law for the single next action and carry it out.
//!
//! It needs nobody: with no orchestrator in reach it goes on with the newest assignment, and
//! fences when the evidence that it may serve has run out. An action under way never stands in the
//! way of fencing; long ones are given up as soon as something else is wanted. What is not a fence
//! waits for a probe that is newer than the last action, so that no action is chosen from how
//! things were before it.

use crate::instance::Instance;
use crate::monitoring::Monitored;
use crate::perform::{guard_lease, is_long, perform};
use crate::{hooks, isolate, knock, rehearse, senses, voters};
use failover::comply::{Action, Local};
use failover::report::{Server, Severity};
use failover::{Moment, comply, lease};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use wire::clock::now;

/// Runs the agent until `shutdown` turns true; PostgreSQL goes on under its guard.
///
/// # Errors
/// The agent cannot begin: a port is taken, the guard cannot be started.
pub async fn run(
    instance: Arc<Instance>,
    notices: tokio::sync::mpsc::UnboundedReceiver<crate::guard::client::Notice>,
    shutdown: watch::Receiver<bool>,
) -> io::Result<()> {
    let mut tasks: JoinSet<()> = senses::start(&instance, notices).await?;
    let voters = Arc::new(voters::Voters::new(&instance)?);
    tasks.spawn(voters::report(Arc::clone(&instance), Arc::clone(&voters)));
    let several = instance.config.voters.len().min(2);
    for offset in 0..several {
        tasks.spawn(voters::poll(Arc::clone(&instance), Arc::clone(&voters), offset));
    }
    tasks.spawn(knock::watch(Arc::clone(&instance)));
    tasks.spawn(isolate::watch(Arc::clone(&instance)));
    tasks.spawn(rehearse::watch(Arc::clone(&instance)));
    if !instance.config.hooks.is_empty() {
        tasks.spawn(hooks::run(Arc::clone(&instance)));
    }
    let router = Monitored::new(&instance)?.router();
    tokio::spawn(wire::monitoring::serve(instance.config.monitoring, router, shutdown.clone()));
    let mut beat = Beat::new(Arc::clone(&instance));
    let mut stop = shutdown.clone();
    let listening = crate::listen::serve(Arc::clone(&instance), shutdown);
    tokio::pin!(listening);
    loop {
        tokio::select! {
            () = beat.next() => {}
            // A sense that ended is missed by nobody, and its last word would stand for ever.
            ended = tasks.join_next() => {
                let how = ended.and_then(Result::err).map(|error| error.to_string());
                let how = how.unwrap_or_else(|| "by itself".into());
                return Err(io::Error::other(format!("a sense of the agent ended: {how}")));
            }
            served = &mut listening => return served,
            _ = stop.wait_for(|stop| *stop) => {
                tasks.shutdown().await;
                rehearse::clean(&instance.layout).await;
                return Ok(());
            }
        }
    }
}

/// The same action once more within this time is a repetition, and waits a little longer each.
const AGAIN_WITHIN: Duration = Duration::from_secs(3);

/// The action under way, and what came of the last one.
#[derive(Debug)]
pub struct Beat {
    instance: Arc<Instance>,
    running: Option<(Action, JoinHandle<bool>)>,
    /// One that was given up and has not reached a place where it can end.
    ending: Option<JoinHandle<bool>>,
    last: Option<Action>,
    repeats: u32,
    not_before: Moment,
    ended: Moment,
    guarded: Option<Moment>,
}

impl Beat {
    /// Nothing under way.
    pub fn new(instance: Arc<Instance>) -> Self {
        Self {
            instance,
            running: None,
            ending: None,
            last: None,
            repeats: 0,
            not_before: Moment(0),
            ended: Moment(0),
            guarded: None,
        }
    }

    /// One turn: ask, act, wait for whatever comes first.
    pub async fn next(&mut self) {
        self.guard().await;
        let local = self.instance.local();
        let assignment = self.instance.state().assignment.clone();
        let wish = comply(assignment.as_ref(), &local, now());
        self.take_up(wish, &local);
        let rest = self.rest(&local);
        let instance = Arc::clone(&self.instance);
        match &mut self.running {
            Some((_, task)) => {
                tokio::select! {
                    done = task => self.finish(done.unwrap_or(false)),
                    () = instance.wake.notified() => {}
                    () = tokio::time::sleep(rest) => {}
                }
            }
            None => {
                tokio::select! {
                    () = over(&mut self.ending) => self.finish(false),
                    () = instance.wake.notified() => {}
                    () = tokio::time::sleep(rest) => {}
                }
            }
        }
    }

    /// Begins what is wished, unless it must wait for the present action or for news.
    fn take_up(&mut self, wish: Option<Action>, local: &Local) {
        if let Some((running, task)) = &self.running {
            let urgent = matches!(wish, Some(Action::Fence { .. }))
                && !matches!(running, Action::Fence { .. });
            let other = is_long(running) && wish.as_ref() != Some(running);
            if !urgent && (!other || follows_from(running, wish.as_ref())) {
                return;
            }
            tracing::info!(?running, ?wish, "given up for something else");
            task.abort();
            self.ending = self.running.take().map(|(_, task)| task);
        }
        let Some(action) = wish else { return };
        let fence = matches!(action, Action::Fence { .. });
        // Two at once would each undo what the other relies on; a fence relies on nothing.
        drop(self.ending.take_if(|task| task.is_finished()));
        if !fence && self.ending.is_some() {
            return;
        }
        let probed = !answers(local) || self.instance.state().looked >= self.ended;
        if !fence && (!probed || (self.last.as_ref() == Some(&action) && now() < self.not_before)) {
            return;
        }
        self.begin(action);
    }

    fn begin(&mut self, action: Action) {
        let again = now().since(self.ended) < AGAIN_WITHIN;
        if self.last.as_ref() == Some(&action) && again {
            self.repeats = self.repeats.saturating_add(1);
        } else {
            tracing::info!(?action, "next");
            self.repeats = 0;
        }
        self.last = Some(action.clone());
        let instance = Arc::clone(&self.instance);
        let task = action.clone();
        let handle = tokio::spawn(async move {
            let subject = "action";
            match perform(&instance, &task).await {
                Ok(()) => {
                    instance.state().notes.remove(subject);
                    true
                }
                Err(error) => {
                    tracing::warn!(action = ?task, %error, "not done");
                    let text = format!("{task:?}: {error}");
                    instance.state().note(subject, Severity::Warning, text);
                    false
                }
            }
        });
        self.running = Some((action, handle));
    }

    fn finish(&mut self, done: bool) {
        self.running = None;
        self.ended = now();
        let heartbeat = self.instance.timing().heartbeat;
        // What was done and is wished again was only begun, or had no effect: wait for news, a
        // little longer each time.
        let pause = Duration::from_millis(if done { 10 } else { 50 });
        let pause = pause.saturating_mul(1 << self.repeats.min(6)).min(heartbeat);
        self.not_before = self.ended.after(pause);
        self.instance.look.notify_one();
        self.instance.speak.notify_one();
    }

    /// Until when nothing needs to be asked: the end of the lease, or the next attempt.
    fn rest(&self, local: &Local) -> Duration {
        let timing = self.instance.timing();
        let moment = now();
        let mut rest = timing.heartbeat;
        if let Some(end) = lease::expires(local, &timing)
            && end > moment
        {
            rest = rest.min(end.since(moment));
        }
        if self.last.is_some() && self.not_before > moment {
            rest = rest.min(self.not_before.since(moment));
        }
        rest.max(Duration::from_millis(1))
    }

    /// Moves the guard's deadline when the evidence has moved; a server that admits nobody, or
    /// cannot be written, has none.
    async fn guard(&mut self) {
        let (admits, known, proof) = {
            let state = self.instance.state();
            let writable = state.facts.as_ref().map(|facts| !facts.recovery);
            (state.configured.admits || state.serves, writable, state.leased.max(state.committed))
        };
        let done = match known {
            Some(true) if admits => {
                if proof.is_none() || self.guarded == proof {
                    return;
                }
                self.guarded = proof;
                bounded(guard_lease(&self.instance)).await
            }
            Some(_) if self.guarded.is_some() => {
                self.guarded = None;
                match self.instance.guard() {
                    Ok(guard) => bounded(guard.refresh(None)).await,
                    Err(error) => Err(error.to_string()),
                }
            }
            Some(_) | None => return,
        };
        if let Err(error) = done {
            tracing::warn!(error, "the guard cannot be told the deadline");
        }
    }
}

/// Waits until an action that was given up is over; for ever where there is none.
async fn over(ending: &mut Option<JoinHandle<bool>>) {
    match ending {
        Some(task) => drop(task.await),
        None => std::future::pending().await,
    }
    *ending = None;
}

/// Whether the wish is what comes after the action: its effect shows before it returns.
fn follows_from(running: &Action, wish: Option<&Action>) -> bool {
    let stops = matches!(running, Action::StopCleanly | Action::Prepare { .. });
    let creates = matches!(running, Action::Initialise);
    let copies = matches!(running, Action::Clone { .. } | Action::Rewind { .. });
    (stops && wish.is_none())
        || (creates && matches!(wish, Some(Action::Accept { .. } | Action::StartPrimary)))
        || (copies && matches!(wish, Some(Action::StartStandby { .. })))
}

/// A guard that is stuck must not hold the lease's own timer up.
async fn bounded<E: std::fmt::Display>(
    telling: impl Future<Output = Result<(), E>>,
) -> Result<(), String> {
    match tokio::time::timeout(Duration::from_millis(200), telling).await {
        Ok(told) => told.map_err(|error| error.to_string()),
        Err(_) => Err("no answer".to_owned()),
    }
}

fn answers(local: &Local) -> bool {
    matches!(local.server, Server::Recovery { .. } | Server::Writable { .. })
}
