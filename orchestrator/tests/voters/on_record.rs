//! Who comes to a real voter, asks, and is refused is on record, and `baton audit` shows, exports
//! and verifies it (I-34).

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use failover::Request;
use failover::report::{Note, Report, Severity};
use orchestrator::answers::{Accepted, AuditPage};
use orchestrator::audit;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use wire::http::Client;

use crate::http::{Group, SOON, begun, code, declare, get, reported};
use crate::world::absent;

/// Kind, who, and what of every record.
async fn told(operator: &Client) -> Vec<(&'static str, String, String)> {
    let mut told = Vec::new();
    let mut next = 1;
    loop {
        let path = format!("/v1/audit?from={next}");
        let page: AuditPage = get(operator, &path).await.expect("it answers");
        if page.lines.is_empty() {
            return told;
        }
        for line in &page.lines {
            next += 1;
            let record = audit::read(line).expect("a record");
            let event: failover::Event = serde_json::from_value(record.event).expect("an event");
            told.push((audit::kind(&event), event.by.clone(), audit::what(&event)));
        }
    }
}

async fn until_told(operator: &Client, kind: &str, by: &str, text: &str) {
    let asking = async {
        loop {
            let told = told(operator).await;
            let found = told
                .iter()
                .any(|(one, who, what)| *one == kind && who == by && what.contains(text));
            if found {
                return;
            }
            sleep(Duration::from_millis(100)).await;
        }
    };
    let found = timeout(SOON, asking).await.is_ok();
    assert!(found, "no {kind} by {by} of `{text}`: {:#?}", told(operator).await);
}

/// I-34: certificates that are shown, questions, refusals at the door and by the leader, commands.
#[tokio::test]
async fn i34_whoever_comes_asks_and_is_refused_is_on_record() {
    let group = Group::start();
    let operator = group.client(0, "operator", "alice");
    let leader = group.elected(&operator).await;
    let agent = group.client((leader + 1) % 3, "agent", "s1-1");
    for _ in 0..50 {
        assert_eq!(code(get::<Value>(&agent, "/v1/status").await), 403);
    }
    let mut stream = TcpStream::connect(group.addresses[2]).await.expect("it listens");
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("it takes bytes");
    let _closed = timeout(SOON, stream.read_to_end(&mut Vec::new())).await.expect("it hangs up");
    declare(&group, &operator).await;
    let resume = Request::Resume { service: "clinic".parse().expect("a name"), reason: "x".into() };
    assert_eq!(code(operator.post::<_, Accepted>("/v1/requests", &resume, SOON).await), 409);
    let _explained: Value = get(&operator, "/v1/explain/clinic").await.expect("it is explained");
    let lost = "/v1/what-if?hypothesis=%7B%22lose-site%22%3A%22s1%22%7D";
    let _told: Value = get(&operator, lost).await.expect("there is a leader");

    for (kind, by, text) in [
        ("login", "alice", "baton://test/operator/alice/admin at voter v1, from 127.0."),
        ("login", "agent s1-1", "baton://test/agent/s1-1"),
        ("refusal", "agent s1-1", "GET /v1/status: this is for a person"),
        ("refusal", "stranger at 127.0.0.1", ""),
        ("command", "alice", "topology after version 0"),
        ("refusal", "alice", "resume clinic: nothing is on hold"),
        ("question", "alice", "why nothing is done: "),
        ("question", "alice", "what if site s1 is lost"),
    ] {
        until_told(&operator, kind, by, text).await;
    }
    let all = told(&operator).await;
    // Fifty refusals alike are one entry; the rest is counted until ten minutes have passed.
    let agent_refused =
        all.iter().filter(|(kind, by, _)| *kind == "refusal" && by.starts_with("agent"));
    assert_eq!(agent_refused.count(), 1, "{all:#?}");
    // Whoever commands was seen first.
    let place = |kind: &str| all.iter().position(|(one, by, _)| *one == kind && by == "alice");
    assert!(place("login") < place("command"), "{all:#?}");
    // Another certificate may not read it.
    assert_eq!(code(get::<Value>(&agent, "/v1/audit").await), 403);
}

