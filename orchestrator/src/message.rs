//! What voters say to each other, and what the log looks like on disk: our own JSON form.
//!
//! Raft's library has a form of its own (protobuf); nothing that comes from a wire or a disk is
//! ever read by its decoder. Everything is converted, field by field, and what the library would
//! stumble over is refused first: the checks that need Raft's state are in `admission`.

use std::collections::BTreeMap;

use failover::cluster::{Cluster, Voter};
use failover::ids::{Incarnation, InstanceId, VoterId};
use protobuf::Message as _;
use raft::eraftpb;
use serde::{Deserialize, Serialize};

use crate::audit::Head;

/// The largest event, in bytes of JSON: a topology is the largest thing that is ever proposed.
pub const EVENT_BYTES: usize = 2 << 20;

/// Indices and terms beyond this are nobody's: sums of two of them still fit 64 bits.
pub const NUMBER_LIMIT: u64 = 1 << 60;

/// Why a message or a log entry was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct Refusal(pub String);

/// A batch of messages from one voter to another: the body of `POST /v1/raft`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Envelope {
    /// The cluster both belong to.
    pub cluster: String,
    /// Who sends: its certificate must carry the name of this voter.
    pub from: VoterId,
    /// For whom.
    pub to: VoterId,
    /// What the sender's disk was born with.
    pub incarnation: Incarnation,
    /// What the receiver's disk was born with, as far as the log says: a receiver with another
    /// disk has lost its log and must not act (I-22).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expects: Option<Incarnation>,
    /// Voters that joined after the initial group, so that a receiver that lags knows them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub joined: BTreeMap<VoterId, Voter>,
    /// Instances worth knocking at now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub look: Vec<InstanceId>,
    /// The sender lacks audit records: the number of the first of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lacks: Option<u64>,
    /// Audit records that the receiver lacks, in order, as they are exported.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub records: Vec<String>,
    /// The messages, in order.
    pub messages: Vec<Message>,
}

/// The messages that cross a wire. The library knows others; they are its own affair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "Raft's own words")]
pub enum Kind {
    Append,
    AppendResponse,
    Vote,
    VoteResponse,
    Snapshot,
    Heartbeat,
    HeartbeatResponse,
    TimeoutNow,
    PreVote,
    PreVoteResponse,
}

/// One message of Raft.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "Raft's own words")]
pub struct Message {
    pub kind: Kind,
    pub term: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub log_term: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub index: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub entries: Vec<Entry>,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub commit: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub commit_term: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<Box<Snapshot>>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reject: bool,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub reject_hint: u64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub context: String,
    #[serde(default)]
    pub priority: i64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for this form")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The term it was proposed in.
    pub term: u64,
    /// Its place.
    pub index: u64,
    /// The proposal's own identifier: how its proposer knows it again.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// What it says.
    pub body: Body,
}

/// What an entry of the log says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Body {
    /// Nothing: a new leader's first entry.
    Empty,
    /// An event, as JSON. Kept as text: a voter that cannot read it must still carry it.
    Event(String),
    /// A change of the group.
    Members(Members),
}

/// A change of the group; no changes: the joint phase ends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Members {
    /// Voters to add.
    pub add: Vec<u64>,
    /// Voters to remove.
    pub remove: Vec<u64>,
    /// The event, as JSON, that takes effect with it. May be empty.
    pub event: String,
}

/// Who is in the group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// The voters.
    pub voters: Vec<u64>,
    /// Those who receive the log without voting.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub learners: Vec<u64>,
    /// In a joint phase: the voters before it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outgoing: Vec<u64>,
    /// In a joint phase: voters that become learners after it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub learners_next: Vec<u64>,
    /// Whether the joint phase ends by itself.
    #[serde(default)]
    pub auto_leave: bool,
}

/// The whole replicated state at one place of the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// The last entry it contains.
    pub index: u64,
    /// That entry's term.
    pub term: u64,
    /// The group at that place.
    pub group: Group,
    /// The state.
    pub cluster: Cluster,
    /// The end of the audit chain at that place; `None`: it has not begun (I-34).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit: Option<Head>,
}

/// What the library carries of a [`Snapshot`]: it never leaves this process in this form.
#[derive(Serialize)]
struct Carried<'a> {
    cluster: &'a Cluster,
    audit: Option<Head>,
}

/// The same, read.
#[derive(Deserialize)]
struct Brought {
    cluster: Cluster,
    audit: Option<Head>,
}

impl Group {
    /// Of the library's form.
    pub fn of(state: &eraftpb::ConfState) -> Self {
        Self {
            voters: state.voters.clone(),
            learners: state.learners.clone(),
            outgoing: state.voters_outgoing.clone(),
            learners_next: state.learners_next.clone(),
            auto_leave: state.auto_leave,
        }
    }

