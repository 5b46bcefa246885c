//! Could a site be lost now, asked of real voters: by HTTP, and by `baton` with its exit status.

use std::time::Duration;

use failover::readiness::{CHECKS, Level, Outcome};
use failover::survey::Survey;
use orchestrator::answers::Readiness;
use tokio::time::sleep;

use crate::http::{Group, code, declare, get, led, reported};
use crate::on_record::Baton;
use crate::world::{absent, instance};

/// Asked of any voter, answered by the one that leads; for a site, a service, or everything.
#[tokio::test]
async fn readiness_is_answered_through_any_voter() {
    let group = Group::start();
    let operator = group.client(0, "operator", "alice");
    group.elected(&operator).await;
    declare(&group, &operator).await;
    for voter in 0..3 {
        let operator = group.client(voter, "operator", "alice");
        let all: Readiness = get(&operator, "/v1/readiness").await.expect("there is a leader");
        let service = &all.services[0];
        assert_eq!((all.services.len(), service.sites.len()), (1, 3), "{all:?}");
        assert_eq!(service.checks.len(), CHECKS.len());
        assert!(all.level >= Level::Unknown, "nobody reports: {:?}", all.level);
        assert!(service.sites.iter().all(|site| site.outcome == Outcome::Waits));
        let site: Readiness = get(&operator, "/v1/readiness?of=s2").await.expect("a leader");
        assert_eq!(site.services[0].sites.len(), 1);
        let of: Readiness = get(&operator, "/v1/readiness?of=clinic").await.expect("a leader");
        assert_eq!(of.services[0].sites.len(), 3);
        let nobody = get::<Readiness>(&operator, "/v1/readiness?of=x").await;
        assert_eq!(code(nobody), 404);
    }
}

/// What voters say of themselves and agents in their reports arrives, also through a follower.
#[tokio::test]
async fn certificates_and_clocks_are_known_to_the_leader() {
    let group = Group::start();
    let operator = group.client(0, "operator", "alice");
    let leader = group.elected(&operator).await;
    declare(&group, &operator).await;
    let agent = group.client((leader + 1) % 3, "agent", "s1-1");
    let mut echo = None;
    for sequence in 1..=600_u64 {
        let mut report = absent(1, sequence);
        report.echo = echo;
        let survey = Survey {
            wall: failover::Timestamp(wire::clock::wall().0 - 60_000),
            certificate_seconds: Some(-5),
            ..Survey::default()
        };
        report.survey = Some(Box::new(survey));
        echo = reported(&agent, &report).await.expect("it is passed on").echo;
        let all = led(|| get::<Readiness>(&operator, "/v1/readiness")).await;
        let all = all.expect("there is a leader");
        let found = |check: &str| {
            let looked = all.services[0].checks.iter().find(|looked| looked.check == check);
            looked.expect("it is in the table").findings.clone()
        };
        let voters = found("certificates").iter().filter(|f| f.text.contains("voter")).count();
        let own = |finding: &&failover::readiness::Finding| {
            finding.instance.as_ref() == Some(&instance(1))
        };
        let (certificates, clocks) = (found("certificates"), found("clocks"));
        let told = certificates.iter().find(own).zip(clocks.iter().find(own));
        // A leader takes nothing for evidence before its own words were said back to it.
        if let Some((expired, behind)) =
            told.filter(|(expired, _)| voters == 0 && expired.level != Level::Unknown)
        {
            assert_eq!(expired.level, Level::Blocks, "{expired:?}");
            assert!(behind.text.contains("ms behind the leader's"), "{behind:?}");
            return;
        }
        sleep(Duration::from_millis(50)).await;
    }
    panic!("the voters never told of themselves\n{}", group.log(leader));
}

/// Exit statuses for scripts, and the answer as JSON.
#[tokio::test]
async fn baton_readiness_ends_with_what_it_found() {
    let group = Group::start();
    let operator = group.client(0, "operator", "alice");
    group.elected(&operator).await;
    declare(&group, &operator).await;
    let output = Baton::of(&group, "alice").run(&["readiness", "-o", "json"]);
    let answer: Readiness = serde_json::from_slice(&output.stdout).expect("it is the answer");
    let expected = if answer.level == Level::Unknown { 6 } else { 1 };
    assert_eq!(output.status.code(), Some(expected), "{answer:?}");
    let output = Baton::of(&group, "alice").run(&["readiness", "s1", "--all"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("commits wait") && text.contains("voters-quorum"), "{text}");
    let output = Baton::of(&group, "alice").run(&["readiness", "nowhere"]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("no site or service `nowhere`; there are: s1, s2, s3, clinic"), "{said}");
}
