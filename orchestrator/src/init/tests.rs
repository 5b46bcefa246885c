//! The folder that `baton init` writes is one that the programs accept.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use failover::people::Role;
use wire::role::Kind;
use wire::tls::{Files, Identity};

use super::*;
use crate::topology;

fn declared(text: &str) -> Declared {
    topology::parse(Path::new("t.toml"), text).expect("the example is right")
}

fn run(folder: &Path, text: &str, mode: Mode) -> Result<Written, InitError> {
    run_for(folder, text, mode, (&[], &[]))
}

/// With people who get certificates, and who get secrets.
fn run_for(
    folder: &Path,
    text: &str,
    mode: Mode,
    (people, totp): (&[Person], &[PersonName]),
) -> Result<Written, InitError> {
    init(&Plan {
        declared: &declared(text),
        source: text,
        folder,
        mode,
        operator: "alice",
        people,
        totp,
        home: Path::new("/var/lib/baton"),
        programs: Path::new("/usr/local/bin"),
    })
}

const RIGHT: &str = topology::tests::RIGHT;

fn identity(folder: &Path, stem: &str) -> Identity {
    let files = Files {
        ca: folder.join("ca.crt"),
        certificate: folder.join(format!("{stem}.crt")),
        key: folder.join(format!("{stem}.key")),
    };
    Identity::load(&files).expect("it was just made")
}

#[test]
fn the_certificates_have_their_roles() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    run(folder.path(), RIGHT, Mode::New).expect("the folder is empty");
    for (place, stem, kind, name) in [
        ("arezzo/orchestrator", "tls", Kind::Voter, "arezzo"),
        ("roubaix/agent-roubaix-1", "tls", Kind::Agent, "roubaix-1"),
        ("arezzo/dns", "tls", Kind::Dns, "ns1"),
        ("operator", "operator", Kind::Operator(Role::Admin), "alice"),
    ] {
        let peer = identity(&folder.path().join(place), stem).peer().clone();
        assert_eq!((peer.kind, peer.name.as_str()), (kind, name));
        assert_eq!(peer.cluster, "clinic-eu");
    }
    let probe = Files {
        ca: folder.path().join("operator/ca.crt"),
        certificate: folder.path().join("operator/probe.crt"),
        key: folder.path().join("operator/probe.key"),
    };
    assert!(Identity::load(&probe).is_err(), "the probe has no role of ours");
    assert!(wire::tls::postgres_client(&probe).is_ok());
    let key = fs::metadata(folder.path().join("ca/ca.key")).expect("it is there");
    assert_eq!(key.permissions().mode() & 0o777, 0o600);
}

/// Whoever is named later gets a certificate, and nobody's key is touched.
#[test]
fn people_get_certificates_with_their_roles() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    run(folder.path(), RIGHT, Mode::New).expect("the folder is empty");
    let before = contents(folder.path());
    let people = Role::ALL.map(|role| Person { name: "eve".into(), role });
    run_for(folder.path(), RIGHT, Mode::Update, (&people, &[])).expect("four folders are new");
    for Person { name, role } in &people {
        let own = folder.path().join(format!("people/{name}-{role}"));
        let peer = identity(&own, "operator").peer().clone();
        assert_eq!((peer.name.as_str(), peer.role()), ("eve", Some(*role)));
        let config = fs::read_to_string(own.join("baton.toml")).expect("it is there");
        assert!(config.contains("voters = ") && !config.contains("topology"), "{config}");
    }
    for (path, bytes) in &before {
        assert_eq!(Some(bytes), contents(folder.path()).get(path), "{}", path.display());
    }
    for (wrong, why) in [
        ("eve", "NAME:ROLE"),
        ("eve:root", "viewer, operator, approver, admin"),
        ("eve/x:viewer", "cannot be a person's name"),
        (":viewer", "cannot be a person's name"),
        ("baton:admin", "cannot be a person's name"),
    ] {
        let error = wrong.parse::<Person>().expect_err(wrong);
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn the_voters_accept_their_configuration() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    run(folder.path(), RIGHT, Mode::New).expect("the folder is empty");
    for site in ["arezzo", "falkenstein", "roubaix"] {
        let path = folder.path().join(site).join("orchestrator/orchestrator.toml");
        crate::config::Config::load(&path).expect("the loader takes what init wrote");
    }
}

/// Whoever takes the comment signs of an example away has a configuration that is right.
#[test]
fn the_voters_accept_the_examples_in_their_configuration() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    run(folder.path(), RIGHT, Mode::New).expect("the folder is empty");
    let path = folder.path().join("arezzo/orchestrator/orchestrator.toml");
    let text = fs::read_to_string(&path).expect("it is there");
    let example = |line: &&str| line.starts_with("# [") || line.contains(" = ");
    let plain = |line| if example(&line) { line.trim_start_matches("# ") } else { line };
    fs::write(&path, text.lines().map(plain).collect::<Vec<_>>().join("\n")).expect("writable");
    let config = crate::config::Config::load(&path).expect("the loader takes the examples");
    assert!(config.page.is_some() && config.monitoring.is_some() && config.traces.is_some());
    assert_eq!(config.channels.len(), 2);
}

