//! One scenario from its first step to the verdict.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;
use wire::clock;

use super::attacks::keep_copy;
use super::conditions::{Asked, Mood, lacking};
use super::oracle::{Tally, judge};
use super::secondaries::{self, Secondaries};
use super::stage::Stage;
use super::verbs::{act, disk_kinds};
use crate::lab::binaries::Binaries;
use crate::lab::cluster::{Cluster, Options};
use crate::lab::disk::Disk;
use crate::lab::layout::{Kind, LETTERS, Shape};
use crate::lab::stop::Stop;
use crate::script::setting::{LastCopy, Profile, Setting, Shape as Declared};
use crate::script::verb::{Harm, Request};
use crate::script::{Processes, Scenario, Step, Tier, Verb};
use std::path::PathBuf;

/// How often the cluster is looked at.
const LOOK: Duration = Duration::from_millis(250);

/// What came of a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// All that was expected came true, and nothing was lost.
    Passed,
    /// Something did not.
    Failed,
    /// It cannot be played here.
    Skipped,
}

/// A scenario and what came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Played {
    /// Its name.
    pub name: String,
    /// Its number of the list.
    pub id: String,
    /// Which run of it.
    pub run: u32,
    /// What came of it.
    pub outcome: Outcome,
    /// How long it took, with the cluster's making and end.
    pub seconds: f64,
    /// The longest time without an acknowledged write of a client outside, in milliseconds.
    pub gap_ms: u64,
    /// What clients were told.
    #[serde(flatten)]
    pub tally: Tally,
    /// What went wrong, and what is worth knowing.
    pub findings: Vec<String>,
}

/// Where and with what scenarios are played.
#[derive(Clone, Debug)]
pub struct Ground {
    /// Where runs are written down.
    pub registry: PathBuf,
    /// Where their folders are made.
    pub base: PathBuf,
    /// The programs.
    pub programs: Binaries,
    /// Whether the logs of every run are kept, not only of failed ones.
    pub keep: bool,
}

/// Why a scenario cannot be played here; `None` when it can.
pub fn obstacle(scenario: &Scenario) -> Option<String> {
    let setting = &scenario.setting;
    if setting.topology.sites().is_none() || setting.services != 1 {
        return Some("its topology is for the simulation only".into());
    }
    let steps = scenario.steps(Tier::Live);
    if steps.iter().any(|step| matches!(step.verb, Verb::Delay(_))) {
        return Some("delays need `tc netem`, which this kernel does not have".into());
    }
    if steps.iter().any(|step| matches!(step.verb, Verb::Skew(_))) {
        return Some("the wall clock is the whole machine's".into());
    }
    if !disks(scenario).is_empty()
        && let Some(why) = Disk::missing()
    {
        return Some(why);
    }
    secondaries::missing(&setting.secondaries)
}

/// Plays one.
///
/// # Errors
/// When it is stopped or the cluster cannot be had; what goes wrong in it is in the result.
pub fn play(scenario: &Scenario, run: u32, ground: &Ground, stop: &Stop) -> Result<Played> {
    let began = clock::now();
    let mut played = Played {
        name: scenario.name.clone(),
        id: scenario.id.clone(),
        run,
        outcome: Outcome::Skipped,
        seconds: 0.0,
        gap_ms: 0,
        tally: Tally::default(),
        findings: Vec::new(),
    };
    if let Some(why) = obstacle(scenario) {
        played.findings.push(why);
        return Ok(played);
    }
    let told = perform(scenario, ground, stop, &mut played);
    stop.check()?;
    if let Err(error) = told {
        played.findings.insert(0, format!("{error:#}"));
    }
    played.outcome = if played.findings.iter().any(|finding| !finding.starts_with(NOTE)) {
        Outcome::Failed
    } else {
        Outcome::Passed
    };
    played.seconds = clock::now().since(began).as_secs_f64();
    Ok(played)
}

/// How a finding begins that is no failure.
const NOTE: &str = "note: ";

