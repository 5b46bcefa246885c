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
    let text = serde_json::to_vec(&plan).expect("names and numbers are always JSON");
    let mut hash = String::with_capacity(64);
    for byte in digest(&SHA256, &text).as_ref() {
        let _ = write!(hash, "{byte:02x}");
    }
    hash
}
