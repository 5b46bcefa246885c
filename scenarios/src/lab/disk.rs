//! Disks of their own for daemons that a scenario takes room, speed or life from: an ext4 file
//! system in a file, mounted over the daemon's folder.
//!
//! A slow disk is one that is frozen (`fsfreeze`) for as long as a flush is to take, again and
//! again with a short breath between: whoever writes or flushes meanwhile waits in the kernel, as
//! it does on a device that hangs. A full one holds a file that takes all the room.

use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};

use super::process;
use super::stop::{Stop, breathe};

/// The size of a disk; its file is sparse.
const SIZE: u64 = 1 << 30;
/// What a frozen disk is given between two freezes.
const BREATH: Duration = Duration::from_millis(30);
/// The file that fills a disk.
const FILLER: &str = "filler";

/// One disk. Dropped: thawed and unmounted.
#[derive(Debug)]
pub struct Disk {
    folder: PathBuf,
    slow: Mutex<Option<(Stop, JoinHandle<()>)>>,
}

impl Disk {
    /// Why disks cannot be had here; `None` when they can.
    pub fn missing() -> Option<String> {
        if !nix::unistd::Uid::effective().is_root() {
            return Some("disks of their own need root".into());
        }
        let programs = ["mkfs.ext4", "fsfreeze", "mount", "umount"];
        let found = |program: &&str| {
            ["/usr/sbin", "/sbin", "/usr/bin", "/bin"]
                .iter()
                .any(|folder| Path::new(folder).join(program).exists())
        };
        if let Some(lacking) = programs.iter().find(|program| !found(program)) {
            return Some(format!("disks of their own need `{lacking}` (e2fsprogs, util-linux)"));
        }
        (!Path::new("/dev/loop-control").exists())
            .then(|| "disks of their own need loop devices (/dev/loop-control)".into())
    }

    /// Puts a disk below `folder`, with what is in it; `image` is where the disk's file is made.
    ///
    /// # Errors
    /// What `mkfs` or `mount` say.
    pub fn make(folder: &Path, image: &Path) -> Result<Self> {
        let file = std::fs::File::create(image)?;
        file.set_len(SIZE)?;
        let (image, text) = (image.to_string_lossy(), folder.to_string_lossy());
        run("mkfs.ext4", &["-q", "-F", "-m", "0", "-E", "lazy_itable_init=1", &image])?;
        let aside = folder.with_extension("aside");
        std::fs::rename(folder, &aside)?;
        std::fs::create_dir(folder)?;
        run("mount", &["-o", "loop", &image, &text])?;
        let disk = Self { folder: folder.to_owned(), slow: Mutex::new(None) };
        let from = format!("{}/.", aside.to_string_lossy());
        run("cp", &["-a", &from, &text])?;
        let owner = std::fs::metadata(&aside)?;
        chown(folder, Some(owner.uid()), Some(owner.gid()))?;
        std::fs::remove_dir_all(aside)?;
        Ok(disk)
    }

    /// Lets every flush take as long as `by`; nothing: as fast as it can.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn slow(&self, by: Duration) -> Result<()> {
        let mut held = self.slow.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((over, thread)) = held.take() {
            over.tell(nix::sys::signal::Signal::SIGTERM);
            let _ = thread.join();
        }
        if by.is_zero() {
            return Ok(());
        }
        let over = Stop::default();
        let (told, folder) = (over.clone(), self.folder.to_string_lossy().into_owned());
        let work = move || {
            while told.check().is_ok() {
                let frozen = run("fsfreeze", &["-f", &folder]).is_ok();
                let _ = told.pause(by);
                if frozen {
                    thaw(&folder);
                }
                let _ = told.pause(BREATH);
            }
        };
        let thread = std::thread::Builder::new().name("slow disk".into()).spawn(work)?;
        *held = Some((over, thread));
        Ok(())
    }

    /// Takes all the room there is.
    ///
    /// # Errors
    /// Those of the file system other than that it is full.
    pub fn fill(&self) -> Result<()> {
        let mut file = std::fs::File::create(self.folder.join(FILLER))?;
        // Nearly all of it at once; the rest, which others take from meanwhile, block by block.
        let found = nix::sys::statvfs::statvfs(&self.folder)?;
        let free = found.blocks_available().saturating_mul(found.fragment_size());
        let most = nix::libc::off_t::try_from(free.saturating_sub(8 << 20)).unwrap_or(0);
        if most > 0 {
            let taken = fallocate(&file, FallocateFlags::empty(), 0, most);
            taken.or_else(|error| if error == Errno::ENOSPC { Ok(()) } else { Err(error) })?;
        }
        file.seek(SeekFrom::End(0))?;
        for size in [1 << 20, 1 << 12, 1 << 9] {
            let block = vec![0x5a; size];
            loop {
                match file.write_all(&block) {
                    Ok(()) => {}
                    Err(error) if error.raw_os_error() == Some(nix::libc::ENOSPC) => break,
                    Err(error) => return Err(error).context("cannot fill the disk"),
                }
            }
        }
        file.sync_all().or_else(|error| {
            if error.raw_os_error() == Some(nix::libc::ENOSPC) { Ok(()) } else { Err(error) }
        })?;
        Ok(())
    }

    /// Gives the room back.
    pub fn free(&self) {
        let _ = std::fs::remove_file(self.folder.join(FILLER));
    }

    /// As fast as it can again, whatever happens.
    pub fn thaw(&self) {
        let _ = self.slow(Duration::ZERO);
        thaw(&self.folder.to_string_lossy());
    }

    /// Whether a path lies on it.
    pub fn holds(&self, path: &Path) -> bool {
        path.starts_with(&self.folder)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.thaw();
        unmount(&self.folder);
    }
}

/// Thaws whatever is mounted below `folder`: what waits for it can then be ended.
pub fn thaw_below(folder: &Path) {
    for at in mounts_below(folder) {
        thaw(&at);
    }
}

/// Unmounts whatever is mounted below `folder`.
pub fn unmount_below(folder: &Path) {
    for at in mounts_below(folder) {
        unmount(Path::new(&at));
    }
}

/// The last one first.
fn mounts_below(folder: &Path) -> Vec<String> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let all = mounts.lines().rev().filter_map(|line| line.split(' ').nth(1));
    all.filter(|at| Path::new(at).starts_with(folder)).map(str::to_owned).collect()
}

fn unmount(folder: &Path) {
    let text = folder.to_string_lossy();
    for _ in 0..50 {
        if run("umount", &[&text]).is_ok() {
            return;
        }
        breathe(Duration::from_millis(100));
    }
    let _ = run("umount", &["-l", &text]);
}

fn thaw(folder: &str) {
    let _ = run("fsfreeze", &["-u", folder]);
}

fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    command.env("PATH", path);
    let child = process::spawn(&mut command).with_context(|| format!("`{program}` is needed"))?;
    let pid = process::pid_of(&child);
    let output = child.wait_with_output();
    process::waited(pid);
    let output = output?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{program} {}: {}", arguments.join(" "), said.trim());
    }
    Ok(())
}
