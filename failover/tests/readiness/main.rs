//! Could a site be lost now? A cluster in which all is well, and each thing broken on purpose.

#![expect(clippy::unwrap_used, reason = "what cannot be made fails the test")]

mod broken;
#[path = "../support/mod.rs"]
mod support;
mod world;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use failover::cluster::{Hold, Published};
use failover::fitness::{Promise, zero_loss};
use failover::readiness::{CHECKS, Finding, Level, Looked, Outcome, Scope, Watch};
use failover::rehearse::{Hypothesis, rehearse};
use failover::report::Server;
use failover::{Epoch, InstanceId, Lsn, Report, ServiceId, Timestamp, TransitionId};

use broken::{BROKEN, software};
use support::{NAMES, at, clinic, id};
use world::{World, measured, site};

#[test]
fn where_all_is_well_every_site_may_be_lost() {
    let world = World::well();
    let looked = world.looked();
    let odd: Vec<&Looked> = looked.iter().filter(|looked| looked.level != Level::Good).collect();
    assert!(odd.is_empty(), "{odd:#?}");
    assert_eq!(looked.len(), CHECKS.len());
    let verdict = world.without("a");
    assert_eq!((verdict.outcome, verdict.target.clone()), (Outcome::FailsOver, Some(id("b"))));
    assert_eq!((verdict.level, verdict.rpo.zero), (Level::Good, Some(true)), "{verdict:#?}");
    assert!(verdict.rpo.reasons[0].contains("1 of b, c"), "{:?}", verdict.rpo);
    for name in ["b", "c"] {
        let verdict = world.without(name);
        assert_eq!((verdict.level, verdict.outcome), (Level::Good, Outcome::GoesOn));
        assert_eq!((verdict.target, verdict.rto), (Some(id("a")), None));
    }
}

/// Phase by phase: the law's own times, what the machines took the last time, what is left to
/// replay at the rate that was seen, and the names' time to live.
#[test]
fn the_recovery_time_is_told_by_phase() {
    let mut world = World::well();
    let rto = world.without("a").rto.unwrap();
    let detection = rto.detection_ms.unwrap();
    assert!((3_000..5_000).contains(&detection), "suspect_after is 3 s: {detection}");
    assert!((100..2_000).contains(&rto.seal_ms.unwrap()), "{rto:?}");
    assert_eq!((rto.replay_ms, rto.promotion_ms, rto.dns_ms), (Some(0), Some(300), Some(40)));
    assert_eq!((rto.ttl_ms, rto.measured_in), (5_000, Some(TransitionId(1))));
    let sum = detection + rto.seal_ms.unwrap() + 300 + 40 + 5_000;
    assert_eq!((rto.total_ms, rto.at_least_ms), (Some(sum), sum));

    let backlog = |report: &mut Report| {
        let position = at(100 + (50 << 20));
        report.server = Server::Recovery { position, replayed: Lsn(100), admits: true };
    };
    world.hear("b", |report, _| backlog(report));
    assert_eq!(world.without("a").rto.unwrap().replay_ms, Some(500), "50 MiB at 100 MiB/s");
    world.hear("b", |report, survey| {
        backlog(report);
        survey.replays = None;
    });
    let rto = world.without("a").rto.unwrap();
    assert_eq!((rto.replay_ms, rto.total_ms), (None, None));
    assert!(rto.at_least_ms >= sum && rto.notes[0].contains("how fast"), "{rto:?}");
}

#[test]
fn what_was_never_measured_is_not_guessed() {
    let mut world = World::well();
    world.now.cluster.transitions.clear();
    let verdict = world.without("a");
    let rto = verdict.rto.unwrap();
    assert_eq!((rto.promotion_ms, rto.dns_ms, rto.total_ms), (None, None, None));
    assert!(rto.at_least_ms > 8_000 && rto.notes[0].contains("never measured"), "{rto:?}");
    assert_eq!(verdict.level, Level::Warning);
}

