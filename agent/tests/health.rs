//! What load balancers are told, from real servers: nobody is sent to a primary without a lease.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should not")]

mod support;

use agent::monitoring::{METRICS, Monitored};
use failover::comply::Action;
use failover::{Epoch, lease};
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;
use support::process::{Agent, primary, writable};
use support::voter::Voter;
use support::{Site, World, free_port, play, wait_for};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use wire::clock::now;
use wire::http::{Client, HttpError};
use wire::monitoring::COMMON;
use wire::role::Kind;

const SOON: std::time::Duration = std::time::Duration::from_secs(20);

/// The monitoring port of a site, served until the sender goes.
async fn port(site: &Site) -> (SocketAddr, watch::Sender<bool>) {
    let listener = wire::http::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopping) = watch::channel(false);
    let router = Monitored::new(&site.instance).unwrap().router();
    tokio::spawn(wire::monitoring::accept(listener, router, stopping));
    (address, stop)
}

/// An operator with a certificate, at the agent's own port.
fn operator(world: &World, site: &Site) -> Client {
    let (stop, stopping) = watch::channel(false);
    let instance = std::sync::Arc::clone(&site.instance);
    tokio::spawn(async move {
        let served = agent::listen::serve(instance, stopping).await;
        drop(stop);
        served
    });
    let folder = world.folder.path().join("alice");
    std::fs::create_dir_all(&folder).unwrap();
    let leaf = wire::ca::Leaf {
        common_name: "alice".into(),
        uri: "baton://test/operator/alice".into(),
        addresses: Vec::new(),
        names: Vec::new(),
    };
    let identity = wire::tls::Identity::load(&world.issue(&folder, &leaf)).unwrap();
    Client::new(&identity, Kind::Agent, site.instance.config.listen).unwrap()
}

