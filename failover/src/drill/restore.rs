//! The drill of a former primary's way back: a standby's agent makes a copy beside its instance,
//! has it lead, write and die, and brings it back under the primary by the path that a former
//! primary takes. Nobody moves, no client is served by the copy, and it counts for no commit.
//!
//! The order is a part of the standby's assignment for as long as the drill is at `there`; an agent
//! that does not find it there any more ends what it began. What came of it is in its reports.

use super::judge::{Opinion, end, ended_with, held, overtaken, wait};
use super::{Drill, KNOW_WITHIN, Kind, Outcome, REHEARSED_WITHIN, Stage};
use crate::cluster::Cluster;
use crate::decide::{Case, Finding, finding};
use crate::ids::{DrillId, InstanceId, ServiceId};
use crate::report::{Server, Severity};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// What an agent says of a rehearsal that it was ordered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rehearsed {
    /// For which drill.
    pub drill: DrillId,
    /// How far it is.
    pub stands: Progress,
}

/// How far a rehearsal is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Progress {
    /// It goes on: what is being done.
    UnderWay(String),
    /// The copy was back under the primary: how long each part took.
    Done(String),
    /// It was not: why.
    Failed(String),
}

/// For which drill an instance is to rehearse now, if it is. Nobody begins or goes on while a
/// person holds automation, once the drill is given up, or while a primary changes.
#[must_use]
pub fn rehearses(cluster: &Cluster, id: &ServiceId, instance: &InstanceId) -> Option<DrillId> {
    let drill = super::judge::open(cluster)?;
    let service = cluster.services.get(id)?;
    let due = drill.kind == Kind::RestorePath && drill.stage == Stage::There;
    let whom = drill.service == *id && drill.target.as_ref() == Some(instance);
    let calm = service.transition.is_none() && service.hold.is_none() && drill.abort.is_none();
    let stays = service.primary == drill.home && service.primary.as_ref() != Some(instance);
    (due && whom && calm && stays).then_some(drill.id)
}

/// Whose copy it is: the standby that is asked for, or the last in the declared order, which is
/// missed the least while its disk is busy.
pub(super) fn candidate(
    case: &Case<'_>,
    to: Option<&InstanceId>,
) -> Result<InstanceId, Vec<Finding>> {
    let mut all = case.service.spec.preference.iter().rev();
    let asked = |id: &&InstanceId| to.is_none_or(|to| to == *id);
    all.find(|id| asked(id) && follows(case, id)).cloned().ok_or_else(|| {
        let text = match to {
            Some(to) => format!("{to} is no standby that follows the primary"),
            None => String::from("no standby follows the primary"),
        };
        Vec::from([finding("candidate", Severity::Blocks, to, text)])
    })
}

fn follows(case: &Case<'_>, id: &InstanceId) -> bool {
    let primary = case.service.primary.as_ref();
    Some(id) != primary
        && case.report(id).is_some_and(|report| {
            let streams = report.receiver.as_ref().is_some_and(|receiver| receiver.streaming);
            matches!(report.server, Server::Recovery { .. }) && streams
        })
}

/// The standby is told to rehearse: is it done?
pub(super) fn rehearsed(case: &Case<'_>, drill: &Drill) -> Opinion {
    if let Some(abort) = &drill.abort {
        return end(Outcome::Aborted(abort.reason.clone()));
    }
    if let Some(over) = overtaken(case, drill.home.as_ref()) {
        return over;
    }
    let Some(target) = &drill.target else {
        return end(Outcome::Failed("nobody was to rehearse".to_string()));
    };
    if let Some(hold) = held(case) {
        return Opinion::Wait([hold].into());
    }
    let fails = |why: String| end(Outcome::Failed(why));
    let waits = |text: &str| wait("rehearsal", Some(target), text);
    let Some(report) = case.report(target) else {
        let gone = case.view.silence(target, case.now) >= KNOW_WITHIN;
        return if gone {
            fails(format!("{target} is not heard any more"))
        } else {
            waits("it is not heard")
        };
    };
    let since = case.view.drilled(drill, case.now);
    let own = report.rehearsed.as_ref().filter(|said| said.drill == drill.id);
    match own.map(|said| &said.stands) {
        Some(Progress::Done(text)) => ended_with(Outcome::Passed, text.clone()),
        Some(Progress::Failed(why)) => fails(format!("{target}: {why}")),
        Some(Progress::UnderWay(_)) if since >= REHEARSED_WITHIN => {
            fails(format!("not done within {} h", REHEARSED_WITHIN.as_secs() / 3_600))
        }
        Some(Progress::UnderWay(what)) => waits(what),
        None if since >= KNOW_WITHIN => fails(format!("the agent of {target} did not begin")),
        None => waits("it is told to begin"),
    }
}