#[test]
fn a_folder_with_something_in_it_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join("mine"), "mine").expect("writable");
    let refused = run(folder.path(), RIGHT, Mode::New).expect_err("it is not empty");
    assert!(matches!(refused, InitError::NotEmpty(_)));
    assert_eq!(fs::read_dir(folder.path()).expect("readable").count(), 1);
}

fn contents(folder: &Path) -> BTreeMap<std::path::PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).expect("readable").map(|entry| entry.expect("readable")) {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else {
                found.insert(entry.path(), fs::read(entry.path()).expect("readable"));
            }
        }
    }
    found
}

#[test]
fn an_update_adds_what_is_new_and_keeps_every_key() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    run(folder.path(), RIGHT, Mode::New).expect("the folder is empty");
    let before = contents(folder.path());
    let again = run(folder.path(), RIGHT, Mode::Update).expect("nothing is new");
    assert_eq!((again.new.len(), again.differing.len()), (0, 0));
    assert_eq!(before, contents(folder.path()));
    // Two sites are put in front of the others: the numbers of the first three stay.
    let more = "[[site]]\nname = \"lyon\"\nvoter = \"127.0.4.1:7400\"\n\n\
                [[site]]\nname = \"bari\"\nvoter = \"127.0.5.1:7400\"\n\n";
    let text = RIGHT.replacen("[[site]]", &format!("{more}[[site]]"), 1);
    let added = run(folder.path(), &text, Mode::Update).expect("two sites are new");
    assert!(added.new.contains(&"lyon/orchestrator/orchestrator.toml".into()));
    for (path, bytes) in &before {
        assert_eq!(Some(bytes), contents(folder.path()).get(path), "{}", path.display());
    }
    let written = fs::read_to_string(folder.path().join("lyon/orchestrator/orchestrator.toml"));
    let table: toml::Table = written.expect("it is new").parse().expect("TOML");
    assert_eq!(table.get("id").and_then(toml::Value::as_integer), Some(4));
    assert_eq!(table.get("join").and_then(toml::Value::as_bool), Some(true));
}

#[test]
fn a_probe_writer_of_each_site_has_what_it_needs() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    run(folder.path(), RIGHT, Mode::New).expect("the folder is empty");
    let probe = folder.path().join("falkenstein/probe");
    let files = Files {
        ca: probe.join("ca.crt"),
        certificate: probe.join("probe.crt"),
        key: probe.join("probe.key"),
    };
    assert!(wire::tls::postgres_client(&files).is_ok());
    assert!(topology::read(&probe.join("topology.toml")).is_ok());
    let unit = folder.path().join("falkenstein/systemd/baton-probe@clinic.service");
    let text = fs::read_to_string(unit).expect("it is there");
    assert!(text.contains(
        "ExecStart=/usr/local/bin/baton --config /var/lib/baton/probe/baton.toml probe clinic \
         --every 1s --folder /var/lib/baton/probe/journal-clinic\n"
    ));
}

#[test]
fn the_agents_unit_leaves_postgresql_alone() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    run(folder.path(), RIGHT, Mode::New).expect("the folder is empty");
    let unit = folder.path().join("arezzo/systemd/baton-agent@arezzo-1.service");
    let text = fs::read_to_string(unit).expect("it is there");
    for line in ["Restart=always", "RestartSec=100ms", "KillMode=process", "OOMPolicy=continue"] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    assert!(text.contains(
        "ExecStart=/usr/local/bin/baton-agent --config /var/lib/baton/agent-arezzo-1/agent.toml"
    ));
}

/// Every voter has the same secret, and the copy to be handed over is not made again.
#[test]
fn i33_a_secret_is_made_once_for_every_voter() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let alice: PersonName = "alice".parse().expect("a name");
    assert!("..".parse::<PersonName>().is_err() && "a/b".parse::<PersonName>().is_err());
    let declared = declared(RIGHT);
    let enrol = |mode| run_for(folder.path(), RIGHT, mode, (&[], std::slice::from_ref(&alice)));
    enrol(Mode::New).expect("the folder is empty");
    let handed = folder.path().join("totp/alice");
    let text = fs::read_to_string(&handed).expect("it is there");
    assert!(text.starts_with("otpauth://totp/"), "{text}");
    let mode = fs::metadata(&handed).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o077, 0, "nobody else reads it");
    let at = |voter: &Voter| {
        folder.path().join(format!("{}/orchestrator/secrets/totp/alice", voter.site))
    };
    for voter in declared.voters.values() {
        assert_eq!(fs::read_to_string(at(voter)).expect("it is there"), text);
    }
    fs::remove_file(&handed).expect("it was handed over");
    let lost = at(declared.voters.values().next().expect("there are voters"));
    fs::remove_file(&lost).expect("it was there");
    enrol(Mode::Update).expect("the authority is there");
    assert_eq!(fs::read_to_string(&lost).expect("it is there again"), text);
    assert!(!handed.exists());
}
