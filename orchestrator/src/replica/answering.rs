//! What operators are told: the answers are made from the replicated state and, on a leader, from
//! its evidence. A voter that does not lead says so, and leaves out what it cannot know (I-37).

use failover::cluster::{Cluster, Service};
use failover::fitness::{Promise, zero_loss};
use failover::ids::{InstanceId, ServiceId, VoterId};
use failover::position::Position;
use failover::rehearse::{Hypothesis, Rehearsal, bare, rehearse};
use failover::report::{Report, Server};
use failover::topology::Instance;
use failover::{Moment, Request, Role, View, assignment};

use super::readiness::Question;
use super::{Query, Replica, Reply};
use crate::answers::{
    AgedKnock, DeclaredTopology, Explain, History, InstanceStatus, NameServerStatus, ServiceStatus,
    SiteLoss, Status, Transitions, VoterRef, VoterState, VoterStatus, WhatIf,
};
use crate::plan;

/// A history answer holds at most this many entries.
const HISTORY_LIMIT: usize = 2_000;

impl Replica {
    /// What the newest judgement of this leader found about a service; nothing where none leads.
    pub fn findings(&self, service: &ServiceId) -> &[failover::Finding] {
        let verdict = self.lead.as_ref().and_then(|lead| lead.verdicts.get(service));
        verdict.map(|(_, verdict)| verdict.findings.as_slice()).unwrap_or_default()
    }

    pub(super) fn look_up(&self, query: &Query) -> Reply {
        match query {
            Query::Status => Reply::found(&self.status()),
            Query::Explain(service) => match self.explain(service) {
                Some(explain) => Reply::found(&explain),
                None => Reply::Unknown(format!("service `{service}` is not declared")),
            },
            Query::History { service, limit } => {
                Reply::found(&self.history(service.as_ref(), *limit))
            }
            Query::Transitions => Reply::found(&Transitions {
                transitions: self.cluster.transitions.values().cloned().collect(),
            }),
            Query::Transition(id) => match self.cluster.transitions.get(id) {
                Some(record) => Reply::found(record),
                None => Reply::Unknown(format!("there is no transition {id}")),
            },
            Query::WhatIf(hypothesis) => match self.rehearse(&self.cluster, hypothesis) {
                Some(rehearsal) => Reply::found(&self.prospects(hypothesis, rehearsal)),
                None => Reply::NoLeader,
            },
            // Answered by whoever is asked, from its disk.
            Query::Audit(_) => Reply::Unknown(String::from("audit records are no state")),
            Query::Readiness { of } => {
                self.readiness(of.as_deref()).map_or(Reply::NoLeader, Question::answer)
            }
            Query::Calendar => Reply::found(&self.calendar()),
            Query::Drills => Reply::found(&self.drills()),
            Query::Drill(id) => self.drill_told(*id),
            Query::DrillPlan(request) => self.drill_plan(request),
            Query::Approvals => Reply::found(&self.approvals()),
            Query::Loss(service) => self.loss(service),
            Query::Topology => Reply::found(&DeclaredTopology {
                version: self.cluster.topology_version,
                topology: self.cluster.topology.clone(),
            }),
        }
    }

    /// The hash of what a change of primary that is asked for would do, as `--dry-run` shows it.
    pub(super) fn plan_of(&self, request: &Request) -> Option<String> {
        if matches!(request, Request::Drill { .. }) {
            return self.drill_hash(request);
        }
        if !failover::approval::lowers(&self.cluster, request).is_empty() {
            return Some(plan::of(&self.cluster, request));
        }
        if !matches!(request, Request::Switchover { .. } | Request::Failover { .. }) {
            return None;
        }
        let rehearsal = self.rehearse(&self.cluster, &Hypothesis::Ask(request.clone()))?;
        rehearsal.refused.is_empty().then(|| plan::hash(&self.cluster, request, &rehearsal))
    }

