//! `baton` from outside: what it prints, and with which status it ends.

use std::fmt::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

const OK: i32 = 0;
const CONFIG: i32 = 2;
const UNREACHABLE: i32 = 3;

fn baton(folder: &Path, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_baton"))
        .args(words)
        .current_dir(folder)
        .env_remove("BATON_CONFIG")
        .env("HOME", folder)
        .env("USER", "alice")
        .env_remove("XDG_CONFIG_HOME")
        .output()
        .expect("the program was just built")
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("it ends by itself")
}

fn complaint(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Ports where nothing listens any more.
fn closed_ports(count: usize) -> Vec<u16> {
    let listeners: Vec<_> =
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0").expect("a port")).collect();
    listeners.iter().map(|l| l.local_addr().expect("bound").port()).collect()
}

fn topology() -> String {
    let mut ports = closed_ports(9).into_iter();
    let mut next = || ports.next().expect("nine were asked for");
    let mut text = "[cluster]\nname = \"t\"\n[dns]\norigin = \"db.example.\"\n".to_owned();
    for site in ["a", "b", "c"] {
        let _ = write!(text, "[[site]]\nname = \"{site}\"\nvoter = \"127.0.0.1:{}\"\n", next());
    }
    text.push_str("[[service]]\nname = \"clinic\"\n");
    for site in ["a", "b", "c"] {
        let _ = write!(
            text,
            "[[service.instance]]\nname = \"{site}-1\"\nsite = \"{site}\"\n\
             postgres = \"127.0.0.1:{}\"\nagent = \"127.0.0.1:{}\"\n",
            next(),
            next()
        );
    }
    text
}

/// A folder with `topology.toml` and what `baton init` makes of it.
fn initialised() -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("topology.toml"), topology()).expect("writable");
    let output = baton(folder.path(), &["init", "topology.toml", "--out", "out"]);
    assert_eq!(code(&output), OK, "{}", complaint(&output));
    folder
}

const WITH_CONFIG: [&str; 2] = ["--config", "out/operator/baton.toml"];

fn configured(words: &[&str]) -> Vec<String> {
    WITH_CONFIG.iter().chain(words).map(ToString::to_string).collect()
}

fn run(folder: &TempDir, words: &[&str]) -> Output {
    let words = configured(words);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    baton(folder.path(), &words)
}

#[test]
fn without_a_configuration_it_says_where_it_looked() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = baton(folder.path(), &["status"]);
    assert_eq!(code(&output), CONFIG);
    let said = complaint(&output);
    assert!(said.starts_with("baton: no configuration: looked for baton.toml, "), "{said}");
    assert!(said.contains("/etc/baton/baton.toml") && said.contains("--config"), "{said}");
    let output = baton(folder.path(), &["--config", "absent.toml", "status"]);
    assert_eq!(code(&output), CONFIG);
    assert!(complaint(&output).contains("absent.toml: there is no such file"));
}

#[test]
fn a_cluster_that_is_down_is_unreachable_and_named() {
    let folder = initialised();
    for words in [
        &["status"][..],
        &["explain", "clinic"],
        &["what-if", "lose", "arezzo"],
        &["readiness"],
        &["readiness", "arezzo", "-o", "text"],
        &["switchover", "clinic", "--reason", "test", "--dry-run", "--timeout", "500ms"],
        &["history"],
        &["report"],
        &["plan"],
        &["apply", "--yes"],
        &["switchover", "clinic", "--reason", "test", "--timeout", "500ms"],
        &["voters", "list"],
    ] {
        let output = run(&folder, words);
        assert_eq!(code(&output), UNREACHABLE, "{words:?}: {}", complaint(&output));
        let said = complaint(&output);
        assert!(said.starts_with("baton: no voter can be reached; 127.0.0.1:"), "{said}");
        assert!(said.lines().next().is_some_and(|line| line.contains("refuses")), "{said}");
    }
}

