//! The newest part of PostgreSQL's log, as it may leave the machine: bounded, and only what the
//! server says of itself.

use failover::Timestamp;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use wire::scrub::{ServerLog, ServerLogWindow};

/// How far back the log is read, in bytes.
const BYTES: u64 = 8 << 20;
/// No more lines than this are told: the newest.
const LINES: usize = 20_000;

/// What the log says from a time on.
///
/// # Errors
/// When it cannot be read.
pub fn read(log: &Path, since: Timestamp) -> io::Result<ServerLogWindow> {
    let mut file = File::open(log)?;
    let length = file.metadata()?.len();
    let from = length.saturating_sub(BYTES);
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let mut all = text.lines();
    if from > 0 {
        // It begins in the middle of one.
        all.next();
    }
    let mut server = ServerLog::default();
    let mut lines: Vec<String> = Vec::new();
    let (mut begins, mut first) = (from == 0, None);
    for line in all {
        let at = wire::scrub::server_time(line);
        first = first.or(at);
        begins |= at.is_some_and(|at| at < since);
        if at.is_none_or(|at| at >= since) {
            lines.extend(server.line(line));
        }
    }
    let much = lines.len().saturating_sub(LINES);
    lines.drain(..much);
    let left_out = server.left_out() + much as u64;
    Ok(ServerLogWindow { at: wire::clock::wall(), is_whole: begins && much == 0, lines, left_out })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_bounded_and_has_no_word_of_a_client() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let log = folder.path().join("postgres.log");
        let line =
            |minute: u32, text: &str| format!("2026-11-22 01:{minute:02}:00.000 UTC [7] {text}\n");
        let mut text = line(1, "LOG:  database system is shut down");
        text += &line(5, "LOG:  database system is ready to accept connections");
        text += &line(6, "ERROR:  hunter2");
        text += &line(6, "STATEMENT:  select 'hunter2'");
        text += "\tfrom hunter2\n";
        std::fs::write(&log, &text).expect("writable");
        let since = wire::scrub::server_time(&line(3, "x")).expect("a time");
        let window = read(&log, since).expect("readable");
        assert_eq!((window.lines.len(), window.left_out, window.is_whole), (1, 3, true));
        assert!(window.lines[0].ends_with("ready to accept connections"), "{window:?}");
        // Much more than is read.
        let many = line(7, "LOG:  database system is ready").repeat(200_000);
        std::fs::write(&log, text + &many).expect("writable");
        let window = read(&log, since).expect("readable");
        assert_eq!((window.lines.len(), window.is_whole), (LINES, false));
        assert!(read(&folder.path().join("none"), since).is_err());
    }
}
