//! A voter's own eyes, as `orchestrator::observe` has them: knocks at ports, questions to name
//! servers.

use std::net::IpAddr;
use std::time::Duration;

use failover::ids::{InstanceId, ServiceId};
use failover::report::{Knock, NameServerAnswer, Observation, Port};
use failover::topology::ServiceSpec;
use failover::zone::{Data, canary_name};
use orchestrator::routes::Question;

use super::parts::{Body, Door, Looker};
use super::{Deed, Event, World};
use crate::host::surveyed::YEAR;
use crate::network::Plane;
use crate::voter::Look;

/// How long a port may take to answer.
const KNOCK: u64 = 500_000;
/// How soon an instance whose agent is gone and whose PostgreSQL is not is looked at again.
const AGAIN: u64 = 50_000;
/// How many times.
const TIMES: u8 = 40;
/// How long a name server may take to answer.
const PATIENCE: u64 = 300_000;
/// How often name servers are asked while a transition waits for them.
const URGENT: Duration = Duration::from_millis(20);
/// How often otherwise.
const QUIET: Duration = Duration::from_secs(5);

impl World {
    /// The place among the machines of an instance.
    pub(crate) fn host_index(&self, instance: &InstanceId) -> Option<u8> {
        let index = self.instances.iter().position(|other| other == instance)?;
        u8::try_from(index).ok()
    }

    /// From how many sites beside its own each machine can be seen, or could a moment ago.
    pub(crate) fn eyes(&self) -> Vec<u8> {
        let sees = |place: u8, target: u8| {
            let voter = self.voters_at(place).into_iter().any(|voter| {
                let voter = &self.voters[voter];
                voter.powered && !voter.paused && voter.process.is_some()
            });
            let machine = self
                .hosts_at(place)
                .into_iter()
                .any(|host| self.machines[usize::from(host)].host.ports().0 == Port::Open);
            let cut = self.network.is_cut(Plane::Health, place, target)
                || self.network.is_cut(Plane::Health, target, place);
            ((voter || machine) && !cut) || self.oracle.saw_lately(place, self.now)
        };
        let from = |target: u8| {
            let places = 0..u8::try_from(self.sites.len()).unwrap_or(0);
            places.filter(|place| *place != target && sees(*place, target)).count()
        };
        let count = |machine: &super::Machine| u8::try_from(from(machine.place)).unwrap_or(u8::MAX);
        self.machines.iter().map(count).collect()
    }

    /// Who could see something is kept from it.
    pub(crate) fn blind(&mut self, deed: &Deed) {
        match deed {
            Deed::Cut { from, to, .. } | Deed::Worsen { from, to, .. } => {
                self.oracle.blinded(&[*from, *to], self.now);
            }
            Deed::Crash { place, .. } | Deed::Destroy { place, .. } | Deed::Pause { place, .. } => {
                self.oracle.blinded(&[*place], self.now);
            }
            Deed::Mend { .. }
            | Deed::MendAll
            | Deed::Start { .. }
            | Deed::Resume { .. }
            | Deed::Skew { .. }
            | Deed::SlowDisk { .. }
            | Deed::FillDisk { .. }
            | Deed::FreeDisk { .. }
            | Deed::Host { .. }
            | Deed::LocalSession { .. }
            | Deed::Ask(_) => {}
        }
    }

    /// Has a voter look at an instance, if that is a primary and it does not already. One that
    /// stands still does nothing, here and below.
    pub(crate) fn look_at(&mut self, voter: u8, instance: &InstanceId) {
        let Some(host) = self.host_index(instance) else { return };
        let id = u32::try_from(self.dice.roll(1 << 31)).unwrap_or(0);
        let machine = &mut self.voters[usize::from(voter)];
        let Some(process) = machine.process.as_mut().filter(|_| !machine.paused) else { return };
        let busy = process.looks.iter().any(|look| look.host == host);
        if busy || !process.knows_primary(instance) {
            return;
        }
        process.looks.push(Look { host, id, attempt: 0, second: false });
        self.coverage.hit("voter: looks");
        self.knock(voter, id);
    }

