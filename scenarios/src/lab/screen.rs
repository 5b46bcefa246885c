//! What people see: plain lines, coloured on a terminal only.

use std::io::{IsTerminal, Write, stdout};

/// Standard output, and whether it takes colours.
#[derive(Clone, Copy, Debug)]
pub struct Screen {
    coloured: bool,
}

/// What a piece of text means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Nothing special.
    Plain,
    /// Background.
    Faint,
    /// A heading or a figure that matters.
    Strong,
    /// As it should be.
    Good,
    /// Worth a look.
    Notable,
    /// Broken, on purpose or not.
    Bad,
}

impl Screen {
    /// Colours on a terminal that knows them, unless `NO_COLOR` is set.
    pub fn new() -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        Self { coloured: stdout().is_terminal() && !unwanted && !dumb }
    }

    /// Without colours.
    pub const fn plain() -> Self {
        Self { coloured: false }
    }

    /// `text` in a tone.
    pub fn paint(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Plain => return text.to_owned(),
            Tone::Faint => "2",
            Tone::Strong => "1",
            Tone::Good => "32",
            Tone::Notable => "33",
            Tone::Bad => "1;31",
        };
        if self.coloured { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// One line. A reader that has gone away is no reason to leave a cluster behind.
    pub fn line(self, text: &str) {
        let mut out = stdout().lock();
        let _ = writeln!(out, "{text}").and_then(|()| out.flush());
    }

    /// A line of progress.
    pub fn progress(self, text: &str) {
        self.line(&self.paint(Tone::Faint, &format!("  … {text}")));
    }

    /// A heading with an empty line above it.
    pub fn heading(self, text: &str) {
        self.line("");
        self.line(&self.paint(Tone::Strong, text));
    }
}

impl Default for Screen {
    fn default() -> Self {
        Self::new()
    }
}

/// Seconds as people read them: `0.84 s`.
pub fn seconds(millis: f64) -> String {
    format!("{:.2} s", millis / 1_000.0)
}

/// At most `width` characters of `text`, on one line.
pub fn clip(text: &str, width: usize) -> String {
    let text = text.replace('\n', " ");
    if text.chars().count() <= width {
        return text;
    }
    let head: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{}…", head.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_clipped_by_characters() {
        assert_eq!(clip("ääää", 4), "ääää");
        assert_eq!(clip("ab cd", 4), "ab…");
        assert_eq!(seconds(843.2), "0.84 s");
        assert_eq!(Screen::plain().paint(Tone::Bad, "x"), "x");
    }
}
