//! Journals of every kind of bad day, and what is measured in them.

use std::fmt::Write as _;

use super::*;

/// When every journal here begins, on the wall.
const BEGIN: i64 = 1_763_769_600_000;

fn head(every_ms: u64) -> Head {
    Head {
        run: "r".into(),
        service: "clinic".into(),
        through: "clinic.db.example.".into(),
        every_ms,
        us: 0,
        at: BEGIN,
        last_ack_us: None,
    }
}

fn attempt(sent_ms: u64, done_ms: u64, outcome: Outcome) -> Attempt {
    let done_us = done_ms * 1_000;
    Attempt {
        n: 0,
        sent_us: sent_ms * 1_000,
        acked_us: (outcome == Outcome::Acked).then_some(done_us),
        done_us,
        outcome,
        server: ([192, 0, 2, 1], 5432).into(),
        error: None,
    }
}

fn beat(ms: u64, ahead_ms: i64) -> Remark {
    let at = BEGIN + i64::try_from(ms).expect("small") + ahead_ms;
    Remark { event: "clock".into(), us: ms * 1_000, at: Some(at) }
}

/// A writer that writes every 100 ms and is told within 2 ms.
fn writes(meter: &mut Meter, from_ms: u64, to_ms: u64) {
    for at in (from_ms..to_ms).step_by(100) {
        meter.attempt(&attempt(at, at + 2, Outcome::Acked));
    }
}

fn after_begin(spans: &Spans) -> Vec<(i64, i64)> {
    spans.iter().map(|(from, to)| (from - BEGIN, to - BEGIN)).collect()
}

#[test]
fn an_interruption_is_from_the_first_failure_to_the_next_acknowledgement() {
    let mut meter = Meter::begin(head(100));
    writes(&mut meter, 0, 10_000);
    meter.attempt(&attempt(10_000, 10_050, Outcome::Refused));
    meter.attempt(&attempt(10_100, 18_000, Outcome::Unknown));
    writes(&mut meter, 18_200, 20_000);
    let told = meter.end();
    assert_eq!(after_begin(&told.down), [(10_000, 18_202)]);
    assert_eq!(after_begin(&told.measured), [(0, 19_902)]);
    assert_eq!((told.acked, told.refused, told.unknown), (118, 1, 1));
}

/// Nobody could be connected to: there were no attempts that could fail.
#[test]
fn writes_that_were_due_and_could_not_be_made_failed() {
    let mut meter = Meter::begin(head(100));
    writes(&mut meter, 0, 10_000);
    for at in (10_000..20_000).step_by(5_000) {
        meter.remark(&beat(at, 0));
    }
    writes(&mut meter, 20_000, 21_000);
    assert_eq!(after_begin(&meter.end().down), [(10_002, 20_002)]);
}

/// A failover of less than a second, with no write under way when the connection broke.
#[test]
fn a_connection_that_is_gone_when_a_write_is_due_is_a_failure() {
    let mut meter = Meter::begin(head(100));
    writes(&mut meter, 0, 10_000);
    meter.remark(&Remark { event: LOST.into(), us: 10_001_000, at: None });
    writes(&mut meter, 10_900, 12_000);
    assert_eq!(after_begin(&meter.end().down), [(10_001, 10_902)]);
}

#[test]
fn a_slow_acknowledgement_is_an_interruption_a_late_one_of_another_connection_is_not() {
    let mut meter = Meter::begin(head(100));
    writes(&mut meter, 0, 1_000);
    meter.attempt(&attempt(1_000, 3_500, Outcome::Acked));
    writes(&mut meter, 3_600, 4_000);
    let mut other = Meter::begin(head(100));
    writes(&mut other, 0, 1_000);
    // Another connection took over after 200 ms; the first answers much later.
    writes(&mut other, 1_200, 9_000);
    other.attempt(&attempt(1_000, 9_050, Outcome::Acked));
    writes(&mut other, 9_100, 10_000);
    other.attempt(&attempt(1_100, 9_950, Outcome::Unknown));
    assert_eq!(after_begin(&meter.end().down), [(1_000, 3_502)].map(|(a, b)| (a, b - 2)));
    assert!(other.end().down.is_empty());
}

#[test]
fn a_writer_that_was_stopped_measured_nothing() {
    let mut meter = Meter::begin(head(100));
    writes(&mut meter, 0, 10_000);
    // An hour later: neither up nor down in between.
    writes(&mut meter, 3_610_000, 3_620_000);
    let told = meter.end();
    assert_eq!(after_begin(&told.measured), [(0, 9_902), (3_610_002, 3_619_902)]);
    assert!(told.down.is_empty());
}

#[test]
fn one_that_is_stopped_in_an_interruption_tells_it_up_to_there() {
    let mut meter = Meter::begin(head(100));
    writes(&mut meter, 0, 10_000);
    meter.attempt(&attempt(10_000, 10_010, Outcome::Refused));
    meter.remark(&beat(15_000, 0));
    writes(&mut meter, 100_000, 101_000);
    let told = meter.end();
    assert_eq!(after_begin(&told.down), [(10_000, 15_000)]);
    assert_eq!(after_begin(&told.measured), [(0, 15_000), (100_002, 100_902)]);
}

