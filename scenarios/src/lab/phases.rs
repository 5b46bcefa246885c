//! How long each part of a change of primary took, from its own report.
//!
//! A report's steps carry the monotonic clock of the voter that proposed them. All voters of the
//! lab run on one machine, and that clock counts from its boot: here they compare.

use failover::cluster::Record;
use serde::Serialize;

use super::journal::millis;

/// Milliseconds of each phase; `None`: the step was not passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Phases {
    /// From the fault (or the request) to the decision that something must be done.
    pub detect_ms: Option<f64>,
    /// Until the clients were turned away; planned changes only.
    pub quiesce_ms: Option<f64>,
    /// Until the candidate had everything; planned changes only.
    pub catch_up_ms: Option<f64>,
    /// Until enough standbys were sealed and the primary was chosen.
    pub seal_ms: Option<f64>,
    /// Until the chosen instance was writable.
    pub promote_ms: Option<f64>,
    /// Until its first durable commit.
    pub prove_ms: Option<f64>,
    /// Until the name servers had the new zone.
    pub redirect_ms: Option<f64>,
}

impl Phases {
    /// Those of a transition, counted from `fault_us`.
    pub fn of(record: &Record, fault_us: u64) -> Self {
        let mut last = fault_us;
        let mut until = |name: &str| {
            let step = record.steps.iter().find(|step| step.name == name)?;
            let passed = millis(last, step.monotonic_us);
            last = step.monotonic_us;
            Some(passed)
        };
        Self {
            detect_ms: until("started"),
            quiesce_ms: until("quiesce"),
            catch_up_ms: until("catch-up"),
            seal_ms: until("seal"),
            promote_ms: until("promote"),
            prove_ms: until("prove"),
            redirect_ms: until("redirect"),
        }
    }

    /// Names and values, in order.
    pub const fn all(&self) -> [(&'static str, Option<f64>); 7] {
        [
            ("detect", self.detect_ms),
            ("quiesce", self.quiesce_ms),
            ("catch-up", self.catch_up_ms),
            ("seal", self.seal_ms),
            ("promote", self.promote_ms),
            ("prove", self.prove_ms),
            ("redirect", self.redirect_ms),
        ]
    }

    /// In one line: `detect 0.21 s · seal 0.04 s`.
    pub fn sentence(&self) -> String {
        let parts = self
            .all()
            .into_iter()
            .filter_map(|(name, value)| Some(format!("{name} {}", super::screen::seconds(value?))));
        parts.collect::<Vec<_>>().join(" · ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use failover::Timestamp;
    use failover::cluster::{Outcome, StepRecord, Trigger};
    use failover::ids::{Epoch, TransitionId, VoterId};

    #[test]
    fn phases_follow_each_other() {
        let steps = [("started", 1_200), ("seal", 1_500), ("promote", 1_900), ("prove", 2_000)];
        let step = |(name, at): (&str, u64)| StepRecord {
            name: name.into(),
            at: Timestamp(0),
            voter: VoterId(1),
            monotonic_us: at * 1_000,
            note: String::new(),
        };
        let record = Record {
            readiness: None,
            id: TransitionId(2),
            service: "clinic".parse().expect("a name"),
            trigger: Trigger::PrimaryLost,
            by: "baton".into(),
            cause: String::new(),
            plan: None,
            authority: None,
            given_up: None,
            drill: None,
            from: None,
            to: None,
            epoch: Epoch(1),
            steps: steps.map(step).into(),
            examined: Vec::new(),
            outcome: Outcome::Open,
        };
        let phases = Phases::of(&record, 1_000_000);
        assert_eq!(phases.detect_ms, Some(200.0));
        assert_eq!((phases.quiesce_ms, phases.redirect_ms), (None, None));
        assert_eq!((phases.seal_ms, phases.promote_ms), (Some(300.0), Some(400.0)));
        assert_eq!(phases.prove_ms, Some(100.0));
        assert!(phases.sentence().starts_with("detect 0.20 s · seal 0.30 s"));
    }
}
