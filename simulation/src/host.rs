//! One machine: agent, guard, PostgreSQL and its disk.
//!
//! The agent asks the real law what to do next and the real lease whether it may; how long each
//! step takes, and what a death between two steps leaves behind, is the model's.

mod act;
mod agent;
mod beat;
mod commit;
mod copies;
mod disk;
mod enforce;
mod fault;
mod guard;
mod hang;
pub mod harm;
pub mod interface;
mod isolate;
pub mod log;
mod over;
pub mod pair;
mod postgres;
mod prove;
mod queue;
mod receiver;
mod rehearse;
mod sender;
mod senses;
mod server;
pub mod setting;
mod start;
pub(crate) mod surveyed;
mod turn;
mod voters;
mod waits;
mod words;

pub use interface::{
    Fact, HostFault, Input, Outcome, Output, Part, Peer, Process, Purpose, Records, Refusal,
    Release, Setup, Statement, Wal,
};
pub use log::{Log, Record, Tree};
pub use setting::Setting;

use crate::clock::{At, HostClock};
use crate::dice::Dice;
use agent::Agent;
use disk::{Data, Disk};
use failover::report::{Pledge, Port};
use failover::{Lsn, Moment, SystemIdentifier};
use guard::Guard;
use queue::{Event, Job, Queue, Task};
use sender::Wanted;
use server::Server;
use std::sync::Arc;
use turn::Turn;

/// A machine.
#[derive(Debug)]
pub struct Host {
    setup: Setup,
    clock: HostClock,
    on: bool,
    queue: Queue,
    disk: Disk,
    server: Option<Server>,
    guard: Option<Guard>,
    agent: Option<Box<Agent>>,
    impostor: Option<fault::Impostor>,
    paused: Paused,
    /// Timers of processes that do not run.
    held: Vec<Event>,
    stalled_wal: Vec<(Peer, Wal)>,
    stalled_clients: Vec<(u64, Statement)>,
    stalled_agent: Vec<Input>,
    /// A SIGINT waits for a postmaster that does not run.
    stop_requested: bool,
    /// A copy that is not in its place yet.
    copy: Option<Data>,
    /// A cluster that is not in its place yet.
    fresh: Option<SystemIdentifier>,
    slow_replay: Option<Moment>,
    /// What every flush takes more, in microseconds.
    slow: u64,
    full: bool,
    /// Writes for which room is kept on a full disk.
    reserve: u8,
    numbers: u64,
}

/// Which processes are stopped.
#[derive(Clone, Copy, Debug, Default)]
struct Paused {
    agent: bool,
    guard: bool,
    postgres: bool,
}

