//! What would follow, if …: the law itself, on a copy of the live state, against instances that do
//! what they are told.
//!
//! Nothing here judges. Time is counted up in ticks; at each, whoever is still reached reports what
//! follows from its last real report and from its assignment, [`crate::decide`] says what happens,
//! and [`crate::apply`] lets it happen. Decisions, their causes and what is waited for are those of
//! the real thing; only how long a machine takes for a step is not known here, and counts as one
//! tick.

mod hypothesis;
mod puppet;
mod told;

use crate::apply::apply;
use crate::cluster::{Cluster, Service};
use crate::decide::{Finding, decide_one};
use crate::event::{Change, Event, Stamp};
use crate::ids::{InstanceId, ServiceId, SiteId};
use crate::report::{NameServerAnswer, Observation, Severity};
use crate::request::{Ruling, rule_on};
use crate::time::{Moment, Timestamp, millis};
use crate::view::View;
use crate::zone::{Data, zone};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;
use hypothesis::unknown;
use puppet::Puppet;
use told::Marks;

pub use hypothesis::{Hypothesis, Voters};
pub use told::{Ending, Line, Rehearsal};

/// How finely time is counted.
const TICK: Duration = Duration::from_millis(100);
/// Longer is not looked ahead.
const HORIZON: Duration = Duration::from_mins(2);

/// What would follow from `hypothesis` if it came true now.
#[must_use]
pub fn rehearse(
    cluster: &Cluster,
    view: &View,
    voters: &Voters,
    hypothesis: &Hypothesis,
    now: Moment,
) -> Rehearsal {
    if let Some(finding) = unknown(cluster, hypothesis) {
        let refused = vec![finding];
        return Rehearsal { lines: vec![], endings: BTreeMap::new(), refused };
    }
    let mut stage = Stage::new(cluster, view, voters, hypothesis, now);
    if let Hypothesis::Ask(request) = hypothesis {
        match rule_on(cluster, view, request, ("baton", Timestamp(0)), now) {
            Ruling::Refused(findings) => {
                let refused = findings;
                return Rehearsal { lines: vec![], endings: BTreeMap::new(), refused };
            }
            Ruling::Granted { change, cause } => stage.happens(*change, cause),
        }
    }
    stage.play();
    stage.end()
}

/// What a decision rests on: the past is long, and nothing is judged by it; and no service has a
/// part in another's judgement, so where it is about one, that is enough.
#[must_use]
pub fn bare(cluster: &Cluster, only: Option<&ServiceId>) -> Cluster {
    let last = cluster.transitions.last_key_value();
    Cluster {
        revision: cluster.revision,
        topology_version: cluster.topology_version,
        topology: cluster.topology.clone(),
        services: cluster
            .services
            .iter()
            .filter(|(id, _)| only.is_none_or(|only| only == *id))
            .map(|(id, service)| (id.clone(), service.clone()))
            .collect(),
        zone_version: cluster.zone_version,
        voters: cluster.voters.clone(),
        transitions: last.map(|(id, record)| (*id, record.clone())).into_iter().collect(),
        drills: BTreeMap::new(),
        calendar: BTreeMap::new(),
        alerts: BTreeMap::new(),
        pending: BTreeMap::new(),
        codes: BTreeMap::new(),
        history: VecDeque::new(),
    }
}

/// The copy, and what is true in it.
struct Stage<'a> {
    cluster: Cluster,
    view: View,
    voters: &'a Voters,
    hypothesis: &'a Hypothesis,
    began: Moment,
    now: Moment,
    /// Until a new leader is elected nobody decides.
    leads_at: Moment,
    /// A majority of voters is left.
    decides: bool,
    puppets: BTreeMap<InstanceId, Puppet>,
    /// What a name server that is reached answers.
    serves: NameServerAnswer,
    lines: Vec<Line>,
    waits: BTreeMap<ServiceId, Option<String>>,
    marks: Marks,
}

impl<'a> Stage<'a> {
    fn new(
        cluster: &Cluster,
        view: &View,
        voters: &'a Voters,
        hypothesis: &'a Hypothesis,
        now: Moment,
    ) -> Self {
        let lost = match hypothesis {
            Hypothesis::LoseSite(site) => Some(site),
            Hypothesis::Cut(..) | Hypothesis::Freeze(_) | Hypothesis::Ask(_) => None,
        };
        let (decides, leads) = voters.are_left(lost);
        let election = cluster.topology.timing.election_timeout * 2;
        let puppets = puppet::all(cluster, view, now);
        let (cluster, view) = (bare(cluster, None), view.of_services(&cluster.services));
        let serves = serves(&cluster);
        Self {
            cluster,
            view,
            hypothesis,
            began: now,
            now,
            leads_at: if leads { now } else { now.after(election) },
            decides,
            voters,
            puppets,
            serves,
            lines: Vec::new(),
            waits: BTreeMap::new(),
            marks: Marks::default(),
        }
    }