/// What is promised is a quarter of an hour.
#[test]
fn a_failover_that_takes_too_long_is_none() {
    let mut world = World::well();
    world.hear("b", |report, survey| {
        let position = at(1 << 40);
        report.server = Server::Recovery { position, replayed: Lsn(100), admits: true };
        survey.replays = Some(1 << 20);
    });
    let verdict = world.without("a");
    let found = verdict.findings.iter().find(|found| found.check == "rto").unwrap();
    assert_eq!((verdict.level, found.level), (Level::Blocks, Level::Blocks), "{found:?}");
}

/// Each check, broken on purpose: named, of the right instance, at the right level, with a remedy;
/// nothing else is found where it does not follow; and the loss of the primary's site is judged by
/// it.
#[test]
fn every_check_names_what_is_broken() {
    for (number, (check, instance, level, break_it)) in BROKEN.iter().enumerate() {
        let mut world = World::well();
        break_it(&mut world);
        let found = world.found(check);
        let named = |found: &&Finding| {
            found.instance.as_ref().map(InstanceId::as_str) == *instance && found.level == *level
        };
        let hit = found.iter().find(named);
        assert!(hit.is_some(), "{number} {check}: {found:#?}");
        assert!(hit.is_some_and(|found| !found.remedy.is_empty() && !found.text.is_empty()));
        // It counts, unless the law knows better and chooses somebody else.
        let verdict = world.without("a");
        let another = instance.is_some() && verdict.target.as_ref() != instance.map(id).as_ref();
        assert!(verdict.level >= Level::Warning || another, "{check} {verdict:#?}");
    }
    let tried: BTreeSet<&str> = BROKEN.iter().map(|(check, ..)| *check).collect();
    let table: BTreeSet<&str> = CHECKS.iter().map(|check| check.name).collect();
    assert_eq!(tried, table, "a check that nothing breaks proves nothing");
}

/// I-37: what is known is good for three rounds and a minute; then it is unknown, with its age.
#[test]
fn i37_what_is_not_known_any_more_is_not_good() {
    let mut world = World::well();
    world.now.pass(5 * 60_000);
    // The agents are heard, and nothing was measured again.
    for name in NAMES {
        world.now.hear(name, |report| report.checks = measured(name == "a"));
    }
    for looked in world.looked() {
        let measured = matches!(
            &*looked.check,
            "durability-floor"
                | "unlogged-tables"
                | "replication-login"
                | "rewind-ready"
                | "slots"
                | "parameters"
                | "disk-headroom"
                | "checksums"
                | "extensions"
                | "collations"
                | "prepared-transactions"
        );
        if measured {
            assert_eq!(looked.level, Level::Unknown, "{looked:#?}");
            assert!(looked.findings[0].age_ms >= Some(300_000), "{looked:#?}");
        }
    }
    assert_eq!(world.level("dns-agreement"), Level::Unknown);
    assert_eq!(world.without("a").level, Level::Unknown);
    world.hear_all();
    assert_eq!(world.without("a").level, Level::Good);

    // Nobody is heard any more.
    world.now.pass(4_000);
    assert_eq!(world.level("heard"), Level::Unknown);
    assert!(world.found("heard").iter().all(|found| found.age_ms == Some(4_000)));
}

/// I-19, I-37: a leader that has just been elected has heard nobody, and says so.
#[test]
fn i37_a_new_leader_does_not_know() {
    let mut world = World::well();
    world.now.view = failover::View::new(2, world.now.now);
    for name in NAMES {
        assert_eq!(world.without(name).level, Level::Unknown, "{name}");
    }
    world.now.pass(60_000);
    assert_eq!(world.without("a").level, Level::Blocks, "now silence is silence");
}

#[test]
fn what_the_law_waits_for_is_a_blocker_with_its_remedy() {
    let mut world = World::well();
    let hold = Hold { by: "anna".into(), reason: "audit".into(), since: Timestamp(0) };
    world.now.cluster.services.get_mut(&clinic()).unwrap().hold = Some(hold);
    let verdict = world.without("a");
    assert_eq!((verdict.level, verdict.outcome), (Level::Blocks, Outcome::Waits));
    let first = &verdict.findings[0];
    assert_eq!((&*first.check, &*first.remedy), ("hold", "`baton resume clinic`"));
    assert_eq!(world.without("b").outcome, Outcome::GoesOn);
}