impl Host {
    /// A machine that is switched off, its disk empty.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        Self {
            setup,
            clock: HostClock::new(At(0), senses::BOOT.0),
            on: false,
            queue: Queue::default(),
            disk: Disk::default(),
            server: None,
            guard: None,
            agent: None,
            impostor: None,
            paused: Paused::default(),
            held: Vec::new(),
            stalled_wal: Vec::new(),
            stalled_clients: Vec::new(),
            stalled_agent: Vec::new(),
            stop_requested: false,
            copy: None,
            fresh: None,
            slow_replay: None,
            slow: 0,
            full: false,
            reserve: act::RESERVE,
            numbers: 0,
        }
    }

    /// Something happens.
    pub fn step(&mut self, input: Input, at: At, dice: &mut Dice, out: &mut Vec<Output>) {
        if !self.on {
            if matches!(input, Input::Boot) {
                self.on = true;
                self.clock.reboot(at);
            } else if !matches!(&input, Input::Fault(fault) if fault.needs_no_power()) {
                return;
            }
        }
        let (now, wall) = (self.clock.moment(at), self.clock.wall(at));
        let mut turn = Turn { now, wall, at, dice, out };
        match input {
            Input::Boot => self.start_agent(&mut turn),
            Input::PowerCut => self.power_cut(&mut turn),
            Input::Wake => {}
            other @ (Input::Wal { .. }
            | Input::Answer { .. }
            | Input::Polled { .. }
            | Input::Knocked { .. }
            | Input::Client { .. }
            | Input::Fault(_)) => self.take(&mut turn, other),
        }
        let now = self.clock.moment(at);
        while let Some(event) = self.queue.pop(now) {
            self.fire(&mut turn, event);
        }
        self.forget_what_is_over();
    }

    /// When it next does something by itself.
    #[must_use]
    pub fn next_wake(&self) -> Option<At> {
        self.queue.next().map(|moment| self.clock.at(moment))
    }

    /// How its ports answer a knock: the agent's, PostgreSQL's. The kernel answers for a process
    /// that is stopped.
    #[must_use]
    pub fn ports(&self) -> (Port, Port) {
        if !self.on {
            return (Port::Silent, Port::Silent);
        }
        let port = |open: bool| if open { Port::Open } else { Port::Refused };
        let agent = self.agent.as_ref().is_some_and(|agent| agent.attached);
        (port(agent), port(self.server.is_some()))
    }

    /// Whether this connection streams, with no database behind it, under another's name.
    #[must_use]
    pub fn poses(&self, stream: u64) -> bool {
        let senders = self.server.iter().flat_map(|server| &server.senders);
        senders.into_iter().any(|sender| sender.stream == stream && sender.posed)
    }

    /// Where its own newest marker ends, if that is one of this epoch.
    #[must_use]
    pub fn marker_of(&self, epoch: failover::Epoch) -> Option<Lsn> {
        let (of, end) = self.disk.data.as_ref()?.marker?;
        (of == epoch).then_some(end)
    }

    /// What is in its data directory, for the oracle.
    #[must_use]
    pub fn log(&self) -> Option<&Log> {
        self.disk.data.as_ref().map(|data| &data.log)
    }

    /// What of it is on disk.
    #[must_use]
    pub fn flushed_to(&self) -> Lsn {
        self.disk.data.as_ref().map_or(Lsn(0), |data| data.flushed)
    }

    /// Whether PostgreSQL runs and is out of recovery.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.is_phase(server::Phase::Writable)
    }

    /// Whether PostgreSQL runs and lets new clients in.
    #[must_use]
    pub fn admits(&self) -> bool {
        self.server.as_ref().is_some_and(|server| server.answers() && server.open)
    }

    /// Whether its agent or its guard runs: whoever is left fences a primary in time.
    #[must_use]
    pub fn is_guarded(&self) -> bool {
        let agent = self.agent.as_ref().is_some_and(|agent| agent.attached);
        (agent && !self.paused.agent) || (self.guard.is_some() && !self.paused.guard)
    }

    /// Whether everything in it runs, and its disk is as it should be.
    #[must_use]
    pub fn is_well(&self) -> bool {
        let agent =
            self.agent.as_ref().is_some_and(|agent| agent.attached && agent.isolated.is_none());
        let paused = self.paused.agent || self.paused.guard || self.paused.postgres;
        self.on && agent && self.guard.is_some() && !paused && !self.full && self.slow == 0
    }

    /// The rule that new sessions of a writable PostgreSQL go by, for the oracle.
    #[must_use]
    pub fn goes_by(&self) -> Option<&Setting> {
        self.server.as_ref().filter(|_| self.is_writable()).map(|server| &*server.postmaster)
    }

    /// The cluster whose data it holds, for the oracle.
    #[must_use]
    pub fn system(&self) -> Option<SystemIdentifier> {
        self.disk.data.as_ref().map(|data| data.system)
    }

    /// Whether PostgreSQL follows and receives.
    #[must_use]
    pub fn is_streaming(&self) -> bool {
        let receiver = self.server.as_ref().and_then(|server| server.receiver.as_ref());
        receiver.is_some_and(|receiver| receiver.streaming)
    }

    /// Its promises on disk.
    #[must_use]
    pub fn pledge(&self) -> Pledge {
        self.disk.memory.pledge
    }

    /// What it is.
    #[must_use]
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// Its clocks.
    #[must_use]
    pub fn clock(&self) -> &HostClock {
        &self.clock
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        (u64::from(self.setup.own.0) << 48) | self.numbers
    }

    /// A record of PostgreSQL's or the agent's own, like no other in the run.
    fn own_record(&mut self) -> Record {
        Record(Record::OWN | self.number())
    }

    fn job(&mut self, turn: &Turn, takes: u64, pid: u64, job: Job) {
        self.queue.push(turn.later(takes), Event::Postgres(pid, job));
    }

    /// How long a flush takes.
    fn flush_time(&self, turn: &mut Turn) -> u64 {
        let usual = turn.dice.between(200, 1_500);
        let hiccup = if turn.dice.per_mille(5) { 30_000 } else { 0 };
        self.slow + usual + hiccup
    }

    /// The rule that a process reads now.
    fn effective(&self) -> Arc<Setting> {
        let overruled = self.disk.data.as_ref().and_then(|data| data.overruled.clone());
        overruled.unwrap_or_else(|| self.disk.dynamic.get().names())
    }

    fn start_agent(&mut self, turn: &mut Turn) {
        if self.agent.is_some() {
            return;
        }
        self.paused.agent = false;
        let run = turn.dice.roll(u64::MAX);
        let known = self.disk.assignment.get().clone();
        let started = turn.wall.0.max(0).unsigned_abs() * 1_000 + turn.now.0 % 1_000;
        let voters = voters::Voters::new(self.setup.voters.len(), started);
        let mut agent = Agent::new(run, turn.now, known, voters);
        // What was not recorded when the last agent ended may still go on.
        agent.overruled = self.disk.memory.doubt_pending;
        self.agent = Some(Box::new(agent));
        let takes = turn.dice.between(10_000, 120_000);
        self.agent_task(turn, takes, Task::Attach);
    }

    /// Nothing runs any more, and nobody is told.
    fn power_cut(&mut self, turn: &mut Turn) {
        self.on = false;
        if self.server.take().is_some() {
            turn.fact(Fact::Ended { fenced: false });
        }
        self.agent = None;
        self.guard = None;
        self.impostor = None;
        self.paused = Paused::default();
        self.stop_requested = false;
        self.copy = None;
        self.fresh = None;
        self.slow_replay = None;
        self.queue.clear();
        self.held.clear();
        self.stalled_wal.clear();
        self.stalled_clients.clear();
        self.stalled_agent.clear();
        self.disk.lose_power(turn.dice);
    }

    /// Something arrives at a machine that is on.
    fn take(&mut self, turn: &mut Turn, input: Input) {
        let waits = self.paused.agent
            && matches!(input, Input::Answer { .. } | Input::Polled { .. } | Input::Knocked { .. });
        if waits {
            self.stalled_agent.push(input);
            return;
        }
        match input {
            Input::Wal { from, message } => self.wal(turn, from, message),
            Input::Answer { token, answer } => self.answer(turn, token, answer.map(|a| *a)),
            Input::Polled { token, assignment } => {
                self.polled(turn, token, assignment.map(|a| *a));
            }
            Input::Knocked { token, agent, postgres } => {
                self.knocked(turn, token, agent, postgres);
            }
            Input::Client { client, statement } => self.client(turn, client, statement),
            Input::Fault(fault) => self.fault(turn, fault),
            Input::Boot | Input::PowerCut | Input::Wake => {}
        }
    }

    /// A message of the replication plane: for a program, an impostor, or PostgreSQL.
    fn wal(&mut self, turn: &mut Turn, from: Peer, message: Wal) {
        let Some(message) = self.tool_hears(turn, message) else { return };
        let Some(message) = self.impostor_hears(turn, message) else { return };
        if self.paused.postgres && self.server.is_some() {
            self.stalled_wal.push((from, message));
            return;
        }
        match message {
            Wal::Connect { stream, purpose, name, role, system, timeline, from: start } => {
                let wanted = Wanted { stream, purpose, name, role, system, timeline, from: start };
                self.connected(turn, from, wanted);
            }
            Wal::Accepted { stream, tree } => self.accepted(turn, stream, tree),
            Wal::Refused { stream, why } => self.refused(turn, stream, why),
            Wal::Records { stream, from: start, records } => {
                if self.has_receiver(stream) {
                    self.received(turn, stream, start, &records);
                } else {
                    turn.out.push(Output::Wal { to: from, message: Wal::Closed { stream } });
                }
            }
            Wal::Switched { stream, tree } => self.switched(turn, stream, tree),
            Wal::Alive { stream } => self.alive(turn, stream),
            Wal::Flushed { stream, upto, applied: _ } => {
                self.heard_flushed(turn, from, stream, upto);
            }
            Wal::Closed { stream } => {
                self.receiver_closed(turn, stream);
                self.sender_closed(turn, stream);
            }
            // For programs that ended meanwhile.
            Wal::Place { .. } | Wal::Copied { .. } => {}
        }
    }

    fn has_receiver(&self, stream: u64) -> bool {
        let receiver = self.server.as_ref().and_then(|server| server.receiver.as_ref());
        receiver.is_some_and(|receiver| receiver.stream == stream)
    }

    fn fire(&mut self, turn: &mut Turn, event: Event) {
        let stopped = match event.part() {
            Some(Part::Agent) => self.paused.agent,
            Some(Part::Guard) => self.paused.guard,
            Some(Part::Postgres) => self.paused.postgres,
            Some(Part::All) | None => false,
        };
        if stopped {
            self.held.push(event);
            return;
        }
        match event {
            Event::Agent(run, task) => {
                if self.agent.as_ref().is_some_and(|agent| agent.run == run) {
                    self.agent_does(turn, task);
                }
            }
            Event::Guard => self.guard_looks(turn),
            Event::Postgres(pid, job) => {
                if self.server.as_ref().is_some_and(|server| server.pid == pid) {
                    self.postgres_does(turn, job);
                }
            }
            Event::Killed(pid) => {
                if self.server.as_ref().is_some_and(|server| server.pid == pid) {
                    self.paused.postgres = false;
                    let fenced = self.guard.as_ref().is_some_and(|guard| guard.ordered);
                    self.end_server(turn, fenced, None);
                }
            }
        }
    }

    fn agent_does(&mut self, turn: &mut Turn, task: Task) {
        match task {
            Task::Attach => self.attach(turn),
            Task::Beat => self.beat(turn),
            Task::Act(id) => self.act(turn, id),
            Task::Probe => self.probe(turn),
            Task::ProbeLost(id) => self.probe_lost(turn, id),
            Task::Speak => self.speaks(turn),
            Task::ReportLost(token) => self.report_lost(turn, token),
            Task::PollLost(token) => self.polled(turn, token, None),
            Task::Poll(place) => self.poll(turn, place),
            Task::Knock => self.knock_again(turn),
            Task::KnockLost(token) => self.knocked(turn, token, Port::Silent, Port::Silent),
            Task::Establish(generation) => self.establish(turn, generation),
            Task::Pulse(life) => self.pulse(turn, life),
            Task::Returned(life, commit, how) => self.returned(turn, life, commit, how),
            Task::Exited(pid, code, itself) => self.exited(turn, pid, code, itself),
            Task::GuardLost => self.replace_guard(turn),
            Task::Read => self.read_log(turn, false),
            Task::See(life) => self.see(turn, life),
            Task::Mark(life) => self.mark(turn, life),
            Task::Measure(life) => self.measure(turn, life),
            Task::Heal => self.heal(turn),
            Task::Checkpointed(_) => self.look(turn),
        }
    }

    fn postgres_does(&mut self, turn: &mut Turn, job: Job) {
        match job {
            Job::Started => self.started(turn),
            Job::Flushed => self.flushed(turn),
            Job::Retry => self.retry(turn),
            Job::Identified(stream) => self.identified(turn, stream),
            Job::ReceiverTick(stream) => self.receiver_tick(turn, stream),
            Job::SenderTick(stream) => self.sender_tick(turn, stream),
            Job::Reload(process) => self.reload(turn, process),
            Job::ReloadStartup => self.reload_startup(turn),
            Job::Replay => self.replay(turn),
            Job::Promoted => self.promoted(turn),
            Job::Copy(stream) => self.copy(turn, stream),
            Job::Stop => self.stopping(turn),
            Job::Checkpoint(_) => {
                self.checkpointed();
                if let Some(server) = &mut self.server {
                    server.hastened = false;
                }
                self.agent_task(turn, 200, Task::Checkpointed(0));
            }
        }
    }
}
