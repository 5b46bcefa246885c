//! `baton readiness`: could each site be lost now?

use std::fmt::Write as _;
use std::time::Duration;

use clap::Args;
use failover::readiness::{Finding, Level, Looked, Outcome, Readiness, SiteVerdict};
use orchestrator::answers::Readiness as Answer;

use crate::client::{Cluster, Failure};
use crate::screen::{Mood, cell, lines, print, span, table, tinted};
use crate::verbs::Globals;
use crate::words;

/// `baton readiness`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  baton readiness                  every site, every service
  baton readiness arezzo           what the loss of this site would mean
  baton readiness clinic --all     this service, with every check that is good as well
  baton readiness -o json | jq '.services[].sites[] | {site, level, rto}'
  baton readiness arezzo > /dev/null && systemctl poweroff

Times are predicted from what was measured here: DETECT and SEAL follow from the timing law and
from who is heard; REPLAY from what is left to replay and how fast that was seen to go; PROMOTE and
DNS are what they took in the last change of primary; TTL is for how long resolvers keep the old
address. What was never measured is `?`, and the sum then reads `> `.

Exit statuses: 0 ready, 1 not ready, 6 unknown (evidence is missing or stale), 3 nobody to ask.")]
pub struct Arguments {
    /// A site or a service [default: all of them]
    #[arg(value_name = "SITE|SERVICE")]
    pub of: Option<String>,
    /// Show also the checks that are good
    #[arg(long)]
    pub all: bool,
}

pub async fn run(globals: &Globals, arguments: &Arguments) -> Result<u8, Failure> {
    let path = match &arguments.of {
        None => "/v1/readiness".to_owned(),
        Some(of) => format!("/v1/readiness?of={}", crate::what_if::encoded(of)),
    };
    let answer: Answer = Cluster::of(globals)?.get(&path).await?;
    print(globals.output, &answer, &text(&answer, arguments.all))?;
    Ok(status(answer.level))
}

const fn status(level: Level) -> u8 {
    match level {
        Level::Good | Level::Warning => wire::exit::OK,
        Level::Unknown => wire::exit::UNKNOWN,
        Level::Blocks => wire::exit::FAILED,
    }
}

fn text(answer: &Answer, all: bool) -> String {
    let mut text = verdicts(&answer.services);
    for service in &answer.services {
        for verdict in &service.sites {
            text.push_str(&particulars(service, verdict));
        }
    }
    for service in &answer.services {
        text.push_str(&checks(service, all));
    }
    let (word, mood) = match answer.level {
        Level::Good | Level::Warning => ("READY", Mood::Good),
        Level::Unknown => ("UNKNOWN", Mood::Odd),
        Level::Blocks => ("NOT READY", Mood::Bad),
    };
    let _ = writeln!(text, "\n{}", tinted(word, mood));
    text
}

/// One line a site and service.
fn verdicts(services: &[Readiness]) -> String {
    let mut table = table(&[
        "LOSE", "SERVICE", "READY", "THEN", "RPO 0", "RTO", "DETECT", "SEAL", "REPLAY", "PROMOTE",
        "DNS", "TTL",
    ]);
    for service in services {
        for verdict in &service.sites {
            let (ready, mood) = words::ready(verdict.level);
            let (rpo, rpo_mood) = words::proven(verdict.rpo.zero);
            let mut cells = vec![
                cell(&verdict.site, Mood::Plain),
                cell(&service.service, Mood::Plain),
                cell(ready, mood),
                cell(words::then(verdict), Mood::Plain),
                cell(rpo, rpo_mood),
            ];
            cells.extend(times(verdict).into_iter().map(|time| cell(time, Mood::Plain)));
            table.add_row(cells);
        }
    }
    lines(&table)
}

