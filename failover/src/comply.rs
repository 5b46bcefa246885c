//! The agent's single next action: level-triggered, idempotent, pure.
//!
//! The agent asks again after every action and on every change. An action that is already under
//! way or already done is not asked for again, because what it changes is in [`Local`].

use crate::assignment::{Assignment, Role};
use crate::drill::LONGEST_ISOLATION;
use crate::ids::{DrillId, Epoch, Generation, InstanceId, SystemIdentifier};
use crate::lease;
use crate::report::{Down, Pledge, Server};
use crate::time::Moment;
use alloc::format;
use alloc::string::String;
use core::time::Duration;

/// What the agent knows of its own machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    /// PostgreSQL, as last probed.
    pub server: Server,
    /// The identifier in the data directory, if there is one.
    pub system_identifier: Option<SystemIdentifier>,
    /// The promises on disk.
    pub pledge: Pledge,
    /// What the files on disk tell PostgreSQL to be, as written by this agent.
    pub configured: Configured,
    /// Sealed and standing still for `pledge.sealed`: receiver verified gone, replay finished.
    pub sealed: bool,
    /// Clients of a primary were let in since the server started, and it has not been told to stop
    /// since: whatever `pg_hba.conf` says by now, there may be readers (I-03).
    pub serves: bool,
    /// The newest epoch whose marker this server committed under its rule since it last started.
    pub proven: Option<Epoch>,
    /// The generation of the rule that PostgreSQL is proven to enforce since it last started.
    pub enforced: Option<Generation>,
    /// The last checkpoint asked for by a `prepare`, by epoch.
    pub prepared: Option<Epoch>,
    /// How the data directory stands to the upstream's history.
    pub divergence: Divergence,
    /// When the report was sent to which the newest lease was the answer.
    pub leased: Option<Moment>,
    /// When the newest durable commit under the rule was begun.
    pub committed: Option<Moment>,
    /// When this run of the agent began, or it ceased to be cut off.
    pub started: Moment,
    /// Since when the server is not running; meaningless while it runs.
    pub down_since: Moment,
    /// An answer or assignment has arrived from an orchestrator in this run.
    pub informed: bool,
    /// When the present assignment arrived; `None`: it was read from disk.
    pub assigned: Option<Moment>,
    /// Until when it has cut itself off, for a drill.
    pub isolated: Option<Moment>,
}

/// What the files on disk tell PostgreSQL to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configured {
    /// `standby.signal` is there.
    pub standby: bool,
    /// `primary_conninfo` names this upstream; `None`: it is empty.
    pub upstream: Option<InstanceId>,
    /// The rule in `synchronous_standby_names`.
    pub generation: Option<Generation>,
    /// `pg_hba.conf` admits clients.
    pub admits: bool,
}

/// How a data directory stands to the upstream's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Divergence {
    /// Not a question: it never was a primary since it last followed.
    None,
    /// It was a primary, or its stream was refused: it must be rewound before it may follow.
    Suspected,
    /// A rewind failed or is impossible: only a new copy helps (I-15).
    Beyond,
}

/// What the agent does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Make the data directory of a new service. First epoch only.
    Initialise,
    /// Copy the upstream with `pg_basebackup`; what was in the data directory is moved aside.
    Clone {
        /// From whom.
        upstream: InstanceId,
    },
    /// Keep the tail that will be lost, then `pg_rewind`.
    Rewind {
        /// To whose history.
        upstream: InstanceId,
    },
    /// Write the files of a standby that admits no client and start it.
    StartStandby {
        /// Whom it follows; `None`: nobody.
        upstream: Option<InstanceId>,
    },
    /// Write the files of a primary that admits no client and start it.
    StartPrimary,
    /// Immediate stop, and whatever of it still runs is killed.
    Fence {
        /// Why, for the log and the report.
        reason: String,
    },
    /// Turn clients away and stop cleanly, so that the standbys have all of the log.
    StopCleanly,
    /// Pledge the epoch on disk; then empty `primary_conninfo`, see the receiver gone, let replay
    /// finish.
    Seal {
        /// Whose primary it never again receives from.
        epoch: Epoch,
    },
    /// Write the granted epoch to disk.
    Accept {
        /// The epoch.
        epoch: Epoch,
    },
    /// Promote, and wait until it is writable.
    Promote,
    /// Write the rule and reload, then prove that PostgreSQL enforces it.
    Enforce {
        /// Which recording of the rule.
        generation: Generation,
    },
    /// Commit the epoch's marker under the rule.
    Prove {
        /// The epoch.
        epoch: Epoch,
    },
    /// Checkpoint, so that the coming stop is short.
    Prepare {
        /// In which epoch.
        epoch: Epoch,
    },
    /// Point `primary_conninfo` at the upstream and reload.
    Follow {
        /// Whom.
        upstream: InstanceId,
    },
    /// Open `pg_hba.conf` for clients.
    Admit,
    /// Be as one whose site is cut off: hear nothing, say nothing, let PostgreSQL do nothing.
    Isolate {
        /// For which drill; on disk before it begins.
        drill: DrillId,
        /// It ends by itself after this, and when the agent is started again.
        at_most: Duration,
    },
}

