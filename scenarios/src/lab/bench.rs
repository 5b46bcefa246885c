//! The benchmark: every fault several times on one cluster, medians and ends, and what was lost.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use super::cases::{Case, Run, play};
use super::cluster::{Cluster, Options};
use super::network::Network;
use super::screen::{Screen, Tone, seconds};
use super::statistics::{Spread, tenths};
use super::stop::Stop;

/// Which faults, how often.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The faults.
    pub cases: Vec<Case>,
    /// How often each.
    pub runs: usize,
}

/// What was found; written as JSON.
#[derive(Clone, Debug, Serialize)]
pub struct Findings {
    profile: String,
    cases: Vec<CaseFindings>,
    skipped: BTreeMap<&'static str, String>,
}

#[derive(Clone, Debug, Serialize)]
struct CaseFindings {
    case: Case,
    gap_ms: Spread,
    phases_ms: BTreeMap<&'static str, Spread>,
    back_ms: Option<Spread>,
    moved: usize,
    acked: u64,
    lost: u64,
    duplicates: u64,
    unknown: u64,
    acked_inside: Option<u64>,
    runs: Vec<Run>,
}

/// Runs the plan, and writes `report.json` into `folder`.
///
/// # Errors
/// When a cluster does not get through a fault, or anything was lost.
pub fn bench(
    options: &Options,
    plan: &Plan,
    folder: &Path,
    stop: &Stop,
    screen: Screen,
) -> Result<()> {
    let mut findings =
        Findings { profile: options.profile.clone(), cases: Vec::new(), skipped: BTreeMap::new() };
    for case in &plan.cases {
        screen.heading(&format!("{} × {}", case.name(), plan.runs));
        if *case == Case::SiteCut
            && let Some(why) = Network::missing()
        {
            screen.line(&format!("  skipped: {why}"));
            findings.skipped.insert(case.name(), why);
            continue;
        }
        let options = Options { networks: *case == Case::SiteCut, ..options.clone() };
        findings.cases.push(measure(&options, *case, plan.runs, stop, screen)?);
        write(&findings, folder)?;
    }
    screen.heading(&format!("Profile `{}`, medians (least to most)", options.profile));
    screen.line(&table(&findings.cases));
    for text in findings.cases.iter().filter_map(remark) {
        screen.line(&text);
    }
    for (case, why) in &findings.skipped {
        screen.line(&format!("{case} was skipped: {why}"));
    }
    let file = folder.join("report.json");
    screen.line(&screen.paint(Tone::Faint, &file.display().to_string()));
    let lost: u64 = findings.cases.iter().map(|case| case.lost + case.duplicates).sum();
    ensure!(lost == 0, "{lost} acknowledged writes are missing or doubled");
    Ok(())
}

fn measure(
    options: &Options,
    case: Case,
    count: usize,
    stop: &Stop,
    screen: Screen,
) -> Result<CaseFindings> {
    let mut cluster = Cluster::make(options, stop)?;
    cluster.bring_up(&mut |missing| screen.progress(missing))?;
    let mut runs = Vec::new();
    for number in 1..=count {
        let run = play(&cluster, case, number, stop)
            .with_context(|| format!("run {number} of {}", case.name()))?;
        let phases = run.phases.map(|phases| phases.sentence()).unwrap_or_default();
        let moved = if run.moved { "moved" } else { "stayed" };
        screen.line(&format!(
            "  {number:>3}  {:>9}  {moved:<6}  lost {}  {phases}",
            seconds(run.gap_ms),
            run.lost
        ));
        for notice in cluster.notices() {
            screen.progress(&notice);
        }
        runs.push(run);
    }
    cluster.forget_logs();
    summarise(case, runs)
}

fn summarise(case: Case, runs: Vec<Run>) -> Result<CaseFindings> {
    let mut phases: BTreeMap<&'static str, Vec<f64>> = BTreeMap::new();
    for phase in runs.iter().filter_map(|run| run.phases) {
        for (name, value) in phase.all() {
            phases.entry(name).or_default().extend(value);
        }
    }
    let spread = |values: Vec<f64>| {
        let rounded = Spread::of(values)?;
        let Spread { median, min, max } = rounded;
        Some(Spread { median: tenths(median), min: tenths(min), max: tenths(max) })
    };
    let sum = |figure: fn(&Run) -> u64| runs.iter().map(figure).sum();
    let inside: Vec<u64> = runs.iter().filter_map(|run| run.acked_inside).collect();
    Ok(CaseFindings {
        case,
        gap_ms: spread(runs.iter().map(|run| run.gap_ms).collect()).context("no runs")?,
        phases_ms: phases.into_iter().filter_map(|(n, v)| Some((n, spread(v)?))).collect(),
        back_ms: spread(runs.iter().filter_map(|run| run.back_ms).collect()),
        moved: runs.iter().filter(|run| run.moved).count(),
        acked: sum(|run| run.acked),
        lost: sum(|run| run.lost),
        duplicates: sum(|run| run.duplicates),
        unknown: sum(|run| run.unknown),
        acked_inside: (!inside.is_empty()).then(|| inside.iter().sum()),
        runs,
    })
}

