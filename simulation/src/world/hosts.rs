//! The machines with the instances: what reaches them, and what they do that others notice.

use std::sync::Arc;

use failover::ids::InstanceId;
use failover::report::Port;
use failover::{Answer, Assignment};
use orchestrator::replica;

use super::parts::{Body, Door, Looker, Machine};
use super::{Event, World, voter_address};
use crate::host::{Fact, Host, HostFault, Input, Output, Peer, Setup};
use crate::network::Plane;
use scenarios::script::place::Process;

/// After this long a port that says nothing is silent.
const KNOCK: u64 = 500_000;

/// Where the next wake of a machine stands in the queue.
fn slot(host: u8) -> usize {
    2 * usize::from(host)
}

/// A process that is to die at one of its own numbered points: at everything it makes durable or
/// lets others know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crash {
    /// Which process.
    pub process: Process,
    /// At which place.
    pub place: u8,
    /// At which of its points since this was armed, from 0.
    pub at: u32,
}

/// What was armed, and how far it has counted.
pub(crate) struct Trap {
    crash: Crash,
    passed: u32,
    sprung: bool,
}

impl World {
    pub(crate) fn build_machines(&mut self) {
        let topology = self.topology.clone();
        let places = self.sites.len();
        let voters: Vec<_> = (0..places).map(voter_address).collect();
        let all: Vec<InstanceId> =
            topology.services.values().flat_map(|spec| spec.instances.keys().cloned()).collect();
        self.instances = all.into();
        let mut own = 0;
        for (service, (name, spec)) in topology.services.iter().enumerate() {
            for declared in spec.instances.values() {
                let setup = Setup {
                    own: Peer(own),
                    instances: Arc::clone(&self.instances),
                    service: name.clone(),
                    site: declared.site.clone(),
                    voters: voters.clone(),
                    timing: topology.timing.clone(),
                    talkative: self.options.talkative,
                    surveyed: self.options.surveyed,
                };
                self.addresses.insert(declared.client_address(), own);
                self.machines.push(Machine {
                    host: Host::new(setup),
                    place: self.place_of(&declared.site).unwrap_or(0),
                    service: u8::try_from(service).unwrap_or(0),
                    on: false,
                    wake: None,
                    agent_port: Port::Silent,
                    polls: Vec::new(),
                    knocks: Vec::new(),
                });
                own += 1;
            }
        }
        let count = self.machines.len();
        self.channels.resize_with(count * count, Default::default);
        let error = self.options.clock_error;
        for host in 0..count {
            if error > 0 {
                let off = self.dice.roll(2 * error + 1) * 1_000;
                let rate = (crate::clock::TRUE_RATE + off).saturating_sub(error * 1_000);
                let fault = HostFault::ClockRate(rate);
                self.host_input(u8::try_from(host).unwrap_or(0), Input::Fault(fault));
            }
        }
    }

    /// Switches a machine on.
    pub(crate) fn boot(&mut self, index: usize) {
        if self.machines[index].on {
            return;
        }
        self.machines[index].on = true;
        self.host_input(u8::try_from(index).unwrap_or(0), Input::Boot);
    }

    /// Takes a machine's power away.
    pub(crate) fn power_cut(&mut self, index: usize) {
        if !self.machines[index].on {
            return;
        }
        let host = u8::try_from(index).unwrap_or(0);
        self.host_input(host, Input::PowerCut);
        let machine = &mut self.machines[index];
        machine.on = false;
        machine.wake = None;
        machine.agent_port = Port::Silent;
        machine.polls.clear();
        machine.knocks.clear();
        self.drop_connections(host);
        // Voters notice by a ping, not at once.
        for voter in &mut self.voters {
            if let Some(process) = &mut voter.process {
                process.polls.retain(|poll| poll.host != host);
            }
        }
    }

    /// Puts an input before a machine and carries out what comes of it.
    pub(crate) fn host_input(&mut self, host: u8, input: Input) {
        let mut out = std::mem::take(&mut self.scratch);
        let machine = &mut self.machines[usize::from(host)];
        machine.host.step(input, self.now, &mut self.dice, &mut out);
        for output in out.drain(..) {
            if !self.host_output(host, output) {
                break;
            }
        }
        self.scratch = out;
        self.after_step(host);
    }

