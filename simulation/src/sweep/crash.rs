//! The crash sweep (SC-69): a change of the cluster is begun, and one process dies at one of its
//! own numbered points: at each thing that it makes durable or lets others know. Two seconds
//! later it is started again. Whatever was begun is then finished or rolled back, nothing is lost
//! and nothing is stuck. All points of all processes at all sites, one run each.

use std::time::Duration;

use failover::Request;
use failover::ids::ServiceId;
use scenarios::script::place::Process;
use scenarios::script::setting::Shape;

use super::{Swept, WHOLE, cluster, ended, unhealed};
use crate::clock::At;
use crate::play::{SettingError, stand};
use crate::world::{Crash, Deed, World};

/// A change in the middle of which processes die.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The primary's site has lost its power.
    Failover,
    /// An operator moves the primary.
    Switchover,
    /// The former primary comes back.
    Rejoin,
    /// W goes from one to two, and back.
    Rule,
}

impl Change {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Failover, Self::Switchover, Self::Rejoin, Self::Rule];

    const fn name(self) -> &'static str {
        match self {
            Self::Failover => "failover",
            Self::Switchover => "switchover",
            Self::Rejoin => "rejoin",
            Self::Rule => "rule change",
        }
    }
}

/// All points of one process in one change: run one after the other, as only running tells how
/// many there are.
#[derive(Clone, Debug)]
pub struct Track {
    change: Change,
    shape: Shape,
    process: Process,
    place: u8,
}

/// What dies.
const PROCESSES: [Process; 6] = [
    Process::Voter,
    Process::Agent,
    Process::Guard,
    Process::Postgres,
    Process::Dns,
    Process::Site,
];
/// It is started again after this.
const DEAD: Duration = Duration::from_secs(2);
/// A change that nothing disturbs is over by then.
const OVER: Duration = Duration::from_secs(40);
/// More points than any process has: a change that never ends is found out.
const MOST: u32 = 5_000;

/// Everything that is to be run.
#[must_use]
pub fn tracks() -> Vec<Track> {
    let mut all = Vec::new();
    for shape in [Shape::ThreeSites, Shape::PairAndWitness] {
        for change in Change::ALL {
            // With one standby there is no second rule to change to.
            if change == Change::Rule && shape == Shape::PairAndWitness {
                continue;
            }
            for process in PROCESSES {
                for place in 0..3 {
                    // At the lost site nothing is left that could die.
                    if change == Change::Failover && place == 0 {
                        continue;
                    }
                    all.push(Track { change, shape: shape.clone(), process, place });
                }
            }
        }
    }
    all
}

/// Runs all points of a track.
///
/// # Errors
/// [`SettingError`]: never for the presets.
pub fn sweep(track: &Track) -> Result<Vec<Swept>, SettingError> {
    // How long the change takes when nothing dies: points after that are none of it.
    let took = match begin(track)? {
        Ok(mut run) => {
            run.set_off();
            run.world.until(OVER, |world| run.change.is_over(world, run.since));
            run.world.now().since(run.since)
        }
        Err(problem) => return Ok(vec![problem]),
    };
    let mut all = Vec::new();
    for at in 0..MOST {
        let mut run = match begin(track)? {
            Ok(run) => run,
            Err(problem) => return Ok(vec![problem]),
        };
        run.world.arm(Crash { process: track.process, place: track.place, at });
        run.set_off();
        let end = run.since.plus(took);
        while run.world.now() < end && !run.world.armed().1 {
            let next = run.world.now().after(10_000).min(end);
            run.world.run_until(next);
            if run.world.violation().is_some() {
                break;
            }
        }
        if !run.world.armed().1 && run.world.violation().is_none() {
            break;
        }
        let name = format!(
            "{} of {}: {:?} at {} dies at its point {at}",
            track.change.name(),
            String::from(track.shape.clone()),
            track.process,
            run.world.sites().get(usize::from(track.place)).map_or("?", |site| site.as_str()),
        );
        let problem = run.recovers(track);
        all.push(ended(&run.world, name, problem));
    }
    Ok(all)
}

/// A change under way.
struct Run {
    world: World,
    change: Change,
    /// When it was set off.
    since: At,
    primary: u8,
    service: ServiceId,
}

