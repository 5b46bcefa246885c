//! Which messages of other voters reach Raft.
//!
//! Raft's library trusts its peers: it panics on some well-formed but impossible messages and
//! takes messages from anyone. So everything is judged here first (I-27), with what an honest
//! voter can never send as the rule: what does not pass was not sent by one.

use failover::ids::VoterId;
use raft::eraftpb;
use raft::{RawNode, Storage as _};

use crate::log::Log;
use crate::message::{Body, EVENT_BYTES, Kind, Message, NUMBER_LIMIT, Refusal};

/// Converts a message that the library can take; `raft` is the voter that is to take it.
///
/// # Errors
/// Why it is refused.
pub fn admit(
    raft: &RawNode<Log>,
    from: VoterId,
    message: &Message,
) -> Result<eraftpb::Message, Refusal> {
    numbers(message)?;
    entries(message)?;
    let last = raft.raft.raft_log.last_index();
    let committed = raft.raft.raft_log.committed;
    match message.kind {
        Kind::Heartbeat if message.commit > last => {
            return refuse(format!(
                "voter {from} says that entry {} is committed here, and this log ends at {last}: \
                 this voter has lost its log",
                message.commit
            ));
        }
        Kind::Append => committed_entries_agree(raft, message, committed)?,
        Kind::AppendResponse if !message.reject && message.index > last => {
            return refuse(format!("voter {from} has entry {}, which nobody wrote", message.index));
        }
        Kind::AppendResponse | Kind::HeartbeatResponse if message.commit > last.max(committed) => {
            // A follower's own commit may run ahead of nobody but a deposed leader's log.
            if message.term <= raft.raft.term {
                return refuse(format!("voter {from} committed entry {}", message.commit));
            }
        }
        Kind::Snapshot => snapshot(message)?,
        Kind::AppendResponse
        | Kind::Heartbeat
        | Kind::HeartbeatResponse
        | Kind::Vote
        | Kind::VoteResponse
        | Kind::PreVote
        | Kind::PreVoteResponse
        | Kind::TimeoutNow => {}
    }
    message.to_raft(from, VoterId(raft.raft.id))
}

fn refuse<T>(reason: String) -> Result<T, Refusal> {
    Err(Refusal(reason))
}

fn numbers(message: &Message) -> Result<(), Refusal> {
    if message.term == 0 {
        return refuse("term 0 is a voter's message to itself".into());
    }
    let all = [
        message.term,
        message.log_term,
        message.index,
        message.commit,
        message.commit_term,
        message.reject_hint,
    ];
    if all.into_iter().any(|number| number > NUMBER_LIMIT) {
        return refuse("a number beyond all bounds".into());
    }
    // A vote for the next term asks in that term; its log is of earlier ones.
    if message.log_term > message.term || message.commit_term > message.term {
        return refuse("a log from the future".into());
    }
    Ok(())
}

fn entries(message: &Message) -> Result<(), Refusal> {
    if message.kind != Kind::Append && !message.entries.is_empty() {
        return refuse("entries in a message that carries none".into());
    }
    if (message.kind == Kind::Snapshot) != message.snapshot.is_some() {
        return refuse("a snapshot where none belongs, or none where one does".into());
    }
    // The library takes "term 0" of a place beyond its log for a match.
    if message.kind == Kind::Append && (message.index == 0) != (message.log_term == 0) {
        return refuse(format!("entry {} of term {}", message.index, message.log_term));
    }
    let mut term = message.log_term;
    for (offset, entry) in (1..).zip(&message.entries) {
        if entry.index != message.index + offset {
            return refuse(format!("entry {} out of order", entry.index));
        }
        if entry.term < term || entry.term > message.term || entry.term == 0 {
            return refuse(format!("entry {} of term {}", entry.index, entry.term));
        }
        term = entry.term;
        match &entry.body {
            Body::Event(event) if event.is_empty() || event.len() > EVENT_BYTES => {
                return refuse(format!("entry {} of {} bytes", entry.index, event.len()));
            }
            Body::Members(members) => {
                let ids = members.add.iter().chain(&members.remove);
                let sane = ids.clone().all(|id| (1..=NUMBER_LIMIT).contains(id));
                if !sane || ids.count() > 16 || members.event.len() > EVENT_BYTES {
                    return refuse(format!("entry {} changes the group impossibly", entry.index));
                }
            }
            Body::Event(_) | Body::Empty => {}
        }
    }
    Ok(())
}

/// What is committed never changes: the library panics when told so.
fn committed_entries_agree(
    raft: &RawNode<Log>,
    message: &Message,
    committed: u64,
) -> Result<(), Refusal> {
    if message.term < raft.raft.term {
        return Ok(());
    }
    let log = &raft.raft.raft_log;
    let first = raft.store().first_index().unwrap_or(u64::MAX);
    for entry in message.entries.iter().take_while(|entry| entry.index <= committed) {
        if entry.index >= first && log.term(entry.index).ok() != Some(entry.term) {
            return refuse(format!("another entry {} than the committed one", entry.index));
        }
    }
    Ok(())
}

fn snapshot(message: &Message) -> Result<(), Refusal> {
    let Some(snapshot) = &message.snapshot else { return Ok(()) };
    let numbers =
        (1..=NUMBER_LIMIT).contains(&snapshot.index) && (1..=message.term).contains(&snapshot.term);
    if !numbers || !snapshot.group.is_sound() {
        return refuse(format!("an impossible snapshot at entry {}", snapshot.index));
    }
    Ok(())
}
