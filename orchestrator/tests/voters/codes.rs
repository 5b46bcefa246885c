//! A second factor beside the certificate, at real voters and through the command line (I-33).

use std::process::Output;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use failover::Request;
use failover::topology::{People, Topology};
use orchestrator::answers::Accepted;
use orchestrator::codes::{HEADER, enrol};
use serde_json::Value;
use totp_rs::Totp;
use wire::{clock, exit};

use crate::http::{Group, SOON, code as code_of, declare};
use crate::on_record::{Baton, complaint, out};
use crate::world::topology;

fn refused(output: &Output, why: &str) {
    assert_eq!(output.status.code(), Some(exit::REFUSED.into()), "{output:?}");
    assert!(complaint(output).contains(why), "{output:?}");
}

#[tokio::test]
async fn i33_a_certificate_alone_changes_nothing_and_a_code_is_good_once() {
    let mut group = Group::start();
    let operator = group.client(0, "operator", "alice");
    group.elected(&operator).await;
    declare(&group, &operator).await;
    let baton = Baton::of(&group, "alice");
    let say = |verb: &str, code: &str| {
        let mut words = vec![verb, "clinic", "--reason", "x"];
        words.extend(if code.is_empty() { vec![] } else { vec!["--code", code] });
        baton.run(&words)
    };
    refused(&say("hold", "123456"), "--totp alice");
    let people = People { totp: true, ..People::default() };
    let topology = Box::new(Topology { people, ..topology() });
    let declares = Request::Apply { expected: 1, topology, reason: "x".into() };
    let answer = operator.post::<_, Value>("/v1/requests", &declares, SOON).await;
    assert_eq!(code_of(answer), 409, "whoever declares it must have an authenticator that works");
    let url = enrol("test", "alice").expect("random bytes");
    for n in 1..=3 {
        let folder = group.folder.path().join(format!("v{n}/secrets/totp"));
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join("alice"), &url).expect("writable");
    }
    let authenticator = Totp::from_url(&url).expect("an address");
    let seconds = || u64::try_from(clock::wall().0 / 1_000).expect("it is after 1970");
    // The codes of a step are asked for within it.
    while seconds() % 30 > 15 {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let now = seconds();
    let code = |at| authenticator.generate(at).to_string();
    let (before, first, next) = (code(now - 30), code(now), code(now + 30));
    let header = HeaderValue::from_str(&before).expect("digits");
    let headers = HeaderMap::from_iter([(HeaderName::from_static(HEADER), header)]);
    let declared: Accepted =
        operator.post_with("/v1/requests", &declares, headers, SOON).await.expect("it is granted");
    assert!(declared.text.contains("version 2"), "{declared:?}");
    let right = [&before, &first, &next];
    let wrong = (0..9).map(|n| format!("00000{n}")).find(|it| !right.contains(&it));
    refused(&say("hold", ""), "--code");
    refused(&say("hold", &wrong.expect("there are nine")), "not the code of alice");
    assert_eq!(say("hold", "12345").status.code(), Some(exit::CONFIG.into()), "five digits");
    let held = say("hold", &first);
    assert!(held.status.success(), "{held:?}");
    refused(&say("resume", &first), "was used");
    // The next leader knows it as well.
    let leader = group.elected(&operator).await;
    group.kill(leader);
    let other = group.client((leader + 1) % 3, "operator", "alice");
    group.elected_but(&other, leader).await;
    refused(&say("resume", &first), "was used");
    let resumed = say("resume", &next);
    assert!(resumed.status.success(), "{resumed:?}");
    // Whoever looks needs none, and the record names no code.
    let record = baton.run(&["audit", "export"]);
    assert!(record.status.success(), "{record:?}");
    let record = out(&record);
    assert!(record.contains("not the code of alice") && !record.contains(&first), "{record}");
}
