//! Drills in the simulated world: the real voters, law and rule of name servers, while things
//! break.

use failover::Request;
use failover::drill::{Kind, Outcome, Stage};
use orchestrator::replica::Reply;
use scenarios::script::place::Process;
use simulation::presets::Preset;
use simulation::world::{Deed, Options, World};
use std::time::Duration;

fn world(seed: u64) -> World {
    let options = Options { talkative: true, ..Options::default() };
    let mut world = World::new(seed, &Preset::default().topology(), &options);
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
