//! Watching a transition until it ends.

use std::time::Duration;

use failover::cluster::{Outcome, Record};
use failover::ids::TransitionId;
use tokio::time::{Instant, sleep};

use crate::client::{Cluster, Failure};
use crate::report;
use crate::screen::{Output, print, remark};
use crate::verbs::{Globals, Waiting};

/// The pause between two looks.
const EVERY: Duration = Duration::from_millis(150);

/// Prints each step as it is left, and the report at the end. Ctrl-C ends the watching only.
pub async fn follow(
    globals: &Globals,
    cluster: &Cluster,
    id: TransitionId,
    waiting: &Waiting,
) -> Result<u8, Failure> {
    tokio::select! {
        ended = watch(globals, cluster, id, waiting.wait_timeout) => ended,
        _ = tokio::signal::ctrl_c() => Err(in_doubt(id, "not watched any more")),
    }
}

fn in_doubt(id: TransitionId, why: &str) -> Failure {
    Failure::new(
        wire::exit::IN_DOUBT,
        format!("transition {id}: {why}; it goes on by itself"),
        &format!("see how it stands: baton report {id}"),
    )
}

async fn watch(
    globals: &Globals,
    cluster: &Cluster,
    first: TransitionId,
    limit: Duration,
) -> Result<u8, Failure> {
    let mut id = first;
    let mut seen = 0;
    let deadline = Instant::now() + limit;
    while Instant::now() < deadline {
        // During an election nobody can say: that is no outcome.
        let asked: Result<Record, _> = cluster.get(&format!("/v1/transitions/{id}")).await;
        let Ok(record) = asked else {
            sleep(EVERY).await;
            continue;
        };
        for line in report::step_lines(&record).into_iter().skip(seen) {
            remark(globals.output, &format!("  {line}"));
            seen += 1;
        }
        match &record.outcome {
            Outcome::Open => sleep(EVERY).await,
            Outcome::Superseded(next) => {
                remark(globals.output, &format!("transition {id} is superseded by {next}"));
                (id, seen) = (*next, 0);
            }
            Outcome::Done => return done(globals, &record),
            Outcome::Aborted(reason) => {
                if globals.output == Output::Json {
                    done(globals, &record)?;
                }
                return Err(Failure::new(
                    wire::exit::FAILED,
                    format!("transition {id} was rolled back: {reason}"),
                    &format!("the primary is as it was; see baton report {id}"),
                ));
            }
        }
    }
    Err(in_doubt(id, "not finished in the time given"))
}

fn done(globals: &Globals, record: &Record) -> Result<u8, Failure> {
    print(globals.output, &report::with_phases(record, None), &report::closing(record))?;
    Ok(wire::exit::OK)
}
