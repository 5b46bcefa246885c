//! Rehearsing beside an instance, as far as others notice: it takes its time, and is said.

use super::Host;
use super::agent::Agent;
use super::turn::Turn;
use failover::Moment;
use failover::drill::{Progress, Rehearsed};

/// How long a rehearsal takes, in milliseconds: at the least, at the most.
const TAKES: (u64, u64) = (2_000, 30_000);

impl Host {
    /// Begins what is ordered, forgets what is not any more.
    pub(super) fn take_rehearsal(&mut self, turn: &mut Turn) {
        let Some(agent) = &mut self.agent else { return };
        let ordered = agent.assignment.as_ref().and_then(|assignment| assignment.rehearse);
        if ordered != agent.rehearses.map(|(drill, _)| drill) {
            agent.rehearses = ordered.map(|drill| {
                let takes = turn.dice.between(TAKES.0, TAKES.1) * 1_000;
                (drill, turn.later(takes))
            });
        }
    }
}

impl Agent {
    /// What it says of it.
    pub(super) fn rehearsed(&self, now: Moment) -> Option<Rehearsed> {
        let (drill, done) = self.rehearses?;
        let stands = if now < done {
            Progress::UnderWay("copying".into())
        } else {
            Progress::Done("caught up".into())
        };
        Some(Rehearsed { drill, stands })
    }
}
