//! What a voter answers to operators: the types of every answer of the HTTP API.
//!
//! Every datum that ages carries its age; what nobody has said lately is `None`, never a green
//! default (I-37). The command line prints these, `-o json` prints them as they are.

mod alerts;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use failover::approval::Pending;
use failover::calendar::{Blackout, Entry, Hours, Occasion};
use failover::cluster::{Entry as HistoryEntry, Hold, Published, Record, Rule, Transition};
use failover::drill::{Drill, Kind, Stage};
use failover::fitness::Promise;
use failover::ids::{
    DrillId, Epoch, Generation, InstanceId, NameServerId, Revision, ScheduleId, ServiceId, SiteId,
    SystemIdentifier, TransitionId, VoterId,
};
use failover::loss::Loss;
use failover::position::Position;
use failover::readiness::{Level, SiteVerdict};
use failover::rehearse::Rehearsal;
use failover::report::{Knock, NameServerAnswer, Note, Pledge, Server};
use failover::topology::{Site, Topology};
use failover::{Finding, Role, Timestamp};
use serde::{Deserialize, Serialize};

use crate::audit::{Head, Hole};

pub use alerts::{Alerts, ChannelTest, ChannelsTested, TestChannels};

/// `GET /v1/status`: everything on one screen; `?here=true`: as the voter that is asked sees it,
/// and not the leader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The cluster's name; empty before the first topology was applied.
    pub cluster: String,
    /// Events that had an effect, as far as the answering voter has applied them.
    pub revision: Revision,
    /// Version of the topology, for compare-and-set.
    pub topology_version: u64,
    /// Version of the zone.
    pub zone_version: u32,
    /// The leader, if the answering voter knows one. Without one the evidence below is missing.
    pub leader: Option<VoterRef>,
    /// Who answered.
    pub answered_by: VoterRef,
    /// The Raft term of the answering voter.
    pub term: u64,
    /// Its wall clock when it answered.
    pub at: Timestamp,
    /// How long the leader has led: evidence is no older than this.
    pub led_for_ms: Option<u64>,
    /// The voters.
    pub voters: Vec<VoterStatus>,
    /// The declared sites.
    pub sites: BTreeMap<SiteId, Site>,
    /// The declared services.
    pub services: Vec<ServiceStatus>,
    /// The declared name servers.
    pub name_servers: Vec<NameServerStatus>,
    /// The drill that is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drill: Option<OpenDrill>,
    /// What the calendar of drills wanted and was not held.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missed_drills: Vec<MissedDrill>,
}

/// What a voter knows: what the page and `baton watch` are made of. Its lists are short and its
/// texts are clipped: whoever wants all of it asks for history, report or drill.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// Everything on one screen.
    pub status: Status,
    /// The newest changes of primary, oldest first.
    pub transitions: Vec<Record>,
    /// The newest entries of the history, oldest first.
    pub history: Vec<HistoryEntry>,
    /// The newest drills, oldest first.
    pub drills: Vec<Drill>,
}

/// The newest occasion of an entry of the calendar, missed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissedDrill {
    /// Which entry.
    pub entry: ScheduleId,
    /// When it was due.
    pub due: Timestamp,
    /// Why it was not held.
    pub why: String,
}

/// `GET /v1/calendar`: when drills are held, and when none may be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CalendarTold {
    /// The answering voter's wall clock.
    pub at: Timestamp,
    /// The same, as the calendar's clocks show it.
    pub now: String,
    /// In whose clock hours and days are written.
    pub time_zone: String,
    /// Hours in which nothing is rehearsed that clients may notice.
    pub protected: Vec<Hours>,
    /// Days on which nothing is.
    pub blackouts: Vec<Blackout>,
    /// Why nothing of that kind may begin now; `None`: it may.
    pub closed: Option<String>,
    /// What is held by itself.
    pub entries: Vec<EntryTold>,
}

/// One entry of the calendar.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryTold {
    /// Its name.
    pub entry: ScheduleId,
    /// What is declared.
    pub declared: Entry,
    /// When it is held next.
    pub next: Option<Timestamp>,
    /// The same, as the calendar's clocks show it.
    pub next_shown: Option<String>,
    /// What became of the newest occasion.
    pub last: Option<Occasion>,
}

/// The drill that is open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenDrill {
    /// Its number.
    pub drill: DrillId,
    /// What is rehearsed.
    pub kind: Kind,
    /// With which service.
    pub service: ServiceId,
    /// Where it stands.
    pub stage: Stage,
    /// Whether it is given up, and what it moved is being returned.
    pub given_up: bool,
    /// What it waits for; empty where the answering voter does not lead.
    pub waits: Vec<Finding>,
}

/// `GET /v1/approvals`: what waits for a second person, and what did lately.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approvals {
    /// The answering voter's wall clock.
    pub at: Timestamp,
    /// By the hash of its plan.
    pub requests: BTreeMap<String, ApprovalTold>,
}

