//! The page of real voters: the document, its events, who may see what, and a browser.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use failover::Request;
use failover::ids::Revision;
use orchestrator::overview::Overview;
use orchestrator::remarks::LIMIT_MS;
use orchestrator::sla::Measured;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use crate::http::{Group, SOON, code, declare, get, granted};
use crate::on_record::Baton;

const SECRET: &str = "the name of a patient";

async fn from(ip: IpAddr, to: SocketAddr, text: &str) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((ip, 0).into())?;
    let mut stream = socket.connect(to).await?;
    stream.write_all(text.as_bytes()).await?;
    Ok(stream)
}

fn question(method: &str, path: &str, host: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

/// Head and body of a whole answer.
async fn ask(at: SocketAddr, method: &str, path: &str, host: &str) -> (String, String) {
    let asking = async {
        let mut stream =
            from(at.ip(), at, &question(method, path, host)).await.expect("it listens");
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.expect("it answers");
        let answer = String::from_utf8(bytes).expect("it is text");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        (head.to_owned(), body.to_owned())
    };
    timeout(SOON, asking).await.expect("in time")
}

async fn document(at: SocketAddr) -> Option<Value> {
    let (head, body) = ask(at, "GET", "/v1/overview", &at.to_string()).await;
    head.starts_with("HTTP/1.1 200").then(|| serde_json::from_str(&body).expect("it is JSON"))
}

/// Asks until the document is as it should be.
async fn until(group: &Group, n: usize, done: impl Fn(&Value) -> bool) -> Value {
    let asking = async {
        loop {
            if let Some(document) = document(group.page[n]).await.filter(&done) {
                return document;
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(SOON, asking).await.unwrap_or_else(|_| panic!("never\n{}", group.log(n)))
}

/// The events of a voter: when each came, and its parts.
async fn listen(at: SocketAddr) -> mpsc::Receiver<(Instant, Value)> {
    let stream = from(at.ip(), at, &question("GET", "/v1/events", &at.to_string())).await;
    let mut lines = BufReader::new(stream.expect("it listens")).lines();
    let (sender, receiver) = mpsc::channel(1_000);
    tokio::spawn(async move {
        while let Ok(Some(line)) = lines.next_line().await {
            let Some(data) = line.strip_prefix("data: ") else { continue };
            let parts = serde_json::from_str(data).expect("it is JSON");
            if sender.send((Instant::now(), parts)).await.is_err() {
                return;
            }
        }
    });
    receiver
}

fn hold(reason: &str) -> Request {
    Request::Hold { service: "clinic".parse().expect("a name"), reason: reason.into() }
}

#[tokio::test]
async fn every_voter_shows_what_it_knows_and_whose_word_it_is() {
    let group = Group::start();
    let operator = group.client(0, "operator", "alice");
    let leader = group.elected(&operator).await;
    declare(&group, &operator).await;
    granted(&operator, &hold(SECRET)).await;
    for n in 0..3 {
        let known = until(&group, n, |it| {
            let held = !it["status"]["services"][0]["hold"].is_null();
            let ready = it["readiness"].as_array().is_some_and(|all| all.len() == 3);
            held && ready
                && !it["evidence"].is_null()
                && it["status"]["leader"]["voter"] == leader as u64 + 1
        })
        .await;
        assert_eq!(known["shown_by"]["voter"], n as u64 + 1);
        assert_eq!(known["evidence"]["from"]["voter"], leader as u64 + 1);
        assert_eq!(known["said"]["services"]["clinic"]["mood"], "bad", "nothing ever ran");
        assert_eq!(known["status"]["sites"].as_object().map(serde_json::Map::len), Some(3));
        assert!(known["readiness_age_ms"].as_u64().is_some_and(|ms| ms < 25_000), "{known}");
        assert!(!known["readiness"].to_string().contains("remarks"), "what was found is not");
        // Whoever shows no certificate is told no name, no reason and no address.
        let text = known.to_string();
        for hidden in ["alice", SECRET, "\"address\"", "\"postgres\"", "127.0."] {
            assert!(!text.contains(hidden), "{hidden}: {text}");
        }
        let operator = group.client(n, "operator", "alice");
        let whole: Overview = get(&operator, "/v1/overview").await.expect("it is shown");
        assert!(whole.readiness.iter().all(|it| !it.ready.remarks.is_empty()), "nothing is heard");
        let held = whole.known.status.services[0].hold.as_ref().expect("it is held");
        assert_eq!((held.by.as_str(), held.reason.as_str()), ("alice", SECRET));
        assert!(whole.known.history.iter().any(|entry| entry.by == "alice"));
    }
    for (kind, name) in [("agent", "s1-1"), ("dns", "ns1"), ("voter", "v2")] {
        let other = group.client(0, kind, name);
        assert_eq!(code(get::<Value>(&other, "/v1/overview").await), 403, "{kind}");
        assert_eq!(code(get::<Value>(&other, "/v1/events").await), 403, "{kind}");
    }
}

#[tokio::test]
async fn the_plain_port_reads_only_and_is_asked_by_address() {
    let group = Group::start();
    group.elected(&group.client(0, "operator", "alice")).await;
    let at = group.page[0];
    let opened = async {
        while TcpStream::connect(at).await.is_err() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(SOON, opened).await.expect("the port opens");
    let own = at.to_string();
    for (path, kind) in
        [("/", "text/html"), ("/page.js", "text/javascript"), ("/page.css", "text/css")]
    {
        let (head, body) = ask(at, "GET", path, &own).await;
        assert!(head.starts_with("HTTP/1.1 200") && !body.is_empty(), "{path}: {head}");
        assert!(head.contains(&format!("content-type: {kind}")), "{head}");
        assert!(head.contains("content-security-policy: default-src 'none'; script-src 'self'"));
    }
    for (method, path, host, status) in [
        ("POST", "/v1/requests", own.as_str(), "405"),
        ("GET", "/v1/requests", own.as_str(), "404"),
        ("GET", "/v1/status", own.as_str(), "404"),
        ("GET", "/", "evil.example", "403"),
        ("GET", "/v1/overview", "evil.example:80", "403"),
        ("GET", "/v1/overview?after=x", own.as_str(), "400"),
    ] {
        let (head, _) = ask(at, method, path, host).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{method} {path} {host}: {head}");
    }
}

/// How long after it was committed a change is told, by the leader and by the others. The bound
/// is generous: `make bench-answers` prints the figures.
#[tokio::test]
async fn a_change_is_told_by_every_voter_soon_after_its_commit() {
    let group = Group::start();
    let operator = group.client(0, "operator", "alice");
    let leader = group.elected(&operator).await;
    declare(&group, &operator).await;
    let mut took = told_after_commit(&group, leader, 6).await;
    took.sort();
    println!("a change was told after {took:?}");
    let median = took.get(took.len() / 2);
    assert!(median.is_some_and(|median| *median < Duration::from_secs(5)), "{took:?}");
}

/// Through every voter, for so many changes: how long after the answer to whoever asked.
pub(crate) async fn told_after_commit(group: &Group, leader: usize, times: u64) -> Vec<Duration> {
    let operator = group.client(leader, "operator", "alice");
    let mut readers = Vec::new();
    for at in &group.page {
        readers.push(listen(*at).await);
    }
    let mut took = Vec::new();
    for n in 0..times {
        let request = if n % 2 == 0 {
            hold("x")
        } else {
            Request::Resume { service: "clinic".parse().expect("a name"), reason: "x".into() }
        };
        let accepted = granted(&operator, &request).await;
        let committed = Instant::now();
        for reader in &mut readers {
            let at = timeout(SOON, came(reader, accepted.revision)).await.expect("it is told");
            took.push(at.saturating_duration_since(committed));
        }
        sleep(Duration::from_millis(170 * (n % 5))).await;
    }
    took
}

async fn came(reader: &mut mpsc::Receiver<(Instant, Value)>, revision: Revision) -> Instant {
    loop {
        let (at, parts) = reader.recv().await.expect("the stream goes on");
        if parts["status"]["revision"].as_u64().is_some_and(|shown| shown >= revision.0) {
            return at;
        }
    }
}

/// What was known is shown with its age when its leader is gone, and nothing of it is fresh.
#[tokio::test]
async fn i37_what_a_dead_leader_told_grows_old() {
    let mut group = Group::start();
    let operator = group.client(0, "operator", "alice");
    let leader = group.elected(&operator).await;
    declare(&group, &operator).await;
    let last = (leader + 1) % 3;
    let from_leader = |it: &Value| it["evidence"]["from"]["voter"] == leader as u64 + 1;
    let mut reader = listen(group.page[last]).await;
    until(&group, last, from_leader).await;
    group.kill(leader);
    group.kill((leader + 2) % 3);
    let aged = async {
        let mut known = serde_json::Map::new();
        loop {
            let (_, parts) = reader.recv().await.expect("the stream goes on");
            known.extend(parts.as_object().expect("parts by key").clone());
            let (status, evidence) = (&known["status"], &known["evidence"]);
            let age = evidence["age_ms"].as_u64();
            if status["leader"].is_null() && age.is_some_and(|age| age > LIMIT_MS) {
                return Value::Object(known);
            }
        }
    };
    let aged = timeout(SOON, aged).await.expect("it grows old");
    assert!(from_leader(&aged), "{aged}");
    let remarks = aged["remarks"].to_string();
    assert!(remarks.contains("no leader is known"), "{remarks}");
    assert_eq!(aged["status"]["services"][0]["zero_loss"]["answer"], "unasked");
}

/// A voter that has journals tells what they say; one that cannot read them says so.
#[tokio::test]
async fn i37_availability_is_what_the_journals_beside_a_voter_say() {
    let group = Group::start_saying("[sla]\njournal = [\"journal\"]\n");
    let operator = group.client(0, "operator", "alice");
    group.elected(&operator).await;
    declare(&group, &operator).await;
    let now = wire::clock::wall().0;
    let measured = Measured {
        run: "clinic-standing-1-1".into(),
        service: "clinic".into(),
        every_ms: 1_000,
        measured: (now - 60_000, now).into(),
        down: (now - 50_000, now - 40_000).into(),
        ..Measured::default()
    };
    let folder = group.folder.path().join("v1/journal");
    std::fs::create_dir(&folder).expect("a folder");
    let text = serde_json::to_vec(&measured).expect("JSON");
    std::fs::write(folder.join("2026-01-01.1.a.summary.json"), text).expect("writable");
    let told = until(&group, 0, |it| it["sla"]["services"][0]["service"] == "clinic").await;
    let clinic = &told["sla"]["services"][0];
    assert_eq!(clinic["interruptions"][0]["length"], "10.0 s", "{clinic}");
    assert_eq!(clinic["interruptions"][0]["cause"], "unknown: no transition near");
    assert_eq!((&clinic["heard"], &clinic["all"]), (&now.into(), &1.into()));
    assert_eq!(clinic["rows"].as_array().map(Vec::len), Some(2), "month and year: {clinic}");
    assert!(told["sla_age_ms"].as_u64().is_some_and(|ms| ms < 150_000), "{told}");
    // There is no such folder: operators are told where it was looked for.
    let told = until(&group, 1, |it| !it["sla"].is_null()).await;
    assert!(told["sla"]["problem"].as_str().is_some_and(|it| !it.contains("journal")), "{told}");
    let whole: Overview =
        get(&group.client(1, "operator", "alice"), "/v1/overview").await.expect("it is shown");
    let problem = whole.sla.and_then(|sla| sla.problem).expect("it cannot be read");
    assert!(problem.contains("/v2/") && problem.contains("journal"), "{problem}");
}

/// Readers who do not read, strangers who send garbage, and more than there are places.
#[tokio::test]
async fn i27_readers_are_bounded_and_harm_nobody() {
    let group = Group::start();
    let operator = group.client(0, "operator", "alice");
    group.elected(&operator).await;
    let at = group.page[0];
    let own = at.to_string();
    for bytes in [&b"\x16\x03\x01\xff\xff\0\0"[..], &[0; 4096], b"GET /v1/events HTTP/9\r\n\r\n"] {
        let mut stream = TcpStream::connect(at).await.expect("it listens");
        stream.write_all(bytes).await.expect("it takes bytes");
        let mut rest = Vec::new();
        let _closed = timeout(SOON, stream.read_to_end(&mut rest)).await.expect("it hangs up");
    }
    // Each address may have sixteen; these read nothing but the head of the first answers.
    let mut idle = Vec::new();
    for n in 0..32_u8 {
        let ip = IpAddr::from([127, 0, 0, 10 + n / 8]);
        let mut stream = from(ip, at, &question("GET", "/v1/events", &own)).await.expect("a place");
        let mut head = [0; 15];
        stream.read_exact(&mut head).await.expect("it is answered");
        assert_eq!(&head, b"HTTP/1.1 200 OK", "{n}");
        idle.push(stream);
    }
    let (head, body) = ask(at, "GET", "/v1/events", &own).await;
    assert!(head.starts_with("HTTP/1.1 503"), "{head}");
    assert!(body.contains("look at another"), "{body}");
    // Operators have places of their own.
    let whole: Overview = get(&operator, "/v1/overview").await.expect("it is shown");
    assert!(whole.known.status.leader.is_some());
    // Who hangs up gives his place back.
    drop(idle);
    until(&group, 0, |document| !document["status"].is_null()).await;
}

#[tokio::test]
async fn watch_tells_what_changes_and_ends_with_a_status() {
    let group = Group::start();
    let operator = group.client(0, "operator", "alice");
    group.elected(&operator).await;
    declare(&group, &operator).await;
    granted(&operator, &hold("x")).await;
    let once = Baton::of(&group, "alice").run(&["watch", "--once"]);
    let text = String::from_utf8_lossy(&once.stdout).into_owned();
    assert_eq!(once.status.code(), Some(0), "{once:?}");
    assert!(text.contains("clinic: primary none"), "{text}");
    assert!(text.contains("automation is paused by alice"), "{text}");
    let once = Baton::of(&group, "alice").run(&["watch", "--once", "-o", "json"]);
    let overview: Overview = serde_json::from_slice(&once.stdout).expect("it is the document");
    assert_eq!(overview.known.status.services.len(), 1);
    drop(group);
    let folder = tempfile::tempdir().expect("a folder");
    let nowhere = std::process::Command::new(env!("CARGO_BIN_EXE_baton"))
        .args(["watch", "--once", "--config", "nothing.toml"])
        .current_dir(&folder)
        .output()
        .expect("the program was just built");
    assert_eq!(nowhere.status.code(), Some(2), "{nowhere:?}");
}