    /// In the library's form.
    pub fn to_raft(&self) -> eraftpb::ConfState {
        eraftpb::ConfState {
            voters: self.voters.clone(),
            learners: self.learners.clone(),
            voters_outgoing: self.outgoing.clone(),
            learners_next: self.learners_next.clone(),
            auto_leave: self.auto_leave,
            ..eraftpb::ConfState::default()
        }
    }

    /// Everyone named.
    pub fn everyone(&self) -> impl Iterator<Item = u64> + '_ {
        self.voters.iter().chain(&self.learners).chain(&self.outgoing).copied()
    }

    /// Whether the library can take it: it panics on others.
    pub fn is_sound(&self) -> bool {
        let lists = [&self.voters, &self.learners, &self.outgoing, &self.learners_next];
        let plain = lists.iter().all(|list| {
            let mut seen = std::collections::BTreeSet::new();
            list.len() <= 64 && list.iter().all(|id| *id != 0 && seen.insert(*id))
        });
        let apart = self
            .learners
            .iter()
            .all(|learner| !self.voters.contains(learner) && !self.outgoing.contains(learner));
        let next = self
            .learners_next
            .iter()
            .all(|id| self.outgoing.contains(id) && !self.voters.contains(id));
        let joint =
            !self.outgoing.is_empty() || (self.learners_next.is_empty() && !self.auto_leave);
        plain && apart && next && joint && !self.voters.is_empty()
    }
}

impl Snapshot {
    /// In the library's form.
    ///
    /// # Errors
    /// When the state cannot be written as JSON.
    pub fn to_raft(&self) -> Result<eraftpb::Snapshot, Refusal> {
        let carried = Carried { cluster: &self.cluster, audit: self.audit };
        let data = serde_json::to_vec(&carried).map_err(|e| Refusal(e.to_string()))?;
        let mut snapshot = eraftpb::Snapshot { data: data.into(), ..eraftpb::Snapshot::default() };
        let metadata = snapshot.mut_metadata();
        metadata.index = self.index;
        metadata.term = self.term;
        metadata.set_conf_state(self.group.to_raft());
        Ok(snapshot)
    }

    /// Of the library's form.
    ///
    /// # Errors
    /// When its data is not a state that this version can read.
    pub fn of(snapshot: &eraftpb::Snapshot) -> Result<Self, Refusal> {
        let metadata = snapshot.get_metadata();
        let Brought { cluster, audit } = serde_json::from_slice(&snapshot.data)
            .map_err(|e| Refusal(format!("snapshot at {}: {e}", metadata.index)))?;
        Ok(Self {
            index: metadata.index,
            term: metadata.term,
            group: Group::of(metadata.get_conf_state()),
            cluster,
            audit,
        })
    }
}

impl Members {
    /// In the library's form: always through a joint phase that ends by itself.
    pub fn to_raft(&self) -> eraftpb::ConfChangeV2 {
        let mut change = eraftpb::ConfChangeV2::default();
        let single = |kind, node_id| eraftpb::ConfChangeSingle {
            change_type: kind,
            node_id,
            ..eraftpb::ConfChangeSingle::default()
        };
        let add = self.add.iter().map(|id| single(eraftpb::ConfChangeType::AddNode, *id));
        let gone = self.remove.iter().map(|id| single(eraftpb::ConfChangeType::RemoveNode, *id));
        change.changes = add.chain(gone).collect::<Vec<_>>().into();
        if !change.changes.is_empty() {
            change.set_transition(eraftpb::ConfChangeTransition::Implicit);
        }
        change.context = self.event.clone().into_bytes().into();
        change
    }

    fn of(bytes: &[u8]) -> Result<Self, Refusal> {
        let mut change = eraftpb::ConfChangeV2::default();
        change.merge_from_bytes(bytes).map_err(|e| Refusal(format!("change of the group: {e}")))?;
        let mut members = Self { event: text(&change.context)?, ..Self::default() };
        for single in &change.changes {
            match single.get_change_type() {
                eraftpb::ConfChangeType::AddNode => members.add.push(single.node_id),
                eraftpb::ConfChangeType::RemoveNode => members.remove.push(single.node_id),
                eraftpb::ConfChangeType::AddLearnerNode => {
                    return Err(Refusal("a learner: no version of baton adds one".into()));
                }
            }
        }
        Ok(members)
    }
}

fn text(bytes: &[u8]) -> Result<String, Refusal> {
    String::from_utf8(bytes.to_vec()).map_err(|_| Refusal("not text".into()))
}

impl Entry {
    /// Of the library's form; its bytes are always our own.
    ///
    /// # Errors
    /// For an entry that no version of baton proposes.
    pub fn of(entry: &eraftpb::Entry) -> Result<Self, Refusal> {
        let body = match entry.get_entry_type() {
            eraftpb::EntryType::EntryNormal if entry.data.is_empty() => Body::Empty,
            eraftpb::EntryType::EntryNormal => Body::Event(text(&entry.data)?),
            eraftpb::EntryType::EntryConfChangeV2 => Body::Members(Members::of(&entry.data)?),
            eraftpb::EntryType::EntryConfChange => {
                return Err(Refusal("a change of the group in the old form".into()));
            }
        };
        Ok(Self { term: entry.term, index: entry.index, id: text(&entry.context)?, body })
    }

