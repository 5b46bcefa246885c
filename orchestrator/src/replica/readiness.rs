//! Could a site be lost now? A leader looks all the time, so that it knows since when, and answers
//! with what would follow.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use failover::cluster::{Cluster, Trigger};
use failover::event::{Change, ServiceChange};
use failover::ids::{ServiceId, SiteId, VoterId};
use failover::readiness::{Before, Level, Looked, Scope, Watch, look, readiness};
use failover::rehearse::Voters;
use failover::{Moment, Timestamp, View};

use super::{Replica, Reply};
use crate::answers::Readiness;

/// How often a leader looks. Reports come oftener, but nothing is decided by this.
const EVERY: Duration = Duration::from_secs(10);

/// So many looks are remembered: a primary is lost some seconds after it was last heard, and the
/// look that its loss had not touched yet is wanted.
const LOOKS: usize = 6;

/// What a leader has seen of readiness, and when it last looked.
#[derive(Default)]
pub(super) struct Standing {
    term: u64,
    looked: Moment,
    watch: Watch,
    /// The newest looks, newest last.
    looks: VecDeque<(Moment, BTreeMap<ServiceId, Vec<Looked>>)>,
}

/// What an answer is made of: a copy, because making it takes as long as many decisions do.
#[derive(Debug)]
pub struct Question {
    of: Option<String>,
    at: Timestamp,
    now: Moment,
    cluster: Cluster,
    view: View,
    voters: Voters,
    watch: Watch,
}

impl Replica {
    /// Looks at everything now and then: what is new and stands in the way is logged.
    pub(super) fn watch_readiness(&mut self) {
        let now = self.clocks.now;
        let Some(lead) = self.lead.as_ref() else { return };
        if self.readiness.term != lead.term {
            // Since when something has been so is what one leader saw.
            self.readiness = Standing { term: lead.term, looked: lead.since, ..<_>::default() };
        }
        if now.since(self.readiness.looked) < EVERY {
            return;
        }
        let voters = self.seats();
        let services = self.cluster.services.keys();
        let look = |id: &ServiceId| look(&self.cluster, id, &lead.view, &voters, now);
        let looked: BTreeMap<_, _> = services.map(|id| (id.clone(), look(id))).collect();
        let all: Vec<Looked> = looked.values().flatten().cloned().collect();
        self.readiness.looked = now;
        self.readiness.looks.push_back((now, looked));
        if self.readiness.looks.len() > LOOKS {
            self.readiness.looks.pop_front();
        }
        for finding in self.readiness.watch.see(&all, now) {
            let who = finding.instance.as_ref().map(ToString::to_string).unwrap_or_default();
            let (service, check) = (&finding.service, &finding.check);
            tracing::warn!(%service, check, who, "not ready: {}", finding.text);
        }
    }

    /// A change of primary that is about to be proposed, with how the service stood before it. Of
    /// one that is lost: when it was last heard.
    pub(super) fn with_readiness(&self, mut change: Change) -> Change {
        let Some(lead) = self.lead.as_ref().filter(|lead| lead.term == self.readiness.term) else {
            return change;
        };
        let Change::Service {
            service,
            change: ServiceChange::Started { trigger, readiness, .. },
            ..
        } = &mut change
        else {
            return change;
        };
        let now = self.clocks.now;
        let until = match trigger {
            Trigger::Switchover | Trigger::Bootstrap => Some(now),
            Trigger::PrimaryLost | Trigger::Failover => {
                let primary = self.cluster.services.get(service).and_then(|s| s.primary.as_ref());
                primary.and_then(|primary| lead.view.reports.get(primary)).map(|heard| heard.at)
            }
        };
        let mut looks = self.readiness.looks.iter().rev();
        *readiness = until
            .and_then(|until| looks.find(|(at, _)| *at <= until))
            .and_then(|(at, looked)| Some((at, looked.get(service)?)))
            .map(|(at, looked)| Before::of(looked, now.since(*at)));
        change
    }

    /// What an answer about a site, a service or everything is made of; nothing where this voter
    /// does not lead: nobody else has the evidence.
    pub fn readiness(&self, of: Option<&str>) -> Option<Question> {
        self.is_leader().then(|| self.without_history()).and_then(|all| self.readiness_of(all, of))
    }

    /// The same about a copy of the state that lacks what readiness does not rest on.
    pub(super) fn readiness_of(&self, cluster: Cluster, of: Option<&str>) -> Option<Question> {
        let lead = self.lead.as_ref()?;
        Some(Question {
            of: of.map(str::to_owned),
            at: self.clocks.wall,
            now: self.clocks.now,
            cluster,
            view: lead.view.clone(),
            voters: self.seats(),
            watch: self.readiness.watch.clone(),
        })
    }

    /// The voters as this leader sees them.
    pub(super) fn seats(&self) -> Voters {
        let now = self.clocks.now;
        let lately = self.setup.election_timeout * 2;
        let heard = |id: VoterId| self.heard.get(&id).is_some_and(|at| now.since(*at) < lately);
        let seats = self.group_members().into_iter().map(|id| {
            let site = self.voter(id).map(|voter| voter.site.clone());
            (id, (site, id == self.setup.id || heard(id)))
        });
        Voters { leader: self.setup.id, seats: seats.collect() }
    }
}

impl Question {
    /// The answer: [`Readiness`], or that what is asked about does not exist.
    pub fn answer(self) -> Reply {
        let scope = match self.of.as_deref().map(|name| self.scope(name)) {
            None => Scope::default(),
            Some(Some(scope)) => scope,
            Some(None) => {
                let sites = self.cluster.topology.sites.keys().map(SiteId::as_str);
                let services = self.cluster.services.keys().map(ServiceId::as_str);
                let names: Vec<&str> = sites.chain(services).collect();
                let of = self.of.unwrap_or_default();
                let text = format!("no site or service `{of}`; there are: {}", names.join(", "));
                return Reply::Unknown(text);
            }
        };
        let mut services = readiness(&self.cluster, &self.view, &self.voters, &scope, self.now);
        self.watch.date(&mut services, self.now);
        let verdicts = services.iter().flat_map(|service| &service.sites);
        let level = verdicts.map(|verdict| verdict.level).max().unwrap_or(Level::Unknown);
        Reply::found(&Readiness { revision: self.cluster.revision, at: self.at, level, services })
    }

    /// Every service, with its verdicts and checks.
    pub fn everything(&self) -> Vec<failover::readiness::Readiness> {
        readiness(&self.cluster, &self.view, &self.voters, &Scope::default(), self.now)
    }

    /// A service's name goes before a site's.
    fn scope(&self, name: &str) -> Option<Scope> {
        let service = name.parse().ok().filter(|id| self.cluster.services.contains_key(id));
        let site = name.parse().ok().filter(|id| self.cluster.topology.sites.contains_key(id));
        match (service, site) {
            (Some(service), _) => Some(Scope { service: Some(service), site: None }),
            (None, Some(site)) => Some(Scope { service: None, site: Some(site) }),
            (None, None) => None,
        }
    }
}
