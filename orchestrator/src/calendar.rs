//! What the calendars say of a moment: people's clocks, worked out where they are known.
//!
//! The law knows no time zones. Whoever leads asks here, and tells the law what it heard.

mod hours;

use std::time::Duration;

use failover::Timestamp;
use failover::calendar::{Blackout, Calendar, Days, Minute, WEEK, Weekday, When};
use jiff::civil::Date;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{ToSpan as _, Zoned};

pub use hours::{Period, promised, year, year_of};

/// An occasion is looked for in so many days: the longest way from one first Sunday to the next.
const DAYS: i64 = 70;
/// A drill that ends later than planned still ends before protected hours begin.
const MARGIN: Duration = Duration::from_mins(15);

fn zone(time_zone: &str) -> Result<TimeZone, String> {
    let unknown = |_| format!("the time zone `{time_zone}` of the calendar is not known");
    TimeZoneDatabase::bundled().get(time_zone).map_err(unknown)
}

/// Whether a time zone is known.
#[must_use]
pub fn knows(time_zone: &str) -> bool {
    TimeZoneDatabase::bundled().get(time_zone).is_ok()
}

fn local(time_zone: &str, wall: Timestamp) -> Result<Zoned, String> {
    let at = jiff::Timestamp::from_millisecond(wall.0)
        .map_err(|error| format!("the clock shows no time: {error}"))?;
    Ok(at.to_zoned(zone(time_zone)?))
}

fn weekday(date: Date) -> Weekday {
    WEEK[usize::try_from(date.weekday().to_monday_zero_offset()).unwrap_or(0) % 7]
}

/// A minute of a day; where clocks are put forward over it, the moment after.
fn at(date: Date, Minute(minute): Minute, zone: &TimeZone) -> Option<Zoned> {
    let (date, minute) =
        if minute >= 24 * 60 { (date.tomorrow().ok()?, 0) } else { (date, minute) };
    let (hour, minute) = (i8::try_from(minute / 60).ok()?, i8::try_from(minute % 60).ok()?);
    date.at(hour, minute, 0, 0).to_zoned(zone.clone()).ok()
}

/// Why nothing that clients may notice is rehearsed from `wall` on, for `dwell` and what it takes
/// to return; `None`: nothing speaks against it. A calendar that cannot be read speaks against all.
#[must_use]
pub fn closed(calendar: &Calendar, wall: Timestamp, dwell: Duration) -> Option<String> {
    let begins = match local(&calendar.time_zone, wall) {
        Ok(begins) => begins,
        Err(error) => return Some(error),
    };
    let Ok(ends) = begins.checked_add(dwell.saturating_add(MARGIN)) else {
        return Some("the clock shows no time".into());
    };
    let zone = begins.time_zone();
    let mut date = begins.date();
    while date <= ends.date() {
        let midnight = (Minute(0), Minute(24 * 60));
        let out = calendar.blackouts.iter().find(|blackout| is_in(date, **blackout));
        let hours = calendar.protected.iter().filter(|hours| hours.are_of(weekday(date)));
        let hours = hours.map(|hours| ((hours.begin, hours.end), format!("protected: {hours}")));
        let out = out.map(|blackout| (midnight, format!("a blackout: {blackout}")));
        for ((from, to), name) in out.into_iter().chain(hours) {
            let (Some(from), Some(to)) = (at(date, from, zone), at(date, to, zone)) else {
                return Some(format!("{name} {} has no such time", calendar.time_zone));
            };
            if from < ends && begins < to {
                let until = to.strftime("%Y-%m-%d %H:%M");
                let from = from.strftime("%Y-%m-%d %H:%M");
                return Some(format!("{name} {}, {from} to {until}", calendar.time_zone));
            }
        }
        date = date.tomorrow().ok()?;
    }
    None
}

fn is_in(date: Date, blackout: Blackout) -> bool {
    let date = (date.year(), date.month().unsigned_abs(), date.day().unsigned_abs());
    (blackout.first..=blackout.last).contains(&date)
}

fn is_of(date: Date, days: Days) -> bool {
    match days {
        Days::Daily => true,
        Days::Weekly(day) => weekday(date) == day,
        Days::Nth(number, day) => {
            weekday(date) == day && (date.day() - 1) / 7 + 1 == i8::try_from(number).unwrap_or(0)
        }
        Days::Last(day) => weekday(date) == day && date.day() + 7 > date.days_in_month(),
    }
}

/// The newest occasion at or before `wall`, and the first one after it.
///
/// # Errors
/// When the time zone is not known, or the clock shows no time.
pub fn around(
    calendar: &Calendar,
    when: When,
    wall: Timestamp,
) -> Result<(Option<Timestamp>, Option<Timestamp>), String> {
    let now = local(&calendar.time_zone, wall)?;
    let zone = now.time_zone();
    let (mut before, mut after) = (None, None);
    for offset in -DAYS..=DAYS {
        let Ok(date) = now.date().checked_add(offset.days()) else { continue };
        let due = is_of(date, when.days).then(|| at(date, when.at, zone)).flatten();
        match due {
            Some(due) if due <= now => before = Some(due),
            Some(due) if after.is_none() => after = Some(due),
            Some(_) | None => {}
        }
    }
    Ok((before.map(|at| stamp(&at)), after.map(|at| stamp(&at))))
}

