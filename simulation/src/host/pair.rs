//! Two machines with nothing but PostgreSQL on them: no agent, no guard, no law. For holding the
//! model against the real thing.

use super::Host;
use super::disk::{Data, Dynamic};
use super::fault::Impostor;
use super::interface::{HostFault, Input, Outcome, Output, Part, Peer, Setup, Statement, Wal};
use super::log::{Log, Record};
use super::server::Phase;
use super::setting::Setting;
use super::turn::Turn;
use crate::clock::At;
use crate::dice::Dice;
use failover::topology::Timing;
use failover::{Epoch, Lsn, SystemIdentifier, Timeline};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// How long a message is under way.
const WAY: u64 = 500;
/// The key that both have.
const KEY: Epoch = Epoch(1);

/// Two machines; the second begins as the first one's standby.
#[derive(Debug)]
pub struct Pair {
    hosts: [Host; 2],
    now: At,
    dice: Dice,
    wire: VecDeque<(At, usize, Wal)>,
    outcomes: BTreeMap<u64, Outcome>,
}

impl Pair {
    /// A primary, and a standby that streams and is named by the rule.
    ///
    /// # Panics
    ///
    /// Never: the names in it are well-formed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let names = ["a", "b"].map(|name| name.parse().expect("a and b are names"));
        let instances: Arc<[_]> = names.into();
        let setup = |own| Setup {
            own: Peer(own),
            instances: Arc::clone(&instances),
            service: "honesty".parse().expect("it is a name"),
            site: "here".parse().expect("it is a name"),
            voters: Vec::new(),
            // `wal_sender_timeout` is twice this.
            timing: Timing { suspect_after: Duration::from_secs(5), ..Timing::default() },
            talkative: false,
            surveyed: false,
        };
        let mut hosts = [Host::new(setup(0)), Host::new(setup(1))];
        let mut log = Log::default();
        log.push(Record(Record::OWN));
        for (at, host) in hosts.iter_mut().enumerate() {
            host.on = true;
            let mut data = Data::new(SystemIdentifier(7), log.clone());
            data.roles = true;
            data.standby = at == 1;
            host.disk.data = Some(data);
            host.disk.open.set(true);
            host.disk.keys.set([KEY].into());
        }
        let mut pair = Self {
            hosts,
            now: At(10_000_000),
            dice: Dice::new(seed),
            wire: VecDeque::new(),
            outcomes: BTreeMap::new(),
        };
        pair.write_files(0, None, Setting { names: vec![Peer(1)], ..Setting::placeholder() });
        pair.write_files(1, Some(0), Setting::placeholder());
        pair.start(0, false);
        pair.start(1, true);
        pair
    }

    fn write_files(&mut self, side: usize, upstream: Option<u8>, setting: Setting) {
        let upstream = upstream.map(|upstream| (Peer(upstream), KEY));
        let dynamic =
            Dynamic { upstream, generation: None, setting: Arc::new(setting), held: false };
        if let Some(host) = self.hosts.get_mut(side) {
            host.disk.dynamic.set(dynamic);
        }
    }

    fn host(&mut self, side: usize) -> &mut Host {
        &mut self.hosts[side]
    }

    /// Something done to one of them from inside.
    fn within<T>(&mut self, side: usize, action: impl FnOnce(&mut Host, &mut Turn) -> T) -> T {
        let mut out = Vec::new();
        let at = self.now;
        let host = &mut self.hosts[side];
        let (now, wall) = (host.clock.moment(at), host.clock.wall(at));
        let mut turn = Turn { now, wall, at, dice: &mut self.dice, out: &mut out };
        let done = action(host, &mut turn);
        self.take(side, out);
        done
    }

    fn take(&mut self, from: usize, out: Vec<Output>) {
        for output in out {
            match output {
                Output::Wal { to, message } => {
                    debug_assert_ne!(to.index(), from, "nobody talks to himself");
                    self.wire.push_back((self.now.after(WAY), to.index(), message));
                }
                Output::Client { client, outcome } => {
                    self.outcomes.insert(client, outcome);
                }
                Output::Report { .. }
                | Output::Poll { .. }
                | Output::Knock { .. }
                | Output::Fact(_)
                | Output::Say(_) => {}
            }
        }
    }

    fn step(&mut self, side: usize, input: Input) {
        let mut out = Vec::new();
        let at = self.now;
        let host = &mut self.hosts[side];
        host.step(input, at, &mut self.dice, &mut out);
        self.take(side, out);
    }

    /// Lets time pass.
    pub fn run(&mut self, passes: Duration) {
        let end = self.now.after(u64::try_from(passes.as_micros()).unwrap_or(u64::MAX));
        loop {
            let wakes = self.hosts.iter().map(Host::next_wake).enumerate();
            let wake = wakes.filter_map(|(side, at)| Some((at?, side))).min();
            let arrival = self.wire.front().map(|(at, ..)| *at);
            match (arrival, wake) {
                (Some(at), other) if at <= end && other.is_none_or(|(wake, _)| at <= wake) => {
                    self.now = self.now.max(at);
                    let Some((_, side, message)) = self.wire.pop_front() else { return };
                    let from = Peer(u8::from(side == 0));
                    self.step(side, Input::Wal { from, message });
                }
                (_, Some((at, side))) if at <= end => {
                    self.now = self.now.max(at);
                    self.step(side, Input::Wake);
                }
                (_, _) => {
                    self.now = end;
                    return;
                }
            }
        }
    }

    /// Starts one of them, with the files as they are.
    pub fn start(&mut self, side: usize, standby: bool) {
        if let Some(data) = &mut self.host(side).disk.data {
            data.standby = standby;
        }
        self.within(side, Host::launch);
        self.run(Duration::from_secs(5));
    }

    /// SIGQUIT, or a fast stop; whether it ended at once.
    pub fn stop(&mut self, side: usize, fast: bool) -> bool {
        self.within(side, |host, turn| {
            if fast { host.stop_fast(turn) } else { host.end_server(turn, false, None) }
        });
        self.run(Duration::from_millis(500));
        !self.runs(side)
    }

    /// Whether a postmaster is there.
    #[must_use]
    pub fn runs(&self, side: usize) -> bool {
        self.hosts[side].server.is_some()
    }

    /// A session of its own begins to write this number on a machine.
    pub fn write(&mut self, side: usize, commit: u64, local: bool) {
        let statement =
            if local { Statement::Local { commit } } else { Statement::Write { commit } };
        self.step(side, Input::Client { client: commit, statement });
        self.run(Duration::from_millis(300));
    }

    /// What the session that writes this number was told; `None`: nothing yet.
    #[must_use]
    pub fn outcome(&self, commit: u64) -> Option<Outcome> {
        self.outcomes.get(&commit).copied()
    }

    /// The session's wait is cancelled.
    pub fn cancel(&mut self, side: usize, commit: u64) {
        self.step(side, Input::Client { client: commit, statement: Statement::Cancel });
    }

    /// The session is terminated.
    pub fn terminate(&mut self, side: usize) {
        self.within(side, Host::terminate_waits);
    }

    /// The client goes away.
    pub fn hang_up(&mut self, side: usize, commit: u64) {
        self.step(side, Input::Client { client: commit, statement: Statement::Hangup });
    }

    /// Whether a new session sees the number.
    #[must_use]
    pub fn sees(&self, side: usize, commit: u64) -> bool {
        let host = &self.hosts[side];
        let (Some(server), Some(data)) = (&host.server, &host.disk.data) else { return false };
        let at = data.log.iter().position(|record| record == Record(commit));
        let Some(end) = at.map(|at| Lsn(at as u64 + 1)) else { return false };
        let hidden = server.inserted.iter().chain(&server.waiting).any(|w| w.end == end);
        let reached = if server.recovering { server.replayed } else { data.flushed };
        let seen = !hidden && end <= reached;
        let newest = server.visible.map_or(Lsn(0), |(newest, _)| newest);
        debug_assert!(!seen || newest >= end, "what is seen is not newer than the newest");
        seen
    }

    /// All of one PostgreSQL is stopped, or goes on.
    pub fn freeze(&mut self, side: usize, stopped: bool) {
        let part = Part::Postgres;
        let fault = if stopped { HostFault::Pause(part) } else { HostFault::Resume(part) };
        self.step(side, Input::Fault(fault));
        self.run(Duration::from_millis(300));
    }

    /// The first one's rule is another, and reloaded.
    pub fn rule(&mut self, setting: Setting) {
        self.write_files(0, None, setting);
        self.within(0, Host::hang_up);
        self.run(Duration::from_millis(300));
    }

    /// The checkpointer of the first does not run.
    pub fn stall_checkpointer(&mut self, passes: Duration) {
        self.step(0, Input::Fault(HostFault::StallCheckpointer(passes)));
    }

    /// Somebody without a database streams from the first under the second's name.
    pub fn pretend(&mut self) {
        self.within(1, |host, turn| {
            let stream = host.number();
            host.impostor = Some(Impostor { stream, from: Peer(0), held: Lsn(0) });
            let message = Wal::Connect {
                stream,
                purpose: super::Purpose::Impostor,
                name: Peer(1),
                role: Peer(1),
                system: None,
                timeline: Timeline(1),
                from: Lsn(0),
            };
            turn.out.push(Output::Wal { to: Peer(0), message });
        });
        self.run(Duration::from_secs(1));
    }

    /// A query on a standby holds its replay up, for so long.
    pub fn hold_replay(&mut self, side: usize, passes: Duration) {
        self.step(side, Input::Fault(HostFault::LongQuery(passes)));
    }

    /// That query ends.
    pub fn release_replay(&mut self, side: usize) {
        self.within(side, |host, turn| {
            if let Some(server) = &mut host.server {
                server.held_until = None;
            }
            host.replay(turn);
        });
        self.run(Duration::from_secs(1));
    }

    /// `pg_promote`: whether it was out of recovery within the time given.
    pub fn promote(&mut self, side: usize, waits: Duration) -> bool {
        self.within(side, Host::request_promotion);
        self.run(waits);
        self.is_writable(side)
    }

    /// Whether it runs and is out of recovery.
    #[must_use]
    pub fn is_writable(&self, side: usize) -> bool {
        self.hosts[side].is_phase(Phase::Writable)
    }

    /// It follows the other one, or nobody; and reloads where it runs.
    pub fn follow(&mut self, side: usize, upstream: Option<u8>) {
        self.write_files(side, upstream, Setting::placeholder());
        self.within(side, Host::hang_up);
        self.run(Duration::from_secs(1));
    }

    /// Whether its receiver streams.
    #[must_use]
    pub fn streams(&self, side: usize) -> bool {
        self.hosts[side].is_streaming()
    }

    /// Its timeline.
    #[must_use]
    pub fn timeline(&self, side: usize) -> Timeline {
        self.hosts[side].disk.data.as_ref().map_or(Timeline(0), |data| data.log.tree().timeline)
    }

    /// `pg_last_wal_receive_lsn()` and `pg_last_wal_replay_lsn()`.
    #[must_use]
    pub fn positions(&self, side: usize) -> (Option<Lsn>, Lsn) {
        let server = self.hosts[side].server.as_ref();
        server.map_or((None, Lsn(0)), |server| (server.received, server.replayed))
    }
}
