//! The replicated state: what every voter agrees on.

mod record;

use crate::alert::{AlertKey, Standing};
use crate::approval::Pending;
use crate::calendar::Occasion;
use crate::drill::Drill;
use crate::ids::{
    DrillId, Epoch, Generation, Incarnation, InstanceId, Lsn, Revision, ScheduleId, ServiceId,
    SiteId, SystemIdentifier, TransitionId, VoterId,
};
use crate::position::Position;
use crate::time::Timestamp;
use crate::topology::{ServiceSpec, Topology};
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use core::net::SocketAddr;
use serde::{Deserialize, Serialize};

pub use record::{Examined, Outcome, Record, StepRecord};

/// Everything that is replicated. Changes only in [`crate::apply`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// Counts events that had an effect.
    pub revision: Revision,
    /// Version of `topology`, for compare-and-set.
    pub topology_version: u64,
    /// What the operators declared.
    pub topology: Topology,
    /// The state of each declared service.
    pub services: BTreeMap<ServiceId, Service>,
    /// Version and serial of the zone: counts changes of its content.
    pub zone_version: u32,
    /// The voters, also those that are just joining.
    pub voters: BTreeMap<VoterId, Voter>,
    /// Every transition there ever was; the report of each is kept for ever.
    pub transitions: BTreeMap<TransitionId, Record>,
    /// Every drill there ever was; at most the last is open.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub drills: BTreeMap<DrillId, Drill>,
    /// What became of the newest occasion of each entry of the calendar of drills.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub calendar: BTreeMap<ScheduleId, Occasion>,
    /// What somebody must know, and who does.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub alerts: BTreeMap<AlertKey, Standing>,
    /// What waits for a second person, or did lately, by the hash of its plan.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pending: BTreeMap<String, Pending>,
    /// The step of the newest time-based code that each person acted with: a code is good once.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub codes: BTreeMap<String, u64>,
    /// The newest entries of the log in words, oldest first.
    pub history: VecDeque<Entry>,
}

/// How many entries [`Cluster::history`] keeps.
pub const HISTORY_ENTRIES: usize = 2_000;

/// A member of the Raft group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Voter {
    /// Its name: that of its certificate.
    pub name: String,
    /// The site it stands in.
    pub site: SiteId,
    /// Where it listens.
    pub address: SocketAddr,
    /// Random text that its disk was born with. A voter that comes back with another one has lost
    /// its log and may not vote under its old number (I-22).
    pub incarnation: Option<Incarnation>,
}

/// One line of the log, as a person reads it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The revision that it made.
    pub revision: Revision,
    /// When it was proposed.
    pub at: Timestamp,
    /// Who caused it: `baton`, or an operator's name.
    pub by: String,
    /// The service it is about.
    pub service: Option<ServiceId>,
    /// The service's epoch after it.
    pub epoch: Epoch,
    /// What happened.
    pub text: String,
}

/// One service's replicated state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// What was declared.
    pub spec: ServiceSpec,
    /// Revision of the last event that touched it.
    pub revision: Revision,
    /// PostgreSQL's identifier of the cluster, once known.
    pub system_identifier: Option<SystemIdentifier>,
    /// The epoch; 0 before the first primary.
    pub epoch: Epoch,
    /// Who holds `epoch`.
    pub primary: Option<InstanceId>,
    /// The synchronous rule.
    pub rule: Rule,
    /// No later primary may stand before this: the position of the last chosen primary, or that
    /// of a commit that was in doubt until the rule's standbys had it (I-05, I-12).
    pub floor: Option<Position>,
    /// Commits that may have been acknowledged without the rule, and that the rule's standbys are
    /// not known to hold yet; at most one an epoch, newest last.
    pub doubts: Vec<Doubt>,
    /// The epoch and the end of the last range in doubt that a person gave up: up to there its
    /// primary may say again what it says.
    #[serde(default)]
    pub forgone: Option<(Epoch, Lsn)>,
    /// The open transition.
    pub transition: Option<Transition>,
    /// Whom the writable name points at, and since which epoch.
    pub published: Option<Published>,
    /// Whom the canary name points at: where the last drill of name servers left it. Once there, a
    /// name never goes: name servers would take that for a mistake.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<InstanceId>,
    /// Automation paused by a person.
    pub hold: Option<Hold>,
    /// The last automatic failover, until a person acknowledged it (I-25).
    pub unacknowledged: Option<TransitionId>,
}

impl Service {
    /// A declared service that has no history yet.
    #[must_use]
    pub fn new(spec: ServiceSpec, revision: Revision) -> Self {
        Self {
            spec,
            revision,
            system_identifier: None,
            epoch: Epoch(0),
            primary: None,
            rule: Rule::default(),
            floor: None,
            doubts: Vec::new(),
            forgone: None,
            transition: None,
            published: None,
            canary: None,
            hold: None,
            unacknowledged: None,
        }
    }

