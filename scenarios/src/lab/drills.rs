//! The demonstration of drills: one of each kind, end to end, while a client writes; and for each a
//! signed bundle that stands, and does not after one changed byte. Then what may happen in the
//! middle of one.

mod mishaps;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use failover::cluster::Record;
use failover::drill::{Drill, Kind, Outcome};
use failover::ids::DrillId;
use mishaps::{Ended, MISHAPS, meet};
use serde::{Deserialize, Serialize};
use wire::clock;

use super::cluster::{Cluster, Options};
use super::directory::GENEROUS;
use super::journal::millis;
use super::layout::SERVICE;
use super::probe::Probe;
use super::screen::{Screen, Tone, seconds};
use super::statistics::tenths;
use super::stop::Stop;

/// What the demonstration found; written as JSON too.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    drills: Vec<One>,
    mishaps: Vec<Ended>,
    acked: u64,
    lost: u64,
    duplicates: u64,
    unknown: u64,
    /// Every drill ended as it should, nothing was lost, every bundle stands and none does when it
    /// is changed.
    pub ok: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct One {
    kind: Kind,
    passed: bool,
    ms: f64,
    /// How long each change of primary took.
    changes_ms: Vec<f64>,
    bundle_stands: bool,
    changed_byte_refused: bool,
}

/// As much of `baton drill run -o json` as is looked at.
#[derive(Debug, Deserialize)]
struct Told {
    drill: Drill,
    transitions: Vec<Record>,
}

/// Everything that exists.
const KINDS: [Kind; 5] =
    [Kind::Readiness, Kind::Dns, Kind::Switchover, Kind::Isolate, Kind::RestorePath];
/// How long a drill may take before the demonstration gives up on it.
const DRILL: Duration = Duration::from_mins(5);
/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(40);

/// Runs it, and writes `report.json` and the bundles into `folder`.
///
/// # Errors
/// When a part of it does not come about at all.
pub fn drills(options: &Options, folder: &Path, stop: &Stop, screen: Screen) -> Result<Report> {
    screen.line(&screen.paint(Tone::Strong, "baton: a drill of each kind, while a client writes"));
    screen.heading("Starting");
    let mut cluster = Cluster::make(options, stop)?;
    cluster.bring_up(&mut |missing| screen.progress(missing))?;
    std::fs::create_dir_all(folder)?;
    let mut probe = Probe::start(&cluster, "probe-drills")?;
    probe.wait_acked(stop, 100)?;
    let mut all = Vec::new();
    for kind in KINDS {
        screen.heading(&format!("Drill: {}", kind.name()));
        wait_ready(&cluster, kind, stop, screen)?;
        all.push(one(&cluster, kind, folder, screen)?);
    }
    let mut met = Vec::new();
    for mishap in MISHAPS {
        met.push(meet(&cluster, mishap, stop, (folder, screen))?);
    }
    probe.wait_acked(stop, 100)?;
    let rows = probe.reconcile(&cluster)?;
    let fine = |one: &One| one.passed && one.bundle_stands && one.changed_byte_refused;
    let kept = rows.lost == 0 && rows.duplicates == 0;
    let ok = all.iter().all(fine) && met.iter().all(Ended::is_fine) && kept;
    let report = Report {
        drills: all,
        mishaps: met,
        acked: rows.acked,
        lost: rows.lost,
        duplicates: rows.duplicates,
        unknown: rows.unknown,
        ok,
    };
    closing(&report, screen);
    let file = folder.join("report.json");
    let text = serde_json::to_string_pretty(&report)?;
    std::fs::write(&file, text + "\n")
        .with_context(|| format!("cannot write {}", file.display()))?;
    screen.line(&screen.paint(Tone::Faint, &format!("  {}", file.display())));
    if report.ok {
        cluster.forget_logs();
    }
    Ok(report)
}

/// Agents look at some things rarely: a drill is not begun before everything is known.
fn wait_ready(cluster: &Cluster, kind: Kind, stop: &Stop, screen: Screen) -> Result<()> {
    let mut said = String::new();
    let ready = stop.until("readiness", GENEROUS * 2, Duration::from_secs(1), || {
        let output = cluster
            .output(&["drill", "plan", kind.name(), SERVICE, "--in-protected-hours"], ANSWER)?;
        said = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(output.status.success().then_some(()))
    });
    if ready.is_err() {
        screen.line(&said);
    }
    ready.map(|()| screen.line("  Everything that it rests on is known and good."))
}