#[test]
fn errors_are_json_when_asked_for() {
    let folder = initialised();
    let output = run(&folder, &["status", "-o", "json"]);
    assert_eq!(code(&output), UNREACHABLE);
    let said: serde_json::Value = serde_json::from_slice(&output.stderr).expect("JSON");
    assert!(said.get("error").is_some_and(serde_json::Value::is_string));
    assert!(said.get("remedy").is_some());
    assert!(output.stdout.is_empty());
}

#[test]
fn a_wrong_topology_changes_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let text = topology().replace("voter =", "vter =");
    std::fs::write(folder.path().join("topology.toml"), text).expect("writable");
    let output = baton(folder.path(), &["init", "topology.toml", "--out", "out"]);
    assert_eq!(code(&output), CONFIG);
    let said = complaint(&output);
    assert!(said.starts_with("baton: topology.toml:7:1: "), "{said}");
    assert!(said.contains("vter") && said.contains("`voter`"), "{said}");
    assert!(!folder.path().join("out").exists());
}

#[test]
fn an_occupied_folder_is_refused() {
    let folder = initialised();
    let output = baton(folder.path(), &["init", "topology.toml", "--out", "out"]);
    assert_eq!(code(&output), CONFIG);
    assert!(complaint(&output).contains("is not empty: nothing was changed"));
    let output = baton(folder.path(), &["init", "topology.toml", "--out", "out", "--update"]);
    assert_eq!(code(&output), OK, "{}", complaint(&output));
}

#[test]
fn a_configuration_with_a_typo_names_line_and_key() {
    let folder = initialised();
    let path = folder.path().join("out/operator/baton.toml");
    let text = std::fs::read_to_string(&path).expect("init wrote it");
    std::fs::write(&path, text.replace("voters =", "votrs =")).expect("writable");
    let output = run(&folder, &["status"]);
    assert_eq!(code(&output), CONFIG);
    let said = complaint(&output);
    assert!(said.contains("baton.toml:3:1: ") && said.contains("voters"), "{said}");
}

#[test]
fn a_certificate_without_a_role_is_refused_here_already() {
    let folder = initialised();
    let operator = folder.path().join("out/operator");
    for ending in ["crt", "key"] {
        let (from, to) = (format!("probe.{ending}"), format!("operator.{ending}"));
        std::fs::copy(operator.join(from), operator.join(to)).expect("init wrote it");
    }
    let output = run(&folder, &["status"]);
    assert_eq!(code(&output), CONFIG, "{}", complaint(&output));
    assert!(complaint(&output).contains("operator.crt"), "{}", complaint(&output));
}

#[test]
fn a_missing_key_is_named() {
    let folder = initialised();
    std::fs::remove_file(folder.path().join("out/operator/operator.key")).expect("init wrote it");
    let output = run(&folder, &["status"]);
    assert_eq!(code(&output), CONFIG);
    assert!(complaint(&output).contains("operator.key"), "{}", complaint(&output));
}

#[test]
fn the_help_names_every_verb_and_status() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = baton(folder.path(), &["--help"]);
    assert_eq!(code(&output), OK);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for verb in [
        "init",
        "plan",
        "apply",
        "voters",
        "status",
        "explain",
        "what-if",
        "readiness",
        "history",
        "report",
        "dns",
        "doctor",
        "probe",
        "switchover",
        "failover",
        "hold",
        "resume",
    ] {
        assert!(text.lines().any(|line| line.starts_with(&format!("  {verb} "))), "{verb}\n{text}");
        assert_eq!(code(&baton(folder.path(), &["help", verb])), OK, "{verb}");
    }
    let output = baton(folder.path(), &["help", "exit-codes"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for number in 0..=6 {
        assert!(text.contains(&format!("\n  {number}  ")), "{number}\n{text}");
    }
    assert_eq!(code(&baton(folder.path(), &["swichover"])), CONFIG);
}

#[test]
fn dns_that_is_down_is_told_and_fails() {
    let folder = initialised();
    let port = closed_ports(1).first().copied().expect("one was asked for");
    let server = format!("127.0.0.1:{port}");
    let output = run(&folder, &["dns", "check", "--name-server", &server, "--timeout", "300ms"]);
    assert_eq!(code(&output), 1, "{}", complaint(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains("refuses"));
}
