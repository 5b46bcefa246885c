//! The one document that the page and `baton watch` are drawn from: what a voter knows, with its
//! ages, in words.
//!
//! A voter that does not lead has the replicated state and no evidence. It adds what the leader
//! last told it, with how long ago that was, and says whose word it is: so it shows what it knows
//! also while nobody leads, and nothing of that passes for fresh (I-37).

mod graft;
mod hide;
mod reach;
mod readiness;

use std::collections::BTreeMap;

use failover::drill::{self, Drill};
use failover::ids::SiteId;
use serde::{Deserialize, Serialize};

use crate::answers::{Known, NameServerStatus, ServiceStatus, VoterRef};
use crate::remarks::{self, FOLLOWS_LIMIT_MS, LIMIT_MS};
use crate::sla;
use crate::words::{self, Mood};

pub use reach::{Plane, Reach, Seen};
pub use readiness::{SiteReady, verdicts};

/// After so long nobody knows any more what journals say: they are read once a minute.
const SLA_LIMIT_MS: u64 = 150_000;

/// `GET /v1/overview`, and what `GET /v1/events` tells piece by piece.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overview {
    /// What is known.
    #[serde(flatten)]
    pub known: Known,
    /// Which voter shows it.
    pub shown_by: VoterRef,
    /// Whose evidence it is; `None`: there is none.
    pub evidence: Option<Evidence>,
    /// After how long what was said is not known any more.
    pub limits: Limits,
    /// What is not as it should be, worst first.
    pub remarks: Vec<Remark>,
    /// Everybody in words.
    pub said: Said,
    /// Who reaches whom.
    pub reach: Vec<Reach>,
    /// Could each site be lost, as the leader last answered; empty: it has not.
    #[serde(default)]
    pub readiness: Vec<SiteReady>,
    /// How long ago.
    #[serde(default)]
    pub readiness_age_ms: Option<u64>,
    /// How much of the promised time each service was there, from the journals beside this voter;
    /// `None`: it has none, or they are being read.
    #[serde(default)]
    pub sla: Option<sla::Told>,
    /// How long ago they were read.
    #[serde(default)]
    pub sla_age_ms: Option<u64>,
}

/// Who gathered what is not in the replicated state, and how long ago it told so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// The leader that did.
    pub from: VoterRef,
    /// How long ago the voter that shows it was told; 0 where it leads itself.
    pub age_ms: u64,
}

/// Ages after which something is unknown, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Of reports, leases and looks.
    pub heard_ms: u64,
    /// Of what name servers tell of themselves.
    pub follows_ms: u64,
    /// Of whether a site could be lost.
    #[serde(default)]
    pub readiness_ms: u64,
    /// Of what journals say.
    #[serde(default)]
    pub sla_ms: u64,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remark {
    /// How bad it is.
    pub mood: Mood,
    /// In one line.
    pub text: String,
}

/// Everybody in words, by name or number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// Services: as a whole; `wanted` is whether zero loss is promised.
    pub services: BTreeMap<String, Words>,
    /// Instances: what they say they are, and are to be.
    pub instances: BTreeMap<String, Words>,
    /// Voters.
    pub voters: BTreeMap<String, Words>,
    /// Name servers.
    pub name_servers: BTreeMap<String, Words>,
    /// Changes of primary: how they ended.
    pub transitions: BTreeMap<String, Words>,
    /// Drills: how they ended.
    pub drills: BTreeMap<String, Words>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Words {
    /// How good it is.
    pub mood: Mood,
    /// What it is.
    pub is: String,
    /// What it is to be, or what is promised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted: Option<String>,
    /// What is not as it should be about it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
}

impl Words {
    fn new(mood: Mood, is: impl Into<String>) -> Self {
        Self { mood, is: is.into(), wanted: None, remarks: Vec::new() }
    }
}

impl Overview {
    /// What a voter knows itself, with what the leader told it so many milliseconds ago.
    #[must_use]
    pub fn of(own: Known, told: Option<(&Known, u64)>) -> Self {
        let shown_by = own.status.answered_by.clone();
        let leads = own.status.leader.as_ref() == Some(&shown_by);
        if leads {
            let evidence = Evidence { from: shown_by.clone(), age_ms: 0 };
            return Self::new(own, shown_by, Some(evidence));
        }
        let Some((told, age_ms)) = told else { return Self::new(own, shown_by, None) };
        let from = told.status.answered_by.clone();
        let known = graft::onto(own, told, age_ms);
        Self::new(known, shown_by, Some(Evidence { from, age_ms }))
    }

    fn new(known: Known, shown_by: VoterRef, evidence: Option<Evidence>) -> Self {
        let limits = Limits {
            heard_ms: LIMIT_MS,
            follows_ms: FOLLOWS_LIMIT_MS,
            readiness_ms: readiness::LIMIT_MS,
            sla_ms: SLA_LIMIT_MS,
        };
        let remarks = remarks::problems(&known.status);
        let remarks = remarks.into_iter().map(|(mood, text)| Remark { mood, text }).collect();
        let said = Said::of(&known);
        let reach = reach::matrix(&known.status);
        Self {
            known,
            shown_by,
            evidence,
            limits,
            remarks,
            said,
            reach,
            readiness: Vec::new(),
            readiness_age_ms: None,
            sla: None,
            sla_age_ms: None,
        }
    }

