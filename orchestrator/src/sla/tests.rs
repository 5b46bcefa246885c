//! Months of measurements against hours, holidays and an objective.

use failover::Epoch;
use failover::cluster::{Outcome, StepRecord, Trigger};
use failover::ids::{DrillId, TransitionId, VoterId};

use super::*;

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

fn utc(text: &str) -> i64 {
    text.parse::<jiff::Timestamp>().expect("a moment").as_millisecond()
}

fn file(run: &str, measured: &[(i64, i64)], down: &[(i64, i64)]) -> Measured {
    Measured {
        run: run.into(),
        service: "clinic".into(),
        through: "clinic.db.example.".into(),
        every_ms: 1_000,
        measured: measured.to_vec().into(),
        down: down.to_vec().into(),
        ..Measured::default()
    }
}

fn record(id: u64, trigger: Trigger, drill: Option<u64>, (from, to): (i64, i64)) -> Record {
    let step = |at| StepRecord {
        name: "started".into(),
        at: Timestamp(at),
        voter: VoterId(1),
        monotonic_us: 0,
        note: String::new(),
    };
    Record {
        authority: None,
        given_up: None,
        id: TransitionId(id),
        service: "clinic".parse().expect("a name"),
        trigger,
        by: "baton".into(),
        cause: "arezzo silent".into(),
        plan: None,
        drill: drill.map(DrillId),
        readiness: None,
        from: None,
        to: None,
        epoch: Epoch(1),
        steps: vec![step(from), step(to)],
        examined: Vec::new(),
        outcome: Outcome::Done,
    }
}

fn told(sla: &Sla, now: &str, files: &[Measured], records: &[Record]) -> Availability {
    let service = "clinic".parse().expect("a name");
    let now = Timestamp(utc(now));
    availability(Question { service: &service, sla, year: 2026, now }, files, records)
        .expect("Rome is known")
}

fn year(told: &Availability) -> &Figures {
    told.year.as_ref().expect("the whole year was asked for")
}

fn month<'a>(told: &'a Availability, name: &str) -> &'a Figures {
    told.months.iter().find(|month| month.period == name).expect("it was measured")
}

/// November 2026 in Rome has 25 working days of 14 hours: 350 hours, 10.5 minutes at 99.95 %.
#[test]
fn a_month_has_its_hours_and_its_budget() {
    let all = (utc("2026-10-31T23:00:00Z"), utc("2026-11-30T23:00:00Z"));
    let from = utc("2026-11-10T10:00:00Z");
    let down = |length: i64| file("a", &[all], &[(from, from + length)]);
    let kept = told(&Sla::default(), "2026-12-01T00:00:00Z", &[down(10 * MINUTE)], &[]);
    let november = month(&kept, "2026-11");
    assert_eq!((november.service_ms, november.measured_ms), (350 * HOUR, 350 * HOUR));
    assert_eq!((november.budget_ms, november.left_ms), (630_000, 30_000));
    assert_eq!((november.over, november.kept), (true, Some(true)));
    assert_eq!(november.coverage_percent, Some(100.0));
    assert_eq!(november.availability_percent, Some(99.952_38));
    assert_eq!(kept.months.len(), 1 + 1, "December has begun");
    let missed = told(&Sla::default(), "2026-12-01T00:00:00Z", &[down(630_001)], &[]);
    assert_eq!(month(&missed, "2026-11").kept, Some(false));
    assert_eq!(month(&missed, "2026-11").left_ms, -1);
    assert!(month(&missed, "2026-11").availability_percent.expect("measured") < 99.95);
    let just = told(&Sla::default(), "2026-12-01T00:00:00Z", &[down(630_000)], &[]);
    assert_eq!(month(&just, "2026-11").kept, Some(true));
    assert_eq!(month(&just, "2026-11").availability_percent, Some(99.95));
}

#[test]
fn what_is_across_closing_time_counts_up_to_it_and_a_holiday_not_at_all() {
    let all = (utc("2026-11-01T00:00:00Z"), utc("2026-11-30T00:00:00Z"));
    // Closing time in Rome is 20:00 UTC; opening 06:00.
    let across = (utc("2026-11-10T19:58:00Z"), utc("2026-11-10T20:07:00Z"));
    let night = (utc("2026-11-12T01:00:00Z"), utc("2026-11-12T02:00:00Z"));
    let feast = (utc("2026-11-16T10:00:00Z"), utc("2026-11-16T12:00:00Z"));
    let holidays = vec!["2026-11-16".parse().expect("a day")];
    let sla = Sla { holidays, ..Sla::default() };
    let told =
        told(&sla, "2026-11-30T00:00:00Z", &[file("a", &[all], &[across, night, feast])], &[]);
    assert_eq!(month(&told, "2026-11").down_ms, 2 * MINUTE);
    let counted: Vec<(i64, i64)> =
        told.interruptions.iter().map(|one| (one.length_ms, one.counted_ms)).collect();
    assert_eq!(counted, [(9 * MINUTE, 2 * MINUTE), (HOUR, 0), (2 * HOUR, 0)]);
}

