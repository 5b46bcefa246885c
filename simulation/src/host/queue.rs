//! What will happen on one machine, by its own clock.

use super::interface::{Part, Peer, Process};
use failover::Moment;
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

/// Something that a process will do, if it still lives then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    /// The agent of this run.
    Agent(u64, Task),
    /// The guard looks at its deadline.
    Guard,
    /// The postmaster of this number, or a child of it.
    Postgres(u64, Job),
    /// The kernel has ended the postmaster of this number.
    Killed(u64),
}

/// What an agent does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Task {
    /// It has read its files, and connects to the guard.
    Attach,
    /// It asks the law.
    Beat,
    /// The action of this number goes on.
    Act(u64),
    /// It probes PostgreSQL.
    Probe,
    /// The probe of this number got no answer.
    ProbeLost(u64),
    /// It looks whether there is something to report.
    Speak,
    /// The report of this number was not answered in time.
    ReportLost(u64),
    /// The poll of this number was not answered in time.
    PollLost(u64),
    /// The poll of this place begins again.
    Poll(u8),
    /// It knocks.
    Knock,
    /// The knock of this number was not answered in time.
    KnockLost(u64),
    /// The proof of the rule goes on.
    Establish(u64),
    /// The proof that commits wait goes on.
    See(u64),
    /// The marker goes on.
    Mark(u64),
    /// It measures at leisure.
    Measure(u64),
    /// The next pulse of this life is due.
    Pulse(u64),
    /// A commit of its own returned, in this life: as asked, with a warning, or not at all.
    Returned(u64, Commit, Return),
    /// The guard says that this postmaster ended: with which status, and whether by itself.
    Exited(u64, Option<i32>, bool),
    /// The guard is gone.
    GuardLost,
    /// There is something to read in PostgreSQL's log.
    Read,
    /// It is not cut off any more.
    Heal,
    /// The checkpoint asked for is written.
    Checkpointed(u64),
}

/// A commit of the agent's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Commit {
    /// The epoch's marker, begun then; whether it says anything about standbys.
    Marker(u64, Moment, bool),
    /// A pulse, begun then; whether it says anything about standbys.
    Pulse(Moment, bool),
    /// The proof of a generation of the rule.
    Proof(u64),
    /// The one to be seen waiting.
    Seen,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Return {
    /// Durable under the rule.
    Done,
    /// Its wait was cancelled.
    Warned,
    /// Its connection ended.
    Broken,
}

/// A line of PostgreSQL's log that matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Line {
    /// A wait ended without its standbys.
    Cancelled,
    /// What the rule rests on was set by somebody else.
    Overruled,
    /// The stream from the upstream ended.
    StreamLost,
    /// This history is not the upstream's.
    Diverged,
    /// It accepts connections.
    Ready,
    /// This connection streams; and the name of another that it took, if so.
    Replication(u64, Option<Peer>),
}

/// What a process of PostgreSQL does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Job {
    /// Start-up has done what it can without a stream.
    Started,
    /// The flush under way is on disk.
    Flushed,
    /// The startup process looks for WAL.
    Retry,
    /// The receiver of this stream has read its key.
    Identified(u64),
    /// The receiver of this stream looks at its clock.
    ReceiverTick(u64),
    /// The sender of this stream looks at its clock.
    SenderTick(u64),
    /// A process reads the settings again.
    Reload(Process),
    /// The startup process reads the settings again.
    ReloadStartup,
    /// What held replay up is over.
    Replay,
    /// Promotion is through.
    Promoted,
    /// A base backup or rewind goes on.
    Copy(u64),
    /// The clean stop goes on.
    Stop,
    /// The checkpoint is written.
    Checkpoint(u64),
}

impl Event {
    /// Whose it is; `None`: the kernel's.
    pub fn part(self) -> Option<Part> {
        match self {
            Self::Agent(..) => Some(Part::Agent),
            Self::Guard => Some(Part::Guard),
            Self::Postgres(..) => Some(Part::Postgres),
            Self::Killed(_) => None,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    at: Moment,
    serial: u64,
    event: Event,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.serial).cmp(&(other.at, other.serial))
    }
}

/// Events in order.
#[derive(Clone, Debug, Default)]
pub struct Queue {
    heap: BinaryHeap<Reverse<Entry>>,
    serial: u64,
}

impl Queue {
    /// Adds one.
    pub fn push(&mut self, at: Moment, event: Event) {
        self.serial += 1;
        self.heap.push(Reverse(Entry { at, serial: self.serial, event }));
    }

    /// When the next is due.
    pub fn next(&self) -> Option<Moment> {
        self.heap.peek().map(|Reverse(entry)| entry.at)
    }

    /// The next that is due.
    pub fn pop(&mut self, now: Moment) -> Option<Event> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry.event)
    }

    /// Forgets those at its head that are `over`.
    pub fn skip(&mut self, over: impl Fn(Moment, Event) -> bool) {
        while self.heap.peek().is_some_and(|Reverse(entry)| over(entry.at, entry.event)) {
            self.heap.pop();
        }
    }

    /// What matches and is due later is due then.
    pub fn hasten(&mut self, at: Moment, matches: impl Fn(&Event) -> bool) {
        let entries = std::mem::take(&mut self.heap).into_vec();
        for Reverse(mut entry) in entries {
            if entry.at > at && matches(&entry.event) {
                entry.at = at;
            }
            self.heap.push(Reverse(entry));
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.heap.clear();
    }
}
