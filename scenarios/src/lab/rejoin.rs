//! Watching a site come back until its instance is a synchronous standby again.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use failover::time::Moment;
use failover::{InstanceId, report::Server};
use wire::clock;

use super::answers::{Instance, Status};
use super::cluster::Cluster;
use super::directory::GENEROUS;
use super::journal::millis;
use super::layout::Kind;
use super::screen::Tone;
use super::stop::Stop;
use super::timeline::Timeline;

/// How an instance came back.
#[derive(Clone, Debug, PartialEq)]
pub struct Rejoined {
    /// How long it took, in milliseconds.
    pub millis: f64,
    /// `rewind`, `clone`, or `stream` when neither was needed.
    pub method: String,
}

/// Waits until the instance of `site` is in the synchronous rule and streams; `line` hears of
/// everything on the way.
///
/// # Errors
/// When that takes longer than generous bounds.
pub fn rejoin(
    cluster: &Cluster,
    site: &str,
    began: Moment,
    stop: &Stop,
    mut line: Option<&mut Timeline>,
) -> Result<Rejoined> {
    let name = format!("{site}-1");
    let mut told = BTreeSet::new();
    let mut method = None;
    let every = Duration::from_millis(100);
    stop.until(&format!("{name} synchronous again"), GENEROUS, every, || {
        let Ok(status) = cluster.status() else {
            stop.check()?;
            return Ok(None);
        };
        let now = clock::now();
        // Once it had to be copied, it was not the rewind that brought it back.
        if method != Some("clone") {
            method = way(&status, &name).or(method);
        }
        for (word, text) in news(&status, site, &name) {
            if told.insert(text.clone())
                && let Some(line) = &mut line
            {
                line.add(now, Tone::Plain, word, &text);
            }
        }
        if let Some(line) = &mut line {
            for notice in cluster.notices() {
                line.add(now, Tone::Notable, "notice", &notice);
            }
            line.show(now);
        }
        Ok(status.is_synchronous(&name).then_some(()))
    })?;
    let ended = clock::now();
    if let Some(line) = &mut line {
        let text = format!("{name} streams, and commits wait for it");
        line.add(ended, Tone::Good, "complete", &text);
        line.finish();
    }
    let method = method.or_else(|| method_in_log(cluster, site)).unwrap_or("stream").to_owned();
    Ok(Rejoined { millis: millis(began.0, ended.0), method })
}

/// What the status says of a site that is coming back.
fn news(status: &Status, site: &str, name: &str) -> Vec<(&'static str, String)> {
    let mut news = Vec::new();
    if status.voters.iter().any(|voter| voter.name == site && voter.state == "follower") {
        news.push(("voting", format!("the voter of {site} follows again")));
    }
    for server in &status.name_servers {
        if server.site.as_str() == site && server.serves(status.zone_version) {
            let version = status.zone_version;
            news.push(("answering", format!("{} serves version {version}", server.server)));
        }
    }
    let found = status.service().into_iter().flat_map(|service| &service.instances);
    for instance in found.filter(|instance| is(&instance.instance, name)) {
        news.extend(news_of(instance, name));
    }
    news
}

fn news_of(instance: &Instance, name: &str) -> Vec<(&'static str, String)> {
    let mut news: Vec<(&'static str, String)> = Vec::new();
    for note in &instance.notes {
        news.push(("working", format!("{}: {}", note.subject, note.text)));
    }
    match &instance.reported {
        Some(Server::Starting) => news.push(("starting", format!("PostgreSQL of {name}"))),
        Some(Server::Recovery { .. }) => {
            news.push(("standby", format!("PostgreSQL of {name} is in recovery")));
        }
        Some(Server::Absent | Server::Refused(_) | Server::Down(_) | Server::Writable { .. })
        | None => {}
    }
    if instance.streaming == Some(true) {
        news.push(("streaming", format!("{name} receives from the new primary")));
    }
    news
}

/// How an instance is being brought back just now. A clone may follow on a rewind that failed.
fn way(status: &Status, name: &str) -> Option<&'static str> {
    let found = status.service()?.instances.iter().find(|found| is(&found.instance, name))?;
    let doing = |subject: &str| found.notes.iter().any(|note| note.subject == subject);
    if doing("clone") {
        Some("clone")
    } else if doing("rewind") {
        Some("rewind")
    } else {
        None
    }
}

fn is(instance: &InstanceId, name: &str) -> bool {
    instance.as_str() == name
}

/// The agent's own words, for a rewind that was over between two looks.
fn method_in_log(cluster: &Cluster, site: &str) -> Option<&'static str> {
    let text = std::fs::read_to_string(cluster.layout.log(site, Kind::Agent)).ok()?;
    // Only what it said since its last start; its log began with the first.
    let tail: Vec<&str> = text.lines().rev().take(200).collect();
    let says = |word: &str| tail.iter().position(|line| line.contains(word));
    match (says("pg_rewind"), says("pg_basebackup")) {
        (Some(rewind), Some(clone)) if clone < rewind => Some("clone"),
        (Some(_), _) => Some("rewind"),
        (None, Some(_)) => Some("clone"),
        (None, None) => None,
    }
}