fn times(verdict: &SiteVerdict) -> Vec<String> {
    let Some(rto) = &verdict.rto else {
        let gap = match (verdict.outcome, verdict.interrupted_ms) {
            (Outcome::GoesOn, gap) => ms(gap.unwrap_or(0)),
            (Outcome::FailsOver | Outcome::Waits, _) => "-".to_owned(),
        };
        return vec![gap];
    };
    let phase = |phase: Option<u64>| phase.map_or_else(|| "?".to_owned(), ms);
    vec![
        words::total(rto),
        phase(rto.detection_ms),
        phase(rto.seal_ms),
        phase(rto.replay_ms),
        phase(rto.promotion_ms),
        phase(rto.dns_ms),
        ms(rto.ttl_ms),
    ]
}

fn ms(ms: u64) -> String {
    span(Duration::from_millis(ms))
}

/// What stands behind one line of the table.
fn particulars(service: &Readiness, verdict: &SiteVerdict) -> String {
    let mut text = String::new();
    if verdict.findings.is_empty() && verdict.rpo.zero == Some(true) {
        return text;
    }
    let _ = writeln!(text, "\nwithout {}, {}:", verdict.site, service.service);
    if verdict.rpo.zero != Some(true) {
        for reason in &verdict.rpo.reasons {
            let _ = writeln!(text, "  {}", tinted(&format!("rpo: {reason}"), Mood::Bad));
        }
    }
    // The same said by many checks is said once, with their names.
    let mut told: Vec<(Vec<&str>, &Finding)> = Vec::new();
    for finding in &verdict.findings {
        let same = |(_, other): &&mut (Vec<&str>, &Finding)| {
            let what = |f: &Finding| (f.level, f.instance.clone(), f.text.clone());
            what(other) == what(finding)
        };
        match told.iter_mut().find(same) {
            Some((checks, _)) => checks.push(&finding.check),
            None => told.push((vec![&finding.check], finding)),
        }
    }
    for (checks, finding) in told {
        text.push_str(&one(&checks.join(", "), finding));
    }
    text
}

fn one(checks: &str, finding: &Finding) -> String {
    let who = finding.instance.as_ref().map_or_else(String::new, |id| format!("{id}: "));
    let since = finding.since_ms.map(Duration::from_millis).filter(|s| s.as_secs() > 0);
    let since = since.map_or_else(String::new, |since| format!(", for {}", span(since)));
    let age = finding.age_ms.map(Duration::from_millis);
    let age = age.map_or_else(String::new, |age| format!(" (known {} ago)", span(age)));
    let level = finding.level.name();
    let line = format!("  {checks} ({level}{since}): {who}{}{age}", finding.text);
    format!("{}\n      {}\n", tinted(&line, mood(finding.level)), finding.remedy)
}

const fn mood(level: Level) -> Mood {
    match level {
        Level::Good => Mood::Good,
        Level::Warning | Level::Unknown => Mood::Odd,
        Level::Blocks => Mood::Bad,
    }
}

/// Every check of a service; the good ones counted, or named too.
fn checks(service: &Readiness, all: bool) -> String {
    let good = service.checks.iter().filter(|looked| looked.level == Level::Good).count();
    let mut text =
        format!("\n{}: {good} of {} checks are good\n", service.service, service.checks.len());
    let mut table = table(&["CHECK", "LEVEL", "WHO", "WHAT"]);
    let shown = service.checks.iter().filter(|looked| all || looked.level != Level::Good);
    for looked in shown.clone() {
        for (who, what, level) in rows(looked) {
            table.add_row(vec![
                cell(&looked.check, Mood::Plain),
                cell(level.name(), mood(level)),
                cell(who, Mood::Plain),
                cell(what, Mood::Plain),
            ]);
        }
    }
    if shown.count() > 0 {
        text.push_str(&lines(&table));
    }
    text
}

fn rows(looked: &Looked) -> Vec<(String, &str, Level)> {
    if looked.findings.is_empty() {
        return vec![(String::new(), &looked.about, looked.level)];
    }
    let who = |finding: &Finding| {
        let instance = finding.instance.as_ref().map(ToString::to_string);
        let site = finding.site.as_ref().map(|site| format!("without {site}"));
        instance.or(site).unwrap_or_default()
    };
    looked.findings.iter().map(|finding| (who(finding), &*finding.text, finding.level)).collect()
}

#[cfg(test)]
mod tests;
