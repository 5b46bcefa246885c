//! What goes to standard output: JSON as the cluster gave it, or text for people; and what is asked
//! on the terminal.

use std::fmt::Write as _;
use std::io::{BufRead, IsTerminal, Write};

use clap::ValueEnum;
use comfy_table::{Cell, Color, ContentArrangement, Table, presets};
use failover::time::Timestamp;
use serde::Serialize;

pub use orchestrator::words::{Mood, age, bytes, span};

use crate::client::Failure;

/// How answers are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Prints `text`, or `value` as JSON.
pub fn print(output: Output, value: &impl Serialize, text: &str) -> Result<(), Failure> {
    let written = match output {
        Output::Json => {
            let json = serde_json::to_string_pretty(value)
                .map_err(|error| Failure::failed(format!("cannot be written as JSON: {error}")))?;
            writeln!(std::io::stdout(), "{json}")
        }
        Output::Text => writeln!(std::io::stdout(), "{}", text.trim_end_matches('\n')),
    };
    match written {
        // Whoever read has had enough (`baton history | head`).
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(Failure::failed(format!("standard output: {error}"))),
        Ok(()) => Ok(()),
    }
}

/// A remark while something goes on: to standard error, and only for people.
pub fn remark(output: Output, text: &str) {
    if output == Output::Text {
        eprintln!("{text}");
    }
}

/// Asks whoever sits at the terminal; the line that is typed.
pub fn ask(question: &str) -> Result<String, Failure> {
    eprint!("{question} ");
    let mut said = String::new();
    let read =
        std::io::stderr().flush().and_then(|()| std::io::stdin().lock().read_line(&mut said));
    read.map_err(|error| Failure::failed(format!("the terminal cannot be read: {error}")))?;
    Ok(said)
}

/// Whether standard output may be coloured.
pub fn is_coloured() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

/// A cell in the colour of its mood.
pub fn cell(text: impl ToString, mood: Mood) -> Cell {
    let cell = Cell::new(text);
    if !is_coloured() {
        return cell;
    }
    match mood {
        Mood::Plain => cell,
        Mood::Good => cell.fg(Color::Green),
        Mood::Odd => cell.fg(Color::Yellow),
        Mood::Bad => cell.fg(Color::Red),
    }
}

/// A line in the colour of its mood.
pub fn tinted(text: &str, mood: Mood) -> String {
    let code = match mood {
        Mood::Plain => return text.to_owned(),
        Mood::Good => 32,
        Mood::Odd => 33,
        Mood::Bad => 31,
    };
    if is_coloured() { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
}

/// A table without frames; as wide as the terminal at the most.
pub fn table(headings: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(headings.iter().map(|heading| cell(heading, Mood::Plain)));
    table
}

/// The lines of a table, without trailing blanks, two blanks from the left.
pub fn lines(table: &Table) -> String {
    let mut text = String::new();
    for line in table.to_string().lines() {
        let _ = writeln!(text, " {}", line.trim_end());
    }
    text
}

/// A wall-clock time in UTC, to the millisecond.
pub fn time(at: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(at.0).map_or_else(
        |_| at.0.to_string(),
        |time| time.strftime("%Y-%m-%d %H:%M:%S%.3fZ").to_string(),
    )
}