    fn play(&mut self) {
        if !self.decides {
            let text = String::from("no majority of voters is left: nothing is decided any more");
            self.lines.push(Line {
                after_ms: 0,
                service: None,
                text,
                waits: Some(String::from("voters")),
            });
        }
        let timing = &self.cluster.topology.timing;
        let quiet = timing.suspect_after * 3 + timing.heartbeat * 2;
        let mut last = self.now;
        while self.now.since(self.began) < HORIZON && self.now.since(last) < quiet {
            self.now = self.now.after(TICK);
            if self.tick() {
                last = self.now;
            }
        }
    }

    /// `true`: something happened.
    fn tick(&mut self) -> bool {
        self.instances_act();
        self.note_writes();
        if !self.decides || self.now < self.leads_at {
            return false;
        }
        if self.leads_at > self.began && self.now.since(self.leads_at) < TICK {
            self.view = View::new(self.view.term, self.now);
            self.says(None, String::from("another voter is elected, and begins without evidence"));
        }
        self.everybody_reports();
        self.name_servers_answer();
        self.view.follow(&self.cluster, self.now);
        let services: Vec<ServiceId> = self.cluster.services.keys().cloned().collect();
        let mut happened = false;
        for id in services {
            let verdict = decide_one(&self.cluster, &id, &self.view, self.now).unwrap_or_default();
            match verdict.change {
                Some((change, cause)) => {
                    self.happens(change, cause);
                    happened = true;
                }
                None => self.waits_for(id, &verdict.findings),
            }
        }
        happened
    }

    fn happens(&mut self, change: Change, cause: String) {
        let stamp = Stamp { monotonic_us: self.now.0, ..Stamp::default() };
        let event =
            Event { stamp, by: String::from("baton"), cause, plan: None, authority: None, change };
        if !apply(&mut self.cluster, &event) {
            return;
        }
        self.marks.changed(&event.change, self.now);
        self.serves = serves(&self.cluster);
        let newest = self.cluster.history.back();
        if let Some((service, text)) = newest.map(|e| (e.service.clone(), e.text.clone())) {
            self.says(service, text);
        }
    }

    fn says(&mut self, service: Option<ServiceId>, text: String) {
        let after_ms = millis(self.now.since(self.began));
        self.lines.push(Line { after_ms, service, text, waits: None });
    }

    /// What stands in the way is said once, when it begins to.
    fn waits_for(&mut self, id: ServiceId, findings: &[Finding]) {
        let first = findings.iter().find(|finding| finding.severity == Severity::Blocks);
        let check = first.map(|finding| finding.check.clone());
        let before = self.waits.insert(id.clone(), check.clone()).flatten();
        if let Some(finding) = first
            && before != check
        {
            let after_ms = millis(self.now.since(self.began));
            let text = finding.text.clone();
            self.lines.push(Line { after_ms, service: Some(id), text, waits: check });
        }
    }

    fn is_lost(&self, service: &Service, id: &InstanceId) -> bool {
        match self.hypothesis {
            Hypothesis::LoseSite(site) => service.site_of(id) == Some(site),
            Hypothesis::Freeze(frozen) => frozen == id,
            Hypothesis::Cut(..) | Hypothesis::Ask(_) => false,
        }
    }

    fn are_apart(&self, one: Option<&SiteId>, other: Option<&SiteId>) -> bool {
        match self.hypothesis {
            Hypothesis::Cut(a, b) => {
                let (a, b) = (Some(a), Some(b));
                (one, other) == (a, b) || (one, other) == (b, a)
            }
            Hypothesis::LoseSite(_) | Hypothesis::Freeze(_) | Hypothesis::Ask(_) => false,
        }
    }

    /// A report reaches the leader through any voter; only where the two sites that are cut apart
    /// are the only ones with voters, what is away from the leader is silent.
    fn is_heard(&self, site: Option<&SiteId>) -> bool {
        let Hypothesis::Cut(a, b) = self.hypothesis else { return true };
        let seat = |(seat, heard): &(Option<SiteId>, bool)| {
            *heard && seat.as_ref() != Some(a) && seat.as_ref() != Some(b)
        };
        self.voters.seats.values().any(seat) || (site != Some(a) && site != Some(b))
    }

