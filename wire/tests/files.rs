//! A replaced file is the old or the new one for whoever reads it, at every moment.

use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::{fs, thread};

use wire::files::{write_durably, write_secret};

#[test]
fn a_reader_never_sees_half_a_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("pledge");
    let contents = [vec![b'a'; 300_000], vec![b'b'; 200_000]];
    write_durably(&path, &contents[0]).expect("written");
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for content in contents.iter().cycle().take(40) {
                write_durably(&path, content).expect("written");
            }
            done.store(true, Ordering::Relaxed);
        });
        while !done.load(Ordering::Relaxed) {
            let seen = fs::read(&path).expect("always there");
            assert!(contents.contains(&seen), "{} bytes", seen.len());
        }
    });
    assert_eq!(fs::read_dir(folder.path()).expect("readable").count(), 1, "nothing is left over");
}

#[test]
fn a_failed_write_leaves_the_old_file_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("taken");
    fs::create_dir_all(path.join("inside")).expect("made");
    write_durably(&path, b"new").expect_err("a folder is in the way");
    assert!(path.join("inside").is_dir());
    assert_eq!(fs::read_dir(folder.path()).expect("readable").count(), 1);
    write_durably(&folder.path().join("absent/file"), b"new").expect_err("no such folder");
}

#[test]
fn secrets_are_for_their_owner() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("tls.key");
    fs::write(&path, "old").expect("written");
    write_secret(&path, b"secret").expect("written");
    let mode = fs::metadata(&path).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(fs::read(&path).expect("there"), b"secret");
}
