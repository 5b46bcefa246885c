//! Finding and ending processes, from `/proc`.
//!
//! What belongs to a run is found in three ways, because none is enough alone: the mark in its
//! environment (`BATON_LAB=RUN/SITE`, inherited), its working directory (a PostgreSQL backend
//! overwrites its environment with its title, but always stands in its data directory), and
//! descent from one of those.
//!
//! The lab is the reaper of its orphans: a postmaster whose agent was killed first would
//! otherwise stay a zombie wherever process 1 does not reap, and a zombie keeps its pid file
//! valid.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;

use super::stop::settles;

/// The environment variable that marks every process of a run: `RUN/SITE`.
pub const MARK: &str = "BATON_LAB";

/// One process as `/proc/PID/stat` describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// Its parent's.
    pub parent: i32,
    /// Its name, at most 15 bytes.
    pub name: String,
    /// Dead, but not reaped.
    pub zombie: bool,
    /// Processor time it used, in clock ticks (user and system).
    pub ticks: u64,
    /// When it started, in clock ticks since boot: with the pid it names one process for ever.
    pub started: u64,
}

impl Process {
    /// Reads one process; `None` when it is gone.
    pub fn read(pid: i32) -> Option<Self> {
        Self::parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    fn parse(stat: &str) -> Option<Self> {
        // The name stands in parentheses and may itself hold any character.
        let (pid, rest) = stat.split_once(" (")?;
        let (name, rest) = rest.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
        Some(Self {
            pid: pid.parse().ok()?,
            parent: fields.get(1)?.parse().ok()?,
            name: name.to_owned(),
            zombie: matches!(*fields.first()?, "Z" | "X"),
            ticks: number(11)? + number(12)?,
            started: number(19)?,
        })
    }

    /// How long ago it started, to a hundredth of a second.
    pub fn age(&self) -> Duration {
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
        let seconds = uptime.split(' ').next().and_then(|text| text.parse::<f64>().ok());
        // The kernel counts in hundredths towards users, whatever its own tick is.
        let started = Duration::from_millis(self.started.saturating_mul(10));
        seconds.map_or(Duration::ZERO, Duration::from_secs_f64).saturating_sub(started)
    }

    /// Resident memory in KiB; 0 when it is gone.
    pub fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid));
        let Ok(status) = status else { return 0 };
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|rest| rest.trim().strip_suffix(" kB")?.trim().parse().ok()).unwrap_or(0)
    }
}

/// Every process there is.
pub fn all() -> Vec<Process> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(Process::read)
        .collect()
}

/// What a run's processes have in common.
#[derive(Clone, Debug)]
pub struct Mark {
    /// The run's name, as it stands in [`MARK`].
    pub run: String,
    /// The run's folder: every process of it works somewhere below.
    pub folder: PathBuf,
}

impl Mark {
    /// Every process of the run, or of one site of it.
    pub fn processes(&self, site: Option<&str>) -> Vec<Process> {
        let everyone = all();
        let own = i32::try_from(std::process::id()).unwrap_or(0);
        let mut found: BTreeSet<i32> = everyone
            .iter()
            .filter(|process| process.pid != own && self.carries(process.pid, site))
            .map(|process| process.pid)
            .collect();
        // Descendants, until nobody is added; the chains are short.
        loop {
            let before = found.len();
            let heirs = everyone.iter().filter(|process| found.contains(&process.parent));
            let heirs: Vec<i32> = heirs.map(|process| process.pid).collect();
            found.extend(heirs);
            if found.len() == before {
                break;
            }
        }
        everyone.into_iter().filter(|p| found.contains(&p.pid) && !p.zombie).collect()
    }

    fn carries(&self, pid: i32, site: Option<&str>) -> bool {
        let folder = match site {
            Some(site) => self.folder.join(site),
            None => self.folder.clone(),
        };
        let stands = std::fs::read_link(format!("/proc/{pid}/cwd"));
        if stands.is_ok_and(|path| path.starts_with(&folder)) {
            return true;
        }
        let Ok(environment) = std::fs::read(format!("/proc/{pid}/environ")) else { return false };
        let wanted = format!("{MARK}={}/{}", self.run, site.unwrap_or(""));
        environment.split(|byte| *byte == 0).any(|variable| match site {
            Some(_) => variable == wanted.as_bytes(),
            None => variable.starts_with(wanted.as_bytes()),
        })
    }

    /// Ends them all with SIGKILL and waits until none is left. Returns how many there were.
    pub fn end(&self, site: Option<&str>) -> usize {
        let mut ended = BTreeSet::new();
        settles(Duration::from_secs(20), Duration::from_millis(5), || {
            let living = self.processes(site);
            signal_all(&living, Signal::SIGKILL);
            ended.extend(living.iter().map(|process| process.pid));
            reap_orphans();
            living.is_empty()
        });
        ended.len()
    }
}

/// Sends `signal` to each, in one tight loop. A process that is gone meanwhile is no error.
pub fn signal_all(processes: &[Process], signal: Signal) {
    for process in processes {
        let _ = kill(Pid::from_raw(process.pid), signal);
    }
}

/// The children that the lab itself waits for; every other child of its is an orphan.
static CHILDREN: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

