//! What this Raft leader has heard since it was elected. Forgotten at the next election.

use crate::approval::Pending;
use crate::cluster::{Cluster, Service, Step};
use crate::drill::Watched;
use crate::ids::{Epoch, InstanceId, NameServerId, ServiceId, SiteId, TransitionId, VoterId};
use crate::position::Position;
use crate::report::{Echo, Knock, NameServerAnswer, Observation, Report, Server};
use crate::survey::Survey;
use crate::time::{Moment, Timestamp};
use crate::topology::Timing;
use alloc::collections::BTreeMap;
use alloc::string::String;
use core::time::Duration;

/// A leader's evidence, each datum with the instant it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// The term in which it leads.
    pub term: u64,
    /// When this leader was elected: silence counts from here at the earliest.
    pub since: Moment,
    /// The newest report of each instance.
    pub reports: BTreeMap<InstanceId, Heard>,
    /// Up to where each instance had written when it was last heard to be writable, and when.
    pub written: BTreeMap<InstanceId, (Moment, Position)>,
    /// The newest knock at each instance from each site.
    pub knocks: BTreeMap<(InstanceId, SiteId), (Moment, Knock)>,
    /// The newest answer of each name server, asked over the network.
    pub name_servers: BTreeMap<NameServerId, (Moment, NameServerAnswer)>,
    /// The version that each name server told over its own connection.
    pub follows: BTreeMap<NameServerId, (Moment, u32)>,
    /// Since when each standby of a rule is missing from its primary's streams.
    pub missing: BTreeMap<InstanceId, Moment>,
    /// The newest sign of life of each primary through any standby's stream, also of streams that
    /// have ended since: while one is young the primary may still serve readers (layer 3).
    pub signs: BTreeMap<InstanceId, Moment>,
    /// Since when each service has an automatic failover that nobody acknowledged.
    pub unacknowledged: BTreeMap<ServiceId, (TransitionId, Moment)>,
    /// Since when each service is in its epoch and step, as far as this leader saw it.
    pub steps: BTreeMap<ServiceId, (Epoch, Option<Step>, Moment)>,
    /// The newest survey of each instance. Nothing is decided by it.
    pub surveys: BTreeMap<InstanceId, Surveyed>,
    /// For how many seconds each name server's certificate was good when it was last seen.
    pub presented: BTreeMap<NameServerId, (Moment, i64)>,
    /// The open drill, as far as this leader saw it.
    pub drill: Option<Watched>,
    /// Why nothing that clients may notice is rehearsed now: what the calendar says.
    pub closed: Option<String>,
    /// Since when this leader has seen each request wait for a second person, and when that was
    /// made.
    pub pending: BTreeMap<String, (Timestamp, Moment)>,
    /// What each voter last said of itself.
    pub voters: BTreeMap<VoterId, (Moment, VoterSelf)>,
}

/// A survey and when it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Surveyed {
    /// When it arrived at the leader.
    pub at: Moment,
    /// By how much its clock was behind the leader's when it arrived, in milliseconds; the way is
    /// in it. `None`: not compared.
    pub behind_ms: Option<i64>,
    /// What it says.
    pub survey: Survey,
}

/// What a voter says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VoterSelf {
    /// By how much its clock was behind the leader's when this arrived, in milliseconds.
    pub behind_ms: Option<i64>,
    /// For how many seconds its certificate was good then.
    pub certificate_seconds: i64,
    wall: Timestamp,
}

/// A report and when it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// When it arrived at the leader.
    pub at: Moment,
    /// It was made after this.
    pub after: Moment,
    /// Since when its instance has been heard without a gap: what it received in between, it told.
    pub steadily: Moment,
    /// Since when it has told, for the same epoch, where it stands sealed.
    pub sealed: Option<Moment>,
    /// What it says.
    pub report: Report,
}

impl Heard {
    /// Whether a report is newer than this one: what is still on its way from a run that has ended,
    /// held up by a voter that was stopped, says nothing of the present.
    fn is_outdated_by(&self, report: &Report) -> bool {
        (self.report.run, self.report.sequence) < (report.run, report.sequence)
    }
}

impl View {
    /// A new leader has no evidence.
    #[must_use]
    pub fn new(term: u64, now: Moment) -> Self {
        Self {
            term,
            since: now,
            reports: BTreeMap::new(),
            written: BTreeMap::new(),
            knocks: BTreeMap::new(),
            name_servers: BTreeMap::new(),
            follows: BTreeMap::new(),
            missing: BTreeMap::new(),
            signs: BTreeMap::new(),
            unacknowledged: BTreeMap::new(),
            steps: BTreeMap::new(),
            surveys: BTreeMap::new(),
            presented: BTreeMap::new(),
            drill: None,
            closed: None,
            pending: BTreeMap::new(),
            voters: BTreeMap::new(),
        }
    }

