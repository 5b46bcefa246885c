//! Name servers: they follow every voter by long polls, judge each zone by the real rule, write it
//! and only then serve it. They answer with the last good one, whoever else is alive.

use std::sync::Arc;

use dns::accept::{Verdict, accept};
use failover::Moment;
use failover::report::{NameServerAnswer, Observation};
use failover::zone::Zone;
use orchestrator::routes::Question;

use super::eyes::addresses;
use super::parts::{Body, Following, NameServer};
use super::voters::POLL;
use super::{Event, World};
use crate::network::Plane;
use crate::voter::ZonePoll;

/// How soon a voter is asked again after a failure, at first and at most.
const RETRY: (u64, u64) = (100_000, 1_000_000);
/// How soon after an answer that brought nothing.
const PAUSE: u64 = 100_000;

impl World {
    pub(crate) fn build_name_servers(&mut self) {
        let topology = self.topology.clone();
        for server in topology.dns.servers.values() {
            let place = self.place_of(&server.site).unwrap_or(0);
            self.servers.push(NameServer {
                place,
                on: true,
                runs: false,
                paused: false,
                full: false,
                run: 0,
                served: None,
                disk: None,
                keeping: None,
                follows: Vec::new(),
                next_token: 0,
                held: Vec::new(),
            });
        }
    }

    pub(crate) fn start_name_server(&mut self, index: usize) {
        let voters = self.current.len();
        let server = &mut self.servers[index];
        if !server.on || server.runs {
            return;
        }
        server.run += 1;
        server.runs = true;
        server.paused = false;
        server.served = server.disk.clone();
        server.keeping = None;
        server.follows = vec![Following { token: None, retry: RETRY.0 }; voters];
        let (index, run) = (u8::try_from(index).unwrap_or(u8::MAX), server.run);
        if let Some(zone) = &server.served {
            self.oracle.served(index, zone, true);
        }
        for voter in 0..u8::try_from(voters).unwrap_or(0) {
            let at = self.now.after(self.dice.roll(20_000));
            self.queue.push(at, Event::Follow { server: index, run, voter });
        }
    }

    pub(crate) fn stop_name_server(&mut self, index: usize) {
        let server = &mut self.servers[index];
        server.run += 1;
        server.runs = false;
        server.paused = false;
        server.served = None;
        server.keeping = None;
        server.held.clear();
        let index = u8::try_from(index).unwrap_or(u8::MAX);
        for voter in &mut self.voters {
            if let Some(process) = &mut voter.process {
                process.zone_polls.retain(|poll| poll.server != index);
            }
        }
    }

    /// Asks one voter for a zone after the one that is served.
    pub(crate) fn follow_voter(&mut self, index: u8, run: u32, site: u8) {
        let voter = self.current[usize::from(site)];
        let server = &mut self.servers[usize::from(index)];
        if server.run != run {
            return;
        }
        if server.paused {
            let again = Event::Follow { server: index, run, voter: site };
            self.queue.push(self.now.after(RETRY.1), again);
            return;
        }
        server.next_token += 1;
        let token = server.next_token;
        let after = server.served.as_ref().map_or(0, |zone| zone.version);
        let Some(follow) = server.follows.get_mut(usize::from(site)) else { return };
        follow.token = Some(token);
        let (from, to) = (server.place, self.voters[usize::from(voter)].place);
        self.send(Plane::Dns, from, to, Body::ZonePoll { voter, server: index, token, after });
        if !self.network.is_healthy() || !self.voters[usize::from(voter)].listens() {
            let ping = Event::ZonePing { server: index, voter, token };
            self.queue.push(self.now.after(7_000_000), ping);
        }
    }

    pub(crate) fn zone_poll_arrives(&mut self, voter: u8, server: u8, token: u64, after: u32) {
        let machine = &mut self.voters[usize::from(voter)];
        if !machine.powered {
            return;
        }
        let until = machine.clock.moment(self.now).after(POLL);
        let Some(process) = &mut machine.process else {
            self.answer_zone(voter, server, token, None);
            return;
        };
        let zone = process.zone.clone();
        if zone.version > after {
            self.answer_zone(voter, server, token, Some(zone));
        } else {
            process.zone_polls.retain(|poll| poll.server != server);
            process.zone_polls.push(ZonePoll { server, token, after, until });
        }
        let name = self.topology.dns.servers.keys().nth(usize::from(server)).cloned();
        if let Some(name) = name {
            let observation = Observation::Follows { server: name, version: after };
            self.route(voter, None, Question::Observed(observation));
        }
    }

    /// A voter whose state is empty has no zone to give.
    fn answer_zone(&mut self, voter: u8, server: u8, token: u64, zone: Option<Arc<Zone>>) {
        let zone = zone.filter(|zone| zone.version > 0);
        let (from, to) =
            (self.voters[usize::from(voter)].place, self.servers[usize::from(server)].place);
        self.send(Plane::Dns, from, to, Body::Zone { server, voter, token, zone });
    }

    pub(crate) fn answer_zone_polls(&mut self, voter: u8) {
        let Some(process) = &mut self.voters[usize::from(voter)].process else { return };
        let zone = process.zone.clone();
        let mut due = Vec::new();
        process.zone_polls.retain(|poll| {
            let waits = zone.version <= poll.after;
            if !waits {
                due.push(*poll);
            }
            waits
        });
        for poll in due {
            self.answer_zone(voter, poll.server, poll.token, Some(zone.clone()));
        }
    }