/// `GET /v1/loss/{service}`: what would be lost of a service, if that were accepted now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LossTold {
    /// The answering voter's wall clock.
    pub at: Timestamp,
    /// The loss.
    pub loss: Option<Loss>,
    /// Why none need be, or none can be accepted.
    pub refused: Vec<Finding>,
}

/// A request that needs two people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalTold {
    /// In one line.
    pub what: String,
    /// Whether it may still be approved.
    pub waits: bool,
    /// All of it.
    pub pending: Pending,
}

/// `GET /v1/drills`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drills {
    /// All, oldest first.
    pub drills: Vec<Drill>,
}

/// `GET /v1/drills/{id}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrillTold {
    /// The drill.
    pub drill: Drill,
    /// Every change of its service's primary that began while it was open, oldest first.
    pub transitions: Vec<Record>,
    /// What it waits for; empty where the answering voter does not lead.
    pub waits: Vec<Finding>,
}

/// `GET /v1/drill-plan?request=…`: what a drill would do. Nothing is changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrillPlan {
    /// Revision the answer rests on.
    pub revision: Revision,
    /// Why it would be refused; empty: it would begin.
    pub refused: Vec<Finding>,
    /// Who would take over.
    pub target: Option<InstanceId>,
    /// Could each site be lost now?
    pub verdicts: Vec<SiteVerdict>,
    /// What would end it before anything is moved.
    pub against: Vec<failover::readiness::Finding>,
    /// What it would wait for, and then be ended by.
    pub unknown: Vec<failover::readiness::Finding>,
    /// What the change of primary would be, on a copy.
    pub rehearsal: Option<Rehearsal>,
    /// The hash of this plan.
    pub plan: Option<String>,
}

/// A voter, by number and name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoterRef {
    /// Its number.
    pub voter: VoterId,
    /// Its name.
    pub name: String,
    /// Its site.
    pub site: Option<SiteId>,
}

/// What a voter is in its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VoterState {
    /// It leads.
    Leader,
    /// It votes and follows.
    Follower,
    /// It receives the log and does not vote.
    Learner,
    /// Not heard lately, or nobody to ask: no leader is known.
    Unknown,
}

/// One voter as the leader sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoterStatus {
    /// Its number.
    pub id: VoterId,
    /// Its name.
    pub name: String,
    /// Its site.
    pub site: Option<SiteId>,
    /// Where it listens.
    pub address: Option<SocketAddr>,
    /// What it is.
    pub state: VoterState,
    /// How long ago the answering voter heard from it; `None`: never, or it is the one answering.
    pub age_ms: Option<u64>,
    /// Entries of the log that the leader has and it has not yet acknowledged.
    pub lag_entries: Option<u64>,
    /// Whether the disk it was born with is recorded: only then is a lost disk noticed (I-22).
    pub recorded: bool,
}

/// One service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Its name.
    pub service: ServiceId,
    /// Its writable name, relative to the zone.
    pub writable: String,
    /// Its read-only name, relative to the zone.
    pub read_only: String,
    /// Its epoch.
    pub epoch: Epoch,
    /// Who holds it.
    pub primary: Option<InstanceId>,
    /// PostgreSQL's identifier of the cluster, once known.
    pub system_identifier: Option<SystemIdentifier>,
    /// The synchronous rule.
    pub rule: Rule,
    /// Whether the loss of the primary's site alone cannot take an acknowledged commit with it.
    pub is_site_safe: bool,
    /// Whether nothing acknowledged can be lost, as far as can be known.
    #[serde(default)]
    pub zero_loss: Promise,
    /// Automation paused by a person.
    pub hold: Option<Hold>,
    /// The open transition.
    pub transition: Option<Transition>,
    /// Whom the writable name points at.
    pub published: Option<Published>,
    /// The last automatic failover, until a person acknowledges it.
    pub unacknowledged: Option<TransitionId>,
    /// How long ago the primary was last given a lease by this leader.
    pub lease_age_ms: Option<u64>,
    /// Its instances, in the order of preference.
    pub instances: Vec<InstanceStatus>,
    /// What the law says now, the first unmet condition first; empty where the answering voter
    /// does not lead.
    pub findings: Vec<Finding>,
}

