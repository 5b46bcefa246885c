//! The monitoring port of real voters: health with the reason, and every metric of the table.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use failover::Request;
use failover::report::Report;
use orchestrator::answers::Accepted;
use orchestrator::monitoring::METRICS;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use wire::http::HttpError;
use wire::monitoring::COMMON;

use crate::http::{Group, SOON, declare, granted, reported};
use crate::world::absent;

/// Status and body of a plain GET; `None`: nobody listens.
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
    timeout(SOON, asking).await.expect("in time")
}

/// Every sample by its name and labels, as it is written.
type Samples = BTreeMap<String, f64>;

async fn scrape(address: SocketAddr) -> Option<Samples> {
    let (status, body) = ask(address, "/metrics").await?;
    assert_eq!(status, 200, "{body}");
    assert!(body.ends_with("# EOF\n"), "{body}");
    let mut samples = Samples::new();
    for line in body.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').expect("a name and a value");
        let before = samples.insert(name.to_owned(), value.parse().expect("a number"));
        assert_eq!(before, None, "{name} is told twice");
    }
    Some(samples)
}

fn names(samples: &Samples) -> BTreeSet<&str> {
    samples.keys().map(|sample| sample.split('{').next().unwrap_or(sample)).collect()
}

/// Scrapes until `done`.
async fn until(group: &Group, n: usize, done: impl Fn(&Samples) -> bool) -> Samples {
    let mut last = None;
    let asking = async {
        loop {
            last = scrape(group.monitoring[n]).await;
            if let Some(samples) = last.take_if(|samples| done(samples)) {
                return samples;
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    let found = timeout(SOON, asking).await;
    found.unwrap_or_else(|_| panic!("never: {last:#?}\n{}", group.log(n)))
}

/// What no leader can tell of a topology of which nothing has ever run.
const OF_RUNNING_SERVICES: [&str; 8] = [
    "baton_service_step_age_seconds",
    "baton_service_transitions",
    "baton_service_lease_age_seconds",
    "baton_voter_leases_total",
    "baton_postgres_streaming",
    "baton_postgres_lag_bytes",
    "baton_readiness_rto_seconds",
    "baton_service_zero_loss",
];

#[tokio::test]
async fn every_metric_of_the_table_is_told_and_no_other() {
    let group = Group::start();
    let operator = group.client(0, "operator", "alice");
    let leader = group.elected(&operator).await;
    declare(&group, &operator).await;
    let hold = Request::Hold { service: "clinic".parse().expect("a name"), reason: "x".into() };
    granted(&operator, &hold).await;
    let moved =
        Request::Failover { service: "clinic".parse().expect("a name"), reason: "x".into() };
    let refused = operator.post::<_, Accepted>("/v1/requests", &moved, SOON).await;
    assert!(matches!(refused, Err(HttpError::Status { code: 409, .. })), "{refused:?}");
    let agent = group.client(leader, "agent", "s1-1");
    let dns = group.client(leader, "dns", "ns1");
    let _zone: failover::Zone =
        dns.get("/v1/zone?after=0&server=ns1&have=0", SOON).await.expect("a zone");
    // The leader believes only who says back what it told last.
    let mut echo = None;
    for sequence in 1..=2 {
        let report = Report { echo, ..absent(1, sequence) };
        echo = reported(&agent, &report).await.expect("answered").echo;
    }

    let told = until(&group, leader, |samples| {
        let expected: BTreeSet<&str> =
            COMMON.iter().chain(METRICS).map(|metric| metric.name).collect();
        let missing: Vec<&str> = expected.difference(&names(samples)).copied().collect();
        missing.iter().all(|name| OF_RUNNING_SERVICES.contains(name) || *name == OFFSET)
    })
    .await;
    let table: BTreeSet<&str> = COMMON.iter().chain(METRICS).map(|metric| metric.name).collect();
    assert!(names(&told).is_subset(&table), "{:?}", names(&told).difference(&table));
    for (sample, value) in [
        ("baton_voter_leads", 1.0),
        ("baton_voter_leader_known", 1.0),
        ("baton_voter_stopped", 0.0),
        ("baton_voter_refusals_total", 1.0),
        ("baton_service_epoch{service=\"clinic\"}", 0.0),
        ("baton_service_held{service=\"clinic\"}", 1.0),
        ("baton_service_single_copy{service=\"clinic\"}", 0.0),
        ("baton_name_server_serial{name_server=\"ns1\"}", 0.0),
    ] {
        assert_eq!(told.get(sample), Some(&value), "{sample}: {told:#?}");
    }
    let site = "baton_readiness_level{service=\"clinic\",site=\"s1\"}";
    assert!(told[site] >= 2.0, "a service that never ran is not ready: {told:#?}");
    assert!(told["baton_voter_proposals_total"] >= 4.0, "voters, topology, hold, refusal");
    assert!(told["baton_voter_audit_records"] >= 4.0);
    assert!(told["baton_voter_applied_index"] <= told["baton_voter_committed_index"]);

    // A follower tells the same state, and nothing that only a leader can know.
    let follower = (leader + 1) % 3;
    let held =
        |samples: &Samples| samples.get("baton_service_held{service=\"clinic\"}") == Some(&1.0);
    let told = until(&group, follower, held).await;
    assert_eq!(told.get("baton_voter_leads"), Some(&0.0));
    for metric in METRICS.iter().filter(|metric| metric.help.starts_with("Leader only")) {
        assert!(!names(&told).contains(metric.name), "{}", metric.name);
    }
}

/// Told once voters have compared clocks, which they do rarely.
const OFFSET: &str = "baton_clock_offset_seconds";

#[tokio::test]
async fn a_voter_without_a_leader_is_alive_and_not_ready() {
    let mut group = Group::start();
    let operator = group.client(0, "operator", "alice");
    let leader = group.elected(&operator).await;
    let last = (leader + 1) % 3;
    until(&group, last, |samples| samples.get("baton_voter_leader_known") == Some(&1.0)).await;
    assert_eq!(ask(group.monitoring[last], "/readyz").await, Some((200, "ready\n".into())));
    group.kill(leader);
    group.kill((leader + 2) % 3);
    let alone =
        until(&group, last, |samples| samples.get("baton_voter_leader_known") == Some(&0.0)).await;
    assert_eq!(alone.get("baton_voter_leads"), Some(&0.0));
    let not = "not ready: no leader is known to this voter\n";
    assert_eq!(ask(group.monitoring[last], "/readyz").await, Some((503, not.into())));
    assert_eq!(ask(group.monitoring[last], "/livez").await, Some((200, "alive\n".into())));
}