/// The next action, or `None` when all is as it should be or must be waited for.
#[must_use]
pub fn comply(assignment: Option<&Assignment>, local: &Local, now: Moment) -> Option<Action> {
    if let Server::Writable { admits, .. } = &local.server
        && (*admits || local.serves)
        && !assignment.is_some_and(|known| lease::is_valid(local, &known.timing, now))
    {
        return Some(fence("neither an orchestrator nor enough standbys answered in time"));
    }
    // Whose site is cut off is fenced as above, and waits.
    if local.isolated.is_some_and(|until| now < until) {
        return None;
    }
    let assignment = assignment.filter(|assignment| is_current(assignment, local))?;
    if is_foreign(assignment, local) {
        return None;
    }
    match &assignment.role {
        Role::Idle => None,
        Role::Primary { initialise, prepare } => {
            as_primary(assignment, local, now, (*initialise, *prepare))
        }
        Role::Stopped => as_stopped(local),
        Role::Fenced => as_fenced(assignment, local),
        Role::Sealed => as_sealed(assignment, local),
        Role::Standby { upstream } => as_standby(assignment, upstream, local),
    }
}

/// An assignment of an epoch before the one it accepted is an echo, and so is one of an epoch
/// before the one it swore off; and of an epoch that it swore off it never was the primary. A power
/// cut can bring such an assignment back from disk (I-20).
pub(crate) fn is_current(assignment: &Assignment, local: &Local) -> bool {
    let sworn = local.pledge.sealed;
    let over = sworn > assignment.epoch
        || (sworn == assignment.epoch && matches!(assignment.role, Role::Primary { .. }));
    assignment.epoch >= local.pledge.granted && !over
}

/// A data directory of another cluster is never touched (I-18).
pub(crate) fn is_foreign(assignment: &Assignment, local: &Local) -> bool {
    matches!(
        (assignment.system_identifier, local.system_identifier),
        (Some(ours), Some(theirs)) if ours != theirs
    )
}

fn fence(reason: impl Into<String>) -> Action {
    Action::Fence { reason: reason.into() }
}

fn as_primary(
    assignment: &Assignment,
    local: &Local,
    now: Moment,
    (initialise, prepare): (bool, bool),
) -> Option<Action> {
    let epoch = assignment.epoch;
    let may_create = initialise && local.system_identifier.is_none();
    match &local.server {
        Server::Absent => may_create.then_some(Action::Initialise),
        Server::Refused(_) | Server::Starting => None,
        Server::Down(_) | Server::Recovery { .. } if local.pledge.granted < epoch => {
            local.informed.then_some(Action::Accept { epoch })
        }
        Server::Down(down) => {
            // What a rewind left behind is never started, whoever says so (I-15).
            let beyond = local.divergence == Divergence::Beyond;
            if beyond || !may_start(down, assignment, local, now) {
                None
            } else if local.configured.standby {
                Some(Action::StartStandby { upstream: None })
            } else {
                Some(Action::StartPrimary)
            }
        }
        Server::Recovery { .. } => Some(Action::Promote),
        Server::Writable { admits, .. } => {
            if local.pledge.granted < epoch {
                return local.informed.then_some(Action::Accept { epoch });
            }
            writable(assignment, local, now, *admits, prepare)
        }
    }
}

/// A dead primary starts again in place only when an orchestrator that knew of its death still
/// calls it the primary half a heartbeat later, or none has been reachable for so long that no
/// answer is to be expected. Writes are safe either way: it starts fenced, and proves itself.
fn may_start(down: &Down, assignment: &Assignment, local: &Local, now: Moment) -> bool {
    let timing = &assignment.timing;
    let asked = match down {
        Down::NotStarted | Down::Clean(_) => local.informed,
        Down::Crashed | Down::Fenced => {
            let known = local.down_since.after(timing.heartbeat / 2);
            local.leased.is_some_and(|leased| leased >= known)
        }
    };
    let since = local.down_since.max(local.started);
    asked || now.since(since) >= timing.suspect_after
}

