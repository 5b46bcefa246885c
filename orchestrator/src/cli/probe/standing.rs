//! What a probe writer that stands for years does beside writing: days that are over are summed
//! up, and what is old is let go, on disk and in the table.

use std::time::Duration;

use orchestrator::probe::{Access, Folder, Where, let_go};
use tokio::time::{MissedTickBehavior, interval};
use wire::clock;

use crate::verbs::Probe;

/// What the names of such runs have after the service's: only their rows are let go.
pub const RUN: &str = "standing-";
/// How often it is looked what can be summed up or let go.
const EVERY: Duration = Duration::from_hours(1);

/// Tidies up, for ever. What goes wrong is told and tried again: nothing of it stops the writing.
pub fn tidy(
    folder: Folder,
    access: Access,
    at: Where,
    arguments: &Probe,
) -> impl Future<Output = ()> + Send + use<> {
    let (keep, prefix) = (arguments.keep, format!("{}-{RUN}", arguments.service));
    async move {
        let mut looks = interval(EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            let files = folder.clone();
            let tidied = tokio::task::spawn_blocking(move || files.tidy(clock::wall(), keep)).await;
            match tidied {
                Ok(Ok(problems)) => problems.iter().for_each(say),
                Ok(Err(problem)) => say(&problem),
                Err(problem) => say(&problem),
            }
            // A connection of its own: what is written meanwhile must not wait for it.
            let gone = match super::primary(&access, &at).await {
                Ok(client) => let_go(&client, &prefix, keep).await.map_err(|e| e.to_string()),
                Err(problem) => Err(problem),
            };
            if let Err(problem) = gone {
                say(&format!("old rows are not let go yet: {problem}"));
            }
        }
    }
}

fn say(problem: &impl ToString) {
    eprintln!("baton: {}", problem.to_string());
}
