//! PostgreSQL's life: start, recovery, promotion, clean stop, death.

use super::Host;
use super::interface::{Fact, Outcome, Output, Process, Wal};
use super::queue::{Event, Job, Line, Return, Task};
use super::server::{Phase, Server, Stop, Who};
use super::turn::Turn;
use failover::report::Down;
use failover::{Lsn, Timeline};
use std::sync::Arc;

impl Host {
    /// The guard starts a postmaster with the files as they are.
    pub(super) fn launch(&mut self, turn: &mut Turn) -> Option<u64> {
        let setting = self.effective();
        let pid = self.number();
        let data = self.disk.data.as_mut()?;
        let mut server = Server::new(pid, data.standby, setting);
        if data.broken {
            turn.fact(Fact::StartedBroken);
        }
        // Whatever was only written is flushed before anything is replayed.
        data.flushed = data.log.end();
        data.shut_down = false;
        server.open = *self.disk.open.get();
        server.upstream = self.disk.dynamic.get().upstream;
        self.server = Some(server);
        let usual = turn.dice.between(40_000, 400_000);
        let takes = if turn.dice.per_mille(100) { usual * 6 } else { usual } + self.slow;
        self.job(turn, takes, pid, Job::Started);
        let takes = turn.dice.between(1_000, 60_000);
        self.job(turn, takes, pid, Job::Reload(Process::Checkpointer));
        Some(pid)
    }

    /// Start-up has replayed what there is.
    pub(super) fn started(&mut self, turn: &mut Turn) {
        if self.full {
            self.end_server(turn, false, Some(1));
            return;
        }
        let number = self.own_record();
        let (Some(server), Some(data)) = (&mut self.server, &mut self.disk.data) else { return };
        server.begun = true;
        if server.recovering {
            data.led = false;
            server.replayed = data.log.end();
            server.visible = data.log.newest(server.replayed);
            let pid = server.pid;
            if self.held(turn)
                && let Some(until) = self.slow_replay.filter(|until| *until > turn.now)
            {
                // Whoever slowed the server before down wakes this one, too.
                self.job(turn, until.0 - turn.now.0, pid, Job::Replay);
            }
            self.become_consistent(turn);
            self.wake_startup(turn, 0);
            return;
        }
        data.log.push(number);
        data.flushed = data.log.end();
        data.checkpoint = data.log.tree().timeline;
        server.replayed = data.flushed;
        server.released = Lsn(0);
        // Nothing waits any more: all of it can be seen (F-12).
        server.visible = data.log.newest(data.flushed);
        let from = data.flushed;
        self.writable(turn, from, false);
    }

    fn writable(&mut self, turn: &mut Turn, from: Lsn, promoted: bool) {
        let (Some(server), Some(data)) = (&mut self.server, &mut self.disk.data) else { return };
        server.phase = Phase::Writable;
        server.recovering = false;
        data.led = true;
        let timeline = data.log.tree().timeline;
        let epoch = self.disk.memory.pledge.granted;
        turn.fact(Fact::Writable { epoch, timeline, from, promoted });
        let setting = Arc::clone(&server.postmaster);
        turn.fact(Fact::Setting { process: Process::Postmaster, setting });
        if server.open {
            turn.fact(Fact::Admitted { epoch, writable: true });
        }
        self.log_line(turn, Line::Ready);
    }

    /// A standby answers once it has all that its directory may hold pages of.
    pub(super) fn become_consistent(&mut self, turn: &mut Turn) {
        let (Some(server), Some(data)) = (&mut self.server, &self.disk.data) else { return };
        if server.phase == Phase::Starting && server.replayed >= data.consistent {
            server.phase = Phase::Recovery;
            if server.open {
                let epoch = self.disk.memory.pledge.granted;
                turn.fact(Fact::Admitted { epoch, writable: false });
            }
            self.log_line(turn, Line::Ready);
        }
    }

    /// Replay goes as far as it can; promotion follows once it has reached the end.
    pub(super) fn replay(&mut self, turn: &mut Turn) {
        if self.held(turn) {
            return;
        }
        let (Some(server), Some(data)) = (&mut self.server, &self.disk.data) else { return };
        if !server.recovering || !server.begun {
            return;
        }
        let from = server.replayed;
        if data.flushed > from {
            server.replayed = data.flushed;
            let newest = data.log.newest(data.flushed).filter(|(end, _)| *end > from);
            if let Some((end, commit)) = newest {
                server.see(end, commit);
            }
        }
        self.become_consistent(turn);
        self.branch(turn);
    }

