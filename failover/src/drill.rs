//! Drills: what would be done in a disaster is done before one, by the same law.
//!
//! A drill is a record in the replicated state, moved along by pure decisions as a transition is.
//! It has no way of its own to change a primary: it asks for an ordinary switchover, which is
//! judged, begun and carried out as if a person had asked, and that says which drill it is a part
//! of. A drill that cannot be done safely is not done (I-36): before anything moves, what readiness
//! looks at is looked at, and whatever is not good ends the drill.
//!
//! At most one is open in the whole cluster. A drill is never in the way of a failover: if the
//! primary is lost in the middle of one, the law does what it always does and the drill ends with
//! that. Nor is it in the way of a person: a hold stops it where it is, a change of primary that
//! somebody asks for ends it.

mod ask;
mod dns;
mod enact;
mod isolate;
mod judge;
mod ready;
mod restore;

use crate::ids::{DrillId, InstanceId, ScheduleId, ServiceId, TransitionId};
use crate::readiness::{Finding, SiteVerdict};
use crate::time::{Moment, Timestamp, maybe_millis, millis};
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;
use serde::{Deserialize, Serialize};

pub(crate) use ask::{Wanted, abort, begin};
pub(crate) use enact::{concerns, cut_off, enact, may_switch, switched};
pub use isolate::{Isolation, ordered, usual};
pub use judge::{DrillVerdict, decide};
pub use ready::{Preconditions, preconditions, watch};
pub use restore::{Progress, Rehearsed, rehearses};

/// The longest dwell at the other site.
pub const LONGEST_DWELL: Duration = Duration::from_hours(24);
/// The longest that an instance is cut off, whatever anybody asks for or an assignment says.
pub const LONGEST_ISOLATION: Duration = Duration::from_mins(2);
/// A primary that cannot be returned within this time stays where it is.
pub const RETURN_WITHIN: Duration = Duration::from_mins(15);
/// For so long name servers may take to follow.
pub const FOLLOW_WITHIN: Duration = Duration::from_mins(1);
/// For so long what is not known yet is waited for, before a drill is given up.
pub const KNOW_WITHIN: Duration = Duration::from_mins(2);
/// A rehearsal that takes longer has failed: a large copy takes its time.
pub const REHEARSED_WITHIN: Duration = Duration::from_hours(12);

/// What is rehearsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Whether each site could be lost now. Nothing is moved.
    Readiness,
    /// A name that no client uses is moved in the zone, and back; every name server must follow.
    Dns,
    /// The primary goes to another site and, after a dwell, back.
    Switchover,
    /// The primary is cut off by its own agent and lost as in a disaster; then, back.
    Isolate,
    /// A copy beside a standby leads, dies, and is brought back as a former primary is. Nobody
    /// moves.
    RestorePath,
}

impl Kind {
    /// Its name as people read it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Readiness => "readiness",
            Self::Dns => "dns",
            Self::Switchover => "switchover",
            Self::Isolate => "isolate",
            Self::RestorePath => "restore-path",
        }
    }

    /// Whether clients may notice it.
    #[must_use]
    pub const fn has_impact(self) -> bool {
        match self {
            Self::Readiness | Self::Dns | Self::RestorePath => false,
            Self::Switchover | Self::Isolate => true,
        }
    }
}

/// Where a drill stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Is everything as it must be?
    Check,
    /// The primary, or the canary name, goes to the other site; or is lost to it. Or a copy leads,
    /// dies and comes back.
    There,
    /// The service runs there.
    Dwell,
    /// The primary, or the canary name, goes back.
    Back,
}

impl Stage {
    /// Its name as reports print it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::There => "there",
            Self::Dwell => "dwell",
            Self::Back => "back",
        }
    }

    /// The stage after this one; `None`: only an end is left.
    #[must_use]
    pub const fn next(self, kind: Kind) -> Option<Self> {
        match (kind, self) {
            (Kind::Readiness, _)
            | (Kind::Dns, Self::Dwell | Self::Back)
            | (Kind::RestorePath, Self::There | Self::Dwell | Self::Back)
            | (Kind::Switchover | Kind::Isolate, Self::Back) => None,
            (Kind::Dns | Kind::Switchover | Kind::Isolate | Kind::RestorePath, Self::Check) => {
                Some(Self::There)
            }
            (Kind::Switchover | Kind::Isolate, Self::There) => Some(Self::Dwell),
            (Kind::Dns, Self::There) | (Kind::Switchover | Kind::Isolate, Self::Dwell) => {
                Some(Self::Back)
            }
        }
    }
}

