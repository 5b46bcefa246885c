//! A name server among voters that die, lag and lie: played by small HTTP servers with real
//! certificates.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod support;

use failover::zone::Zone;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use std::path::Path;
use std::time::Duration;
use support::voters::{Cluster, Voter};
use support::{Running, lines, moved, until, zone};
use tokio::net::TcpListener;
use tokio::time::timeout;
use wire::http::Client;
use wire::role::Kind;

async fn start(data: &Path, cluster: &Cluster, voters: &[&Voter]) -> Running {
    Running::start(data, cluster.clients(voters)).await
}

/// Less than anything that could be waited for in vain, more than a machine stands still.
const SOONER: Duration = Duration::from_secs(8);

async fn serves(server: &Running, version: u32) {
    let mut changes = server.current.changes();
    let wait = changes.wait_for(|serving| *serving == version);
    timeout(support::PATIENCE, wait).await.expect("in time").unwrap();
}

async fn clinic(server: &Running) -> Vec<String> {
    lines(&server.ask("clinic", RecordType::A).await.answers)
}

fn at(address: &str) -> Vec<String> {
    vec![format!("clinic.db.clinic.example. 5 IN A {address}")]
}

#[tokio::test]
async fn a_change_is_served_and_told_at_once() {
    let (cluster, data) = (Cluster::new(), tempfile::tempdir().unwrap());
    let voter = Voter::start(&cluster, "a", Zone::default()).await;
    let server = start(data.path(), &cluster, &[&voter]).await;
    let answer = server.ask("clinic", RecordType::A).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
    voter.hears(0).await;
    voter.applies(zone(7));
    voter.hears(7).await;
    assert_eq!(clinic(&server).await, at("127.0.1.1"));
    // The answer is held back now; a change must not wait for the end of that.
    let begun = wire::clock::now();
    voter.applies(moved(8, 2, [127, 0, 2, 1]));
    voter.hears(8).await;
    assert!(wire::clock::now().since(begun) < SOONER, "nothing was waited for");
    assert_eq!(clinic(&server).await, at("127.0.2.1"));
    server.stop().await;
}

#[tokio::test]
async fn dead_and_silent_voters_delay_nothing() {
    let (cluster, data) = (Cluster::new(), tempfile::tempdir().unwrap());
    // It accepts connections by its backlog and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let refusing = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addresses = [&silent, &refusing].map(|listener| listener.local_addr().unwrap());
    drop(refusing);
    let living = Voter::start(&cluster, "c", zone(7)).await;
    let own = cluster.identity("dns", "ns1");
    let addresses = addresses.into_iter().chain([living.address]);
    let voters = addresses.map(|voter| Client::new(&own, Kind::Voter, voter).unwrap()).collect();
    let begun = wire::clock::now();
    let server = Running::start(data.path(), voters).await;
    serves(&server, 7).await;
    living.applies(moved(8, 2, [127, 0, 2, 1]));
    serves(&server, 8).await;
    assert!(wire::clock::now().since(begun) < SOONER, "nothing was waited for");
}

#[tokio::test]
async fn a_voter_that_comes_back_is_followed_again() {
    let (cluster, data) = (Cluster::new(), tempfile::tempdir().unwrap());
    let voter = Voter::start(&cluster, "a", zone(7)).await;
    let server = start(data.path(), &cluster, &[&voter]).await;
    serves(&server, 7).await;
    voter.stop.send_replace(true);
    let mut again = None;
    until("its port is free", || {
        let bound = std::net::TcpListener::bind(voter.address);
        if let Ok(listener) = bound {
            listener.set_nonblocking(true).unwrap();
            again = Some(TcpListener::from_std(listener).unwrap());
        }
        let free = again.is_some();
        async move { free }
    })
    .await;
    // Still answering, with nobody to follow.
    assert_eq!(clinic(&server).await, at("127.0.1.1"));
    let next = moved(8, 2, [127, 0, 2, 1]);
    let voter = Voter::start_on(again.unwrap(), &cluster, "a", next);
    serves(&server, 8).await;
    voter.hears(8).await;
}