fn stamp(at: &Zoned) -> Timestamp {
    Timestamp(at.timestamp().as_millisecond())
}

/// A moment as the calendar's clocks show it.
#[must_use]
pub fn shown(calendar: &Calendar, at: Timestamp) -> String {
    local(&calendar.time_zone, at).map_or_else(
        |_| at.0.to_string(),
        |time| format!("{} {}", time.strftime("%a %Y-%m-%d %H:%M"), calendar.time_zone),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utc(text: &str) -> Timestamp {
        let at: jiff::Timestamp = text.parse().expect("a moment");
        Timestamp(at.as_millisecond())
    }

    fn is_closed(calendar: &Calendar, text: &str, minutes: u64) -> bool {
        closed(calendar, utc(text), Duration::from_mins(minutes)).is_some()
    }

    /// Monday to Saturday, 07 to 21 in Rome, which is another hour of the world in summer.
    #[test]
    fn the_hours_of_people_are_protected_in_winter_and_summer() {
        let calendar = Calendar::default();
        // A Friday in winter: Rome is an hour ahead.
        for (text, expected) in [
            ("2026-11-20T05:30:00Z", false),
            ("2026-11-20T06:00:00Z", true),
            ("2026-11-20T19:59:00Z", true),
            ("2026-11-20T20:00:00Z", false),
            // A Friday in summer: two hours.
            ("2026-07-17T04:40:00Z", false),
            ("2026-07-17T05:00:00Z", true),
            ("2026-07-17T18:59:00Z", true),
            ("2026-07-17T19:00:00Z", false),
            // Sunday.
            ("2026-11-22T11:00:00Z", false),
        ] {
            assert_eq!(is_closed(&calendar, text, 1), expected, "{text}");
        }
    }

    /// What would run into them does not begin.
    #[test]
    fn a_drill_ends_before_protected_hours_begin() {
        let calendar = Calendar::default();
        assert!(!is_closed(&calendar, "2026-11-20T05:30:00Z", 15));
        assert!(is_closed(&calendar, "2026-11-20T05:30:00Z", 20));
        assert!(is_closed(&calendar, "2026-11-22T11:00:00Z", 24 * 60), "until Monday");
    }

    #[test]
    fn nothing_is_held_in_a_blackout() {
        let blackouts = vec!["2026-12-20..2027-01-07".parse().expect("days")];
        let calendar = Calendar { blackouts, protected: Vec::new(), ..Calendar::default() };
        assert!(!is_closed(&calendar, "2026-12-19T22:00:00Z", 1));
        assert!(is_closed(&calendar, "2026-12-19T23:00:00Z", 1), "midnight in Rome");
        assert!(is_closed(&calendar, "2027-01-07T22:59:00Z", 1));
        assert!(!is_closed(&calendar, "2027-01-07T23:00:00Z", 1));
    }

    #[test]
    fn a_calendar_that_cannot_be_read_forbids_everything() {
        let time_zone = "Europe/Nowhere".to_owned();
        let calendar = Calendar { time_zone, protected: Vec::new(), ..Calendar::default() };
        assert!(is_closed(&calendar, "2026-11-22T11:00:00Z", 1));
        let when = "daily 04:00".parse().expect("a time");
        assert!(around(&calendar, when, utc("2026-11-22T11:00:00Z")).is_err());
        assert!(knows("Europe/Rome") && !knows("Europe/Nowhere"));
    }

    fn held(when: &str, now: &str) -> (String, String) {
        let when = when.parse().expect("a time");
        let found = around(&Calendar::default(), when, utc(now)).expect("Rome is known");
        let text = |at: Option<Timestamp>| {
            let at = jiff::Timestamp::from_millisecond(at.expect("there is one").0);
            at.expect("a moment").to_string()
        };
        (text(found.0), text(found.1))
    }

    #[test]
    fn occasions_are_found_in_peoples_clocks() {
        let of = |before: &str, after: &str| (before.to_owned(), after.to_owned());
        assert_eq!(
            held("first sun 03:00", "2026-11-22T12:00:00Z"),
            of("2026-11-01T02:00:00Z", "2026-12-06T02:00:00Z")
        );
        assert_eq!(
            held("last sun 03:00", "2026-11-22T12:00:00Z"),
            of("2026-10-25T02:00:00Z", "2026-11-29T02:00:00Z")
        );
        assert_eq!(
            held("daily 04:00", "2026-11-22T03:00:00Z"),
            of("2026-11-22T03:00:00Z", "2026-11-23T03:00:00Z")
        );
        // Clocks are put forward over it: half past two is half past three.
        assert_eq!(
            held("last sun 02:30", "2026-03-29T12:00:00Z"),
            of("2026-03-29T01:30:00Z", "2026-04-26T00:30:00Z")
        );
        // It is there twice: the first time.
        assert_eq!(
            held("last sun 02:30", "2026-10-25T12:00:00Z"),
            of("2026-10-25T00:30:00Z", "2026-11-29T01:30:00Z")
        );
    }
}
