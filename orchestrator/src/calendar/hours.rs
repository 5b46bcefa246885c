//! When a service is promised to be there, as spans of time; months and years of people's clocks.

use failover::Timestamp;
use failover::calendar::Sla;
use jiff::civil::Date;

use super::{at, is_in, local, stamp, weekday, zone};
use crate::sla::Spans;

/// A month or a year, as a clock on the wall has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Period {
    /// `2026-11`, `2026`.
    pub name: String,
    /// When it begins.
    pub from: Timestamp,
    /// When it is over.
    pub to: Timestamp,
}

/// The hours in which a service is promised, from one moment to another. Where clocks are put
/// forward or back, a day has an hour less or more.
///
/// # Errors
/// When the time zone is not known, or a moment is none.
pub fn promised(sla: &Sla, from: Timestamp, to: Timestamp) -> Result<Spans, String> {
    let zone = zone(&sla.time_zone)?;
    let last = local(&sla.time_zone, to)?.date();
    let mut date = local(&sla.time_zone, from)?.date();
    let mut open = Vec::new();
    while date <= last {
        if !sla.holidays.iter().any(|holiday| is_in(date, *holiday)) {
            for hours in sla.hours.iter().filter(|hours| hours.are_of(weekday(date))) {
                let (begin, end) = (at(date, hours.begin, &zone), at(date, hours.end, &zone));
                let (Some(begin), Some(end)) = (begin, end) else {
                    return Err(format!("{hours} {} on {date}: no such time", sla.time_zone));
                };
                open.push((stamp(&begin).0, stamp(&end).0));
            }
        }
        date = date.tomorrow().map_err(|error| error.to_string())?;
    }
    Ok(open.into_iter().collect::<Spans>().and(&Spans::from((from.0, to.0))))
}

/// In which year a moment is.
///
/// # Errors
/// When the time zone is not known, or the moment is none.
pub fn year_of(time_zone: &str, at: Timestamp) -> Result<i16, String> {
    Ok(local(time_zone, at)?.year())
}

/// A year, and its months.
///
/// # Errors
/// When the time zone is not known, or there is no such year.
pub fn year(time_zone: &str, year: i16) -> Result<(Period, Vec<Period>), String> {
    let zone = zone(time_zone)?;
    let midnight = |year: i16, month: i8| {
        let date = Date::new(year, month, 1).map_err(|error| error.to_string())?;
        at(date, failover::calendar::Minute(0), &zone)
            .map(|at| stamp(&at))
            .ok_or_else(|| format!("{date} has no midnight in {time_zone}"))
    };
    let after = |month: i8| match month {
        12 => midnight(year.saturating_add(1), 1),
        month => midnight(year, month + 1),
    };
    let mut months = Vec::new();
    for month in 1..=12 {
        let name = format!("{year:04}-{month:02}");
        months.push(Period { name, from: midnight(year, month)?, to: after(month)? });
    }
    let whole = Period { name: format!("{year:04}"), from: midnight(year, 1)?, to: after(12)? };
    Ok((whole, months))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utc(text: &str) -> Timestamp {
        let at: jiff::Timestamp = text.parse().expect("a moment");
        Timestamp(at.as_millisecond())
    }

    fn hours(sla: &Sla, from: &str, to: &str) -> i64 {
        let open = promised(sla, utc(from), utc(to)).expect("Rome is known");
        assert_eq!(open.total() % 3_600_000, 0);
        open.total() / 3_600_000
    }

    fn always() -> Sla {
        Sla { hours: vec!["mon-sun 00:00-24:00".parse().expect("hours")], ..Sla::default() }
    }

    #[test]
    fn the_usual_hours_are_those_of_a_week_of_people() {
        let usual = Sla::default();
        assert_eq!(hours(&usual, "2026-11-15T23:00:00Z", "2026-11-22T23:00:00Z"), 6 * 14);
        assert_eq!(hours(&usual, "2026-11-22T00:00:00Z", "2026-11-22T22:00:00Z"), 0, "a Sunday");
        // In winter Rome is an hour ahead, in summer two.
        assert_eq!(hours(&usual, "2026-11-20T06:00:00Z", "2026-11-20T20:00:00Z"), 14);
        assert_eq!(hours(&usual, "2026-07-17T05:00:00Z", "2026-07-17T19:00:00Z"), 14);
        assert_eq!(hours(&usual, "2026-11-20T00:00:00Z", "2026-11-20T07:00:00Z"), 1);
    }

    #[test]
    fn days_on_which_clocks_are_put_forward_or_back_are_shorter_or_longer() {
        assert_eq!(hours(&always(), "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"), 23);
        assert_eq!(hours(&always(), "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"), 25);
        // Half past two is there twice; it is the first that counts, for opening and closing.
        let night = |text: &str| Sla { hours: vec![text.parse().expect("hours")], ..always() };
        assert_eq!(
            hours(&night("sun 02:30-03:30"), "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"),
            2
        );
        // Half past two is not there: it is half past three.
        assert_eq!(
            hours(&night("sun 02:30-04:30"), "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"),
            1
        );
    }

    #[test]
    fn nothing_is_promised_on_a_holiday() {
        let holidays = vec!["2026-12-25..2026-12-26".parse().expect("days")];
        let sla = Sla { holidays, ..always() };
        assert_eq!(hours(&sla, "2026-12-24T23:00:00Z", "2026-12-27T23:00:00Z"), 24);
        assert_eq!(hours(&sla, "2026-12-24T22:00:00Z", "2026-12-25T12:00:00Z"), 1);
    }

    #[test]
    fn a_year_is_its_months_whatever_clocks_do() {
        for zone in ["Europe/Rome", "Pacific/Apia", "America/St_Johns", "UTC"] {
            let (whole, months) = year(zone, 2026).expect("known");
            assert_eq!(months.len(), 12);
            assert_eq!((whole.from, whole.to), (months[0].from, months[11].to));
            assert!(months.windows(2).all(|pair| pair[0].to == pair[1].from), "{zone}");
            let sla = Sla { time_zone: zone.into(), ..always() };
            let each = months
                .iter()
                .map(|month| promised(&sla, month.from, month.to).expect("known").total());
            assert_eq!(each.sum::<i64>(), whole.to.0 - whole.from.0, "{zone}");
        }
        let (_, months) = year("Europe/Rome", 2026).expect("known");
        assert_eq!(months[10].from, utc("2026-10-31T23:00:00Z"));
        assert!(year("Europe/Nowhere", 2026).is_err());
    }

    #[test]
    fn overlapping_hours_count_once() {
        let both = ["mon-fri 08:00-12:00", "mon-sun 10:00-14:00"];
        let read = |text: &&str| text.parse().expect("hours");
        let sla = Sla { hours: both.iter().map(read).collect(), ..Sla::default() };
        assert_eq!(hours(&sla, "2026-11-15T23:00:00Z", "2026-11-22T23:00:00Z"), 5 * 6 + 2 * 4);
    }
}
