//! The length sweep (SC-02): the primary's site is cut off for every length from one second to 120.
//! A short one moves nothing, a long one moves it once, and none loses anything.

use std::time::Duration;

use scenarios::script::setting::Shape;

use super::{Swept, WHOLE, cluster, ended, unhealed};
use crate::network::Plane;
use crate::play::{SettingError, stand};
use crate::world::{Deed, World};

/// One run.
#[derive(Clone, Debug)]
pub struct Case {
    shape: Shape,
    length: Duration,
    seed: u64,
}

/// Silence counts as loss after 3 s: a cut shorter than this moves nothing …
const SHORT: Duration = Duration::from_secs(2);
/// … and one longer than this moves it.
const LONG: Duration = Duration::from_secs(8);

/// Everything that is to be run: each length, in both shapes, with so many seeds.
#[must_use]
pub fn cases(seeds: u64) -> Vec<Case> {
    let mut all = Vec::new();
    for shape in [Shape::ThreeSites, Shape::PairAndWitness] {
        for length in 1..=120 {
            for seed in 1..=seeds.max(1) {
                let length = Duration::from_secs(length);
                all.push(Case { shape: shape.clone(), length, seed });
            }
        }
    }
    all
}

/// Runs a case.
///
/// # Errors
/// [`SettingError`]: never for the presets.
pub fn sweep(case: &Case) -> Result<Swept, SettingError> {
    let (topology, options) = cluster(case.shape.clone(), 1)?;
    let shape = String::from(case.shape.clone());
    let name = format!("{shape}, cut off for {} s, seed {}", case.length.as_secs(), case.seed);
    let mut world = World::new(case.seed, &topology, &options);
    if let Err(why) = stand(&mut world) {
        return Ok(ended(&world, name, Some(format!("it never stood: {why}"))));
    }
    world.oracle.count_from(world.now());
    let machine = world.oracle.service(0).and_then(|service| service.primary);
    let primary = world.machine_place(machine.unwrap_or_default()).0;
    for other in (0..world.clients_place()).filter(|place| *place != primary) {
        for (from, to) in [(primary, other), (other, primary)] {
            world.perform(&Deed::Cut { planes: Plane::ALL.to_vec(), from, to });
        }
    }
    world.run_until(world.now().plus(case.length));
    world.perform(&Deed::MendAll);
    let problem = unhealed(&mut world, WHOLE).or_else(|| {
        let promotions = world.oracle.promotions();
        let allowed = match case.length {
            short if short <= SHORT => 0..=0,
            long if long >= LONG => 1..=1,
            _ => 0..=1,
        };
        (!allowed.contains(&promotions)).then(|| format!("{promotions} promotions"))
    });
    Ok(ended(&world, name, problem))
}
