//! What people ask for: judged by the law, put into the log, answered once it is there.

use failover::approval::Pending;
use failover::event::Change;
use failover::ids::ServiceId;
use failover::loss::Loss;
use failover::people::Grant;
use failover::{Asker, Request, Ruled};

use super::notes::Why;
use super::{Clocks, Output, Replica, Reply, Token};
use crate::answers::{Accepted, ApprovalTold, Approvals, LossTold};
use crate::audit::asked;

impl Replica {
    pub(super) fn hear_request(&mut self, token: Token, asker: Asker<'_>, request: &Request) {
        if let Err(reply) = self.rule(token, asker, request) {
            self.refuse(token, ((asker.name, asker.role), request), reply);
        }
    }

    fn rule(&mut self, token: Token, asker: Asker<'_>, request: &Request) -> Result<(), Reply> {
        if !self.is_informed() {
            return Err(Reply::NoLeader);
        }
        self.tell_calendar(request);
        let now = self.clocks.now;
        let lead = self.lead.as_mut().ok_or(Reply::NoLeader)?;
        lead.view.follow(&self.cluster, now);
        let lead = self.lead.as_ref().ok_or(Reply::NoLeader)?;
        let plan = |request: &Request| self.plan_of(request);
        let asks = (request, asker);
        match failover::rule_for(&self.cluster, &lead.view, asks, now, &plan) {
            Ruled::Refused(findings) => {
                let error = findings.first().map_or_else(|| "refused".into(), |f| f.text.clone());
                Err(Reply::Refused { error, findings })
            }
            Ruled::Waits(hash) => {
                let reply = Reply::Accepted(self.waits(&hash));
                self.outputs.push(Output::Reply { token, reply });
                Ok(())
            }
            Ruled::Granted(grant) => self.propose_grant(token, *grant),
        }
    }

    fn propose_grant(&mut self, token: Token, grant: Grant) -> Result<(), Reply> {
        let Grant { change, cause, by, plan, authority } = grant;
        self.group_can_change(&change)?;
        let service = match &change {
            Change::Service { service, .. } => Some(service.clone()),
            Change::Topology { .. }
            | Change::VoterSet { .. }
            | Change::Asked { .. }
            | Change::Withdrawn { .. }
            | Change::Noted { .. }
            | Change::Drill { .. }
            | Change::Occasion { .. }
            | Change::Alert { .. }
            | Change::VoterRemoved { .. } => None,
        };
        let why = Why { cause, plan, authority: Some(authority) };
        self.propose(change, why, &by, service, Some((token, None)))
            .map_err(|error| Reply::Refused { error, findings: Vec::new() })
    }

    /// The answer to a request that waits for a second person.
    pub(super) fn waits(&self, hash: &str) -> Accepted {
        let lowers = self.cluster.pending.get(hash).map(|pending| pending.lowers.join("; "));
        Accepted {
            revision: self.cluster.revision,
            transition: None,
            drill: None,
            text: lowers.unwrap_or_default(),
            waits: Some(hash.to_owned()),
        }
    }

    /// What would be lost, as this leader sees it.
    #[must_use]
    pub fn assess_loss(&self, service: &ServiceId) -> Option<Loss> {
        let view = &self.lead.as_ref()?.view;
        failover::loss::assess(&self.cluster, service, view, self.clocks.now).ok()
    }

    /// What would be lost. Only a leader has the evidence: nobody else answers.
    pub(super) fn loss(&self, service: &ServiceId) -> Reply {
        let Some(lead) = self.lead.as_ref() else { return Reply::NoLeader };
        let Clocks { now, wall } = self.clocks;
        let told = match failover::loss::assess(&self.cluster, service, &lead.view, now) {
            Ok(loss) => LossTold { at: wall, loss: Some(loss), refused: Vec::new() },
            Err(refused) => LossTold { at: wall, loss: None, refused },
        };
        Reply::found(&told)
    }

    pub(super) fn approvals(&self) -> Approvals {
        let Clocks { now, wall } = self.clocks;
        let overdue = |plan: &str, pending: &Pending| {
            self.lead.as_ref().is_some_and(|lead| lead.view.has_waited(plan, pending, now))
        };
        let told = self.cluster.pending.iter().map(|(plan, pending)| {
            let told = ApprovalTold {
                what: asked(&pending.request),
                waits: pending.waits(wall) && !overdue(plan, pending),
                pending: pending.clone(),
            };
            (plan.clone(), told)
        });
        Approvals { at: wall, requests: told.collect() }
    }
}
