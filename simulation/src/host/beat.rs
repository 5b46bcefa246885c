//! The agent's beat: asks the law for the single next action, as the real one does.

use super::Host;
use super::act::{Next, Running};
use super::guard::{Order, Word};
use super::interface::Fact;
use super::queue::Task;
use super::turn::{Turn, micros};
use failover::comply::{Action, Local};
use failover::report::Server;
use failover::topology::Timing;
use failover::{Moment, comply, lease};
use std::time::Duration;

/// The same action once more within this time is a repetition, and waits a little longer each.
const AGAIN_WITHIN: Duration = Duration::from_secs(3);

/// The action under way, and what came of the last one.
#[derive(Debug, Default)]
pub struct Beat {
    pub running: Option<Running>,
    last: Option<Action>,
    repeats: u32,
    not_before: Moment,
    ended: Moment,
    guarded: Option<Moment>,
}

impl Host {
    /// One turn: ask, act.
    pub(super) fn beat(&mut self, turn: &mut Turn) {
        let Some(mut agent) = self.agent.take() else { return };
        if agent.beat_at.is_none_or(|at| at > turn.now) {
            self.agent = Some(agent);
            return;
        }
        agent.beat_at = None;
        let local = self.local(&agent);
        let wish = comply(agent.assignment.as_deref(), &local, turn.now);
        self.agent = Some(agent);
        self.tell_guard(turn);
        self.take_up(turn, wish, &local);
        let rest = self.rest(turn, &local);
        self.beat_within(turn, rest);
    }

    /// Begins what is wished, unless it must wait for the present action or for news.
    fn take_up(&mut self, turn: &mut Turn, wish: Option<Action>, local: &Local) {
        let Some(agent) = &mut self.agent else { return };
        if let Some(running) = &agent.beat.running {
            let running = &running.action;
            let urgent = matches!(wish, Some(Action::Fence { .. }))
                && !matches!(running, Action::Fence { .. });
            let other = is_long(running) && wish.as_ref() != Some(running);
            if !urgent && (!other || follows_from(running, wish.as_ref())) {
                return;
            }
            let action = name(running);
            self.give_up(turn);
            turn.fact(Fact::Done { action, done: false });
        }
        let Some(action) = wish else { return };
        let Some(agent) = &mut self.agent else { return };
        let fence = matches!(action, Action::Fence { .. });
        let probed = !answers(local) || agent.looked >= agent.beat.ended;
        let again = agent.beat.last.as_ref() == Some(&action);
        if !fence && (!probed || (again && turn.now < agent.beat.not_before)) {
            return;
        }
        let soon = turn.now.since(agent.beat.ended) < AGAIN_WITHIN;
        agent.beat.repeats = if again && soon { agent.beat.repeats.saturating_add(1) } else { 0 };
        if agent.beat.repeats == 0 {
            turn.fact(Fact::Began { action: name(&action) });
        }
        agent.beat.last = Some(action.clone());
        let id = self.number();
        if let Some(agent) = &mut self.agent {
            agent.beat.running = Some(Running::new(id, action, turn.now));
        }
        self.act(turn, id);
    }

    /// The action goes on.
    pub(super) fn act(&mut self, turn: &mut Turn, id: u64) {
        let Some(agent) = &mut self.agent else { return };
        if agent.beat.running.as_ref().is_none_or(|running| running.id != id) {
            return;
        }
        let Some(mut running) = agent.beat.running.take() else { return };
        let action = name(&running.action);
        if running.fresh {
            turn.fact(Fact::Step { name: step_name(&running.action, running.step) });
        }
        running.fresh = false;
        let next = self.perform(turn, &mut running);
        let done = match next {
            Next::After(takes) => {
                running.step += 1;
                running.fresh = true;
                running.since = turn.now;
                self.agent_task(turn, takes.max(1), Task::Act(id));
                None
            }
            Next::Again(takes) => {
                self.agent_task(turn, takes.max(1), Task::Act(id));
                None
            }
            Next::Wait => None,
            Next::Done => Some(true),
            Next::Failed => Some(false),
        };
        let Some(agent) = &mut self.agent else { return };
        match done {
            None => agent.beat.running = Some(running),
            Some(done) => {
                turn.fact(Fact::Done { action, done });
                self.finish(turn, done);
            }
        }
    }

    fn finish(&mut self, turn: &mut Turn, done: bool) {
        let heartbeat = self.timing().heartbeat;
        let Some(agent) = &mut self.agent else { return };
        agent.beat.running = None;
        agent.beat.ended = turn.now;
        let pause = Duration::from_millis(if done { 10 } else { 50 });
        let pause = pause.saturating_mul(1 << agent.beat.repeats.min(6)).min(heartbeat);
        agent.beat.not_before = turn.now.after(pause);
        self.look(turn);
        self.speak(turn);
        self.wake(turn);
    }

