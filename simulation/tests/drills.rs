//! Drills in the simulated world: the real voters, law and rule of name servers, while things
//! break.

use failover::Request;
use failover::drill::{Kind, Outcome, Stage};
use failover::topology::OnLastCopy;
use orchestrator::replica::Reply;
use scenarios::script::place::Process;
use simulation::presets::Preset;
use simulation::world::{Deed, Options, World};
use std::time::Duration;

fn world(seed: u64) -> World {
    with(seed, &Preset::default(), &Options { talkative: true, ..Options::default() })
}

/// A world in which everything that readiness looks at is told.
fn surveyed(seed: u64, on_last_copy: OnLastCopy) -> World {
    let preset = Preset { on_last_copy, ..Preset::default() };
    with(seed, &preset, &Options { talkative: true, surveyed: true, ..Options::default() })
}

fn with(seed: u64, preset: &Preset, options: &Options) -> World {
    let mut world = World::new(seed, &preset.topology(), options);
    let up = world.until(Duration::from_mins(1), |world| world.oracle.acknowledged() > 20);
    assert!(up, "it came up");
    assert!(world.until(Duration::from_mins(1), World::is_whole), "{:?}", world.lacks());
    world
}

fn begins(world: &mut World, kind: Kind) {
    let service = world.service_name(0).expect("there is a service");
    let (reason, dwell) = ("the test asks for it".into(), Duration::from_secs(5));
    let request = Request::Drill {
        kind,
        service,
        to: None,
        dwell,
        at_most: None,
        despite_hours: true,
        reason,
    };
    let asked = world.ask(request, Duration::from_secs(30));
    world.until(Duration::from_secs(40), |world| world.is_done(asked));
    let answer = world.answered(asked);
    assert!(matches!(answer, Some(Reply::Accepted(_))), "{answer:?}");
}

/// How the drill ends, with nothing broken on the way.
fn ends(world: &mut World, seed: u64) -> Outcome {
    let over = world.until(Duration::from_mins(10), |world| {
        world.drill().is_some_and(|drill| !drill.is_open())
    });
    let drill = world.drill().expect("it was begun").clone();
    assert!(over, "seed {seed}: {drill:#?}");
    let fresh = world.oracle.acknowledged();
    let goes_on =
        world.until(Duration::from_mins(1), |world| world.oracle.acknowledged() > fresh + 20);
    assert!(goes_on, "seed {seed}: clients write on");
    assert_eq!(world.violation(), None, "seed {seed}");
    drill.outcome
}

/// I-29, I-36: name servers follow a canary there and back, and the service's name stays as it is.
#[test]
fn i29_i36_name_servers_follow_a_canary() {
    for seed in 0..5 {
        let mut world = world(seed);
        begins(&mut world, Kind::Dns);
        assert_eq!(ends(&mut world, seed), Outcome::Passed, "seed {seed}");
        // Once more: the name is there already.
        begins(&mut world, Kind::Dns);
        assert_eq!(ends(&mut world, seed), Outcome::Passed, "seed {seed}");
    }
}

/// I-36: the leader dies with its whole site in the middle of it; another goes on, and says rightly
/// that a name server did not follow.
#[test]
fn i36_a_drill_goes_on_without_the_leader_it_began_with() {
    for seed in 10..15 {
        let mut world = world(seed);
        begins(&mut world, Kind::Dns);
        let place = world.leader_place().expect("somebody leads");
        let stage = world.drill().map(|drill| drill.stage);
        world.perform(&Deed::Crash { process: Process::Voter, place });
        world.perform(&Deed::Crash { process: Process::Dns, place });
        let outcome = ends(&mut world, seed);
        let expected = match outcome {
            // It had answered already, or the check saw in time that it does not.
            Outcome::Passed => true,
            Outcome::Aborted(_) => stage == Some(Stage::Check),
            Outcome::Failed(ref why) => why.contains("ns"),
            Outcome::Open | Outcome::Overtaken(_) => false,
        };
        assert!(expected, "seed {seed}: {outcome:?}");
    }
}

/// I-37: nobody tells certificates and logins in this world; a drill that rests on them moves
/// nothing.
#[test]
fn i36_i37_what_nobody_tells_is_not_good() {
    for kind in [Kind::Readiness, Kind::Switchover] {
        let mut world = world(20);
        begins(&mut world, kind);
        let outcome = ends(&mut world, 20);
        assert!(matches!(outcome, Outcome::Failed(_) | Outcome::Aborted(_)), "{outcome:?}");
        let drill = world.drill().expect("it was begun");
        assert_eq!((drill.there, drill.back), (None, None));
    }
}

/// All that was looked at is good, and whoever is to act is told so.
fn told(seed: u64, kind: Kind, on_last_copy: OnLastCopy) -> World {
    let mut world = surveyed(seed, on_last_copy);
    begins(&mut world, kind);
    let told = world.until(Duration::from_mins(3), |world| {
        world.drill().is_some_and(|drill| drill.stage == Stage::There || !drill.is_open())
    });
    let drill = world.drill().expect("it was begun");
    assert!(told && drill.is_open(), "seed {seed}: {drill:#?}");
    world
}

/// The primary has been told to cut itself off, and has had the time to.
fn isolated(seed: u64, on_last_copy: OnLastCopy) -> World {
    let mut world = told(seed, Kind::Isolate, on_last_copy);
    world.until(Duration::from_millis(1_200), |_| false);
    world
}

/// Whoever led in the beginning stands at the first site.
const HOME: u8 = 0;

