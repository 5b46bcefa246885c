//! What would follow, if …: the law's own words, before it happens.

#![expect(clippy::unwrap_used, reason = "what cannot be made fails the test")]

mod support;

use failover::cluster::{Hold, Voter};
use failover::rehearse::{Hypothesis, Rehearsal, Voters, rehearse};
use failover::{Request, SiteId, Timestamp, VoterId};
use support::{Situation, clinic, id};

fn site(name: &str) -> SiteId {
    name.parse().unwrap()
}

fn voter(name: &str) -> Voter {
    let address = "127.0.0.1:7400".parse().unwrap();
    Voter { name: name.into(), site: site(name), address, incarnation: None }
}

/// Three voters; that of `c` leads.
fn quiet() -> Situation {
    let mut now = Situation::new();
    for (number, name) in [(1, "a"), (2, "b"), (3, "c")] {
        now.cluster.voters.insert(VoterId(number), voter(name));
    }
    now
}

/// The voters that the log names, all heard.
fn voters(now: &Situation, leader: u64) -> Voters {
    let seats = now.cluster.voters.iter();
    let seats = seats.map(|(id, voter)| (*id, (Some(voter.site.clone()), true))).collect();
    Voters { leader: VoterId(leader), seats }
}

fn if_it_came_true(now: &Situation, hypothesis: &Hypothesis) -> Rehearsal {
    rehearse(&now.cluster, &now.view, &voters(now, 3), hypothesis, now.now)
}

fn lines(rehearsal: &Rehearsal) -> String {
    let each = rehearsal.lines.iter().map(|line| format!("{} {}\n", line.after_ms, line.text));
    each.collect()
}

#[test]
fn the_primarys_site_is_lost() {
    let told = if_it_came_true(&quiet(), &Hypothesis::LoseSite(site("a")));
    let ending = &told.endings[&clinic()];
    assert_eq!(ending.primary, Some(id("b")), "{}", lines(&told));
    assert!(ending.writes, "{}", lines(&told));
    let gap = ending.interrupted_ms.unwrap();
    assert!((3_000..5_000).contains(&gap), "suspect_after is 3 s, and it took {gap} ms");
    let text = lines(&told);
    for words in ["b chosen", "transition 1: promote done", "transition 1: verify done"] {
        assert!(text.contains(words), "no `{words}` in\n{text}");
    }
}

/// The leader stands at the lost site: its successor waits out the silence from its own beginning.
#[test]
fn the_leaders_site_is_lost_with_the_primary() {
    let now = quiet();
    let lost = Hypothesis::LoseSite(site("a"));
    let here = rehearse(&now.cluster, &now.view, &voters(&now, 1), &lost, now.now);
    let ending = &here.endings[&clinic()];
    assert_eq!(ending.primary, Some(id("b")), "{}", lines(&here));
    let elsewhere = if_it_came_true(&now, &Hypothesis::LoseSite(site("a")));
    assert!(ending.interrupted_ms > elsewhere.endings[&clinic()].interrupted_ms);
}

#[test]
fn a_standbys_site_is_lost() {
    let told = if_it_came_true(&quiet(), &Hypothesis::LoseSite(site("c")));
    let ending = &told.endings[&clinic()];
    assert_eq!((ending.primary.clone(), ending.writes), (Some(id("a")), true), "{}", lines(&told));
    assert_eq!(ending.interrupted_ms, None, "the other standby acknowledges on");
    assert!(lines(&told).contains("synchronous rule 1 of b"), "{}", lines(&told));
}

/// I-16, I-10: with both required, commits wait for the lost one.
#[test]
fn a_standby_that_is_required_is_lost() {
    let mut now = quiet();
    let service = now.cluster.services.get_mut(&clinic()).unwrap();
    service.spec.required = 2;
    service.rule.required = 2;
    service.rule.enforce.required = 2;
    let told = if_it_came_true(&now, &Hypothesis::LoseSite(site("c")));
    let ending = &told.endings[&clinic()];
    assert_eq!((ending.primary.clone(), ending.writes), (Some(id("a")), false), "{}", lines(&told));
}

