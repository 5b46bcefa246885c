//! Durations as people write them: `500ms`, `2s`, `10m`, `1h`.
//!
//! For `#[serde(with = "wire::config::duration")]`; [`Text`] for where `with` does not reach.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Reads `500ms`, `2s`, `10m` or `1h`.
///
/// # Errors
/// A sentence that names the units.
pub fn parse(text: &str) -> Result<Duration, String> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(unit_at);
    let millis_each = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(explain(text)),
    };
    let number: u64 = digits.parse().map_err(|_| explain(text))?;
    number.checked_mul(millis_each).map(Duration::from_millis).ok_or_else(|| explain(text))
}

fn explain(text: &str) -> String {
    format!(
        "`{}` is not a duration: write a whole number and its unit (ms, s, m or h), as in \
         \"500ms\", \"2s\", \"10m\" or \"1h\"",
        text.escape_debug()
    )
}

/// As text, in the largest unit that keeps it whole; parts of a millisecond are dropped.
pub fn format(duration: Duration) -> String {
    match duration.as_millis() {
        0 => "0s".into(),
        millis if millis % 3_600_000 == 0 => format!("{}h", millis / 3_600_000),
        millis if millis % 60_000 == 0 => format!("{}m", millis / 60_000),
        millis if millis % 1_000 == 0 => format!("{}s", millis / 1_000),
        millis => format!("{millis}ms"),
    }
}

/// Writes what [`format()`] gives.
///
/// # Errors
/// Those of the serializer.
pub fn serialize<S: Serializer>(duration: &Duration, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(&format(*duration))
}

/// Reads what [`parse`] takes. A bare number is refused with the units to choose from.
///
/// # Errors
/// Those of the deserializer and of [`parse`].
pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
    struct Reader;
    impl serde::de::Visitor<'_> for Reader {
        type Value = Duration;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a duration as text with its unit (ms, s, m or h), as in \"500ms\"")
        }
        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Duration, E> {
            parse(text).map_err(E::custom)
        }
    }
    d.deserialize_str(Reader)
}

/// A duration in configuration, for `Option<Text>` and lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Text(#[serde(with = "crate::config::duration")] pub Duration);

impl From<Text> for Duration {
    fn from(text: Text) -> Self {
        text.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_read_and_written() {
        for (text, millis) in [("500ms", 500), ("2s", 2_000), ("10m", 600_000), ("1h", 3_600_000)] {
            let duration = Duration::from_millis(millis);
            assert_eq!(parse(text), Ok(duration));
            assert_eq!(format(duration), text);
        }
        assert_eq!(format(Duration::from_millis(1_500)), "1500ms");
    }

    #[test]
    fn other_text_is_refused_with_the_units() {
        for text in ["", "5", "s", "-1s", "1.5s", "2 s", "3d", "99999999999999999h", "1hour"] {
            let error = parse(text).expect_err(text);
            assert!(error.contains("ms, s, m or h"), "{error}");
        }
    }
}
