//! Evidence of one change of primary: what an auditor is handed, signed by the voter that made it.
//!
//! A bundle is one line of JSON: the evidence, the voter's public key, and an Ed25519 signature
//! over the bytes of the evidence. It carries the slice of the audit chain from the entry that
//! began the change to the one that ended it, so that what it tells can be held against what was on
//! record. Whoever has it needs no cluster to verify it; that the key is really that voter's is on
//! the audit record, too.

pub mod drill;
mod frame;
pub mod key;
mod story;
#[cfg(test)]
mod tests;

use failover::cluster::{Outcome, Record, StepRecord};
use failover::ids::{InstanceId, ServiceId, SiteId};
use failover::position::Position;
use failover::topology::Topology;
use failover::{Role, Timestamp};
use serde::{Deserialize, Serialize};

use crate::answers::{NameServerStatus, Status};
use crate::audit::Head;

pub use frame::hex;
pub use story::{Search, Story};

/// The form that this version writes, and the only one that it reads.
pub const FORMAT: u32 = 1;
/// The largest bundle, in bytes.
pub const BUNDLE_BYTES: usize = 16 << 20;
/// A change of primary is expected to take no longer than this, in milliseconds.
pub const GOAL_MS: u64 = 10_000;

/// One change of primary, told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
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
    /// The change: who asked and why, every step with its epoch, actor and both clocks, positions,
    /// who was examined and why the others were not chosen, how it ended.
    pub transition: Record,
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
    /// The audit records from the one that began the change to the last of its steps.
    pub audit: Slice,
}

/// One instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seen {
    /// Which.
    pub instance: InstanceId,
    /// Where.
    pub site: SiteId,
    /// Its versions of baton and PostgreSQL, as it says itself; `None`: not heard.
    pub version: Option<String>,
    /// What it was to be.
    pub assigned: Role,
    /// Where it stood.
    pub position: Option<Position>,
    /// How old that word was.
    pub age_ms: Option<u64>,
}

/// A part of the audit chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slice {
    /// What the first line stands after.
    pub after: Head,
    /// The records, as they are exported.
    pub lines: Vec<String>,
    /// The last of them.
    pub head: Head,
}

/// Milliseconds between two steps: by the monotonic clock where one voter wrote both, else by the
/// wall.
#[must_use]
pub fn between_ms(earlier: &StepRecord, later: &StepRecord) -> u64 {
    if earlier.voter == later.voter && later.monotonic_us >= earlier.monotonic_us {
        (later.monotonic_us - earlier.monotonic_us) / 1_000
    } else {
        later.at.0.saturating_sub(earlier.at.0).max(0).unsigned_abs()
    }
}

/// What was not as it should be.
#[must_use]
pub fn deviations(record: &Record, name_servers: &[NameServerStatus]) -> Vec<String> {
    let mut found = Vec::new();
    match &record.outcome {
        Outcome::Open => found.push("it is not over yet".into()),
        Outcome::Done => {}
        Outcome::Aborted(reason) => found.push(format!("it was rolled back: {reason}")),
        Outcome::Superseded(by) => found.push(format!("transition {by} took over")),
    }
    for pair in record.steps.windows(2) {
        if let [earlier, later] = pair
            && earlier.voter != later.voter
        {
            found.push(format!(
                "the leader changed before `{}`: voter {} went on for voter {}, and that phase is \
                 measured by wall clocks",
                later.name, later.voter, earlier.voter
            ));
        }
    }
    let total: u64 = record.steps.windows(2).map(|pair| between_ms(&pair[0], &pair[1])).sum();
    if total > GOAL_MS {
        found.push(format!("it took {total} ms, and the goal is {GOAL_MS} ms"));
    }
    for one in record.examined.iter().filter(|one| one.position.is_none()) {
        found.push(format!("{} was not heard: {}", one.instance, one.verdict));
    }
    let silent = name_servers.iter().filter(|server| {
        use failover::report::NameServerAnswer as Answer;
        !matches!(&server.asked, Some(Answer::Serves { .. }))
    });
    found.extend(silent.map(|server| format!("name server {} gave no answer", server.server)));
    found
}

/// Puts a bundle together, unsigned.
#[must_use]
pub fn evidence(
    (made_by, made_at): (String, Timestamp),
    record: &Record,
    status: &Status,
    topology: Topology,
    audit: Slice,
) -> Evidence {
    Evidence {
        format: FORMAT,
        cluster: status.cluster.clone(),
        made_by,
        made_at,
        version: env!("CARGO_PKG_VERSION").into(),
        transition: record.clone(),
        topology_version: status.topology_version,
        topology,
        instances: seen(status, &record.service),
        name_servers: status.name_servers.clone(),
        deviations: deviations(record, &status.name_servers),
        audit,
    }
}

/// How the instances of a service stand.
fn seen(status: &Status, service: &ServiceId) -> Vec<Seen> {
    let service = status.services.iter().find(|status| status.service == *service);
    let instances = service.map(|service| service.instances.as_slice()).unwrap_or_default();
    let seen = instances.iter().map(|one| Seen {
        instance: one.instance.clone(),
        site: one.site.clone(),
        version: one.version.clone(),
        assigned: one.assigned.clone(),
        position: one.position.clone(),
        age_ms: one.age_ms,
    });
    seen.collect()
}

/// A bundle: the evidence signed with `key`.
///
/// # Errors
/// When the evidence cannot be written as JSON.
pub fn sign(evidence: &Evidence, key: &key::Key) -> Result<String, String> {
    let body = serde_json::to_string(evidence).map_err(|error| error.to_string())?;
    Ok(frame::TRANSITION.sign(&body, key))
}

/// A bundle that stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// What it tells.
    pub evidence: Evidence,
    /// The key that signed it, in hexadecimal.
    pub key: String,
}

/// Verifies a bundle byte for byte: its signature, its slice of the audit chain, and that every
/// step it tells of is on record there.
///
/// # Errors
/// The first thing that does not stand.
pub fn verify(bundle: &str) -> Result<Verified, String> {
    let (body, key) = frame::TRANSITION.open(bundle)?;
    let evidence: Evidence = serde_json::from_str(body)
        .map_err(|error| format!("it is signed, and of another version: {error}"))?;
    if evidence.format != FORMAT {
        return Err(format!("it is of format {}, and this is {FORMAT}", evidence.format));
    }
    Story::of_transition(&evidence.transition).on_record(&evidence.audit)?;
    Ok(Verified { evidence, key: key.to_owned() })
}
