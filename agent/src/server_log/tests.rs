//! What is read from PostgreSQL's log, and that nothing of it is missed.

use super::*;
use std::io::Write;

const STAMP: &str = "2026-11-22 01:02:03.456 UTC [4711] ";
const CANCELLED: &str = "WARNING:  canceling wait for synchronous replication due to user request";

fn line(text: &str) -> Option<Line> {
    read_line(&format!("{STAMP}{text}"))
}

fn append(path: &Path, text: &str) {
    let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

fn cancelled(lines: &[Line]) -> usize {
    lines.iter().filter(|line| **line == Line::WaitCancelled).count()
}

#[test]
fn lines_that_matter_are_read() {
    assert_eq!(line(CANCELLED), Some(Line::WaitCancelled));
    let text = "WARNING:  canceling the wait for synchronous replication and terminating \
                connection due to administrator command";
    assert_eq!(line(text), Some(Line::WaitCancelled));
    assert_eq!(line(&format!("LOG:  statement: select '{CANCELLED}'")), None);
    let authorized = "LOG:  replication connection authorized: user=baton-a \
                      application_name=b SSL enabled (protocol=TLSv1.3)";
    let expected = Line::Replication { pid: 4711, role: "baton-a".into(), name: "b".into() };
    assert_eq!(line(authorized), Some(expected));
    assert_eq!(line("FATAL:  terminating walreceiver due to timeout"), Some(Line::StreamLost));
    assert_eq!(line("LOG:  checkpoint starting: time"), None);
    assert_eq!(read_line("garbage"), None);
}

/// I-09, I-27: a client can write any text into the log, in several lines too; those that are not
/// the first begin with a tab, and are nobody's word.
#[test]
fn i27_a_clients_text_is_not_the_servers_word() {
    for text in [
        CANCELLED,
        "LOG:  requested starting point 0/3000000 is not in this server's history",
        "LOG:  replication connection authorized: user=baton-x application_name=y",
        "LOG:  parameter \"synchronous_standby_names\" changed to \"\"",
    ] {
        assert_eq!(read_line(&format!("\t{STAMP}{text}")), None);
        assert_eq!(read_line(&format!("\tx [1] {text}")), None);
    }
}

/// I-12: with no room for the copy, the log is read all the same.
#[test]
fn i12_a_log_that_cannot_be_copied_is_still_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("postgres.log");
    std::fs::create_dir(folder.path().join("postgres.log.1")).unwrap();
    let mut tail = Tail::open(&path, 64).unwrap();
    for _ in 0..3 {
        append(&path, &format!("{STAMP}{CANCELLED}\n"));
        assert_eq!(cancelled(&tail.read().unwrap()), 1);
    }
}

#[test]
fn settings_that_change_are_read() {
    let setting = |value: Option<&str>| {
        let (name, value) = ("synchronous_standby_names".to_owned(), value.map(str::to_owned));
        Some(Line::Setting { name, value })
    };
    let text = "LOG:  parameter \"synchronous_standby_names\" changed to ";
    assert_eq!(line(&format!("{text}\"\"")), setting(Some("")));
    assert_eq!(line(&format!("{text}\"ANY 1 (\"b\")\"")), setting(Some("ANY 1 (\"b\")")));
    let removed = "LOG:  parameter \"synchronous_standby_names\" removed from configuration file, \
                   reset to default";
    assert_eq!(line(removed), setting(None));
}

/// What a client says is no line of the server's.
#[test]
fn a_client_cannot_speak_for_the_server() {
    let text = format!("{STAMP}{CANCELLED}");
    assert_eq!(read_line(&format!("\t{text}")), None);
    assert_eq!(read_line(&format!("x{text}")), None);
    assert_eq!(read_line(&format!("LOG:  statement: select 1] {CANCELLED}")), None);
    assert_eq!(read_line(&text.replace("[4711]", "[x]")), None);
    assert_eq!(read_line(&text.replace("01:02", "01-02")), None);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("postgres.log");
    let mut tail = Tail::open(&path, ROTATE_AT).unwrap();
    append(&path, &format!("{STAMP}LOG:  {}", "x".repeat(1 << 20)));
    assert!(tail.read().unwrap().is_empty());
    append(&path, &format!("x{text}\n{text}\n"));
    assert_eq!(cancelled(&tail.read().unwrap()), 1, "the rest of an overlong line is none");
}

/// I-12: a log that was taken away is read on, and the next one from its beginning.
#[test]
fn i12_a_log_that_was_taken_away_is_read_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("postgres.log");
    let mut tail = Tail::open(&path, ROTATE_AT).unwrap();
    let mut server = OpenOptions::new().append(true).open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    server.write_all(format!("{STAMP}{CANCELLED}\n").as_bytes()).unwrap();
    assert_eq!(cancelled(&tail.read().unwrap()), 1);
    assert!(!tail.is_replaced());
    append(&path, &format!("{STAMP}{CANCELLED}\n"));
    assert!(tail.is_replaced());
    assert_eq!(cancelled(&tail.reopen().unwrap().read().unwrap()), 1);
}

/// I-12: what was written while no agent ran is read by the next.
#[test]
fn i12_lines_written_while_nobody_read_are_read_later() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("postgres.log");
    let mut tail = Tail::open(&path, ROTATE_AT).unwrap();
    append(&path, &format!("{STAMP}{CANCELLED}\n{STAMP}WARN"));
    assert_eq!(cancelled(&tail.read().unwrap()), 1);
    tail.mark().unwrap().keep(&path);
    append(&path, &format!("{}\n{STAMP}{CANCELLED}\n", &CANCELLED[4..]));
    let mut next = Tail::open(&path, ROTATE_AT).unwrap();
    assert_eq!(cancelled(&next.read().unwrap()), 2, "half a line was none");
    next.mark().unwrap().keep(&path);
    std::fs::write(&path, "").unwrap();
    let mut next = Tail::open(&path, ROTATE_AT).unwrap();
    assert_eq!(next.read().unwrap(), [Line::Gap], "somebody emptied it");
}

/// I-12: the log is shortened while it is written to, and no line is lost unsaid.
#[test]
fn i12_no_line_is_lost_when_the_log_is_shortened() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("postgres.log");
    let mut tail = Tail::open(&path, 256 << 10).unwrap();
    let written = 40_000;
    let target = path.clone();
    let writer = std::thread::spawn(move || {
        let mut file = OpenOptions::new().append(true).open(&target).unwrap();
        for _ in 0..written {
            file.write_all(format!("{STAMP}{CANCELLED}\n").as_bytes()).unwrap();
        }
    });
    let mut lines = Vec::new();
    while !writer.is_finished() {
        lines.extend(tail.read().unwrap());
    }
    lines.extend(tail.read().unwrap());
    let gaps = lines.iter().filter(|line| **line == Line::Gap).count();
    println!("{} lines of {written}, {gaps} gaps", cancelled(&lines));
    assert!(cancelled(&lines) == written || gaps > 0);
    assert!(path.metadata().unwrap().len() < 8 << 20, "it was shortened");
    assert!(path.with_extension("log.1").exists());
}
