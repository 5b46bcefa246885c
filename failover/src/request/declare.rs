//! What is declared: the topology, and who votes.

use super::{Ruling, refuse};
use crate::apply::in_use;
use crate::cluster::{Cluster, Voter};
use crate::decide::finding;
use crate::event::Change;
use crate::ids::VoterId;
use crate::report::Severity;
use crate::topology::Topology;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::ToString;

pub(super) fn topology(
    cluster: &Cluster,
    expected: u64,
    (topology, reason): (&Topology, &str),
) -> Ruling {
    if expected != cluster.topology_version {
        return refuse(
            "topology-version",
            format!(
                "made from version {expected}, but the cluster is at {}; look at `baton plan` and \
                 apply again",
                cluster.topology_version
            ),
        );
    }
    if let Err(problems) = crate::policy::validate(topology) {
        let findings = problems
            .into_iter()
            .map(|problem| {
                let text = format!("{}: {}", problem.key, problem.text);
                finding("topology", Severity::Blocks, None, text)
            })
            .collect();
        return Ruling::Refused(findings);
    }
    for (id, service) in &cluster.services {
        let Some(spec) = topology.services.get(id) else {
            if service.primary.is_some() {
                return refuse("topology", format!("service {id} has a primary: it is in use"));
            }
            continue;
        };
        if let Some(used) =
            in_use(service).into_iter().find(|instance| !spec.instances.contains_key(instance))
        {
            return refuse(
                "topology",
                format!(
                    "instance {used} of service {id} is the primary or counts in the synchronous \
                     rule; switch over away from it, or stop it and wait until the rule has let \
                     it go, then apply again"
                ),
            );
        }
    }
    let change = Change::Topology { expected, topology: Box::new(topology.clone()) };
    Ruling::Granted { change: Box::new(change), cause: reason.to_string() }
}

pub(super) fn add_voter(cluster: &Cluster, id: VoterId, (voter, reason): (&Voter, &str)) -> Ruling {
    if id.0 == 0 || cluster.voters.contains_key(&id) {
        return refuse("voter", format!("voter number {id} is taken; use one never used before"));
    }
    let clash = cluster
        .voters
        .values()
        .any(|other| other.name == voter.name || other.address == voter.address);
    if clash {
        return refuse("voter", format!("{} or its address is a voter already", voter.name));
    }
    let change = Change::VoterSet { id, voter: voter.clone() };
    Ruling::Granted { change: Box::new(change), cause: reason.to_string() }
}

pub(super) fn remove_voter(cluster: &Cluster, id: VoterId, reason: &str) -> Ruling {
    if !cluster.voters.contains_key(&id) {
        return refuse("voter", format!("there is no voter {id}"));
    }
    if cluster.voters.len() <= 1 {
        return refuse("voter", "the last voter cannot be removed");
    }
    let change = Change::VoterRemoved { id };
    Ruling::Granted { change: Box::new(change), cause: reason.to_string() }
}
