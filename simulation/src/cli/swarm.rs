//! `seed` and `swarm`: disasters by chance.

use std::time::Duration;

use simulation::seed::{Options, SeedReport, run_seed};
use simulation::swarm;

use super::progress::Progress;
use super::{FAILED, OK, SeedArgs, SwarmArgs};

pub(super) fn seed(args: &SeedArgs) -> u8 {
    let options = Options { minutes: args.minutes, talkative: args.transcript };
    let report = run_seed(args.seed, &options);
    for line in &report.transcript {
        println!("{line}");
    }
    println!(
        "seed {} ({}): {:.0} s simulated, {} commits acknowledged, {} promotions, \
         fingerprint {:016x}",
        report.seed,
        report.cluster,
        report.simulated.as_secs_f64(),
        report.acknowledged,
        report.promotions,
        report.fingerprint
    );
    match &report.violation {
        None => OK,
        Some(text) => {
            println!("violation: seed {} {text}", report.seed);
            FAILED
        }
    }
}

pub(super) fn swarm(args: &SwarmArgs) -> u8 {
    let within = args.minutes.map(|minutes| Duration::from_secs(minutes * 60));
    let count = args.seeds.unwrap_or(if within.is_some() { u64::MAX / 2 } else { 100 });
    let options = Options { minutes: args.simulated, talkative: false };
    let progress = Progress::new("seeds", count);
    let each = |report: &SeedReport| {
        progress.one();
        if let Some(text) = &report.violation {
            progress.say(&format!("seed {} ({}): {text}", report.seed, report.cluster));
        }
    };
    let ran = swarm::run(args.from, count, args.jobs, args.first, within, &options, each);
    drop(progress);
    println!("{ran}");
    // Only many seeds meet every kind of fault.
    let enough = ran.seeds < 1_000 || ran.coverage.missing().is_empty();
    if ran.failed.is_empty() && enough { OK } else { FAILED }
}