    /// The same with what the journals said so many milliseconds ago.
    #[must_use]
    pub fn with_sla(mut self, told: Option<(sla::Told, u64)>) -> Self {
        (self.sla, self.sla_age_ms) = told.unzip();
        self
    }

    /// The same for whoever shows no certificate: no person's name, no reason that a person gave,
    /// nothing that a machine quoted, no address.
    #[must_use]
    pub fn for_anyone(&self) -> Self {
        let known = hide::people(self.known.clone());
        Self {
            readiness: readiness::hidden(&self.readiness),
            readiness_age_ms: self.readiness_age_ms,
            sla: self.sla.as_ref().map(sla::Told::for_anyone),
            sla_age_ms: self.sla_age_ms,
            ..Self::new(known, self.shown_by.clone(), self.evidence.clone())
        }
    }

    /// The JSON of every part by its key, so that what has not changed need not be told again.
    ///
    /// # Errors
    /// None that is known: names, numbers and texts are always JSON.
    pub fn parts(&self, addresses: Addresses) -> serde_json::Result<BTreeMap<String, String>> {
        let mut whole = serde_json::to_value(self)?;
        if addresses == Addresses::Hidden {
            hide::addresses(&mut whole);
        }
        let serde_json::Value::Object(parts) = whole else { return Ok(BTreeMap::new()) };
        Ok(parts.into_iter().map(|(key, value)| (key, value.to_string())).collect())
    }

    /// The sites in their order.
    pub fn sites(&self) -> impl Iterator<Item = &SiteId> {
        self.known.status.sites.keys()
    }
}

/// Whether addresses are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addresses {
    /// They are.
    Told,
    /// Where none was shown.
    Hidden,
}

impl Said {
    fn of(known: &Known) -> Self {
        let status = &known.status;
        let name_server = |server: &NameServerStatus| name_server(server, status.zone_version);
        let instances = status.services.iter().flat_map(|service| &service.instances);
        Self {
            services: status.services.iter().map(|s| (s.service.to_string(), service(s))).collect(),
            instances: instances
                .map(|instance| {
                    let mut found = Vec::new();
                    remarks::of_instance(instance, &mut found);
                    let mut words = summed(found, words::server(instance.reported.as_ref()));
                    words.wanted = Some(words::role(&instance.assigned));
                    (instance.instance.to_string(), words)
                })
                .collect(),
            voters: status
                .voters
                .iter()
                .map(|voter| {
                    let (state, mood) = words::voter(voter.state);
                    (voter.id.to_string(), Words::new(mood, state))
                })
                .collect(),
            name_servers: status
                .name_servers
                .iter()
                .map(|server| (server.server.to_string(), name_server(server)))
                .collect(),
            transitions: known
                .transitions
                .iter()
                .map(|record| {
                    let (outcome, mood) = words::outcome(&record.outcome);
                    (record.id.to_string(), Words::new(mood, outcome))
                })
                .collect(),
            drills: known.drills.iter().map(|it| (it.id.to_string(), drill(it))).collect(),
        }
    }
}

fn summed(found: Vec<(Mood, String)>, is: String) -> Words {
    let mood = found.iter().map(|(mood, _)| *mood).max().unwrap_or(Mood::Good);
    let remarks = found.into_iter().map(|(_, text)| text).collect();
    Words { mood, is, wanted: None, remarks }
}

fn service(service: &ServiceStatus) -> Words {
    let mut found = Vec::new();
    remarks::of_service(service, &mut found);
    let worst = found.iter().map(|(mood, _)| *mood).max();
    let is = match (worst, &service.transition) {
        (_, Some(transition)) => format!("changing its primary: {}", transition.step.name()),
        (None, None) => "well".to_owned(),
        (Some(Mood::Bad), None) => "NOT well".to_owned(),
        (Some(_), None) => "works, with remarks".to_owned(),
    };
    Words { wanted: Some(words::promise(&service.zero_loss)), ..summed(found, is) }
}

fn name_server(server: &NameServerStatus, zone: u32) -> Words {
    match remarks::of_name_server(server, zone) {
        None => Words::new(Mood::Good, "answers with the zone as it is"),
        Some(problem) => Words::new(Mood::Odd, problem),
    }
}

fn drill(drill: &Drill) -> Words {
    let mood = match drill.outcome {
        drill::Outcome::Open | drill::Outcome::Overtaken(_) | drill::Outcome::Aborted(_) => {
            Mood::Odd
        }
        drill::Outcome::Passed => Mood::Good,
        drill::Outcome::Failed(_) => Mood::Bad,
    };
    let told = drill.outcome.told();
    match drill.outcome.reason() {
        None if drill.is_open() => Words::new(mood, format!("{told}, at {}", drill.stage.name())),
        None => Words::new(mood, told),
        Some(why) => Words::new(mood, format!("{told}: {why}")),
    }
}

#[cfg(test)]
mod tests;