    /// Until when nothing needs to be asked.
    fn rest(&mut self, turn: &Turn, local: &Local) -> u64 {
        let timing = self.timing();
        let mut rest = timing.heartbeat;
        if let Some(end) = lease::expires(local, timing)
            && end > turn.now
        {
            rest = rest.min(end.since(turn.now));
        }
        let Some(agent) = &self.agent else { return micros(rest) };
        if agent.beat.last.is_some() && agent.beat.not_before > turn.now {
            rest = rest.min(agent.beat.not_before.since(turn.now));
        }
        micros(rest).max(1_000)
    }

    /// Moves the guard's deadline when the evidence has moved.
    fn tell_guard(&mut self, turn: &mut Turn) {
        let Some(agent) = &mut self.agent else { return };
        let writable = agent.facts.as_ref().map(|facts| !facts.recovery);
        let proof = agent.leased.max(agent.committed);
        match writable {
            Some(true) if agent.configured.admits || agent.serves => {
                if proof.is_some() && agent.beat.guarded != proof {
                    agent.beat.guarded = proof;
                    self.guard_lease(turn);
                }
            }
            Some(_) if agent.beat.guarded.is_some() => {
                agent.beat.guarded = None;
                self.order(turn, Order::Refresh(None));
            }
            Some(_) | None => {}
        }
    }

    /// Tells the guard until when the evidence lasts.
    pub(super) fn guard_lease(&mut self, turn: &mut Turn) -> Word {
        let patience = patience(self.timing());
        let Some(agent) = &self.agent else { return Word::Gone };
        let Some(proof) = agent.leased.max(agent.committed) else { return Word::Done };
        self.order(turn, Order::Refresh(Some(proof.after(patience))))
    }
}

/// How long after the last evidence the guard kills.
pub fn patience(timing: &Timing) -> Duration {
    timing.fence_after + timing.fence_time / 2
}

/// Whether an action may take long, and is given up as soon as another is wanted.
fn is_long(action: &Action) -> bool {
    matches!(
        action,
        Action::Initialise
            | Action::Clone { .. }
            | Action::Rewind { .. }
            | Action::Prepare { .. }
            | Action::StopCleanly
    )
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

fn answers(local: &Local) -> bool {
    matches!(local.server, Server::Recovery { .. } | Server::Writable { .. })
}

/// An action's name.
pub fn name(action: &Action) -> &'static str {
    match action {
        Action::Initialise => "initialise",
        Action::Clone { .. } => "clone",
        Action::Rewind { .. } => "rewind",
        Action::StartStandby { .. } => "start-standby",
        Action::StartPrimary => "start-primary",
        Action::Fence { .. } => "fence",
        Action::StopCleanly => "stop-cleanly",
        Action::Seal { .. } => "seal",
        Action::Accept { .. } => "accept",
        Action::Promote => "promote",
        Action::Enforce { .. } => "enforce",
        Action::Prove { .. } => "prove",
        Action::Prepare { .. } => "prepare",
        Action::Follow { .. } => "follow",
        Action::Admit => "admit",
        Action::Isolate { .. } => "isolate",
    }
}

/// The name of one step of an action; the last stands for those beyond it.
fn step_name(action: &Action, step: u8) -> &'static str {
    let names = STEPS.iter().find(|names| {
        let first = names.first().and_then(|first| first.strip_suffix("-0"));
        first == Some(name(action))
    });
    let names = names.copied().unwrap_or_default();
    names.get(usize::from(step)).or(names.last()).copied().unwrap_or("")
}

/// Every step of every action.
pub const STEPS: &[&[&str]] = &[
    &["initialise-0", "initialise-1", "initialise-2", "initialise-3"],
    &["clone-0", "clone-1", "clone-2", "clone-3"],
    &["rewind-0", "rewind-1", "rewind-2", "rewind-3", "rewind-4", "rewind-5"],
    &["start-standby-0", "start-standby-1", "start-standby-2"],
    &["start-primary-0", "start-primary-1", "start-primary-2", "start-primary-3"],
    &["fence-0", "fence-1"],
    &[
        "stop-cleanly-0",
        "stop-cleanly-1",
        "stop-cleanly-2",
        "stop-cleanly-3",
        "stop-cleanly-4",
        "stop-cleanly-5",
    ],
    &["seal-0", "seal-1", "seal-2", "seal-3", "seal-4", "seal-5", "seal-6"],
    &["accept-0", "accept-1"],
    &["promote-0", "promote-1", "promote-2", "promote-3", "promote-4", "promote-5"],
    &["enforce-0", "enforce-1", "enforce-2"],
    &["prove-0"],
    &["prepare-0", "prepare-1"],
    &["follow-0", "follow-1", "follow-2", "follow-3", "follow-4"],
    &["admit-0", "admit-1", "admit-2"],
    &["isolate-0"],
];
