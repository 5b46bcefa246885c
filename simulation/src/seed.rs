//! One seed: a cluster comes up, disasters strike it, all is healed, and it must be whole again.

use std::time::Duration;

use failover::Request;
use failover::topology::{OnLastCopy, Timing};

use crate::clock::At;
use crate::coverage::Coverage;
use crate::dice::Dice;
use crate::disaster::{Disasters, heal, resume_all};
use crate::presets::{Preset, metro};
use crate::world::{self, Deed, Workload, World};

/// How seeds are run.
#[derive(Clone, Debug)]
pub struct Options {
    /// How much time passes in the world, at the least.
    pub minutes: u64,
    /// Whether what happens is put into words.
    pub talkative: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { minutes: 10, talkative: false }
    }
}

/// What came of a seed.
#[derive(Clone, Debug)]
pub struct SeedReport {
    /// The seed.
    pub seed: u64,
    /// Which cluster it was.
    pub cluster: &'static str,
    /// How much time passed in the world.
    pub simulated: Duration,
    /// The first thing that must not be.
    pub violation: Option<String>,
    /// What came about.
    pub coverage: Coverage,
    /// What happened, for people, where wanted; after a violation always with the explanation of
    /// the law.
    pub transcript: Vec<String>,
    /// How many commits clients were told of.
    pub acknowledged: u64,
    /// How many promotions there were.
    pub promotions: u32,
    /// A number that is another one as soon as anything in the run was different.
    pub fingerprint: u64,
}

/// How long a cluster may take to come up.
const COMES_UP: Duration = Duration::from_mins(2);
/// How long it may take to be whole again once all is healed.
const HEALS: Duration = Duration::from_mins(4);

/// The cluster and the load of a seed.
#[must_use]
pub fn setting(seed: u64, talkative: bool) -> (&'static str, Preset, world::Options) {
    let mut dice = Dice::new(seed ^ 0x5E77_1463);
    let (name, mut preset) = match dice.roll(8) {
        0..=2 => ("three sites", Preset::default()),
        3 => ("three sites, two required", Preset { required: 2, ..Preset::default() }),
        4 => ("a pair and a witness", Preset { data_sites: 2, ..Preset::default() }),
        5 => {
            let preset =
                Preset { data_sites: 2, on_last_copy: OnLastCopy::SingleCopy, ..Preset::default() };
            ("a pair that goes on alone", preset)
        }
        6 => ("five voters", Preset { sites: 5, ..Preset::default() }),
        _ => ("two services", Preset { services: 2, ..Preset::default() }),
    };
    if dice.roll(8) == 0 {
        preset.timing = metro();
    }
    let window = [0, 10, 45, 600];
    preset.timing = Timing {
        failover_window: Duration::from_secs(*dice.pick(&window).unwrap_or(&45)),
        ..preset.timing
    };
    let close = preset.timing.heartbeat < Duration::from_millis(500);
    let options = world::Options {
        talkative,
        workload: Workload {
            writers: 1 + u32::try_from(dice.roll(2)).unwrap_or(0),
            every: Duration::from_millis(400 + dice.roll(1_600)),
            readers: 1,
            stubborn: if dice.roll(3) == 0 { 30 } else { 0 },
        },
        way: if close { (300, 3_000) } else { (500, 15_000) },
        clock_error: if dice.roll(2) == 0 { 0 } else { 40 },
        compact_after: 20 + dice.roll(200),
        surveyed: false,
    };
    (name, preset, options)
}

/// Runs a seed.
#[must_use]
pub fn run_seed(seed: u64, options: &Options) -> SeedReport {
    let (cluster, preset, settings) = setting(seed, options.talkative);
    let mut world = World::new(seed, &preset.topology(), &settings);
    let mut dice = Dice::new(seed ^ 0xBA70);
    let violation = play(&mut world, &mut dice, options);
    let mut transcript = world.transcript().to_vec();
    if let Some(text) = &violation {
        transcript.push(format!("{}  VIOLATION {text}", world.now()));
        transcript.extend(world.explain());
    }
    SeedReport {
        seed,
        cluster,
        simulated: Duration::from_micros(world.now().0),
        violation,
        acknowledged: world.oracle.acknowledged(),
        promotions: world.oracle.promotions(),
        fingerprint: world.fingerprint(),
        coverage: world.coverage,
        transcript,
    }
}

fn play(world: &mut World, dice: &mut Dice, options: &Options) -> Option<String> {
    if !world.until(COMES_UP, World::is_whole) {
        return Some(stuck(world, "it did not come up"));
    }
    let lawless = dice.roll(10) == 0;
    let mut disasters = Disasters::new(dice.split(), lawless);
    let storm = Duration::from_secs(options.minutes * 60).mul_f64(0.75);
    let end = world.now().plus(storm);
    // Some seeds are one disaster after another, in others the cluster heals between.
    let dense = dice.roll(3);
    while world.now() < end && world.violation().is_none() {
        disasters.strike(world);
        let mut pause = disasters.pause_between();
        if dense == 0 {
            pause /= 4;
        } else if dense == 2 && dice.roll(2) == 0 {
            world.until(Duration::from_mins(2), World::is_whole);
        }
        let next = world.now().plus(pause).min(end);
        world.run_until(next);
    }
    if let Some(text) = world.violation() {
        return Some(text.to_owned());
    }
    finish(world, options)
}

