//! The calendar's words: hours, days and when something is held, as people write them.

use alloc::format;
use alloc::string::{String, ToString};
use core::fmt;
use core::str::FromStr;
use serde::{Deserialize, Serialize};

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weekday {
    /// Monday.
    Mon,
    /// Tuesday.
    Tue,
    /// Wednesday.
    Wed,
    /// Thursday.
    Thu,
    /// Friday.
    Fri,
    /// Saturday.
    Sat,
    /// Sunday.
    Sun,
}

/// All days, Monday first.
pub const WEEK: [Weekday; 7] = [
    Weekday::Mon,
    Weekday::Tue,
    Weekday::Wed,
    Weekday::Thu,
    Weekday::Fri,
    Weekday::Sat,
    Weekday::Sun,
];

impl Weekday {
    const fn name(self) -> &'static str {
        match self {
            Self::Mon => "mon",
            Self::Tue => "tue",
            Self::Wed => "wed",
            Self::Thu => "thu",
            Self::Fri => "fri",
            Self::Sat => "sat",
            Self::Sun => "sun",
        }
    }

    fn read(text: &str) -> Option<Self> {
        WEEK.into_iter().find(|day| day.name() == text)
    }
}

/// A time of day: minutes after midnight, 0 to 1440.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Minute(pub u16);

impl Minute {
    fn read(text: &str) -> Option<Self> {
        let (hour, minute) = text.split_once(':')?;
        let number = |part: &str| {
            let plain = part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
            plain.then(|| part.parse::<u16>().ok()).flatten()
        };
        let (hour, minute) = (number(hour)?, number(minute).filter(|minute| *minute < 60)?);
        Some(Self(hour * 60 + minute)).filter(|at| at.0 <= 24 * 60)
    }
}

impl fmt::Display for Minute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

/// A text of the calendar that cannot be read: what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CalendarError(pub String);

impl fmt::Display for CalendarError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for CalendarError {}

fn unlike(text: &str, form: &str) -> CalendarError {
    CalendarError(format!("`{}` is not like {form}", text.escape_debug()))
}

/// Hours of some days of the week: `mon-sat 07:00-21:00`, `sun 09:00-24:00`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hours {
    /// From which day to which, both included; over a Sunday, too.
    pub days: (Weekday, Weekday),
    /// From when.
    pub begin: Minute,
    /// Until when.
    pub end: Minute,
}

impl Hours {
    /// Whether they are of a day.
    #[must_use]
    pub fn are_of(&self, day: Weekday) -> bool {
        let (from, to) = self.days;
        if from <= to { from <= day && day <= to } else { day >= from || day <= to }
    }
}

impl FromStr for Hours {
    type Err = CalendarError;
    fn from_str(text: &str) -> Result<Self, CalendarError> {
        let read = || {
            let (days, times) = text.split_once(' ')?;
            let (from, to) = days.split_once('-').unwrap_or((days, days));
            let (begin, end) = times.split_once('-')?;
            let days = (Weekday::read(from)?, Weekday::read(to)?);
            let (begin, end) = (Minute::read(begin)?, Minute::read(end)?);
            (begin < end).then_some(Self { days, begin, end })
        };
        read().ok_or_else(|| unlike(text, "`mon-sat 07:00-21:00` or `sun 09:00-24:00`"))
    }
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to) = self.days;
        f.write_str(from.name())?;
        if from != to {
            write!(f, "-{}", to.name())?;
        }
        write!(f, " {}-{}", self.begin, self.end)
    }
}

/// Days on which nothing is rehearsed, or nothing is promised: `2026-12-20..2027-01-07`, both
/// included, or one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Blackout {
    /// The first day: year, month, day.
    pub first: (i16, u8, u8),
    /// The last.
    pub last: (i16, u8, u8),
}

impl FromStr for Blackout {
    type Err = CalendarError;
    fn from_str(text: &str) -> Result<Self, CalendarError> {
        let date = |text: &str| {
            let mut parts = text.split('-');
            let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
            let plain = (year.len(), month.len(), day.len()) == (4, 2, 2) && parts.next().is_none();
            let date = (year.parse().ok()?, month.parse().ok()?, day.parse().ok()?);
            let (year, month, day): (i16, u8, u8) = date;
            let there = year > 0 && (1..=12).contains(&month) && (1..=31).contains(&day);
            (plain && there).then_some(date)
        };
        let read = || {
            let (first, last) = text.split_once("..").unwrap_or((text, text));
            let (first, last) = (date(first)?, date(last)?);
            (first <= last).then_some(Self { first, last })
        };
        read().ok_or_else(|| unlike(text, "`2026-12-20..2027-01-07` or `2026-12-24`"))
    }
}

impl fmt::Display for Blackout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.first;
        write!(f, "{year:04}-{month:02}-{day:02}")?;
        if self.first != self.last {
            let (year, month, day) = self.last;
            write!(f, "..{year:04}-{month:02}-{day:02}")?;
        }
        Ok(())
    }
}

/// A share of time in parts per million: `99.95 %`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Objective(pub u32);