fn one(cluster: &Cluster, kind: Kind, folder: &Path, screen: Screen) -> Result<One> {
    let began = clock::now();
    let words = ["drill", "run", kind.name(), SERVICE, "--dwell", "5s", "--in-protected-hours"];
    let more = ["--reason", "the lab shows it", "-o", "json"];
    let words: Vec<&str> = words.into_iter().chain(more).collect();
    let output = cluster.output(&words, DRILL)?;
    let complaint = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let told: Told = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("`baton {}`: {complaint}", words.join(" ")))?;
    let ms = millis(began.0, clock::now().0);
    show(cluster, told.drill.id, screen)?;
    let passed = output.status.success() && told.drill.outcome == Outcome::Passed;
    let name = format!("drill-{}.json", kind.name());
    let kept = (folder, name.as_str());
    let (bundle_stands, changed_byte_refused) = bundle(cluster, told.drill.id, kept, screen)?;
    Ok(One {
        kind,
        passed,
        ms: tenths(ms),
        changes_ms: told.transitions.iter().map(took).collect(),
        bundle_stands,
        changed_byte_refused,
    })
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds of a minute")]
fn took(record: &Record) -> f64 {
    let at = |step: Option<&failover::cluster::StepRecord>| step.map_or(0, |step| step.at.0);
    (at(record.steps.last()) - at(record.steps.first())) as f64
}

fn show(cluster: &Cluster, id: DrillId, screen: Screen) -> Result<()> {
    let text = cluster.output(&["drill", "report", &id.to_string()], ANSWER)?;
    for line in String::from_utf8_lossy(&text.stdout).lines() {
        screen.line(&format!("  {line}"));
    }
    Ok(())
}

/// Whether the drill's bundle stands, and whether it is refused with one byte changed.
fn bundle(
    cluster: &Cluster,
    id: DrillId,
    (folder, name): (&Path, &str),
    screen: Screen,
) -> Result<(bool, bool)> {
    let id = id.to_string();
    let made = cluster.output(&["drill", "report", &id, "--format", "json"], ANSWER)?;
    if !made.status.success() {
        bail!("no bundle: {}", String::from_utf8_lossy(&made.stderr));
    }
    std::fs::write(folder.join(name), &made.stdout)?;
    // Where the cluster's own account can read it.
    let file = cluster.folder().join(name);
    let verify = |bytes: &[u8]| -> Result<(bool, String)> {
        std::fs::write(&file, bytes)?;
        let path = file.to_string_lossy().into_owned();
        let output = cluster.output(&["verify", &path], ANSWER)?;
        let said = if output.status.success() { &output.stdout } else { &output.stderr };
        let said = String::from_utf8_lossy(said);
        let line = said.lines().next().unwrap_or_default().replace(&path, name);
        Ok((output.status.success(), line))
    };
    let (stands, said) = verify(&made.stdout)?;
    screen.line(&format!("  baton verify: {said}"));
    let mut changed = made.stdout.clone();
    let middle = changed.len() / 2;
    let byte = changed.get_mut(middle).context("the bundle is empty")?;
    *byte ^= 1;
    let (accepted, said) = verify(&changed)?;
    screen.line(&format!("  with one byte changed: {said}"));
    Ok((stands, !accepted))
}

fn closing(report: &Report, screen: Screen) {
    screen.heading("What it cost");
    let good = |fine: bool| if fine { Tone::Good } else { Tone::Bad };
    for one in &report.drills {
        let fine = one.passed && one.bundle_stands && one.changed_byte_refused;
        let word = screen.paint(good(fine), if fine { "passed" } else { "FAILED" });
        let changes: Vec<String> = one.changes_ms.iter().map(|ms| seconds(*ms)).collect();
        let changes = if changes.is_empty() {
            "no change of primary".to_owned()
        } else {
            format!("changes of primary took {}", changes.join(" and "))
        };
        let stands = if one.bundle_stands { "stands" } else { "DOES NOT STAND" };
        let changed = if one.changed_byte_refused { "is refused" } else { "IS ACCEPTED" };
        screen.line(&format!(
            "  {:<14}{word} in {} · {changes} · its bundle {stands}, one changed byte {changed}",
            one.kind.name(),
            seconds(one.ms)
        ));
    }
    for met in &report.mishaps {
        let word = if met.is_fine() { "as it should" } else { "NOT AS IT SHOULD" };
        let word = screen.paint(good(met.is_fine()), word);
        screen.line(&format!("  {}: ended {word}", met.words()));
    }
    let lost = screen.paint(good(report.lost == 0), &report.lost.to_string());
    screen.line(&format!(
        "  {lost} of {} acknowledged writes lost ({} of unknown outcome)",
        report.acked, report.unknown
    ));
}

/// Whether a finished demonstration counts as passed.
///
/// # Errors
/// When it does not.
pub fn pass(report: &Report) -> Result<()> {
    ensure!(report.ok, "a drill did not pass, or its bundle is not as it should be: see above");
    Ok(())
}