fn perform(scenario: &Scenario, ground: &Ground, stop: &Stop, played: &mut Played) -> Result<()> {
    let setting = &scenario.setting;
    let options = Options {
        profile: String::new(),
        shape: shape(setting)?,
        networks: true,
        registry: ground.registry.clone(),
        keep_as: scenario.name.clone(),
        base: ground.base.clone(),
        programs: Some(ground.programs.clone()),
        disks: disks(scenario),
    };
    let cluster = Cluster::make(&options, stop).context("the cluster")?;
    cluster.bring_up(&mut |_| ()).context("the cluster")?;
    let secondaries = (!setting.secondaries.is_empty())
        .then(|| Secondaries::start(&cluster, &setting.secondaries, stop))
        .transpose()?;
    let mut stage = Stage::set(scenario, cluster, secondaries, stop).context("the stage")?;
    let told = run(&stage, played);
    stage.end_children();
    let seen = std::mem::take(&mut *stage.lock());
    played.findings.extend(seen.violations);
    played.findings.extend(seen.remarks.into_iter().map(|text| format!("{NOTE}{text}")));
    if told.is_ok() && !ground.keep && played.findings.iter().all(|text| text.starts_with(NOTE)) {
        stage.cluster.forget_logs();
    }
    told
}

fn run(stage: &Stage<'_>, played: &mut Played) -> Result<()> {
    let steps = stage.scenario.steps(Tier::Live);
    for step in &steps {
        if let Verb::Damage(what) = &step.verb
            && what.how == Harm::Stale
        {
            for site in stage.sites(&what.site, None)? {
                keep_copy(stage, &site)?;
            }
        }
    }
    std::thread::scope(|scope| {
        // The steps keep their times whatever the watching takes.
        scope.spawn(|| act_all(stage, &steps));
        watch(stage, &steps)
    })?;
    end(stage)?;
    let to = clock::now();
    let gap = stage.lock_load().journal.gap(stage.began, to);
    played.gap_ms = u64::try_from(gap.as_millis()).unwrap_or(u64::MAX);
    if let Some(most) = stage.scenario.outcome.gap(Tier::Live)
        && gap > most
    {
        let (is, most) = (gap.as_secs_f64(), most.as_secs_f64());
        stage.violated(format!("no write was acknowledged for {is:.1} s, more than {most:.1} s"));
    }
    let given_up = steps
        .iter()
        .any(|step| matches!(&step.verb, Verb::Ask(ask) if ask.request == Request::Forgo));
    let tally = judge(stage, given_up)?;
    played.tally = tally;
    for (count, what) in [
        (tally.missing, "acknowledged writes are missing (I-01)"),
        (if given_up { 0 } else { tally.warned_missing }, "warned writes are missing (I-12)"),
        (tally.vanished, "rows that were read have vanished (I-02)"),
        (tally.late, "acknowledgements of a former primary after a later one's (I-03)"),
        (tally.stale, "reads of a former primary after a later one's acknowledgement"),
    ] {
        if count > 0 {
            stage.violated(format!("{count} {what}"));
        }
    }
    Ok(())
}

fn act_all(stage: &Stage<'_>, steps: &[Step]) {
    std::thread::scope(|scope| {
        for step in steps {
            let wait = step.at.saturating_sub(stage.now());
            if stage.stop.pause(wait).is_err() {
                return;
            }
            let act = move || {
                if let Err(error) = act(stage, &step.verb) {
                    stage.violated(format!("step in line {}: {error:#}", step.line));
                }
            };
            if matches!(step.verb, Verb::Ask(_)) {
                // Its answer may come much later.
                drop(scope.spawn(act));
            } else {
                act();
            }
        }
    });
}