fn begin(track: &Track) -> Result<Result<Run, Swept>, SettingError> {
    let (topology, options) = cluster(track.shape.clone(), 1)?;
    let mut world = World::new(69, &topology, &options);
    let failed =
        |world: &World, why: String| Ok(Err(ended(world, track.change.name().into(), Some(why))));
    if let Err(why) = stand(&mut world) {
        return failed(&world, format!("it never stood: {why}"));
    }
    let (Some(machine), Some(service)) =
        (world.oracle.service(0).and_then(|it| it.primary), world.service_name(0))
    else {
        return failed(&world, "there is no primary".into());
    };
    let primary = world.machine_place(machine).0;
    let since = world.now();
    let mut run = Run { world, change: track.change, since, primary, service };
    if run.change == Change::Rejoin {
        run.world.perform(&Deed::Crash { process: Process::Site, place: primary });
        let lost = run.world.now();
        run.world.until(OVER, |world| Change::Failover.is_over(world, lost));
        run.world.until(Duration::from_secs(5), |_| false);
        run.since = run.world.now();
    }
    Ok(Ok(run))
}

impl Change {
    /// Whether it is over when nothing else happens.
    fn is_over(self, world: &World, since: At) -> bool {
        let Some(service) = world.oracle.service(0) else { return false };
        let wrote = world.oracle.newest_write().is_some_and(|(began, _)| began > since);
        match self {
            Self::Failover | Self::Switchover => {
                service.step.is_none() && world.oracle.promotions() > 0 && wrote
            }
            Self::Rejoin => world.is_whole(),
            Self::Rule => {
                world.now().since(since) > Duration::from_secs(4)
                    && service.required == 1
                    && world.is_whole()
            }
        }
    }
}

impl Run {
    fn set_off(&mut self) {
        let service = self.service.clone();
        let limit = Duration::from_secs(30);
        match self.change {
            Change::Failover => {
                self.world.perform(&Deed::Crash { process: Process::Site, place: self.primary });
            }
            Change::Rejoin => {
                self.world.perform(&Deed::Start { process: Process::Site, place: self.primary });
            }
            Change::Switchover => {
                let reason = String::from("the sweep asks for it");
                self.world.ask(Request::Switchover { service, to: None, reason }, limit);
            }
            Change::Rule => {
                self.require(2, 1);
                let back = self.world.now().after(2_000_000);
                let mut topology = self.world.topology.as_ref().clone();
                for spec in topology.services.values_mut() {
                    spec.required = 1;
                }
                let topology = Box::new(topology);
                let ask = Request::Apply { expected: 2, topology, reason: "the sweep".into() };
                self.world.deed_at(back, Deed::Ask(Box::new(ask)));
            }
        }
    }

    fn require(&mut self, required: u32, expected: u64) {
        let mut topology = self.world.topology.as_ref().clone();
        for spec in topology.services.values_mut() {
            spec.required = required;
        }
        let topology = Box::new(topology);
        let request = Request::Apply { expected, topology, reason: "the sweep".into() };
        self.world.ask(request, Duration::from_secs(30));
    }

    /// After the death: what is wrong with what comes then.
    fn recovers(&mut self, track: &Track) -> Option<String> {
        let died = self.world.now();
        self.world.run_until(died.plus(DEAD));
        self.world.perform(&Deed::Start { process: track.process, place: track.place });
        if track.change == Change::Failover {
            // The lost site stays away until somebody else serves, then it comes back.
            self.world.until(WHOLE, |world| Change::Failover.is_over(world, died));
            if let Some(violation) = self.world.violation() {
                return Some(violation.to_owned());
            }
            let blocked = track.shape == Shape::PairAndWitness;
            if !blocked && !Change::Failover.is_over(&self.world, died) {
                let lacks = self.world.explain().join("; ");
                return Some(format!("stuck: no failover within {} s: {lacks}", WHOLE.as_secs()));
            }
            self.world.perform(&Deed::Start { process: Process::Site, place: self.primary });
        }
        // What the rule is to be at the end is in the topology that was applied last.
        unhealed(&mut self.world, WHOLE * 2)
    }
}