/// I-34: what became of a program beside an instance, once for each outcome.
#[tokio::test]
async fn i34_what_became_of_a_hook_is_on_record() {
    let group = Group::start();
    let operator = group.client(0, "operator", "alice");
    let leader = group.elected(&operator).await;
    declare(&group, &operator).await;
    let agent = group.client((leader + 1) % 3, "agent", "s1-1");
    let note = |subject: &str, text: &str| Note {
        subject: subject.into(),
        severity: Severity::Info,
        text: text.into(),
    };
    let outcomes = ["attempt 1: it ended with status 1", "attempt 2: done"];
    for (sequence, outcome) in (1..).zip([outcomes[0], outcomes[0], outcomes[1], outcomes[1]]) {
        let notes = vec![note("hook-address", outcome), note("clone", "40 %")];
        let report = Report { notes, ..absent(1, sequence) };
        reported(&agent, &report).await.expect("answered");
    }
    for outcome in outcomes {
        let text = format!("address beside s1-1: {outcome}");
        until_told(&operator, "hook", "agent s1-1", &text).await;
    }
    let all = told(&operator).await;
    assert_eq!(all.iter().filter(|(kind, ..)| *kind == "hook").count(), 2, "{all:#?}");
    let baton = Baton::of(&group, "alice");
    let listed = out(&baton.run(&["audit", "list", "--kind", "hook"]));
    assert!(listed.contains("address beside s1-1: attempt 2: done"), "{listed}");
}

pub(crate) struct Baton {
    config: PathBuf,
}

impl Baton {
    /// That of a person, by name or by name and role.
    pub(crate) fn of(group: &Group, who: &str) -> Self {
        let _certificate = group.client(0, "operator", who);
        let folder = group.folder.path().join(format!("operator-{who}"));
        let voters: Vec<String> = group.addresses.iter().map(|a| format!("\"{a}\"")).collect();
        let text = format!(
            "cluster = \"test\"\nvoters = [{}]\n[tls]\nca = \"ca.crt\"\ncertificate = \
             \"tls.crt\"\nkey = \"tls.key\"\n",
            voters.join(", ")
        );
        std::fs::write(folder.join("baton.toml"), text).expect("it can be written");
        Self { config: folder.join("baton.toml") }
    }

    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_baton"));
        command.arg("--config").arg(&self.config).args(words).current_dir("/");
        command.stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().expect("the program was built")
    }
}

