//! Evidence of one change of primary: what an auditor is handed, signed by the voter that made it.
//!
//! A bundle is one line of JSON: the evidence, the voter's public key, and an Ed25519 signature
//! over the bytes of the evidence. It carries the slice of the audit chain from the entry that
//! began the change to the one that ended it, so that what it tells can be held against what was on
//! record. Whoever has it needs no cluster to verify it; that the key is really that voter's is on
//! the audit record, too.

pub mod key;
#[cfg(test)]
mod tests;

use failover::cluster::{Outcome, Record, StepRecord};
use failover::event::{Change, Event, ServiceChange};
use failover::ids::{InstanceId, SiteId};
use failover::position::Position;
use failover::topology::Topology;
use failover::{Role, Timestamp};
use ring::signature::{ED25519, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

use crate::answers::{NameServerStatus, Status};
use crate::audit::{self, Head};

/// The form that this version writes, and the only one that it reads.
pub const FORMAT: u32 = 1;
/// The largest bundle, in bytes.
pub const BUNDLE_BYTES: usize = 16 << 20;
/// A change of primary is expected to take no longer than this, in milliseconds.
pub const GOAL_MS: u64 = 10_000;

/// What is signed with the evidence, so that a signature is good for nothing else.
const PURPOSE: &[u8] = b"baton evidence 1\n";
const BEGIN: &str = "{\"evidence\":";
const BEFORE_KEY: &str = ",\"key\":\"";
const BEFORE_SIGNATURE: &str = "\",\"signature\":\"";
const END: &str = "\"}\n";

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

/// Finds the slice of a transition while the audit chain is read from its beginning.
#[derive(Debug)]
pub struct Search<'a> {
    record: &'a Record,
    reached: Head,
    found: Option<Slice>,
    /// How much of the slice is certain: up to the last line that is a step of this transition.
    certain: usize,
}

impl<'a> Search<'a> {
    /// For this transition.
    #[must_use]
    pub fn new(record: &'a Record) -> Self {
        Self { record, reached: Head::default(), found: None, certain: 0 }
    }

    /// Takes the next line; `true`: there is nothing more to find.
    ///
    /// # Errors
    /// When the line does not follow the one before it.
    pub fn take(&mut self, line: &str) -> Result<bool, String> {
        let before = self.reached;
        self.reached = audit::follow(&before, line)?;
        let step = step_of(self.record, line);
        if self.found.is_none() && step == Some(0) {
            self.found = Some(Slice { after: before, lines: Vec::new(), head: before });
        }
        let Some(slice) = &mut self.found else { return Ok(false) };
        slice.lines.push(line.to_owned());
        if step.is_some() {
            self.certain = slice.lines.len();
            slice.head = self.reached;
        }
        Ok(step.is_some_and(|step| step + 1 == self.record.steps.len()))
    }

    /// What was found.
    #[must_use]
    pub fn done(self) -> Option<Slice> {
        let mut slice = self.found?;
        slice.lines.truncate(self.certain);
        Some(slice)
    }
}

/// What an audit record says of any transition of the service, if it does.
fn move_of(record: &Record, line: &str) -> Option<Event> {
    let read = audit::read(line).ok().filter(|read| read.effect)?;
    let event: Event = serde_json::from_value(read.event).ok()?;
    let Change::Service { service, change, .. } = &event.change else { return None };
    let moves = match change {
        ServiceChange::Started { .. }
        | ServiceChange::StepDone
        | ServiceChange::PrimaryChosen { .. }
        | ServiceChange::Aborted => true,
        ServiceChange::RuleRecorded { .. }
        | ServiceChange::Identified { .. }
        | ServiceChange::Doubted { .. }
        | ServiceChange::Settled { .. }
        | ServiceChange::Forgone { .. }
        | ServiceChange::Held { .. }
        | ServiceChange::Resumed => false,
    };
    (moves && *service == record.service).then_some(event)
}

/// Which step of this transition an audit record is, if it is one.
fn step_of(record: &Record, line: &str) -> Option<usize> {
    let event = move_of(record, line)?;
    record.steps.iter().position(|step| is_step(step, &event))
}

fn is_step(step: &StepRecord, event: &Event) -> bool {
    step.at == event.stamp.at
        && step.voter == event.stamp.voter
        && step.monotonic_us == event.stamp.monotonic_us
        && step.note == event.cause
}

