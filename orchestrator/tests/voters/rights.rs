//! Every route, asked for with every kind of certificate and in every role, over real TLS (I-32).

use failover::Request;
use orchestrator::answers::Accepted;
use serde_json::Value;
use tokio::time::{Duration, sleep};
use wire::http::{Client, HttpError};

use crate::http::{Group, SOON, code, declare, get};

/// Every kind of certificate that there is.
const CALLERS: [(&str, &str); 8] = [
    ("voter", "v2"),
    ("agent", "s1-1"),
    ("dns", "ns1"),
    ("operator", "alice"),
    ("operator", "vera/viewer"),
    ("operator", "otto/operator"),
    ("operator", "anna/approver"),
    ("operator", "adam/admin"),
];

const PEOPLE: [&str; 5] = ["alice", "vera/viewer", "otto/operator", "anna/approver", "adam/admin"];

/// Who is let in, route by route: written down here once more, by hand.
fn lets_in() -> Vec<(&'static str, &'static str, Vec<&'static str>)> {
    let people = || PEOPLE.to_vec();
    let all = || CALLERS.iter().map(|(_, name)| *name).collect();
    vec![
        ("GET", "/livez", all()),
        ("GET", "/readyz", all()),
        ("POST", "/v1/report", vec!["s1-1"]),
        ("GET", "/v1/assignment/s1-1", vec!["s1-1"]),
        ("GET", "/v1/assignment/s2-1", vec![]),
        ("GET", "/v1/zone?server=ns1", vec!["ns1"]),
        ("GET", "/v1/zone?server=ns2", vec![]),
        ("POST", "/v1/raft", vec!["v2"]),
        ("POST", "/v1/forward", vec!["v2"]),
        ("GET", "/v1/status", people()),
        ("GET", "/v1/explain/clinic", people()),
        ("GET", "/v1/what-if?hypothesis=%7B%22lose-site%22%3A%22s1%22%7D", people()),
        ("GET", "/v1/readiness", people()),
        ("GET", "/v1/history", people()),
        ("GET", "/v1/transitions", people()),
        ("GET", "/v1/transitions/1", people()),
        ("GET", "/v1/topology", people()),
        ("GET", "/v1/audit", people()),
        ("GET", "/v1/evidence/1", people()),
        ("GET", "/v1/evidence/drills/1", people()),
        ("GET", "/v1/calendar", people()),
        ("GET", "/v1/drills", people()),
        ("GET", "/v1/drills/1", people()),
        ("GET", "/v1/drill-plan?request=x", people()),
        ("GET", "/v1/approvals", people()),
        ("GET", "/v1/loss/clinic", people()),
        ("POST", "/v1/requests", people()),
    ]
}

fn clients(group: &Group) -> Vec<(&'static str, Client)> {
    CALLERS.iter().map(|(kind, name)| (*name, group.client(0, kind, name))).collect()
}

#[tokio::test]
async fn i32_every_route_lets_in_whom_it_is_for() {
    let group = Group::start();
    let clients = clients(&group);
    let alice = &clients.iter().find(|(name, _)| *name == "alice").expect("she is there").1;
    group.elected(alice).await;
    declare(&group, alice).await;
    let body = serde_json::json!({"what": "is this"});
    for (method, path, let_in) in lets_in() {
        for (name, client) in &clients {
            let answer = if method == "GET" {
                get::<Value>(client, path).await
            } else {
                client.post::<_, Value>(path, &body, SOON).await
            };
            let inside = code(answer) != 403;
            assert_eq!(inside, let_in.contains(name), "{method} {path} by {name}");
        }
    }
    let nowhere = alice.post::<_, Value>("/v1/status", &body, SOON).await;
    assert_eq!(code(nowhere), 405, "what is not in the table is nobody's");
}

/// What each role may ask to be changed; each refusal names the role and how one gets it.
#[tokio::test]
async fn i32_every_role_changes_its_own_only() {
    let group = Group::start();
    let clients = clients(&group);
    let client = |wanted: &str| -> &Client {
        &clients.iter().find(|(name, _)| *name == wanted).expect("it is there").1
    };
    group.elected(client("alice")).await;
    declare(&group, client("alice")).await;
    let service: failover::ServiceId = "clinic".parse().expect("a name");
    let reason = || String::from("a test");
    let hold = Request::Hold { service: service.clone(), reason: reason() };
    let voter = failover::VoterId(9);
    let remove = Request::RemoveVoter { id: voter, reason: reason() };
    for (name, may_hold, may_remove) in [
        ("alice", true, true),
        ("adam/admin", true, true),
        ("otto/operator", true, false),
        ("vera/viewer", false, false),
        ("anna/approver", false, false),
    ] {
        for (request, may) in [(&hold, may_hold), (&remove, may_remove)] {
            let text = refusal(client(name), request).await;
            let by_role = text.contains("needs the role");
            assert_eq!(by_role, !may, "{name}: {text}");
            let person = name.split('/').next().unwrap_or_default();
            let least = if matches!(request, Request::Hold { .. }) { "operator" } else { "admin" };
            let remedy = format!("--person {person}:{least}`");
            assert_eq!(text.contains(&remedy), !may, "{name}: {text}");
        }
    }
    let silent = Request::Hold { service, reason: " ".into() };
    assert!(refusal(client("alice"), &silent).await.contains("--reason"));
    // In which role is on record beside who.
    let page: Value = get(client("alice"), "/v1/audit").await.expect("it answers");
    let said = page.to_string();
    for words in ["operator/otto/operator at voter", "viewer's", r#"\"role\":\"viewer\""#] {
        assert!(said.contains(words), "{words}: {said}");
    }
}

/// What the cluster says against a request; empty: it is granted.
async fn refusal(client: &Client, request: &Request) -> String {
    loop {
        match client.post::<_, Accepted>("/v1/requests", request, SOON).await {
            Ok(_) => return String::new(),
            Err(HttpError::Status { code: 409, problem }) => return problem.error,
            Err(HttpError::Status { code: 503 | 504, .. }) => {
                sleep(Duration::from_millis(50)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}
