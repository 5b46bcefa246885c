//! The folder of a run: made for the user that the daemons run as, and gone with the run.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::unistd::{Gid, Uid, User};
use serde::{Deserialize, Serialize};

use super::process::{Mark, Process};

/// Whom the daemons run as.
#[derive(Clone, Debug)]
pub struct Account {
    /// For people.
    pub name: String,
    /// Set only when the lab is root and drops its children to this.
    pub drop_to: Option<(u32, u32)>,
}

impl Account {
    /// `postgres`, else `nobody`, where the lab is root: PostgreSQL refuses to be. Otherwise the
    /// lab's own user.
    ///
    /// # Errors
    /// When neither account exists.
    pub fn choose() -> Result<Self> {
        if !Uid::effective().is_root() {
            let own = User::from_uid(Uid::effective()).ok().flatten();
            let name = own.map_or_else(|| Uid::effective().to_string(), |user| user.name);
            return Ok(Self { name, drop_to: None });
        }
        let found = ["postgres", "nobody"]
            .into_iter()
            .find_map(|name| User::from_name(name).ok().flatten())
            .context("neither `postgres` nor `nobody` exists: PostgreSQL refuses to run as root")?;
        Ok(Self { name: found.name, drop_to: Some((found.uid.as_raw(), found.gid.as_raw())) })
    }
}

/// A run's folder. Dropped: removed, with all that is in it.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    record: PathBuf,
}

/// What is written down about a run, so that one that was killed can be cleaned up after.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    run: String,
    folder: PathBuf,
    namespaces: Vec<String>,
    pid: i32,
    started: u64,
}

impl Directory {
    /// Makes the folder in `base` and writes it down in `registry`.
    ///
    /// The path is short: PostgreSQL's socket below it must stay within 107 bytes.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn make(run: &str, namespaces: &[String], registry: &Path, base: &Path) -> Result<Self> {
        let path = tempfile::Builder::new()
            .prefix("baton-")
            .tempdir_in(base)
            .context("cannot make a temporary folder")?
            .keep();
        let path = path.canonicalize()?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
        std::fs::create_dir_all(registry)
            .with_context(|| format!("cannot make {}", registry.display()))?;
        let own = i32::try_from(std::process::id()).unwrap_or(0);
        let record = Record {
            run: run.to_owned(),
            folder: path.clone(),
            namespaces: namespaces.to_vec(),
            pid: own,
            started: Process::read(own).map_or(0, |process| process.started),
        };
        let file = registry.join(format!("{run}.json"));
        std::fs::write(&file, serde_json::to_vec_pretty(&record)?)
            .with_context(|| format!("cannot write {}", file.display()))?;
        Ok(Self { path, record: file })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        remove(&self.path);
        let _ = std::fs::remove_file(&self.record);
    }
}

/// Ends and removes what killed runs left: those written down in `registry` whose lab is gone.
/// Returns how many there were.
pub fn sweep(registry: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(registry) else { return 0 };
    let mut swept = 0;
    for entry in entries.flatten() {
        let Ok(text) = std::fs::read(entry.path()) else { continue };
        let Ok(record) = serde_json::from_slice::<Record>(&text) else { continue };
        let lives = Process::read(record.pid)
            .is_some_and(|process| process.started == record.started && !process.zombie);
        if lives {
            continue;
        }
        super::disk::thaw_below(&record.folder);
        Mark { run: record.run.clone(), folder: record.folder.clone() }.end(None);
        super::disk::unmount_below(&record.folder);
        super::network::remove(&record.namespaces);
        remove(&record.folder);
        let _ = std::fs::remove_file(entry.path());
        swept += 1;
    }
    swept
}

/// Removes a run's folder, its sites side by side: where the disk discards freed blocks at once,
/// one after the other takes many seconds.
fn remove(folder: &Path) {
    forget_memory(folder);
    std::thread::scope(|scope| {
        let sites = std::fs::read_dir(folder.join("cluster")).into_iter().flatten().flatten();
        for site in sites {
            scope.spawn(move || drop(std::fs::remove_dir_all(site.path())));
        }
    });
    let _ = std::fs::remove_dir_all(folder);
}