    fn prospects(&self, hypothesis: &Hypothesis, rehearsal: Rehearsal) -> WhatIf {
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

    fn history(&self, service: Option<&ServiceId>, limit: usize) -> History {
        let matching = self.cluster.history.iter().rev();
        let matching = matching.filter(|e| service.is_none() || e.service.as_ref() == service);
        let mut entries: Vec<_> = matching.take(limit.min(HISTORY_LIMIT)).cloned().collect();
        entries.reverse();
        History { entries }
    }

    fn explain(&self, id: &ServiceId) -> Option<Explain> {
        self.cluster.services.get(id)?;
        let judged = self.lead.as_ref().and_then(|lead| lead.verdicts.get(id));
        let verdict = judged.map(|(_, verdict)| verdict);
        Some(Explain {
            service: id.clone(),
            proposes: verdict.and_then(|v| v.change.as_ref()).map(|(_, cause)| cause.clone()),
            findings: verdict.map(|verdict| verdict.findings.clone()).unwrap_or_default(),
            could_lose: self.could_lose(id),
            revision: self.cluster.revision,
        })
    }

    pub(super) fn status(&self) -> Status {
        let now = self.clocks.now;
        Status {
            cluster: self.setup.cluster.clone(),
            revision: self.cluster.revision,
            topology_version: self.cluster.topology_version,
            zone_version: self.cluster.zone_version,
            leader: self.leader().map(|id| self.name(id)),
            answered_by: self.name(self.setup.id),
            term: self.term(),
            at: self.clocks.wall,
            led_for_ms: self.lead.as_ref().map(|lead| millis(now, lead.since)),
            voters: self.voters(),
            sites: self.cluster.topology.sites.clone(),
            services: self.cluster.services.iter().map(|(id, s)| self.service(id, s)).collect(),
            name_servers: self.name_servers(),
            drill: self.drill_status(),
            missed_drills: self.missed_drills(),
        }
    }

    pub(super) fn own_name(&self) -> VoterRef {
        self.name(self.setup.id)
    }

    fn name(&self, id: VoterId) -> VoterRef {
        let voter = self.voter(id);
        VoterRef {
            voter: id,
            name: voter.map_or_else(|| format!("voter-{id}"), |voter| voter.name.clone()),
            site: voter.map(|voter| voter.site.clone()),
        }
    }

    fn voters(&self) -> Vec<VoterStatus> {
        let mut ids = self.group_members();
        ids.extend(self.cluster.voters.keys());
        ids.into_iter().map(|id| self.voter_status(id)).collect()
    }

    fn voter_status(&self, id: VoterId) -> VoterStatus {
        let now = self.clocks.now;
        let known = self.voter(id);
        let progress = self.raw.raft.prs().get(id.0);
        let heard = self.heard.get(&id).copied();
        let lately = heard.is_some_and(|at| now.since(at) < self.setup.election_timeout * 2);
        let state = if self.leader() == Some(id) && (id == self.setup.id || lately) {
            VoterState::Leader
        } else if self.raw.raft.prs().conf().learners().contains(&id.0) {
            VoterState::Learner
        } else if progress.is_some() && (id == self.setup.id || (self.is_leader() && lately)) {
            VoterState::Follower
        } else {
            VoterState::Unknown
        };
        let last = self.raw.raft.raft_log.last_index();
        let lag = progress.filter(|_| self.is_leader()).map(|p| last.saturating_sub(p.matched));
        VoterStatus {
            id,
            name: self.name(id).name,
            site: known.map(|voter| voter.site.clone()),
            address: known.map(|voter| voter.address),
            state,
            age_ms: heard.map(|at| millis(now, at)),
            lag_entries: lag.filter(|_| id != self.setup.id),
            recorded: self.cluster.voters.get(&id).is_some_and(|v| v.incarnation.is_some()),
        }
    }

    fn service(&self, id: &ServiceId, service: &Service) -> ServiceStatus {
        let now = self.clocks.now;
        let lead = self.lead.as_ref();
        let lease = lead.and_then(|lead| lead.leases.get(id));
        let order = service.spec.preference.iter();
        let rest = service.spec.instances.keys();
        let rest = rest.filter(|instance| !service.spec.preference.contains(instance));
        let instances = order.chain(rest).filter_map(|instance| {
            let declared = service.spec.instances.get(instance)?;
            Some(self.instance(service, instance, declared))
        });
        ServiceStatus {
            service: id.clone(),
            writable: service.spec.writable.clone(),
            read_only: service.spec.read_only.clone(),
            epoch: service.epoch,
            primary: service.primary.clone(),
            system_identifier: service.system_identifier,
            rule: service.rule.clone(),
            is_site_safe: service.is_site_safe(),
            zero_loss: lead.map_or(Promise::Unasked, |lead| {
                zero_loss(service, &lead.view, &self.cluster.topology.timing, now)
            }),
            hold: service.hold.clone(),
            transition: service.transition.clone(),
            published: service.published.clone(),
            unacknowledged: service.unacknowledged,
            lease_age_ms: lease.map(|at| millis(now, *at)),
            instances: instances.collect(),
            findings: lead
                .and_then(|lead| lead.verdicts.get(id))
                .map(|(_, verdict)| verdict.findings.clone())
                .unwrap_or_default(),
        }
    }

    fn instance(&self, service: &Service, id: &InstanceId, declared: &Instance) -> InstanceStatus {
        let now = self.clocks.now;
        let view = self.lead.as_ref().map(|lead| &lead.view);
        let heard = view.and_then(|view| view.reports.get(id));
        let report = heard.map(|heard| &heard.report);
        let position = report.and_then(|report| position(&report.server));
        let primary = service.primary.as_ref();
        let leading = primary.and_then(|primary| report_of(view, primary));
        let lag = position.zip(leading.and_then(|report| position_of(report)));
        InstanceStatus {
            instance: id.clone(),
            site: declared.site.clone(),
            postgres: declared.postgres,
            assigned: assignment(&self.cluster, id).map_or(Role::Idle, |found| found.role),
            reported: report.map(|report| report.server.clone()),
            age_ms: heard.map(|heard| millis(now, heard.at)),
            position: position.cloned(),
            lag_bytes: lag
                .filter(|(own, primary)| own.compare(primary).is_some())
                .map(|(own, primary)| primary.lsn.bytes_since(own.lsn)),
            streaming: leading.filter(|_| primary != Some(id)).map(|report| {
                report.streams.iter().any(|stream| stream.instance == *id && stream.streaming)
            }),
            in_rule: service.rule.instances.contains(id),
            admits: report.and_then(|report| admits(&report.server)),
            pledge: report.map(|report| report.pledge),
            enforced: report.and_then(|report| report.enforced),
            notes: report.map(|report| report.notes.clone()).unwrap_or_default(),
            version: report.map(|report| report.version.clone()),
            knocks: view.map(|view| knocks(view, id, now)).unwrap_or_default(),
        }
    }

    fn name_servers(&self) -> Vec<NameServerStatus> {
        let now = self.clocks.now;
        let view = self.lead.as_ref().map(|lead| &lead.view);
        let servers = self.cluster.topology.dns.servers.iter();
        let status = servers.map(|(id, server)| {
            let follows = view.and_then(|view| view.follows.get(id));
            let asked = view.and_then(|view| view.name_servers.get(id));
            NameServerStatus {
                server: id.clone(),
                site: server.site.clone(),
                address: server.address,
                follows: follows.map(|(_, version)| *version),
                follows_age_ms: follows.map(|(at, _)| millis(now, *at)),
                asked: asked.map(|(_, answer)| answer.clone()),
                asked_age_ms: asked.map(|(at, _)| millis(now, *at)),
            }
        });
        status.collect()
    }

    /// The seam to the law: what the loss of each site, now, would mean for one service. Only a
    /// leader has the evidence.
    fn could_lose(&self, id: &ServiceId) -> Vec<SiteLoss> {
        let alone = bare(&self.cluster, Some(id));
        let sites = self.cluster.topology.sites.keys();
        let losses = sites.filter_map(|site| {
            let told = self.rehearse(&alone, &Hypothesis::LoseSite(site.clone()))?;
            let ending = told.endings.get(id)?;
            let before = self.cluster.services.get(id).and_then(|s| s.primary.as_ref());
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

    /// What would follow, if: nothing where this voter does not lead.
    pub(super) fn rehearse(&self, cluster: &Cluster, hypothesis: &Hypothesis) -> Option<Rehearsal> {
        let lead = self.lead.as_ref()?;
        let voters = self.seats();
        Some(rehearse(cluster, &lead.view, &voters, hypothesis, self.clocks.now))
    }
}

fn millis(now: Moment, then: Moment) -> u64 {
    u64::try_from(now.since(then).as_millis()).unwrap_or(u64::MAX)
}

fn report_of<'a>(view: Option<&'a View>, instance: &InstanceId) -> Option<&'a Report> {
    view?.reports.get(instance).map(|heard| &heard.report)
}

fn position_of(report: &Report) -> Option<&Position> {
    position(&report.server)
}

fn position(server: &Server) -> Option<&Position> {
    match server {
        Server::Recovery { position, .. } | Server::Writable { position, .. } => Some(position),
        Server::Absent | Server::Refused(_) | Server::Down(_) | Server::Starting => None,
    }
}

fn admits(server: &Server) -> Option<bool> {
    match server {
        Server::Recovery { admits, .. } | Server::Writable { admits, .. } => Some(*admits),
        Server::Absent | Server::Refused(_) | Server::Down(_) => Some(false),
        Server::Starting => None,
    }
}

fn knocks(view: &View, instance: &InstanceId, now: Moment) -> Vec<AgedKnock> {
    view.knocks
        .iter()
        .filter(|((target, _), _)| target == instance)
        .map(|(_, (at, knock))| AgedKnock { knock: knock.clone(), age_ms: millis(now, *at) })
        .collect()
}
