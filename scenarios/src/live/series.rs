//! Many scenarios, some at the same time, and the table of what came of them.

use std::path::Path;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;
use wire::clock;

use super::play::{Ground, Outcome, Played, play};
use crate::lab::network::Network;
use crate::lab::screen::{Screen, Tone};
use crate::lab::stop::Stop;
use crate::script::{Scenario, Tier};

/// What to play.
#[derive(Clone, Debug)]
pub struct Series {
    /// The scenarios.
    pub scenarios: Vec<Scenario>,
    /// How often each.
    pub runs: u32,
    /// How many at the same time.
    pub jobs: usize,
    /// The result is printed as JSON, too.
    pub json: bool,
}

#[derive(Serialize)]
struct Whole<'a> {
    passed: usize,
    failed: usize,
    skipped: usize,
    seconds: f64,
    acknowledged: u64,
    missing: u64,
    vanished: u64,
    scenarios: &'a [Played],
}

/// The scenarios for real processes, or those among them that the names begin.
///
/// # Errors
/// When the catalogue cannot be read or a name is none of it.
pub fn chosen(names: &[String]) -> Result<Vec<Scenario>> {
    let all = crate::script::catalogue()?;
    let live: Vec<Scenario> = all.into_iter().filter(|s| s.is_for(Tier::Live)).collect();
    if names.is_empty() {
        return Ok(live);
    }
    let mut chosen = Vec::new();
    for name in names {
        let path = Path::new(name);
        if path.extension().is_some_and(|extension| extension == "toml") {
            chosen.push(Scenario::load(path)?);
            continue;
        }
        let stem = |scenario: &&Scenario| {
            scenario.name == *name
                || scenario.id == *name
                || (name.len() > scenario.id.len() && scenario.name.starts_with(name.as_str()))
        };
        let found: Vec<Scenario> = live.iter().filter(stem).cloned().collect();
        ensure!(!found.is_empty(), "`{name}` is no scenario for real processes");
        chosen.extend(found);
    }
    Ok(chosen)
}

/// Plays them all, and writes `live.json` into `folder`.
///
/// # Errors
/// When one fails, or it is stopped.
pub fn series(
    series: &Series,
    ground: &Ground,
    folder: &Path,
    stop: &Stop,
    screen: Screen,
) -> Result<()> {
    if let Some(why) = Network::missing() {
        screen.line(&format!("Skipped: {why}."));
        return Ok(());
    }
    let began = clock::now();
    let plan: Vec<(&Scenario, u32)> = (1..=series.runs)
        .flat_map(|run| series.scenarios.iter().map(move |scenario| (scenario, run)))
        .collect();
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<Played>> = Mutex::default();
    let work = || -> Result<()> {
        while let Some((scenario, run)) = plan.get(next.fetch_add(1, Ordering::Relaxed)) {
            let played = play(scenario, *run, ground, stop)?;
            let mut held = results.lock().unwrap_or_else(PoisonError::into_inner);
            say(screen, &played, held.len() + 1, plan.len());
            held.push(played);
            write(&held, clock::now().since(began).as_secs_f64(), folder)?;
        }
        Ok(())
    };
    let ended: Vec<Result<()>> = std::thread::scope(|scope| {
        let jobs: Vec<_> = (0..series.jobs.max(1)).map(|_| scope.spawn(work)).collect();
        let done = |job: std::thread::ScopedJoinHandle<'_, Result<()>>| {
            job.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a run of the lab itself failed")))
        };
        jobs.into_iter().map(done).collect()
    });
    let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    let seconds = clock::now().since(began).as_secs_f64();
    if series.json {
        screen.line(&text(&results, seconds)?);
    } else {
        screen.line(&table(&results));
        screen.line(&sums(&results, seconds));
    }
    ended.into_iter().collect::<Result<()>>()?;
    let failed = results.iter().filter(|played| played.outcome == Outcome::Failed).count();
    ensure!(failed == 0, "{failed} of {} runs failed", results.len());
    Ok(())
}

fn say(screen: Screen, played: &Played, number: usize, all: usize) {
    let (tone, word) = match played.outcome {
        Outcome::Passed => (Tone::Good, "passed"),
        Outcome::Failed => (Tone::Bad, "failed"),
        Outcome::Skipped => (Tone::Faint, "skipped"),
    };
    let word = screen.paint(tone, word);
    let seconds = played.seconds;
    screen.progress(&format!("{number}/{all} {word} {} in {seconds:.0} s", played.name));
    for finding in &played.findings {
        screen.progress(&format!("      {finding}"));
    }
}

fn sum(results: &[Played], figure: fn(&Played) -> u64) -> u64 {
    results.iter().map(figure).sum()
}

fn count(results: &[Played], outcome: Outcome) -> usize {
    results.iter().filter(|played| played.outcome == outcome).count()
}

fn text(results: &[Played], seconds: f64) -> Result<String> {
    let whole = Whole {
        passed: count(results, Outcome::Passed),
        failed: count(results, Outcome::Failed),
        skipped: count(results, Outcome::Skipped),
        seconds,
        acknowledged: sum(results, |played| played.tally.acknowledged),
        missing: sum(results, |played| played.tally.missing),
        vanished: sum(results, |played| played.tally.vanished),
        scenarios: results,
    };
    Ok(serde_json::to_string_pretty(&whole)?)
}

fn write(results: &[Played], seconds: f64, folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    let file = folder.join("live.json");
    std::fs::write(&file, text(results, seconds)? + "\n")
        .with_context(|| format!("cannot write {}", file.display()))
}

fn sums(results: &[Played], seconds: f64) -> String {
    format!(
        "{} passed, {} failed, {} skipped in {seconds:.0} s: {} writes acknowledged, {} missing; \
         {} rows read and vanished",
        count(results, Outcome::Passed),
        count(results, Outcome::Failed),
        count(results, Outcome::Skipped),
        sum(results, |played| played.tally.acknowledged),
        sum(results, |played| played.tally.missing),
        sum(results, |played| played.tally.vanished),
    )
}

fn table(results: &[Played]) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    let head = ["scenario", "outcome", "s", "gap s", "acked", "unknown", "missing", "vanished"];
    table.set_header(head);
    let mut sorted: Vec<&Played> = results.iter().collect();
    sorted.sort_by_key(|played| (played.name.clone(), played.run));
    for played in sorted {
        let outcome = match played.outcome {
            Outcome::Passed => "passed",
            Outcome::Failed => "FAILED",
            Outcome::Skipped => "skipped",
        };
        let tenths = |ms: u64| format!("{}.{}", ms / 1_000, ms % 1_000 / 100);
        let tally = &played.tally;
        table.add_row([
            played.name.clone(),
            outcome.to_owned(),
            format!("{:.0}", played.seconds),
            tenths(played.gap_ms),
            tally.acknowledged.to_string(),
            tally.unknown.to_string(),
            tally.missing.to_string(),
            tally.vanished.to_string(),
        ]);
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}
