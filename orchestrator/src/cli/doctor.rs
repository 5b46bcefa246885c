//! `baton doctor`: what can be checked from the operator's desk, with what to do about it.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use failover::topology::Timing;
use orchestrator::answers::{DeclaredTopology, Status};
use orchestrator::remarks;
use serde::Serialize;
use tokio::task::JoinSet;
use wire::clock;
use wire::config::duration;
use wire::http::{Client, HttpError};
use wire::tls::{Files, Identity};

use crate::client::{Cluster, Failure};
use crate::screen::{Mood, print, tinted};
use crate::settings::Settings;
use crate::verbs::Globals;

/// A certificate with fewer days left is worth a warning.
const DAYS: i64 = 30;

/// Clocks that differ by more make times in reports hard to read. (They decide nothing.)
const CLOCK_MS: i64 = 1_000;

/// One thing looked at.
#[derive(Clone, Debug, Serialize)]
struct Check {
    subject: String,
    well: bool,
    text: String,
}

impl Check {
    fn new(subject: impl Into<String>, well: bool, text: impl Into<String>) -> Self {
        Self { subject: subject.into(), well, text: text.into() }
    }
}

pub async fn run(globals: &Globals) -> Result<u8, Failure> {
    let settings = Settings::load(globals)?;
    let mut checks = vec![Check::new(
        "configuration",
        true,
        format!("{}: cluster {}", settings.file.display(), settings.cluster),
    )];
    checks.push(certificate("operator's certificate", &settings.tls));
    let probe = Files {
        ca: settings.tls.ca.clone(),
        certificate: settings.beside("probe.crt"),
        key: settings.beside("probe.key"),
    };
    checks.push(probe_certificate(&probe));
    if let Some(file) = &settings.topology {
        checks.push(topology_file(&settings, file));
    }
    let cluster = Cluster::open(&settings, globals)?;
    checks.extend(voters(&cluster).await);
    match cluster.get::<DeclaredTopology>("/v1/topology").await {
        Ok(declared) => checks.push(timing(&declared.topology.timing)),
        Err(failure) => checks.push(Check::new("timing law", false, failure.problem.error)),
    }
    let before = clock::now();
    match cluster.status().await {
        Ok(status) => {
            checks.push(clock_of(&status, clock::now().since(before)));
            checks.extend(running(&status));
        }
        Err(failure) => checks.push(Check::new("status", false, failure.problem.error)),
    }
    let well = checks.iter().all(|check| check.well);
    print(globals.output, &checks, &text(&checks, well))?;
    Ok(if well { wire::exit::OK } else { wire::exit::FAILED })
}

fn certificate(subject: &str, files: &Files) -> Check {
    match Identity::load(files) {
        Ok(identity) => {
            let days = (identity.not_after().0 - clock::wall().0) / 86_400_000;
            let text = format!("{}, {days} days left", identity.peer());
            Check::new(subject, days > DAYS, text)
        }
        Err(error) => Check::new(subject, false, error.to_string()),
    }
}

fn probe_certificate(files: &Files) -> Check {
    let subject = "probe's certificate";
    match wire::tls::postgres_client(files) {
        Ok(_) => Check::new(subject, true, files.certificate.display().to_string()),
        Err(error) => Check::new(subject, false, error.to_string()),
    }
}

fn topology_file(settings: &Settings, file: &Path) -> Check {
    match settings.topology(None) {
        Ok(_) => Check::new("topology file", true, file.display().to_string()),
        Err(failure) => Check::new("topology file", false, failure.problem.error),
    }
}

async fn voters(cluster: &Cluster) -> Vec<Check> {
    let mut asked = JoinSet::new();
    for client in cluster.clients() {
        asked.spawn(voter(client.clone(), cluster.timeout()));
    }
    let mut checks = asked.join_all().await;
    checks.sort_by(|a, b| a.subject.cmp(&b.subject));
    checks
}

async fn voter(client: Client, timeout: Duration) -> Check {
    let subject = format!("voter {}", client.address());
    let before = clock::now();
    let asked: Result<serde_json::Value, HttpError> = client.get("/livez", timeout).await;
    let took = clock::now().since(before);
    match asked {
        Ok(_) => Check::new(subject, true, format!("answers in {} ms", took.as_millis())),
        Err(error) => Check::new(subject, false, error.to_string()),
    }
}

/// How the clock of the voter that answered stands to ours. Clocks decide nothing; they date.
fn clock_of(status: &Status, took: Duration) -> Check {
    // It was read about half-way.
    let half = i64::try_from(took.as_millis() / 2).unwrap_or(0);
    let apart = status.at.0 - (clock::wall().0 - half);
    let text = format!("differs by {apart} ms from the one here");
    let subject = format!("clock of {}", status.answered_by.name);
    Check::new(subject, apart.abs() <= CLOCK_MS + half, text)
}

fn timing(timing: &Timing) -> Check {
    let rate = timing.clock_rate_error_per_mille;
    let error = timing.suspect_after * rate / 1_000;
    let fenced = timing.fence_after + timing.fence_time + error;
    let text = format!(
        "fence_after {} + fence_time {} + clock error {} = {} {} suspect_after {}; \
         heartbeat {} * 4 = {} {} suspect_after; election_timeout {} {} suspect_after",
        duration::format(timing.fence_after),
        duration::format(timing.fence_time),
        duration::format(error),
        duration::format(fenced),
        if fenced < timing.suspect_after { "<" } else { ">= (VIOLATED)" },
        duration::format(timing.suspect_after),
        duration::format(timing.heartbeat),
        duration::format(timing.heartbeat * 4),
        if timing.heartbeat * 4 <= timing.suspect_after { "<=" } else { "> (VIOLATED)" },
        duration::format(timing.election_timeout),
        if timing.election_timeout < timing.suspect_after { "<" } else { ">= (VIOLATED)" },
    );
    Check::new("timing law", !text.contains("VIOLATED"), text)
}

fn running(status: &Status) -> Vec<Check> {
    let mut checks = Vec::new();
    for service in &status.services {
        let versions: Vec<_> = service
            .instances
            .iter()
            .map(|instance| {
                let version = instance.version.as_deref().unwrap_or("unknown");
                format!("{} {version}", instance.instance)
            })
            .collect();
        let known: std::collections::BTreeSet<_> =
            service.instances.iter().map(|instance| major(instance.version.as_deref())).collect();
        let well = known.len() == 1 && !known.contains(&None);
        let subject = format!("PostgreSQL of {}", service.service);
        checks.push(Check::new(subject, well, versions.join(", ")));
    }
    for (_, problem) in remarks::problems(status) {
        checks.push(Check::new("status", false, problem));
    }
    checks
}

/// The part of a version that instances of one service must share.
fn major(version: Option<&str>) -> Option<&str> {
    version.and_then(|version| version.split('.').next()).filter(|major| !major.is_empty())
}

fn text(checks: &[Check], well: bool) -> String {
    let mut text = String::new();
    for check in checks {
        let (mark, mood) = if check.well { ("ok ", Mood::Good) } else { ("BAD", Mood::Bad) };
        let _ = writeln!(text, "{} {}: {}", tinted(mark, mood), check.subject, check.text);
    }
    let bad = checks.iter().filter(|check| !check.well).count();
    text.push_str(&if well {
        tinted("nothing is wrong", Mood::Good)
    } else {
        tinted(&format!("{bad} things are wrong"), Mood::Bad)
    });
    text
}
