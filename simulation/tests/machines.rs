//! Machines with PostgreSQL in the simulated world: they come back, whatever happened to them.

use scenarios::script::place::Process;
use simulation::host::{Host, HostFault, Part};
use simulation::presets::Preset;
use simulation::world::{Deed, Options, World};
use std::time::Duration;

fn world(seed: u64) -> World {
    let options = Options { talkative: true, ..Options::default() };
    let mut world = World::new(seed, &Preset::default().topology(), &options);
    let up = world.until(Duration::from_mins(1), |world| world.oracle.acknowledged() > 20);
    assert!(up, "it came up");
    world
}

fn finish(world: &mut World, what: &str) {
    let from = world.now();
    let writes = world.until(Duration::from_mins(2), |world| {
        let fresh =
            world.oracle.newest_write().is_some_and(|(began, _)| began > from.after(20_000_000));
        let streams = (0..world.machine_count())
            .filter(|host| world.machine(*host).is_some_and(Host::is_streaming));
        fresh && streams.count() == 2
    });
    if !writes || world.violation().is_some() {
        for line in world.transcript() {
            eprintln!("{line}");
        }
        panic!("{what}: {:?}, writes and streams again: {writes}", world.violation());
    }
}

fn primary(world: &World) -> u8 {
    (0..world.machine_count())
        .position(|host| world.machine(host).is_some_and(Host::is_writable))
        .and_then(|at| u8::try_from(at).ok())
        .unwrap_or(0)
}

/// One fault on the primary's machine, left for a while, then ended.
fn after(seed: u64, what: &str, begin: impl Fn(u8) -> Vec<Deed>, end: impl Fn(u8) -> Vec<Deed>) {
    for seed in seed..seed + 3 {
        let mut world = world(seed);
        let host = primary(&world);
        let (place, _) = world.machine_place(usize::from(host));
        for deed in begin(place) {
            world.perform(&deed);
        }
        world.until(Duration::from_secs(15), |_| false);
        for deed in end(place) {
            world.perform(&deed);
        }
        finish(&mut world, what);
    }
}

#[test]
fn a_site_that_lost_its_power_comes_back() {
    let crash = |place| vec![Deed::Crash { process: Process::Site, place }];
    let start = |place| vec![Deed::Start { process: Process::Site, place }];
    after(1, "power", crash, start);
}

#[test]
fn processes_that_are_killed_come_back() {
    for process in [Process::Postgres, Process::Agent, Process::Guard] {
        let crash = |place| vec![Deed::Crash { process, place }];
        let start = |place| vec![Deed::Start { process, place }];
        after(11, &format!("{process:?}"), crash, start);
    }
}

#[test]
fn processes_that_are_stopped_go_on() {
    for process in [Process::Postgres, Process::Agent, Process::Guard, Process::Site] {
        let crash = |place| vec![Deed::Pause { process, place }];
        let start = |place| vec![Deed::Resume { process, place }];
        after(21, &format!("{process:?}"), crash, start);
    }
}

/// Seeds 42, 163, 300: a disk does not stay slow or full because it was put right in the dark.
#[test]
fn a_disk_that_was_put_right_without_power_is_right() {
    let process = Process::Site;
    let begin = |place| {
        vec![
            Deed::SlowDisk { process, place, by: Duration::from_secs(3) },
            Deed::FillDisk { process, place },
            Deed::Crash { process, place },
        ]
    };
    let end = |place| {
        vec![
            Deed::SlowDisk { process, place, by: Duration::ZERO },
            Deed::FreeDisk { process, place },
            Deed::Start { process, place },
        ]
    };
    after(51, "put right", begin, end);
}

#[test]
fn a_destroyed_machine_is_copied_anew() {
    let crash = |place| vec![Deed::Destroy { process: Process::Site, place }];
    let start = |place| vec![Deed::Start { process: Process::Site, place }];
    after(31, "destroyed", crash, start);
}

#[test]
fn faults_of_one_machine_pass() {
    let faults = [
        HostFault::CancelWaits,
        HostFault::EmptySetting,
        HostFault::StallCheckpointer(Duration::from_secs(5)),
        HostFault::SlowDisk(Duration::from_millis(200)),
        HostFault::ClockJump(3_600_000),
        HostFault::ClockJump(-3_600_000),
        HostFault::Pause(Part::Agent),
    ];
    for fault in faults {
        let begin = |host| vec![Deed::Host { host, fault }];
        let end = |host| {
            vec![
                Deed::Host { host, fault: HostFault::SlowDisk(Duration::ZERO) },
                Deed::Host { host, fault: HostFault::Resume(Part::Agent) },
            ]
        };
        after(41, &format!("{fault:?}"), begin, end);
    }
}