fn heals(world: &mut World, seed: u64) {
    let whole = world.until(Duration::from_mins(5), World::is_whole);
    assert!(whole, "seed {seed}: {:?}", world.lacks());
    assert_eq!(world.violation(), None, "seed {seed}");
}

/// I-36: it is lost as any other and comes back, with the real voters, law and oracle.
#[test]
fn i36_a_primary_is_cut_off_lost_and_returned() {
    for seed in 30..40 {
        let mut world = isolated(seed, OnLastCopy::Block);
        assert_eq!(ends(&mut world, seed), Outcome::Passed, "seed {seed}");
        heals(&mut world, seed);
        let drill = world.drill().expect("it was held");
        assert!(drill.there.is_some() && drill.back.is_some(), "seed {seed}: {drill:#?}");
    }
}

/// I-36: its agent dies while it is cut off: at once, or when it was fenced already. It is not cut
/// off when it is back, and whatever the drill comes to, nothing is lost.
#[test]
fn i36_an_agent_dies_while_it_is_cut_off() {
    for seed in 40..52 {
        let mut world = isolated(seed, OnLastCopy::Block);
        let later = Duration::from_millis(400 * (seed - 40));
        world.until(later, |_| false);
        world.perform(&Deed::Crash { process: Process::Agent, place: HOME });
        world.until(Duration::from_millis(300), |_| false);
        world.perform(&Deed::Start { process: Process::Agent, place: HOME });
        let outcome = ends(&mut world, seed);
        let expected = match outcome {
            Outcome::Passed => true,
            Outcome::Failed(ref why) => why.contains("nobody took over"),
            Outcome::Open | Outcome::Aborted(_) | Outcome::Overtaken(_) => false,
        };
        assert!(expected, "seed {seed}: {outcome:?}");
        heals(&mut world, seed);
    }
}

/// I-24, I-36: nobody can decide anything meanwhile: it heals by itself, with no voter to tell it,
/// serves again by its standbys' word, and nothing is lost.
#[test]
fn i24_i36_whom_nobody_can_fail_over_is_back_by_itself() {
    for seed in 60..66 {
        let mut world = isolated(seed, OnLastCopy::Block);
        for place in 0..3 {
            world.perform(&Deed::Crash { process: Process::Voter, place });
        }
        let before = world.oracle.acknowledged();
        let serves =
            world.until(Duration::from_mins(1), |world| world.oracle.acknowledged() > before + 20);
        assert!(serves, "seed {seed}: it serves again without any voter: {:?}", world.lacks());
        for place in 0..3 {
            world.perform(&Deed::Start { process: Process::Voter, place });
        }
        let outcome = ends(&mut world, seed);
        let missed = matches!(&outcome, Outcome::Failed(why) if why.contains("nobody took over"));
        assert!(missed, "seed {seed}: {outcome:?}");
        heals(&mut world, seed);
    }
}

/// I-25, I-36: the site that took over is really lost while the first is cut off: the drill's
/// failover is acknowledged, and the next happens by itself.
#[test]
fn i25_i36_a_second_site_is_really_lost_meanwhile() {
    for seed in 70..78 {
        let mut world = isolated(seed, OnLastCopy::SingleCopy);
        let over = world.until(Duration::from_mins(1), |world| {
            world.drill().is_some_and(|drill| drill.stage == Stage::Dwell)
        });
        assert!(over, "seed {seed}: {:#?}", world.drill());
        let target = world.drill().and_then(|drill| drill.target.clone()).expect("somebody leads");
        let place = (0..3).find(|place| world.holds(*place, &target)).expect("it stands somewhere");
        world.perform(&Deed::Crash { process: Process::Site, place });
        let outcome = ends(&mut world, seed);
        let expected = matches!(outcome, Outcome::Overtaken(_));
        assert!(expected, "seed {seed}: {outcome:?}");
        world.perform(&Deed::Start { process: Process::Site, place });
        heals(&mut world, seed);
    }
}

/// I-36: a standby rehearses beside itself, nobody moves, and clients write on.
#[test]
fn i36_a_standby_rehearses_a_former_primarys_way_back() {
    for seed in 80..84 {
        let mut world = surveyed(seed, OnLastCopy::Block);
        let promotions = world.oracle.promotions();
        begins(&mut world, Kind::RestorePath);
        assert_eq!(ends(&mut world, seed), Outcome::Passed, "seed {seed}");
        assert_eq!(world.oracle.promotions(), promotions, "seed {seed}");
        heals(&mut world, seed);
    }
}

/// I-24, I-36: a site is lost while a standby rehearses. Where it is the primary's, somebody takes
/// over as ever and the drill is overtaken; where it is the standby's own, the drill says so.
#[test]
fn i24_i36_a_site_is_lost_while_a_standby_rehearses() {
    for seed in 90..98 {
        let mut world = told(seed, Kind::RestorePath, OnLastCopy::SingleCopy);
        let drill = world.drill().expect("it was begun").clone();
        let primary = seed % 2 == 0;
        let whose = if primary { drill.home } else { drill.target }.expect("both are known");
        let place = (0..3).find(|place| world.holds(*place, &whose)).expect("it stands somewhere");
        world.perform(&Deed::Crash { process: Process::Site, place });
        let outcome = ends(&mut world, seed);
        let expected = match &outcome {
            Outcome::Overtaken(_) => primary,
            Outcome::Failed(why) => !primary && why.contains("not heard"),
            Outcome::Open | Outcome::Passed | Outcome::Aborted(_) => false,
        };
        assert!(expected, "seed {seed}: {outcome:?}");
        world.perform(&Deed::Start { process: Process::Site, place });
        heals(&mut world, seed);
    }
}