/// What is wrong at an instance that would not be primary does not stop another from being it.
#[test]
fn only_what_concerns_the_target_counts() {
    let mut world = World::well();
    world.hear("c", |_, survey| software(survey).extensions[0].available = None);
    assert_eq!(world.level("extensions"), Level::Blocks);
    assert_eq!(world.without("a").level, Level::Good, "b would take over");
    world.hear("b", |_, survey| software(survey).extensions[0].available = None);
    assert_eq!(world.without("a").level, Level::Blocks);
    assert_eq!(world.without("b").level, Level::Good, "the primary stays");
}

/// I-10: readiness promises zero loss exactly when `baton status` does.
#[test]
fn i10_readiness_and_status_promise_the_same() {
    for (check, _, _, break_it) in BROKEN {
        let mut world = World::well();
        break_it(&mut world);
        let now = &world.now;
        let service = &now.cluster.services[&clinic()];
        let promise = zero_loss(service, &now.view, &now.cluster.topology.timing, now.now);
        let rests_on = ["synchronous-rule", "durability-floor", "unlogged-tables"];
        let levels = rests_on.map(|check| world.level(check)).into_iter().max().unwrap();
        let wanted = levels < Level::Unknown;
        assert_eq!(promise == Promise::Yes, wanted, "{check}: {promise:?}, {levels:?}");
        assert_eq!(world.without("a").rpo.zero == Some(true), wanted, "{check}");
    }
}

#[test]
fn what_is_asked_about_is_all_that_is_told() {
    let mut world = World::well();
    let other: failover::ServiceId = "ward".parse().unwrap();
    let mut copy = world.now.cluster.services[&clinic()].clone();
    copy.spec.instances.clear();
    world.now.cluster.services.insert(other.clone(), copy);
    assert_eq!(world.answer(&Scope::default()).len(), 2);
    let one = world.answer(&Scope { service: Some(clinic()), site: None });
    assert_eq!((one.len(), one[0].sites.len()), (1, 3));
    let one = world.answer(&Scope { service: None, site: Some(site("b")) });
    assert_eq!((one.len(), one[0].sites.len()), (2, 1));
}

/// For how long something has been so is what this leader saw; a new one is told once.
#[test]
fn what_is_new_is_told_once_and_dated() {
    let mut world = World::well();
    let mut watch = Watch::default();
    assert!(watch.see(&world.looked(), world.now.now).is_empty());
    world.hear("b", |_, survey| software(survey).extensions[0].available = None);
    let new = watch.see(&world.looked(), world.now.now);
    assert_eq!(new.len(), 1, "{new:#?}");
    world.now.pass(2_000);
    world.hear("a", |_, _| {});
    world.hear("b", |_, survey| software(survey).extensions[0].available = None);
    assert!(watch.see(&world.looked(), world.now.now).is_empty(), "told already");
    let mut answer = world.answer(&Scope::default());
    watch.date(&mut answer, world.now.now);
    let looked = answer[0].checks.iter().find(|looked| looked.check == "extensions").unwrap();
    assert_eq!(looked.findings[0].since_ms, Some(2_000));
    world.hear("b", |_, _| {});
    assert!(watch.see(&world.looked(), world.now.now).is_empty());
    world.hear("b", |_, survey| software(survey).extensions[0].available = None);
    assert_eq!(watch.see(&world.looked(), world.now.now).len(), 1, "it came back");
}

