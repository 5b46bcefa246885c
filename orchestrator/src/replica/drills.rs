//! Drills, as their leader moves them along and as operators are told of them.

mod calendar;

use std::collections::BTreeMap;
use std::time::Duration;

use failover::cluster::Record;
use failover::drill::{self, Drill, DrillVerdict, Kind, Outcome, Stage, preconditions};
use failover::event::Change;
use failover::ids::{DrillId, ServiceId};
use failover::rehearse::{Hypothesis, Rehearsal};
use failover::{Finding, Moment, Request, Ruling};

use super::{Clocks, Replica, Reply};
use crate::answers::{DrillPlan, DrillTold, Drills, OpenDrill};
use crate::plan;

pub(super) use calendar::Following;

/// How often the open drill is judged.
const EVERY: Duration = Duration::from_millis(200);
/// How often while it waits for what is not known: that takes as long as many decisions do.
const CHECK_EVERY: Duration = Duration::from_secs(2);

/// What a leader remembers of the open drill.
#[derive(Default)]
pub(super) struct Drilling {
    judged: Option<Moment>,
    verdict: Option<DrillVerdict>,
}

impl Replica {
    fn open_drill(&self) -> Option<&Drill> {
        self.cluster.drills.values().next_back().filter(|drill| drill.is_open())
    }

    /// Judges the open drill and proposes what follows. `true`: Raft has new work.
    pub(super) fn decide_drill(&mut self) -> bool {
        let Some(drill) = self.open_drill() else { return false };
        let (id, of) = (drill.id, drill.service.clone());
        let every = if drill.stage == Stage::Check { CHECK_EVERY } else { EVERY };
        let Clocks { now, wall } = self.clocks;
        let voters = self.seats();
        let Some(lead) = &mut self.lead else { return false };
        let lately = lead.drilling.judged.is_some_and(|at| now.since(at) < every);
        if lately || lead.has_proposed(&of, id) {
            return false;
        }
        drill::watch(&mut lead.view, &self.cluster, &voters, now);
        let verdict = drill::decide(&self.cluster, &lead.view, &voters, (wall, now));
        let change = verdict.as_ref().and_then(|verdict| verdict.change.clone());
        lead.drilling = Drilling { judged: Some(now), verdict };
        let Some((change, cause)) = change else { return false };
        tracing::info!(drill = %id, "proposing: {cause}");
        // A switchover that a drill begins is the drill's; what becomes of the drill is decided.
        let (by, service) = match &change {
            Change::Service { .. } => (format!("drill {id}"), Some(of)),
            Change::Drill { .. }
            | Change::Occasion { .. }
            | Change::Alert { .. }
            | Change::Topology { .. }
            | Change::Asked { .. }
            | Change::Withdrawn { .. }
            | Change::VoterSet { .. }
            | Change::VoterRemoved { .. }
            | Change::Noted { .. } => ("baton".into(), None),
        };
        self.propose(change, cause, &by, service, None).is_ok()
    }

    /// What the open drill waits for; nothing where this voter does not lead.
    fn drill_waits(&self, id: DrillId) -> Vec<Finding> {
        let verdict = self.lead.as_ref().and_then(|lead| lead.drilling.verdict.as_ref());
        verdict.filter(|verdict| verdict.drill == id).map_or_else(Vec::new, |v| v.findings.clone())
    }

    pub(super) fn drill_status(&self) -> Option<OpenDrill> {
        let drill = self.open_drill()?;
        Some(OpenDrill {
            drill: drill.id,
            kind: drill.kind,
            service: drill.service.clone(),
            stage: drill.stage,
            given_up: drill.abort.is_some(),
            waits: self.drill_waits(drill.id),
        })
    }

    pub(super) fn drills(&self) -> Drills {
        Drills { drills: self.cluster.drills.values().cloned().collect() }
    }