/// Makes the lab the parent of what its daemons leave behind.
///
/// # Errors
/// That of the kernel.
pub fn adopt_orphans() -> nix::Result<()> {
    nix::sys::prctl::set_child_subreaper(true)
}

/// Starts a child that the lab waits for itself.
///
/// # Errors
/// That of the start.
pub fn spawn(command: &mut Command) -> io::Result<Child> {
    // The lock spans the start, or a child that ends at once would be taken for an orphan.
    let mut children = CHILDREN.lock().unwrap_or_else(PoisonError::into_inner);
    let child = command.spawn()?;
    children.insert(pid_of(&child).as_raw());
    Ok(child)
}

/// A child's number.
pub fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX))
}

/// Call once a child was waited for: its number may be used anew.
pub fn waited(pid: Pid) {
    CHILDREN.lock().unwrap_or_else(PoisonError::into_inner).remove(&pid.as_raw());
}

/// Reaps what the daemons left behind and the kernel handed to the lab. Cheap when there is
/// nothing: one system call.
pub fn reap_orphans() {
    let children = CHILDREN.lock().unwrap_or_else(PoisonError::into_inner);
    let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    match waitid(Id::All, look) {
        Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) => {}
        _ => return,
    }
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    let orphans = all()
        .into_iter()
        .filter(|process| process.zombie && process.parent == own)
        .filter(|process| !children.contains(&process.pid));
    for orphan in orphans {
        let _ = waitpid(Pid::from_raw(orphan.pid), Some(WaitPidFlag::WNOHANG));
    }
}

/// Ends one process that is no child of ours: SIGTERM, then SIGKILL once `bound` has passed.
/// `started` guards against a pid that was given away since. Returns whether it was there.
pub fn end_stranger(pid: i32, started: u64, bound: Duration) -> bool {
    let alive = || Process::read(pid).is_some_and(|p| p.started == started && !p.zombie);
    if !alive() {
        return false;
    }
    let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    if !settles(bound, Duration::from_millis(20), || !alive()) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        settles(Duration::from_secs(5), Duration::from_millis(20), || !alive());
    }
    true
}

/// The postmaster of a data directory, by its pid file, if it runs.
pub fn postmaster(data: &Path) -> Option<Process> {
    let file = std::fs::read_to_string(data.join("postmaster.pid")).ok()?;
    let process = Process::read(file.lines().next()?.trim().parse().ok()?)?;
    let stands = std::fs::read_link(format!("/proc/{}/cwd", process.pid)).ok()?;
    // The kernel writes ` (deleted)` behind a folder that is gone: such a process is another's.
    let same = stands.as_os_str().as_bytes() == data.canonicalize().ok()?.as_os_str().as_bytes();
    (same && !process.zombie).then_some(process)
}

/// Waits for a child, at most `bound`, then kills it. Not interruptible: for cleaning up.
pub fn wait_or_kill(child: &mut Child, bound: Duration) {
    let ended = || matches!(child.try_wait(), Ok(Some(_)) | Err(_));
    if !settles(bound, Duration::from_millis(5), ended) {
        let _ = child.kill();
        let _ = child.wait();
    }
    waited(pid_of(child));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Stdio;

    #[test]
    fn a_stat_line_with_an_odd_name() {
        let line = "42 (a) (b c) S 7 42 42 0 -1 4194560 1 0 0 0 13 4 0 0 20 0 1 0 99 1 2";
        let process = Process::parse(line).expect("it is a stat line");
        assert_eq!((process.pid, process.parent, process.name.as_str()), (42, 7, "a) (b c"));
        assert_eq!((process.ticks, process.started, process.zombie), (17, 99, false));
    }

    #[test]
    fn this_process_is_found() {
        let own = i32::try_from(std::process::id()).expect("pids are small");
        let process = Process::read(own).expect("we run");
        assert!(process.resident_kib() > 0);
        assert!(all().iter().any(|p| p.pid == own));
    }

    #[test]
    fn marked_processes_and_their_children_are_found_and_ended() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let run = format!("test-{}", std::process::id());
        let mark = Mark { run: run.clone(), folder: folder.path().into() };
        let mut marked = spawn(
            Command::new("sh")
                .args(["-c", "env -i sleep 300 & wait"])
                .env(MARK, format!("{run}/east"))
                .stdin(Stdio::null()),
        )
        .expect("sh is there");
        std::fs::create_dir(folder.path().join("west")).expect("a folder");
        let mut standing = spawn(
            Command::new("sleep").arg("300").current_dir(folder.path().join("west")).env_clear(),
        )
        .expect("sleep is there");
        assert!(settles(Duration::from_secs(10), Duration::from_millis(5), || {
            mark.processes(Some("east")).len() == 2 && mark.processes(Some("west")).len() == 1
        }));
        assert_eq!(mark.processes(None).len(), 3);
        assert_eq!(mark.end(Some("east")), 2);
        assert_eq!(mark.processes(None).len(), 1);
        assert_eq!(mark.end(None), 1);
        wait_or_kill(&mut marked, Duration::from_secs(5));
        wait_or_kill(&mut standing, Duration::from_secs(5));
    }
}