#[tokio::test]
async fn i29_a_voter_that_lags_is_not_followed() {
    let (cluster, data) = (Cluster::new(), tempfile::tempdir().unwrap());
    let ahead = Voter::start(&cluster, "a", moved(8, 2, [127, 0, 2, 1])).await;
    let behind = Voter::start(&cluster, "b", Zone::default()).await;
    let server = start(data.path(), &cluster, &[&ahead, &behind]).await;
    serves(&server, 8).await;
    // It answers with what it has: older, of an earlier epoch.
    behind.applies(zone(7));
    behind.is_asked_again().await;
    // A zone that is newer by its number and older by its epoch.
    behind.applies(zone(9));
    behind.is_asked_again().await;
    assert_eq!(server.current.version(), 8);
    ahead.applies(moved(10, 2, [127, 0, 3, 1]));
    serves(&server, 10).await;
    assert_eq!(clinic(&server).await, at("127.0.3.1"));
}

#[tokio::test]
async fn i31_a_restart_serves_the_last_zone_with_nobody_alive() {
    let data = tempfile::tempdir().unwrap();
    let server = Running::serving(data.path(), moved(8, 2, [127, 0, 2, 1])).await;
    server.stop().await;
    let server = Running::start(data.path(), Vec::new()).await;
    assert_eq!(clinic(&server).await, at("127.0.2.1"));
    let soa = server.ask(support::ORIGIN, RecordType::SOA).await;
    assert!(soa.answers[0].to_string().contains(" 8 30 5 1209600 5"));
}

#[tokio::test]
async fn i29_a_restart_does_not_forget_the_epoch() {
    let (cluster, data) = (Cluster::new(), tempfile::tempdir().unwrap());
    let server = Running::serving(data.path(), moved(8, 2, [127, 0, 2, 1])).await;
    server.stop().await;
    let behind = Voter::start(&cluster, "b", zone(7)).await;
    let server = start(data.path(), &cluster, &[&behind]).await;
    behind.hears(8).await;
    behind.is_asked_again().await;
    assert_eq!(clinic(&server).await, at("127.0.2.1"));
}

#[tokio::test]
async fn i31_what_is_served_is_on_disk_before() {
    let data = tempfile::tempdir().unwrap();
    let server = Running::serving(data.path(), zone(7)).await;
    let path = data.path().join("zone.json");
    let kept = std::fs::read(&path).unwrap();
    // The folder is gone: the next zone cannot be written, so it is not served.
    let elsewhere = data.path().with_extension("moved");
    std::fs::rename(data.path(), &elsewhere).unwrap();
    let error = server.current.offer(moved(8, 2, [127, 0, 2, 1])).await.unwrap_err();
    assert!(error.to_string().contains("zone.json"), "{error}");
    assert_eq!(clinic(&server).await, at("127.0.1.1"));
    std::fs::rename(&elsewhere, data.path()).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), kept);
    server.current.offer(moved(8, 2, [127, 0, 2, 1])).await.unwrap();
    assert_eq!(clinic(&server).await, at("127.0.2.1"));
    assert_ne!(std::fs::read(&path).unwrap(), kept);
}

#[tokio::test]
async fn i31_a_damaged_file_is_put_aside_and_not_served() {
    let (cluster, data) = (Cluster::new(), tempfile::tempdir().unwrap());
    let server = Running::serving(data.path(), zone(7)).await;
    server.stop().await;
    let path = data.path().join("zone.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("127.0.1.1", "127.0.6.6")).unwrap();
    let voter = Voter::start(&cluster, "a", Zone::default()).await;
    let server = start(data.path(), &cluster, &[&voter]).await;
    let answer = server.ask("clinic", RecordType::A).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
    assert!(!path.exists() && data.path().join("zone.json.damaged").exists());
    voter.applies(zone(7));
    serves(&server, 7).await;
    assert_eq!(clinic(&server).await, at("127.0.1.1"));
    assert!(path.exists());
}

#[tokio::test]
async fn i32_only_a_voter_is_followed() {
    let (cluster, data) = (Cluster::new(), tempfile::tempdir().unwrap());
    // An agent's key in a thief's hands, at a voter's address.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let thief = Voter::start_as(listener, cluster.identity("agent", "thief"), zone(99));
    let own = cluster.identity("dns", "ns1");
    let thief = Client::new(&own, Kind::Voter, thief.address).unwrap();
    let asked = thief.get::<Zone>("/v1/zone?after=0&server=ns1&have=0", support::PATIENCE).await;
    assert!(asked.is_err());
    let voter = Voter::start(&cluster, "a", zone(7)).await;
    let voters = vec![thief, Client::new(&own, Kind::Voter, voter.address).unwrap()];
    let server = Running::start(data.path(), voters).await;
    serves(&server, 7).await;
    voter.hears(7).await;
    assert_eq!(server.current.version(), 7);
}
