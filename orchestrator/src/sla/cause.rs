//! What an interruption was for, by the cluster's record of changes of primary.

use failover::cluster::{Outcome, Record, Trigger};
use failover::ids::{DrillId, ServiceId, TransitionId};
use serde::{Deserialize, Serialize};

/// The clocks of writers and voters may differ by this much, in milliseconds.
const NEAR: i64 = 5_000;

/// What an interruption was for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// Its kind.
    pub kind: CauseKind,
    /// The change of primary, if it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transition: Option<TransitionId>,
    /// The drill that it was a part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drill: Option<DrillId>,
    /// The same in words.
    pub text: String,
}

/// The kinds of causes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CauseKind {
    /// The primary was lost.
    Failover,
    /// A person declared it lost.
    OperatorFailover,
    /// A person moved the primary.
    Switchover,
    /// A drill did.
    Drill,
    /// The service's first primary.
    Bootstrap,
    /// No change of primary was near.
    Unknown,
}

impl CauseKind {
    /// Whether somebody chose the moment.
    #[must_use]
    pub const fn is_planned(self) -> bool {
        matches!(self, Self::Switchover | Self::Drill)
    }
}

/// What a span of time was for: the change of primary that took most of it.
#[must_use]
pub fn of((from, to): (i64, i64), service: &ServiceId, records: &[Record]) -> Cause {
    let shared = |record: &&Record| {
        let begun = record.steps.first().map_or(i64::MAX, |step| step.at.0);
        let ended = match (&record.outcome, record.steps.last()) {
            (Outcome::Open, _) => i64::MAX,
            (_, Some(step)) => step.at.0,
            (_, None) => begun,
        };
        to.min(ended.saturating_add(NEAR)).saturating_sub(from.max(begun.saturating_sub(NEAR)))
    };
    let near = records.iter().filter(|record| record.service == *service && shared(record) > 0);
    let Some(record) = near.max_by_key(shared) else {
        let text = "unknown: no transition near".to_owned();
        return Cause { kind: CauseKind::Unknown, transition: None, drill: None, text };
    };
    let kind = match (record.trigger, record.drill) {
        (_, Some(_)) => CauseKind::Drill,
        (Trigger::Bootstrap, None) => CauseKind::Bootstrap,
        (Trigger::PrimaryLost, None) => CauseKind::Failover,
        (Trigger::Failover, None) => CauseKind::OperatorFailover,
        (Trigger::Switchover, None) => CauseKind::Switchover,
    };
    let what = match kind {
        CauseKind::Drill => format!("drill {}", record.drill.unwrap_or(DrillId(0))),
        CauseKind::Bootstrap => "the service's first primary".to_owned(),
        CauseKind::Failover => "primary lost".to_owned(),
        CauseKind::OperatorFailover => "failover, by an operator".to_owned(),
        CauseKind::Switchover => "planned switchover".to_owned(),
        CauseKind::Unknown => String::new(),
    };
    let ended = match &record.outcome {
        Outcome::Done => "",
        Outcome::Open => ", under way",
        Outcome::Aborted(_) => ", rolled back",
        Outcome::Superseded(_) => ", superseded",
    };
    Cause {
        kind,
        transition: Some(record.id),
        drill: record.drill,
        text: format!("transition {}: {what}{ended}: {}", record.id, record.cause),
    }
}

/// The words of a cause without the last part, why: a person may have written that.
pub(super) fn without_reason(text: &str) -> &str {
    text.match_indices(": ").nth(1).map_or(text, |(end, _)| &text[..end])
}
