//! The writing itself: one row a tick, never two at a time on one connection.
//!
//! A write that takes longer than [`PATIENCE`] is not waited for alone: the primary is looked for
//! again beside it, and the next number goes there. The old write stays open until it answers or
//! its connection ends; nothing is ever counted as acknowledged that was not.

use std::collections::BTreeMap;
use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use failover::Moment;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};
use wire::clock::now;

use super::journal::{Attempt, BEAT, Head, JournalError, LOST, Outcome, Writing};
use super::seek::{Noticed, Seeker, Where};
use super::session::{Access, Session};

/// A write that takes longer sets the search for another primary off.
const PATIENCE: Duration = Duration::from_millis(150);

/// With a write open there, the same server is tried anew only after this long.
const SAME_SERVER: Duration = Duration::from_secs(2);

/// No more writes than this may be open at once: each holds a connection.
const OPEN: usize = 8;

/// How long open writes are waited for at the end of a run.
const FAREWELL: Duration = Duration::from_secs(1);

/// What to write, where and how long.
#[derive(Clone, Debug)]
pub struct Options {
    /// The journal's first line; its `run` is in every row.
    pub head: Head,
    /// A write is begun this often.
    pub every: Duration,
    /// Where to look for the primary.
    pub at: Where,
}

/// What a run came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Writes acknowledged.
    pub acked: u64,
    /// Writes turned away.
    pub refused: u64,
    /// Writes whose outcome is not known.
    pub unknown: u64,
}

impl Tally {
    fn count(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Acked => self.acked += 1,
            Outcome::Refused => self.refused += 1,
            Outcome::Unknown => self.unknown += 1,
        }
    }
}

/// A write that was sent and has no outcome yet.
struct Open {
    sent: Moment,
    session: Arc<Session>,
}

/// What came of a write.
struct Done {
    n: u64,
    outcome: Outcome,
    error: Option<String>,
}

struct Run {
    options: Options,
    journal: Writing,
    tally: Tally,
    tallies: watch::Sender<Tally>,
    next: u64,
    current: Option<Arc<Session>>,
    /// The number that is open on the current connection, and when patience with it ends.
    busy: Option<(u64, Instant)>,
    open: BTreeMap<u64, Open>,
    writes: JoinSet<Done>,
    seeker: Seeker,
    search: JoinSet<Arc<Session>>,
    /// The last write was acknowledged: with nothing open there is nothing to look for.
    patience_spent: bool,
}

/// Writes until `stop` turns true. Every change of the tally is sent to `tallies`.
///
/// # Errors
/// When the journal cannot be written: without it the run is worth nothing.
pub async fn write(
    options: Options,
    access: Access,
    journal: Writing,
    tallies: watch::Sender<Tally>,
    mut stop: watch::Receiver<bool>,
) -> Result<Tally, JournalError> {
    let (notices, mut heard) = mpsc::unbounded_channel();
    let (noticed, mut remarks) = mpsc::unbounded_channel();
    let mut ticks = interval(options.every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut beats = interval(BEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let seeker = Seeker { access, at: options.at.clone(), notices, noticed };
    let mut run = Run {
        options,
        journal,
        tally: Tally::default(),
        tallies,
        next: 1,
        current: None,
        busy: None,
        open: BTreeMap::new(),
        writes: JoinSet::new(),
        seeker,
        search: JoinSet::new(),
        patience_spent: false,
    };
    run.look();
    loop {
        let patience = run.busy.filter(|_| !run.patience_spent).map(|(_, until)| until);
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            Some(Ok(done)) = run.writes.join_next() => run.done(done)?,
            Some(Ok(session)) = run.search.join_next() => run.found(session)?,
            Some((server, text)) = heard.recv() => {
                run.journal.remark("notice", Some(server), Some(&text))?;
            }
            Some(noticed) = remarks.recv() => run.remark(&noticed)?,
            () = until(patience) => run.out_of_patience(),
            _ = beats.tick() => run.journal.beat()?,
            _ = ticks.tick(), if run.may_write() => run.send()?,
        }
    }
    run.farewell().await
}

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => pending().await,
    }
}