    /// In the library's form.
    ///
    /// # Errors
    /// When a change of the group cannot be encoded.
    pub fn to_raft(&self) -> Result<eraftpb::Entry, Refusal> {
        let (kind, data) = match &self.body {
            Body::Empty => (eraftpb::EntryType::EntryNormal, Vec::new()),
            Body::Event(event) => (eraftpb::EntryType::EntryNormal, event.clone().into_bytes()),
            Body::Members(members) => {
                let change = members.to_raft();
                let bytes = change.write_to_bytes().map_err(|e| Refusal(e.to_string()))?;
                (eraftpb::EntryType::EntryConfChangeV2, bytes)
            }
        };
        Ok(eraftpb::Entry {
            entry_type: kind,
            term: self.term,
            index: self.index,
            data: data.into(),
            context: self.id.clone().into_bytes().into(),
            ..eraftpb::Entry::default()
        })
    }
}

impl Message {
    /// Of the library's form. `None`: a message that stays inside this process.
    ///
    /// # Errors
    /// For an entry or a snapshot that cannot be converted.
    pub fn of(message: &eraftpb::Message) -> Result<Option<Self>, Refusal> {
        let Some(kind) = Kind::of(message.get_msg_type()) else { return Ok(None) };
        let snapshot = if kind == Kind::Snapshot {
            Some(Box::new(Snapshot::of(message.get_snapshot())?))
        } else {
            None
        };
        Ok(Some(Self {
            kind,
            term: message.term,
            log_term: message.log_term,
            index: message.index,
            entries: message.entries.iter().map(Entry::of).collect::<Result<_, _>>()?,
            commit: message.commit,
            commit_term: message.commit_term,
            snapshot,
            reject: message.reject,
            reject_hint: message.reject_hint,
            context: text(&message.context)?,
            priority: message.priority,
        }))
    }

    /// In the library's form.
    ///
    /// # Errors
    /// For an entry or a snapshot that cannot be converted.
    pub fn to_raft(&self, from: VoterId, to: VoterId) -> Result<eraftpb::Message, Refusal> {
        let entries = self.entries.iter().map(Entry::to_raft).collect::<Result<Vec<_>, _>>()?;
        let mut message = eraftpb::Message {
            msg_type: self.kind.to_raft(),
            to: to.0,
            from: from.0,
            term: self.term,
            log_term: self.log_term,
            index: self.index,
            entries: entries.into(),
            commit: self.commit,
            commit_term: self.commit_term,
            reject: self.reject,
            reject_hint: self.reject_hint,
            context: self.context.clone().into_bytes().into(),
            priority: self.priority,
            ..eraftpb::Message::default()
        };
        if let Some(snapshot) = &self.snapshot {
            message.set_snapshot(snapshot.to_raft()?);
        }
        Ok(message)
    }
}

impl Kind {
    fn of(kind: eraftpb::MessageType) -> Option<Self> {
        use eraftpb::MessageType as Type;
        match kind {
            Type::MsgAppend => Some(Self::Append),
            Type::MsgAppendResponse => Some(Self::AppendResponse),
            Type::MsgRequestVote => Some(Self::Vote),
            Type::MsgRequestVoteResponse => Some(Self::VoteResponse),
            Type::MsgSnapshot => Some(Self::Snapshot),
            Type::MsgHeartbeat => Some(Self::Heartbeat),
            Type::MsgHeartbeatResponse => Some(Self::HeartbeatResponse),
            Type::MsgTimeoutNow => Some(Self::TimeoutNow),
            Type::MsgRequestPreVote => Some(Self::PreVote),
            Type::MsgRequestPreVoteResponse => Some(Self::PreVoteResponse),
            Type::MsgHup
            | Type::MsgBeat
            | Type::MsgPropose
            | Type::MsgUnreachable
            | Type::MsgSnapStatus
            | Type::MsgCheckQuorum
            | Type::MsgTransferLeader
            | Type::MsgReadIndex
            | Type::MsgReadIndexResp => None,
        }
    }

    fn to_raft(self) -> eraftpb::MessageType {
        use eraftpb::MessageType as Type;
        match self {
            Self::Append => Type::MsgAppend,
            Self::AppendResponse => Type::MsgAppendResponse,
            Self::Vote => Type::MsgRequestVote,
            Self::VoteResponse => Type::MsgRequestVoteResponse,
            Self::Snapshot => Type::MsgSnapshot,
            Self::Heartbeat => Type::MsgHeartbeat,
            Self::HeartbeatResponse => Type::MsgHeartbeatResponse,
            Self::TimeoutNow => Type::MsgTimeoutNow,
            Self::PreVote => Type::MsgRequestPreVote,
            Self::PreVoteResponse => Type::MsgRequestPreVoteResponse,
        }
    }
}