/// How a drill ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Not yet.
    Open,
    /// Everything did what it should.
    Passed,
    /// Something did not.
    Failed(String),
    /// It was given up, by a person or because something was not as it must be; the primary is
    /// where it was before.
    Aborted(String),
    /// Another change of primary came in between.
    Overtaken(String),
}

impl Outcome {
    /// What became of the drill, in words.
    #[must_use]
    pub const fn told(&self) -> &'static str {
        match self {
            Self::Open => "is open",
            Self::Passed => "passed",
            Self::Failed(_) => "failed",
            Self::Aborted(_) => "was given up",
            Self::Overtaken(_) => "was overtaken",
        }
    }

    /// Why; nothing to say where it passed or is open.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Open | Self::Passed => None,
            Self::Failed(why) | Self::Aborted(why) | Self::Overtaken(why) => Some(why),
        }
    }
}

/// Who gave a drill up, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Abort {
    /// `baton`, or an operator's name.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// One drill: kept for ever.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drill {
    /// Its number.
    pub id: DrillId,
    /// What is rehearsed.
    pub kind: Kind,
    /// With which service.
    pub service: ServiceId,
    /// The primary before.
    pub home: Option<InstanceId>,
    /// Who takes over: whom it was to be, then who it was.
    pub target: Option<InstanceId>,
    /// How long the service is to run there.
    #[serde(rename = "dwell_ms", with = "millis")]
    pub dwell: Duration,
    /// How long the primary may be cut off, where that is rehearsed.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "maybe_millis")]
    pub at_most: Option<Duration>,
    /// Who asked.
    pub by: String,
    /// Why.
    pub reason: String,
    /// What the calendar said against it, where whoever asked said that it does not matter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub despite: Option<String>,
    /// The hash of the plan that it carries out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
    /// Where it stands, or ended.
    pub stage: Stage,
    /// The switchover there, or the failover.
    pub there: Option<TransitionId>,
    /// The switchover back.
    pub back: Option<TransitionId>,
    /// The last change of any primary before it began.
    pub after: TransitionId,
    /// The last one when it ended.
    pub upto: Option<TransitionId>,
    /// Until when it dwells, by wall clocks.
    pub until: Option<Timestamp>,
    /// Somebody gave it up.
    pub abort: Option<Abort>,
    /// When each stage was left, in order; the first is the start.
    pub steps: Vec<crate::cluster::StepRecord>,
    /// Could each site have been lost when it began?
    pub verdicts: Vec<SiteVerdict>,
    /// What stood in its way.
    pub findings: Vec<Finding>,
    /// How it ended.
    pub outcome: Outcome,
}

impl Drill {
    /// Whom the canary name is to point at now.
    #[must_use]
    pub fn points_at(&self) -> Option<&InstanceId> {
        match self.stage {
            Stage::There => self.target.as_ref(),
            Stage::Check | Stage::Dwell | Stage::Back => self.home.as_ref(),
        }
    }

    /// Whether a change of primary began while this was open, be it its own or another's.
    #[must_use]
    pub fn met(&self, record: &crate::cluster::Record) -> bool {
        let within = record.id > self.after && self.upto.is_none_or(|upto| record.id <= upto);
        within && record.service == self.service
    }

    /// Whether it is not over.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.outcome == Outcome::Open
    }
}

/// A change of one drill.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum DrillChange {
    /// It begins.
    Begun {
        /// What is rehearsed.
        kind: Kind,
        /// With which service.
        service: ServiceId,
        /// Who is to take over.
        target: Option<InstanceId>,
        /// How long the service is to run there.
        #[serde(rename = "dwell_ms", with = "millis")]
        dwell: Duration,
        /// How long an instance may be cut off, where that is rehearsed.
        #[serde(default, skip_serializing_if = "Option::is_none", with = "maybe_millis")]
        at_most: Option<Duration>,
        /// The entry of the calendar that it is held for, and when that was due.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        occasion: Option<(ScheduleId, Timestamp)>,
        /// What the calendar says against it, where whoever asked said that it does not matter.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        despite: Option<String>,
    },
    /// Its stage is left for the next.
    StageDone {
        /// Could each site be lost now? Told when the check is done.
        verdicts: Vec<SiteVerdict>,
    },
    /// It is given up: what was moved is returned.
    AbortAsked,
    /// It is over.
    Ended {
        /// How.
        outcome: Outcome,
        /// As in `StageDone`.
        verdicts: Vec<SiteVerdict>,
        /// What stood in its way.
        findings: Vec<Finding>,
    },
}

/// What a leader remembers of the open drill. Forgotten at the next election.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    drill: DrillId,
    stage: Stage,
    /// Since when this leader has seen it in its stage.
    since: Moment,
    /// Since when something has not been as it must be while the service runs elsewhere, and what.
    unready: Option<(Moment, String)>,
}