fn write(findings: &Findings, folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    let file = folder.join("report.json");
    let text = serde_json::to_string_pretty(findings)?;
    std::fs::write(&file, text + "\n").with_context(|| format!("cannot write {}", file.display()))
}

/// One column a case, one row a figure: it fits a terminal.
fn table(cases: &[CaseFindings]) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    table.set_header(
        [String::new()].into_iter().chain(cases.iter().map(|c| c.case.name().to_owned())),
    );
    let mut row = |name: &str, figure: &dyn Fn(&CaseFindings) -> String| {
        let cells = cases.iter().map(figure);
        table.add_row([name.to_owned()].into_iter().chain(cells));
    };
    let spread = |spread: Option<&Spread>| spread.map_or_else(|| "–".into(), cell);
    row("without writes", &|case| cell(&case.gap_ms));
    for phase in PHASES {
        if cases.iter().any(|case| case.phases_ms.contains_key(phase)) {
            row(&format!("  {phase}"), &|case| spread(case.phases_ms.get(phase)));
        }
    }
    row("redundant again", &|case| spread(case.back_ms.as_ref()));
    row("service moved", &|case| format!("{} of {}", case.moved, case.runs.len()));
    row("acknowledged", &|case| case.acked.to_string());
    row("lost", &|case| case.lost.to_string());
    row("doubled", &|case| case.duplicates.to_string());
    row("outcome unknown", &|case| case.unknown.to_string());
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

const PHASES: [&str; 7] = ["detect", "quiesce", "catch-up", "seal", "promote", "prove", "redirect"];

/// What a case showed beyond its figures.
fn remark(found: &CaseFindings) -> Option<String> {
    let (moved, runs) = (found.moved, found.runs.len());
    match found.case {
        Case::AgentKilled if moved == 0 => Some(
            "agent-killed: nothing failed over. PostgreSQL goes on without its agent, the next \
             agent takes it over well within the lease, and an agent's death is not its \
             database's."
                .into(),
        ),
        Case::AgentKilled => Some(format!(
            "agent-killed: in {moved} of {runs} runs PostgreSQL could not be handed to the next \
             agent in time; it was fenced and the service failed over."
        )),
        Case::PostmasterKilled if moved == runs => Some(
            "postmaster-killed: the agent reports the death at once, and failing over is faster \
             than starting again."
                .into(),
        ),
        Case::PostmasterKilled => Some(format!(
            "postmaster-killed: failed over in {moved} of {runs} runs, started again in the others."
        )),
        Case::SiteCut => found.acked_inside.map(|acked| {
            format!(
                "site-cut: clients inside the cut site reached their primary all along; {acked} \
                 of the writes they sent after the cut were acknowledged."
            )
        }),
        Case::SiteKilled | Case::Switchover => None,
    }
}

fn cell(spread: &Spread) -> String {
    let part = |millis: f64| format!("{:.2}", millis / 1_000.0);
    format!("{} s ({}–{})", part(spread.median), part(spread.min), part(spread.max))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(gap_ms: f64) -> Run {
        Run {
            gap_ms,
            phases: None,
            back_ms: None,
            moved: false,
            acked: 10,
            lost: 0,
            duplicates: 0,
            unknown: 1,
            acked_inside: None,
        }
    }

    #[test]
    fn runs_are_summed_and_the_table_has_a_row_for_each_case() {
        let found = summarise(Case::AgentKilled, vec![run(10.0), run(30.0), run(20.0)]);
        let found = found.expect("there are runs");
        assert_eq!(found.gap_ms, Spread { median: 20.0, min: 10.0, max: 30.0 });
        assert_eq!((found.acked, found.unknown, found.moved), (30, 3, 0));
        assert_eq!((found.back_ms, found.acked_inside), (None, None));
        assert!(remark(&found).is_some_and(|text| text.contains("nothing failed over")));
        let text = table(&[found]);
        assert!(text.contains("agent-killed") && text.contains("0 of 3"));
        assert!(summarise(Case::SiteCut, Vec::new()).is_err());
    }
}
