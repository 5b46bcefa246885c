//! Sessions and commits: inserted, flushed, waiting for standbys, released.

use super::Host;
use super::interface::{Fact, Outcome, Output, Process, Release, Statement};
use super::log::Record;
use super::queue::{Job, Line, Return, Task};
use super::server::{Phase, Waiter, Who};
use super::setting::Setting;
use super::turn::Turn;
use failover::Lsn;
use std::sync::Arc;

impl Host {
    /// A client's statement.
    pub(super) fn client(&mut self, turn: &mut Turn, client: u64, statement: Statement) {
        if self.paused.postgres && self.server.is_some() {
            self.stalled_clients.push((client, statement));
            return;
        }
        let tell = |turn: &mut Turn, outcome| turn.out.push(Output::Client { client, outcome });
        let Some(server) = &mut self.server else {
            if !matches!(statement, Statement::Hangup | Statement::Cancel) {
                tell(turn, Outcome::Refused);
            }
            return;
        };
        match statement {
            Statement::Cancel => return self.cancel(turn, Some(client)),
            Statement::Hangup => {
                server.sessions.retain(|other| *other != client);
                for waiter in server.inserted.iter_mut().chain(&mut server.waiting) {
                    if let Who::Client(of, commit) = waiter.who
                        && of == client
                    {
                        waiter.who = Who::Gone(commit);
                    }
                }
                return;
            }
            Statement::Write { .. } | Statement::Local { .. } | Statement::Read => {}
        }
        if !server.sessions.contains(&client) {
            if !server.answers() || !server.open {
                return tell(turn, Outcome::Refused);
            }
            server.sessions.push(client);
        }
        let local = server.postmaster.local;
        match statement {
            Statement::Read => {
                let newest = server.visible.map(|(_, commit)| commit);
                tell(turn, Outcome::Seen { newest });
            }
            Statement::Write { commit } | Statement::Local { commit } => {
                if server.phase != Phase::Writable {
                    return tell(turn, Outcome::Refused);
                }
                let waits = matches!(statement, Statement::Write { .. }) && !local;
                self.insert(turn, Record(commit), Who::Client(client, commit), waits);
            }
            Statement::Cancel | Statement::Hangup => {}
        }
    }

    /// A commit record goes into the log.
    pub(super) fn insert(&mut self, turn: &mut Turn, record: Record, who: Who, waits: bool) {
        let (Some(server), Some(data)) = (&mut self.server, &mut self.disk.data) else { return };
        let end = data.log.push(record);
        if let Some(commit) = record.commit() {
            let timeline = data.log.tree().timeline;
            turn.fact(Fact::Wrote { commit, at: end, timeline });
        }
        server.inserted.push(Waiter { end, who, waits });
        self.flush(turn);
    }

    /// A commit of the agent's own.
    pub(super) fn insert_own(&mut self, turn: &mut Turn, who: Who, waits: bool) {
        let record = self.own_record();
        self.insert(turn, record, who, waits);
    }

    /// Begins a flush, unless one is under way.
    pub(super) fn flush(&mut self, turn: &mut Turn) {
        let takes = self.flush_time(turn);
        let (Some(server), Some(data)) = (&mut self.server, &self.disk.data) else { return };
        if server.flushing.is_none() && data.log.end() > data.flushed {
            server.flushing = Some(data.log.end());
            let pid = server.pid;
            self.job(turn, takes, pid, Job::Flushed);
        }
    }

    pub(super) fn flushed(&mut self, turn: &mut Turn) {
        if self.full {
            return self.out_of_space(turn);
        }
        let (Some(server), Some(data)) = (&mut self.server, &mut self.disk.data) else { return };
        let Some(upto) = server.flushing.take() else { return };
        data.flushed = data.flushed.max(upto.min(data.log.end()));
        if server.recovering {
            server.received = server.received.map(|_| data.flushed);
            self.replay(turn);
            self.acknowledge(turn);
        } else {
            let count = server.inserted.iter().take_while(|w| w.end <= upto).count();
            if count == 1 {
                let waiter = server.inserted.remove(0);
                self.settle(turn, waiter);
            } else {
                let settled: Vec<Waiter> = server.inserted.drain(..count).collect();
                for waiter in settled {
                    self.settle(turn, waiter);
                }
            }
        }
        self.serve_all(turn);
        self.flush(turn);
    }

    /// No room for the log: a primary panics, a standby's receiver gives up.
    fn out_of_space(&mut self, turn: &mut Turn) {
        let Some(server) = &mut self.server else { return };
        server.flushing = None;
        if server.recovering {
            self.close_receiver(turn, false);
            self.wake_startup(turn, 5_000_000);
        } else {
            self.end_server(turn, false, None);
        }
    }