    fn instances_act(&mut self) {
        let cluster = &self.cluster;
        for service in cluster.services.values() {
            for id in service.spec.instances.keys() {
                let lost = self.is_lost(service, id);
                if let Some(puppet) = self.puppets.get_mut(id) {
                    puppet.act(service, id, lost);
                }
            }
        }
        // Who streams from whom, and what follows from it for proofs.
        let mut streams: BTreeMap<InstanceId, Vec<InstanceId>> = BTreeMap::new();
        for service in cluster.services.values() {
            for (id, declared) in &service.spec.instances {
                let Some(upstream) = self.puppets.get(id).and_then(Puppet::follows) else {
                    continue;
                };
                let apart = self.are_apart(Some(&declared.site), service.site_of(upstream));
                let serves = self.puppets.get(upstream).is_some_and(Puppet::serves);
                if serves && !apart {
                    streams.entry(upstream.clone()).or_default().push(id.clone());
                }
            }
        }
        for service in cluster.services.values() {
            for id in service.spec.instances.keys() {
                let own = streams.get(id).map(Vec::as_slice).unwrap_or_default();
                let upstream = self.puppets.get(id).and_then(Puppet::follows).cloned();
                let from = upstream
                    .filter(|upstream| streams.get(upstream).is_some_and(|all| all.contains(id)));
                let place = from.and_then(|from| self.puppets.get(&from)?.place().cloned());
                if let Some(puppet) = self.puppets.get_mut(id) {
                    puppet.linked(service, own, place);
                }
            }
        }
    }

    fn everybody_reports(&mut self) {
        let mut reports = Vec::new();
        for service in self.cluster.services.values() {
            for (id, declared) in &service.spec.instances {
                let heard = self.is_heard(Some(&declared.site));
                let report = self.puppets.get_mut(id).filter(|_| heard).and_then(Puppet::report);
                reports.extend(report);
            }
        }
        for mut report in reports {
            report.echo = Some(self.view.echo(self.now));
            self.view.hear(&self.cluster, report, self.now);
        }
    }

    fn name_servers_answer(&mut self) {
        for (server, declared) in &self.cluster.topology.dns.servers {
            let known = self.view.name_servers.get(server).map(|(_, answer)| answer);
            let silent =
                matches!(known, Some(NameServerAnswer::Silent | NameServerAnswer::Refused));
            let lost = matches!(self.hypothesis, Hypothesis::LoseSite(s) if *s == declared.site);
            let answer =
                if silent || lost { NameServerAnswer::Silent } else { self.serves.clone() };
            self.view.observe(Observation::Asked { server: server.clone(), answer }, self.now);
        }
    }

    fn note_writes(&mut self) {
        for (id, service) in &self.cluster.services {
            let primary = service.primary.as_ref().and_then(|id| self.puppets.get(id));
            let writes = primary.is_some_and(|puppet| puppet.commits(service));
            self.marks.writes(id, writes, self.now);
        }
    }

    /// Whether a client's commit returns.
    fn writes(&self, service: &Service) -> bool {
        let primary = service.primary.as_ref().and_then(|id| self.puppets.get(id));
        primary.is_some_and(|puppet| puppet.commits(service))
    }

    fn end(self) -> Rehearsal {
        let ending = |id: &ServiceId, service: &Service| {
            let verdict = decide_one(&self.cluster, id, &self.view, self.now).unwrap_or_default();
            let blocks = |finding: &Finding| finding.severity == Severity::Blocks;
            let findings = verdict.findings.into_iter().filter(blocks).collect();
            let stand = (service.primary.clone(), self.writes(service));
            self.marks.ending(id, self.began, stand, findings)
        };
        let endings = self.cluster.services.iter().map(|(id, s)| (id.clone(), ending(id, s)));
        Rehearsal { endings: endings.collect(), lines: self.lines, refused: Vec::new() }
    }
}

/// What a name server answers that follows the zone.
fn serves(cluster: &Cluster) -> NameServerAnswer {
    let zone = zone(cluster);
    let addresses = |service: &Service| -> Vec<IpAddr> {
        let records = zone.records.get(&service.spec.writable);
        let each = records.into_iter().flatten().filter_map(|data| match data {
            Data::Address(address) => Some(*address),
            Data::Alias(_) | Data::Service { .. } | Data::Text(_) => None,
        });
        each.collect()
    };
    let writable = cluster.services.iter().map(|(id, s)| (id.clone(), addresses(s))).collect();
    NameServerAnswer::Serves { version: zone.version, writable, canaries: Vec::new() }
}