/// One instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceStatus {
    /// Its name.
    pub instance: InstanceId,
    /// Its site.
    pub site: SiteId,
    /// Where PostgreSQL listens.
    pub postgres: SocketAddr,
    /// What it must be.
    pub assigned: Role,
    /// What it says it is; `None`: not heard by this leader.
    pub reported: Option<Server>,
    /// How long ago it said so.
    pub age_ms: Option<u64>,
    /// Where it stands.
    pub position: Option<Position>,
    /// Bytes behind the primary; `None` where either is unknown or the histories have forked.
    pub lag_bytes: Option<u64>,
    /// Whether the primary says that it streams; `None` for the primary and where unknown.
    pub streaming: Option<bool>,
    /// Whether the synchronous rule counts on it.
    pub in_rule: bool,
    /// Whether it admits clients; `None` where unknown.
    pub admits: Option<bool>,
    /// What it promised.
    pub pledge: Option<Pledge>,
    /// The rule it is proven to enforce.
    pub enforced: Option<Generation>,
    /// What it says for people.
    pub notes: Vec<Note>,
    /// PostgreSQL's version.
    pub version: Option<String>,
    /// What voters and standbys saw when they knocked at its ports, by site.
    pub knocks: Vec<AgedKnock>,
}

/// A knock with its age.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgedKnock {
    /// What was seen.
    pub knock: Knock,
    /// How long ago.
    pub age_ms: u64,
}

/// One name server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameServerStatus {
    /// Its name.
    pub server: NameServerId,
    /// Its site.
    pub site: SiteId,
    /// Where it answers.
    pub address: SocketAddr,
    /// The version it told over its own connection.
    pub follows: Option<u32>,
    /// How long ago it told so.
    pub follows_age_ms: Option<u64>,
    /// What it answered when a voter asked it over the network.
    pub asked: Option<NameServerAnswer>,
    /// How long ago.
    pub asked_age_ms: Option<u64>,
}

/// `GET /v1/explain/{service}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explain {
    /// The service.
    pub service: ServiceId,
    /// The change that would be proposed now, in words, if any.
    pub proposes: Option<String>,
    /// Why, or why not; the first unmet condition first.
    pub findings: Vec<Finding>,
    /// What the loss of each site, now, would mean.
    pub could_lose: Vec<SiteLoss>,
    /// Revision the answer rests on.
    pub revision: Revision,
}

/// What the loss of one site would mean for one service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteLoss {
    /// The site.
    pub site: SiteId,
    /// Whether the service would go on without hands and without losing an acknowledged commit.
    pub survivable: bool,
    /// In words: `goes on`, `fails over`, `waits`.
    pub outcome: String,
    /// For how long commits would stand still, as far as the law decides it: how long machines
    /// take is not in it. `None`: not at all, or for good.
    #[serde(default)]
    pub interrupted_ms: Option<u64>,
    /// Why.
    pub reasons: Vec<String>,
}

/// `GET /v1/what-if?hypothesis=…`: what would follow from a [`failover::rehearse::Hypothesis`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhatIf {
    /// Revision the answer rests on.
    pub revision: Revision,
    /// What would happen, and how each service would stand.
    pub rehearsal: Rehearsal,
    /// Of what was asked for: the hash of the plan (see [`crate::plan`]).
    pub plan: Option<String>,
}

/// `GET /v1/readiness`, `GET /v1/readiness?of=NAME`: could a site be lost now?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// Revision the answer rests on.
    pub revision: Revision,
    /// The leader's wall clock when it answered.
    pub at: Timestamp,
    /// The worst of all verdicts asked for; unknown where there are none.
    pub level: Level,
    /// The services asked for, each with its verdicts by site and everything looked at.
    pub services: Vec<failover::readiness::Readiness>,
}

/// `GET /v1/history`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// The newest entries, oldest first.
    pub entries: Vec<HistoryEntry>,
}

/// `GET /v1/transitions`; `GET /v1/transitions/{id}` answers one [`Record`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transitions {
    /// All, oldest first.
    pub transitions: Vec<Record>,
}

/// `GET /v1/audit?from=N`: what the voter that is asked has of the audit chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditPage {
    /// Who answered.
    pub answered_by: VoterRef,
    /// The entry of the log up to which it has applied everything.
    pub applied: u64,
    /// The end of its chain; number 0: it has not begun.
    pub head: Head,
    /// What it lacks, after it was away for long; it is fetching that.
    pub hole: Hole,
    /// The records from the number that was asked for, as they are exported, as many as fit one
    /// page. None: there are no more, or this voter lacks them.
    pub lines: Vec<String>,
}

/// `GET /v1/evidence/{id}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundle {
    /// The bundle as it is signed: see [`crate::evidence`].
    pub bundle: String,
}

/// `GET /v1/topology`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeclaredTopology {
    /// Its version, for compare-and-set.
    pub version: u64,
    /// What is declared.
    pub topology: Topology,
}

/// `POST /v1/requests`, granted and committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// The revision it made.
    pub revision: Revision,
    /// The transition it began.
    pub transition: Option<TransitionId>,
    /// The drill it began, or is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drill: Option<DrillId>,
    /// What happened, as the history says it.
    pub text: String,
    /// The hash of its plan, where it waits for a second person: nothing has changed yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<String>,
}
