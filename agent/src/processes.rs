//! What `/proc` says about processes.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often it is looked whether a killed process is gone.
const LOOK: Duration = Duration::from_millis(2);
/// So often at most for one that has given its folder back already: nothing it waits for is slow.
const DYING_LOOKS: u32 = 500;

/// A process as `/proc/PID/stat` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// One letter: `R`, `S`, `D`, `T`, `Z`, ...
    pub state: char,
    /// The parent's number.
    pub parent: u32,
}

/// Reads `/proc/PID/stat`; `None`: there is no such process.
pub fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses and may hold anything, also parentheses.
    let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace();
    Some(Stat { state: fields.next()?.chars().next()?, parent: fields.next()?.parse().ok()? })
}

/// Whether the process exists and is more than an unreaped exit status.
pub fn is_alive(pid: u32) -> bool {
    stat(pid).is_some_and(|stat| stat.state != 'Z')
}

/// The numbers of all processes.
fn all() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// The children of a process, also those that are dead and not yet reaped.
pub fn children(pid: u32) -> Vec<u32> {
    // Listed by thread: each remembers the children that it forked.
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists: Vec<String> =
        tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok()).collect();
    if lists.is_empty() {
        let of_us = |other: &u32| stat(*other).is_some_and(|stat| stat.parent == pid);
        return all().into_iter().filter(of_us).collect();
    }
    lists
        .iter()
        .flat_map(|list| list.split_ascii_whitespace())
        .filter_map(|text| text.parse().ok())
        .collect()
}

/// What a process calls itself; empty for a dead one.
pub fn title(pid: u32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ").trim_end().to_owned()
}

/// Whatever descends from a process, also those that are dead and not yet reaped.
pub fn descendants(pid: u32) -> Vec<u32> {
    let mut found = children(pid);
    let mut next = 0;
    while let Some(pid) = found.get(next).copied() {
        found.extend(children(pid));
        next += 1;
    }
    found
}

/// Sends a signal; a process that is already gone hears nothing.
pub fn send(pid: u32, signal: Signal) {
    if let Ok(number) = i32::try_from(pid)
        && number > 1
    {
        let _ = kill(Pid::from_raw(number), signal);
    }
}

/// SIGKILL; a process that is already gone is as it should be.
pub fn kill_now(pid: u32) {
    send(pid, Signal::SIGKILL);
}

/// Every live process whose working directory is `folder`: the postmaster of a data directory and
/// all its children have it, and nothing else has.
pub fn within(folder: &Path) -> Vec<u32> {
    let Ok(folder) = folder.canonicalize() else { return Vec::new() };
    let inside =
        |pid: &u32| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == folder);
    all().into_iter().filter(inside).collect()
}

/// Kills every process of a data directory until there is none: the way to fence when the guard is
/// gone. The postmaster's pid file is removed if only an unreaped exit status is behind it.
pub async fn end_within(folder: &Path) -> usize {
    let mut ended = BTreeSet::new();
    loop {
        let found = within(folder);
        if found.is_empty() {
            break;
        }
        for pid in found {
            kill_now(pid);
            ended.insert(pid);
        }
        tokio::time::sleep(LOOK).await;
    }
    // A process that ends gives its folder back before it is no more than an exit status.
    for _ in 0..DYING_LOOKS {
        if !ended.iter().any(|pid| is_alive(*pid)) {
            break;
        }
        tokio::time::sleep(LOOK).await;
    }
    reap_adopted();
    forget_locks(&[folder.join("postmaster.pid")]);
    ended.len()
}

/// Ends whatever runs in a data directory although its agent started nothing: before it is started,
/// rewound or replaced.
pub async fn end_strangers(folder: &Path) {
    let strangers = end_within(folder).await;
    if strangers > 0 {
        tracing::error!(strangers, "PostgreSQL was started by somebody else: ended");
    }
}

/// Reaps orphans that this process inherited as a subreaper.
fn reap_adopted() {
    for pid in children(std::process::id()) {
        if stat(pid).is_some_and(|stat| stat.state == 'Z')
            && title(pid).is_empty()
            && name(pid) == "postgres"
            && let Ok(number) = i32::try_from(pid)
        {
            let _ = nix::sys::wait::waitpid(Pid::from_raw(number), None);
        }
    }
}

fn name(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim_end().to_owned()
}

/// Removes lock files whose process is dead. PostgreSQL would not: to it an exit status that
/// nobody has reaped yet is a running process.
pub fn forget_locks(files: &[PathBuf]) {
    for path in files {
        let Ok(text) = fs::read_to_string(path) else { continue };
        let pid = text.lines().next().and_then(|line| line.trim().parse().ok());
        if pid.is_none_or(|pid| !is_alive(pid)) {
            drop(fs::remove_file(path));
        }
    }
}
