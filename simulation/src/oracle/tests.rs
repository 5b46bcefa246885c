//! What the judge lets pass, and what it does not.

use super::Oracle;
use crate::clock::At;
use crate::host::{Fact, Outcome};
use crate::presets::Preset;
use failover::{Epoch, Lsn, Timeline};

fn oracle() -> Oracle {
    Oracle::new(&Preset::default().topology())
}

fn writable(oracle: &mut Oracle, host: u8, now: At) {
    let (epoch, timeline) = (Epoch(1), Timeline(1));
    let fact = Fact::Writable { epoch, timeline, from: Lsn(1), promoted: false };
    oracle.fact(host, &fact, &[], now);
}

fn serves(oracle: &mut Oracle, host: u8, epoch: u64, now: At) {
    let epoch = Epoch(epoch);
    oracle.fact(host, &Fact::Proven { epoch }, &[], now);
    oracle.fact(host, &Fact::Admitted { epoch, writable: true }, &[], now);
}

/// Seed 28: it started in epoch 1, took epoch 2 without another start, and is no former primary.
#[test]
fn i03_whoever_takes_the_next_epoch_itself_may_be_read() {
    let mut oracle = oracle();
    writable(&mut oracle, 0, At(0));
    serves(&mut oracle, 0, 2, At(1));
    oracle.told(0, Outcome::Seen { newest: None }, &[], At(2_000_000));
    assert_eq!(oracle.violation(), None);
}

#[test]
fn i03_a_former_primary_that_is_read_is_seen() {
    let mut oracle = oracle();
    writable(&mut oracle, 0, At(0));
    serves(&mut oracle, 0, 1, At(0));
    serves(&mut oracle, 1, 2, At(1));
    oracle.told(0, Outcome::Seen { newest: None }, &[], At(2_000_000));
    assert!(oracle.violation().is_some_and(|text| text.starts_with("I-03")));
}