    /// `false`: it died at this output, and nothing that stood after it happened.
    fn host_output(&mut self, host: u8, output: Output) -> bool {
        let place = self.machines[usize::from(host)].place;
        match output {
            Output::Wal { to, message } => self.wal_sent(host, to.0, message),
            Output::Report { voter, token, report } => {
                self.oracle.reported(host, token, report.sequence, self.now);
                let voter = self.current[usize::from(voter)];
                let to = self.voters[usize::from(voter)].place;
                let body = Body::Report { voter, host, token, report };
                self.send(Plane::Health, place, to, body);
            }
            Output::Poll { voter, token, after } => {
                self.poll(host, self.current[usize::from(voter)], token, after);
            }
            Output::Knock { token, target } => {
                self.machines[usize::from(host)].knocks.push(token);
                let asker = Looker::Host { host, token };
                let to = self.machines[target.index()].place;
                let body = Body::Syn { host: target.0, port: Door::Both, asker };
                self.send(Plane::Health, place, to, body);
                self.queue.push(self.now.after(KNOCK), Event::Unknocked { host, token });
            }
            Output::Client { client, outcome } => self.client_told(host, client, outcome),
            Output::Say(text) => {
                let name = self.instances[usize::from(host)].clone();
                self.say(|| format!("{name}: {text}"));
            }
            Output::Fact(fact) => return self.fact(host, &fact),
        }
        true
    }

    fn fact(&mut self, host: u8, fact: &Fact) -> bool {
        self.coverage.fact(fact);
        let said = self.oracle.fact(host, fact, &self.machines, self.now);
        if let Some(text) = said {
            let name = self.instances[usize::from(host)].clone();
            self.say(|| format!("{name}: {text}"));
        }
        if self.trap.is_some() && !matches!(fact, Fact::Wrote { .. } | Fact::Received { .. }) {
            return !self.sprung_at(host);
        }
        true
    }

    fn after_step(&mut self, host: u8) {
        let machine = &mut self.machines[usize::from(host)];
        let port = machine.host.ports().0;
        if machine.agent_port == Port::Open && port == Port::Refused {
            self.agent_ended(host);
        }
        let machine = &mut self.machines[usize::from(host)];
        machine.agent_port = port;
        let next = machine.host.next_wake();
        if next != machine.wake {
            machine.wake = next;
            if let Some(at) = next {
                self.queue.set(slot(host), at.max(self.now), Event::Wake { host });
            }
        }
    }

    pub(crate) fn wake(&mut self, host: u8) {
        let machine = &mut self.machines[usize::from(host)];
        if machine.wake.is_none_or(|at| at > self.now) {
            return;
        }
        machine.wake = None;
        match machine.host.next_wake() {
            Some(at) if at > self.now => {
                machine.wake = Some(at);
                self.queue.set(slot(host), at, Event::Wake { host });
            }
            Some(_) => self.host_input(host, Input::Wake),
            None => {}
        }
    }

    fn poll(&mut self, host: u8, voter: u8, token: u64, after: failover::Revision) {
        let machine = &mut self.machines[usize::from(host)];
        machine.polls.push((voter, token));
        let (from, to) = (machine.place, self.voters[usize::from(voter)].place);
        self.send(Plane::Health, from, to, Body::Poll { voter, host, token, after });
        if !self.network.is_healthy() || !self.voters[usize::from(voter)].listens() {
            // Should it not get through, a ping finds that out.
            self.queue.push(self.now.after(7_000_000), Event::Ping { host, voter, token });
        }
    }

    /// An agent's connection is pinged: one that leads nowhere is broken off.
    pub(crate) fn ping(&mut self, host: u8, voter: u8, token: u64) {
        let open = self.machines[usize::from(host)].polls.contains(&(voter, token));
        let held = self.voters[usize::from(voter)].process.as_ref().is_some_and(|process| {
            process.polls.iter().any(|poll| poll.host == host && poll.token == token)
        });
        let (here, there) =
            (self.machines[usize::from(host)].place, self.voters[usize::from(voter)].place);
        let cut = self.network.is_cut(Plane::Health, here, there)
            || self.network.is_cut(Plane::Health, there, here);
        if open && (cut || !held) {
            self.polled(host, voter, token, None);
        }
    }

    /// After a cut began: every long poll across it is pinged in a while.
    pub(crate) fn ping_all(&mut self) {
        let mut pings = Vec::new();
        for (host, machine) in (0_u8..).zip(&self.machines) {
            for (voter, token) in &machine.polls {
                pings.push(Event::Ping { host, voter: *voter, token: *token });
            }
        }
        for (server, known) in (0_u8..).zip(&self.servers) {
            for (voter, follow) in self.current.iter().copied().zip(&known.follows) {
                if let Some(token) = follow.token {
                    pings.push(Event::ZonePing { server, voter, token });
                }
            }
        }
        for ping in pings {
            let at = self.now.after(3_000_000 + self.dice.roll(4_000_000));
            self.queue.push(at, ping);
        }
    }

