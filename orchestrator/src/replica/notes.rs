//! What changes nothing and is on record all the same (I-34): that the record begins, who came,
//! what was asked, what was refused.

use std::time::Duration;

use failover::Request;
use failover::alert::{AlertChange, AlertKey};
use failover::event::{Authority, Change, Note, NoteKind};
use failover::people::Role;

use super::{Output, Replica, Reply, Token};
use crate::audit::{Heard, asked};

/// Alike ones are counted for this long.
pub(super) const ALIKE: Duration = Duration::from_mins(1);
/// Until the proposal that begins the record is repeated.
const BEGIN_AGAIN: Duration = Duration::from_secs(5);

/// Who is answered when a proposal has been applied, and how where that is settled before: then
/// nothing has happened as long as it is not.
pub(super) type Then = Option<(Token, Option<Reply>)>;

/// Why something is proposed.
pub(super) struct Why {
    /// In words.
    pub(super) cause: String,
    /// The hash of the plan that it carries out.
    pub(super) plan: Option<String>,
    /// By what right, where a person asked for it.
    pub(super) authority: Option<Authority>,
}

impl Why {
    /// Nothing but that a person asked, in this role.
    pub(super) fn asked(role: Role) -> Self {
        Self {
            authority: Some(Authority { role, approved: None, totp_step: None }),
            ..Self::from(String::new())
        }
    }
}

impl From<String> for Why {
    fn from(cause: String) -> Self {
        Self { cause, plan: None, authority: None }
    }
}

impl Replica {
    /// As leader of a cluster that an earlier version made: the record begins here.
    pub(super) fn begin_record(&mut self) -> bool {
        let now = self.clocks.now;
        let Some(lead) = &mut self.lead else { return false };
        let lately = lead.began.is_some_and(|at| now.since(at) < BEGIN_AGAIN);
        if lately || self.chain.head().is_some() {
            return false;
        }
        lead.began = Some(now);
        let text = format!("the record of the cluster {} begins", self.setup.cluster);
        let note = self.note(NoteKind::Began, None, text);
        let change = Change::Noted { note };
        self.propose(change, String::new(), "baton", None, None).is_ok()
    }

    fn note(&self, kind: NoteKind, about: Option<&Request>, text: String) -> Note {
        let service = about.and_then(Request::service).cloned();
        Note { kind, service, text, times: 1, since: self.clocks.wall }
    }

    /// Somebody else's note: a voter's, of what came to it.
    pub(super) fn hear_note(&mut self, token: Token, by: &str, note: Note) {
        if !self.is_informed() || self.lead.is_none() {
            self.outputs.push(Output::Reply { token, reply: Reply::NoLeader });
            return;
        }
        let why = String::new().into();
        self.note_first((by, why), note, token, Reply::Found(serde_json::Value::Null));
    }

    /// What watches beside the loop has something about an alert for the record.
    pub(super) fn hear_alert(&mut self, token: Token, key: AlertKey, change: AlertChange) {
        let change = Change::Alert { key, change };
        let leads = self.is_informed() && self.lead.is_some();
        let then = Some((token, None));
        if !leads || self.propose(change, String::new(), "baton", None, then).is_err() {
            self.outputs.push(Output::Reply { token, reply: Reply::NoLeader });
        }
    }

    /// What was asked for is refused: that is on record before it is said.
    pub(super) fn refuse(
        &mut self,
        token: Token,
        ((by, role), request): ((&str, Role), &Request),
        reply: Reply,
    ) {
        if let Reply::Refused { error, .. } = &reply {
            let text = format!("{}: {error}", asked(request));
            let note = self.note(NoteKind::Refusal, Some(request), text);
            self.note_first((by, Why::asked(role)), note, token, reply);
        } else {
            self.outputs.push(Output::Reply { token, reply });
        }
    }

    /// Answers when the note is committed; at once, when it is only counted.
    fn note_first(&mut self, (by, why): (&str, Why), note: Note, token: Token, reply: Reply) {
        let now = self.clocks.now;
        let heard = self.lead.as_mut().map(|lead| lead.ledger.hear(by, note, now));
        let note = match heard {
            Some(Heard::Now(note)) => *note,
            Some(Heard::Counted) | None => {
                self.outputs.push(Output::Reply { token, reply });
                return;
            }
        };
        let change = Change::Noted { note };
        let then = Some((token, Some(reply)));
        if let Err(error) = self.propose(change, why, by, None, then) {
            tracing::warn!("a note is not on record: {error}");
            self.outputs.push(Output::Reply { token, reply: Reply::NoLeader });
        }
    }

    /// What was counted is on record in its time.
    pub(super) fn tell_counted(&mut self) {
        let now = self.clocks.now;
        if !self.is_informed() {
            return;
        }
        let Some(lead) = &mut self.lead else { return };
        let Some((by, note)) = lead.ledger.due(now) else { return };
        let change = Change::Noted { note: note.clone() };
        let proposed = self.propose(change, String::new(), &by, None, None);
        if let (Err(_), Some(lead)) = (proposed, &mut self.lead) {
            lead.ledger.put_back(&by, note);
        }
    }
}
