//! The shipped programs, found beside the lab's own, and the operator's one run to its end.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use failover::time::Moment;
use nix::sys::signal::{Signal, kill};
use std::os::unix::process::CommandExt;
use wire::clock;

use super::directory::Account;
use super::layout::Kind;
use super::process;
use super::stop::Stop;

/// Where the programs are.
#[derive(Clone, Debug)]
pub struct Binaries {
    folder: PathBuf,
}

impl Binaries {
    /// Those beside the running one.
    ///
    /// # Errors
    /// When one is missing: which, and how to build it.
    pub fn beside_own() -> Result<Self> {
        let own = std::env::current_exe().context("cannot tell where this program is")?;
        let folder = own.parent().context("a program stands in a folder")?.to_path_buf();
        let found = Self { folder };
        for program in Self::programs() {
            let path = found.path(program);
            if !path.is_file() {
                bail!("{} is missing: run `make build`", path.display());
            }
        }
        Ok(found)
    }

    fn programs() -> impl Iterator<Item = &'static str> {
        Kind::ALL.into_iter().map(Kind::program).chain(["baton"])
    }

    /// These, or a copy in `folder` for an account that may not be able to reach them.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn for_account(self, account: &Account, folder: &Path) -> Result<Self> {
        match account.drop_to {
            Some(_) => self.copy_to(&folder.join("bin")),
            None => Ok(self),
        }
    }

    /// Copies them to `folder`: an unprivileged user may not be able to reach the originals.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn copy_to(&self, folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        for program in Self::programs() {
            let to = folder.join(program);
            std::fs::copy(self.path(program), &to)
                .with_context(|| format!("cannot copy {program} to {}", to.display()))?;
        }
        Ok(Self { folder: folder.into() })
    }

    /// A program's path.
    pub fn path(&self, program: &str) -> PathBuf {
        self.folder.join(program)
    }
}

/// `command` with nothing on its standard input and both outputs kept, ended when it takes longer
/// than `bound` or a stop is asked for.
///
/// # Errors
/// When it cannot be started, in time or at all. Its own failure is in the output.
pub fn run(stop: &Stop, command: &mut Command, bound: Duration) -> Result<Output> {
    let name = describe(command);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // A process group of its own: Ctrl-C is for the lab, which then ends its children in order.
    command.process_group(0);
    let child = process::spawn(command).with_context(|| format!("cannot start `{name}`"))?;
    let pid = process::pid_of(&child);
    let until: Moment = clock::now().after(bound);
    let (done, wait) = channel();
    std::thread::spawn(move || {
        let output = child.wait_with_output();
        process::waited(pid);
        let _ = done.send(output);
    });
    loop {
        match wait.recv_timeout(Duration::from_millis(20)) {
            Ok(output) => return output.with_context(|| format!("cannot read from `{name}`")),
            Err(RecvTimeoutError::Disconnected) => bail!("lost sight of `{name}`"),
            Err(RecvTimeoutError::Timeout) => {}
        }
        let stopped = stop.check();
        if stopped.is_err() || clock::now() > until {
            let _ = kill(pid, Signal::SIGKILL);
            stopped?;
            bail!("`{name}` took longer than {} s", bound.as_secs());
        }
    }
}

/// The command as a person would type it, without the folders.
fn describe(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default();
    let words = command.get_args().map(OsStr::to_string_lossy);
    std::iter::once(program.to_string_lossy()).chain(words).collect::<Vec<_>>().join(" ")
}

/// Why a command failed: its last line of error, or its code.
pub fn complaint(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = lines.len().saturating_sub(6);
    match lines.get(last..) {
        Some(tail) if !tail.is_empty() => tail.join("\n"),
        _ => output.status.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_run_to_its_end_or_its_bound() {
        let stop = Stop::default();
        let mut quick = Command::new("sh");
        quick.args(["-c", "echo out; echo why >&2; exit 3"]);
        let output = run(&stop, &mut quick, Duration::from_secs(20)).expect("sh is there");
        assert_eq!((output.stdout.as_slice(), output.status.code()), (&b"out\n"[..], Some(3)));
        assert_eq!(complaint(&output), "why");
        let mut slow = Command::new("sleep");
        slow.arg("100");
        let late = run(&stop, &mut slow, Duration::from_millis(50)).expect_err("it is slow");
        assert!(late.to_string().contains("sleep 100"));
    }
}
