//! `baton alerts` and `baton ack`: what somebody must know, and who has taken it on.

use std::fmt::Write as _;
use std::time::Duration;

use clap::{Args, Subcommand};
use failover::Request;
use failover::alert::{AlertKey, Severity, Standing};
use orchestrator::answers::{Alerts, ChannelTest, ChannelsTested, TestChannels};
use serde::Serialize;
use wire::http::HttpError;

use crate::client::{Cluster, Failure, failure_of};
use crate::screen::{Mood, cell, lines, print, remark, span, table};
use crate::verbs::Globals;

/// How long one voter may take to try all of its channels.
const TEST: Duration = Duration::from_secs(70);

/// `baton alerts`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  baton alerts
  baton alerts -o json
  baton ack clinic/single-copy --reason \"the disk is being replaced\"
  baton alerts test
  baton alerts test --channel pager

An alert stands while what it names is wrong. The leader tells it to every [[channel]] of its
configuration file, and tells what is critical again until somebody acknowledges it.

Exit status of `list`: 0 nothing critical stands, 1 something does. Of `test`: 0 every channel was
told, 1 one was not, or a voter has none.")]
pub struct Arguments {
    #[command(subcommand)]
    pub verb: Option<AlertsVerb>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum AlertsVerb {
    /// What stands, since when, who was told and who has taken it on (the default)
    List,
    /// Have every voter tell its channels something that is no alert
    Test {
        /// Only this one
        #[arg(long, value_name = "NAME")]
        channel: Option<String>,
    },
}

/// `baton ack`
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  baton ack clinic/single-copy --reason \"the disk is being replaced\"

Nobody is reminded of it any more. It stands until what it names is over; should it get worse,
everybody is told, and it waits to be acknowledged again.")]
pub struct Ack {
    /// Which: see `baton alerts`
    pub alert: AlertKey,
    /// What is being done about it, for the record
    #[arg(long)]
    pub reason: String,
}

pub async fn run(globals: &Globals, arguments: Arguments) -> Result<u8, Failure> {
    match arguments.verb {
        None | Some(AlertsVerb::List) => list(globals).await,
        Some(AlertsVerb::Test { channel }) => test(globals, channel).await,
    }
}

pub async fn ack(globals: &Globals, arguments: Ack) -> Result<u8, Failure> {
    let Ack { alert, reason } = arguments;
    let request = Request::Acknowledge { alert, reason };
    let accepted = Cluster::of(globals)?.request(&request).await?;
    print(globals.output, &accepted, &accepted.text)?;
    Ok(wire::exit::OK)
}

async fn list(globals: &Globals) -> Result<u8, Failure> {
    let told: Alerts = Cluster::of(globals)?.get("/v1/alerts").await?;
    let standing = told.alerts.values().filter(|it| it.over.is_none());
    let critical = standing.filter(|it| it.alert.severity == Severity::Critical).count();
    print(globals.output, &told, &text(&told))?;
    Ok(if critical == 0 { wire::exit::OK } else { wire::exit::FAILED })
}

fn text(told: &Alerts) -> String {
    if told.alerts.is_empty() {
        return String::from("no alert stands");
    }
    let mut rows = table(&["ALERT", "severity", "for", "told", "acknowledged"]);
    let mut below = String::new();
    for (key, it) in &told.alerts {
        let mood = match (it.over, it.alert.severity) {
            (Some(_), _) => Mood::Good,
            (None, Severity::Critical) => Mood::Bad,
            (None, Severity::Warning) => Mood::Odd,
        };
        let severity = if it.over.is_some() { "over" } else { it.alert.severity.name() };
        let end = it.over.unwrap_or(told.at);
        let stood = u64::try_from(end.0.saturating_sub(it.since.0)).unwrap_or_default();
        rows.add_row([
            cell(key, mood),
            cell(severity, mood),
            cell(span(Duration::from_millis(stood)), Mood::Plain),
            cell(who_knows(it), Mood::Plain),
            cell(it.acknowledged.as_ref().map_or("-", |said| said.by.as_str()), Mood::Plain),
        ]);
        let _ = writeln!(below, "\n{key}: {}\n  {}", it.alert.summary, it.alert.remedy);
        if let Some(said) = &it.acknowledged {
            let _ = writeln!(below, "  {} says: {}", said.by, said.reason);
        }
        for (channel, told) in &it.told {
            if let Some(why) = &told.failed {
                let _ = writeln!(below, "  {channel} could not be told: {why}");
            }
        }
    }
    format!("{}{below}", lines(&rows))
}

fn who_knows(it: &Standing) -> String {
    let knows = it.told.iter().filter(|(_, told)| told.standing.is_some());
    let names: Vec<&str> = knows.map(|(channel, _)| channel.as_str()).collect();
    if names.is_empty() { String::from("nobody yet") } else { names.join(", ") }
}

/// What one voter says.
#[derive(Serialize)]
struct Tested {
    address: std::net::SocketAddr,
    voter: Option<String>,
    channels: Vec<ChannelTest>,
    error: Option<String>,
}

async fn test(globals: &Globals, channel: Option<String>) -> Result<u8, Failure> {
    let cluster = Cluster::of(globals)?;
    remark(globals.output, "every voter tells its channels; a channel may take 10 s");
    let mut all = Vec::new();
    for client in cluster.clients() {
        let asked = TestChannels { channel: channel.clone() };
        let address = client.address();
        let told: Result<ChannelsTested, _> = client.post("/v1/alerts/test", &asked, TEST).await;
        all.push(match told {
            Ok(told) => {
                Tested { address, voter: Some(told.voter), channels: told.channels, error: None }
            }
            // Another voter would say the same.
            Err(error @ HttpError::Status { code: 403, .. }) => return Err(failure_of(&error)),
            Err(error) => {
                let error = Some(error.to_string());
                Tested { address, voter: None, channels: Vec::new(), error }
            }
        });
    }
    let mut rows = table(&["VOTER", "channel", "kind", "from", "outcome"]);
    let mut good = true;
    for tested in &all {
        let voter = tested.voter.clone().unwrap_or_else(|| tested.address.to_string());
        let nothing = match &tested.error {
            Some(error) => Some(error.clone()),
            None if tested.channels.is_empty() => Some(String::from("it has no such channel")),
            None => None,
        };
        if let Some(why) = nothing {
            good = false;
            rows.add_row([
                cell(&voter, Mood::Plain),
                cell("-", Mood::Plain),
                cell("-", Mood::Plain),
                cell("-", Mood::Plain),
                cell(why, Mood::Bad),
            ]);
        }
        for it in &tested.channels {
            good &= it.failed.is_none();
            let (outcome, mood) = match &it.failed {
                None => ("told", Mood::Good),
                Some(why) => (why.as_str(), Mood::Bad),
            };
            rows.add_row([
                cell(&voter, Mood::Plain),
                cell(&it.channel, Mood::Plain),
                cell(it.kind, Mood::Plain),
                cell(it.least, Mood::Plain),
                cell(outcome, mood),
            ]);
        }
    }
    print(globals.output, &all, &lines(&rows))?;
    Ok(if good { wire::exit::OK } else { wire::exit::FAILED })
}