fn writable(
    assignment: &Assignment,
    local: &Local,
    now: Moment,
    admits: bool,
    prepare: bool,
) -> Option<Action> {
    let epoch = assignment.epoch;
    let generation = assignment.generation;
    // The rule is written before the first commit under it, and proven after.
    if local.configured.generation != Some(generation) {
        return Some(Action::Enforce { generation });
    }
    if local.proven != Some(epoch) {
        return Some(Action::Prove { epoch });
    }
    if !admits && lease::is_valid(local, &assignment.timing, now) {
        return Some(Action::Admit);
    }
    if local.enforced != Some(generation) {
        return Some(Action::Enforce { generation });
    }
    if let Some(isolate) = isolates(assignment, local) {
        return Some(isolate);
    }
    (prepare && local.prepared != Some(epoch)).then_some(Action::Prepare { epoch })
}

/// It cuts itself off once a drill, and only when a leader that a quorum confirmed since the order
/// came still says so: what a voter says that lags may be of a drill that is over.
fn isolates(assignment: &Assignment, local: &Local) -> Option<Action> {
    let order = assignment.isolate.as_ref()?;
    let fresh = local.pledge.isolated.is_none_or(|before| before < order.drill);
    let confirmed = local.assigned.is_some_and(|at| local.leased.is_some_and(|lent| lent >= at));
    let at_most = order.at_most.min(LONGEST_ISOLATION);
    (fresh && confirmed).then_some(Action::Isolate { drill: order.drill, at_most })
}

fn as_stopped(local: &Local) -> Option<Action> {
    match &local.server {
        Server::Writable { .. } | Server::Recovery { .. } => Some(Action::StopCleanly),
        Server::Absent | Server::Refused(_) | Server::Down(_) | Server::Starting => None,
    }
}

fn as_fenced(assignment: &Assignment, local: &Local) -> Option<Action> {
    match &local.server {
        Server::Writable { .. } | Server::Recovery { .. } | Server::Starting => {
            Some(fence(format!("epoch {} is being taken over", assignment.epoch)))
        }
        Server::Absent | Server::Refused(_) | Server::Down(_) => None,
    }
}

fn as_sealed(assignment: &Assignment, local: &Local) -> Option<Action> {
    let epoch = assignment.epoch;
    let pledged = local.pledge.sealed >= epoch;
    match &local.server {
        Server::Writable { .. } => Some(fence("it is writable, but its service says standby")),
        Server::Down(_) | Server::Starting if !pledged => Some(Action::Seal { epoch }),
        Server::Down(_) if local.divergence == Divergence::None => {
            Some(Action::StartStandby { upstream: None })
        }
        Server::Recovery { .. } if !pledged || !local.sealed => Some(Action::Seal { epoch }),
        Server::Absent
        | Server::Refused(_)
        | Server::Down(_)
        | Server::Starting
        | Server::Recovery { .. } => None,
    }
}

fn as_standby(assignment: &Assignment, upstream: &InstanceId, local: &Local) -> Option<Action> {
    // It swore never to receive from this epoch's primary again (I-06).
    if local.pledge.sealed >= assignment.epoch {
        return None;
    }
    let upstream = || upstream.clone();
    match &local.server {
        Server::Absent => Some(Action::Clone { upstream: upstream() }),
        Server::Refused(_) | Server::Starting => None,
        Server::Writable { .. } => {
            Some(fence(format!("epoch {} has another primary", assignment.epoch)))
        }
        Server::Down(_) => Some(match local.divergence {
            Divergence::None => Action::StartStandby { upstream: Some(upstream()) },
            Divergence::Suspected => Action::Rewind { upstream: upstream() },
            Divergence::Beyond => Action::Clone { upstream: upstream() },
        }),
        Server::Recovery { .. } if local.divergence != Divergence::None => {
            Some(fence("its history has left that of the primary"))
        }
        Server::Recovery { admits, .. } => {
            if local.configured.upstream != Some(upstream()) {
                return Some(Action::Follow { upstream: upstream() });
            }
            (!admits && local.informed).then_some(Action::Admit)
        }
    }
}
