//! The hash of a plan: what was looked at is what is done, or it is another plan.
//!
//! It covers what is asked for, the state it was judged in, and whom it would make primary; not
//! how long it is expected to take, which is another number at every look.

use std::fmt::Write as _;

use failover::cluster::Cluster;
use failover::rehearse::Rehearsal;
use failover::{InstanceId, Request, ServiceId};
use ring::digest::{SHA256, digest};

/// Of every service: its epoch, its step, the generation of its rule, and who would be primary.
type Stand<'a> = (&'a ServiceId, u64, Option<&'static str>, u64, Option<&'a InstanceId>);

/// The hash of what `request` would do now, in hexadecimal.
#[must_use]
#[expect(clippy::missing_panics_doc, reason = "names and numbers are always JSON")]
pub fn hash(cluster: &Cluster, request: &Request, rehearsal: &Rehearsal) -> String {
    let stands: Vec<Stand<'_>> = cluster
        .services
        .iter()
        .map(|(id, service)| {
            let then = rehearsal.endings.get(id).and_then(|ending| ending.primary.as_ref());
            let step = service.step().map(failover::cluster::Step::name);
            (id, service.epoch.0, step, service.rule.generation.0, then)
        })
        .collect();
    let plan = (&cluster.topology.cluster, cluster.topology_version, request, stands);
    hashed(&serde_json::to_vec(&plan).expect("names and numbers are always JSON"))
}

/// The hash of a request that takes effect at once and needs a second person: of what is asked,
/// but not why, of what is declared, of who votes, and of how the service it is about stands.
#[must_use]
#[expect(clippy::missing_panics_doc, reason = "names and numbers are always JSON")]
pub fn of(cluster: &Cluster, request: &Request) -> String {
    let stand = request.service().and_then(|id| cluster.services.get(id)).map(|service| {
        let step = service.step().map(failover::cluster::Step::name);
        (service.epoch.0, step, service.primary.as_ref(), service.in_doubt())
    });
    let declared = (&cluster.topology.cluster, cluster.topology_version);
    let voters: Vec<_> = cluster.voters.iter().map(|(id, voter)| (id, &voter.name)).collect();
    let plan = (declared, voters, request.without_reason(), stand);
    hashed(&serde_json::to_vec(&plan).expect("names and numbers are always JSON"))
}

fn hashed(text: &[u8]) -> String {
    let mut hash = String::with_capacity(64);
    for byte in digest(&SHA256, text).as_ref() {
        let _ = write!(hash, "{byte:02x}");
    }
    hash
}