    /// What the judgement of these services rests on: what was heard of their instances, and the
    /// name servers' answers.
    pub(crate) fn of_services(&self, services: &BTreeMap<ServiceId, Service>) -> Self {
        fn only<T: Clone>(
            services: &BTreeMap<ServiceId, Service>,
            all: &BTreeMap<InstanceId, T>,
        ) -> BTreeMap<InstanceId, T> {
            let declared = services.values().flat_map(|service| service.spec.instances.keys());
            let known = declared.filter_map(|id| all.get_key_value(id));
            known.map(|(id, datum)| (id.clone(), datum.clone())).collect()
        }
        let declared =
            |id: &InstanceId| services.values().any(|s| s.spec.instances.contains_key(id));
        let knocks = self.knocks.iter().filter(|((id, _), _)| declared(id));
        Self {
            reports: only(services, &self.reports),
            written: only(services, &self.written),
            knocks: knocks.map(|(key, knock)| (key.clone(), knock.clone())).collect(),
            name_servers: self.name_servers.clone(),
            missing: only(services, &self.missing),
            signs: only(services, &self.signs),
            unacknowledged: self.unacknowledged.clone(),
            steps: self.steps.clone(),
            ..Self::new(self.term, self.since)
        }
    }

    /// What an agent that is answered now says back.
    #[must_use]
    pub fn echo(&self, now: Moment) -> Echo {
        Echo { term: self.term, at: now.0 }
    }

    /// After which instant a report was made; `None`: it may be of before this leader's time, and
    /// is evidence of nothing (I-19).
    #[must_use]
    pub fn made_after(&self, report: &Report, now: Moment) -> Option<Moment> {
        let echo = report.echo.filter(|echo| echo.term == self.term)?;
        let at = Moment(echo.at);
        (at >= self.since && at <= now).then_some(at)
    }

    /// Whether an agent must be answered at once, be it without a lease, lest its reports pass for
    /// ones that were held up: where the answers that a quorum confirms come too late for it.
    #[must_use]
    pub fn owes_echo(&self, report: &Report, timing: &Timing, now: Moment) -> bool {
        self.made_after(report, now).is_none_or(|at| now.since(at) >= timing.suspect_after / 2)
    }

    /// Takes in a report. One that is older than the newest is dropped, and one that may have been
    /// made before this leader began. `true`: it says something that the one before did not.
    pub fn hear(&mut self, cluster: &Cluster, mut report: Report, now: Moment) -> bool {
        let known = self.reports.get(&report.instance);
        if known.is_some_and(|heard| !heard.is_outdated_by(&report)) {
            return false;
        }
        let Some(after) = self.made_after(&report, now) else { return false };
        let news = known.is_none_or(|heard| report.is_news_after(&heard.report));
        let steadily = self.steadily(known, &report, &cluster.topology.timing, now);
        let sealed = report.sealed_at.as_ref().map(|_| {
            let before = known.filter(|heard| heard.report.pledge.sealed == report.pledge.sealed);
            before.and_then(|heard| heard.sealed).unwrap_or(now)
        });
        let id = report.instance.clone();
        if let Some(survey) = report.survey.take() {
            let surveyed = Surveyed { at: now, behind_ms: None, survey: survey.bounded() };
            self.surveys.insert(id.clone(), surveyed);
        }
        self.track_streams(cluster, &report, now);
        if let Some(receiver) = report.receiver.as_ref().filter(|receiver| receiver.streaming) {
            let at = now.before(receiver.age);
            let sign = self.signs.entry(receiver.upstream.clone()).or_insert(at);
            *sign = at.max(*sign);
        }
        if let Server::Writable { position, .. } = &report.server {
            self.written.insert(id.clone(), (now, position.clone()));
        }
        if let Some(knock) = report.knock.clone() {
            self.knock(knock, now);
        }
        self.reports.insert(id, Heard { at: now, after, steadily, sealed, report });
        news
    }

    /// Since when an instance that is heard now has been heard without a gap. A leader that has
    /// just been elected had no gap before. An agent to which PostgreSQL does not answer has
    /// nothing to tell of it: that is a gap, however often it reports.
    fn steadily(
        &self,
        known: Option<&Heard>,
        report: &Report,
        timing: &Timing,
        now: Moment,
    ) -> Moment {
        let (at, since) =
            known.map_or((self.since, self.since), |heard| (heard.at, heard.steadily));
        let told = report.looked.is_some_and(|looked| looked < timing.gap());
        if told && now.since(at) < timing.gap() { since } else { now }
    }

    /// Takes in what a voter saw itself.
    pub fn observe(&mut self, observation: Observation, now: Moment) {
        match observation {
            Observation::Knocked(knock) => self.knock(knock, now),
            Observation::Asked { server, answer } => {
                self.name_servers.insert(server, (now, answer));
            }
            Observation::Follows { server, version } => {
                self.follows.insert(server, (now, version));
            }
            Observation::Presented { server, certificate_seconds } => {
                self.presented.insert(server, (now, certificate_seconds));
            }
            Observation::Voter { voter, wall, certificate_seconds } => {
                let said = VoterSelf { behind_ms: None, certificate_seconds, wall };
                self.voters.insert(voter, (now, said));
            }
        }
    }