pub(crate) fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn complaint(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What an operator does when an auditor asks.
#[tokio::test]
async fn i34_the_record_is_listed_exported_and_verified() {
    let group = Group::start();
    let operator = group.client(0, "operator", "alice");
    group.elected(&operator).await;
    declare(&group, &operator).await;
    let baton = Baton::of(&group, "alice");
    until_told(&operator, "login", "alice", "alice").await;

    let listed = baton.run(&["audit", "list", "--kind", "command"]);
    assert!(listed.status.success(), "{}", complaint(&listed));
    assert!(out(&listed).contains("topology after version 0"), "{}", out(&listed));
    let listed = baton.run(&["audit", "list", "--limit", "1", "-o", "json", "--by", "alice"]);
    let rows: Value = serde_json::from_slice(&listed.stdout).expect("JSON");
    assert_eq!(rows.as_array().map(Vec::len), Some(1), "{rows}");

    let file = group.folder.path().join("audit.jsonl");
    let name = file.display().to_string();
    let exported = baton.run(&["audit", "export", "--out", &name, "-o", "json"]);
    assert!(exported.status.success(), "{}", complaint(&exported));
    let said: Value = serde_json::from_slice(&exported.stdout).expect("JSON");
    let head =
        format!("{}:{}", said["head"]["number"], said["head"]["hash"].as_str().expect("a hash"));
    // No cluster is needed to verify it.
    let verify = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_baton"));
        command.args(["audit", "verify"]).args(words).current_dir("/").output().expect("built")
    };
    let verified = verify(&[&name, "--head", &head]);
    assert!(verified.status.success(), "{}", complaint(&verified));
    let mut bytes = std::fs::read(&file).expect("it was written");
    let third = bytes.iter().enumerate().filter(|(_, b)| **b == b'\n').nth(2).expect("lines").0;
    bytes[third - 200] ^= 1;
    std::fs::write(&file, &bytes).expect("it can be written");
    let verified = verify(&[&name]);
    assert_eq!(verified.status.code(), Some(1), "{}", out(&verified));
    assert!(complaint(&verified).contains("line 3"), "{}", complaint(&verified));

    let printed = baton.run(&["audit", "export", "--from", "2"]);
    assert!(out(&printed).lines().last().is_some_and(|line| line.starts_with("{\"end\":")));

    // Notes may still be on their way to the last voter: all agree soon.
    let compared = async {
        loop {
            let compared = baton.run(&["audit", "verify"]);
            if compared.status.success() {
                return compared;
            }
            sleep(Duration::from_millis(200)).await;
        }
    };
    let compared = timeout(SOON, compared).await.expect("all voters have the same");
    assert_eq!(out(&compared).matches("stands").count(), 3, "{}", out(&compared));
}

/// A change of primary, told: signed, verified without a cluster, refused after one changed byte.
#[tokio::test]
async fn i34_a_change_of_primary_is_told_with_evidence() {
    let group = Group::start();
    let operator = group.client(0, "operator", "alice");
    group.elected(&operator).await;
    declare(&group, &operator).await;
    begun(&group, &operator).await;
    let agent = group.client(0, "agent", "s1-1");

    let baton = Baton::of(&group, "alice");
    let html = group.folder.path().join("transition-1.html").display().to_string();
    let json = group.folder.path().join("transition-1.json").display().to_string();
    for (format, file) in [("html", &html), ("json", &json)] {
        let made = baton.run(&["report", "1", "--format", format, "--out", file]);
        assert!(made.status.success(), "{}", complaint(&made));
        assert!(complaint(&made).contains("signed by voter v"), "{}", complaint(&made));
    }
    let verify = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_baton"));
        command.arg("verify").args(words).current_dir("/").output().expect("built")
    };
    let verified = verify(&[&html, "-o", "json"]);
    assert!(verified.status.success(), "{}", complaint(&verified));
    let said: Value = serde_json::from_slice(&verified.stdout).expect("JSON");
    let key = said["key"].as_str().expect("a key").to_owned();
    let by = said["made_by"].as_str().expect("a voter").to_owned();
    assert!(said["records"].as_u64().is_some_and(|count| count > 0), "{said}");
    // Whose key it is is on record.
    let text = format!("voter {by} signs evidence with the key {key}");
    until_told(&operator, "key", &format!("voter {by}"), &text).await;
    assert!(verify(&[&json]).status.success());
    assert_eq!(verify(&[&html, "--key", &"0".repeat(64)]).status.code(), Some(1));
    for file in [&html, &json] {
        let whole = std::fs::read(file).expect("it was written");
        for part in 1..20 {
            let mut changed = whole.clone();
            changed[whole.len() * part / 20] ^= 1;
            std::fs::write(file, &changed).expect("it can be written");
            let refused = verify(&[file]);
            assert_eq!(refused.status.code(), Some(1), "{file}, part {part}: {}", out(&refused));
        }
    }
    // To whoever may not ask it is not told.
    assert_eq!(code(get::<Value>(&agent, "/v1/evidence/1").await), 403);
    assert_eq!(code(get::<Value>(&operator, "/v1/evidence/9").await), 404);
}
