//! Everything that has a time, on one clock.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use failover::Timestamp;
use serde::Serialize;

use crate::screen::time;

/// By how many milliseconds whose clock is ahead of the reference.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Clocks {
    /// Whose clock times are told by.
    pub reference: String,
    /// Of each that answered, by name.
    pub ahead_ms: BTreeMap<String, i64>,
}

impl Clocks {
    /// A time of somebody's clock on the reference, and whether that is known.
    fn corrected(&self, who: &str, at: Timestamp) -> (Timestamp, bool) {
        match self.ahead_ms.get(who) {
            Some(ahead) => (Timestamp(at.0.saturating_sub(*ahead)), true),
            None => (at, who == self.reference),
        }
    }
}

/// Lines from everywhere.
#[derive(Default)]
pub struct Timeline(Vec<Entry>);

struct Entry {
    at: Timestamp,
    is_corrected: bool,
    who: String,
    text: String,
}

impl Timeline {
    /// Adds a line, with the time of the clock of `who`.
    pub fn add(&mut self, clocks: &Clocks, who: &str, at: Timestamp, text: String) {
        let (at, is_corrected) = clocks.corrected(who, at);
        self.0.push(Entry { at, is_corrected, who: who.to_owned(), text });
    }

    /// All of it in order. What is of a clock that could not be compared has a `?`.
    pub fn text(mut self, clocks: &Clocks) -> String {
        self.0.sort_by_key(|entry| entry.at);
        let mut text = format!("# Times are of the clock of {}.\n", clocks.reference);
        for (who, ahead) in &clocks.ahead_ms {
            let _ = writeln!(text, "# {who}: its clock is {ahead} ms ahead, as measured just now");
        }
        text.push_str("# ?: that clock could not be compared\n");
        for Entry { at, is_corrected, who, text: said } in &self.0 {
            let mark = if *is_corrected { ' ' } else { '?' };
            let _ = writeln!(text, "{}{mark} {who:<18} {said}", time(*at));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_by_wrong_clocks_stands_in_its_place() {
        let ahead_ms = [("a".to_owned(), 0), ("b".to_owned(), 60_000)].into();
        let clocks = Clocks { reference: "a".into(), ahead_ms };
        let mut timeline = Timeline::default();
        timeline.add(&clocks, "b", Timestamp(61_000), "second".into());
        timeline.add(&clocks, "c", Timestamp(500), "unknown".into());
        timeline.add(&clocks, "a", Timestamp(2_000), "third".into());
        timeline.add(&clocks, "a", Timestamp(700), "first".into());
        let text = timeline.text(&clocks);
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let order = ["unknown", "first", "second", "third"];
        assert!(lines.iter().zip(order).all(|(line, word)| line.ends_with(word)), "{text}");
        assert!(lines[0].contains("00.500Z? c") && lines[2].contains("01.000Z  b"), "{text}");
    }
}