impl Run {
    fn may_write(&self) -> bool {
        self.current.is_some() && self.busy.is_none()
    }

    fn send(&mut self) -> Result<(), JournalError> {
        let Some(session) = self.current.clone() else { return Ok(()) };
        if session.is_closed() {
            // A write is due and cannot be made.
            self.current = None;
            self.look();
            return self.journal.remark(LOST, Some(session.server), None);
        }
        let n = self.next;
        self.next += 1;
        self.busy = Some((n, Instant::now() + PATIENCE));
        self.patience_spent = false;
        self.open.insert(n, Open { sent: now(), session: Arc::clone(&session) });
        let run = self.options.head.run.clone();
        self.writes.spawn(async move {
            let (outcome, error) = session.insert(&run, n).await;
            Done { n, outcome, error }
        });
        Ok(())
    }

    fn done(&mut self, done: Done) -> Result<(), JournalError> {
        let at = now();
        let Some(open) = self.open.remove(&done.n) else { return Ok(()) };
        self.write_down(done.n, &open, at, done.outcome, done.error)?;
        if self.busy.is_none_or(|(n, _)| n != done.n) {
            return Ok(());
        }
        self.busy = None;
        if done.outcome == Outcome::Acked {
            // The connection lives: whatever was looked for beside it is not needed.
            self.search.abort_all();
            self.search = JoinSet::new();
        } else {
            // Refused or broken: this server is not, or no longer, the primary.
            self.current = None;
            self.search.abort_all();
            self.search = JoinSet::new();
            self.look();
        }
        Ok(())
    }

    fn write_down(
        &mut self,
        n: u64,
        open: &Open,
        at: Moment,
        outcome: Outcome,
        error: Option<String>,
    ) -> Result<(), JournalError> {
        self.tally.count(outcome);
        self.tallies.send_replace(self.tally);
        self.journal.attempt(&Attempt {
            n,
            sent_us: open.sent.0,
            acked_us: (outcome == Outcome::Acked).then_some(at.0),
            done_us: at.0,
            outcome,
            server: open.session.server,
            error,
        })
    }

    fn out_of_patience(&mut self) {
        self.patience_spent = true;
        if self.open.len() < OPEN {
            self.look();
        }
    }

    /// Begins the search for a primary, unless it is under way.
    fn look(&mut self) {
        if self.search.is_empty() {
            let avoid = self.current.as_ref().map(|s| (s.server, now().after(SAME_SERVER)));
            self.search.spawn(self.seeker.clone().seek(avoid));
        }
    }

    fn found(&mut self, session: Arc<Session>) -> Result<(), JournalError> {
        self.journal.remark("connected", Some(session.server), None)?;
        self.current = Some(session);
        self.busy = None;
        self.patience_spent = false;
        self.send()
    }

    fn remark(&mut self, noticed: &Noticed) -> Result<(), JournalError> {
        let (event, server, text): (_, Option<SocketAddr>, Option<&str>) = match noticed {
            Noticed::Resolved(server) => ("resolved", Some(*server), None),
            Noticed::Failed(server, text) => ("failed", Some(*server), Some(text)),
            Noticed::Unresolved(text) => ("unresolved", None, Some(text)),
        };
        self.journal.remark(event, server, text)
    }

    async fn farewell(mut self) -> Result<Tally, JournalError> {
        self.search.abort_all();
        let end = sleep(FAREWELL);
        tokio::pin!(end);
        while !self.writes.is_empty() {
            tokio::select! {
                Some(Ok(done)) = self.writes.join_next() => {
                    let Some(open) = self.open.remove(&done.n) else { continue };
                    self.write_down(done.n, &open, now(), done.outcome, done.error)?;
                }
                () = &mut end => break,
            }
        }
        self.journal.beat()?;
        for (n, open) in std::mem::take(&mut self.open) {
            let text = "the run ended before an answer".to_owned();
            self.write_down(n, &open, now(), Outcome::Unknown, Some(text))?;
        }
        Ok(self.tally)
    }
}
