//! Files that are either the old or the new content after a crash, never something between.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Replaces `path` whole: a temporary file in the same folder, fsync, rename, fsync of the folder.
/// Once it returns `Ok` the content survives a power cut. Mode 0644 less the umask.
///
/// # Errors
/// Those of the file system; `path` is then as it was, and no temporary file is left.
pub fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace(path, bytes, 0o644)
}

/// As [`write_durably`], readable by the owner only (0600) from the first byte on.
///
/// # Errors
/// As [`write_durably`].
pub fn write_secret(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace(path, bytes, 0o600)
}

fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let temporary = temporary_beside(path)?;
    let written = write_new(&temporary, bytes, mode).and_then(|()| fs::rename(&temporary, path));
    if let Err(error) = written {
        // The first error is the one worth telling.
        drop(fs::remove_file(&temporary));
        return Err(error);
    }
    File::open(folder_of(path))?.sync_all()
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// The folder a path lies in; `.` for a bare file name.
pub fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn temporary_beside(path: &Path) -> io::Result<PathBuf> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidInput, format!("{} is not a file", path.display()))
    })?;
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    // The time keeps a file left by a killed process of the same number out of the way.
    let unique = format!(".{}.{}.{count}.tmp", std::process::id(), crate::clock::now().0);
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(unique);
    Ok(path.with_file_name(temporary))
}
