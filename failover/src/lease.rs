//! Both halves of the lease, side by side (layer 3).
//!
//! Writes are safe without it (see [`crate::quorum`]); it bounds how long a primary that was
//! replaced goes on answering *readers*. The holder counts from the instant it **sent** the report
//! whose answer carried the lease, or **began** the commit that the standbys acknowledged; the
//! granter answers later than that, and declares the primary lost only after `suspect_after`
//! without a report and without a sign of the stream, both later than those instants. So the
//! holder has fenced itself `suspect_after - fence_after - fence_time` before anyone else is
//! promoted, whatever the two clocks show, as long as their rates differ by less than the
//! declared error: that is the timing law. Either proof suffices: losing every orchestrator stops
//! nothing, and losing the control plane's network alone stops nothing (fail static, I-24).

use crate::cluster::{Cluster, Step};
use crate::comply::Local;
use crate::ids::Epoch;
use crate::report::Report;
use crate::time::Moment;
use crate::topology::Timing;

/// The holder's half: until when the primary may serve. `None`: it has no proof at all.
#[must_use]
pub fn expires(local: &Local, timing: &Timing) -> Option<Moment> {
    local.leased.max(local.committed).map(|proof| proof.after(timing.fence_after))
}

/// Whether the primary may serve now.
#[must_use]
pub fn is_valid(local: &Local, timing: &Timing, now: Moment) -> bool {
    expires(local, timing).is_some_and(|end| now < end)
}

/// What the guard does with a hardware watchdog, which resets the machine unless it is fed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watchdog {
    /// Nothing is served under a deadline: the device is switched off.
    Off,
    /// The deadline holds.
    Feed,
    /// The deadline has passed and something of PostgreSQL still runs: what SIGKILL does not end,
    /// the machine's reset does.
    Starve,
}

/// The guard's half, where the machine has a watchdog: `runs` is whether anything of PostgreSQL
/// does, `deadline` the one that the evidence was last worth; `None`: it serves nobody.
#[must_use]
pub fn watchdog(runs: bool, deadline: Option<Moment>, now: Moment) -> Watchdog {
    match deadline {
        Some(deadline) if runs && now >= deadline => Watchdog::Starve,
        Some(_) if runs => Watchdog::Feed,
        Some(_) | None => Watchdog::Off,
    }
}

/// The granter's half: the epoch to grant to the sender of a report, if it is the primary of its
/// service and no one is about to take its place. To be called by a leader whose leadership a
/// quorum has confirmed *after* the report arrived (I-19).
#[must_use]
pub fn grant(cluster: &Cluster, report: &Report) -> Option<Epoch> {
    let service = cluster.services.get(&report.service)?;
    let leaves = matches!(service.step(), Some(Step::CatchUp | Step::Seal));
    let is_primary = service.primary.as_ref() == Some(&report.instance);
    (is_primary && !leaves && report.pledge.granted == service.epoch).then_some(service.epoch)
}