/// Neither up nor down, and no budget is earned by it.
#[test]
fn what_was_not_measured_is_told_as_coverage() {
    let from = utc("2026-11-10T06:00:00Z");
    let day = file("a", &[(from, from + 14 * HOUR)], &[(from, from + 21 * MINUTE / 50)]);
    let told = told(&Sla::default(), "2026-12-01T00:00:00Z", &[day], &[]);
    let november = month(&told, "2026-11");
    assert_eq!((november.measured_ms, november.coverage_percent), (14 * HOUR, Some(4.0)));
    assert_eq!((november.budget_ms, november.left_ms), (25_200, 0));
    assert_eq!((november.availability_percent, november.kept), (Some(99.95), Some(true)));
    assert!(told.warnings.iter().any(|said| said.starts_with("2026-11: only 4.00 %")), "{told:?}");
}

#[test]
fn nothing_measured_is_neither_kept_nor_missed() {
    for files in [vec![], vec![Measured { service: "other".into(), ..file("a", &[(0, 1)], &[]) }]] {
        let told = told(&Sla::default(), "2026-12-01T00:00:00Z", &files, &[]);
        assert_eq!((year(&told).kept, year(&told).availability_percent), (None, None));
        assert!(told.months.is_empty() && told.writers.is_empty());
        assert!(told.warnings[0].contains("nothing was measured"), "{:?}", told.warnings);
    }
}

/// In the middle of a month the time to come earns budget, and nothing beyond now is service time.
#[test]
fn a_month_that_is_not_over_is_counted_up_to_now() {
    let all = (utc("2026-10-31T23:00:00Z"), utc("2026-11-30T23:00:00Z"));
    let from = utc("2026-11-02T08:00:00Z");
    let files = [file("a", &[all], &[(from, from + 5 * MINUTE)])];
    let told = told(&Sla::default(), "2026-11-03T06:00:00Z", &files, &[]);
    let november = month(&told, "2026-11");
    assert_eq!((november.over, november.service_ms), (false, 14 * HOUR));
    assert_eq!((november.left_ms, november.kept), (630_000 - 5 * MINUTE, Some(true)));
    assert!(november.availability_percent.expect("measured") < 99.95, "of the time so far");
}

/// Down only if none of the writers that ran was answered.
#[test]
fn one_writer_that_is_cut_off_is_told_apart() {
    let at = |minutes: i64| utc("2026-11-10T10:00:00Z") + minutes * MINUTE;
    let a = file("a", &[(at(0), at(60))], &[(at(10), at(20)), (at(50), at(60))]);
    let b = file("b", &[(at(0), at(40))], &[(at(15), at(25))]);
    let told = told(&Sla::default(), "2026-11-30T00:00:00Z", &[a, b], &[]);
    let spans = |all: &[Interruption]| -> Vec<(i64, i64, usize, usize)> {
        let minutes = |moment: Timestamp| (moment.0 - at(0)) / MINUTE;
        let told = all.iter().map(|one| (minutes(one.from), minutes(one.to), one.seen_by, one.of));
        told.collect()
    };
    assert_eq!(spans(&told.interruptions), [(15, 20, 2, 2), (50, 60, 1, 1)]);
    assert_eq!(spans(&told.partial), [(10, 15, 1, 2), (20, 25, 1, 2)]);
    assert_eq!(month(&told, "2026-11").down_ms, 15 * MINUTE);
    assert_eq!(told.writers.len(), 2);
    // Two that notice the same within a period of theirs do not disagree.
    let a = file("a", &[(at(0), at(60))], &[(at(10), at(20))]);
    let b = file("b", &[(at(0), at(60))], &[(at(10) + 900, at(20) - 900)]);
    let told = super::tests::told(&Sla::default(), "2026-11-30T00:00:00Z", &[a, b], &[]);
    assert_eq!((told.interruptions.len(), told.partial.len()), (1, 0));
}

