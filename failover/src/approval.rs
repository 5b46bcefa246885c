//! What needs a second person: whatever lowers durability or destroys (I-33).
//!
//! Such a request is not carried out when it is made. It stands in the replicated state under the
//! hash of its plan until another person says yes to that very hash; then it is judged anew, as if
//! it were made at that moment, and if the plan is another one by then nothing happens. The entry
//! that carries it out closes it: a yes is good once. It ends by the wall clock, which outlives a
//! leader, or by the leader's own, should the wall clock be wrong.

use crate::cluster::Cluster;
use crate::decide::{Finding, finding};
use crate::event::{Approved, Authority, Change, Event};
use crate::ids::{Revision, TransitionId};
use crate::loss;
use crate::people::{self, Asker, Grant, Role, Ruled};
use crate::report::Severity;
use crate::request::{Request, Ruling, rule_on};
use crate::time::{Moment, Timestamp};
use crate::topology::{OnLastCopy, Topology};
use crate::view::View;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// So many are kept; of those that wait, no more than this may.
pub const KEPT: usize = 32;

/// A request that waits for a second person, or waited.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// What is asked for.
    pub request: Box<Request>,
    /// By whom.
    pub by: String,
    /// In which role.
    pub role: Role,
    /// What is lowered or destroyed, in words.
    pub lowers: Vec<String>,
    /// When it was asked for.
    pub asked: Timestamp,
    /// Until when it may be approved.
    pub until: Timestamp,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a request that needs two.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Nobody has approved it yet. After its time nobody can.
    Waiting,
    /// It was carried out.
    Approved {
        /// By whose approval.
        approved: Approved,
        /// When.
        at: Timestamp,
        /// The revision that it made.
        revision: Revision,
        /// The change of primary that it began.
        transition: Option<TransitionId>,
    },
    /// Whoever asked took it back.
    Withdrawn {
        /// Why.
        reason: String,
        /// When.
        at: Timestamp,
    },
}

impl Pending {
    /// Whether it waits, as far as the wall clock says.
    #[must_use]
    pub fn waits(&self, at: Timestamp) -> bool {
        self.outcome == Outcome::Waiting && at < self.until
    }
}

/// What of a request lowers durability or destroys. Nothing does where nothing is declared yet.
#[must_use]
pub fn lowers(cluster: &Cluster, request: &Request) -> Vec<String> {
    if cluster.topology_version == 0 {
        return vec![];
    }
    match request {
        Request::Forgo { service, from, to, .. } => vec![format!(
            "commits of {service} at {from}..{to}, perhaps acknowledged, are given up"
        )],
        Request::AcceptLoss { service, kept, bytes, .. } => {
            vec![format!("commits of {service} behind {kept} are given up: {}", loss::told(*bytes))]
        }
        Request::RemoveVoter { id, .. } => {
            let left = cluster.voters.len().saturating_sub(1);
            vec![format!("voter {id} is taken out, and {left} are left")]
        }
        Request::Apply { topology, .. } => lowered(&cluster.topology, topology),
        Request::Switchover { .. }
        | Request::Failover { .. }
        | Request::Hold { .. }
        | Request::Resume { .. }
        | Request::Drill { .. }
        | Request::AbortDrill { .. }
        | Request::Acknowledge { .. }
        | Request::AddVoter { .. }
        | Request::Approve { .. }
        | Request::Withdraw { .. } => vec![],
    }
}

fn lowered(now: &Topology, then: &Topology) -> Vec<String> {
    let mut lowers = Vec::new();
    if now.people.two_persons && !then.people.two_persons {
        lowers.push(String::from("one person alone may lower durability from then on"));
    }
    if now.people.totp && !then.people.totp {
        lowers.push(String::from("a certificate alone is enough to change something from then on"));
    }
    for (id, spec) in &now.services {
        let Some(new) = then.services.get(id) else {
            lowers.push(format!("service {id} is not protected any more"));
            continue;
        };
        for (instance, declared) in &spec.instances {
            match new.instances.get(instance) {
                None => lowers.push(format!("instance {instance} of {id} is removed")),
                Some(moved) if moved.site != declared.site => lowers.push(format!(
                    "instance {instance} of {id} counts for site {} instead of {}",
                    moved.site, declared.site
                )),
                Some(_) => {}
            }
        }
        if new.required < spec.required {
            lowers.push(format!(
                "commits of {id} wait for {} standbys instead of {}",
                new.required, spec.required
            ));
        }
        if (spec.on_last_copy, new.on_last_copy) == (OnLastCopy::Block, OnLastCopy::SingleCopy) {
            lowers.push(format!("{id} goes on with a single copy when no standby is left"));
        }
    }
    lowers
}