    /// Every change of primary. The failover of a primary that a drill cut off says which: its
    /// entry could not, for whoever decided it knows of no drill.
    pub(super) fn transitions_told(&self) -> Vec<Record> {
        let caused = |drill: &&Drill| !matches!(drill.outcome, Outcome::Overtaken(_));
        let drills = self.cluster.drills.values().filter(caused);
        let of: BTreeMap<_, _> = drills.filter_map(|it| Some((it.there?, it.id))).collect();
        let named = |record: &Record| {
            let drill = record.drill.or_else(|| of.get(&record.id).copied());
            Record { drill, ..record.clone() }
        };
        self.cluster.transitions.values().map(named).collect()
    }

    pub(super) fn drill_told(&self, id: DrillId) -> Reply {
        let Some(drill) = self.cluster.drills.get(&id) else {
            return Reply::Unknown(format!("there is no drill {id}; see `baton drill list`"));
        };
        let all = self.cluster.transitions.values();
        Reply::found(&DrillTold {
            drill: drill.clone(),
            transitions: all.filter(|record| drill.met(record)).cloned().collect(),
            waits: self.drill_waits(id),
        })
    }

    /// What a drill would do, and whether it may; nothing is changed.
    pub(super) fn drill_plan(&self, request: &Request) -> Reply {
        let Request::Drill { kind, service, to, dwell, .. } = request else {
            return Reply::Unknown("only a drill has a drill's plan".into());
        };
        let Some(lead) = self.lead.as_ref() else { return Reply::NoLeader };
        let Clocks { now, wall } = self.clocks;
        let mut view = lead.view.clone();
        view.follow(&self.cluster, now);
        view.closed = self.closed(*dwell);
        let ruling = failover::rule_on(&self.cluster, &view, request, ("baton", wall), now);
        let (refused, target) = match ruling {
            Ruling::Refused(findings) => (findings, to.clone()),
            Ruling::Granted { change, .. } => (Vec::new(), target_of(&change)),
        };
        let asked = (*kind, service, target.as_ref());
        let found = preconditions(&self.cluster, &view, &self.seats(), asked, now);
        let plan = refused.is_empty().then(|| self.drill_hash(request)).flatten();
        Reply::found(&DrillPlan {
            revision: self.cluster.revision,
            refused,
            target,
            verdicts: found.verdicts,
            against: found.against,
            unknown: found.unknown,
            rehearsal: self.rehearse_drill(request),
            plan,
        })
    }

    /// The change of primary that a drill would begin with, on a copy.
    fn rehearse_drill(&self, request: &Request) -> Option<Rehearsal> {
        let Request::Drill { kind, service, to, reason, .. } = request else { return None };
        let hypothesis = match kind {
            Kind::Readiness | Kind::Dns | Kind::RestorePath => return None,
            Kind::Switchover => {
                let (service, to, reason) = (service.clone(), to.clone(), reason.clone());
                Hypothesis::Ask(Request::Switchover { service, to, reason })
            }
            Kind::Isolate => {
                Hypothesis::Freeze(self.cluster.services.get(service)?.primary.clone()?)
            }
        };
        self.rehearse(&self.cluster, &hypothesis)
    }

    /// The hash of what a drill would do, as `baton drill plan` shows it.
    pub(super) fn drill_hash(&self, request: &Request) -> Option<String> {
        self.lead.as_ref()?;
        let nothing = Rehearsal {
            lines: Vec::new(),
            endings: std::collections::BTreeMap::new(),
            refused: Vec::new(),
        };
        let rehearsal = self.rehearse_drill(request).unwrap_or(nothing);
        // Why it is held is no part of the plan: whoever looks at one need not say yet.
        let mut asked = request.clone();
        if let Request::Drill { reason, .. } = &mut asked {
            reason.clear();
        }
        rehearsal.refused.is_empty().then(|| plan::hash(&self.cluster, &asked, &rehearsal))
    }
}

fn target_of(change: &Change) -> Option<failover::InstanceId> {
    if let Change::Drill { change: drill::DrillChange::Begun { target, .. }, .. } = change {
        target.clone()
    } else {
        None
    }
}

impl super::leading::Lead {
    /// Whether something that a drill rests on is on its way to the log already.
    fn has_proposed(&self, service: &ServiceId, drill: DrillId) -> bool {
        self.proposed().any(|(of, about)| of == Some(service) || about == Some(drill))
    }
}
