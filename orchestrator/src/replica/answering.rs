//! What operators are told: the answers are made from the replicated state and, on a leader, from
//! its evidence. A voter that does not lead says so, and leaves out what it cannot know (I-37).

use failover::cluster::{Cluster, Service};
use failover::fitness::{Promise, zero_loss};
use failover::ids::{InstanceId, ServiceId, VoterId};
use failover::position::Position;
use failover::rehearse::{Hypothesis, Rehearsal, rehearse};
use failover::report::{Report, Server};
use failover::topology::Instance;
use failover::{Moment, Request, Role, View, assignment};

use super::aside::Aside;
use super::{Query, Replica, Reply};
use crate::answers::{
    AgedKnock, Alerts, DeclaredTopology, History, InstanceStatus, Known, NameServerStatus,
    ServiceStatus, Status, Transitions, VoterRef, VoterState, VoterStatus,
};
use crate::plan;

/// A history answer holds at most this many entries.
const HISTORY_LIMIT: usize = 2_000;
/// How many changes of primary, and drills, an overview has.
const NEWEST: usize = 10;
/// How many entries of the history.
const NEWEST_ENTRIES: usize = 40;
/// The longest text of an overview, in characters.
const CLIP: usize = 400;

impl Replica {
    /// What the newest judgement of this leader found about a service; nothing where none leads.
    pub fn findings(&self, service: &ServiceId) -> &[failover::Finding] {
        let verdict = self.lead.as_ref().and_then(|lead| lead.verdicts.get(service));
        verdict.map(|(_, verdict)| verdict.findings.as_slice()).unwrap_or_default()
    }

    pub(super) fn look_up(&self, query: &Query) -> Reply {
        match query {
            Query::Status
            | Query::Overview
            | Query::Explain(_)
            | Query::WhatIf(_)
            | Query::Readiness { .. } => self.aside(query).map_or(Reply::NoLeader, Aside::answer),
            Query::History { service, limit } => {
                Reply::found(&self.history(service.as_ref(), *limit))
            }
            Query::Transitions => {
                Reply::found(&Transitions { transitions: self.transitions_told() })
            }
            Query::Transition(id) => match self.cluster.transitions.get(id) {
                Some(record) => Reply::found(record),
                None => Reply::Unknown(format!("there is no transition {id}")),
            },
            // Answered by whoever is asked, from its disk.
            Query::Audit(_) => Reply::Unknown(String::from("audit records are no state")),
            Query::Calendar => Reply::found(&self.calendar()),
            Query::Drills => Reply::found(&self.drills()),
            Query::Drill(id) => self.drill_told(*id),
            Query::DrillPlan(request) => self.drill_plan(request),
            Query::Alerts => {
                Reply::found(&Alerts { at: self.clocks.wall, alerts: self.cluster.alerts.clone() })
            }
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

    fn history(&self, service: Option<&ServiceId>, limit: usize) -> History {
        let matching = self.cluster.history.iter().rev();
        let matching = matching.filter(|e| service.is_none() || e.service.as_ref() == service);
        let mut entries: Vec<_> = matching.take(limit.min(HISTORY_LIMIT)).cloned().collect();
        entries.reverse();
        History { entries }
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

    /// What the page and `baton watch` are made of.
    pub fn known(&self) -> Known {
        let newest = |all: usize, most: usize| all.saturating_sub(most);
        let Cluster { transitions, history, drills, .. } = &self.cluster;
        let mut transitions: Vec<_> =
            transitions.values().skip(newest(transitions.len(), NEWEST)).cloned().collect();
        for record in &mut transitions {
            clip(&mut record.cause);
            record.steps.iter_mut().for_each(|step| clip(&mut step.note));
        }
        let from = newest(history.len(), NEWEST_ENTRIES);
        let mut history: Vec<_> = history.iter().skip(from).cloned().collect();
        for entry in &mut history {
            clip(&mut entry.text);
        }
        let mut drills: Vec<_> =
            drills.values().skip(newest(drills.len(), NEWEST)).cloned().collect();
        for drill in &mut drills {
            clip(&mut drill.reason);
        }
        let mut status = self.status();
        for hold in status.services.iter_mut().filter_map(|service| service.hold.as_mut()) {
            clip(&mut hold.reason);
        }
        Known { status, transitions, history, drills }
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

    /// What would follow, if: nothing where this voter does not lead.
    pub(super) fn rehearse(&self, cluster: &Cluster, hypothesis: &Hypothesis) -> Option<Rehearsal> {
        let lead = self.lead.as_ref()?;
        let voters = self.seats();
        Some(rehearse(cluster, &lead.view, &voters, hypothesis, self.clocks.now))
    }
}

/// People may give a reason as long as they like.
fn clip(text: &mut String) {
    if let Some((at, _)) = text.char_indices().nth(CLIP) {
        text.truncate(at);
        text.push('…');
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
