//! The guard: parent of the postmaster; kills it at a deadline that nobody moved.

use super::Host;
use super::queue::{Event, Task};
use super::turn::Turn;
use failover::Moment;

/// What it holds.
#[derive(Debug, Default)]
pub struct Guard {
    /// The postmaster.
    pub child: Option<u64>,
    /// The kill under way was ordered, or due.
    pub ordered: bool,
    pub deadline: Option<Moment>,
    timer: Option<Moment>,
    /// How the last postmaster ended: its number, its status, whether by itself.
    pub last: Option<(u64, Option<i32>, bool)>,
    /// The agent that it serves.
    pub agent: Option<u64>,
    /// Orders in its socket while it does not run.
    orders: Vec<Order>,
    unreaped: Option<(u64, Option<i32>)>,
}

/// What an agent asks of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Start PostgreSQL.
    Start,
    /// SIGHUP.
    Reload,
    /// SIGINT.
    Stop,
    /// SIGKILL to all of it.
    Kill,
    /// The deadline; none: there is none.
    Refresh(Option<Moment>),
}

/// What comes of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// Done.
    Done,
    /// It could not be done.
    Failed,
    /// It does not answer yet; the order lies in its socket.
    Stuck,
    /// There is no guard.
    Gone,
}

impl Host {
    /// Asks the guard.
    pub(super) fn order(&mut self, turn: &mut Turn, order: Order) -> Word {
        let Some(guard) = &mut self.guard else { return Word::Gone };
        if self.paused.guard {
            guard.orders.push(order);
            return Word::Stuck;
        }
        self.obey(turn, order)
    }

    fn obey(&mut self, turn: &mut Turn, order: Order) -> Word {
        let Some(guard) = &mut self.guard else { return Word::Gone };
        let late = guard.deadline.is_some_and(|deadline| deadline <= turn.now);
        if late && matches!(order, Order::Reload | Order::Stop) {
            self.guard_looks(turn);
            return Word::Failed;
        }
        match order {
            Order::Start => {
                if guard.child.is_some() || self.server.is_some() {
                    return Word::Failed;
                }
                guard.ordered = false;
                let pid = self.launch(turn);
                if let Some(guard) = &mut self.guard {
                    guard.child = pid;
                }
                if pid.is_some() { Word::Done } else { Word::Failed }
            }
            Order::Reload => {
                self.hang_up(turn);
                Word::Done
            }
            Order::Stop => {
                self.stop_requested = true;
                if !self.paused.postgres {
                    self.deliver_signals(turn);
                }
                Word::Done
            }
            Order::Kill => {
                guard.ordered = guard.child.is_some();
                self.kill_server(turn);
                Word::Done
            }
            Order::Refresh(deadline) => {
                guard.deadline = deadline;
                self.arm(turn);
                Word::Done
            }
        }
    }

    fn arm(&mut self, turn: &Turn) {
        let Some(guard) = &mut self.guard else { return };
        if let Some(deadline) = guard.deadline
            && guard.timer.is_none_or(|timer| timer > deadline || timer < turn.now)
        {
            guard.timer = Some(deadline);
            self.queue.push(deadline, Event::Guard);
        }
    }

    /// Its timer rang.
    pub(super) fn guard_looks(&mut self, turn: &mut Turn) {
        let Some(guard) = &mut self.guard else { return };
        guard.timer = None;
        if guard.deadline.is_some_and(|deadline| deadline <= turn.now) {
            guard.deadline = None;
            guard.ordered = true;
            self.kill_server(turn);
        } else {
            self.arm(turn);
        }
    }

    /// A signal waits for a process that is stopped.
    pub(super) fn deliver_signals(&mut self, turn: &mut Turn) {
        if std::mem::take(&mut self.stop_requested) {
            self.stop_fast(turn);
        }
    }

    /// The postmaster ended; the guard tells, once it runs.
    pub(super) fn guard_reaps(&mut self, turn: &mut Turn, pid: u64, code: Option<i32>) {
        let Some(guard) = &mut self.guard else { return };
        if guard.child != Some(pid) {
            return;
        }
        if self.paused.guard {
            guard.unreaped = Some((pid, code));
            return;
        }
        let itself = !guard.ordered;
        guard.child = None;
        guard.deadline = None;
        guard.last = Some((pid, code, itself));
        if let Some(run) = guard.agent {
            let takes = turn.dice.between(100, 1_500);
            self.agent_run(turn, takes, run, Task::Exited(pid, code, itself));
        } else {
            self.guard = None;
        }
    }

    /// It runs again: what lies in its socket, and the time that has passed, in either order.
    pub(super) fn guard_resumes(&mut self, turn: &mut Turn) {
        if turn.dice.per_mille(500) {
            self.guard_looks(turn);
        }
        let Some(guard) = &mut self.guard else { return };
        let orders = std::mem::take(&mut guard.orders);
        for order in orders {
            let word = self.obey(turn, order);
            self.answered(turn, order, word);
        }
        self.guard_looks(turn);
        if let Some((pid, code)) = self.guard.as_mut().and_then(|guard| guard.unreaped.take()) {
            self.guard_reaps(turn, pid, code);
        }
        if self.agent.as_ref().is_some_and(|agent| !agent.attached) {
            self.agent_task(turn, 100, Task::Attach);
        }
    }

    /// The agent's end of the socket is closed.
    pub(super) fn guard_loses_agent(&mut self) {
        if let Some(guard) = &mut self.guard {
            guard.agent = None;
            if guard.child.is_none() && !self.paused.guard {
                self.guard = None;
            }
        }
    }

    /// SIGKILL.
    pub(super) fn guard_dies(&mut self, turn: &mut Turn) {
        if self.guard.take().is_some() {
            self.paused.guard = false;
            self.agent_task(turn, 300, Task::GuardLost);
        }
    }
}