/// Watches what is expected while the steps are done, until the last of both is over.
fn watch(stage: &Stage<'_>, steps: &[Step]) -> Result<()> {
    let mut open: Vec<(Asked<'_>, u32)> = Vec::new();
    for step in steps {
        let (Verb::Expect(expect) | Verb::Always(expect)) = &step.verb else { continue };
        let comes = matches!(step.verb, Verb::Expect(_));
        let mood = if comes { Mood::Comes } else { Mood::Stays };
        let from = stage.began.after(step.at);
        let until = from.after(expect.bound(Tier::Live));
        open.push((Asked { expect, from, until, mood }, step.line));
    }
    let last = steps.iter().map(|step| step.at).max().unwrap_or_default();
    while stage.now() < last || !open.is_empty() {
        let status = stage.look();
        open.retain(|(asked, line)| {
            let begun = clock::now();
            if begun < asked.from {
                return true;
            }
            let lack = lacking(stage, asked, status.as_ref());
            let (expect, over) = (asked.expect, begun >= asked.until);
            match (asked.mood, lack) {
                (Mood::Comes, None) => false,
                (Mood::Comes, Some(lack)) if over => {
                    stage.explain(*line);
                    stage.violated(format!("line {line}: expected {expect}, but {lack}"));
                    false
                }
                (Mood::Comes, Some(_)) => true,
                (Mood::Stays, None) => !over,
                (Mood::Stays, Some(_)) if over => false,
                (Mood::Stays, Some(lack)) => {
                    stage.explain(*line);
                    let at = stage.now().as_secs_f64();
                    let text = format!("line {line}: always {expect}, but {lack} at {at:.1} s");
                    stage.violated(text);
                    false
                }
            }
        });
        stage.stop.pause(LOOK)?;
    }
    Ok(())
}

/// What must hold at the end, within its bound after the last step.
fn end(stage: &Stage<'_>) -> Result<()> {
    let expect = &stage.scenario.outcome;
    let from = clock::now();
    let until = from.after(expect.bound(Tier::Live));
    let asked = Asked { expect, from, until, mood: Mood::Comes };
    loop {
        let status = stage.look();
        let Some(lack) = lacking(stage, &asked, status.as_ref()) else { return Ok(()) };
        if clock::now() >= until {
            stage.explain(0);
            stage.violated(format!("at the end: {lack}"));
            return Ok(());
        }
        stage.stop.pause(LOOK)?;
    }
}

/// Whose disks the scenario touches: they get disks of their own.
fn disks(scenario: &Scenario) -> Vec<(&'static str, Kind)> {
    let mut kinds: Vec<Kind> = Vec::new();
    let mut want = |processes: &Processes| {
        for kind in disk_kinds(processes) {
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
    };
    for step in scenario.steps(Tier::Live) {
        if let Verb::SlowDisk(what) = &step.verb {
            want(&what.process);
        } else if let Verb::FillDisk(target) = &step.verb {
            want(&target.process);
        }
    }
    let Ok(shape) = shape(&scenario.setting) else { return Vec::new() };
    let mut all = Vec::new();
    for (index, site) in shape.sites.iter().enumerate() {
        for kind in &kinds {
            if *kind != Kind::Agent || index < shape.data {
                all.push((site.name, *kind));
            }
        }
    }
    all
}

fn shape(setting: &Setting) -> Result<Shape> {
    let (count, data) = match &setting.topology {
        Declared::ThreeSites => (3, 3),
        Declared::PairAndWitness => (3, 2),
        Declared::FiveVoters => (5, 3),
        Declared::File(path) => anyhow::bail!("{} is for the simulation only", path.display()),
    };
    let profile = match setting.timing {
        Profile::Default => "default",
        Profile::Metro => "metro",
    };
    let mut timing = format!("profile = \"{profile}\"\n");
    let lines = [
        ("failover_window", setting.failover_window),
        ("switchover_deadline", setting.switchover_deadline),
    ];
    for (key, text) in lines {
        if let Some(text) = text {
            let _ = writeln!(timing, "{key} = \"{}ms\"", text.0.as_millis());
        }
    }
    Ok(Shape {
        sites: LETTERS.get(..count).context("there are five sites")?,
        data,
        required: setting.required,
        on_last_copy: match setting.on_last_copy {
            LastCopy::Block => "block",
            LastCopy::SingleCopy => "single-copy",
        },
        timing,
        secondaries: setting.secondaries.iter().map(|which| secondaries::address(*which)).collect(),
        access: Vec::new(),
    })
}
