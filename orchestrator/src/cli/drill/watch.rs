//! Watching a drill until it is over.

use std::time::Duration;

use failover::ids::DrillId;
use orchestrator::answers::DrillTold;
use tokio::time::{Instant, sleep};

use super::{ended, told};
use crate::client::{Cluster, Failure};
use crate::report;
use crate::screen::remark;
use crate::verbs::Globals;

/// The pause between two looks.
const EVERY: Duration = Duration::from_millis(250);

/// Prints each stage and each step as it is left, and how it ended. Ctrl-C ends the watching only.
pub async fn watch(
    globals: &Globals,
    cluster: &Cluster,
    id: DrillId,
    limit: Duration,
) -> Result<u8, Failure> {
    tokio::select! {
        over = until_over(globals, cluster, id, limit) => over,
        _ = tokio::signal::ctrl_c() => Err(in_doubt(id, "not watched any more")),
    }
}

fn in_doubt(id: DrillId, why: &str) -> Failure {
    Failure::new(
        wire::exit::IN_DOUBT,
        format!("drill {id}: {why}; it goes on by itself"),
        &format!("see how it stands: baton drill report {id}; end it: baton drill abort {id}"),
    )
}

async fn until_over(
    globals: &Globals,
    cluster: &Cluster,
    id: DrillId,
    limit: Duration,
) -> Result<u8, Failure> {
    let deadline = Instant::now() + limit;
    let mut seen = 0;
    let mut waited = String::new();
    while Instant::now() < deadline {
        // During an election nobody can say: that is no outcome.
        let asked: Result<DrillTold, _> = cluster.get(&format!("/v1/drills/{id}")).await;
        let Ok(drill) = asked else {
            sleep(EVERY).await;
            continue;
        };
        let lines = lines(&drill);
        for line in lines.iter().skip(seen) {
            remark(globals.output, &format!("  {line}"));
        }
        seen = seen.max(lines.len());
        if !drill.drill.is_open() {
            return ended(globals, &drill);
        }
        let waits = drill.waits.first().map_or_else(String::new, crate::words::finding);
        if !waits.is_empty() && waits != waited {
            remark(globals.output, &format!("  {}", told::waiting(&waits)));
            waited = waits;
        }
        sleep(EVERY).await;
    }
    Err(in_doubt(id, "not over in the time given"))
}

/// Everything that has happened, in order: what is new is always at the end.
fn lines(told: &DrillTold) -> Vec<String> {
    let mut all: Vec<(i64, String)> = told
        .drill
        .steps
        .iter()
        .map(|step| (step.at.0, told::stage_line(&told.drill, step)))
        .collect();
    for record in &told.transitions {
        let steps = record.steps.iter().zip(report::step_lines(record));
        all.extend(steps.map(|(step, line)| {
            (step.at.0, format!("  transition {}: {}", record.id, line.trim()))
        }));
    }
    all.sort_by_key(|(at, _)| *at);
    all.into_iter().map(|(_, line)| line).collect()
}