/// What is still open when the journal ends was down; one failure just before the end says little.
#[test]
fn the_end_of_a_journal_ends_an_interruption() {
    let mut meter = Meter::begin(head(100));
    writes(&mut meter, 0, 1_000);
    meter.attempt(&attempt(1_000, 1_010, Outcome::Refused));
    meter.remark(&beat(5_000, 0));
    assert_eq!(after_begin(&meter.end().down), [(1_000, 5_000)]);
    let mut meter = Meter::begin(head(100));
    writes(&mut meter, 0, 1_000);
    meter.attempt(&attempt(1_000, 1_200, Outcome::Unknown));
    assert!(meter.end().down.is_empty());
}

#[test]
fn a_service_that_is_down_when_the_writer_begins_is_down_from_there() {
    let mut meter = Meter::begin(head(100));
    meter.remark(&beat(5_000, 0));
    meter.remark(&beat(10_000, 0));
    writes(&mut meter, 12_000, 13_000);
    assert_eq!(after_begin(&meter.end().down), [(0, 12_002)]);
}

/// The next day's file goes on where the one before ended, in the middle of an interruption.
#[test]
fn an_interruption_across_midnight_is_one() {
    let mut before = Meter::begin(head(100));
    writes(&mut before, 0, 10_000);
    before.attempt(&attempt(10_000, 10_050, Outcome::Refused));
    before.remark(&beat(15_000, 0));
    let next =
        Head { us: 15_000_000, at: BEGIN + 15_000, last_ack_us: Some(9_902_000), ..head(100) };
    let mut after = Meter::begin(next);
    after.remark(&beat(20_000, 0));
    writes(&mut after, 21_000, 22_000);
    let (before, after) = (before.end(), after.end());
    assert_eq!(after_begin(&before.down.or(&after.down)), [(10_000, 21_002)]);
    assert_eq!(after_begin(&before.measured.or(&after.measured)), [(0, 21_902)]);
}

#[test]
fn a_clock_that_is_put_forward_or_back_changes_no_length() {
    for ahead in [3_600_000, -7_200_000, 2_000] {
        let mut meter = Meter::begin(head(100));
        writes(&mut meter, 0, 10_000);
        meter.remark(&beat(10_000, 0));
        meter.attempt(&attempt(10_000, 10_010, Outcome::Refused));
        // In the middle of an interruption of ten seconds.
        meter.remark(&beat(15_000, ahead));
        meter.attempt(&attempt(19_998, 20_000, Outcome::Acked));
        writes(&mut meter, 20_100, 30_000);
        let told = meter.end();
        assert_eq!(told.steps, [ClockStep { at: BEGIN + 15_000 + ahead, by_ms: ahead }]);
        assert_eq!(told.down.total(), 10_000, "{ahead}: {:?}", after_begin(&told.down));
        assert_eq!(told.measured.total(), 30_002 - 100, "{ahead}");
        assert_eq!(told.down.without(&told.measured).total(), 0);
    }
    let mut slewed = Meter::begin(head(100));
    writes(&mut slewed, 0, 10_000);
    slewed.remark(&beat(10_000, 400));
    assert!(slewed.end().steps.is_empty(), "a clock that is slewed is no step");
}

/// A small generator of our own, so that a failing seed can be played again.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040);
        (self.0 >> 33) % most
    }
}

/// Random days: whatever failed in whatever way, each true interruption is found to one period, no
/// other is, and nothing is measured where the writer was stopped.
#[test]
fn random_days_are_measured_as_they_were() {
    for seed in 0..500 {
        let mut dice = Dice(seed);
        let mut meter = Meter::begin(head(100));
        let (mut now, mut down, mut stopped, mut story) = (0, 0, 0, String::new());
        for _ in 0..20 {
            let until = now + 2_000 + dice.below(60_000);
            writes(&mut meter, now, until);
            now = until;
            let length = 1_500 + dice.below(30_000);
            match dice.below(4) {
                0 => {
                    let _ = write!(story, " stopped {now} for {}", length + 20_000);
                    stopped += length + 20_000;
                    now += length + 20_000;
                    continue;
                }
                1 => meter.attempt(&attempt(now, now + 20, Outcome::Refused)),
                2 => meter.attempt(&attempt(now, now + 900, Outcome::Unknown)),
                _ => {}
            }
            let _ = write!(story, " down {now} for {length}");
            for at in (now + 1_000..now + length).step_by(5_000) {
                meter.remark(&beat(at, 0));
            }
            down += length;
            now += length;
        }
        writes(&mut meter, now, now + 1_000);
        now += 1_000;
        let told = meter.end();
        let (apart, gaps) = (u64::try_from(told.down.total()).expect("some"), 20 * 102);
        assert!(apart.abs_diff(down) <= gaps, "seed {seed}: {apart} of {down}:{story}");
        let measured = u64::try_from(told.measured.total()).expect("some");
        assert!(measured.abs_diff(now - stopped) <= gaps, "seed {seed}: {measured}:{story}");
        assert!(told.down.without(&told.measured).is_empty(), "seed {seed}:{story}");
    }
}