fn refuse(check: &str, text: String) -> Ruled {
    Ruled::Refused(vec![finding(check, Severity::Blocks, None, text)])
}

/// A request that needs two is to wait for the second.
pub(crate) fn ask(
    cluster: &Cluster,
    view: &View,
    (request, lowers, plan): (&Request, Vec<String>, String),
    asker: Asker<'_>,
    now: Moment,
) -> Ruled {
    let waiting = |pending: &Pending| pending.waits(asker.at);
    match cluster.pending.get(&plan).filter(|pending| waiting(pending)) {
        Some(known) if known.by == asker.name && !view.has_waited(&plan, known, now) => {
            return Ruled::Waits(plan);
        }
        Some(known) if known.by != asker.name => {
            let by = &known.by;
            let text = format!("{by} asked for the same: `baton approve {plan}` says yes to it");
            return refuse("approval", text);
        }
        Some(_) | None => {}
    }
    if cluster.pending.values().filter(|pending| waiting(pending)).count() >= KEPT {
        return refuse("approval", format!("{KEPT} requests wait for a second person already"));
    }
    let valid = cluster.topology.people.approval_expires;
    let millis = i64::try_from(valid.as_millis()).unwrap_or(i64::MAX);
    let until = Timestamp(asker.at.0.saturating_add(millis));
    let cause = request.reason();
    Ruled::Granted(Box::new(Grant {
        change: Change::Asked { plan, request: Box::new(request.clone()), lowers, until },
        cause,
        by: asker.name.to_string(),
        plan: None,
        authority: asker.authority(None),
    }))
}

/// The hash of the plan of a request, as things stand.
pub type PlanOf<'a> = &'a dyn Fn(&Request) -> Option<String>;

/// A second person says yes: what was asked for is judged anew, now.
pub(crate) fn approve(
    cluster: &Cluster,
    view: &View,
    (hash, reason): (&str, &str),
    (asker, plan): (Asker<'_>, PlanOf<'_>),
    now: Moment,
) -> Ruled {
    let pending = match waiting(cluster, view, hash, asker, now) {
        Ok(pending) => pending,
        Err(text) => return refuse("approval", text),
    };
    let Pending { request, by, role, .. } = pending;
    if by == asker.name {
        return refuse("approval", format!("{by} asked for it: another person must approve it"));
    }
    let (change, cause) = match rule_on(cluster, view, request, (by, asker.at), now) {
        Ruling::Refused(findings) => return Ruled::Refused(no_longer(by, findings)),
        Ruling::Granted { change, cause } => (*change, cause),
    };
    let present = plan(request);
    if present.as_deref() != Some(hash) {
        let text = format!(
            "what the plan rests on has changed since {by} asked: it is another plan now, and \
             nobody has seen it; {by} must ask again"
        );
        return refuse("approval", text);
    }
    let approved =
        Approved { by: asker.name.to_string(), role: asker.role, reason: reason.to_string() };
    Ruled::Granted(Box::new(Grant {
        change,
        cause,
        by: by.clone(),
        plan: Some(hash.to_string()),
        authority: Authority { role: *role, ..asker.authority(Some(approved)) },
    }))
}

fn no_longer(by: &str, mut findings: Vec<Finding>) -> Vec<Finding> {
    let text = format!("what {by} asked for would be refused now; {by} must look again");
    findings.insert(0, finding("approval", Severity::Blocks, None, text));
    findings
}

/// Whoever asked takes it back: there is nothing to approve any more.
pub(crate) fn withdraw(
    cluster: &Cluster,
    view: &View,
    (hash, reason): (&str, String),
    asker: Asker<'_>,
    now: Moment,
) -> Ruled {
    match waiting(cluster, view, hash, asker, now) {
        Err(text) => refuse("approval", text),
        Ok(Pending { by, .. }) if by != asker.name => {
            let text = format!("{by} asked for it and nobody else withdraws it: do not approve it");
            refuse("approval", text)
        }
        Ok(_) => Ruled::Granted(Box::new(Grant {
            change: Change::Withdrawn { plan: hash.to_string() },
            cause: reason,
            by: asker.name.to_string(),
            plan: None,
            authority: asker.authority(None),
        })),
    }
}