async fn ask(address: SocketAddr, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: here\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

async fn status(address: SocketAddr, path: &str) -> u16 {
    ask(address, path).await.unwrap().0
}

/// The status is 503, and the body says why.
async fn refused(address: SocketAddr, path: &str, why: &str) {
    let (status, body) = ask(address, path).await.unwrap();
    assert_eq!(status, 503, "{path}: {body}");
    let body: Value = serde_json::from_str(&body).unwrap();
    let told = body["why_not"].as_str().unwrap();
    assert!(told.contains(why), "{path}: {told}, not {why}");
}

#[test]
fn i13_nobody_is_sent_to_an_instance_before_it_admits_clients() {
    play("i13_nobody_is_sent_to_an_instance_before_it_admits_clients", async {
        let mut world = World::new(&["a", "b"]);
        world.lease_for(Duration::from_secs(30));
        let site = world.site("a").await;
        let (empty, _keep) = port(&site).await;
        refused(empty, "/primary", "nothing was assigned").await;
        refused(empty, "/read-only", "nothing was assigned").await;
        let (status, reason) = ask(empty, "/readyz").await.unwrap();
        assert_eq!((status, reason.starts_with("not ready: nothing")), (503, true), "{reason}");
        drop(site);

        let (a, b) = world.pair().await;
        let (of_a, _keep) = port(&a).await;
        let (of_b, _keep) = port(&b).await;
        wait_for("a lease", || lease::is_valid(&a.instance.local(), &world.timing, now())).await;
        refused(of_a, "/primary", "admits no clients").await;
        refused(of_b, "/replica", "admits no clients").await;
        let operator = operator(&world, &a);
        let told = operator.get::<Value>("/readyz", SOON).await.unwrap_err();
        assert!(matches!(told, HttpError::Status { code: 503, .. }), "{told}");
        assert!(told.to_string().contains("admits no clients"), "{told}");
        a.admit().await;
        b.admit().await;
        wait_for("both admit", || {
            a.instance.state().configured.admits && b.instance.state().configured.admits
        })
        .await;
        a.instance.look_now().await.unwrap();
        b.instance.look_now().await.unwrap();
        assert_eq!(self::status(of_a, "/primary").await, 200);
        assert_eq!(self::status(of_a, "/read-only").await, 200);
        assert_eq!(self::status(of_a, "/readyz").await, 200);
        let told = operator.get::<Value>("/readyz", SOON).await.unwrap_err();
        assert!(matches!(told, HttpError::Body(_)), "`ok`, and no JSON: {told}");
        refused(of_a, "/replica", "it is the primary").await;
        assert_eq!(self::status(of_b, "/replica").await, 200);
        assert_eq!(self::status(of_b, "/read-only").await, 200);
        refused(of_b, "/primary", "it is a replica").await;
        let (_, body) = ask(of_a, "/primary").await.unwrap();
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((&body["serves"], &body["epoch"]), (&"primary".into(), &1.into()), "{body}");
        assert_eq!(body["postgres"], "a");
        assert!(body["lease_seconds"].as_f64().unwrap() > 0.0, "{body}");
        assert_eq!(self::status(of_b, "/replica?lga=1").await, 400);
        assert_eq!(self::status(of_b, "/replica?lag=much").await, 400);
    });
}

#[test]
fn a_replica_that_is_behind_is_left_out_where_that_is_asked() {
    play("a_replica_that_is_behind_is_left_out_where_that_is_asked", async {
        let world = World::new(&["a", "b"]);
        let (a, b) = world.pair().await;
        b.admit().await;
        let (of_b, _keep) = port(&b).await;
        let lag = async || {
            let (_, body) = ask(of_b, "/replica").await.unwrap();
            serde_json::from_str::<Value>(&body).unwrap()["lag_bytes"].as_u64()
        };
        // The primary's beats make the log grow, and the standby replays them.
        let mut small = false;
        for _ in 0..2_000 {
            small = lag().await.is_some_and(|lag| lag < 1 << 20);
            if small {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(small);
        assert_eq!(status(of_b, "/replica?lag=16777216").await, 200);
        b.sql("select pg_wal_replay_pause()").await;
        let filling =
            "create table filler as select repeat('x', 1000) from generate_series(1, 4000)";
        a.sql(filling).await;
        for _ in 0..2_000 {
            if lag().await.is_some_and(|lag| lag > 1 << 20) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        refused(of_b, "/replica?lag=1048576", "more than 1048576").await;
        refused(of_b, "/read-only?lag=1048576", "more than 1048576").await;
        assert_eq!(status(of_b, "/replica").await, 200, "whoever does not ask is sent there");
    });
}

/// Nobody runs the agent's beat here, so that nothing but the answer itself protects the asker.
#[test]
fn i03_from_the_end_of_its_lease_on_nobody_is_sent_to_a_primary() {
    play("i03_from_the_end_of_its_lease_on_nobody_is_sent_to_a_primary", async {
        let mut world = World::new(&["a", "b"]);
        world.lease_for(Duration::from_secs(6));
        let (a, b) = world.pair().await;
        let (of_a, _keep) = port(&a).await;
        wait_for("a pulse", || a.instance.state().committed.is_some()).await;
        a.admit().await;
        // A probe reads what the file says.
        wait_for("it admits", || a.instance.state().configured.admits).await;
        assert_eq!(status(of_a, "/primary").await, 200);
        b.act(Action::Fence { reason: "test".into() }).await;
        let mut refusals = 0;
        while refusals < 20 {
            let local = a.instance.local();
            let begun = now();
            let valid = lease::is_valid(&local, &world.timing, begun);
            let (status, body) = ask(of_a, "/primary").await.unwrap();
            // Asked when it had ended, whatever PostgreSQL does by then.
            assert!(valid || status == 503, "{body}");
            refusals += u32::from(!valid);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let (status, body) = ask(of_a, "/read-only").await.unwrap();
        assert_eq!(status, 503, "{body}");
        a.act(Action::Fence { reason: "test".into() }).await;
        refused(of_a, "/primary", "fenced").await;
        let (_, told) = ask(of_a, "/metrics").await.unwrap();
        assert!(told.contains("\nbaton_agent_fences_total 1\n"), "{told}");
        assert!(told.contains("\nbaton_agent_serves{as=\"nobody\"} 1.0\n"), "{told}");
    });
}

#[test]
fn an_agent_tells_every_metric_of_its_table() {
    play("an_agent_tells_every_metric_of_its_table", async {
        let mut world = World::new(&["a", "b"]);
        let monitoring = free_port();
        world.monitoring = Some(monitoring);
        let voter = Voter::start(&world).await;
        voter.show(world.assignment("a", 1, primary(), &["b"], 1), Some(Epoch(1)));
        let _agent = Agent::start(&world, "a", &voter);
        wait_for("writable", || writable(&voter).is_some()).await;
        let names = |told: &str| -> BTreeSet<String> {
            let samples = told.lines().filter(|line| !line.starts_with('#'));
            samples
                .map(|line| line.split([' ', '{']).next().unwrap_or_default().to_owned())
                .collect()
        };
        // Not of a primary that waits for its only standby.
        let absent = [
            "baton_agent_lag_bytes",
            "baton_agent_upstream_age_seconds",
            "baton_agent_pulse_age_seconds",
            "baton_agent_probe_duration_seconds",
        ];
        let histogram = ["_bucket", "_sum", "_count"]
            .map(|ending| format!("baton_agent_probe_duration_seconds{ending}"));
        let table = COMMON
            .iter()
            .chain(METRICS)
            .map(|metric| metric.name)
            .filter(|name| !absent.contains(name));
        let expected: BTreeSet<String> = table.map(str::to_owned).chain(histogram).collect();
        let mut told = String::new();
        for _ in 0..2_000 {
            told = ask(monitoring, "/metrics").await.map(|(_, told)| told).unwrap_or_default();
            if names(&told) == expected {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(names(&told), expected, "{told}");
        let line = |line: &str| assert!(told.lines().any(|told| told == line), "{line}\n{told}");
        line("baton_agent_assigned{role=\"primary\"} 1.0");
        line("baton_agent_assigned{role=\"standby\"} 0.0");
        line("baton_agent_epoch 1.0");
        line("baton_agent_fences_total 0");
        line("baton_agent_waits_cancelled_total 0");
        assert_eq!(ask(monitoring, "/livez").await.unwrap().0, 200);
    });
}
