//! What lowers durability needs two people, whoever leads meanwhile (I-33): over real TLS, and with
//! the program that people use.

use std::process::{Child, Output, Stdio};

use failover::{Request, VoterId};
use orchestrator::answers::{Accepted, Approvals, History, Status};
use serde_json::Value;
use tokio::time::{Duration, sleep, timeout};
use wire::http::{Client, HttpError};

use crate::http::{Group, SOON, code, declare, get};
use crate::on_record::{Baton, complaint, out};

async fn ask(client: &Client, request: &Request) -> Result<Accepted, HttpError> {
    loop {
        match client.post("/v1/requests", request, SOON).await {
            Err(HttpError::Status { code: 503 | 504, .. }) => {
                sleep(Duration::from_millis(50)).await;
            }
            answer => return answer,
        }
    }
}

async fn waiting(client: &Client) -> Vec<String> {
    let all: Approvals = get(client, "/v1/approvals").await.expect("it answers");
    let waits = all.requests.iter().filter(|(_, told)| told.waits);
    waits.map(|(plan, _)| plan.clone()).collect()
}

/// Asked for at one leader, approved at the next; who asked and who approved is on record.
#[tokio::test]
async fn i33_a_request_outlives_its_leader_and_needs_another_person() {
    let mut group = Group::start();
    let alice = group.client(0, "operator", "alice");
    let old = group.elected(&alice).await;
    declare(&group, &alice).await;
    let id = VoterId(old as u64 + 1);
    let remove = Request::RemoveVoter { id, reason: "its disk is gone".into() };
    let asked = ask(&alice, &remove).await.expect("it may wait");
    let plan = asked.waits.expect("it needs two");
    group.kill(old);

    let other = (old + 1) % 3;
    let [alice, bob, eve] =
        ["alice", "bob/approver", "eve/viewer"].map(|name| group.client(other, "operator", name));
    let again = ask(&alice, &remove).await.expect("the same again goes on");
    assert_eq!(again.waits.as_deref(), Some(plan.as_str()));
    assert_eq!(waiting(&eve).await, std::slice::from_ref(&plan));
    let yes = Request::Approve { plan: plan.clone(), reason: "saw it smoke".into() };
    for (who, says) in [(&alice, "another person"), (&eve, "role approver or admin")] {
        match ask(who, &yes).await {
            Err(HttpError::Status { code: 409, problem }) => {
                assert!(problem.error.contains(says), "{problem:?}");
            }
            answer => panic!("{answer:?}"),
        }
    }
    ask(&bob, &yes).await.expect("it is approved");
    assert_eq!(code(ask(&bob, &yes).await), 409, "once");
    assert!(waiting(&alice).await.is_empty());
    let status: Status = get(&alice, "/v1/status").await.expect("it answers");
    assert!(status.voters.iter().all(|voter| voter.id != id), "{:?}", status.voters);
    let history: History = get(&alice, "/v1/history").await.expect("there is one");
    let last = history.entries.last().expect("it is not empty");
    assert_eq!(last.by, "alice");
    assert!(last.text.ends_with("its disk is gone; approved by bob: saw it smoke"), "{last:?}");
    let record: Value = get(&alice, "/v1/audit").await.expect("it answers");
    let record = record.to_string();
    for words in [r#"\"approved\":{\"by\":\"bob\""#, "another person must approve it"] {
        assert!(record.contains(words), "{words}: {record}");
    }
}

/// Three voters, of which a follower is to be removed: its number.
async fn one_too_many() -> (Group, Client, String) {
    let group = Group::start();
    let operator = group.client(0, "operator", "alice");
    let leader = group.elected(&operator).await;
    declare(&group, &operator).await;
    (group, operator, ((leader + 1) % 3 + 1).to_string())
}

fn watched(who: &Baton, verb: &[&str]) -> Child {
    let spawned = who.command(verb).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    spawned.expect("the program was built")
}

async fn ended(watched: Child, status: i32) -> Output {
    let ended = tokio::task::spawn_blocking(move || watched.wait_with_output());
    let ended = timeout(SOON, ended).await.expect("it ends").expect("no panic").expect("it ran");
    assert_eq!(ended.status.code(), Some(status), "{}", complaint(&ended));
    ended
}

/// Alice waits at her terminal, Bob lists and approves at his.
#[tokio::test]
async fn i33_whoever_waits_is_told_the_outcome() {
    let (group, operator, gone) = one_too_many().await;
    let alice = Baton::of(&group, "alice");
    let bob = Baton::of(&group, "bob/approver");
    let remove = ["voters", "remove", &gone, "--reason", "moved"];

    let silent = alice.run(&["voters", "remove", &gone]);
    assert_eq!(silent.status.code(), Some(2), "{}", complaint(&silent));
    let unwatched = alice.run(&[&remove[..], &["--no-wait"]].concat());
    assert_eq!(unwatched.status.code(), Some(5), "{}", complaint(&unwatched));
    assert!(complaint(&unwatched).contains("the same command again goes on"));
    let watched = watched(&alice, &remove);

    let listed = bob.run(&["approve"]);
    assert!(out(&listed).contains(&format!("remove voter {gone}: waits until")), "{listed:?}");
    let plan = waiting(&operator).await.pop().expect("it waits");
    let refused = alice.run(&["approve", &plan[..12], "--reason", "me too"]);
    assert_eq!(refused.status.code(), Some(4), "{}", complaint(&refused));
    let approved = bob.run(&["approve", &plan[..12], "--reason", "seen"]);
    assert_eq!(approved.status.code(), Some(0), "{}", complaint(&approved));
    let ended = ended(watched, 0).await;
    assert!(out(&ended).contains("done: approved by bob: seen"), "{ended:?}");
    assert!(complaint(&ended).contains(&format!("baton approve {plan}")), "{ended:?}");
}

/// Alice takes back what she asked for, while she waits for it at another terminal.
#[tokio::test]
async fn i33_whoever_waits_is_told_that_it_is_withdrawn() {
    let (group, operator, gone) = one_too_many().await;
    let alice = Baton::of(&group, "alice");
    let remove = ["voters", "remove", &gone, "--reason", "moved"];
    let unwatched = alice.run(&[&remove[..], &["--no-wait"]].concat());
    assert_eq!(unwatched.status.code(), Some(5), "{}", complaint(&unwatched));
    let watched = watched(&alice, &remove);
    let plan = waiting(&operator).await.pop().expect("it waits");
    let withdraw = ["approve", &plan[..12], "--withdraw", "--reason", "the wrong one"];
    let other = Baton::of(&group, "bob/admin").run(&withdraw);
    assert_eq!(other.status.code(), Some(4), "{}", complaint(&other));
    let own = alice.run(&withdraw);
    assert_eq!(own.status.code(), Some(0), "{}", complaint(&own));
    let ended = ended(watched, 4).await;
    assert!(complaint(&ended).contains("alice withdrew it: the wrong one"), "{ended:?}");
    let listed = out(&alice.run(&["approve"]));
    assert!(listed.contains("withdrawn at") && listed.contains("the wrong one"), "{listed}");
    let record = get::<Value>(&operator, "/v1/audit").await.expect("it answers").to_string();
    assert!(record.contains(r#"\"withdrawn\":{\"plan\""#), "{record}");
}
