//! PostgreSQL's log: what the server says of itself, and nothing that a client or a function may
//! have said.

use failover::Timestamp;
use serde::{Deserialize, Serialize};

use super::Scrubber;

/// `GET /v1/server-log?since=MS` of an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerLogWindow {
    /// The machine's wall clock when it was read.
    pub at: Timestamp,
    /// The lines that may be shown.
    pub lines: Vec<String>,
    /// How many were left out.
    pub left_out: u64,
    /// Whether it goes back to the time that was asked for.
    pub is_whole: bool,
}

/// When a line was written that PostgreSQL began: `2026-11-22 01:02:03.456 UTC [4711] …`. `None`
/// where the zone is none that is known here.
#[must_use]
pub fn server_time(line: &str) -> Option<Timestamp> {
    let mut words = line.split(' ');
    let (date, clock, zone) = (words.next()?, words.next()?, words.next()?);
    words.next().filter(|process| process.starts_with('['))?;
    let offset = match zone {
        "UTC" | "GMT" | "WET" => "+00",
        "CET" | "BST" | "WEST" => "+01",
        "CEST" | "EET" => "+02",
        "EEST" => "+03",
        zone if zone.starts_with(['+', '-']) && zone.len() == 3 => zone,
        _ => return None,
    };
    let at: jiff::Timestamp = format!("{date}T{clock}{offset}").parse().ok()?;
    Some(Timestamp(at.as_millisecond()))
}

/// How messages begin that the server is known to write of itself (`lc_messages = C`).
const OWN: &[&str] = &[
    "aborting any active transactions",
    "all server processes terminated",
    "archive recovery",
    "background worker",
    "canceling wait for synchronous replication",
    "canceling the wait for synchronous replication",
    "checkpoint",
    "configuration file",
    "consistent recovery state",
    "could not connect to the primary",
    "could not extend file",
    "could not fsync",
    "could not open file",
    "could not receive data from WAL",
    "could not send",
    "could not write",
    "database system",
    "entering standby mode",
    "fetching timeline",
    "invalid magic number",
    "invalid page",
    "invalid record length",
    "last completed transaction",
    "listening on",
    "lost",
    "new target timeline",
    "no pg_hba.conf entry",
    "out of memory",
    "page verification failed",
    "primary server contains no more WAL",
    "received",
    "record with",
    "recovery",
    "redo",
    "remaining connection slots",
    "replication terminated",
    "requested starting point",
    "requested WAL segment",
    "restartpoint",
    "selected new timeline",
    "server process",
    "shutting down",
    "sorry, too many clients",
    "standby",
    "started streaming WAL",
    "starting",
    "streaming",
    "terminating",
    "the database system",
    "the standby was promoted",
    "unexpected pageaddr",
    "waiting for WAL",
    "WAL",
];

/// Reads such a log line by line.
#[derive(Clone, Debug, Default)]
pub struct ServerLog {
    scrubber: Scrubber,
    left_out: u64,
}

impl ServerLog {
    /// A line as it may be shown; `None`: it is left out.
    pub fn line(&mut self, line: &str) -> Option<String> {
        let shown = own(line).map(|line| self.scrubber.line(line));
        self.left_out += u64::from(shown.is_none());
        shown
    }

    /// How many lines were left out.
    #[must_use]
    pub const fn left_out(&self) -> u64 {
        self.left_out
    }
}

/// A line that the server began, of a severity and an opening that are its own. Further lines of a
/// message begin with a tab, and may hold what a client said.
fn own(line: &str) -> Option<&str> {
    let (head, message) = line.split_once("] ")?;
    if !head.starts_with(|c: char| c.is_ascii_digit()) || !head.contains(" [") {
        return None;
    }
    let (severity, text) = message.split_once(": ")?;
    let text = text.trim_start();
    // An ERROR is a client's, and so is what it quotes.
    if !["LOG", "FATAL", "PANIC", "WARNING"].contains(&severity) {
        return None;
    }
    // Of a setting its name.
    if let Some(rest) = text.strip_prefix("parameter \"") {
        let name = rest.split('"').next()?;
        let end = line.find(name)? + name.len() + 1;
        return line.get(..end);
    }
    OWN.iter().any(|opening| text.starts_with(opening)).then_some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: &str = "2026-11-22 01:02:03.456 UTC [4711] ";

    #[test]
    fn what_the_server_says_of_itself_is_shown() {
        let mut log = ServerLog::default();
        for line in [
            "LOG:  database system is ready to accept connections",
            "FATAL:  terminating walreceiver due to timeout",
            "PANIC:  could not write to file \"pg_wal/xlogtemp.12\": No space left on device",
            "WARNING:  canceling wait for synchronous replication due to user request",
            "LOG:  received fast shutdown request",
        ] {
            let line = format!("{AT}{line}");
            assert_eq!(log.line(&line), Some(line.clone()));
        }
        let setting = format!("{AT}LOG:  parameter \"archive_command\" changed to \"hunter2\"");
        let shown = format!("{AT}LOG:  parameter \"archive_command\"");
        assert_eq!(log.line(&setting), Some(shown));
        assert_eq!(log.left_out(), 0);
    }

    /// Whatever a client, a function or a line break can bring in is left out.
    #[test]
    fn what_clients_say_is_left_out() {
        let mut log = ServerLog::default();
        for line in [
            &format!("{AT}ERROR:  invalid input syntax for type integer: \"hunter2\""),
            &format!("{AT}STATEMENT:  insert into patients values ('hunter2')"),
            &format!("{AT}DETAIL:  Key (name)=(hunter2) already exists."),
            &format!("{AT}CONTEXT:  SQL statement \"select hunter2\""),
            &format!("{AT}LOG:  statement: alter role app password 'hunter2'"),
            &format!("{AT}LOG:  duration: 1.2 ms  execute x: select 'hunter2'"),
            &format!("{AT}LOG:  execute fetch from x: hunter2"),
            &format!("{AT}LOG:  hunter2 raised by a function"),
            &format!("{AT}NOTICE:  database system hunter2"),
            &format!("{AT}LOG:  connection authorized: user=hunter2 database=x"),
            "\tvalues ('hunter2')",
            "hunter2",
            "2026-11-22 hunter2 LOG:  database system is hunter2",
        ] {
            assert_eq!(log.line(line), None, "{line}");
        }
        assert_eq!(log.left_out(), 13);
    }
}