    pub(crate) fn expire_zone_polls(&mut self, voter: u8, now: Moment) {
        let Some(process) = &mut self.voters[usize::from(voter)].process else { return };
        let zone = process.zone.clone();
        let mut due = Vec::new();
        process.zone_polls.retain(|poll| {
            let waits = now < poll.until;
            if !waits {
                due.push(*poll);
            }
            waits
        });
        for poll in due {
            self.answer_zone(voter, poll.server, poll.token, Some(zone.clone()));
        }
    }

    /// A voter's answer came, or the connection broke.
    pub(crate) fn zone_arrives(&mut self, index: u8, v: u8, token: u64, zone: Option<Arc<Zone>>) {
        let server = &mut self.servers[usize::from(index)];
        if server.paused {
            server.held.push((0, Body::Zone { server: index, voter: v, token, zone }));
            return;
        }
        let run = server.run;
        let v = self.voters[usize::from(v)].place;
        let Some(follow) = server.follows.get_mut(usize::from(v)) else { return };
        if !server.runs || follow.token != Some(token) {
            return;
        }
        follow.token = None;
        let Some(zone) = zone else {
            let wait = follow.retry;
            follow.retry = (wait * 2).min(RETRY.1);
            self.queue.push(self.now.after(wait), Event::Follow { server: index, run, voter: v });
            return;
        };
        follow.retry = RETRY.0;
        let wait = self.offer(index, zone);
        self.queue.push(self.now.after(wait), Event::Follow { server: index, run, voter: v });
    }

    /// Judges a zone, as `dns::current` does; how soon the voter is asked again.
    fn offer(&mut self, index: u8, zone: Arc<Zone>) -> u64 {
        let (low, high) = (300, 3_000);
        let write = self.dice.between(low, high);
        let server = &mut self.servers[usize::from(index)];
        // One offer at a time: what is being written counts as served.
        let before = server.keeping.as_ref().or(server.served.as_ref());
        match accept(before.map(Arc::as_ref), &zone) {
            Ok(Verdict::Newer) if server.full => PAUSE,
            Ok(Verdict::Newer) => {
                server.keeping = Some(zone);
                let kept = Event::Kept { server: index, run: server.run };
                self.queue.push(self.now.after(write), kept);
                write + 1
            }
            Ok(Verdict::Same) => PAUSE,
            Err(_) => {
                self.coverage.hit("name server: zone refused");
                RETRY.1
            }
        }
    }

    /// The zone is on disk: it is served.
    pub(crate) fn zone_kept(&mut self, index: u8, run: u32) {
        let server = &mut self.servers[usize::from(index)];
        if server.run != run {
            return;
        }
        let Some(zone) = server.keeping.take() else { return };
        server.disk = Some(zone.clone());
        server.served = Some(zone.clone());
        self.oracle.served(index, &zone, false);
    }

    pub(crate) fn zone_ping(&mut self, index: u8, voter: u8, token: u64) {
        let waits = self.servers[usize::from(index)]
            .follows
            .get(usize::from(self.voters[usize::from(voter)].place))
            .is_some_and(|follow| follow.token == Some(token));
        let held = self.voters[usize::from(voter)].process.as_ref().is_some_and(|process| {
            process.zone_polls.iter().any(|p| p.server == index && p.token == token)
        });
        let (here, there) =
            (self.servers[usize::from(index)].place, self.voters[usize::from(voter)].place);
        let cut = self.network.is_cut(Plane::Dns, here, there)
            || self.network.is_cut(Plane::Dns, there, here);
        if waits && (cut || !held) {
            self.zone_arrives(index, voter, token, None);
        }
    }

    /// A question of a voter or of a resolver arrives.
    pub(crate) fn name_server_asked(&mut self, from: u8, body: Body) {
        let (Body::Ask { server: index, .. } | Body::Resolve { server: index, .. }) = body else {
            return;
        };
        let server = &mut self.servers[usize::from(index)];
        if !server.on {
            return;
        }
        if server.paused {
            server.held.push((from, body));
            return;
        }
        let (runs, place) = (server.runs, server.place);
        if let Body::Ask { server, voter, run, question } = body {
            let answer = if runs { self.serves(server) } else { NameServerAnswer::Refused };
            if answer != NameServerAnswer::Silent {
                let body = Body::Asked { voter, run, server, question, answer };
                self.send(Plane::Dns, place, from, body);
            }
        } else if let Body::Resolve { server, client, session } = body {
            let name = usize::from(self.clients[usize::from(client)].service);
            let spec = self.topology.services.values().nth(name);
            let zone = self.servers[usize::from(server)].served.as_ref();
            let found = zone.zip(spec).map(|(zone, spec)| addresses(zone, &spec.writable));
            let found = found.unwrap_or_default();
            if runs {
                self.oracle.name_asked(server, name, &found);
            }
            let zone = self.servers[usize::from(server)].served.as_ref();
            let address = found.first().copied().filter(|_| runs);
            let ttl = zone.map_or(5, |zone| zone.ttl_seconds);
            let body = Body::Resolved { client, session, address, ttl };
            self.send(Plane::Dns, place, from, body);
        }
    }

    /// A stopped name server goes on: what it was asked meanwhile it answers now.
    pub(crate) fn resume_name_server(&mut self, index: usize) {
        let server = &mut self.servers[index];
        server.paused = false;
        for (from, body) in std::mem::take(&mut server.held) {
            if let Body::Zone { server, voter, token, zone } = body {
                self.zone_arrives(server, voter, token, zone);
            } else {
                self.name_server_asked(from, body);
            }
        }
    }
}
