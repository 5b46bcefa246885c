//! What the agent of the simulated world reports, and when.

use super::Host;
use failover::report::{Knock, Proof, Receiver, Stream};
use failover::topology::Timing;
use failover::{InstanceId, Lsn, Moment, Report};
use std::collections::BTreeMap;
use std::time::Duration;

impl Host {
    /// The report that is due, if one is: every heartbeat, and when something changed.
    pub fn report(
        &mut self,
        flushed: &BTreeMap<InstanceId, usize>,
        knock: Option<Knock>,
        timing: &Timing,
        now: Moment,
    ) -> Option<(Report, Moment)> {
        let report = self.compose(flushed, knock, now);
        let due = self
            .reported
            .as_ref()
            .is_none_or(|(at, last)| now.since(*at) >= timing.heartbeat || is_news(last, &report));
        if !due {
            return None;
        }
        self.caught = flushed.keys().map(|id| (id.clone(), self.length())).collect();
        self.sequence += 1;
        let report = Report { sequence: self.sequence, ..report };
        self.reported = Some((now, report.clone()));
        Some((report, now))
    }

    fn compose(
        &self,
        flushed: &BTreeMap<InstanceId, usize>,
        knock: Option<Knock>,
        now: Moment,
    ) -> Report {
        let streams = flushed.iter().map(|(id, length)| Stream {
            instance: id.clone(),
            streaming: true,
            flushed: Lsn(*length as u64),
            caught_up: self.caught.get(id).is_some_and(|earlier| length >= earlier),
        });
        Report {
            service: self.service.clone(),
            instance: self.name.clone(),
            run: self.run,
            sequence: self.sequence,
            revision: self.assignment.as_ref().map(|a| a.revision).unwrap_or_default(),
            pledge: self.pledge,
            server: self.server(),
            system_identifier: self.identifier(),
            sealed_at: self.sealed.then(|| self.position()),
            proof: self.proven.map(|epoch| Proof {
                epoch,
                age: self.committed.map_or(Duration::MAX, |at| now.since(at)),
            }),
            enforced: self.enforced,
            prepared: self.prepared,
            streams: streams.collect(),
            receiver: self.streaming.as_ref().map(|(upstream, at)| Receiver {
                upstream: upstream.clone(),
                streaming: *at == now,
                age: now.since(*at),
            }),
            doubt: None,
            knock,
            notes: Vec::new(),
            version: "model".into(),
            checks: failover::checks::Checks::default(),
        }
    }
}

/// What is worth a report before its time.
fn is_news(last: &Report, new: &Report) -> bool {
    std::mem::discriminant(&last.server) != std::mem::discriminant(&new.server)
        || last.pledge != new.pledge
        || last.sealed_at.is_some() != new.sealed_at.is_some()
        || last.proof.map(|p| p.epoch) != new.proof.map(|p| p.epoch)
        || last.enforced != new.enforced
        || last.prepared != new.prepared
        || last.knock != new.knock
        || last.receiver.is_some() != new.receiver.is_some()
}
