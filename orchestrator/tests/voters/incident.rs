//! After an incident one archive has all there is to know, and none of the secrets that lie about:
//! planted in the declared topology, in reasons, in logs, in keys beside the configuration.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use failover::Request;
use orchestrator::answers::Accepted;
use orchestrator::evidence;
use serde_json::Value;
use wire::http::Client;

use crate::http::{Group, SOON, begun, declare};
use crate::on_record::{Baton, complaint, out};
use crate::world::{service, topology};

const PLANTED: &str = "hunter2";

/// Every file of an archive, by its name in its folder.
fn unpacked(path: &Path) -> BTreeMap<String, String> {
    let file = std::fs::File::open(path).expect("it was written");
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(file));
    let mut files = BTreeMap::new();
    for entry in archive.entries().expect("an archive") {
        let mut entry = entry.expect("a whole entry");
        let name = entry.path().expect("a name").to_string_lossy().into_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).expect("a whole file");
        let name = name.split_once('/').expect("one folder").1.to_owned();
        files.insert(name, String::from_utf8(bytes).expect("text"));
    }
    files
}

fn listed(manifest: &str) -> Vec<String> {
    let manifest: Value = serde_json::from_str(manifest).expect("JSON");
    let missing = manifest["missing"].as_array().expect("a list");
    missing.iter().map(|line| line.as_str().expect("text").to_owned()).collect()
}

/// Real voters, a declared service, and its first change of primary.
async fn started() -> (Group, Client, Baton) {
    let group = Group::start();
    let operator = group.client(0, "operator", "alice");
    group.elected(&operator).await;
    declare(&group, &operator).await;
    begun(&group, &operator).await;
    let baton = Baton::of(&group, "alice");
    (group, operator, baton)
}

fn at(group: &Group, name: &str) -> String {
    group.folder.path().join(name).display().to_string()
}

#[tokio::test]
async fn an_archive_has_all_there_is_to_know() {
    let (group, _operator, baton) = started().await;
    let clean = at(&group, "clean.tar.gz");
    let collected = baton.run(&["incident", "collect", "--since", "1h", "--out", &clean]);
    assert_eq!(collected.status.code(), Some(1), "no agent runs: {}", complaint(&collected));
    let files = unpacked(Path::new(&clean));
    for name in [
        "status.json",
        "readiness.json",
        "topology.json",
        "history.json",
        "epochs.json",
        "explain/clinic.json",
        "voters/v1.json",
        "voters/v2.json",
        "voters/v3.json",
        "dns.json",
        "transitions/1.json",
        "evidence/transition-1.json",
        "audit.jsonl",
        "timeline.txt",
        "post-mortem.md",
        "manifest.json",
    ] {
        assert!(files.contains_key(name), "{name}: {:?}", files.keys());
    }
    evidence::verify(&files["evidence/transition-1.json"]).expect("it still stands");
    assert!(files["post-mortem.md"].contains("| 1 | clinic | "), "{}", files["post-mortem.md"]);
    assert!(files["timeline.txt"].contains("RECORD "), "{}", files["timeline.txt"]);
    let missing = listed(&files["manifest.json"]);
    assert!(missing.iter().any(|line| line.contains("log of s1-1")), "{missing:?}");
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(&clean).expect("it is there").permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    let again = baton.run(&["incident", "collect", "--out", &clean]);
    assert_eq!(again.status.code(), Some(2), "{}", complaint(&again));
}

/// Secrets wherever somebody may have put one, and a voter fewer.
#[tokio::test]
async fn an_archive_has_no_secret_in_it() {
    let (mut group, operator, baton) = started().await;
    plant(&group, &operator).await;
    group.kill(2);
    let full = at(&group, "full.tar.gz");
    let (daemon, server) = (at(&group, "daemon.log"), at(&group, "server.log"));
    let server = format!("s1-1={server}");
    let words = ["incident", "collect", "--out", &full, "--log", &daemon, "--log", &server];
    let collected = baton.run(&words);
    assert_eq!(collected.status.code(), Some(1), "{}", complaint(&collected));
    let files = unpacked(Path::new(&full));
    let mut secrets = vec![PLANTED.to_owned(), "PRIVATE KEY".to_owned()];
    for key in ["operator-alice/tls.key", "v1/tls.key"] {
        let text = std::fs::read_to_string(group.folder.path().join(key)).expect("a key");
        secrets.extend(text.lines().filter(|line| line.len() > 30).map(str::to_owned));
    }
    let key = std::fs::read(group.folder.path().join("v1/data/evidence.key")).expect("a key");
    // Files are text: it could be there in hexadecimal only.
    secrets.push(evidence::hex(&key));
    assert!(secrets.len() >= 5, "there are keys to look for");
    for (name, text) in &files {
        for secret in &secrets {
            assert!(!text.contains(secret), "{name} holds a secret: {secret}");
        }
    }
    // What was around the secrets is there, and what had to be left out is named.
    let all = files.values().cloned().collect::<String>();
    assert!(all.contains("password=*** came") && all.contains("see postgresql://***"), "{all}");
    assert!(all.contains("database system is ready to accept connections"), "{all}");
    let missing = listed(&files["manifest.json"]);
    for part in ["the view of the voter at", "evidence/transition-1.json: left out", "audit record"]
    {
        assert!(missing.iter().any(|line| line.contains(part)), "{part}: {missing:?}");
    }
    assert!(out(&collected).contains("read it before you hand it on"));
}

async fn plant(group: &Group, operator: &Client) {
    let mut declared = topology();
    let spec = declared.services.get_mut(&service()).expect("there is one");
    spec.client_access = vec![format!("local all all peer # postgresql://app:{PLANTED}@db/clinic")];
    let apply = Request::Apply { expected: 1, topology: Box::new(declared), reason: "x".into() };
    let _: Accepted = operator.post("/v1/requests", &apply, SOON).await.expect("granted");
    let reason = format!("see postgresql://app:{PLANTED}@db/clinic");
    let hold = Request::Hold { service: service(), reason };
    let _: Accepted = operator.post("/v1/requests", &hold, SOON).await.expect("granted");
    let now = jiff::Timestamp::from_millisecond(wire::clock::wall().0).expect("a time");
    let daemon = format!("{now} INFO voter: password={PLANTED} came\n");
    std::fs::write(at(group, "daemon.log"), daemon).expect("writable");
    let begun = now.strftime("%Y-%m-%d %H:%M:%S%.3f UTC [7]");
    let server = format!(
        "{begun} LOG:  database system is ready to accept connections\n{begun} STATEMENT:  \
         select '{PLANTED}'\n\tfrom {PLANTED}\n"
    );
    std::fs::write(at(group, "server.log"), server).expect("writable");
}
