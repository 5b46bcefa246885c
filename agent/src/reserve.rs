//! Room that is kept for promises. A standby whose disk is full is of no use as a primary, but it
//! must still be able to swear off the old one: without its seal nobody else can be promoted.
//! So a file in the run directory holds some blocks, and a write that finds no room frees them and
//! tries once more. It is made anew when there is room again.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// Many times what a seal writes: others write to a full disk too.
const SIZE: usize = 1 << 20;

fn file(folder: &Path) -> PathBuf {
    folder.join("reserve")
}

/// Makes the reserve of a folder, unless it is there.
pub fn keep(folder: &Path) {
    let path = file(folder);
    let whole = std::fs::metadata(&path).is_ok_and(|found| found.len() >= SIZE as u64);
    if !whole && let Err(error) = fill(&path) {
        tracing::debug!(%error, "no room can be kept for promises now");
        drop(std::fs::remove_file(path));
    }
}

fn fill(path: &Path) -> io::Result<()> {
    let mut file: File = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
    // Written, so that a file system that compresses keeps some of it too.
    let mut word: u32 = 0x9e37_79b9;
    let mut block = Vec::with_capacity(SIZE);
    while block.len() < SIZE {
        word = word.wrapping_mul(0x0019_660d).wrapping_add(0x3c6e_f35f);
        block.extend(word.to_le_bytes());
    }
    file.write_all(&block)?;
    file.sync_all()
}

/// Writes; where there is no room, once more with what the folder keeps for it.
///
/// # Errors
/// Those of `write`.
pub fn write_with<T>(folder: &Path, write: impl Fn() -> io::Result<T>) -> io::Result<T> {
    match write() {
        Err(error) if error.kind() == io::ErrorKind::StorageFull => {
            if std::fs::remove_file(file(folder)).is_err() {
                return Err(error);
            }
            tracing::warn!("the disk is full: the room that was kept for promises is used");
            write()
        }
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i06_a_full_disk_does_not_keep_an_instance_from_swearing() {
        let folder = tempfile::tempdir().unwrap();
        let path = file(folder.path());
        let full = || if path.exists() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) };
        assert!(write_with(folder.path(), full).is_ok(), "nothing was kept, nothing is needed");
        keep(folder.path());
        assert!(full().is_err());
        assert!(write_with(folder.path(), full).is_ok());
        let always = || -> io::Result<()> { Err(io::ErrorKind::StorageFull.into()) };
        assert!(write_with(folder.path(), always).is_err(), "it is used once");
        keep(folder.path());
        assert!(path.exists());
    }
}
