//! The vocabulary of the answers, in words: the same on the command line and on the page.

use std::time::Duration;

use failover::cluster::{Outcome, Record, Trigger};
use failover::fitness::Promise;
use failover::readiness::{Level, Outcome as Then, Rto, SiteVerdict};
use failover::report::{Down, NameServerAnswer, Server, Severity};
use failover::{Finding, Role};
use serde::{Deserialize, Serialize};

use crate::answers::VoterState;

/// What stands in the place of what whoever shows no certificate is not told.
pub(crate) const TOLD_TO_OPERATORS: &str = "told to whoever shows a certificate";

/// How good something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mood {
    /// Nothing to say.
    Plain,
    /// As it should be.
    Good,
    /// Worth a look.
    Odd,
    /// Wrong, or not known.
    Bad,
}

/// A finding in one line.
pub fn finding(finding: &Finding) -> String {
    let mark = match finding.severity {
        Severity::Info => "",
        Severity::Warning => " (warning)",
        Severity::Blocks => " (blocks)",
    };
    match &finding.instance {
        Some(instance) => format!("{}{mark}: {instance}: {}", finding.check, finding.text),
        None => format!("{}{mark}: {}", finding.check, finding.text),
    }
}

/// How bad a finding is.
pub fn severity(severity: Severity) -> Mood {
    match severity {
        Severity::Info => Mood::Plain,
        Severity::Warning => Mood::Odd,
        Severity::Blocks => Mood::Bad,
    }
}

/// What an instance must be.
pub fn role(role: &Role) -> String {
    match role {
        Role::Idle => "idle".to_owned(),
        Role::Primary { .. } => "primary".to_owned(),
        Role::Stopped => "stopped".to_owned(),
        Role::Fenced => "fenced".to_owned(),
        Role::Sealed => "sealed".to_owned(),
        Role::Standby { upstream } => format!("standby of {upstream}"),
    }
}

/// What an instance says it is.
pub fn server(server: Option<&Server>) -> String {
    match server {
        None => "unknown".to_owned(),
        Some(Server::Absent) => "no data directory".to_owned(),
        Some(Server::Refused(reason)) => format!("untouched: {reason}"),
        Some(Server::Down(Down::Crashed)) => "crashed".to_owned(),
        Some(Server::Down(Down::Fenced)) => "fenced".to_owned(),
        Some(Server::Down(Down::Clean(_))) => "stopped".to_owned(),
        Some(Server::Down(Down::NotStarted)) => "not started".to_owned(),
        Some(Server::Starting) => "starting".to_owned(),
        Some(Server::Recovery { .. }) => "standby".to_owned(),
        Some(Server::Writable { .. }) => "primary".to_owned(),
    }
}

/// What a voter is.
pub fn voter(state: VoterState) -> (&'static str, Mood) {
    match state {
        VoterState::Leader => ("leader", Mood::Good),
        VoterState::Follower => ("follower", Mood::Good),
        VoterState::Learner => ("learner", Mood::Odd),
        VoterState::Unknown => ("unknown", Mood::Bad),
    }
}

/// What a name server answered.
pub fn name_server(answer: Option<&NameServerAnswer>) -> String {
    match answer {
        None => "unknown".to_owned(),
        Some(NameServerAnswer::Refused) => "refuses".to_owned(),
        Some(NameServerAnswer::Silent) => "silent".to_owned(),
        Some(NameServerAnswer::Serves { writable, .. }) => {
            let one = |(service, addresses): &(_, Vec<std::net::IpAddr>)| {
                let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
                format!("{service} = {}", addresses.join(", "))
            };
            writable.iter().map(one).collect::<Vec<_>>().join("; ")
        }
    }
}

/// How a transition ended.
pub fn outcome(outcome: &Outcome) -> (String, Mood) {
    match outcome {
        Outcome::Open => ("under way".to_owned(), Mood::Odd),
        Outcome::Done => ("done".to_owned(), Mood::Good),
        Outcome::Aborted(reason) => (format!("rolled back: {reason}"), Mood::Bad),
        Outcome::Superseded(by) => (format!("superseded by transition {by}"), Mood::Odd),
    }
}

/// Whether zero loss is promised, and what stands against it.
pub fn promise(promise: &Promise) -> String {
    match promise {
        Promise::Yes => "yes".to_owned(),
        Promise::No(reasons) => format!("NO: {}", reasons.join("; ")),
        Promise::Unknown(reasons) => format!("unknown: {}", reasons.join("; ")),
        Promise::Unasked => "unknown: no leader".to_owned(),
    }
}

