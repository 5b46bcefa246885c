//! The program itself: its configuration, its exit statuses, its one clear line when it cannot
//! start, and that it ends when told to.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod support;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use support::voters::{Cluster, Voter};
use support::{parse, question, socket_to, until, zone};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;
use wire::monitoring::COMMON;

fn program() -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_baton-dns"));
    program.kill_on_drop(true).stdin(Stdio::null()).stderr(Stdio::piped()).stdout(Stdio::piped());
    program
}

async fn run(config: &Path, arguments: &[&str]) -> Output {
    let output = program().arg("--config").arg(config).args(arguments).output();
    timeout(support::PATIENCE, output).await.expect("in time").unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A configuration for `listen`, and the folder it lies in.
fn configure(cluster: &Cluster, listen: SocketAddr, voter: SocketAddr) -> PathBuf {
    drop(cluster.identity("dns", "ns1"));
    let path = cluster.folder().join("dns.toml");
    let config = format!(
        "cluster = \"clinic-eu\"\nname = \"ns1\"\nsite = \"arezzo\"\nlisten = [\"{listen}\"]\n\
         data = \"data\"\nvoters = [\"{voter}\"]\n[tls]\nca = \"ca.crt\"\n\
         certificate = \"dns-ns1.crt\"\nkey = \"dns-ns1.key\"\n"
    );
    std::fs::write(&path, config).unwrap();
    path
}

/// An address that nothing listens on: free for a moment at least.
fn free() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

async fn answers(address: SocketAddr) -> bool {
    let socket = socket_to(address).await;
    let asked = question("clinic", RecordType::A).to_vec().unwrap();
    let mut buffer = [0; 512];
    // A closed port is told by the next call on the socket.
    let answered = async {
        socket.send(&asked).await.ok()?;
        socket.recv(&mut buffer).await.ok()
    };
    let answered = timeout(std::time::Duration::from_millis(200), answered).await;
    answered.ok().flatten().is_some_and(|length| parse(&buffer[..length]).answers.len() == 1)
}

async fn ends(mut child: Child, signal: &str) -> Option<i32> {
    let id = child.id().unwrap().to_string();
    let sent = Command::new("kill").args([signal, &id]).status().await.unwrap();
    assert!(sent.success());
    timeout(support::PATIENCE, child.wait()).await.expect("in time").unwrap().code()
}

#[tokio::test]
async fn it_serves_until_it_is_told_to_stop() {
    let cluster = Cluster::new();
    let voter = Voter::start(&cluster, "a", zone(7)).await;
    for signal in ["-TERM", "-INT"] {
        let listen = free();
        let config = configure(&cluster, listen, voter.address);
        let child = program().arg("--config").arg(config).stderr(Stdio::null()).spawn().unwrap();
        until("it answers", || answers(listen)).await;
        assert_eq!(ends(child, signal).await, Some(0));
    }
}

/// Status and body of a plain GET; `None`: nobody listens yet.
async fn ask(address: SocketAddr, path: &str) -> Option<(u16, String)> {
    let asking = async {
        let mut stream = TcpStream::connect(address).await.ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: here\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    };
    timeout(support::PATIENCE, asking).await.expect("in time")
}

#[tokio::test]
async fn it_tells_its_health_and_what_it_counts() {
    let cluster = Cluster::new();
    let (listen, monitoring) = (free(), free());
    let config = configure(&cluster, listen, free());
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("{text}[monitoring]\nlisten = \"{monitoring}\"\n")).unwrap();
    let start = || program().arg("--config").arg(&config).stderr(Stdio::null()).spawn().unwrap();
    let child = start();
    until("it is monitored", || async { ask(monitoring, "/livez").await.is_some() }).await;
    let (status, reason) = ask(monitoring, "/readyz").await.unwrap();
    assert_eq!(status, 503);
    assert!(reason.starts_with("not ready: it has no zone yet"), "{reason}");
    let (_, told) = ask(monitoring, "/metrics").await.unwrap();
    assert!(told.contains("\nbaton_dns_zone_serial 0.0\n"), "{told}");
    assert!(told.contains("\nbaton_dns_voter_followed{voter="), "{told}");
    assert!(!told.contains("\nbaton_dns_zone_age_seconds "), "nobody confirmed one: {told}");
    assert_eq!(ends(child, "-TERM").await, Some(0));

    let voter = Voter::start(&cluster, "a", zone(7)).await;
    let text = std::fs::read_to_string(configure(&cluster, listen, voter.address)).unwrap();
    std::fs::write(&config, format!("{text}[monitoring]\nlisten = \"{monitoring}\"\n")).unwrap();
    let child = start();
    until("it answers", || answers(listen)).await;
    assert_eq!(ask(monitoring, "/readyz").await, Some((200, "ready\n".into())));
    let socket = socket_to(listen).await;
    socket.send(&question("nobody", RecordType::A).to_vec().unwrap()).await.unwrap();
    let answered = parse(&support::receive(&socket).await);
    assert_eq!(answered.metadata.response_code, ResponseCode::NXDomain);
    let mut inverse = question("clinic", RecordType::A).to_vec().unwrap();
    inverse[2] = 0x08;
    socket.send(&inverse).await.unwrap();
    support::receive(&socket).await;
    let (_, told) = ask(monitoring, "/metrics").await.unwrap();
    let expected = [
        "baton_dns_zone_serial 7.0",
        "baton_dns_zones_refused_total 0",
        "baton_dns_queries_total{transport=\"udp\",result=\"nxdomain\"} 1",
        "baton_dns_queries_total{transport=\"udp\",result=\"notimp\"} 1",
        "baton_dns_queries_total{transport=\"tcp\",result=\"noerror\"} 0",
    ];
    for line in expected.map(str::to_owned) {
        assert!(told.lines().any(|found| found == line), "{line}\n{told}");
    }
    let followed = format!("baton_dns_voter_followed{{voter=\"{}\"}} 1.0", voter.address);
    assert!(told.lines().any(|line| line == followed), "{followed}\n{told}");
    let names = |line: &str| line.split([' ', '{']).next().unwrap_or_default().to_owned();
    let told: BTreeSet<String> =
        told.lines().filter(|line| !line.starts_with('#')).map(names).collect();
    let table = COMMON
        .iter()
        .chain(dns::monitoring::METRICS)
        .map(|metric| metric.name.to_owned())
        .collect();
    assert_eq!(told, table, "every metric of the table, and no other");
    assert_eq!(ends(child, "-TERM").await, Some(0));
}

