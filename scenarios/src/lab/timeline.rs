//! A live timeline: one line per thing, in the order in which things happened.
//!
//! Sources differ in how late they tell: a packet is seen at once, a step of a transition when
//! the operator's command next asks. Every line carries the instant at which the thing happened,
//! and is held back for a moment so that an earlier one, told later, still comes before it.

use std::time::Duration;

use failover::time::Moment;

use super::journal::millis;
use super::screen::{Screen, Tone, clip};

/// How long a line waits for earlier ones.
const HOLD: Duration = Duration::from_millis(300);

/// The columns of text that a line may have.
const WIDTH: usize = 96;

/// A timeline with its own zero.
#[derive(Debug)]
pub struct Timeline {
    screen: Screen,
    zero: Moment,
    waiting: Vec<Line>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    at: Moment,
    word: String,
    tone: Tone,
    text: String,
}

impl Timeline {
    /// One that counts from `zero`.
    pub const fn new(screen: Screen, zero: Moment) -> Self {
        Self { screen, zero, waiting: Vec::new() }
    }

    /// Something happened at `at`.
    pub fn add(&mut self, at: Moment, tone: Tone, word: &str, text: &str) {
        let text = clip(text, WIDTH);
        self.waiting.push(Line { at, word: word.into(), tone, text });
    }

    /// Prints what has waited long enough by `now`.
    pub fn show(&mut self, now: Moment) {
        for line in self.due(now.before(HOLD)) {
            self.print(&line);
        }
    }

    /// Prints all that waits.
    pub fn finish(&mut self) {
        self.show(Moment(u64::MAX));
    }

    fn due(&mut self, until: Moment) -> Vec<Line> {
        self.waiting.sort_by_key(|line| line.at);
        let count = self.waiting.iter().take_while(|line| line.at <= until).count();
        self.waiting.drain(..count).collect()
    }

    fn print(&self, line: &Line) {
        let at = millis(self.zero.0, line.at.0) / 1_000.0;
        let word = self.screen.paint(line.tone, &format!("{:<10}", line.word));
        self.screen.line(&format!(" {at:>+8.3} s  {word}  {}", line.text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_news_of_earlier_things_come_first() {
        let mut timeline = Timeline::new(Screen::plain(), Moment(0));
        timeline.add(Moment(2_000), Tone::Plain, "second", "");
        timeline.add(Moment(1_000), Tone::Plain, "first", "");
        timeline.add(Moment(9_000), Tone::Plain, "third", "");
        let words: Vec<String> =
            timeline.due(Moment(5_000)).into_iter().map(|line| line.word).collect();
        assert_eq!(words, ["first", "second"]);
        assert_eq!(timeline.due(Moment(u64::MAX)).len(), 1);
    }
}