    /// Whether replay is held up, and by what; looks again when that is over.
    fn held(&mut self, turn: &mut Turn) -> bool {
        let Some(server) = &mut self.server else { return false };
        let query = server.held_until.map(|(until, _)| until);
        let until = query.max(self.slow_replay);
        match until {
            Some(until) if until > turn.now => true,
            Some(_) => {
                server.held_until = None;
                self.slow_replay = None;
                false
            }
            None => false,
        }
    }

    /// `pg_promote`, as far as the request goes (F-19).
    pub(super) fn request_promotion(&mut self, turn: &mut Turn) {
        let Some(server) = &mut self.server else { return };
        if server.phase != Phase::Recovery {
            return;
        }
        server.promoting = true;
        self.close_receiver(turn, true);
        self.replay(turn);
    }

    /// With everything replayed, promotion is a matter of moments.
    fn branch(&mut self, turn: &mut Turn) {
        let (Some(server), Some(data)) = (&mut self.server, &self.disk.data) else { return };
        let through = server.phase == Phase::Recovery && server.replayed >= data.log.end();
        if server.promoting && through && !server.branching && server.receiver.is_none() {
            server.branching = true;
            let pid = server.pid;
            let takes = turn.dice.between(5_000, 150_000) + self.slow;
            self.job(turn, takes, pid, Job::Promoted);
        }
    }

    pub(super) fn promoted(&mut self, turn: &mut Turn) {
        let number = self.own_record();
        let (Some(server), Some(data)) = (&mut self.server, &mut self.disk.data) else { return };
        let at = data.log.end();
        let newest = data.known.0.max(data.log.tree().timeline.0);
        let timeline = Timeline(newest + 1);
        data.log.set_tree(Arc::new(data.log.tree().branch(at, timeline)));
        data.known = timeline;
        data.log.push(number);
        data.flushed = data.log.end();
        data.standby = false;
        server.replayed = data.flushed;
        server.visible = data.log.newest(data.flushed);
        server.promoting = false;
        server.branching = false;
        server.received = None;
        server.released = Lsn(0);
        // PostgreSQL asks for a checkpoint by itself, one that takes its time.
        let pid = server.pid;
        let takes = turn.dice.between(1_000_000, 15_000_000) + self.slow;
        self.job(turn, takes, pid, Job::Checkpoint(0));
        self.writable(turn, at, true);
        self.serve_all(turn);
    }

    /// SIGINT: a fast, clean stop (F-21).
    pub(super) fn stop_fast(&mut self, turn: &mut Turn) {
        let Some(server) = &mut self.server else { return };
        if server.stop != Stop::No {
            return;
        }
        server.stop = Stop::Ordered;
        server.phase = Phase::Stopping;
        let pid = server.pid;
        self.end_sessions(turn);
        self.close_receiver(turn, true);
        let takes = turn.dice.between(2_000, 60_000) + self.slow;
        self.job(turn, takes, pid, Job::Stop);
    }

    pub(super) fn stopping(&mut self, turn: &mut Turn) {
        let number = self.own_record();
        let (Some(server), Some(data)) = (&mut self.server, &mut self.disk.data) else { return };
        let pid = server.pid;
        match server.stop {
            Stop::No => {}
            Stop::Ordered if server.recovering => {
                server.stop = Stop::Over;
                self.job(turn, 1_000, pid, Job::Stop);
            }
            Stop::Ordered => {
                server.stop = Stop::Draining;
                server.copies.clear();
                data.log.push(number);
                data.flushed = data.log.end();
                data.checkpoint = data.log.tree().timeline;
                self.serve_all(turn);
                self.drained(turn);
            }
            Stop::Draining => self.drained(turn),
            Stop::Over => {
                if !server.recovering {
                    data.shut_down = true;
                }
                self.end_server(turn, false, Some(0));
            }
        }
    }

