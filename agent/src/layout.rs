//! Where the agent keeps what it keeps: everything of this instance alone is in the run directory,
//! because `pg_rewind` and `pg_basebackup` copy the data directory's own files from elsewhere.

use crate::reserve;
use failover::Epoch;
use nix::fcntl::{Flock, FlockArg};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::runtime::{Handle, RuntimeFlavor};

/// The longest folder name in which `.s.PGSQL.65535` still fits a Unix socket's address.
const LONGEST_SOCKET_FOLDER: usize = 88;

/// Absolute paths.
#[derive(Clone, Debug)]
pub struct Layout {
    /// PostgreSQL's data directory.
    pub data: PathBuf,
    /// The agent's own directory (0700).
    pub run: PathBuf,
    /// Where the Unix sockets are: `run`, or a short private folder where that is too long.
    pub sockets: PathBuf,
}

impl Layout {
    /// Makes the run directory where it is missing.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn create(data: &Path, run: &Path) -> io::Result<Self> {
        private_folder(run)?;
        for folder in ["tls", "stream", "lost-tail"] {
            private_folder(&run.join(folder))?;
        }
        let sockets = sockets_of(run);
        private_folder(&sockets)?;
        Ok(Self { data: data.to_owned(), run: run.to_owned(), sockets })
    }

    /// Takes the run directory for one agent alone, until what is returned is dropped: a second
    /// one would take the first's guard from it, and so end its PostgreSQL.
    ///
    /// # Errors
    /// Another agent has it, or those of the file system.
    pub fn hold(&self) -> io::Result<Flock<File>> {
        let file = std::fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(self.run.join("agent.lock"))?;
        Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| {
            let text = format!("{}: another baton-agent runs here: {error}", self.run.display());
            io::Error::new(io::Error::from(error).kind(), text)
        })
    }

    /// The guard's socket.
    pub fn guard_socket(&self) -> PathBuf {
        self.sockets.join("guard.sock")
    }

    /// The settings PostgreSQL is started with.
    pub fn postgresql_conf(&self) -> PathBuf {
        self.run.join("postgresql.conf")
    }

    /// The settings that change while it runs.
    pub fn baton_conf(&self) -> PathBuf {
        self.run.join("baton.conf")
    }

    /// Who may connect.
    pub fn hba(&self) -> PathBuf {
        self.run.join("pg_hba.conf")
    }

    /// Which user of the operating system may be whom.
    pub fn ident(&self) -> PathBuf {
        self.run.join("pg_ident.conf")
    }

    /// PostgreSQL's log.
    pub fn log(&self) -> PathBuf {
        self.run.join("postgres.log")
    }

    /// The agent's promises.
    pub fn pledge(&self) -> PathBuf {
        self.run.join("pledge.json")
    }

    /// The newest assignment on which something rests that outlives a power cut.
    pub fn kept_assignment(&self) -> PathBuf {
        self.run.join("assignment-kept.json")
    }

    /// The newest assignment.
    pub fn assignment(&self) -> PathBuf {
        self.run.join("assignment.json")
    }

    /// A file of the agent's TLS identity, as PostgreSQL uses it: `ca.crt`, `tls.crt`, `tls.key`.
    pub fn tls(&self, name: &str) -> PathBuf {
        self.run.join("tls").join(name)
    }

    /// The copy of the key with which this instance follows the primary of one epoch.
    pub fn stream_key(&self, epoch: Epoch) -> PathBuf {
        self.run.join("stream").join(format!("{epoch}.key"))
    }

    /// Where the tail that an epoch's failover left behind is kept.
    pub fn lost_tail(&self, epoch: Epoch) -> PathBuf {
        self.run.join("lost-tail").join(epoch.to_string())
    }

    /// A folder beside the data directory.
    pub fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = self.data.file_name().unwrap_or_default().to_owned();
        name.push(".");
        name.push(suffix);
        self.data.with_file_name(name)
    }

    /// Whether the data directory holds a cluster.
    pub fn has_cluster(&self) -> bool {
        self.data.join("PG_VERSION").exists()
    }

    /// Whether `standby.signal` is there.
    pub fn is_standby(&self) -> bool {
        self.data.join("standby.signal").exists()
    }
}

