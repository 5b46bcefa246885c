//! `baton what-if`: the decision that would be taken, on a copy of the live state.

use std::fmt::Write as _;

use failover::Request;
use failover::rehearse::{Ending, Hypothesis, Line, Rehearsal};
use orchestrator::answers::WhatIf as Answer;

use crate::client::{Cluster, Failure};
use crate::screen::{Mood, print, tinted};
use crate::verbs::{Globals, WhatIf, WhatIfVerb};
use crate::words;

pub async fn run(globals: &Globals, arguments: WhatIf) -> Result<u8, Failure> {
    let hypothesis = match arguments.verb {
        WhatIfVerb::Lose { site } => Hypothesis::LoseSite(site),
        WhatIfVerb::Cut { one, other } => Hypothesis::Cut(one, other),
        WhatIfVerb::Freeze { instance } => Hypothesis::Freeze(instance),
    };
    ask(globals, &Cluster::of(globals)?, &hypothesis).await
}

/// What a request would do: its plan, and nothing is changed.
pub async fn dry_run(globals: &Globals, request: Request) -> Result<u8, Failure> {
    ask(globals, &Cluster::of(globals)?, &Hypothesis::Ask(request)).await
}

async fn ask(globals: &Globals, cluster: &Cluster, asked: &Hypothesis) -> Result<u8, Failure> {
    let json = serde_json::to_string(asked)
        .map_err(|error| Failure::failed(format!("cannot be asked: {error}")))?;
    let answer: Answer = cluster.get(&format!("/v1/what-if?hypothesis={}", encoded(&json))).await?;
    print(globals.output, &answer, &text(&answer))?;
    let refused = !answer.rehearsal.refused.is_empty();
    Ok(if refused { wire::exit::REFUSED } else { wire::exit::OK })
}

/// A value in a query string: everything but letters, digits and four signs as `%XX` (RFC 3986).
pub fn encoded(text: &str) -> String {
    let mut all = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            all.push(char::from(byte));
        } else {
            let _ = write!(all, "%{byte:02X}");
        }
    }
    all
}

fn text(answer: &Answer) -> String {
    let mut text = told(&answer.rehearsal);
    if let Some(plan) = &answer.plan {
        let _ = writeln!(text, "\nplan {plan}: nothing was changed");
    }
    text
}

/// What would follow, in words.
pub fn told(told: &Rehearsal) -> String {
    let mut text = String::new();
    for finding in &told.refused {
        let line = format!("refused: {}", words::finding(finding));
        let _ = writeln!(text, "{}", tinted(&line, Mood::Bad));
    }
    for line in &told.lines {
        let _ = writeln!(text, "{}", one(line));
    }
    if told.lines.is_empty() && told.refused.is_empty() {
        let _ = writeln!(text, "nothing would be decided");
    }
    for (service, ending) in &told.endings {
        let (summary, mood) = summary(ending);
        let _ = writeln!(text, "\n{}", tinted(&format!("{service}: {summary}"), mood));
        for finding in &ending.findings {
            let _ = writeln!(text, "  {}", words::finding(finding));
        }
    }
    text
}

fn one(line: &Line) -> String {
    let seconds = std::time::Duration::from_millis(line.after_ms).as_secs_f64();
    let of = line.service.as_ref().map_or_else(String::new, |service| format!("{service}: "));
    match &line.waits {
        None => format!("{seconds:>8.1} s  {of}{}", line.text),
        Some(check) => {
            tinted(&format!("{seconds:>8.1} s  {of}waits ({check}): {}", line.text), Mood::Odd)
        }
    }
}

fn summary(ending: &Ending) -> (String, Mood) {
    let primary = ending.primary.as_ref().map_or("nobody", |primary| primary.as_str());
    match (ending.writes, ending.interrupted_ms) {
        (true, None) => (format!("{primary} is the primary, commits go on throughout"), Mood::Good),
        (true, Some(gap)) => {
            let seconds = std::time::Duration::from_millis(gap).as_secs_f64();
            let text = format!(
                "{primary} is the primary, commits stand still for {seconds:.1} s and what the \
                 machines take for their steps"
            );
            (text, Mood::Good)
        }
        (false, _) => (format!("{primary} is the primary, COMMITS WAIT"), Mood::Bad),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_query_string_carries_everything() {
        assert_eq!(super::encoded("a-1 \"ü&%"), "a-1%20%22%C3%BC%26%25");
    }
}
