//! What an operator reads when a file or a variable is wrong.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;

use super::*;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Daemon {
    name: String,
    listen: SocketAddr,
    voters: Vec<SocketAddr>,
    raft: Raft,
    #[serde(default)]
    settings: BTreeMap<String, String>,
    #[serde(default)]
    voter: Vec<Voter>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raft {
    #[serde(with = "super::duration")]
    election_timeout: Duration,
    pause: Option<super::duration::Text>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Voter {
    id: u64,
}

const GOOD: &str = r#"name = "arezzo"
listen = "127.0.1.1:7400"
voters = ["127.0.1.1:7400"]

[raft]
election_timeout = "1s"

[settings]
shared_buffers = "64MB"

[[voter]]
id = 1
"#;

fn read(text: &str, environment: &[(&str, &str)]) -> Result<Daemon, ConfigError> {
    let environment = environment.iter().map(|(k, v)| (OsString::from(k), OsString::from(v)));
    layered(Path::new("/etc/baton/orchestrator.toml"), text, "BATON_TEST", environment)
}

fn refused(text: &str, environment: &[(&str, &str)], parts: &[&str]) {
    let error = read(text, environment).expect_err("refused").to_string();
    assert!(error.contains("/etc/baton/orchestrator.toml"), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    for part in parts {
        assert!(error.contains(part), "`{part}` is not in: {error}");
    }
}

#[test]
fn a_good_file_is_read() {
    let daemon = read(GOOD, &[]).expect("good");
    assert_eq!(daemon.name, "arezzo");
    assert_eq!(daemon.raft.election_timeout, Duration::from_secs(1));
    assert_eq!(daemon.raft.pause, None);
    assert_eq!(daemon.voter.first().map(|voter| voter.id), Some(1));
}

#[test]
fn the_environment_stands_above_the_file() {
    let daemon = read(
        GOOD,
        &[
            ("BATON_TEST_NAME", "17"),
            ("BATON_TEST_LISTEN", "127.0.2.1:7400"),
            ("BATON_TEST_VOTERS", r#"["127.0.1.1:1", "127.0.1.1:2"]"#),
            ("BATON_TEST_RAFT__ELECTION_TIMEOUT", "250ms"),
            ("BATON_TEST_RAFT__PAUSE", "3s"),
            ("BATON_TEST_SETTINGS__WORK_MEM", "8MB"),
            ("BATON_TEST_LOG", "debug"),
            ("BATON_TEST_CONFIG", "/elsewhere"),
            ("OTHER_NAME", "x"),
        ],
    )
    .expect("good");
    assert_eq!(daemon.name, "17");
    assert_eq!(daemon.listen, SocketAddr::from(([127, 0, 2, 1], 7400)));
    assert_eq!(daemon.voters.len(), 2);
    assert_eq!(daemon.raft.election_timeout, Duration::from_millis(250));
    assert_eq!(daemon.raft.pause.map(Duration::from), Some(Duration::from_secs(3)));
    assert_eq!(daemon.settings.get("work_mem").map(String::as_str), Some("8MB"));
    assert_eq!(daemon.settings.get("shared_buffers").map(String::as_str), Some("64MB"));
}

#[test]
fn the_environment_may_give_what_the_file_lacks() {
    let text = GOOD.replace("name = \"arezzo\"\n", "");
    let daemon = read(&text, &[("BATON_TEST_NAME", "pisa")]).expect("good");
    assert_eq!(daemon.name, "pisa");
}

#[test]
fn mistakes_in_the_file_name_line_and_key() {
    refused(
        &GOOD.replace("\"1s\"", "\"1 second\""),
        &[],
        &[":6:20", "raft.election_timeout", "ms, s, m or h", "BATON_TEST_RAFT__ELECTION_TIMEOUT"],
    );
    refused(&GOOD.replace("\"1s\"", "1"), &[], &[":6:20", "raft.election_timeout", "\"500ms\""]);
    refused(
        &GOOD.replace("127.0.1.1:7400\"\nv", "arezzo\"\nv"),
        &[],
        &[":2:10", "listen", "invalid socket address"],
    );
    refused(&GOOD.replace("id = 1", "id = \"x\""), &[], &[":12:6", "voter[0].id"]);
    refused(&GOOD.replace("id = 1", "ident = 1"), &[], &[":12:1", "voter[0].ident", "spelling"]);
    refused(
        &GOOD.replace("name = \"arezzo\"\n", ""),
        &[],
        &["name", "missing field", "BATON_TEST_NAME"],
    );
    refused(
        &GOOD.replace("election_timeout = \"1s\"", ""),
        &[],
        &[":5:1", "raft.election_timeout"],
    );
    refused(&GOOD.replace("= \"arezzo\"", "= arezzo"), &[], &[":1:8"]);
}

#[test]
fn mistakes_in_the_file_stay_there_when_the_environment_speaks() {
    let quiet = [("BATON_TEST_NAME", "pisa")];
    refused(&GOOD.replace("id = 1", "id = \"x\""), &quiet, &[":12:6", "voter[0].id"]);
    refused(&GOOD.replace("= \"arezzo\"", "= arezzo"), &quiet, &[":1:8"]);
}

#[test]
fn mistakes_in_the_environment_name_the_variable() {
    refused(
        GOOD,
        &[("BATON_TEST_RAFT__ELECTION_TIMEOUT", "5")],
        &["variable BATON_TEST_RAFT__ELECTION_TIMEOUT", "ms, s, m or h"],
    );
    refused(
        GOOD,
        &[("BATON_TEST_VOTERS", "[\"x\"]")],
        &["variable BATON_TEST_VOTERS", "voters[0]"],
    );
    refused(
        GOOD,
        &[("BATON_TEST_RAFT__SPEED", "5")],
        &["variable BATON_TEST_RAFT__SPEED", "unknown field"],
    );
    refused(GOOD, &[("BATON_TEST_SPEED", "5")], &["variable BATON_TEST_SPEED"]);
}

#[test]
fn an_error_of_meaning_points_at_its_place() {
    let error = ConfigError::at(Path::new("t.toml"), "a = 1\nä = 2", 9..10, "b", "is wrong");
    assert_eq!(error.with_remedy("do this").to_string(), "t.toml:2:3: b: is wrong; do this");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = load::<Daemon>(Path::new("/nonexistent/x.toml"), "").expect_err("absent");
    assert!(error.to_string().starts_with("/nonexistent/x.toml: cannot be read"), "{error}");
}