    /// A commit is on the primary's own disk: does it wait?
    fn settle(&mut self, turn: &mut Turn, waiter: Waiter) {
        let Some(server) = &mut self.server else { return };
        // It is the checkpointer who says that there is a rule at all (F-15).
        let defined = !server.checkpointer.empty;
        if !waiter.waits || !defined {
            self.released_without(turn, waiter, Release::NeverWaited);
        } else if waiter.end <= server.released {
            self.complete(turn, waiter, false);
        } else {
            server.waiting.push(waiter);
        }
    }

    fn released_without(&mut self, turn: &mut Turn, waiter: Waiter, how: Release) {
        let commit = match waiter.who {
            Who::Client(_, commit) | Who::Gone(commit) => Some(commit),
            Who::Agent(..) | Who::Nobody => None,
        };
        turn.fact(Fact::Released { commit, at: waiter.end, how });
        self.complete(turn, waiter, how == Release::Cancelled);
    }

    /// A commit returns.
    fn complete(&mut self, turn: &mut Turn, waiter: Waiter, warned: bool) {
        let Some(server) = &mut self.server else { return };
        match waiter.who {
            Who::Client(client, commit) => {
                server.see(waiter.end, commit);
                let outcome = Outcome::Acknowledged { commit, warned };
                turn.out.push(Output::Client { client, outcome });
            }
            Who::Gone(commit) => server.see(waiter.end, commit),
            Who::Agent(run, life, commit) => {
                let how = if warned { Return::Warned } else { Return::Done };
                self.agent_run(turn, 100, run, Task::Returned(life, commit, how));
            }
            Who::Nobody => {}
        }
    }

    /// Cancel requests reach waiting commits: of one client, or all (F-10).
    pub(super) fn cancel(&mut self, turn: &mut Turn, client: Option<u64>) {
        let Some(server) = &mut self.server else { return };
        let hit = |waiter: &Waiter| match (client, waiter.who) {
            (None, _) => true,
            (Some(client), Who::Client(of, _)) => of == client,
            (Some(_), Who::Gone(_) | Who::Agent(..) | Who::Nobody) => false,
        };
        let (cancelled, left) = std::mem::take(&mut server.waiting).into_iter().partition(hit);
        server.waiting = left;
        let cancelled: Vec<Waiter> = cancelled;
        for waiter in cancelled {
            self.log_line(turn, Line::Cancelled);
            self.released_without(turn, waiter, Release::Cancelled);
        }
    }

    /// Backends that wait for standbys are terminated: their clients hear "unknown".
    pub(super) fn terminate_waits(&mut self, turn: &mut Turn) {
        let Some(server) = &mut self.server else { return };
        let ended = std::mem::take(&mut server.waiting);
        if !ended.is_empty() {
            self.log_line(turn, Line::Cancelled);
        }
        for waiter in ended {
            if let Some(server) = &mut self.server {
                match waiter.who {
                    Who::Client(client, commit) => {
                        server.sessions.retain(|other| *other != client);
                        server.see(waiter.end, commit);
                    }
                    Who::Gone(commit) => server.see(waiter.end, commit),
                    Who::Agent(..) | Who::Nobody => {}
                }
            }
            self.break_off(turn, waiter.who);
        }
    }

    /// One walsender looks whether the standbys release anything: by its own view of the rule,
    /// and everyone's own view of their place in it.
    pub(super) fn release(&mut self, turn: &mut Turn, stream: u64) {
        let Some(server) = &mut self.server else { return };
        let Some(sender) = server.senders.iter().find(|sender| sender.stream == stream) else {
            return;
        };
        if server.recovering || !sender.streaming || sender.priority == 0 {
            return;
        }
        let Some(upto) = agreed(server, &sender.setting, stream, true) else { return };
        if upto <= server.released {
            return;
        }
        let posed = server.senders.iter().any(|sender| sender.posed);
        let held = if posed { agreed(server, &sender.setting, stream, false) } else { Some(upto) };
        let seen = server.senders.iter().any(|sender| sender.posed && sender.name != sender.role);
        let how = if seen { Release::Posed } else { Release::Stolen };
        server.released = upto;
        let count = server.waiting.iter().filter(|waiter| waiter.end <= upto).count();
        if count == 0 {
            return;
        }
        let (done, left) =
            std::mem::take(&mut server.waiting).into_iter().partition(|w| w.end <= upto);
        server.waiting = left;
        let done: Vec<Waiter> = done;
        for waiter in done {
            if held.is_some_and(|held| waiter.end <= held) {
                self.complete(turn, waiter, false);
            } else {
                self.released_without(turn, waiter, how);
            }
        }
    }