    fn agent_ended(&mut self, host: u8) {
        let machine = &mut self.machines[usize::from(host)];
        machine.knocks.clear();
        let from = machine.place;
        for (voter, _) in std::mem::take(&mut machine.polls) {
            let to = self.voters[usize::from(voter)].place;
            self.send(Plane::Health, from, to, Body::HungUp { voter, host });
        }
    }

    pub(crate) fn polled(
        &mut self,
        host: u8,
        voter: u8,
        token: u64,
        assignment: Option<Box<Assignment>>,
    ) {
        let machine = &mut self.machines[usize::from(host)];
        let known = machine.polls.iter().position(|poll| *poll == (voter, token));
        let Some(known) = known.filter(|_| machine.on) else { return };
        machine.polls.swap_remove(known);
        self.host_input(host, Input::Polled { token, assignment });
    }

    pub(crate) fn answer_arrives(&mut self, host: u8, token: u64, answer: Option<Box<Answer>>) {
        if self.machines[usize::from(host)].on {
            if answer.is_some() {
                self.oracle.answer_came(host, token, self.now);
            }
            self.host_input(host, Input::Answer { token, answer });
        }
    }

    pub(crate) fn knock_came_back(&mut self, host: u8, token: u64, agent: Port, postgres: Port) {
        let machine = &mut self.machines[usize::from(host)];
        let known = machine.knocks.iter().position(|knock| *knock == token);
        let Some(known) = known.filter(|_| machine.on) else { return };
        machine.knocks.swap_remove(known);
        self.host_input(host, Input::Knocked { token, agent, postgres });
    }

    pub(crate) fn unknocked(&mut self, host: u8, token: u64) {
        self.knock_came_back(host, token, Port::Silent, Port::Silent);
    }

    /// From now on a process counts its points, and dies at the chosen one.
    pub fn arm(&mut self, crash: Crash) {
        self.trap = Some(Trap { crash, passed: 0, sprung: false });
    }

    /// How many points the armed process has passed, and whether it died.
    #[must_use]
    pub fn armed(&self) -> (u32, bool) {
        self.trap.as_ref().map_or((0, false), |trap| (trap.passed, trap.sprung))
    }

    fn passes(&mut self) -> bool {
        let Some(trap) = &mut self.trap else { return false };
        let here = trap.passed == trap.crash.at && !trap.sprung;
        trap.passed += 1;
        trap.sprung |= here;
        here
    }

    fn sprung_at(&mut self, host: u8) -> bool {
        let Some(trap) = &self.trap else { return false };
        let (process, place) = (trap.crash.process, trap.crash.place);
        let ours = self.machines[usize::from(host)].place == place
            && matches!(
                process,
                Process::Agent | Process::Guard | Process::Postgres | Process::Site
            );
        if !ours || !self.passes() {
            return false;
        }
        // What the machine did in this step is done; nobody hears of what stood after this point.
        let at = self.now;
        let deed = super::Deed::Crash { process, place };
        self.deed_at(at, deed);
        true
    }

    pub(crate) fn sprung_by(&mut self, voter: u8, output: &replica::Output) -> bool {
        let Some(trap) = &self.trap else { return false };
        let (process, place) = (trap.crash.process, trap.crash.place);
        let ours = self.voters[usize::from(voter)].place == place && process == Process::Voter;
        let point = !matches!(output, replica::Output::Look(_));
        if !ours || !point || !self.passes() {
            return false;
        }
        self.stop_voter(voter, false);
        true
    }

    /// Puts a fault to a machine.
    pub(crate) fn fault(&mut self, host: u8, fault: HostFault) {
        self.coverage.fault(&fault);
        self.host_input(host, Input::Fault(fault));
    }

    /// When everything in the queue of a machine is at the latest; for tests.
    #[must_use]
    pub fn machine(&self, host: usize) -> Option<&Host> {
        self.machines.get(host).map(|machine| &machine.host)
    }

    /// How many machines there are.
    #[must_use]
    pub fn machine_count(&self) -> usize {
        self.machines.len()
    }

    /// The place of a machine, and whether it has power.
    #[must_use]
    pub fn machine_place(&self, host: usize) -> (u8, bool) {
        self.machines.get(host).map_or((0, false), |machine| (machine.place, machine.on))
    }
}
