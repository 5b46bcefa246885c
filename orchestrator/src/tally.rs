//! What a voter does between two looks of whoever monitors it: read off what its replica puts out,
//! so that the replica itself counts nothing.

use std::collections::BTreeMap;

use failover::ids::{ServiceId, VoterId};

use crate::replica::{Output, Reply};

/// The counts of one process.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Entries of the log that this voter proposed, as leader.
    pub proposals: u64,
    /// Requests that the law refused.
    pub refusals: u64,
    /// Leases given, by service.
    pub leases: BTreeMap<ServiceId, u64>,
}

impl Tally {
    /// Counts what voter `own` puts out.
    pub fn note(&mut self, own: VoterId, outputs: &[Output]) {
        for output in outputs {
            match output {
                Output::Persist(batch) => {
                    // Proposals are named after who made them: `voter.term.number`.
                    let ours = |id: &str| id.split('.').next() == Some(own.to_string().as_str());
                    let proposed = batch.entries.iter().filter(|entry| ours(&entry.id)).count();
                    self.proposals += u64::try_from(proposed).unwrap_or(u64::MAX);
                }
                Output::Reply { reply: Reply::Refused { .. }, .. } => self.refusals += 1,
                Output::Reply { reply: Reply::Report(answer), .. } if answer.lease.is_some() => {
                    self.lease(&answer.assignment.service);
                }
                Output::Reply { .. }
                | Output::Send { .. }
                | Output::Applied(_)
                | Output::Look(_)
                | Output::Lack { .. }
                | Output::Records { .. }
                | Output::Stop(_) => {}
            }
        }
    }

    fn lease(&mut self, service: &ServiceId) {
        if let Some(count) = self.leases.get_mut(service) {
            *count += 1;
        } else {
            self.leases.insert(service.clone(), 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Batch;
    use crate::message::{Body, Entry};

    fn persisted(ids: &[&str]) -> Output {
        let entry = |(index, id): (u64, &&str)| Entry {
            term: 1,
            index,
            id: (*id).to_owned(),
            body: Body::Empty,
        };
        let entries = (1..).zip(ids).map(entry).collect();
        Output::Persist(Box::new(Batch { entries, ..Batch::default() }))
    }

    #[test]
    fn only_what_this_voter_proposed_counts_as_its_own() {
        let mut tally = Tally::default();
        tally.note(VoterId(1), &[persisted(&["1.4.1", "11.4.1", "2.4.9", "", "1.5.2"])]);
        assert_eq!(tally.proposals, 2);
    }

    #[test]
    fn refusals_and_leases_are_told_apart_from_other_answers() {
        let answer = |lease: Option<u64>| {
            let text = format!(
                r#"{{"assignment":{{"revision":1,"service":"clinic","instance":"a","epoch":1,
                "role":"idle","enforce":{{"instances":[],"required":1}},"generation":1,
                "system_identifier":null,"peers":{{}},"client_access":[],"timing":{}}},
                "lease":{}}}"#,
                serde_json::to_string(&failover::topology::Timing::default()).unwrap(),
                serde_json::to_string(&lease).unwrap(),
            );
            let answer: failover::Answer = serde_json::from_str(&text).unwrap();
            Output::Reply { token: 1, reply: Reply::Report(Box::new(answer)) }
        };
        let refused = Reply::Refused { error: "no".into(), findings: Vec::new() };
        let refused = Output::Reply { token: 2, reply: refused };
        let leaderless = Output::Reply { token: 3, reply: Reply::NoLeader };
        let mut tally = Tally::default();
        let outputs = [answer(Some(1)), answer(None), refused, leaderless, answer(Some(1))];
        tally.note(VoterId(1), &outputs);
        assert_eq!(tally.refusals, 1);
        assert_eq!(tally.leases, BTreeMap::from([("clinic".parse().unwrap(), 2)]));
    }
}