impl FromStr for Objective {
    type Err = CalendarError;
    fn from_str(text: &str) -> Result<Self, CalendarError> {
        let read = || {
            let number = text.strip_suffix('%').unwrap_or(text).trim_end();
            let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
            let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            if !digits(whole) || !digits(part) || whole.len() > 3 || part.len() > 4 {
                return None;
            }
            let (whole, part) = (whole.parse::<u32>().ok()?, format!("{part:0<4}").parse().ok()?);
            let parts: u32 = (whole * 10_000).checked_add(part)?;
            (1..=1_000_000).contains(&parts).then_some(Self(parts))
        };
        read().ok_or_else(|| unlike(text, "`99.95 %`: more than 0, at most 100, four decimals"))
    }
}

impl fmt::Display for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0 / 10_000, self.0 % 10_000);
        let part = format!("{part:04}");
        match part.trim_end_matches('0') {
            "" => write!(f, "{whole} %"),
            part => write!(f, "{whole}.{part} %"),
        }
    }
}

/// On which days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Days {
    /// Every day.
    Daily,
    /// Every such day of the week.
    Weekly(Weekday),
    /// The first (1) to fourth (4) such day of the month.
    Nth(u8, Weekday),
    /// The last such day of the month.
    Last(Weekday),
}

/// On which days and when: `first sun 03:00`, `last sun 03:00`, `every wed 02:30`, `daily 04:00`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct When {
    /// On which days.
    pub days: Days,
    /// At what time.
    pub at: Minute,
}

const NTH: [&str; 4] = ["first", "second", "third", "fourth"];

impl FromStr for When {
    type Err = CalendarError;
    fn from_str(text: &str) -> Result<Self, CalendarError> {
        let read = || {
            let (days, at) = text.rsplit_once(' ')?;
            let at = Minute::read(at).filter(|at| at.0 < 24 * 60)?;
            let days = match days.split_once(' ') {
                None => (days == "daily").then_some(Days::Daily)?,
                Some(("every", day)) => Days::Weekly(Weekday::read(day)?),
                Some(("last", day)) => Days::Last(Weekday::read(day)?),
                Some((nth, day)) => {
                    let number = (1..).zip(NTH).find(|(_, name)| *name == nth)?.0;
                    Days::Nth(number, Weekday::read(day)?)
                }
            };
            Some(Self { days, at })
        };
        let form = "`first sun 03:00`, `last sun 03:00`, `every wed 02:30` or `daily 04:00`";
        read().ok_or_else(|| unlike(text, form))
    }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.days {
            Days::Daily => f.write_str("daily")?,
            Days::Weekly(day) => write!(f, "every {}", day.name())?,
            Days::Last(day) => write!(f, "last {}", day.name())?,
            Days::Nth(number, day) => {
                let name = NTH.get(usize::from(number).saturating_sub(1)).unwrap_or(&"");
                write!(f, "{name} {}", day.name())?;
            }
        }
        write!(f, " {}", self.at)
    }
}

macro_rules! as_text {
    ($($name:ident),*) => {$(
        impl TryFrom<String> for $name {
            type Error = CalendarError;
            fn try_from(text: String) -> Result<Self, CalendarError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }
    )*};
}
as_text!(Hours, Blackout, Objective, When);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_what_is_written() {
        for text in ["mon-sat 07:00-21:00", "sun 09:00-24:00", "sat-mon 00:00-06:30"] {
            assert_eq!(text.parse::<Hours>().map(|read| read.to_string()), Ok(text.into()));
        }
        for text in ["2026-12-20..2027-01-07", "2026-12-24"] {
            assert_eq!(text.parse::<Blackout>().map(|read| read.to_string()), Ok(text.into()));
        }
        for text in ["99.95 %", "100 %", "0.0001 %", "99.9 %"] {
            assert_eq!(text.parse::<Objective>().map(|read| read.to_string()), Ok(text.into()));
        }
        assert_eq!("99.95".parse(), Ok(Objective(999_500)));
        for text in ["first sun 03:00", "last sat 23:59", "every wed 02:30", "daily 04:00"] {
            assert_eq!(text.parse::<When>().map(|read| read.to_string()), Ok(text.into()));
        }
    }

    #[test]
    fn what_cannot_be_read_says_what_would_be_right() {
        for text in ["mon-sat", "mon 21:00-07:00", "mon 7:00-9:00", "mon 07:00-24:01", "moon 1:00"]
        {
            assert!(text.parse::<Hours>().unwrap_err().0.contains("mon-sat 07:00-21:00"), "{text}");
        }
        for text in ["2026-13-01", "2027-01-07..2026-12-20", "26-01-01", "2026-01-01-01", ""] {
            assert!(text.parse::<Blackout>().unwrap_err().0.contains("2026-12-20"), "{text}");
        }
        for text in ["0 %", "100.1", "99,95", "99.95001", "%", "-1", "1e2", "9999999999 %"] {
            assert!(text.parse::<Objective>().unwrap_err().0.contains("99.95 %"), "{text}");
        }
        for text in ["fifth sun 03:00", "sun 03:00", "daily 24:00", "first 03:00", "weekly 1:00"] {
            assert!(text.parse::<When>().unwrap_err().0.contains("daily 04:00"), "{text}");
        }
    }

    #[test]
    fn hours_may_go_over_a_sunday() {
        let hours: Hours = "sat-mon 00:00-06:30".parse().unwrap();
        let of: alloc::vec::Vec<Weekday> =
            WEEK.into_iter().filter(|day| hours.are_of(*day)).collect();
        assert_eq!(of, [Weekday::Mon, Weekday::Sat, Weekday::Sun]);
    }
}
