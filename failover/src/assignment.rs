//! What one instance must be: a projection of the replicated state.

use crate::cluster::{Cluster, Enforce, Service, Step};
use crate::drill::{self, Isolation};
use crate::ids::{DrillId, Epoch, Generation, InstanceId, Revision, ServiceId, SystemIdentifier};
use crate::topology::{Instance, Timing};
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// What an agent converges its instance to, again and again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// Grows with every change; an agent ignores one older than the newest it has seen (I-20).
    pub revision: Revision,
    /// The service.
    pub service: ServiceId,
    /// The instance.
    pub instance: InstanceId,
    /// The service's epoch.
    pub epoch: Epoch,
    /// What to be.
    pub role: Role,
    /// What PostgreSQL enforces, where this instance is the primary.
    pub enforce: Enforce,
    /// The recording of the rule that `enforce` belongs to.
    pub generation: Generation,
    /// The cluster's identifier, once known: a data directory with another one is foreign.
    pub system_identifier: Option<SystemIdentifier>,
    /// All instances of the service, this one too.
    pub peers: BTreeMap<InstanceId, Instance>,
    /// Lines of `pg_hba.conf` for clients.
    pub client_access: Vec<String>,
    /// The timing law's numbers.
    pub timing: Timing,
    /// To cut itself off, once, for a drill.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolate: Option<Isolation>,
    /// To rehearse a former primary's way back beside itself, for this drill.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rehearse: Option<DrillId>,
}

/// What an instance is to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The service has no primary yet: report, touch nothing.
    Idle,
    /// Writable in this epoch.
    Primary {
        /// It may create the cluster: only ever at the first epoch (L-10).
        initialise: bool,
        /// A planned stop is near: write a checkpoint now.
        prepare: bool,
    },
    /// The former primary of a planned change: turn clients away, stop cleanly, stay down.
    Stopped,
    /// The former primary of an unplanned change: stop at once, stay down.
    Fenced,
    /// Durably stop receiving from the primary of this epoch, then say where you stand.
    Sealed,
    /// Follow the primary.
    Standby {
        /// Whom.
        upstream: InstanceId,
    },
}

/// What `instance` must be. `None`: nobody declared it.
#[must_use]
pub fn assignment(cluster: &Cluster, instance: &InstanceId) -> Option<Assignment> {
    let (name, service) =
        cluster.services.iter().find(|(_, s)| s.spec.instances.contains_key(instance))?;
    Some(Assignment {
        revision: service.revision,
        service: name.clone(),
        instance: instance.clone(),
        epoch: service.epoch,
        role: role(service, instance),
        enforce: service.rule.enforce.clone(),
        generation: service.rule.generation,
        system_identifier: service.system_identifier,
        peers: service.spec.instances.clone(),
        client_access: service.spec.client_access.clone(),
        timing: cluster.topology.timing.clone(),
        isolate: drill::ordered(cluster, name, instance),
        rehearse: drill::rehearses(cluster, name, instance),
    })
}

/// What an instance of `service` must be now.
pub(crate) fn role(service: &Service, instance: &InstanceId) -> Role {
    let Some(primary) = &service.primary else { return Role::Idle };
    let is_primary = primary == instance;
    let standby = || Role::Standby { upstream: primary.clone() };
    let first = service.epoch == Epoch(1) && service.system_identifier.is_none();
    let writable = |prepare| Role::Primary { initialise: first, prepare };
    let planned = service
        .transition
        .as_ref()
        .is_some_and(|transition| transition.trigger == crate::cluster::Trigger::Switchover);
    match service.step() {
        Some(Step::Quiesce) if is_primary => writable(true),
        Some(Step::CatchUp) if is_primary => Role::Stopped,
        Some(Step::Seal) if is_primary && planned => Role::Stopped,
        Some(Step::Seal) if is_primary => Role::Fenced,
        Some(Step::Seal) => Role::Sealed,
        Some(Step::Promote | Step::Prove | Step::Redirect | Step::Verify) | None if is_primary => {
            writable(false)
        }
        Some(
            Step::Quiesce
            | Step::CatchUp
            | Step::Promote
            | Step::Prove
            | Step::Redirect
            | Step::Verify,
        )
        | None => standby(),
    }
}