    /// A process reads its files again.
    pub(super) fn reload(&mut self, turn: &mut Turn, process: Process) {
        let setting = self.effective();
        let open = *self.disk.open.get();
        let epoch = self.disk.memory.pledge.granted;
        let Some(server) = &mut self.server else { return };
        let changed = match process {
            Process::Postmaster => {
                if server.open != open {
                    server.open = open;
                    let writable = server.phase == Phase::Writable;
                    turn.fact(if open {
                        Fact::Admitted { epoch, writable }
                    } else {
                        Fact::ClientsClosed
                    });
                }
                let changed = replace(&mut server.postmaster, &setting);
                if changed && setting.empty {
                    self.disk.unread.push(Line::Overruled);
                }
                changed
            }
            Process::Checkpointer => {
                if let Some(until) = server.stalled_until
                    && until > turn.now
                {
                    return;
                }
                server.stalled_until = None;
                replace(&mut server.checkpointer, &setting)
            }
            Process::Sender(peer) => {
                let mut changed = false;
                for sender in server.senders.iter_mut().filter(|sender| sender.peer == peer) {
                    changed |= replace(&mut sender.setting, &setting);
                    sender.priority = setting.priority(sender.name);
                }
                changed
            }
        };
        if changed && !server.recovering {
            turn.fact(Fact::Setting { process, setting: Arc::clone(&setting) });
            self.reloaded(turn, process, &setting);
        }
    }

    fn reloaded(&mut self, turn: &mut Turn, process: Process, setting: &Setting) {
        let Some(server) = &mut self.server else { return };
        match process {
            Process::Postmaster => self.agent_task(turn, 800, Task::Read),
            // With no rule, everyone is woken, and told success (F-13).
            Process::Checkpointer if setting.empty => {
                let woken = std::mem::take(&mut server.waiting);
                for waiter in woken {
                    self.released_without(turn, waiter, Release::Emptied);
                }
            }
            Process::Checkpointer => {}
            Process::Sender(peer) => {
                let streams: Vec<u64> =
                    server.senders.iter().filter(|s| s.peer == peer).map(|s| s.stream).collect();
                for stream in streams {
                    self.release(turn, stream);
                }
            }
        }
    }

    /// SIGHUP: every process reads its files again, each in its own time.
    pub(super) fn hang_up(&mut self, turn: &mut Turn) {
        let Some(server) = &self.server else { return };
        let pid = server.pid;
        let stalled = server.stalled_until.map_or(0, |until| until.0.saturating_sub(turn.now.0));
        let peers: Vec<super::Peer> = server.senders.iter().map(|sender| sender.peer).collect();
        self.job(turn, 200, pid, Job::Reload(Process::Postmaster));
        let takes = turn.dice.between(500, 15_000) + stalled;
        self.job(turn, takes, pid, Job::Reload(Process::Checkpointer));
        let takes = turn.dice.between(300, 8_000);
        self.job(turn, takes, pid, Job::ReloadStartup);
        for peer in peers {
            let takes = turn.dice.between(300, 15_000);
            self.job(turn, takes, pid, Job::Reload(Process::Sender(peer)));
        }
    }
}

fn replace(own: &mut Arc<Setting>, new: &Arc<Setting>) -> bool {
    let changed = *own != *new;
    if changed {
        *own = Arc::clone(new);
    }
    changed
}

/// Up to where enough standbys have flushed, by this setting; with those that only say so, or
/// without.
fn agreed(
    server: &super::server::Server,
    setting: &Setting,
    stream: u64,
    posed: bool,
) -> Option<Lsn> {
    let need = usize::from(setting.required.max(1));
    let mut counted: Vec<(u8, u64, Lsn)> = server
        .senders
        .iter()
        .filter(|sender| sender.priority > 0 && sender.streaming && sender.known)
        .filter(|sender| posed || !sender.posed)
        .map(|sender| (sender.priority, sender.stream, sender.flushed))
        .collect();
    if counted.len() < need {
        return None;
    }
    if setting.any {
        counted.sort_by_key(|(_, _, flushed)| std::cmp::Reverse(*flushed));
        return counted.get(need - 1).map(|(_, _, flushed)| *flushed);
    }
    counted.sort_unstable();
    counted.truncate(need);
    let among = counted.iter().any(|(_, of, _)| *of == stream);
    counted.iter().map(|(_, _, flushed)| *flushed).min().filter(|_| among)
}