#[test]
fn each_interruption_has_its_cause() {
    let at = |minutes: i64| utc("2026-11-10T10:00:00Z") + minutes * MINUTE;
    let span = |minute: i64| (at(minute), at(minute) + 9_000);
    let spans: Vec<(i64, i64)> = [0, 10, 20, 30, 40].map(span).to_vec();
    let within = |minute: i64| (at(minute) + 3_000, at(minute) + 9_200);
    let records = [
        record(4, Trigger::PrimaryLost, None, within(0)),
        record(5, Trigger::Switchover, None, within(10)),
        record(6, Trigger::Switchover, Some(2), within(20)),
        record(7, Trigger::Failover, None, within(30)),
        Record {
            service: "other".parse().expect("a name"),
            ..record(8, Trigger::PrimaryLost, None, within(40))
        },
    ];
    let told = told(
        &Sla::default(),
        "2026-11-30T00:00:00Z",
        &[file("a", &[(at(0), at(60))], &spans)],
        &records,
    );
    let causes: Vec<(CauseKind, Option<u64>)> = told
        .interruptions
        .iter()
        .map(|one| (one.cause.kind, one.cause.transition.map(|id| id.0)))
        .collect();
    assert_eq!(
        causes,
        [
            (CauseKind::Failover, Some(4)),
            (CauseKind::Switchover, Some(5)),
            (CauseKind::Drill, Some(6)),
            (CauseKind::OperatorFailover, Some(7)),
            (CauseKind::Unknown, None),
        ]
    );
    assert_eq!(year(&told).planned_ms, 18_000);
    assert_eq!(told.interruptions[0].cause.text, "transition 4: primary lost: arezzo silent");
    assert_eq!(told.interruptions[4].cause.text, "unknown: no transition near");
    let json = serde_json::to_value(&told).expect("JSON");
    assert_eq!(serde_json::from_value::<Availability>(json).expect("the same"), told);
}

/// The last Sunday of March and October have 23 and 25 hours; months and the year agree.
#[test]
fn months_add_up_to_their_year() {
    let hours = vec!["mon-sun 00:00-24:00".parse().expect("hours")];
    let sla = Sla { hours, ..Sla::default() };
    let all = (utc("2025-12-01T00:00:00Z"), utc("2027-02-01T00:00:00Z"));
    let night = |day: &str| (utc(&format!("{day}T00:30:00Z")), utc(&format!("{day}T01:30:00Z")));
    let down = [night("2026-03-29"), night("2026-10-25"), night("2026-07-01")];
    let told = told(&sla, "2027-01-05T00:00:00Z", &[file("a", &[all], &down)], &[]);
    assert_eq!(told.months.len(), 12);
    assert_eq!(month(&told, "2026-03").service_ms, (31 * 24 - 1) * HOUR);
    assert_eq!(month(&told, "2026-10").service_ms, (31 * 24 + 1) * HOUR);
    let sum = |of: fn(&Figures) -> i64| told.months.iter().map(of).sum::<i64>();
    assert_eq!(sum(|month| month.service_ms), year(&told).service_ms);
    assert_eq!(sum(|month| month.down_ms), year(&told).down_ms);
    assert_eq!((year(&told).service_ms, year(&told).down_ms), (365 * 24 * HOUR, 3 * HOUR));
    assert_eq!(year(&told).coverage_percent, Some(100.0));
}

#[test]
fn one_month_can_be_asked_for() {
    let all = (utc("2026-09-30T22:00:00Z"), utc("2026-11-30T23:00:00Z"));
    let long = |day: &str| {
        let from = utc(&format!("{day}T10:00:00Z"));
        (from, from + HOUR)
    };
    let files = [file("a", &[all], &[long("2026-10-05"), long("2026-11-10")])];
    let whole = || told(&Sla::default(), "2026-12-01T00:00:00Z", &files, &[]);
    assert_eq!(whole().kept(), Some(false));
    let mut november = whole();
    november.only("2026-11").expect("a month");
    assert_eq!((november.months.len(), november.interruptions.len()), (1, 1));
    assert_eq!((november.kept(), november.warnings.len()), (Some(false), 0));
    let mut march = whole();
    march.only("2026-03").expect("a month");
    assert_eq!((march.kept(), march.months.len()), (None, 0));
}

#[test]
fn whoever_shows_no_certificate_is_told_no_reason() {
    let sla = Sla::default();
    let (from, to) = (utc("2026-11-02T09:00:00Z"), utc("2026-11-02T09:00:20Z"));
    let files = [file("a", &[(from - HOUR, to + HOUR)], &[(from, to)])];
    let records = [record(7, Trigger::Failover, None, (from, to))];
    let found = told(&sla, "2026-11-02T12:00:00Z", &files, &records);
    let whole = told::Told { services: vec![told::Promised::of(&found)], problem: None };
    let [clinic] = &whole.services[..] else { panic!("one: {whole:?}") };
    assert_eq!(
        clinic.interruptions[0].cause,
        "transition 7: failover, by an operator: arezzo silent"
    );
    let rows: Vec<&str> = clinic.rows.iter().map(|row| row.period.as_str()).collect();
    assert_eq!(rows, ["2026-11", "2026"]);
    let hidden = whole.for_anyone();
    let cause = &hidden.services[0].interruptions[0].cause;
    assert_eq!(cause, "transition 7: failover, by an operator");
}
