//! Logs: of daemons from this machine's journal and from files, of PostgreSQL from agents and from
//! files. Each line with its time, and without its secrets.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use failover::Timestamp;
use serde_json::Value;
use wire::scrub::{Scrubber, ServerLog, server_time};

/// One log, as it goes into the archive.
pub struct Log {
    /// Who wrote it: by whose clock its times are.
    pub who: String,
    /// Its lines; `None` where one has no time of its own and none before it had.
    pub lines: Vec<(Option<Timestamp>, String)>,
    /// How many were left out.
    pub left_out: u64,
}

/// No more lines of one log than this: the newest.
const LINES: usize = 200_000;
/// The unit files' names.
const UNITS: &str = "baton-*";

/// Who wrote a line. What cannot be told apart is left out: it may be a statement of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Baton,
    Postgres,
    Unknown,
}

/// Takes lines of the window only.
struct Reading {
    log: Log,
    since: Timestamp,
    /// Of the line before: what has no time is of the same.
    latest: Option<Timestamp>,
    kind: Kind,
    scrubber: Scrubber,
    server: ServerLog,
}

impl Reading {
    fn new(who: &str, since: Timestamp) -> Self {
        let log = Log { who: who.to_owned(), lines: Vec::new(), left_out: 0 };
        let (scrubber, server) = (Scrubber::default(), ServerLog::default());
        Self { log, since, latest: None, kind: Kind::Unknown, scrubber, server }
    }

    fn line(&mut self, line: &str) {
        let line: String = line.chars().take(4_000).collect();
        let shown = self.shown(&line);
        if self.latest.is_some_and(|at| at < self.since) {
            return;
        }
        match shown {
            Some(shown) => self.log.lines.push((self.latest, shown)),
            None => self.log.left_out += 1,
        }
    }

    /// A line as it may be shown. Every line must come here: a key may have begun long before.
    fn shown(&mut self, line: &str) -> Option<String> {
        match time_of(line) {
            Some((at, of_postgres)) => {
                self.latest = Some(at);
                self.kind = if of_postgres { Kind::Postgres } else { Kind::Baton };
            }
            None if line.starts_with(|c: char| c.is_ascii_digit() || c == '{') => {
                self.kind = Kind::Unknown;
            }
            None => {}
        }
        match self.kind {
            Kind::Baton => Some(self.scrubber.line(line)),
            Kind::Postgres => self.server.line(line),
            Kind::Unknown => None,
        }
    }

    fn done(mut self) -> Log {
        let much = self.log.lines.len().saturating_sub(LINES);
        self.log.left_out += much as u64;
        self.log.lines.drain(..much);
        self.log
    }
}

/// A file of either kind.
pub fn file(who: &str, path: &Path, since: Timestamp) -> std::io::Result<Log> {
    let mut reader = BufReader::new(std::fs::File::open(path)?);
    let (mut reading, mut bytes) = (Reading::new(who, since), Vec::new());
    loop {
        bytes.clear();
        if reader.read_until(b'\n', &mut bytes)? == 0 {
            return Ok(reading.done());
        }
        reading.line(String::from_utf8_lossy(&bytes).trim_end());
    }
}

/// Lines that an agent gave: they are scrubbed there, and here again.
pub fn of_agent(who: &str, lines: &[String], left_out: u64, since: Timestamp) -> Log {
    let mut reading = Reading::new(who, since);
    for line in lines {
        reading.line(line);
    }
    let log = reading.done();
    Log { left_out: log.left_out + left_out, ..log }
}

