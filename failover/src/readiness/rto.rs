//! How long commits would stand still, and clients not know where to go: by phase, each from what
//! was measured here.
//!
//! Detection and seal are the law's own times, from the rehearsal: they follow from the timing,
//! from what was heard and from where the leader stands. What machines take is not known to the
//! law: it is what they took the last time that this service changed its primary, and for a
//! backlog the rate at which it was seen to be replayed. What was never measured is not guessed.

use super::facts::Facts;
use crate::cluster::{Outcome, Record, StepRecord, Trigger};
use crate::ids::{InstanceId, TransitionId};
use crate::rehearse::Ending;
use crate::report::Server;
use crate::time::millis;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;
use serde::{Deserialize, Serialize};

/// What is promised: longer than this is a failure of the service.
pub const CONTRACT: Duration = Duration::from_mins(15);
/// What is aimed at.
pub const GOAL: Duration = Duration::from_secs(10);

/// A predicted recovery time by phase, in milliseconds; `None`: not known, and why is in `notes`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rto {
    /// From the loss until a change of primary is begun, a new leader's election included.
    pub detection_ms: Option<u64>,
    /// Until enough standbys are sealed and the new primary is chosen.
    pub seal_ms: Option<u64>,
    /// Until it has replayed what it has received.
    pub replay_ms: Option<u64>,
    /// Until it is promoted and has proven a commit under its rule.
    pub promotion_ms: Option<u64>,
    /// Until the name servers answer with its address.
    pub dns_ms: Option<u64>,
    /// For how long a resolver may keep the old address.
    pub ttl_ms: u64,
    /// All of it; `None` where a phase is not known.
    pub total_ms: Option<u64>,
    /// What is known of it: not less than this.
    pub at_least_ms: u64,
    /// The change of primary that the machines' times were measured in.
    pub measured_in: Option<TransitionId>,
    /// What is not known, and what would tell.
    pub notes: Vec<String>,
}

/// The prediction for a failover to `target`.
pub(super) fn predict(facts: &Facts<'_>, ending: &Ending, target: &InstanceId) -> Rto {
    let mut notes = Vec::new();
    let measured = measured(facts, target);
    if measured.is_none() {
        notes.push(format!(
            "what the machines take for a promotion was never measured: one `baton switchover {}` \
             does",
            facts.case.id
        ));
    }
    let took = |step: &str| measured.and_then(|record| took(record, step));
    let law = ending.chosen_ms.zip(ending.started_ms).map(|(to, from)| to.saturating_sub(from));
    let sealed = measured.filter(|record| record.trigger != Trigger::Switchover);
    let sealed = sealed.and_then(|record| self::took(record, "seal"));
    let replay_ms = replay(facts, target, &mut notes);
    let phases = [
        ending.started_ms,
        law.map(|law| law.max(sealed.unwrap_or(0))),
        replay_ms,
        took("promote").zip(took("prove")).map(|(a, b)| a.saturating_add(b)),
        took("redirect"),
        Some(millis(facts.case.cluster.topology.dns.ttl)),
    ];
    let at_least_ms = phases.iter().flatten().fold(0, |sum: u64, ms| sum.saturating_add(*ms));
    let [detection_ms, seal_ms, replay_ms, promotion_ms, dns_ms, ttl_ms] = phases;
    Rto {
        detection_ms,
        seal_ms,
        replay_ms,
        promotion_ms,
        dns_ms,
        ttl_ms: ttl_ms.unwrap_or(0),
        total_ms: phases.iter().all(Option::is_some).then_some(at_least_ms),
        at_least_ms,
        measured_in: measured.map(|record| record.id),
        notes,
    }
}

/// The newest change of primary that went through: to the target, or else to anybody.
fn measured<'a>(facts: &Facts<'a>, target: &InstanceId) -> Option<&'a Record> {
    let done = |record: &&Record| {
        record.service == *facts.case.id
            && record.outcome == Outcome::Done
            && record.trigger != Trigger::Bootstrap
    };
    let newest = || facts.case.cluster.transitions.values().rev().filter(done);
    newest().find(|record| record.to.as_ref() == Some(target)).or_else(|| newest().next())
}

/// How long a step took, in milliseconds.
fn took(record: &Record, step: &str) -> Option<u64> {
    let at = record.steps.iter().position(|left| left.name == step)?;
    let (before, left) = (record.steps.get(at.checked_sub(1)?)?, record.steps.get(at)?);
    Some(between(before, left))
}

/// One voter's monotonic clock tells differences; where another voter went on, wall clocks must.
fn between(from: &StepRecord, to: &StepRecord) -> u64 {
    if from.voter == to.voter && from.monotonic_us <= to.monotonic_us {
        (to.monotonic_us - from.monotonic_us) / 1_000
    } else {
        u64::try_from(to.at.0.saturating_sub(from.at.0)).unwrap_or(0)
    }
}

fn replay(facts: &Facts<'_>, target: &InstanceId, notes: &mut Vec<String>) -> Option<u64> {
    let Some(Server::Recovery { position, replayed, .. }) =
        facts.case.report(target).map(|report| &report.server)
    else {
        notes.push(format!("how much {target} has to replay is not known"));
        return None;
    };
    let backlog = position.lsn.bytes_since(*replayed);
    if backlog == 0 {
        return Some(0);
    }
    let rate = facts.surveyed(target).and_then(|surveyed| surveyed.survey.replays);
    let Some(rate) = rate.filter(|rate| *rate > 0) else {
        notes.push(
            "how fast the target replays was not measured yet: it is, as soon as there is load"
                .to_string(),
        );
        return None;
    };
    Some(backlog.saturating_mul(1_000).div_ceil(rate))
}