    fn knock(&mut self, voter: u8, id: u32) {
        let run = self.voters[usize::from(voter)].run;
        let from = self.voters[usize::from(voter)].place;
        let Some(process) = &self.voters[usize::from(voter)].process else { return };
        let Some(look) = process.looks.iter().find(|look| look.id == id).copied() else { return };
        let to = self.machines[usize::from(look.host)].place;
        let port = if look.second { Door::Postgres } else { Door::Agent };
        let asker = Looker::Voter { voter, run, id, second: look.second };
        self.send(Plane::Health, from, to, Body::Syn { host: look.host, port, asker });
        let late = Event::Eye { voter, run, id, second: look.second };
        self.queue.push(self.now.after(KNOCK), late);
    }

    pub(crate) fn unseen(&mut self, voter: u8, run: u32, id: u32, second: bool) {
        self.seen(voter, run, id, second, Port::Silent);
    }

    /// A port answered, or did not.
    pub(crate) fn seen(&mut self, voter: u8, run: u32, id: u32, second: bool, port: Port) {
        let machine = &mut self.voters[usize::from(voter)];
        if machine.run != run {
            return;
        }
        let Some(process) = &mut machine.process else { return };
        if machine.paused {
            process.looks.retain(|look| look.id != id);
            return;
        }
        let same = |look: &&mut Look| look.id == id && look.second == second;
        let Some(look) = process.looks.iter_mut().find(same) else { return };
        if !second && port == Port::Refused {
            look.second = true;
            self.knock(voter, id);
            return;
        }
        let (agent, postgres) = if second { (Port::Refused, port) } else { (port, Port::Silent) };
        let (host, attempt) = (look.host, look.attempt);
        look.attempt += 1;
        look.second = false;
        let target = usize::from(host);
        let news = agent != Port::Open || !process.seen_open.contains(target);
        if agent == Port::Open {
            process.seen_open.insert(target);
        } else {
            process.seen_open.remove(target);
        }
        let ends = agent != Port::Refused || postgres == Port::Refused || attempt + 1 >= TIMES;
        if ends {
            process.looks.retain(|look| look.id != id);
        } else {
            self.queue.push(self.now.after(AGAIN), Event::EyeAgain { voter, run, id });
        }
        if news {
            let place = self.voters[usize::from(voter)].place;
            let knock = Knock {
                target: self.instances[usize::from(host)].clone(),
                from: self.sites[usize::from(place)].clone(),
                agent,
                postgres,
                age: Duration::ZERO,
            };
            self.route(voter, None, Question::Observed(Observation::Knocked(knock)));
        }
    }

    pub(crate) fn look_again(&mut self, voter: u8, run: u32, id: u32) {
        if self.voters[usize::from(voter)].run == run {
            self.knock(voter, id);
        }
    }

    /// As leader, asks name servers when it is time; called at every tick.
    pub(crate) fn ask_name_servers(&mut self, voter: u8) {
        let machine = &mut self.voters[usize::from(voter)];
        let now = machine.clock.moment(self.now);
        let Some(process) = &mut machine.process else { return };
        if !process.standing.leads || now < process.ask_at {
            return;
        }
        let urgent = process.projection.redirecting;
        let next = now.after(if urgent { URGENT } else { QUIET });
        process.ask_at = next;
        if urgent {
            let (at, run) = (machine.clock.at(next), machine.run);
            self.queue.push(at, Event::AskNames { voter, run });
        }
        self.ask_each(voter);
    }

    pub(crate) fn ask_names(&mut self, voter: u8, run: u32) {
        let machine = &self.voters[usize::from(voter)];
        if machine.run == run && !machine.paused {
            self.ask_name_servers(voter);
        }
    }

    /// The same when something has changed.
    pub(crate) fn ask_name_servers_now(&mut self, voter: u8) {
        let machine = &mut self.voters[usize::from(voter)];
        let now = machine.clock.moment(self.now);
        if let Some(process) = &mut machine.process {
            process.ask_at = now;
            self.ask_name_servers(voter);
        }
    }

