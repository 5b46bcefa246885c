//! `baton explain`: why a service does or does not fail over, and which sites could be lost now.

use std::fmt::Write as _;

use orchestrator::answers::Explain as Answer;

use crate::client::{Cluster, Failure};
use crate::screen::{Mood, print, tinted};
use crate::verbs::{Explain, Globals};
use crate::words;

pub async fn run(globals: &Globals, arguments: &Explain) -> Result<u8, Failure> {
    let path = format!("/v1/explain/{}", arguments.service);
    let answer: Answer = Cluster::of(globals)?.get(&path).await?;
    if answer.findings.is_empty() && answer.could_lose.is_empty() {
        return Err(Failure::new(
            wire::exit::UNREACHABLE,
            "the cluster has no leader: nobody can judge now",
            "see with `baton status` which voters are reached, and start those that are down",
        ));
    }
    print(globals.output, &answer, &text(&answer))?;
    Ok(wire::exit::OK)
}

fn text(answer: &Answer) -> String {
    let mut text = match &answer.proposes {
        Some(change) => format!("{}: would now {change}\n", answer.service),
        None => format!("{}: nothing is to be changed now\n", answer.service),
    };
    for finding in &answer.findings {
        let line = format!("  {}", words::finding(finding));
        let _ = writeln!(text, "{}", tinted(&line, words::severity(finding.severity)));
    }
    let _ = writeln!(text, "\ncould we lose, now:");
    for loss in &answer.could_lose {
        let (word, mood) = if loss.survivable { ("yes", Mood::Good) } else { ("NO", Mood::Bad) };
        let gap = loss.interrupted_ms.map(std::time::Duration::from_millis);
        let gap = gap.map_or_else(String::new, |gap| {
            format!(", commits stand still for {:.1} s and the machines' steps", gap.as_secs_f64())
        });
        let line = format!("  {:<20} {word:<4} {}{gap}", loss.site, loss.outcome);
        let _ = writeln!(text, "{}", tinted(&line, mood));
        for reason in &loss.reasons {
            let _ = writeln!(text, "  {:<26}{reason}", "");
        }
    }
    text
}
