//! What a person may ask of drills.

use super::{DrillChange, Kind, LONGEST_DWELL, Stage, enact, isolate, judge, restore};
use crate::cluster::Cluster;
use crate::decide::{Case, Finding, finding};
use crate::event::Change;
use crate::ids::{DrillId, InstanceId, ServiceId};
use crate::report::Severity;
use crate::request::{Ruling, refuse, switchover, undeclared, unready};
use crate::steady;
use crate::time::Moment;
use crate::topology::Instance;
use crate::view::View;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

/// What a drill is to be.
pub(crate) struct Wanted<'a> {
    pub(crate) kind: Kind,
    pub(crate) service: &'a ServiceId,
    pub(crate) to: Option<&'a InstanceId>,
    pub(crate) dwell: Duration,
    pub(crate) at_most: Option<Duration>,
    pub(crate) despite_hours: bool,
    pub(crate) reason: &'a str,
}

/// May a drill begin now?
pub(crate) fn begin(cluster: &Cluster, view: &View, wanted: &Wanted<'_>, now: Moment) -> Ruling {
    let Some(case) = Case::of(cluster, wanted.service, view, now) else {
        return undeclared(cluster, wanted.service);
    };
    if let Some(open) = judge::open(cluster) {
        let text = format!(
            "drill {} ({}) of {} is at {}; there is one at a time: wait until it is over, or \
             `baton drill abort {}`",
            open.id,
            open.kind.name(),
            open.service,
            open.stage.name(),
            open.id
        );
        return refuse("drill-open", text);
    }
    if wanted.reason.trim().is_empty() {
        return refuse("reason", "a drill needs a reason, for the record");
    }
    match fits(&case, wanted) {
        Ok(target) => {
            let (kind, service) = (wanted.kind, wanted.service.clone());
            let (dwell, occasion) = (wanted.dwell, None);
            let usual = (kind == Kind::Isolate).then(|| isolate::usual(case.timing));
            let at_most = wanted.at_most.or(usual);
            let despite = view.closed.clone().filter(|_| kind.has_impact());
            let change =
                DrillChange::Begun { kind, service, target, dwell, at_most, occasion, despite };
            let drill = enact::next(cluster);
            let change = Box::new(Change::Drill { drill, stage: None, change });
            Ruling::Granted { change, cause: wanted.reason.to_string() }
        }
        Err(findings) => Ruling::Refused(findings),
    }
}

/// Whom the primary would go to; nobody, where it stays.
fn fits(case: &Case<'_>, wanted: &Wanted<'_>) -> Result<Option<InstanceId>, Vec<Finding>> {
    let mut findings = unready(case, true);
    if !wanted.kind.has_impact() {
        let target = match wanted.kind {
            Kind::Dns if findings.is_empty() => elsewhere(case, wanted.to).map(Some),
            Kind::RestorePath if findings.is_empty() => {
                restore::candidate(case, wanted.to).map(Some)
            }
            Kind::Dns | Kind::Readiness | Kind::Switchover | Kind::Isolate | Kind::RestorePath => {
                Ok(None)
            }
        };
        return if findings.is_empty() { target } else { Err(findings) };
    }
    if wanted.dwell > LONGEST_DWELL {
        let text = format!("a dwell of more than {} h", LONGEST_DWELL.as_secs() / 3_600);
        findings.push(finding("dwell", Severity::Blocks, None, text));
    }
    findings.extend(isolate::against(case, wanted));
    findings.extend(steady::bars(case));
    if let Some(hours) = case.view.closed.as_ref().filter(|_| !wanted.despite_hours) {
        let text = format!("{hours}; wait, or say --in-protected-hours");
        findings.push(finding("protected-hours", Severity::Blocks, None, text));
    }
    match switchover(case, wanted.to) {
        Ok(target) if findings.is_empty() => Ok(Some(target)),
        Ok(_) => Err(findings),
        Err(more) => {
            let new = more.into_iter().filter(|more| !findings.contains(more));
            let new: Vec<Finding> = new.collect();
            findings.extend(new);
            Err(findings)
        }
    }
}

/// Whom the canary name would point at: somebody with another address than the primary.
fn elsewhere(case: &Case<'_>, to: Option<&InstanceId>) -> Result<InstanceId, Vec<Finding>> {
    let spec = &case.service.spec;
    let address = |id: &InstanceId| spec.instances.get(id).map(Instance::client_address);
    let home = case.service.primary.as_ref().and_then(address);
    let mut all = spec.preference.iter().filter(|id| to.is_none_or(|to| to == *id));
    let found = all.find(|id| address(id).is_some_and(|at| Some(at) != home));
    found.cloned().ok_or_else(|| {
        let text = match to {
            Some(to) => format!("{to} is no instance with another address than the primary's"),
            None => String::from("no instance has another address than the primary"),
        };
        Vec::from([finding("candidate", Severity::Blocks, None, text)])
    })
}

/// May a drill be given up now?
pub(crate) fn abort(cluster: &Cluster, id: DrillId, reason: &str) -> Ruling {
    let Some(drill) = cluster.drills.get(&id) else {
        return refuse("drill", format!("there is no drill {id}; see `baton drill list`"));
    };
    let no = |text: String| refuse("drill", text);
    if !drill.is_open() {
        return no(format!("drill {id} is over; see `baton drill report {id}`"));
    }
    if drill.abort.is_some() {
        return no(format!("drill {id} is given up already; what was moved is being returned"));
    }
    if drill.stage == Stage::Back && drill.kind.has_impact() {
        return no(format!("drill {id} is returning the primary already"));
    }
    let change = Change::Drill { drill: id, stage: None, change: DrillChange::AbortAsked };
    Ruling::Granted { change: Box::new(change), cause: reason.to_string() }
}
