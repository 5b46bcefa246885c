//! When programs are told what an instance serves.

use failover::Epoch;
use failover::hook::{Level, is_news};
use failover::serving::Serves;
use std::time::Duration;

const SETTLED: Duration = Duration::ZERO;

fn level(serves: Serves, epoch: u64) -> Level {
    Level { serves, epoch: Epoch(epoch) }
}

#[test]
fn each_level_is_told_once() {
    for serves in Serves::ALL.iter().copied() {
        for before in Serves::ALL.iter().copied() {
            let told = Some(level(before, 1));
            assert_eq!(is_news(told, level(serves, 1), SETTLED), before != serves);
        }
    }
}

#[test]
fn a_primary_of_another_epoch_is_another_primary() {
    for serves in Serves::ALL.iter().copied() {
        let again = is_news(Some(level(serves, 1)), level(serves, 2), SETTLED);
        assert_eq!(again, serves == Serves::Primary, "{serves:?}");
    }
}

/// A restart of the agent under a primary that goes on must not take the address away from it.
#[test]
fn an_agent_that_has_just_begun_tells_nobody_that_nothing_is_served() {
    let soon = Duration::from_millis(1);
    assert!(!is_news(None, level(Serves::Nobody, 1), soon));
    assert!(is_news(None, level(Serves::Nobody, 1), SETTLED), "it has had its time");
    for serves in [Serves::Primary, Serves::Replica] {
        assert!(is_news(None, level(serves, 1), soon), "what it knows it says: {serves:?}");
    }
    let fell = is_news(Some(level(Serves::Primary, 1)), level(Serves::Nobody, 1), soon);
    assert!(fell, "once told of a primary, its end is told at once");
}