    /// Voters tell of themselves, where certificates are told at all.
    fn tell_of_voters(&mut self) {
        for index in 0..u8::try_from(self.voters.len()).unwrap_or(0) {
            let machine = &self.voters[usize::from(index)];
            if machine.powered && !machine.paused && machine.process.is_some() {
                let wall = machine.clocks(self.now).wall;
                let voter = machine.id;
                let observation = Observation::Voter { voter, wall, certificate_seconds: YEAR };
                self.route(index, None, Question::Observed(observation));
            }
        }
    }

    fn ask_each(&mut self, voter: u8) {
        if self.options.surveyed {
            self.tell_of_voters();
        }
        let from = self.voters[usize::from(voter)].place;
        let run = self.voters[usize::from(voter)].run;
        for server in 0..u8::try_from(self.servers.len()).unwrap_or(0) {
            let Some(process) = &mut self.voters[usize::from(voter)].process else { return };
            let bit = 1 << server;
            if process.asking & bit != 0 {
                continue;
            }
            process.asking |= bit;
            process.questions += 1;
            let question = process.questions;
            process.asked[usize::from(server)] = question;
            let to = self.servers[usize::from(server)].place;
            self.send(Plane::Dns, from, to, Body::Ask { server, voter, run, question });
            let late = Event::Unasked { voter, run, server, question };
            self.queue.push(self.now.after(PATIENCE), late);
        }
    }

    pub(crate) fn unasked(&mut self, voter: u8, run: u32, server: u8, question: u32) {
        self.asked((voter, run), server, question, NameServerAnswer::Silent);
    }

    /// A name server answered, or did not.
    pub(crate) fn asked(
        &mut self,
        (voter, run): (u8, u32),
        server: u8,
        question: u32,
        answer: NameServerAnswer,
    ) {
        let machine = &mut self.voters[usize::from(voter)];
        if machine.run != run {
            return;
        }
        let Some(process) = &mut machine.process else { return };
        let bit = 1 << server;
        if process.asking & bit == 0 || process.asked[usize::from(server)] != question {
            return;
        }
        process.asking &= !bit;
        if machine.paused {
            return;
        }
        let Some((id, _)) = self.topology.dns.servers.iter().nth(usize::from(server)) else {
            return;
        };
        let server = id.clone();
        if self.options.surveyed && answer != NameServerAnswer::Silent {
            let seen = Observation::Presented { server: server.clone(), certificate_seconds: YEAR };
            self.route(voter, None, Question::Observed(seen));
        }
        let observation = Observation::Asked { server, answer };
        self.route(voter, None, Question::Observed(observation));
    }

    /// What a name server answers to a voter's question.
    pub(crate) fn serves(&self, server: u8) -> NameServerAnswer {
        let served = self.servers[usize::from(server)].served.as_ref();
        let Some(zone) = served else { return NameServerAnswer::Silent };
        let writable = self
            .topology
            .services
            .iter()
            .filter(|(id, _)| zone.epochs.contains_key(*id))
            .map(|(id, spec)| (id.clone(), addresses(zone, &spec.writable)))
            .collect();
        let canary = |(id, spec): (&ServiceId, &ServiceSpec)| {
            let found = addresses(zone, &canary_name(spec));
            (!found.is_empty()).then(|| (id.clone(), found))
        };
        let canaries = self.topology.services.iter().filter_map(canary).collect();
        NameServerAnswer::Serves { version: zone.version, writable, canaries }
    }
}

/// The addresses that a zone gives a name.
pub(crate) fn addresses(zone: &failover::zone::Zone, name: &str) -> Vec<IpAddr> {
    let data = zone.records.get(name).map(Vec::as_slice).unwrap_or_default();
    let address = |data: &Data| match data {
        Data::Address(address) => Some(*address),
        Data::Alias(_) | Data::Service { .. } | Data::Text(_) => None,
    };
    data.iter().filter_map(address).collect()
}