    /// Compares the clocks of whoever said something just now with the leader's: for people,
    /// clocks decide nothing (I-23).
    pub fn compare_clocks(&mut self, wall: Timestamp, now: Moment) {
        let behind = |theirs: Timestamp| Some(wall.0.saturating_sub(theirs.0));
        for surveyed in self.surveys.values_mut().filter(|surveyed| surveyed.at == now) {
            surveyed.behind_ms = behind(surveyed.survey.wall);
        }
        for (_, said) in self.voters.values_mut().filter(|(at, _)| *at == now) {
            said.behind_ms = behind(said.wall);
        }
    }

    fn knock(&mut self, knock: Knock, now: Moment) {
        let at = now.before(knock.age);
        self.knocks.insert((knock.target.clone(), knock.from.clone()), (at, knock));
    }

    /// Notes since when each service stands where it stands; called before every decision.
    pub fn follow(&mut self, cluster: &Cluster, now: Moment) {
        for (id, service) in &cluster.services {
            let stand = (service.epoch, service.step());
            match self.steps.get(id) {
                Some((epoch, step, _)) if (*epoch, *step) == stand => {}
                Some(_) | None => {
                    self.steps.insert(id.clone(), (stand.0, stand.1, now));
                }
            }
        }
        self.steps.retain(|id, _| cluster.services.contains_key(id));
        for (id, service) in &cluster.services {
            match (service.unacknowledged, self.unacknowledged.get(id)) {
                (None, _) => {
                    self.unacknowledged.remove(id);
                }
                (Some(transition), Some((known, _))) if transition == *known => {}
                (Some(transition), _) => {
                    self.unacknowledged.insert(id.clone(), (transition, now));
                }
            }
        }
        self.pending.retain(|plan, (asked, _)| {
            cluster.pending.get(plan).is_some_and(|known| known.asked == *asked)
        });
        for (plan, known) in &cluster.pending {
            self.pending.entry(plan.clone()).or_insert((known.asked, now));
        }
    }

    /// Whether a request has waited for a second person for too long by this leader's own clock:
    /// the wall clock may be wrong.
    #[must_use]
    pub fn has_waited(&self, plan: &str, pending: &Pending, now: Moment) -> bool {
        let valid = pending.until.0.saturating_sub(pending.asked.0).max(0).unsigned_abs();
        self.pending
            .get(plan)
            .is_some_and(|(_, since)| now.since(*since) >= Duration::from_millis(valid))
    }

    /// The report of an instance, if it came within `limit` and was not held up for longer.
    #[must_use]
    pub fn fresh(&self, instance: &InstanceId, limit: Duration, now: Moment) -> Option<&Report> {
        self.heard(instance, limit, now).map(|heard| &heard.report)
    }

    /// The same, and when it came.
    pub(crate) fn heard(
        &self,
        instance: &InstanceId,
        limit: Duration,
        now: Moment,
    ) -> Option<&Heard> {
        let lately = |heard: &&Heard| now.since(heard.at.min(heard.after)) < limit;
        self.reports.get(instance).filter(lately)
    }

    /// How long this leader has seen a service in its present step.
    #[must_use]
    pub fn in_step(&self, service: &ServiceId, now: Moment) -> Duration {
        self.steps.get(service).map_or(Duration::ZERO, |(_, _, since)| now.since(*since))
    }

    /// When a service entered its present step, as far as this leader saw it.
    #[must_use]
    pub fn step_began(&self, service: &ServiceId) -> Option<Moment> {
        self.steps.get(service).map(|(_, _, since)| *since)
    }

    /// How long ago an instance was last heard; since the election when it never was.
    #[must_use]
    pub fn silence(&self, instance: &InstanceId, now: Moment) -> Duration {
        now.since(self.reports.get(instance).map_or(self.since, |heard| heard.at))
    }

    /// Whether an instance's next report is late: it may be gone, and nobody knows yet.
    #[must_use]
    pub fn is_overdue(&self, instance: &InstanceId, timing: &Timing, now: Moment) -> bool {
        self.silence(instance, now) >= timing.heartbeat * 3 / 2
    }

    fn track_streams(&mut self, cluster: &Cluster, report: &Report, now: Moment) {
        let Some(service) = cluster.services.get(&report.service) else { return };
        if service.primary.as_ref() != Some(&report.instance) {
            return;
        }
        for instance in service.spec.instances.keys() {
            let streams = report
                .streams
                .iter()
                .any(|stream| stream.instance == *instance && stream.streaming);
            if streams {
                self.missing.remove(instance);
            } else {
                self.missing.entry(instance.clone()).or_insert(now);
            }
        }
    }
}