#[tokio::test]
async fn i31_killed_and_alone_it_answers_as_before() {
    let cluster = Cluster::new();
    let voter = Voter::start(&cluster, "a", zone(7)).await;
    let listen = free();
    let config = configure(&cluster, listen, voter.address);
    let child = program().arg("--config").arg(&config).stderr(Stdio::null()).spawn().unwrap();
    until("it answers", || answers(listen)).await;
    assert_eq!(ends(child, "-KILL").await, None);
    configure(&cluster, listen, free());
    let child = program().arg("--config").arg(&config).stderr(Stdio::null()).spawn().unwrap();
    until("it answers alone", || answers(listen)).await;
    assert_eq!(ends(child, "-TERM").await, Some(0));
}

#[tokio::test]
async fn a_port_in_use_names_the_port_and_its_holder() {
    let cluster = Cluster::new();
    for udp in [false, true] {
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = tcp.local_addr().unwrap();
        let holder = std::net::UdpSocket::bind(taken).unwrap();
        if udp {
            drop(tcp);
        }
        let config = configure(&cluster, taken, free());
        let output = run(&config, &[]).await;
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains(&taken.to_string()), "{error}");
        assert!(error.contains(&std::process::id().to_string()), "names this process: {error}");
        drop(holder);
    }
}

#[tokio::test]
async fn a_good_configuration_is_checked_without_being_started() {
    let cluster = Cluster::new();
    let config = configure(&cluster, free(), free());
    let output = run(&config, &["--check"]).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("good"));
    assert!(!cluster.folder().join("data").exists(), "nothing is changed");
}

#[tokio::test]
async fn a_bad_configuration_names_the_file_and_the_key() {
    let cluster = Cluster::new();
    let listen = free();
    let config = configure(&cluster, listen, free());
    let good = std::fs::read_to_string(&config).unwrap();
    let twice = format!("[\"{listen}\", \"{listen}\"]");
    let one = format!("[\"{listen}\"]");
    for (from, to, expect) in [
        ("listen", "lisen", "lisen"),
        ("\"ns1\"", "\"NS 1\"", "name"),
        ("\"ns1\"", "\"ns2\"", "dns-ns1.crt"),
        ("clinic-eu", "other", "dns-ns1.crt"),
        ("dns-ns1.key", "none.key", "none.key"),
        (one.as_str(), twice.as_str(), "listen"),
        (one.as_str(), "[]", "listen"),
        (one.as_str(), "[\"localhost:53\"]", "listen"),
        (one.as_str(), "[\"127.0.0.1:0\"]", "listen"),
        ("data =", "origin = \".\"\ndata =", "origin"),
        ("cluster = ", "cluster ", "dns.toml"),
    ] {
        assert!(good.contains(from));
        std::fs::write(&config, good.replacen(from, to, 1)).unwrap();
        let output = run(&config, &["--check"]).await;
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{to}: {error}");
        assert!(error.contains(expect), "{to}: {error}");
        assert!(!error.contains("panicked"), "{to}: {error}");
    }
    let output = run(&cluster.folder().join("none.toml"), &[]).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("none.toml"));
}

#[tokio::test]
async fn help_has_an_example() {
    let output = program().arg("--help").output().await.unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stdout).contains("baton-dns --config /etc/baton"));
    assert_eq!(program().output().await.unwrap().status.code(), Some(2));
}
