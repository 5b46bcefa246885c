//! What operators may ask for, and the ruling on it.

mod declare;

use crate::alert::{self, AlertKey};
use crate::cluster::{Cluster, Hold, Step, Trigger, Voter};
use crate::decide::{Case, Finding, finding};
use crate::doubt;
use crate::drill::{self, Wanted};
use crate::event::{Change, ServiceChange};
use crate::ids::{DrillId, InstanceId, Lsn, ServiceId, VoterId};
use crate::loss;
use crate::position::Position;
use crate::quorum;
use crate::report::Severity;
use crate::steady;
use crate::time::{Moment, Timestamp, maybe_millis};
use crate::topology::Topology;
use crate::view::View;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;
use serde::{Deserialize, Serialize};

/// What an operator asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Replace the topology, if its version is still `expected`.
    Apply {
        /// The version that the new one was made from.
        expected: u64,
        /// The new topology.
        topology: Box<Topology>,
        /// Why, for the record.
        #[serde(default)]
        reason: String,
    },
    /// A planned change of primary.
    Switchover {
        /// Of which service.
        service: ServiceId,
        /// To whom; `None`: the best candidate.
        to: Option<InstanceId>,
        /// Why, for the record.
        reason: String,
    },
    /// Declare the primary lost and fail over now.
    Failover {
        /// Of which service.
        service: ServiceId,
        /// Why, for the record.
        reason: String,
    },
    /// Pause automation.
    Hold {
        /// Of which service.
        service: ServiceId,
        /// Why.
        reason: String,
    },
    /// Let automation go on, and acknowledge the last automatic failover.
    Resume {
        /// Of which service.
        service: ServiceId,
        /// Why.
        reason: String,
    },
    /// Give up commits in doubt (I-12), naming their range exactly, so that a lost primary can be
    /// replaced by an instance that lacks them.
    Forgo {
        /// Of which service.
        service: ServiceId,
        /// Where the range begins.
        from: Lsn,
        /// Where it ends.
        to: Lsn,
        /// Why, for the record.
        reason: String,
    },
    /// Fail over although what only lost instances hold is lost by it: no more than was shown.
    AcceptLoss {
        /// Of which service.
        service: ServiceId,
        /// Everything up to here is kept.
        kept: Position,
        /// So many bytes behind it are known to have been written; `None`: nobody knows.
        bytes: Option<u64>,
        /// Why, for the record.
        reason: String,
    },
    /// Rehearse a disaster.
    Drill {
        /// What.
        kind: drill::Kind,
        /// With which service.
        service: ServiceId,
        /// Who is to take over; `None`: the best candidate.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<InstanceId>,
        /// How long the service is to run there.
        #[serde(rename = "dwell_ms", with = "crate::time::millis")]
        dwell: Duration,
        /// How long the primary may be cut off, where that is rehearsed; `None`: as is usual.
        #[serde(default, skip_serializing_if = "Option::is_none", with = "maybe_millis")]
        at_most: Option<Duration>,
        /// Also in hours that are protected from drills.
        #[serde(default)]
        despite_hours: bool,
        /// Why, for the record.
        reason: String,
    },
    /// Give a drill up: what it moved is returned.
    AbortDrill {
        /// Which.
        drill: DrillId,
        /// Why, for the record.
        reason: String,
    },
    /// Take an alert on: nobody is reminded of it any more.
    Acknowledge {
        /// Which.
        alert: AlertKey,
        /// What is being done about it, for the record.
        reason: String,
    },
    /// Add a voter to the group.
    AddVoter {
        /// Its number: never used before.
        id: VoterId,
        /// What it is.
        voter: Voter,
        /// Why, for the record.
        #[serde(default)]
        reason: String,
    },
    /// Say yes to what another person asked for.
    Approve {
        /// The hash of its plan.
        plan: String,
        /// Why, for the record.
        reason: String,
    },
    /// Take back what one has asked for and nobody has approved yet.
    Withdraw {
        /// The hash of its plan.
        plan: String,
        /// Why, for the record.
        reason: String,
    },
    /// Take a voter out of the group.
    RemoveVoter {
        /// Its number.
        id: VoterId,
        /// Why, for the record.
        #[serde(default)]
        reason: String,
    },
}

/// The answer of the law.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// Propose this.
    Granted {
        /// The change.
        change: Box<Change>,
        /// Its cause, in words.
        cause: String,
    },
    /// Nothing changes; why not, the first reason first.
    Refused(Vec<Finding>),
}