/// Whether the report says of a step what its record says.
fn agrees(record: &Record, event: &Event) -> bool {
    let Change::Service { change, .. } = &event.change else { return false };
    if let ServiceChange::Started { trigger, .. } = change {
        return *trigger == record.trigger
            && event.by == record.by
            && event.cause == record.cause
            && event.plan == record.plan;
    }
    if let ServiceChange::PrimaryChosen { primary, examined, .. } = change {
        return record.to.as_ref() == Some(primary) && *examined == record.examined;
    }
    true
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
    let service = status.services.iter().find(|service| service.service == record.service);
    let instances = service.map(|service| service.instances.as_slice()).unwrap_or_default();
    let seen = instances.iter().map(|one| Seen {
        instance: one.instance.clone(),
        site: one.site.clone(),
        version: one.version.clone(),
        assigned: one.assigned.clone(),
        position: one.position.clone(),
        age_ms: one.age_ms,
    });
    Evidence {
        format: FORMAT,
        cluster: status.cluster.clone(),
        made_by,
        made_at,
        version: env!("CARGO_PKG_VERSION").into(),
        transition: record.clone(),
        topology_version: status.topology_version,
        topology,
        instances: seen.collect(),
        name_servers: status.name_servers.clone(),
        deviations: deviations(record, &status.name_servers),
        audit,
    }
}

/// A bundle: the evidence signed with `key`.
///
/// # Errors
/// When the evidence cannot be written as JSON.
pub fn sign(evidence: &Evidence, key: &key::Key) -> Result<String, String> {
    let body = serde_json::to_string(evidence).map_err(|error| error.to_string())?;
    let signature = hex(&key.sign(&message(&body)));
    let public = key.public();
    Ok([BEGIN, &body, BEFORE_KEY, &public, BEFORE_SIGNATURE, &signature, END].concat())
}

fn message(body: &str) -> Vec<u8> {
    [PURPOSE, body.as_bytes()].concat()
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
    let unlike = "it is no bundle of evidence, or its frame was changed";
    let rest = bundle.strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix(END)).ok_or(unlike)?;
    let (rest, signature) = rest.rsplit_once(BEFORE_SIGNATURE).ok_or(unlike)?;
    let (body, public) = rest.rsplit_once(BEFORE_KEY).ok_or(unlike)?;
    let key = unhex(public).filter(|key| key.len() == 32).ok_or("its key is no key")?;
    let signed = unhex(signature).filter(|s| s.len() == 64).ok_or("its signature is none")?;
    UnparsedPublicKey::new(&ED25519, key)
        .verify(&message(body), &signed)
        .map_err(|_| "its signature is not of what it says: it was changed after it was signed")?;
    let evidence: Evidence = serde_json::from_str(body)
        .map_err(|error| format!("it is signed, and of another version: {error}"))?;
    if evidence.format != FORMAT {
        return Err(format!("it is of format {}, and this is {FORMAT}", evidence.format));
    }
    on_record(&evidence)?;
    Ok(Verified { evidence, key: public.to_owned() })
}

/// Whether what is told is what was on record.
fn on_record(evidence: &Evidence) -> Result<(), String> {
    let Slice { after, lines, head } = &evidence.audit;
    let record = &evidence.transition;
    let mut reached = *after;
    let mut steps = record.steps.iter();
    for line in lines {
        let number = reached.number + 1;
        reached = audit::follow(&reached, line).map_err(|e| format!("record {number}: {e}"))?;
        let Some(event) = move_of(record, line) else { continue };
        let told = steps.next().is_some_and(|step| is_step(step, &event));
        if !told || !agrees(record, &event) {
            return Err(format!("record {number} says something else than the report"));
        }
    }
    if reached != *head {
        return Err(format!("its records end with {reached}, and should with {head}"));
    }
    if record.steps.is_empty() || steps.next().is_some() {
        return Err("a step that it tells of is not on record".into());
    }
    Ok(())
}

/// Bytes in hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Bytes from hexadecimal, in lower case only.
fn unhex(text: &str) -> Option<Vec<u8>> {
    let plain = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if !text.len().is_multiple_of(2) || !text.bytes().all(plain) {
        return None;
    }
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}
