//! What the replicated state means for those who wait on it: computed once per change, read by
//! every long poll.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use failover::cluster::{Cluster, Step};
use failover::drill::Kind;
use failover::ids::{InstanceId, NameServerId, Revision, ServiceId, VoterId};
use failover::topology::Timing;
use failover::zone::{Zone, canary_name};
use failover::{Assignment, assignment, zone};

/// The replicated state as others need it.
#[derive(Clone, Debug, Default)]
pub struct Projection {
    /// The revision it was made from.
    pub revision: Revision,
    /// What each instance must be.
    pub assignments: BTreeMap<InstanceId, Assignment>,
    /// What every name server must answer; version 0: nothing was applied yet.
    pub zone: Arc<Zone>,
    /// The primaries, and where their two ports are.
    pub primaries: BTreeMap<InstanceId, Ports>,
    /// Where each name server answers.
    pub name_servers: BTreeMap<NameServerId, SocketAddr>,
    /// The writable name of each service, whole, and an address of the family it should have.
    pub names: Vec<(ServiceId, String, IpAddr)>,
    /// The same of canary names, while name servers are drilled.
    pub canaries: Vec<(ServiceId, String, IpAddr)>,
    /// Whether a transition or a drill waits for name servers.
    pub redirecting: bool,
    /// The timing law's numbers.
    pub timing: Timing,
}

/// Where an instance's two ports are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// The agent's.
    pub agent: SocketAddr,
    /// PostgreSQL's.
    pub postgres: SocketAddr,
}

/// How this voter stands in its group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The leader it knows, and where that one listens.
    pub leader: Option<(VoterId, SocketAddr)>,
    /// Whether it leads itself.
    pub leads: bool,
    /// Why it does not act.
    pub stopped: Option<String>,
}

impl Projection {
    /// Of a replicated state.
    pub fn of(cluster: &Cluster) -> Self {
        let instances = cluster.services.values().flat_map(|s| s.spec.instances.iter());
        let primaries = cluster.services.values().filter_map(|service| {
            let primary = service.primary.as_ref()?;
            let declared = service.spec.instances.get(primary)?;
            Some((primary.clone(), Ports { agent: declared.agent, postgres: declared.postgres }))
        });
        let canaries = canaries(cluster);
        let waits = |step| matches!(step, Some(Step::Redirect | Step::Verify));
        Self {
            revision: cluster.revision,
            assignments: instances
                .filter_map(|(id, _)| Some((id.clone(), assignment(cluster, id)?)))
                .collect(),
            zone: Arc::new(zone(cluster)),
            primaries: primaries.collect(),
            name_servers: cluster
                .topology
                .dns
                .servers
                .iter()
                .map(|(id, server)| (id.clone(), server.address))
                .collect(),
            names: names(cluster),
            redirecting: !canaries.is_empty()
                || cluster.services.values().any(|service| waits(service.step())),
            canaries,
            timing: cluster.topology.timing.clone(),
        }
    }
}

fn canaries(cluster: &Cluster) -> Vec<(ServiceId, String, IpAddr)> {
    let open = cluster.drills.values().next_back();
    let open = open.filter(|drill| drill.is_open() && drill.kind == Kind::Dns);
    let of = open.and_then(|drill| {
        let spec = &cluster.services.get(&drill.service)?.spec;
        let at = spec.instances.get(drill.points_at()?)?;
        let origin = cluster.topology.dns.origin.trim_start_matches('.');
        let name = format!("{}.{origin}", canary_name(spec));
        Some((drill.service.clone(), name, at.client_address()))
    });
    of.into_iter().collect()
}

fn names(cluster: &Cluster) -> Vec<(ServiceId, String, IpAddr)> {
    let origin = cluster.topology.dns.origin.trim_start_matches('.');
    let of = |(id, service): (&ServiceId, &failover::cluster::Service)| {
        let published = service.published.as_ref()?;
        let primary = service.spec.instances.get(&published.instance)?;
        Some((id.clone(), format!("{}.{origin}", service.spec.writable), primary.client_address()))
    };
    cluster.services.iter().filter_map(of).collect()
}