/// Judges an operator's request by the same law as everything else.
#[must_use]
pub fn rule_on(
    cluster: &Cluster,
    view: &View,
    request: &Request,
    (by, at): (&str, Timestamp),
    now: Moment,
) -> Ruling {
    match request {
        Request::Apply { expected, topology, reason } => {
            declare::topology(cluster, *expected, (topology, reason))
        }
        Request::AddVoter { id, voter, reason } => {
            declare::add_voter(cluster, *id, (voter, reason))
        }
        Request::RemoveVoter { id, reason } => declare::remove_voter(cluster, *id, reason),
        // Whose request it is about is judged in its stead: `people`.
        Request::Approve { .. } | Request::Withdraw { .. } => {
            refuse("approval", "nothing is approved or withdrawn without a person")
        }
        Request::Drill { kind, service, to, dwell, at_most, despite_hours, reason } => {
            let (kind, dwell, at_most) = (*kind, *dwell, *at_most);
            let (to, despite_hours) = (to.as_ref(), *despite_hours);
            let wanted = Wanted { kind, service, to, dwell, at_most, despite_hours, reason };
            drill::begin(cluster, view, &wanted, now)
        }
        Request::AbortDrill { drill, reason } => drill::abort(cluster, *drill, reason),
        Request::Acknowledge { alert, reason } => alert::acknowledge(cluster, alert, reason),
        Request::Switchover { service, to, reason } => {
            on_service(cluster, view, service, now, |case| {
                let target = Some(switchover(case, to.as_ref())?);
                let change = ServiceChange::started(Trigger::Switchover, target, Step::Quiesce);
                Ok((change, reason.clone()))
            })
        }
        Request::Failover { service, reason } => on_service(cluster, view, service, now, |case| {
            let findings = unready(case, false);
            let change = ServiceChange::started(Trigger::Failover, None, Step::Seal);
            if findings.is_empty() { Ok((change, reason.clone())) } else { Err(findings) }
        }),
        Request::Hold { service, reason } => on_service(cluster, view, service, now, |_| {
            let hold = Hold { by: by.to_string(), reason: reason.clone(), since: at };
            Ok((ServiceChange::Held { hold }, reason.clone()))
        }),
        Request::Forgo { service, from, to, reason } => {
            on_service(cluster, view, service, now, |case| {
                doubt::forgo(case, (*from, *to)).map(|change| (change, reason.clone()))
            })
        }
        Request::AcceptLoss { service, kept, bytes, reason } => {
            on_service(cluster, view, service, now, |case| {
                loss::accept(case, (kept, *bytes)).map(|change| (change, reason.clone()))
            })
        }
        Request::Resume { service, reason } => on_service(cluster, view, service, now, |case| {
            if case.service.hold.is_none() && case.service.unacknowledged.is_none() {
                return Err(vec![finding(
                    "hold",
                    Severity::Info,
                    None,
                    "nothing is on hold and nothing waits to be acknowledged",
                )]);
            }
            Ok((ServiceChange::Resumed, reason.clone()))
        }),
    }
}

type Judged = Result<(ServiceChange, String), Vec<Finding>>;

pub(crate) fn refuse(check: &str, text: impl Into<String>) -> Ruling {
    Ruling::Refused(vec![finding(check, Severity::Blocks, None, text)])
}

/// There is no such service.
pub(crate) fn undeclared(cluster: &Cluster, id: &ServiceId) -> Ruling {
    let names: Vec<&str> = cluster.services.keys().map(ServiceId::as_str).collect();
    refuse("service", format!("no service `{id}`; there are: {}", names.join(", ")))
}

fn on_service(
    cluster: &Cluster,
    view: &View,
    id: &ServiceId,
    now: Moment,
    judge: impl FnOnce(&Case<'_>) -> Judged,
) -> Ruling {
    let Some(case) = Case::of(cluster, id, view, now) else { return undeclared(cluster, id) };
    match judge(&case) {
        Ok((change, cause)) => {
            let change = Box::new(crate::decide::stamped(id, case.service, change));
            Ruling::Granted { change, cause }
        }
        Err(findings) => Ruling::Refused(findings),
    }
}

/// What stands in the way of any change of primary that a person asks for.
pub(crate) fn unready(case: &Case<'_>, planned: bool) -> Vec<Finding> {
    if let Some(open) = &case.service.transition {
        return vec![finding(
            "transition-open",
            Severity::Blocks,
            None,
            format!("transition {} is at {}; wait until it is done", open.id, open.step.name()),
        )];
    }
    if case.service.primary.is_none() {
        return vec![finding("primary", Severity::Blocks, None, "there is no primary yet")];
    }
    if planned { vec![] } else { steady::infeasible(case, false) }
}

/// To whom the primary may be moved now.
pub(crate) fn switchover(
    case: &Case<'_>,
    to: Option<&InstanceId>,
) -> Result<InstanceId, Vec<Finding>> {
    let mut findings = unready(case, true);
    if !findings.is_empty() {
        return Err(findings);
    }
    let service = case.service;
    let streams = |id: &InstanceId| {
        case.primary_report().is_some_and(|report| {
            report.streams.iter().any(|s| s.instance == *id && s.streaming && s.caught_up)
        })
    };
    let home = service.primary.as_ref().and_then(|primary| service.site_of(primary));
    let target = to.cloned().or_else(|| {
        let fits = |id: &&InstanceId| {
            service.rule.instances.contains(*id) && service.site_of(id) != home && streams(id)
        };
        service.spec.preference.iter().find(fits).cloned()
    });
    let block = |check: &str, id: Option<&InstanceId>, text: String| {
        finding(check, Severity::Blocks, id, text)
    };
    let Some(target) = target else {
        findings.push(block(
            "candidate",
            None,
            "no synchronous standby in another site is caught up; name one with --to, or see \
             `baton status`"
                .to_string(),
        ));
        return Err(findings);
    };
    if service.primary.as_ref() == Some(&target) {
        findings.push(block("candidate", Some(&target), "it is the primary already".to_string()));
    } else if !service.spec.instances.contains_key(&target) {
        let names: Vec<&str> = service.spec.instances.keys().map(InstanceId::as_str).collect();
        let text = format!("no such instance; there are: {}", names.join(", "));
        findings.push(block("candidate", Some(&target), text));
    } else if !service.rule.instances.contains(&target) {
        let text = format!(
            "it is not in the synchronous rule ({}), so it may lack acknowledged commits",
            quorum::describe(&service.rule)
        );
        findings.push(block("candidate", Some(&target), text));
    } else if !streams(&target) {
        let text = "it does not stream from the primary, or is not caught up".to_string();
        findings.push(block("candidate", Some(&target), text));
    }
    findings.extend(steady::infeasible(case, false));
    if findings.is_empty() { Ok(target) } else { Err(findings) }
}