#[test]
fn a_hold_is_named() {
    let mut now = quiet();
    let hold = Hold { by: "anna".into(), reason: "audit".into(), since: Timestamp(0) };
    now.cluster.services.get_mut(&clinic()).unwrap().hold = Some(hold);
    let told = if_it_came_true(&now, &Hypothesis::LoseSite(site("a")));
    let ending = &told.endings[&clinic()];
    assert_eq!((ending.primary.clone(), ending.writes), (Some(id("a")), false));
    assert!(told.lines.iter().any(|line| line.waits.as_deref() == Some("hold")));
    assert_eq!(ending.findings.first().map(|finding| &*finding.check), Some("hold"));
}

#[test]
fn two_sites_are_cut_apart() {
    let told = if_it_came_true(&quiet(), &Hypothesis::Cut(site("a"), site("b")));
    let ending = &told.endings[&clinic()];
    assert_eq!((ending.primary.clone(), ending.writes), (Some(id("a")), true), "{}", lines(&told));
    assert!(lines(&told).contains("synchronous rule 1 of c"), "{}", lines(&told));
}

#[test]
fn a_frozen_primary_is_replaced_and_a_frozen_standby_is_not() {
    let told = if_it_came_true(&quiet(), &Hypothesis::Freeze(id("a")));
    assert_eq!(told.endings[&clinic()].primary, Some(id("b")), "{}", lines(&told));
    let told = if_it_came_true(&quiet(), &Hypothesis::Freeze(id("b")));
    assert_eq!(told.endings[&clinic()].primary, Some(id("a")), "{}", lines(&told));
}

#[test]
fn a_switchover_is_asked_for() {
    let ask = |to: &str| {
        let (service, reason) = (clinic(), "because".into());
        Hypothesis::Ask(Request::Switchover { service, to: Some(id(to)), reason })
    };
    let told = if_it_came_true(&quiet(), &ask("c"));
    let ending = &told.endings[&clinic()];
    assert_eq!((ending.primary.clone(), ending.writes), (Some(id("c")), true), "{}", lines(&told));
    assert!(ending.interrupted_ms.is_some_and(|gap| gap < 2_000), "{}", lines(&told));
    let told = if_it_came_true(&quiet(), &ask("a"));
    assert_eq!(told.refused.first().map(|finding| &*finding.check), Some("candidate"));
    assert!(told.lines.is_empty() && told.endings.is_empty());
}

/// Nothing is predicted that could not be: with two of three voters at the lost site nobody is
/// promoted.
#[test]
fn i19_no_majority_is_left() {
    let mut now = quiet();
    now.cluster.voters.insert(VoterId(2), voter("a"));
    let told = if_it_came_true(&now, &Hypothesis::LoseSite(site("a")));
    let ending = &told.endings[&clinic()];
    assert_eq!((ending.primary.clone(), ending.writes), (Some(id("a")), false), "{}", lines(&told));
    assert_eq!(told.lines.first().and_then(|line| line.waits.as_deref()), Some("voters"));
}

/// A voter that is not heard is none of the majority.
#[test]
fn i19_a_silent_voter_does_not_count() {
    let now = quiet();
    let mut voters = voters(&now, 3);
    voters.seats.insert(VoterId(2), (Some(site("b")), false));
    let lost = Hypothesis::LoseSite(site("a"));
    let told = rehearse(&now.cluster, &now.view, &voters, &lost, now.now);
    assert!(!told.endings[&clinic()].writes, "{}", lines(&told));
}

#[test]
fn what_nobody_declared_is_refused() {
    let refused = |hypothesis| {
        let told = if_it_came_true(&quiet(), &hypothesis);
        told.refused.first().map(|finding| finding.text.clone()).unwrap_or_default()
    };
    assert_eq!(refused(Hypothesis::LoseSite(site("x"))), "no site `x`; there are: a, b, c");
    assert_eq!(refused(Hypothesis::Freeze(id("x"))), "no instance `x`; there are: a, b, c");
    assert!(refused(Hypothesis::Cut(site("a"), site("a"))).contains("name two"));
}

/// The live state is not touched, and twice the same question has the same answer.
#[test]
fn it_is_a_copy() {
    let now = quiet();
    let (cluster, view) = (now.cluster.clone(), now.view.clone());
    let first = if_it_came_true(&now, &Hypothesis::LoseSite(site("a")));
    let second = if_it_came_true(&now, &Hypothesis::LoseSite(site("a")));
    assert_eq!(first, second);
    assert_eq!((cluster, view), (now.cluster, now.view));
}