/// A service like the first beside it, its instances named after it; these alone are heard.
fn beside(world: &mut World, name: &str, heard: &[&str]) -> ServiceId {
    let twin = |of: &str| id(&format!("{name}-{of}"));
    let (own, now) = (name.parse::<ServiceId>().unwrap(), &mut world.now);
    let mut service = now.cluster.services[&clinic()].clone();
    let spec = &mut service.spec;
    (spec.writable, spec.read_only) = (name.into(), format!("{name}-ro"));
    let declared = spec.instances.iter().map(|(of, at)| (twin(of.as_str()), at.clone()));
    spec.instances = declared.collect();
    spec.preference = NAMES.map(twin).to_vec();
    service.primary = Some(twin("a"));
    service.published = Some(Published { instance: twin("a"), epoch: Epoch(1) });
    service.rule.instances = [twin("b"), twin("c")].into();
    service.rule.enforce.instances.clone_from(&service.rule.instances);
    now.cluster.services.insert(own.clone(), service);
    for of in heard {
        let mut known = now.view.reports[&id(of)].clone();
        let report = &mut known.report;
        (report.service, report.instance) = (own.clone(), twin(of));
        for stream in &mut report.streams {
            stream.instance = twin(stream.instance.as_str());
        }
        if let Some(receiver) = &mut report.receiver {
            receiver.upstream = twin(receiver.upstream.as_str());
        }
        now.view.reports.insert(twin(of), known);
        let surveyed = now.view.surveys[&id(of)].clone();
        now.view.surveys.insert(twin(of), surveyed);
    }
    own
}

/// At three sites and twenty services the whole answer is made well within the 150 ms in which
/// `baton readiness` must print it: run with `--nocapture` to see the figure.
#[test]
#[expect(clippy::disallowed_methods, reason = "how long it takes is what is asked")]
fn twenty_services_are_answered_for_quickly() {
    let mut world = World::well();
    for number in 0..20 {
        beside(&mut world, &format!("clinic-{number}"), &NAMES);
    }
    world.now.cluster.services.remove(&clinic());
    let began = Instant::now();
    let answer = world.answer(&Scope::default());
    let took = began.elapsed();
    println!("readiness of 3 sites x 20 services: {:.1} ms", took.as_secs_f64() * 1_000.0);
    assert_eq!(answer.iter().map(|service| service.sites.len()).sum::<usize>(), 60);
    let over = answer.iter().filter(|s| s.sites[0].outcome == Outcome::FailsOver);
    assert_eq!(over.count(), 20, "{:#?}", answer[0].sites[0]);
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[test]
fn a_service_is_rehearsed_alone_as_it_is_among_others() {
    let mut world = World::well();
    let whole = beside(&mut world, "lab", &NAMES);
    let half = beside(&mut world, "archive", &["a", "c"]);
    let dumb = beside(&mut world, "mail", &[]);
    let all = world.answer(&Scope::default());
    let now = &world.now;
    let mut told = BTreeSet::new();
    for name in NAMES {
        let lost = Hypothesis::LoseSite(site(name));
        let among = rehearse(&now.cluster, &now.view, &world.voters, &lost, now.now).endings;
        for service in [&clinic(), &whole, &half, &dumb] {
            let ending = &among[service];
            let answer = all.iter().find(|answer| answer.service == *service).unwrap();
            let verdict = answer.sites.iter().find(|verdict| verdict.site == site(name)).unwrap();
            let goes_on = verdict.outcome != Outcome::Waits;
            assert_eq!(goes_on, ending.writes, "{service} without {name}");
            let primary = ending.primary.clone().filter(|_| goes_on);
            assert_eq!(verdict.target, primary, "{service} without {name}");
            let moves = goes_on && ending.primary != answer.primary;
            assert_eq!(verdict.outcome == Outcome::FailsOver, moves, "{service} {name}");
            let mut alone = now.cluster.clone();
            alone.services.retain(|id, _| id == service);
            let alone = rehearse(&alone, &now.view, &world.voters, &lost, now.now).endings;
            assert_eq!(alone[service], *ending, "{service} without {name}");
            told.insert(format!("{:?}", verdict.outcome));
        }
    }
    assert_eq!(told.len(), 3, "something goes on, fails over and waits: {told:?}");
}