    /// The open transition's step.
    #[must_use]
    pub fn step(&self) -> Option<Step> {
        self.transition.as_ref().map(|transition| transition.step)
    }

    /// The site of an instance, if it is declared.
    #[must_use]
    pub fn site_of(&self, instance: &InstanceId) -> Option<&SiteId> {
        self.spec.instances.get(instance).map(|declared| &declared.site)
    }

    /// Whether the rule names an instance outside the primary's site: the loss of that site alone
    /// cannot take an acknowledged commit with it.
    #[must_use]
    pub fn is_site_safe(&self) -> bool {
        let home = self.primary.as_ref().and_then(|primary| self.site_of(primary));
        let outside =
            self.rule.instances.iter().filter(|instance| self.site_of(instance) != home).count();
        let inside = self.rule.instances.len() - outside;
        // W acknowledgers always include one outside when fewer than W stand inside.
        self.rule.required as usize > inside && outside > 0
    }
}

/// Commits that may have been acknowledged without the rule: a wait was cancelled, or somebody
/// overruled the setting (I-12).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doubt {
    /// The epoch it happened in.
    pub epoch: Epoch,
    /// What W of the rule were known to hold when it began: they stand behind this.
    #[serde(default)]
    pub from: Lsn,
    /// The primary's WAL end when it was seen: they stand at or before it.
    pub position: Position,
    /// It may still go on, or its end is not known: there may be more behind `position`.
    #[serde(default)]
    pub open: bool,
    /// When it was recorded.
    pub at: Timestamp,
}

impl core::fmt::Display for Doubt {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let more = if self.open { " and beyond" } else { "" };
        write!(f, "{}..{}{more}", self.from, self.position.lsn)
    }
}

/// "Every acknowledged commit is flushed on at least `required` of `instances`", and what
/// PostgreSQL is to enforce. The first covers the second at every instant (I-07).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Counts recordings.
    pub generation: Generation,
    /// N: those whose flush may have released a commit.
    pub instances: BTreeSet<InstanceId>,
    /// W: how many of them flushed it. 0: a commit may exist on the primary alone.
    pub required: u32,
    /// What PostgreSQL is told.
    pub enforce: Enforce,
}

/// What PostgreSQL is to enforce.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enforce {
    /// The names in `synchronous_standby_names`. Empty: a placeholder that nobody can be, so
    /// that commits wait (I-08).
    pub instances: BTreeSet<InstanceId>,
    /// How many of them must flush. 0: single copy, commits do not wait.
    pub required: u32,
}

/// Whom the writable name points at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// The primary.
    pub instance: InstanceId,
    /// Its epoch; never decreases (I-29).
    pub epoch: Epoch,
}

/// Automation paused by a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
}

/// The stages of a change of primary, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// The primary writes a checkpoint while its clients go on, so that its stop is short.
    Quiesce,
    /// The primary turns its clients away and stops once the candidate has all of its log.
    CatchUp,
    /// Standbys stop receiving, for good, from the primary of the old epoch.
    Seal,
    /// The chosen instance becomes writable.
    Promote,
    /// It commits its marker under the new rule.
    Prove,
    /// Name servers take up the new zone.
    Redirect,
    /// They are asked, and a commit is proven.
    Verify,
}

impl Step {
    /// The step after this one; `None`: the transition is done. `Seal` is left by
    /// [`crate::event::Change::PrimaryChosen`] only.
    #[must_use]
    pub const fn next(self) -> Option<Self> {
        match self {
            Self::Quiesce => Some(Self::CatchUp),
            Self::CatchUp => Some(Self::Seal),
            Self::Seal => Some(Self::Promote),
            Self::Promote => Some(Self::Prove),
            Self::Prove => Some(Self::Redirect),
            Self::Redirect => Some(Self::Verify),
            Self::Verify => None,
        }
    }

    /// The step's name as reports print it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Quiesce => "quiesce",
            Self::CatchUp => "catch-up",
            Self::Seal => "seal",
            Self::Promote => "promote",
            Self::Prove => "prove",
            Self::Redirect => "redirect",
            Self::Verify => "verify",
        }
    }
}

/// What set a transition off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trigger {
    /// The first primary of a service.
    Bootstrap,
    /// The primary was lost.
    PrimaryLost,
    /// An operator asked for a planned change.
    Switchover,
    /// An operator declared the primary lost.
    Failover,
}

impl Trigger {
    /// Its stable name, as metrics and traces have it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bootstrap => "bootstrap",
            Self::PrimaryLost => "primary-lost",
            Self::Switchover => "switchover",
            Self::Failover => "failover",
        }
    }
}

/// The one change of primary under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transition {
    /// Its number; its [`Record`] has the same.
    pub id: TransitionId,
    /// What set it off.
    pub trigger: Trigger,
    /// The primary it moves away from.
    pub from: Option<InstanceId>,
    /// Whom an operator wants.
    pub target: Option<InstanceId>,
    /// Where it stands.
    pub step: Step,
    /// What a person gave up for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given_up: Option<crate::loss::GivenUp>,
}
