//! PostgreSQL's log, followed by inotify: some things it says nowhere else, or nowhere sooner.

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use tokio::sync::mpsc;

/// The log is copied to `.1` and emptied when it is larger than this, in bytes.
const ROTATE_AT: u64 = 64 << 20;

/// A line that matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// A commit's wait was cancelled: it was acknowledged all the same (F-10).
    WaitCancelled,
    /// The stream from the upstream has ended.
    StreamLost,
    /// This history is not the upstream's.
    Diverged(String),
    /// It accepts connections, or has become consistent.
    Ready,
    /// A replication connection, by process, role and the name it gave itself.
    Replication {
        /// Its process.
        pid: u32,
        /// The role it proved.
        role: String,
        /// `application_name`.
        name: String,
    },
}

/// Reads one line of the log.
pub fn read_line(line: &str) -> Option<Line> {
    const LOST: &[&str] = &[
        "could not receive data from WAL stream",
        "terminating walreceiver",
        "replication terminated by primary server",
        "could not connect to the primary server",
    ];
    const DIVERGED: &[&str] = &[
        "is ahead of the WAL flush position",
        "is not in this server's history",
        "forked off current database system timeline",
    ];
    // Only the server's own lines begin with a time; a client's text may hold anything.
    let (head, message) = line.split_once("] ")?;
    let (severity, text) = message.split_once(": ")?;
    let text = text.trim_start();
    let any = |phrases: &[&str]| phrases.iter().any(|phrase| text.contains(phrase));
    match severity {
        "WARNING" if text.starts_with("canceling wait for synchronous replication") => {
            Some(Line::WaitCancelled)
        }
        "LOG" if text.starts_with("replication connection authorized: ") => {
            let word = |key: &str| {
                let value = text.split(key).nth(1)?;
                Some(value.split(' ').next()?.to_owned())
            };
            Some(Line::Replication {
                pid: head.rsplit_once('[')?.1.parse().ok()?,
                role: word(" user=")?,
                name: word(" application_name=").unwrap_or_default(),
            })
        }
        "LOG" if text.starts_with("database system is ready") => Some(Line::Ready),
        "LOG" | "FATAL" | "ERROR" if any(DIVERGED) => Some(Line::Diverged(text.to_owned())),
        "LOG" | "FATAL" if any(LOST) => Some(Line::StreamLost),
        _ => None,
    }
}

/// Follows the log from its present end, on a thread of its own; ends when nobody listens.
///
/// # Errors
/// The log cannot be opened or watched.
pub fn follow(path: &Path) -> io::Result<mpsc::Receiver<Line>> {
    let mut file = OpenOptions::new().create(true).read(true).append(true).open(path)?;
    let at = file.seek(SeekFrom::End(0))?;
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC)?;
    let events =
        AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_ATTRIB;
    inotify.add_watch(path, events)?;
    let (lines, received) = mpsc::channel(1024);
    let mut tail = Tail { path: path.to_owned(), file, at, partial: Vec::new() };
    std::thread::Builder::new().name("server-log".into()).stack_size(256 * 1024).spawn(
        move || {
            while inotify.read_events().is_ok() {
                let Ok(found) = tail.read() else { return };
                for line in found {
                    if lines.blocking_send(line).is_err() {
                        return;
                    }
                }
                if !tail.path.exists() || lines.is_closed() {
                    return;
                }
            }
        },
    )?;
    Ok(received)
}

struct Tail {
    path: PathBuf,
    file: File,
    at: u64,
    partial: Vec<u8>,
}

impl Tail {
    fn read(&mut self) -> io::Result<Vec<Line>> {
        let mut found = self.read_more()?;
        if self.at > ROTATE_AT {
            std::fs::copy(&self.path, self.path.with_extension("log.1"))?;
            found.extend(self.read_more()?);
            // Appenders go on at the new end, which is the beginning.
            self.file.set_len(0)?;
            self.at = 0;
        }
        Ok(found)
    }

    fn read_more(&mut self) -> io::Result<Vec<Line>> {
        let mut found = Vec::new();
        let mut chunk = vec![0u8; 64 * 1024];
        if self.file.metadata()?.len() < self.at {
            self.at = 0;
        }
        self.file.seek(SeekFrom::Start(self.at))?;
        loop {
            let count = self.file.read(&mut chunk)?;
            if count == 0 {
                return Ok(found);
            }
            self.at += count as u64;
            self.partial.extend_from_slice(chunk.get(..count).unwrap_or_default());
            while let Some(end) = self.partial.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.partial.drain(..=end).collect();
                found.extend(read_line(String::from_utf8_lossy(&line).trim_end()));
            }
            // A line without end is nobody's line.
            if self.partial.len() > 1 << 20 {
                self.partial.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_matter_are_read() {
        let stamp = "2026-11-22 01:02:03.456 UTC [4711] ";
        let line = |text: &str| read_line(&format!("{stamp}{text}"));
        let cancelled = "canceling wait for synchronous replication due to user request";
        assert_eq!(line(&format!("WARNING:  {cancelled}")), Some(Line::WaitCancelled));
        assert_eq!(line(&format!("LOG:  statement: select '{cancelled}'")), None);
        let authorized = "LOG:  replication connection authorized: user=baton-a \
                          application_name=b SSL enabled (protocol=TLSv1.3)";
        let expected = Line::Replication { pid: 4711, role: "baton-a".into(), name: "b".into() };
        assert_eq!(line(authorized), Some(expected));
        assert_eq!(line("FATAL:  terminating walreceiver due to timeout"), Some(Line::StreamLost));
        assert_eq!(line("LOG:  checkpoint starting: time"), None);
        assert_eq!(read_line("garbage"), None);
    }
}