/// What was done to the world of a seed until all was healed, and what came of it.
pub(crate) fn recorded(seed: u64, options: &Options) -> (Option<String>, Vec<(At, Deed)>, At) {
    let (_, preset, settings) = setting(seed, false);
    let mut world = World::new(seed, &preset.topology(), &settings);
    world.record = Some(Vec::new());
    let mut dice = Dice::new(seed ^ 0xBA70);
    let violation = play(&mut world, &mut dice, options);
    let healed = world.healed.unwrap_or(world.now());
    let mut deeds = world.record.take().unwrap_or_default();
    // The first is the topology that every world begins with; the last are the healing.
    deeds.retain(|(at, deed)| *at < healed && !is_first(deed));
    (violation, deeds, healed)
}

fn is_first(deed: &Deed) -> bool {
    matches!(deed, Deed::Ask(request) if matches!(**request, Request::Apply { expected: 0, .. }))
}

/// The world of a seed with other deeds: what comes of it.
pub(crate) fn replayed(
    seed: u64,
    deeds: &[(At, Deed)],
    healed: At,
    options: &Options,
) -> Option<String> {
    let (_, preset, settings) = setting(seed, false);
    let mut world = World::new(seed, &preset.topology(), &settings);
    if !world.until(COMES_UP, World::is_whole) {
        return Some(stuck(&world, "it did not come up"));
    }
    for (at, deed) in deeds {
        world.run_until(*at);
        world.perform(deed);
    }
    world.run_until(healed);
    if let Some(text) = world.violation() {
        return Some(text.to_owned());
    }
    finish(&mut world, options)
}

/// Everything is healed, and then it must be whole again.
fn finish(world: &mut World, options: &Options) -> Option<String> {
    world.healed = Some(world.now());
    heal(world);
    world.say(|| "all is healed".into());
    // A voter whose disk was lost is told so by the others, and an address that was kept is given
    // up, only after a while.
    world.until(Duration::from_secs(10), |_| false);
    recover(world);
    let rest = world.now().max(crate::clock::At(options.minutes * 60_000_000));
    world.run_until(rest);
    world.until(Duration::from_secs(20), World::is_whole);
    if let Some(text) = world.violation() {
        return Some(text.to_owned());
    }
    world.lacks().map(|text| stuck(world, &text))
}

/// Progress: by itself, but for what only people may do.
fn recover(world: &mut World) {
    resume_all(world);
    let end = world.now().plus(HEALS);
    let mut replaced = Vec::new();
    let by_hand = world.now().plus(HEALS / 2);
    let mut moved = false;
    while world.now() < end && world.violation().is_none() && !world.is_whole() {
        for place in 0..u8::try_from(world.sites().len()).unwrap_or(0) {
            if world.is_outcast(place) && !replaced.contains(&place) {
                replaced.push(place);
                replace(world, place);
            }
        }
        if world.now() > by_hand && !moved {
            moved = true;
            fail_over(world);
        }
        world.until(Duration::from_secs(5), World::is_whole);
    }
}

/// Where a primary's disk is gone and the policy forbids automation to go on with fewer copies
/// than are required, or nobody knows how far commits were in doubt, the law names the operator's
/// verbs.
fn fail_over(world: &mut World) {
    for index in 0..world.service_count() {
        let (Some(service), true) = (world.service_name(index), world.is_headless(index)) else {
            continue;
        };
        let reason = "its disk is gone".to_owned();
        if let Some((from, to)) = world.in_doubt(index) {
            world.coverage.hit("operator: commits in doubt given up");
            let (service, reason) = (service.clone(), reason.clone());
            let forgo = Request::Forgo { service, from, to, reason };
            let ask = world.ask(forgo, Duration::from_secs(30));
            world.until(Duration::from_secs(31), |world| world.is_done(ask));
        }
        world.coverage.hit("operator: a failover by hand");
        world.ask(Request::Failover { service, reason }, Duration::from_secs(30));
    }
}

/// A voter whose disk was lost is taken out of the group, and another one is added.
fn replace(world: &mut World, place: u8) {
    let Some(old) = world.voter_at(place) else { return };
    insist(world, &Request::RemoveVoter { id: old, reason: "a disk was lost".into() });
    if let Some((id, voter)) = world.replace_voter(place) {
        world.coverage.hit("operator: a voter replaced");
        insist(world, &Request::AddVoter { id, voter, reason: "a disk was lost".into() });
    }
}

/// Asks until it is granted: refusals of this kind say to ask again in a few seconds.
fn insist(world: &mut World, request: &Request) {
    for _ in 0..20 {
        let ask = world.ask(request.clone(), Duration::from_secs(30));
        world.until(Duration::from_secs(31), |world| world.is_done(ask));
        let granted =
            matches!(world.answered(ask), Some(orchestrator::replica::Reply::Accepted(_)));
        if granted {
            return;
        }
        world.until(Duration::from_secs(3), |_| false);
    }
}

fn stuck(world: &World, text: &str) -> String {
    world.violation().map_or_else(|| format!("stuck: {text}"), str::to_owned)
}
