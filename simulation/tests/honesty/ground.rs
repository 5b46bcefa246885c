//! Where PostgreSQL is, who may run it, and waiting for it.

use std::fs::Permissions;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// Between two looks.
pub const STEP: Duration = Duration::from_millis(50);

/// Waits for nothing in particular.
pub fn rest(time: Duration) {
    let (_held, never) = std::sync::mpsc::channel::<()>();
    let _ = never.recv_timeout(time);
}

/// Tries until it is so, for at most this long.
pub fn until(limit: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let mut left = limit;
    loop {
        if is_so() {
            return true;
        }
        if left.is_zero() {
            return false;
        }
        rest(STEP);
        left = left.saturating_sub(STEP);
    }
}

/// Where PostgreSQL's programs are.
pub fn found() -> Option<PathBuf> {
    let mut places: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("bin"))
        .filter(|bin| bin.join("postgres").exists() && bin.join("initdb").exists())
        .collect();
    places.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let along = std::env::split_paths(&path).find(|bin| bin.join("initdb").exists());
    let bin = places.pop().or(along)?;
    (!is_root() || user().is_some()).then_some(bin)
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

/// The numbers of the user `postgres` and its group.
fn user() -> Option<(u32, u32)> {
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    let line = users.lines().find(|line| line.starts_with("postgres:"))?;
    let mut fields = line.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// PostgreSQL does not run as root: as root, the test runs itself again as its user. True: it did.
pub fn as_postgres(name: &str) -> bool {
    let Some((uid, gid)) = user().filter(|_| is_root()) else { return false };
    // The clone may lie in a folder that only root may enter.
    let copies = tempfile::tempdir().unwrap();
    std::fs::set_permissions(copies.path(), Permissions::from_mode(0o755)).unwrap();
    let copy = copies.path().join("honesty");
    std::fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    let mut command = Command::new(copy);
    command.args(["--exact", name, "--nocapture"]).uid(uid).gid(gid).env("HOME", "/");
    command.current_dir("/");
    let status = loop {
        match command.status() {
            // Another thread was forking while the copy was being written, and still holds it.
            Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => {
                rest(STEP);
            }
            status => break status.unwrap(),
        }
    };
    assert!(status.success(), "{name} failed as postgres");
    true
}
