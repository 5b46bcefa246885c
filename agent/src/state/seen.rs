//! What the account to the law leaves out, and whoever asks for this instance's health is told.

use super::State;
use failover::Moment;
use failover::serving::{Behind, Seen};

impl State {
    /// What is seen of PostgreSQL besides what it is to be.
    pub fn seen(&self, now: Moment) -> Seen {
        Seen {
            silent: self.unanswered.map(|at| now.since(at)).unwrap_or_default(),
            behind: self.behind(now),
        }
    }

    fn behind(&self, now: Moment) -> Option<Behind> {
        let facts = self.facts.as_ref().filter(|facts| facts.recovery)?;
        let receiver = facts.receiver.as_ref().filter(|receiver| receiver.streaming)?;
        let end = receiver.upstream_end.max(facts.received)?;
        let bytes = end.bytes_since(facts.replayed);
        Some(Behind { bytes, age: now.since(self.message.1) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Layout;
    use crate::probe::{Facts, ReceiverFacts};
    use failover::Lsn;
    use std::time::Duration;

    #[test]
    fn a_standby_is_behind_what_its_upstream_says_it_has() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::create(&folder.path().join("pgdata"), &folder.path().join("run"));
        let (layout, begun) = (layout.unwrap(), Moment(10_000_000));
        let receiver = |end: u64, streaming| {
            let upstream_end = Some(Lsn(end));
            ReceiverFacts { streaming, stamp: 1.0, upstream_end, ..ReceiverFacts::default() }
        };
        let facts = |receiver| Facts {
            recovery: true,
            received: Some(Lsn(200)),
            replayed: Lsn(150),
            receiver,
            ..Facts::default()
        };
        let behind = |receiver, after| {
            let mut state = State::new(begun);
            state.begin_life(1);
            state.note_facts(facts(receiver), begun, &layout);
            state.seen(begun.after(after)).behind
        };
        let second = Duration::from_secs(1);
        let seen = behind(Some(receiver(500, true)), second);
        assert_eq!(seen, Some(Behind { bytes: 350, age: second }));
        let ahead = behind(Some(receiver(180, true)), second);
        assert_eq!(ahead.map(|behind| behind.bytes), Some(50), "what it has received counts");
        assert_eq!(behind(Some(receiver(500, false)), second), None, "it does not stream");
        assert_eq!(behind(None, second), None);
    }

    #[test]
    fn silence_counts_from_the_first_probe_without_an_answer() {
        let (begun, second) = (Moment(10_000_000), Duration::from_secs(1));
        let mut state = State::new(begun);
        assert_eq!(state.seen(begun.after(second)).silent, Duration::ZERO);
        state.note_silence(begun, begun.after(second));
        state.note_silence(begun.after(second), begun.after(second * 2));
        assert_eq!(state.seen(begun.after(second * 3)).silent, second * 3);
    }
}