    /// A standby that has everything is let go; with nobody left, the postmaster ends.
    pub(super) fn drained(&mut self, turn: &mut Turn) {
        let (Some(server), Some(data)) = (&mut self.server, &self.disk.data) else { return };
        if server.stop != Stop::Draining {
            return;
        }
        let end = data.flushed;
        let done: Vec<u64> = server
            .senders
            .iter()
            .filter(|sender| sender.known && sender.flushed >= end)
            .map(|sender| sender.stream)
            .collect();
        for stream in done {
            self.close_sender(turn, stream);
        }
        if let Some(server) = &mut self.server
            && server.senders.is_empty()
        {
            server.stop = Stop::Over;
            let pid = server.pid;
            self.job(turn, 2_000, pid, Job::Stop);
        }
    }

    /// Sessions end without success; what they had in the log stays there (F-17).
    fn end_sessions(&mut self, turn: &mut Turn) {
        let Some(server) = &mut self.server else { return };
        let mut waiters = std::mem::take(&mut server.inserted);
        let waited = server.phase == Phase::Stopping && !server.waiting.is_empty();
        waiters.append(&mut server.waiting);
        server.sessions.clear();
        if waited {
            // Each says so in the log before it ends (F-17).
            self.log_line(turn, Line::Cancelled);
        }
        for waiter in waiters {
            self.break_off(turn, waiter.who);
        }
    }

    /// The connection of a commit ended before it returned.
    pub(super) fn break_off(&mut self, turn: &mut Turn, who: Who) {
        match who {
            Who::Client(client, _) => {
                turn.out.push(Output::Client { client, outcome: Outcome::Lost });
            }
            Who::Agent(run, life, commit) => {
                let task = Task::Returned(life, commit, Return::Broken);
                self.agent_run(turn, 500, run, task);
            }
            Who::Gone(_) | Who::Nobody => {}
        }
    }

    /// Sessions of clients are ended; ours go on.
    pub(super) fn end_clients(&mut self, turn: &mut Turn) {
        let Some(server) = &mut self.server else { return };
        server.sessions.clear();
        if let Some((_, true)) = server.held_until {
            server.held_until = None;
            self.replay(turn);
        }
    }

    /// SIGKILL to the postmaster and its children; it takes the kernel a moment.
    pub(super) fn kill_server(&mut self, turn: &mut Turn) {
        if let Some(server) = &self.server {
            let pid = server.pid;
            let takes = turn.dice.between(50, 4_000);
            self.queue.push(turn.later(takes), Event::Killed(pid));
        }
    }

    /// Nothing of it runs any more. What was inserted and not flushed may be there or not.
    pub(super) fn end_server(&mut self, turn: &mut Turn, fenced: bool, code: Option<i32>) {
        self.end_sessions(turn);
        let Some(mut server) = self.server.take() else { return };
        if let (Some(data), None) = (&mut self.disk.data, code)
            && !server.recovering
            && server.phase != Phase::Starting
        {
            let kept = turn.dice.roll(data.log.end().0 - data.flushed.0 + 1);
            data.log.truncate(Lsn(data.flushed.0 + kept));
        }
        for sender in server.senders.drain(..) {
            let message = Wal::Closed { stream: sender.stream };
            turn.out.push(Output::Wal { to: sender.peer, message });
        }
        for copy in server.copies.drain(..) {
            let message = Wal::Closed { stream: copy.stream };
            turn.out.push(Output::Wal { to: copy.peer, message });
        }
        if let Some(receiver) = server.receiver.take() {
            let message = Wal::Closed { stream: receiver.stream };
            turn.out.push(Output::Wal { to: receiver.peer, message });
        }
        let clients = std::mem::take(&mut self.stalled_clients);
        for (client, _) in clients {
            turn.out.push(Output::Client { client, outcome: Outcome::Lost });
        }
        self.stalled_wal.clear();
        turn.fact(Fact::Ended { fenced });
        self.guard_reaps(turn, server.pid, code);
    }

    /// What the agent makes of an exit.
    pub(super) fn judge(&self, code: Option<i32>, itself: bool, stopping: bool) -> Down {
        let clean = self.disk.data.as_ref().filter(|_| code == Some(0) || stopping);
        if let Some(end) = clean.and_then(super::disk::Data::clean_end) {
            return Down::Clean(end);
        }
        if itself { Down::Crashed } else { Down::Fenced }
    }
}
