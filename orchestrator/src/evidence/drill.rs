//! Evidence of one drill: what it looked at, the changes of primary that it made, and how it ended.

#[cfg(test)]
mod tests;

use failover::Timestamp;
use failover::cluster::Record;
use failover::drill::{Drill, Outcome};
use failover::readiness::{CONTRACT, Level};
use failover::topology::Topology;
use serde::{Deserialize, Serialize};

use super::frame::DRILL;
use super::key::Key;
use super::story::Story;
use super::{FORMAT, Seen, Slice, between_ms, deviations, seen};
use crate::answers::{NameServerStatus, Status};

/// One drill, told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DrillEvidence {
    /// [`FORMAT`].
    pub format: u32,
    /// The cluster.
    pub cluster: String,
    /// The voter that made this bundle.
    pub made_by: String,
    /// When, by its wall clock.
    pub made_at: Timestamp,
    /// Its version of baton.
    pub version: String,
    /// The drill: who asked and why, what readiness said, every stage, how it ended.
    pub drill: Drill,
    /// Every change of its service's primary that began while it was open.
    pub transitions: Vec<Record>,
    /// Version of the topology when the bundle was made.
    pub topology_version: u64,
    /// What was declared when the bundle was made.
    pub topology: Topology,
    /// The service's instances when the bundle was made.
    pub instances: Vec<Seen>,
    /// What each name server answered last when the bundle was made.
    pub name_servers: Vec<NameServerStatus>,
    /// What was not as it should be.
    pub deviations: Vec<String>,
    /// The audit records from the one that began the drill to the last of its steps.
    pub audit: Slice,
}

/// Whether a bundle is about a drill.
#[must_use]
pub fn is_of_drill(bundle: &str) -> bool {
    DRILL.is_of(bundle)
}

/// Puts a bundle together, unsigned.
#[must_use]
pub fn evidence(
    (made_by, made_at): (String, Timestamp),
    (drill, transitions): (Drill, Vec<Record>),
    status: &Status,
    topology: Topology,
    audit: Slice,
) -> DrillEvidence {
    let deviations = deviations_of(&drill, &transitions, &status.name_servers);
    DrillEvidence {
        format: FORMAT,
        cluster: status.cluster.clone(),
        made_by,
        made_at,
        version: env!("CARGO_PKG_VERSION").into(),
        instances: seen(status, &drill.service),
        drill,
        transitions,
        topology_version: status.topology_version,
        topology,
        name_servers: status.name_servers.clone(),
        deviations,
        audit,
    }
}

/// What was not as it should be.
#[must_use]
pub fn deviations_of(
    drill: &Drill,
    transitions: &[Record],
    name_servers: &[NameServerStatus],
) -> Vec<String> {
    let mut found = Vec::new();
    match &drill.outcome {
        Outcome::Passed => {}
        Outcome::Open => found.push("it is not over yet".into()),
        other @ (Outcome::Failed(why) | Outcome::Aborted(why) | Outcome::Overtaken(why)) => {
            found.push(format!("it {}: {why}", other.told()));
        }
    }
    if let Some(hours) = &drill.despite {
        found.push(format!("it was held against the calendar: {hours}"));
    }
    for verdict in drill.verdicts.iter().filter(|verdict| verdict.level != Level::Good) {
        let level = verdict.level.name();
        let why = verdict.findings.first().map_or("", |finding| finding.text.as_str());
        found.push(format!("the loss of {} was not good ({level}): {why}", verdict.site));
    }
    for record in transitions {
        if record.drill != Some(drill.id) {
            found.push(format!("transition {} was not the drill's", record.id));
        }
        let took: u64 = record.steps.windows(2).map(|pair| between_ms(&pair[0], &pair[1])).sum();
        if u128::from(took) > CONTRACT.as_millis() {
            let promised = CONTRACT.as_secs();
            found.push(format!("transition {}: {promised} s are promised", record.id));
        }
        let own = deviations(record, name_servers).into_iter();
        found.extend(own.map(|text| format!("transition {}: {text}", record.id)));
    }
    found
}

/// A bundle: the evidence signed with `key`.
///
/// # Errors
/// When the evidence cannot be written as JSON.
pub fn sign(evidence: &DrillEvidence, key: &Key) -> Result<String, String> {
    let body = serde_json::to_string(evidence).map_err(|error| error.to_string())?;
    Ok(DRILL.sign(&body, key))
}

/// A bundle that stands, and the key that signed it, in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// What it tells.
    pub evidence: DrillEvidence,
    /// The key that signed it, in hexadecimal.
    pub key: String,
}

/// Verifies a bundle byte for byte: its signature, its slice of the audit chain, and that every
/// step of the drill and of its changes of primary is on record there.
///
/// # Errors
/// The first thing that does not stand.
pub fn verify(bundle: &str) -> Result<Verified, String> {
    let (body, key) = DRILL.open(bundle)?;
    let evidence: DrillEvidence = serde_json::from_str(body)
        .map_err(|error| format!("it is signed, and of another version: {error}"))?;
    if evidence.format != FORMAT {
        return Err(format!("it is of format {}, and this is {FORMAT}", evidence.format));
    }
    Story::of_drill(&evidence.drill, &evidence.transitions).on_record(&evidence.audit)?;
    Ok(Verified { evidence, key: key.to_owned() })
}
