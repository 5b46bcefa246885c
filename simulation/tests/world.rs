//! Whole clusters in the simulated world.

use std::time::Duration;

use scenarios::script::place::Process;
use simulation::presets::Preset;
use simulation::world::{Deed, Options, World};

fn world(seed: u64) -> World {
    let options = Options { talkative: true, ..Options::default() };
    World::new(seed, &Preset::default().topology(), &options)
}

fn show(world: &World) {
    for line in world.transcript() {
        eprintln!("{line}");
    }
    if let Some(text) = world.violation() {
        panic!("{text}");
    }
}

#[test]
fn a_cluster_comes_up_and_serves() {
    let mut world = world(1);
    let up = world.until(Duration::from_mins(1), |world| world.oracle.acknowledged() > 20);
    show(&world);
    assert!(up);
}

#[test]
fn i01_a_lost_site_is_left() {
    let mut world = world(2);
    world.until(Duration::from_mins(1), |world| world.oracle.acknowledged() > 20);
    world.oracle.count_from(world.now());
    world.perform(&Deed::Crash { process: Process::Site, place: 0 });
    let before = world.now();
    let moved = world.until(Duration::from_mins(1), |world| {
        world.oracle.promotions() > 0
            && world.oracle.newest_write().is_some_and(|(began, _)| began > before)
    });
    show(&world);
    assert!(moved);
}
