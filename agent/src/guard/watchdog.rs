//! A hardware watchdog: once opened it resets the machine unless something is written to it in
//! time, and it is switched off again only by a `V` written just before it is closed.
//!
//! It is on while PostgreSQL serves clients under a deadline, and only then. Whatever ends the
//! guard by force leaves it on, and the machine is reset: nobody else may be there to end what the
//! guard was there to end.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The device.
#[derive(Debug)]
pub struct Device {
    path: PathBuf,
    open: Option<File>,
    complained: bool,
}

impl Device {
    /// Off. One that an earlier guard left on is switched off: what that one guarded was ended
    /// before this guard was started.
    pub fn new(path: &Path) -> Self {
        let mut device = Self { path: path.to_owned(), open: None, complained: false };
        device.feed();
        device.off();
        device
    }

    /// Switches it on, or puts its reset off.
    pub fn feed(&mut self) {
        if self.open.is_none() {
            match OpenOptions::new().append(true).open(&self.path) {
                Ok(file) => self.open = Some(file),
                Err(error) => self.complain(&error.to_string()),
            }
        }
        let fed = self.open.as_mut().map(|file| file.write_all(b"\0"));
        if let Some(Err(error)) = fed {
            self.complain(&error.to_string());
        }
    }

    /// Switches it off.
    pub fn off(&mut self) {
        if let Some(mut file) = self.open.take()
            && let Err(error) = file.write_all(b"V")
        {
            self.complain(&error.to_string());
        }
    }

    /// To the guard's log; once, because it is tried several times a second.
    fn complain(&mut self, error: &str) {
        if !self.complained {
            self.complained = true;
            eprintln!("watchdog {}: {error}", self.path.display());
        }
    }
}

/// What is wrong with a watchdog for the timing law: without a device or with a long timeout it
/// does not fence in time. `None`: as far as the kernel tells, nothing.
pub fn doubtful(path: &Path, within: Duration) -> Option<String> {
    if let Err(error) = std::fs::metadata(path) {
        return Some(format!("{}: {error}: nothing resets this machine", path.display()));
    }
    let name = path.file_name()?.to_str()?;
    let name = if name == "watchdog" { "watchdog0" } else { name };
    let text = std::fs::read_to_string(format!("/sys/class/watchdog/{name}/timeout")).ok()?;
    let timeout = Duration::from_secs(text.trim().parse().ok()?);
    (timeout > within).then(|| {
        format!(
            "{} resets the machine only after {} s, and this service's timing asks for at most \
             {} ms: shorten the device's timeout or lengthen suspect_after",
            path.display(),
            timeout.as_secs(),
            within.as_millis()
        )
    })
}
