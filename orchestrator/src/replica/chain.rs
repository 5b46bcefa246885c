//! The audit chain of one voter (I-34): what was applied is recorded, what leaves the log is in the
//! table of records first, and what a snapshot skipped is fetched from the other voters.

use failover::Moment;
use failover::event::{Change, Event, NoteKind};
use failover::ids::VoterId;

use super::{Output, Replica, Reply, Token, Whom};
use crate::answers::AuditPage;
use crate::audit::{Happened, Head, Hole, Line, PAGE_BYTES, PAGE_LINES, extend};
use crate::log::{Batch, Saved};
use crate::message::{Entry, Envelope, NUMBER_LIMIT};

/// The chain's end, and what of it is where.
pub(super) struct Chain {
    /// The end; `None`: it has not begun.
    head: Option<Head>,
    /// The last record on disk.
    saved: u64,
    /// Those after it: their entries are still in the log.
    pending: Vec<Line>,
    /// What is missing on disk.
    hole: Hole,
    /// When somebody was asked for that.
    asked: Option<Moment>,
    /// Whose turn it is to be asked.
    turn: usize,
}

impl Chain {
    /// As the disk has it.
    pub(super) fn new(saved: &Saved) -> Self {
        let head = saved.snapshot.as_ref().and_then(|snapshot| snapshot.audit);
        Self {
            head,
            saved: head.unwrap_or_default().number,
            pending: Vec::new(),
            hole: saved.hole,
            asked: None,
            turn: 0,
        }
    }

    /// The end; `None`: it has not begun.
    pub(super) fn head(&self) -> Option<Head> {
        self.head
    }

    /// Everything that is not on disk goes there with this batch.
    pub(super) fn keep(&mut self, batch: &mut Batch) {
        batch.audit.append(&mut self.pending);
        self.saved = self.head.unwrap_or_default().number;
    }

    /// A snapshot takes the place of the log: what it skips is missing here.
    pub(super) fn skip_to(&mut self, end: Option<Head>, batch: &mut Batch) {
        self.keep(batch);
        let lower =
            if self.hole.is_open() { self.hole.lower } else { self.head.unwrap_or_default() };
        self.head = end;
        let upper = end.unwrap_or_default();
        self.saved = upper.number;
        self.hole =
            if upper.number > lower.number { Hole { lower, upper } } else { Hole::default() };
        batch.hole = Some(self.hole);
    }
}

impl Replica {
    /// The end of the audit chain as applied here; `None`: it has not begun.
    pub fn audit_head(&self) -> Option<Head> {
        self.chain.head
    }

    /// What this voter's table of audit records lacks.
    pub fn audit_hole(&self) -> Hole {
        self.chain.hole
    }

    /// An entry has taken its turn.
    pub(super) fn record(&mut self, entry: &Entry, (text, event): (&str, &Event), effect: bool) {
        let begins =
            matches!(&event.change, Change::Noted { note } if note.kind == NoteKind::Began);
        let Some(head) = self.chain.head.or_else(|| begins.then(Head::default)) else { return };
        let happened = Happened {
            entry: entry.index,
            term: entry.term,
            effect,
            revision: self.cluster.revision,
            event: text,
        };
        let (line, head) = extend(&head, &happened);
        self.chain.pending.push(line);
        self.chain.head = Some(head);
    }

    /// Asks one of the others for what is missing here, each in its turn.
    pub(super) fn ask_for_records(&mut self) {
        let now = self.clocks.now;
        let lately = |at: Moment| now.since(at) < self.setup.election_timeout;
        if !self.chain.hole.is_open() || self.chain.asked.is_some_and(lately) {
            return;
        }
        let others: Vec<VoterId> = self.peers().into_iter().map(|(id, _)| id).collect();
        let Some(turn) = self.chain.turn.checked_rem(others.len()) else { return };
        self.chain.turn = turn + 1;
        if let Some(to) = others.get(turn) {
            self.lacks(*to);
        }
    }

    fn lacks(&mut self, to: VoterId) {
        self.chain.asked = Some(self.clocks.now);
        let from = self.chain.hole.lower.number + 1;
        self.outputs.push(Output::Lack { to, from });
    }

    /// Another voter lacks records, or sends some.
    pub(super) fn hear_of_records(&mut self, envelope: &Envelope) {
        if let Some(from) = envelope.lacks.filter(|from| *from <= NUMBER_LIMIT) {
            let whom = Whom::Voter(envelope.from);
            self.outputs.push(Output::Records { whom, from });
        }
        if envelope.records.is_empty() || !self.chain.hole.is_open() {
            return;
        }
        match self.chain.hole.fill(&envelope.records) {
            Ok(lines) if lines.is_empty() => {}
            Ok(audit) => {
                let hole = Some(self.chain.hole);
                let batch = Batch { audit, hole, ..Batch::default() };
                self.outputs.push(Output::Persist(Box::new(batch)));
                if self.chain.hole.is_open() {
                    self.lacks(envelope.from);
                }
            }
            Err(reason) => {
                let from = envelope.from;
                tracing::warn!(%from, "audit records of this voter are refused: {reason}");
            }
        }
    }

    /// The records from number `from` on, as this voter has them.
    pub(super) fn page(&mut self, token: Token, from: u64) {
        let from = from.clamp(1, NUMBER_LIMIT);
        let mut page = AuditPage {
            answered_by: self.own_name(),
            applied: self.applied.index,
            head: self.chain.head.unwrap_or_default(),
            hole: self.chain.hole,
            lines: Vec::new(),
        };
        if from <= self.chain.saved {
            let whom = Whom::Asker { token, page: Box::new(page) };
            self.outputs.push(Output::Records { whom, from });
            return;
        }
        let mut bytes = 0;
        for line in self.chain.pending.iter().filter(|line| line.number >= from).take(PAGE_LINES) {
            bytes += line.text.len();
            if bytes > PAGE_BYTES && !page.lines.is_empty() {
                break;
            }
            page.lines.push(line.text.clone());
        }
        let reply = Reply::found(&page);
        self.outputs.push(Output::Reply { token, reply });
    }
}
