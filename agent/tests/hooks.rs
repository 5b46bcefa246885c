//! Programs beside a real server: run when it begins to serve, ended when that is over.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should not")]

mod support;

use agent::hooks::{self, Hook};
use failover::comply::Action;
use failover::report::{Note, Severity};
use failover::serving::Serves;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use support::{Site, World, play, wait_for};

/// A program that does what the lines say.
fn program(folder: &Path, name: &str, lines: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{lines}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn hook(name: &str, on: &[Serves], program: &Path, arguments: &[&str]) -> Hook {
    Hook {
        name: name.into(),
        on: on.iter().copied().collect(),
        program: program.to_owned(),
        arguments: arguments.iter().map(ToString::to_string).collect(),
        timeout: Duration::from_secs(20),
    }
}

fn lines(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn note(site: &Site, name: &str) -> Option<Note> {
    site.instance.state().notes.get(&format!("hook-{name}")).cloned()
}

#[test]
fn programs_are_told_what_is_served_and_what_became_of_them_is_reported() {
    play("programs_are_told_what_is_served_and_what_became_of_them_is_reported", async {
        let mut world = World::new(&["a", "b"]);
        world.lease_for(Duration::from_secs(30));
        let folder = world.folder.path().to_owned();
        let (seen, endless) = (folder.join("seen"), folder.join("endless"));
        let say = "echo \"$1 $BATON_SERVES $BATON_EPOCH $BATON_SERVICE $BATON_INSTANCE\" >> $2";
        let say = program(&folder, "say", say);
        let file = seen.display().to_string();
        let hang =
            format!("echo begun >> {0}\nsleep 600 &\necho $! >> {0}\nwait", endless.display());
        let hang = program(&folder, "hang", &hang);
        let odd = "argument; with $HOME `and` \"more\"";
        world.hooks = vec![
            hook("say", &[Serves::Primary, Serves::Nobody], &say, &[odd, &file]),
            hook("fail", &[Serves::Primary], Path::new("/bin/false"), &[]),
            hook("missing", &[Serves::Primary], Path::new("/nowhere/at/all"), &[]),
            hook("reader", &[Serves::Replica], Path::new("/bin/false"), &[]),
            hook("hang", &[Serves::Primary], &hang, &[]),
        ];
        let (a, _b) = world.pair().await;
        let running = tokio::spawn(hooks::run(Arc::clone(&a.instance)));
        wait_for("a pulse", || a.instance.state().committed.is_some()).await;
        assert!(!lines(&seen).iter().any(|line| line.contains("primary")), "not before it admits");
        a.admit().await;
        let told = |serves: &str| format!("{odd} {serves} 1 clinic a");
        wait_for("it is told", || lines(&seen).contains(&told("primary"))).await;
        wait_for("the endless one runs", || lines(&endless).len() == 2).await;
        let of = |name: &str| note(&a, name).map(|note| (note.severity, note.text));
        let (severity, text) = of("say").unwrap();
        assert_eq!(severity, Severity::Info, "{text}");
        assert!(text.starts_with("for primary of epoch 1, attempt 1: done"), "{text}");
        let (severity, text) = of("fail").unwrap();
        assert_eq!(severity, Severity::Warning);
        assert!(text.contains("it ended with status 1"), "{text}");
        let (_, text) = of("missing").unwrap();
        assert!(text.contains("/nowhere/at/all"), "{text}");
        assert_eq!(of("reader"), None, "it is for replicas");
        assert!(a.instance.report().notes.iter().any(|note| note.subject == "hook-say"));

        // What was started for the primary ends with it, whatever it waits for.
        let child: u32 = lines(&endless)[1].parse().unwrap();
        assert!(agent::processes::is_alive(child));
        a.act(Action::Fence { reason: "test".into() }).await;
        wait_for("it is told that nothing is served", || lines(&seen).contains(&told("nobody")))
            .await;
        wait_for("the endless one is gone", || !agent::processes::is_alive(child)).await;
        let (_, text) = of("hang").unwrap();
        assert!(text.contains("it serves something else"), "{text}");
        running.abort();
    });
}

#[test]
fn a_program_that_takes_too_long_is_killed_and_said_so() {
    play("a_program_that_takes_too_long_is_killed_and_said_so", async {
        let mut world = World::new(&["a", "b"]);
        world.lease_for(Duration::from_secs(30));
        let folder = world.folder.path().to_owned();
        let hang = program(&folder, "hang", "sleep 600");
        let short = Duration::from_millis(100);
        world.hooks = vec![Hook { timeout: short, ..hook("hang", &[Serves::Primary], &hang, &[]) }];
        let (a, _b) = world.pair().await;
        let running = tokio::spawn(hooks::run(Arc::clone(&a.instance)));
        wait_for("a pulse", || a.instance.state().committed.is_some()).await;
        a.admit().await;
        wait_for("it is killed", || note(&a, "hang").is_some()).await;
        let text = note(&a, "hang").unwrap().text;
        assert!(text.contains("killed after 100 ms"), "{text}");
        running.abort();
    });
}
