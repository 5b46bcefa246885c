//! Sweeps: not by chance but all of it. Every point at which a process can die in the middle of a
//! change, every pattern of cuts among three sites, every length of a cut.

use std::time::Duration;

use failover::topology::Topology;
use scenarios::script::setting::{Setting, Shape};

use crate::clock::At;
use crate::play::{SettingError, options, topology};
use crate::world::World;

pub mod crash;
pub mod length;
pub mod partition;

/// What came of one run of a sweep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Swept {
    /// Which one it was, so that it can be found again.
    pub name: String,
    /// What was wrong.
    pub problem: Option<String>,
    /// How much time passed in the world.
    pub simulated: Duration,
}

/// Once everything is healed, it is whole again within this (L-05, L-06).
const WHOLE: Duration = Duration::from_mins(1);

/// A preset as sweeps use it: the second of two automatic failovers is never held up, because
/// what is looked for is whether everything comes back by itself.
fn cluster(shape: Shape, required: u32) -> Result<(Topology, crate::world::Options), SettingError> {
    let setting = Setting { topology: shape, required, ..Setting::default() };
    let mut made = topology(&setting, std::path::Path::new("."))?;
    made.timing.failover_window = Duration::ZERO;
    let quiet = crate::world::Options { talkative: false, ..options(&setting) };
    Ok((made, quiet))
}

/// What keeps a world from being whole within the bound; `None`: nothing.
fn unhealed(world: &mut World, bound: Duration) -> Option<String> {
    world.until(bound, World::is_whole);
    match (world.violation(), world.lacks()) {
        (Some(violation), _) => Some(violation.to_owned()),
        (None, Some(lacks)) => Some(format!("stuck: {lacks}")),
        (None, None) => None,
    }
}

fn ended(world: &World, name: String, problem: Option<String>) -> Swept {
    Swept { name, problem, simulated: world.now().since(At(0)) }
}
