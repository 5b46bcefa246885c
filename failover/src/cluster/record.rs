//! What is kept of a change of primary.

use super::Trigger;
use crate::event::Authority;
use crate::ids::{DrillId, Epoch, InstanceId, ServiceId, TransitionId, VoterId};
use crate::loss::GivenUp;
use crate::position::Position;
use crate::readiness::Before;
use crate::time::Timestamp;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// A transition's report: kept for ever.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its number.
    pub id: TransitionId,
    /// The service.
    pub service: ServiceId,
    /// What set it off.
    pub trigger: Trigger,
    /// Who.
    pub by: String,
    /// Why, in the decision's own words.
    pub cause: String,
    /// The hash of the plan that it carries out, where a person asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
    /// By what right, where a person asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<Authority>,
    /// What a person gave up for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given_up: Option<GivenUp>,
    /// The drill that it was a part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drill: Option<DrillId>,
    /// How the service stood before; `None`: whoever began it had not looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readiness: Option<Before>,
    /// The primary before.
    pub from: Option<InstanceId>,
    /// The primary after.
    pub to: Option<InstanceId>,
    /// The epoch before.
    pub epoch: Epoch,
    /// When each step was left, in order; the first is the start.
    pub steps: Vec<StepRecord>,
    /// Every instance examined.
    pub examined: Vec<Examined>,
    /// How it ended.
    pub outcome: Outcome,
}

/// When something in a transition happened: wall time for people, and one voter's monotonic clock
/// for differences (comparable between records of the same voter only).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRecord {
    /// `started`, or the name of the step that was left.
    pub name: String,
    /// Wall time.
    pub at: Timestamp,
    /// Who proposed it.
    pub voter: VoterId,
    /// That voter's monotonic clock, in microseconds.
    pub monotonic_us: u64,
    /// What it rests on.
    pub note: String,
}

/// One instance as it was judged when the primary was chosen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Examined {
    /// Who.
    pub instance: InstanceId,
    /// Where it stood, if it was sealed.
    pub position: Option<Position>,
    /// `chosen`, or why it was not.
    pub verdict: String,
}

/// How a transition ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Not yet.
    Open,
    /// All steps done.
    Done,
    /// Rolled back before the point of no return, and why.
    Aborted(String),
    /// The chosen primary was lost before it was verified; another transition took over.
    Superseded(TransitionId),
}

impl Outcome {
    /// Its stable name, as metrics and traces have it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Done => "done",
            Self::Aborted(_) => "aborted",
            Self::Superseded(_) => "superseded",
        }
    }
}