/// Takes back the System V memory of killed postmasters below `folder`: the next one in the same
/// directory would, and there is none.
pub fn forget_memory(folder: &Path) {
    let mut open = vec![folder.to_path_buf()];
    while let Some(next) = open.pop() {
        let Ok(entries) = std::fs::read_dir(&next) else { continue };
        for entry in entries.flatten() {
            let path = entry.path();
            // Only ways to data directories: they lie four deep at the most.
            let is_deep = path.strip_prefix(folder).is_ok_and(|below| below.iter().count() > 4);
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) && !is_deep {
                open.push(path);
            } else if entry.file_name() == "postmaster.pid" {
                let text = std::fs::read_to_string(&path).unwrap_or_default();
                let id = text.lines().nth(6).and_then(|line| line.split_whitespace().nth(1));
                if let Some(id) = id {
                    let mut command = std::process::Command::new("ipcrm");
                    command.args(["-m", id]).stderr(std::process::Stdio::null());
                    let _ = super::process::spawn(&mut command).map(|mut child| {
                        super::process::wait_or_kill(&mut child, Duration::from_secs(2));
                    });
                }
            }
        }
    }
}

/// Gives `path` and all below it to the account.
///
/// # Errors
/// Those of the file system.
pub fn give(path: &Path, account: &Account) -> Result<()> {
    let Some((uid, gid)) = account.drop_to else { return Ok(()) };
    let owner = Some(Uid::from_raw(uid).as_raw());
    let group = Some(Gid::from_raw(gid).as_raw());
    chown(path, owner, group).with_context(|| format!("cannot chown {}", path.display()))?;
    if path.symlink_metadata()?.is_dir() {
        for entry in std::fs::read_dir(path)? {
            give(&entry?.path(), account)?;
        }
    }
    Ok(())
}

/// Copies every log below `folder` (but not PostgreSQL's data) to `to`, for reading after a
/// failure; names keep their folder. Returns how many.
pub fn keep_logs(folder: &Path, to: &Path) -> usize {
    let mut kept = 0;
    let mut open = vec![folder.to_path_buf()];
    while let Some(next) = open.pop() {
        let Ok(entries) = std::fs::read_dir(&next) else { continue };
        for entry in entries.flatten() {
            let path = entry.path();
            let name = entry.file_name();
            if path.is_dir() && name != "pgdata" && name != "data" {
                open.push(path);
            } else if path
                .extension()
                .is_some_and(|extension| extension == "log" || extension == "jsonl")
            {
                let below = path.strip_prefix(folder).unwrap_or(&path).to_string_lossy();
                let _ = std::fs::create_dir_all(to);
                kept += usize::from(std::fs::copy(&path, to.join(below.replace('/', "_"))).is_ok());
            }
        }
    }
    kept
}

/// How long a freshly started cluster may take for its slowest parts, on a busy machine.
pub const GENEROUS: Duration = Duration::from_secs(90);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_goes_with_its_run() {
        let registry = tempfile::tempdir().expect("a temporary folder");
        let base = std::env::temp_dir();
        let made = Directory::make("t1", &[], registry.path(), &base).expect("it can be made");
        let path = made.path().to_path_buf();
        assert!(path.is_dir() && registry.path().join("t1.json").is_file());
        assert_eq!(sweep(registry.path()), 0, "its lab lives");
        drop(made);
        assert!(!path.exists() && !registry.path().join("t1.json").exists());
    }

    #[test]
    fn what_a_killed_run_left_is_swept() {
        let registry = tempfile::tempdir().expect("a temporary folder");
        let base = std::env::temp_dir();
        let made = Directory::make("t2", &[], registry.path(), &base).expect("it can be made");
        let file = registry.path().join("t2.json");
        let text = std::fs::read_to_string(&file).expect("it was written");
        let mut record: Record = serde_json::from_str(&text).expect("it is ours");
        record.started += 1;
        std::fs::write(&file, serde_json::to_vec(&record).expect("it is plain")).expect("writable");
        assert_eq!(sweep(registry.path()), 1);
        assert!(!made.path().exists() && !file.exists());
    }

    #[test]
    fn logs_are_kept_but_not_data() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let to = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir_all(folder.path().join("east/pgdata")).expect("a folder");
        std::fs::write(folder.path().join("east/agent.log"), "x").expect("a file");
        std::fs::write(folder.path().join("east/pgdata/y.log"), "x").expect("a file");
        assert_eq!(keep_logs(folder.path(), to.path()), 1);
        assert!(to.path().join("east_agent.log").is_file());
    }
}
