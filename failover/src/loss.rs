//! Losing on purpose: a person accepts that what only lost instances hold is gone.
//!
//! An ordinary failover takes nobody who may lack something acknowledged. Where everyone who must
//! be asked is lost for good, that is for ever. So a person may say: up to here, and what is behind
//! it I give up. The number that was shown is part of what is asked for, and nothing more than it
//! is given up. Everything else stays as it is: whoever is reached is sealed before positions are
//! read, the old primary's lease is waited out, the epoch moves once, and if by then enough are
//! sealed after all, or the old primary is back, nothing is lost.
//!
//! What the old primary and lost acknowledgers do among themselves, cut off and alive, nobody can
//! see: they may go on acknowledging each other's commits. So they are named.

use crate::cluster::{Cluster, Step, Trigger};
use crate::decide::{Case, Finding, finding};
use crate::event::ServiceChange;
use crate::ids::{InstanceId, ServiceId};
use crate::lost::{self, Loss as Lost};
use crate::position::Position;
use crate::report::{Server, Severity};
use crate::seal;
use crate::steady::{can_seal, infeasible};
use crate::time::{Moment, millis};
use crate::view::View;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// What a person gave up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GivenUp {
    /// Everything up to here is kept.
    pub kept: Position,
    /// So many bytes behind it were known to be written; `None`: nobody knew.
    pub bytes: Option<u64>,
}

impl GivenUp {
    /// In words.
    #[must_use]
    pub fn told(&self) -> String {
        format!("giving up what is behind {}: {}", self.kept, told(self.bytes))
    }
}

/// What would be lost now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// Who holds most.
    pub candidate: InstanceId,
    /// Up to where it is certain to hold everything.
    pub kept: Position,
    /// How much more the primary had written when it was last heard; `None`: this leader has not
    /// heard it.
    pub bytes: Option<u64>,
    /// For how long the primary was heard after the candidate had stopped receiving from it.
    pub lasted_ms: Option<u64>,
    /// How long ago that was.
    pub ago_ms: Option<u64>,
    /// Acknowledgers that cannot be sealed: if they live, and the primary, they may go on.
    pub missing: Vec<InstanceId>,
}

/// What would be lost of a service if that were accepted now, or why nothing need be.
///
/// # Errors
/// What stands in the way, the first reason first.
pub fn assess(
    cluster: &Cluster,
    service: &ServiceId,
    view: &View,
    now: Moment,
) -> Result<Loss, Vec<Finding>> {
    let undeclared = || refused("service", format!("no service `{service}`"));
    judge(&Case::of(cluster, service, view, now).ok_or_else(undeclared)?)
}

fn refused(check: &str, text: impl Into<String>) -> Vec<Finding> {
    vec![finding(check, Severity::Blocks, None, text)]
}

fn judge(case: &Case<'_>) -> Result<Loss, Vec<Finding>> {
    let service = case.service;
    let Some(primary) = &service.primary else {
        return Err(refused("primary", "there is no primary yet: nothing can be lost"));
    };
    match service.step() {
        Some(Step::Seal) => stuck(case)?,
        Some(step @ (Step::Quiesce | Step::CatchUp)) => {
            let text = format!("a switchover is at {}: it goes on or rolls back", step.name());
            return Err(refused("transition-open", text));
        }
        Some(Step::Promote | Step::Prove | Step::Redirect | Step::Verify) | None => {
            lost_for_good(case, primary)?;
        }
    }
    if let Some(report) = case.view.fresh(primary, case.timing.suspect_after, case.now)
        && !matches!(report.server, Server::Absent | Server::Refused(_))
    {
        let text = format!("the agent of {primary} is heard: bring its PostgreSQL back");
        return Err(refused("primary-heard", text));
    }
    measured(case, primary)
}

