//! Changes of primary, told by real voters to a real listener as traces: each once it is over, and
//! the same whoever tells it.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use failover::cluster::Outcome;
use failover::ids::{Epoch, Lsn, SystemIdentifier, Timeline};
use failover::position::Position;
use failover::report::{Pledge, Proof, Report, Server};
use failover::topology::{Dns, Topology};
use failover::{Answer, Role};
use serde_json::Value;

use crate::alerts::Listener;
use crate::http::{Group, SOON, declare_as, report_until};
use crate::world::{absent, topology};

/// An agent whose PostgreSQL is at once what it is told to be.
fn obeys(site: u64, sequence: u64, told: Option<&Answer>) -> Report {
    let nothing = absent(site, sequence);
    if !told.is_some_and(|answer| matches!(answer.assignment.role, Role::Primary { .. })) {
        return nothing;
    }
    let position = Position { timeline: Timeline(1), history: Vec::new(), lsn: Lsn(100) };
    Report {
        pledge: Pledge { granted: Epoch(1), ..Pledge::default() },
        server: Server::Writable { position, admits: true, checkpoint: Timeline(1) },
        proof: Some(Proof { epoch: Epoch(1), age: Duration::ZERO }),
        system_identifier: Some(SystemIdentifier(7)),
        ..nothing
    }
}

fn spans(told: &str) -> Vec<Value> {
    let told: Value = serde_json::from_str(told).expect("JSON");
    told["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().expect("a list").clone()
}

#[tokio::test]
async fn a_change_of_primary_is_told_as_a_trace_whoever_leads() {
    let collector = Listener::default();
    collector.fails.store(true, Ordering::SeqCst);
    let address = collector.http().await;
    let secrets = tempfile::tempdir().expect("a folder");
    let key = secrets.path().join("key");
    std::fs::write(&key, "b3arer\n").expect("it can be written");
    let key = key.display();
    let more = format!("[traces]\nurl = \"http://{address}/v1/traces\"\nsecret_file = \"{key}\"\n");
    let mut group = Group::start_saying(&more);
    let operator = group.client(0, "operator", "alice");
    group.elected(&operator).await;
    // Without name servers a change needs nobody else.
    let dns = Dns { servers: BTreeMap::new(), ..topology().dns };
    declare_as(&group, &operator, Topology { dns, ..topology() }).await;
    report_until(&group, &operator, obeys, |all| {
        all.first().is_some_and(|record| record.outcome == Outcome::Done)
    })
    .await;

    // A collector that is away is told later.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(!collector.heard().iter().any(|text| text.contains("resourceSpans")));
    collector.fails.store(false, Ordering::SeqCst);
    let told = collector.until(SOON, |text| text.contains("resourceSpans")).await;
    assert!(collector.heard().contains(&"authorization: Bearer b3arer".to_owned()));
    let first = spans(&told);
    let names: Vec<&str> = first.iter().filter_map(|span| span["name"].as_str()).collect();
    assert_eq!(names, ["bootstrap", "seal", "promote", "prove", "redirect", "verify"]);
    // By whoever leads by then.
    let by = |voter: usize| format!("\"stringValue\":\"v{}\"", voter + 1);
    let leader = (0..3).find(|voter| told.contains(&by(*voter))).expect("a voter tells it");
    let by = by(leader);

    // The next leader cannot know whether that was told, and tells the same.
    group.kill(leader);
    let told =
        collector.until(SOON, |text| text.contains("resourceSpans") && !text.contains(&by)).await;
    assert_eq!(spans(&told), first);
    let log = group.log((leader + 1) % 3);
    assert!(!log.contains("b3arer") && !log.contains(&format!("{address}/v1")), "{log}");
}
