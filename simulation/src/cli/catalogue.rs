//! `run` and `catalogue`: scenarios played and judged.

use anyhow::Context;
use scenarios::script::{Scenario, Tier, catalogue, find};
use simulation::play::{Played, Variation, play};

use super::progress::{Progress, shared};
use super::{CatalogueArgs, FAILED, Format, OK, RunArgs};

pub(super) fn run(args: &RunArgs) -> anyhow::Result<u8> {
    let scenario = find(&args.name)?;
    let topology = match &args.topology {
        Some(file) => Some(orchestrator::topology::read(file)?.topology),
        None => None,
    };
    let variation = Variation { seed: args.seed, topology, quiet: false };
    let played = play(&scenario, &variation).context("no such cluster")?;
    match args.output {
        Format::Json => println!("{}", serde_json::to_string_pretty(&json(&played))?),
        Format::Text => {
            println!("{}, seed {}", played.name, played.seed);
            for line in &played.transcript {
                println!("{line}");
            }
            tell(&played);
            println!(
                "{}: {:.0} s simulated, longest gap between commits {:.1} s",
                if played.problems.is_empty() { "as it should be" } else { "NOT as it should be" },
                played.simulated.as_secs_f64(),
                played.gap.as_secs_f64()
            );
        }
    }
    Ok(if played.problems.is_empty() { OK } else { FAILED })
}

pub(super) fn all(args: &CatalogueArgs) -> anyhow::Result<u8> {
    let wanted = |scenario: &Scenario| {
        let named = |name: &String| scenario.name.starts_with(name.as_str());
        let chosen = args.names.is_empty() || args.names.iter().any(named);
        scenario.is_for(Tier::Sim) && chosen && !args.except.contains(&scenario.name)
    };
    let scenarios: Vec<Scenario> = catalogue()?.into_iter().filter(wanted).collect();
    anyhow::ensure!(!scenarios.is_empty(), "no simulated scenario is called that");
    let runs: Vec<(&Scenario, u64)> = scenarios
        .iter()
        .flat_map(|scenario| {
            (0..args.seeds.max(1)).map(move |more| (scenario, scenario.setting.seed + more))
        })
        .collect();
    let progress = Progress::new("runs", runs.len() as u64);
    let played = shared(&runs, args.jobs, |(scenario, seed)| {
        let quiet = Variation { seed: Some(*seed), topology: None, quiet: true };
        let played = play(scenario, &quiet);
        progress.one();
        let failed = !played.as_ref().is_ok_and(|played| played.problems.is_empty());
        if let Ok(played) = &played {
            tell(played);
        }
        (played, failed && args.first)
    });
    let elapsed = progress.elapsed();
    drop(progress);
    let mut failed = 0;
    let mut simulated = 0.0;
    let count = played.len();
    for played in played {
        let played = played?;
        simulated += played.simulated.as_secs_f64();
        failed += usize::from(!played.problems.is_empty());
    }
    println!(
        "{} of {count} runs as they should be; {:.1} h simulated in {:.1} s",
        count - failed,
        simulated / 3_600.0,
        elapsed.as_secs_f64()
    );
    Ok(if failed == 0 { OK } else { FAILED })
}

/// One line a problem, as tools read them.
fn tell(played: &Played) {
    for problem in &played.problems {
        let kind = if problem.line.is_some() { "outcome " } else { "" };
        println!("violation: {} seed {} {kind}{problem}", played.name, played.seed);
    }
}

fn json(played: &Played) -> serde_json::Value {
    let problems: Vec<_> = played.problems.iter().map(ToString::to_string).collect();
    let coverage: serde_json::Map<_, _> = played
        .coverage
        .iter()
        .map(|(name, count)| (name.to_owned(), serde_json::Value::from(count)))
        .collect();
    serde_json::json!({
        "name": played.name,
        "seed": played.seed,
        "problems": problems,
        "simulated_ms": u64::try_from(played.simulated.as_millis()).unwrap_or(u64::MAX),
        "gap_ms": u64::try_from(played.gap.as_millis()).unwrap_or(u64::MAX),
        "transcript": played.transcript,
        "coverage": coverage,
    })
}