/// The request that waits for a yes now, or why there is none.
fn waiting<'a>(
    cluster: &'a Cluster,
    view: &View,
    hash: &str,
    asker: Asker<'_>,
    now: Moment,
) -> Result<&'a Pending, String> {
    let none = || format!("no request waits under {hash}: `baton approve` lists those that do");
    let pending = cluster.pending.get(hash).ok_or_else(none)?;
    let by = &pending.by;
    match &pending.outcome {
        Outcome::Approved { approved, .. } => {
            return Err(format!("{} approved this already: it is done", approved.by));
        }
        Outcome::Withdrawn { reason, .. } => return Err(format!("{by} withdrew this: {reason}")),
        Outcome::Waiting => {}
    }
    if !pending.waits(asker.at) || view.has_waited(hash, pending, now) {
        return Err(format!("the time for it is over: {by} must ask again"));
    }
    Ok(pending)
}

/// Whether an entry that people asked for still may take effect: no code of it was used, and where
/// a second person approved it the request waits, and this is the one that it is about. The group
/// of voters has changed by itself when its entry comes here.
pub(crate) fn stands(cluster: &Cluster, event: &Event) -> bool {
    if !people::stands(cluster, event) {
        return false;
    }
    let approved = event.authority.as_ref().and_then(|authority| authority.approved.as_ref());
    let Some(approved) = approved else { return true };
    let pending = event.plan.as_ref().and_then(|plan| cluster.pending.get(plan));
    let waits = pending.is_some_and(|pending| {
        pending.outcome == Outcome::Waiting && pending.by == event.by && approved.by != event.by
    });
    waits || matches!(event.change, Change::VoterRemoved { .. })
}

/// Puts a request that needs two into the state.
pub(crate) fn enact(
    cluster: &mut Cluster,
    event: &Event,
    (plan, request): (&str, &Request),
    (lowers, until): (&[String], Timestamp),
) -> Option<String> {
    let at = event.stamp.at;
    let role = event.authority.as_ref()?.role;
    if cluster.pending.get(plan).is_some_and(|known| known.waits(at) && known.by != event.by) {
        return None;
    }
    let over = |pending: &Pending| !pending.waits(at);
    while cluster.pending.len() >= KEPT {
        let oldest = cluster.pending.iter().filter(|(_, pending)| over(pending));
        let oldest =
            oldest.min_by_key(|(_, pending)| pending.asked).map(|(plan, _)| plan.clone())?;
        cluster.pending.remove(&oldest);
    }
    let pending = Pending {
        request: Box::new(request.clone()),
        by: event.by.clone(),
        role,
        lowers: lowers.to_vec(),
        asked: at,
        until,
        outcome: Outcome::Waiting,
    };
    cluster.pending.insert(plan.to_string(), pending);
    Some(format!("a second person is asked to approve {}: {}", short(plan), lowers.join("; ")))
}

/// As much of a hash as people read.
fn short(plan: &str) -> &str {
    plan.get(..12).unwrap_or(plan)
}

/// A request is taken back, unless it was approved meanwhile.
pub(crate) fn withdrawn(cluster: &mut Cluster, event: &Event, plan: &str) -> Option<String> {
    let pending = cluster.pending.get_mut(plan)?;
    if pending.outcome != Outcome::Waiting || pending.by != event.by {
        return None;
    }
    pending.outcome = Outcome::Withdrawn { reason: event.cause.clone(), at: event.stamp.at };
    Some(format!("what waited for a second person under {} is withdrawn", short(plan)))
}

/// A request has taken effect: its code is used, and where it was approved that is done.
pub(crate) fn close(cluster: &mut Cluster, event: &Event) {
    people::used(cluster, event);
    let approved = event.authority.as_ref().and_then(|authority| authority.approved.clone());
    let (Some(approved), Some(plan)) = (approved, &event.plan) else { return };
    let transition = if let Change::Service { service, .. } = &event.change {
        cluster.services.get(service)
    } else {
        None
    };
    let transition = transition.and_then(|service| Some(service.transition.as_ref()?.id));
    let (at, revision) = (event.stamp.at, cluster.revision);
    if let Some(pending) = cluster.pending.get_mut(plan) {
        pending.outcome = Outcome::Approved { approved, at, revision, transition };
    }
}
