//! Who reaches whom, by plane, as far as anybody looked: made from what is on the status anyway.

use std::collections::BTreeMap;

use failover::ids::SiteId;
use failover::report::{NameServerAnswer, Port};
use serde::{Deserialize, Serialize};

use crate::answers::{ServiceStatus, Status, VoterState};
use crate::remarks::{FOLLOWS_LIMIT_MS, LIMIT_MS};

/// What for one site reaches another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Plane {
    /// Voters, for decisions.
    Voters,
    /// Agents to voters, for reports and orders.
    Agents,
    /// PostgreSQL, for replication.
    Replication,
    /// Name servers, for the zone.
    Names,
}

/// What was seen of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Seen {
    /// It was reached.
    Reached,
    /// Nobody has said lately.
    Unknown,
    /// Somebody tried, and it was not.
    NotReached,
}

/// One way on one plane: from one site to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reach {
    /// On which plane.
    pub plane: Plane,
    /// From where.
    pub from: SiteId,
    /// To where.
    pub to: SiteId,
    /// The worst that is known of it.
    pub seen: Seen,
    /// How old the oldest is of what this rests on.
    pub age_ms: Option<u64>,
    /// What it rests on, in words.
    pub why: Vec<String>,
}

type Ways = BTreeMap<(Plane, SiteId, SiteId), Reach>;

/// Everything that anybody looked at; ways that are not in it are not looked at.
pub(super) fn matrix(status: &Status) -> Vec<Reach> {
    let mut ways = Ways::new();
    let leader = status.leader.as_ref().and_then(|leader| leader.site.clone());
    if let Some(at) = &leader {
        of_voters(status, at, &mut ways);
    }
    for service in &status.services {
        of_service(service, leader.as_ref(), &mut ways);
    }
    if let Some(at) = &leader {
        of_name_servers(status, at, &mut ways);
    }
    ways.into_values().collect()
}

fn note(
    ways: &mut Ways,
    (plane, from, to): (Plane, &SiteId, &SiteId),
    (reached, age_ms, limit): (Option<bool>, Option<u64>, u64),
    why: String,
) {
    let lately = age_ms.is_some_and(|age| age <= limit);
    let seen = match reached.filter(|_| lately) {
        Some(true) => Seen::Reached,
        Some(false) => Seen::NotReached,
        None => Seen::Unknown,
    };
    let way = ways.entry((plane, from.clone(), to.clone())).or_insert_with(|| Reach {
        plane,
        from: from.clone(),
        to: to.clone(),
        seen,
        age_ms,
        why: Vec::new(),
    });
    way.seen = way.seen.max(seen);
    way.age_ms = way.age_ms.max(age_ms);
    way.why.push(why);
}

fn of_voters(status: &Status, at: &SiteId, ways: &mut Ways) {
    for voter in &status.voters {
        let Some(site) = voter.site.as_ref().filter(|_| voter.state != VoterState::Leader) else {
            continue;
        };
        let reached = voter.age_ms.map(|_| voter.state != VoterState::Unknown);
        // Not heard lately is what was seen, however long that has been so.
        let seen = (reached, voter.age_ms.map(|age| age.min(LIMIT_MS)), LIMIT_MS);
        let why = format!("voter {} answers the leader", voter.name);
        note(ways, (Plane::Voters, at, site), seen, why);
    }
}

fn of_service(service: &ServiceStatus, leader: Option<&SiteId>, ways: &mut Ways) {
    let primary =
        service.instances.iter().find(|it| Some(&it.instance) == service.primary.as_ref());
    for instance in &service.instances {
        let name = &instance.instance;
        if let Some(leader) = leader {
            let seen = (instance.age_ms.map(|_| true), instance.age_ms, LIMIT_MS);
            let why = format!("agent of {name} reports to the leader");
            note(ways, (Plane::Agents, &instance.site, leader), seen, why);
        }
        // Voters knock where there is a reason to, and not again while all is well: an old knock
        // says nothing, and nobody has to know.
        for aged in instance.knocks.iter().filter(|aged| aged.age_ms <= LIMIT_MS) {
            let knock = &aged.knock;
            let seen = (Some(knock.agent == Port::Open), Some(aged.age_ms), LIMIT_MS);
            let why = format!("the agent's port of {name}, knocked at");
            note(ways, (Plane::Agents, &knock.from, &instance.site), seen, why);
        }
        let Some(primary) = primary.filter(|primary| primary.instance != *name) else { continue };
        let seen = (instance.streaming, primary.age_ms, LIMIT_MS);
        let why = format!("{name} streams from {}", primary.instance);
        note(ways, (Plane::Replication, &instance.site, &primary.site), seen, why);
    }
}

fn of_name_servers(status: &Status, at: &SiteId, ways: &mut Ways) {
    for server in &status.name_servers {
        let name = &server.server;
        let reached =
            server.asked.as_ref().map(|answer| matches!(answer, NameServerAnswer::Serves { .. }));
        let seen = (reached, server.asked_age_ms, LIMIT_MS);
        note(ways, (Plane::Names, at, &server.site), seen, format!("{name}, asked by the leader"));
        let follows = (server.follows.map(|_| true), server.follows_age_ms, FOLLOWS_LIMIT_MS);
        let why = format!("{name} follows the voters");
        note(ways, (Plane::Names, &server.site, at), follows, why);
    }
}