/// Who had a change of primary done, and in which role.
pub fn by(record: &Record) -> String {
    let role = record.authority.as_ref().map(|authority| format!(" ({})", authority.role));
    record.by.clone() + &role.unwrap_or_default()
}

/// Who else said yes to a change of primary, in which role, and why.
pub fn approved(record: &Record) -> Option<String> {
    let approved = record.authority.as_ref()?.approved.as_ref()?;
    Some(format!("{} ({}): {}", approved.by, approved.role, approved.reason))
}

/// How a service stood before a change of its primary: first in one line, then each finding.
pub fn before(record: &Record) -> Vec<(String, Mood)> {
    let Some(before) = &record.readiness else {
        let told = if record.trigger == Trigger::Bootstrap {
            ("nothing to look at: it had no primary yet", Mood::Plain)
        } else {
            ("unknown: the voter that began it had not looked", Mood::Odd)
        };
        return vec![(told.0.to_owned(), told.1)];
    };
    let ago = span(Duration::from_millis(before.age_ms));
    let first = format!("{}, looked at {ago} before it was begun", before.level.name());
    let mut lines = vec![(first, level(before.level))];
    for known in &before.findings {
        let who = known.instance.as_ref().map_or_else(String::new, |id| format!("{id}: "));
        let only =
            known.site.as_ref().map_or_else(String::new, |s| format!(", should {s} be lost"));
        let (name, check) = (known.level.name(), &known.check);
        lines.push((format!("{check} ({name}{only}): {who}{}", known.text), level(known.level)));
    }
    if before.more > 0 {
        lines.push((format!("and {} more", before.more), Mood::Plain));
    }
    lines
}

/// Whether a site could be lost.
pub const fn ready(level: Level) -> (&'static str, Mood) {
    match level {
        Level::Good => ("yes", Mood::Good),
        Level::Warning => ("yes (!)", Mood::Odd),
        Level::Unknown => ("unknown", Mood::Odd),
        Level::Blocks => ("NO", Mood::Bad),
    }
}

/// What would follow the loss of a site.
pub fn then(verdict: &SiteVerdict) -> String {
    let target = verdict.target.as_ref().map_or("nobody", |target| target.as_str());
    match verdict.outcome {
        Then::GoesOn => format!("{target} stays"),
        Then::FailsOver => format!("{target} takes over"),
        Then::Waits => "commits wait".to_owned(),
    }
}

/// Whether it is proven that nothing would be lost.
pub const fn proven(zero: Option<bool>) -> (&'static str, Mood) {
    match zero {
        Some(true) => ("proven", Mood::Good),
        Some(false) => ("NO", Mood::Bad),
        None => ("unknown", Mood::Odd),
    }
}

/// How long a failover would take.
pub fn total(rto: &Rto) -> String {
    let ms = |ms| span(Duration::from_millis(ms));
    rto.total_ms.map_or_else(|| format!("> {}", ms(rto.at_least_ms)), ms)
}

/// How good something is that readiness looked at.
pub const fn level(level: Level) -> Mood {
    match level {
        Level::Good => Mood::Good,
        Level::Warning | Level::Unknown => Mood::Odd,
        Level::Blocks => Mood::Bad,
    }
}

/// A length of time as people say it.
pub fn span(length: Duration) -> String {
    let ms = length.as_millis();
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        60_000..3_600_000 => format!("{} min {} s", ms / 60_000, ms % 60_000 / 1_000),
        3_600_000..86_400_000 => format!("{} h {} min", ms / 3_600_000, ms % 3_600_000 / 60_000),
        _ => format!("{} d {} h", ms / 86_400_000, ms % 86_400_000 / 3_600_000),
    }
}

/// An age: `0.4 s`, or `unknown` when there is none.
pub fn age(ms: Option<u64>) -> String {
    ms.map_or_else(|| "unknown".to_owned(), |ms| span(Duration::from_millis(ms)))
}

/// A number of bytes as people say it.
pub fn bytes(count: u64) -> String {
    match count {
        0..1_024 => format!("{count} B"),
        1_024..1_048_576 => format!("{} kB", count / 1_024),
        1_048_576..1_073_741_824 => format!("{} MB", count / 1_048_576),
        _ => format!("{} GB", count / 1_073_741_824),
    }
}