/// Makes a folder that only we may enter; refuses one of somebody else.
fn private_folder(path: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    let owner = std::fs::metadata(path)?.uid();
    let user = nix::unistd::geteuid();
    // Root only prepares: the folder is its user's, before and after.
    if owner != user.as_raw() && !user.is_root() {
        let text = format!("{} belongs to user {owner}: chown it", path.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    }
    Ok(())
}

/// Replaces a file whole, for our eyes only, without waiting for the disk: for what is written
/// anew before every start of PostgreSQL, so that a power cut cannot bring it back.
///
/// # Errors
/// Those of the file system; the file is then as it was.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(path);
    reserve::write_with(folder, || replace_once(path, bytes))
}

fn replace_once(path: &Path, bytes: &[u8]) -> io::Result<()> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let temporary = path.with_extension(format!("{}-{number}.tmp", std::process::id()));
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    let written = file.write_all(bytes).and_then(|()| std::fs::rename(&temporary, path));
    if written.is_err() {
        drop(std::fs::remove_file(&temporary));
    }
    written
}

/// Makes everything written to a folder's file system durable: one call instead of a thousand
/// files flushed one by one.
///
/// # Errors
/// Those of the file system.
pub fn sync_tree(folder: &Path) -> io::Result<()> {
    let opened = std::fs::File::open(folder)?;
    patiently(|| nix::unistd::syncfs(opened).map_err(io::Error::from))
}

/// The bytes left to us on a folder's file system.
///
/// # Errors
/// Those of the file system.
pub fn free(folder: &Path) -> io::Result<u64> {
    let found = nix::sys::statvfs::statvfs(folder).map_err(io::Error::from)?;
    Ok(found.blocks_available().saturating_mul(found.fragment_size()))
}

/// Does what a disk may take long for, while whatever else this thread had to do is done by
/// another: the next beat, the next report, an order to seal.
pub fn patiently<T>(slow: impl FnOnce() -> T) -> T {
    let several = Handle::try_current()
        .is_ok_and(|runtime| runtime.runtime_flavor() == RuntimeFlavor::MultiThread);
    if several { tokio::task::block_in_place(slow) } else { slow() }
}

/// Makes a removal or a rename in `folder` durable.
///
/// # Errors
/// Those of the file system.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    std::fs::File::open(folder)?.sync_all()
}

/// Where the Unix sockets of a run directory are.
#[must_use]
pub fn sockets_of(run: &Path) -> PathBuf {
    if run.as_os_str().len() <= LONGEST_SOCKET_FOLDER {
        return run.to_owned();
    }
    let digest = ring::digest::digest(&ring::digest::SHA256, run.as_os_str().as_encoded_bytes());
    let mut name = [0u8; 8];
    name.iter_mut().zip(digest.as_ref()).for_each(|(byte, from)| *byte = *from);
    std::env::temp_dir().join(format!("baton-{:016x}", u64::from_be_bytes(name)))
}

/// Removes a file durably; it may be missing.
///
/// # Errors
/// Those of the file system.
pub fn remove_durably(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    }
    path.parent().map_or(Ok(()), sync_folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_of_a_long_path_have_a_short_one_of_their_own() {
        let run = |length| Path::new("/").join("r".repeat(length));
        assert_eq!(sockets_of(&run(20)), run(20));
        let short = sockets_of(&run(200));
        assert!(short.as_os_str().len() <= LONGEST_SOCKET_FOLDER, "{}", short.display());
        assert_ne!(short, sockets_of(&run(201)));
    }

    #[test]
    fn i26_a_second_agent_is_refused_the_run_directory_of_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("run");
        let layout = Layout::create(&folder.path().join("pgdata"), &run).unwrap();
        let held = layout.hold().unwrap();
        let refused = layout.hold().unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        assert!(refused.to_string().contains("another baton-agent"), "{refused}");
        drop(held);
        layout.hold().unwrap();
    }
}