/// What this machine's journal has of the daemons.
pub fn journal(since: Timestamp) -> Result<Log, String> {
    let mut command = Command::new("journalctl");
    command.args(["--no-pager", "-q", "-o", "json", "-u", UNITS]);
    command.arg(format!("--since=@{}", since.0 / 1_000)).stdin(Stdio::null());
    let mut reading = Reading::new("this machine", since);
    let output = match command.output() {
        Ok(output) => output,
        // A machine without it has none.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(reading.done()),
        Err(error) => return Err(format!("journalctl: {error}")),
    };
    let said = String::from_utf8_lossy(&output.stderr);
    // Where there is no journal at all, it has nothing of the daemons.
    if !output.status.success() && !said.contains("No data available") {
        return Err(format!("journalctl: {}", said.trim()));
    }
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let Ok(entry) = serde_json::from_str::<Value>(line) else { continue };
        let text = |name: &str| entry.get(name).and_then(Value::as_str);
        let at = text("__REALTIME_TIMESTAMP").and_then(|us| us.parse::<i64>().ok());
        let message = text("MESSAGE").unwrap_or("(not text)");
        let unit = text("_SYSTEMD_UNIT").unwrap_or("?");
        reading.kind = Kind::Baton;
        let said: Vec<String> = message.lines().filter_map(|line| reading.shown(line)).collect();
        // The journal's own time is of this machine, and is there for every line.
        reading.latest = at.map(|us| Timestamp(us / 1_000));
        reading.log.lines.push((reading.latest, format!("{unit}: {}", said.join(" "))));
    }
    Ok(reading.done())
}

/// When a line was written, and whether PostgreSQL wrote it.
pub fn time_of(line: &str) -> Option<(Timestamp, bool)> {
    let stamp = |text: &str| {
        let at: jiff::Timestamp = text.parse().ok()?;
        Some(Timestamp(at.as_millisecond()))
    };
    if line.starts_with('{') {
        let value: Value = serde_json::from_str(line).ok()?;
        return Some((stamp(value.get("timestamp")?.as_str()?)?, false));
    }
    if let Some(at) = stamp(line.split_whitespace().next()?) {
        return Some((at, false));
    }
    Some((server_time(line)?, true))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(text: &str) -> Option<i64> {
        time_of(text).map(|(at, _)| at.0 % 1_000_000)
    }

    #[test]
    fn times_of_every_daemon_are_read() {
        assert_eq!(
            ms("2026-11-22T01:02:03.456789Z  INFO agent: x"),
            ms("2026-11-22T01:02:03.456Z")
        );
        let json = "{\"timestamp\":\"2026-11-22T01:02:03.456789Z\",\"level\":\"INFO\"}";
        assert_eq!(ms(json), ms("2026-11-22T01:02:03.456Z"));
        let of_postgres = |zone: &str| format!("2026-11-22 02:02:03.456 {zone} [4711] LOG:  x");
        assert_eq!(ms(&of_postgres("CET")), ms("2026-11-22T01:02:03.456Z"));
        assert_eq!(ms(&of_postgres("+01")), ms("2026-11-22T01:02:03.456Z"));
        assert_eq!(time_of(&of_postgres("UTC")).map(|(_, of)| of), Some(true));
        for line in ["", "x", "\tx", &of_postgres("XYZ"), "{", "{\"timestamp\":1}"] {
            assert_eq!(time_of(line), None, "{line}");
        }
    }

    #[test]
    fn the_window_is_kept_and_secrets_are_not() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("mixed.log");
        let text = "2026-11-22T01:00:00Z INFO before\n  at the same time\n\
                    2026-11-22T02:00:00Z INFO password=hunter2 within\n  and more\n\
                    2026-11-22 02:00:01.000 UTC [1] LOG:  database system is ready\n\
                    2026-11-22 02:00:02.000 UTC [1] STATEMENT:  select 'hunter2'\n\tfrom hunter2\n\
                    2026-11-22 02:00:03 select 'hunter2'\n  hunter2\n{\"hunter2\":1}\n";
        std::fs::write(&path, text).expect("writable");
        let since = time_of("2026-11-22T01:30:00Z").expect("a time").0;
        let log = file("x", &path, since).expect("readable");
        let shown: Vec<&str> = log.lines.iter().map(|(_, line)| line.as_str()).collect();
        assert_eq!(shown.len(), 3, "{shown:?}");
        assert!(shown[0].contains("***") && shown[1] == "  and more", "{shown:?}");
        assert!(shown.iter().all(|line| !line.contains("hunter2")), "{shown:?}");
        assert_eq!(log.left_out, 5);
    }
}