/// The primary is lost, and no ordinary failover could succeed.
fn lost_for_good(case: &Case<'_>, primary: &InstanceId) -> Result<(), Vec<Finding>> {
    if let Lost::No(mut findings) =
        lost::judge(case.service, primary, case.view, case.timing, case.now)
    {
        let text = "the primary is not lost: nothing need be given up";
        findings.insert(0, finding("primary-heard", Severity::Blocks, Some(primary), text));
        return Err(findings);
    }
    let mut against = infeasible(case, false);
    if against.is_empty() {
        let text = format!("nothing need be lost: `baton failover {}`", case.id);
        return Err(refused("seal-quorum", text));
    }
    // What is in doubt only is given up by its own range.
    if against.iter().all(|finding| finding.check == "doubt") {
        let text = "enough can be sealed: only commits in doubt stand in the way";
        against.insert(0, finding("doubt", Severity::Blocks, None, text));
        return Err(against);
    }
    Ok(())
}

/// The open transition cannot leave its seals, and has waited long enough for them.
fn stuck(case: &Case<'_>) -> Result<(), Vec<Finding>> {
    let patience = case.timing.suspect_after * 2;
    let waits = case.view.in_step(case.id, case.now) >= patience;
    if waits && seal::lacks_seals(case) {
        return Ok(());
    }
    let text = "a failover is under way and may yet succeed: wait, and see `baton explain`";
    Err(refused("transition-open", text))
}

fn measured(case: &Case<'_>, primary: &InstanceId) -> Result<Loss, Vec<Finding>> {
    let service = case.service;
    let best = service
        .spec
        .instances
        .keys()
        .filter(|id| *id != primary && can_seal(case, id))
        .filter_map(|id| Some((id, holds(case, id)?)))
        .max_by_key(|(_, position)| (position.timeline, position.lsn));
    let Some((candidate, kept)) = best else {
        let text = "no other instance with data of this service is heard: nobody could take over";
        return Err(refused("candidate", text));
    };
    let written = case.view.written.get(primary);
    let bytes = written.and_then(|(_, end)| {
        end.compare(&kept).map(|_| end.lsn.bytes_since(kept.lsn.min(end.lsn)))
    });
    // Until then it received; without a word on that, until the primary was last heard.
    let heard = written.map(|(at, _)| *at);
    let until = heard
        .map(|heard| case.view.missing.get(candidate).map_or(heard, |since| (*since).min(heard)));
    let missing = service.rule.instances.iter().filter(|id| !can_seal(case, id)).cloned();
    Ok(Loss {
        candidate: candidate.clone(),
        bytes,
        lasted_ms: heard.zip(until).map(|(heard, until)| millis(heard.since(until))),
        ago_ms: until.map(|until| millis(case.now.since(until))),
        missing: missing.collect(),
        kept,
    })
}

/// Up to where an instance is certain to hold everything: where it stands once it is sealed, and
/// before that what it has replayed, for the rest may be the beginning of a record.
fn holds(case: &Case<'_>, id: &InstanceId) -> Option<Position> {
    let report = case.report(id)?;
    if report.system_identifier != case.service.system_identifier {
        return None;
    }
    let sealed = report.sealed_at.as_ref().filter(|_| report.pledge.sealed == case.service.epoch);
    match (sealed, &report.server) {
        (Some(position), _) => Some(position.clone()),
        (None, Server::Recovery { position, replayed, .. }) => {
            Some(Position { lsn: position.lsn.min(*replayed), ..position.clone() })
        }
        (None, _) => None,
    }
}

/// A person accepts the loss that was shown: no more than that is given up.
pub(crate) fn accept(
    case: &Case<'_>,
    (kept, bytes): (&Position, Option<u64>),
) -> Result<ServiceChange, Vec<Finding>> {
    let now = judge(case)?;
    let more = match (now.bytes, bytes) {
        (Some(now), Some(shown)) => now > shown,
        (now, shown) => now != shown,
    };
    if more || !now.kept.contains(kept) {
        return Err(refused(
            "loss",
            format!(
                "another loss was shown: now everything up to {} is kept, and {} behind it are \
                 known; look again, and say that number",
                now.kept,
                told(now.bytes)
            ),
        ));
    }
    Ok(ServiceChange::Started {
        trigger: Trigger::Failover,
        target: None,
        step: Step::Seal,
        drill: None,
        readiness: None,
        given_up: Some(GivenUp { kept: kept.clone(), bytes }),
    })
}

/// A number of bytes that may not be known.
#[must_use]
pub fn told(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| String::from("nobody knows how many bytes"), |n| format!("{n} bytes"))
}
