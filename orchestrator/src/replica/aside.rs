//! What takes long to answer and changes nothing is answered from a copy, beside the loop: leases
//! and heartbeats must not wait for it.

use failover::cluster::Cluster;
use failover::ids::{InstanceId, ServiceId};
use failover::rehearse::{Hypothesis, Rehearsal, Voters, bare, rehearse};
use failover::{Moment, View};

use super::readiness::Question;
use super::{Clocks, Query, Replica, Reply};
use crate::answers::{Explain, Known, SiteLoss, Status, WhatIf};
use crate::plan;

/// A question with all that its answer is made of.
#[derive(Debug)]
pub struct Aside(What);

#[derive(Debug)]
enum What {
    Status(Box<Status>),
    Overview(Box<Known>),
    Readiness(Box<Question>),
    Follows(Box<Ground>, Box<Hypothesis>),
    /// Without ground there is no evidence, and nothing is said about losses.
    Explain(Option<Box<Ground>>, Box<Explain>, Option<InstanceId>),
    Undeclared(ServiceId),
}

/// What a judgement rests on.
#[derive(Debug)]
struct Ground {
    cluster: Cluster,
    view: View,
    voters: Voters,
    now: Moment,
}

impl Replica {
    /// The same as it is now: ages are counted from here.
    pub fn as_of(&mut self, clocks: Clocks) -> &Self {
        self.clocks = clocks;
        self
    }

    /// What an answer is made of; nothing where only a leader can give one, and this voter does
    /// not lead, where it does not act, and where the question is answered in no time.
    pub fn aside(&self, query: &Query) -> Option<Aside> {
        if self.stopped().is_some() {
            return None;
        }
        let what = match query {
            Query::Status => What::Status(Box::new(self.status())),
            Query::Overview => What::Overview(Box::new(self.known())),
            Query::Readiness { of } => What::Readiness(Box::new(self.readiness(of.as_deref())?)),
            Query::WhatIf(hypothesis) => {
                What::Follows(Box::new(self.ground(None)?), hypothesis.clone())
            }
            Query::Explain(service) => self.explain(service),
            Query::History { .. }
            | Query::Transitions
            | Query::Transition(_)
            | Query::Alerts
            | Query::Approvals
            | Query::Loss(_)
            | Query::Calendar
            | Query::Drills
            | Query::Drill(_)
            | Query::DrillPlan(_)
            | Query::Topology
            | Query::Audit(_) => return None,
        };
        Some(Aside(what))
    }

    /// Of one service, or of all.
    fn ground(&self, only: Option<&ServiceId>) -> Option<Ground> {
        let lead = self.lead.as_ref()?;
        // What may be asked depends on the open drill.
        let drills = self.cluster.drills.clone();
        Some(Ground {
            cluster: Cluster { drills, ..bare(&self.cluster, only) },
            view: lead.view.clone(),
            voters: self.seats(),
            now: self.clocks.now,
        })
    }

    fn explain(&self, id: &ServiceId) -> What {
        let Some(service) = self.cluster.services.get(id) else {
            return What::Undeclared(id.clone());
        };
        let judged = self.lead.as_ref().and_then(|lead| lead.verdicts.get(id));
        let verdict = judged.map(|(_, verdict)| verdict);
        let explain = Explain {
            service: id.clone(),
            proposes: verdict.and_then(|v| v.change.as_ref()).map(|(_, cause)| cause.clone()),
            findings: verdict.map(|verdict| verdict.findings.clone()).unwrap_or_default(),
            could_lose: Vec::new(),
            revision: self.cluster.revision,
        };
        let ground = self.ground(Some(id)).map(Box::new);
        What::Explain(ground, Box::new(explain), service.primary.clone())
    }
}

impl Aside {
    /// The answer.
    pub fn answer(self) -> Reply {
        match self.0 {
            What::Status(status) => Reply::found(&*status),
            What::Overview(known) => Reply::found(&*known),
            What::Readiness(question) => question.answer(),
            What::Follows(ground, hypothesis) => Reply::found(&ground.what_if(&hypothesis)),
            What::Explain(ground, mut explain, primary) => {
                if let Some(ground) = ground {
                    explain.could_lose = ground.could_lose(&explain.service, primary.as_ref());
                }
                Reply::found(&*explain)
            }
            What::Undeclared(service) => {
                Reply::Unknown(format!("service `{service}` is not declared"))
            }
        }
    }
}

impl Ground {
    fn rehearse(&self, hypothesis: &Hypothesis) -> Rehearsal {
        rehearse(&self.cluster, &self.view, &self.voters, hypothesis, self.now)
    }

    fn what_if(&self, hypothesis: &Hypothesis) -> WhatIf {
        let rehearsal = self.rehearse(hypothesis);
        let plan = match hypothesis {
            Hypothesis::Ask(request) if rehearsal.refused.is_empty() => {
                let lowers = !failover::approval::lowers(&self.cluster, request).is_empty();
                Some(if lowers {
                    plan::of(&self.cluster, request)
                } else {
                    plan::hash(&self.cluster, request, &rehearsal)
                })
            }
            Hypothesis::Ask(_)
            | Hypothesis::LoseSite(_)
            | Hypothesis::Cut(..)
            | Hypothesis::Freeze(_) => None,
        };
        WhatIf { revision: self.cluster.revision, rehearsal, plan }
    }

    /// The seam to the law: what the loss of each site, now, would mean for one service.
    fn could_lose(&self, id: &ServiceId, before: Option<&InstanceId>) -> Vec<SiteLoss> {
        let sites = self.cluster.topology.sites.keys();
        let losses = sites.filter_map(|site| {
            let told = self.rehearse(&Hypothesis::LoseSite(site.clone()));
            let ending = told.endings.get(id)?;
            let outcome = match (ending.writes, ending.primary.as_ref() == before) {
                (true, true) => "goes on",
                (true, false) => "fails over",
                (false, _) => "waits",
            };
            let majority = told.lines.iter().filter(|line| line.service.is_none());
            let majority = majority.filter(|line| line.waits.is_some());
            let findings = ending.findings.iter().map(|finding| finding.text.clone());
            Some(SiteLoss {
                site: site.clone(),
                survivable: ending.writes,
                outcome: outcome.into(),
                interrupted_ms: ending.interrupted_ms,
                reasons: majority.map(|line| line.text.clone()).chain(findings).collect(),
            })
        });
        losses.collect()
    }
}
