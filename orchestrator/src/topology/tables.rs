//! The tables of the file as they are written: one field a key, nothing else accepted.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use failover::calendar::{Blackout, Hours, Objective, When};
use failover::drill::Kind;
use failover::ids::{InstanceId, NameServerId, ScheduleId, ServiceId, SiteId};
use failover::topology::OnLastCopy;
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) cluster: ClusterTable,
    #[serde(default)]
    pub(super) timing: TimingTable,
    pub(super) dns: DnsTable,
    #[serde(default)]
    pub(super) site: Vec<SiteTable>,
    #[serde(default)]
    pub(super) service: Vec<ServiceTable>,
    #[serde(default)]
    pub(super) drills: DrillsTable,
    #[serde(default)]
    pub(super) sla: SlaTable,
    #[serde(default)]
    pub(super) people: PeopleTable,
}

/// `[sla]`: of every service; `[service.sla]`: of one, where it differs from that.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SlaTable {
    pub(super) time_zone: Option<String>,
    pub(super) hours: Option<Vec<Hours>>,
    pub(super) holidays: Option<Vec<Blackout>>,
    pub(super) objective: Option<Objective>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PeopleTable {
    pub(super) two_persons: Option<bool>,
    pub(super) approval_expires: Option<Length>,
    pub(super) totp: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DrillsTable {
    pub(super) time_zone: Option<String>,
    pub(super) protected: Option<Vec<Hours>>,
    #[serde(default)]
    pub(super) blackouts: Vec<Blackout>,
    #[serde(default)]
    pub(super) schedule: Vec<ScheduleTable>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ScheduleTable {
    pub(super) name: ScheduleId,
    pub(super) kind: Kind,
    pub(super) service: ServiceId,
    pub(super) to: Option<InstanceId>,
    pub(super) dwell: Option<Length>,
    pub(super) at_most: Option<Length>,
    pub(super) when: When,
    pub(super) within: Option<Length>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ClusterTable {
    pub(super) name: String,
}

/// A duration as people write it.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct Length(#[serde(with = "wire::config::duration")] pub(super) Duration);

/// A set of numbers that fit each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Profile {
    /// Sites some tens of milliseconds apart.
    #[default]
    Default,
    /// Sites a few milliseconds apart.
    Metro,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TimingTable {
    #[serde(default)]
    pub(super) profile: Profile,
    pub(super) heartbeat: Option<Length>,
    pub(super) fence_after: Option<Length>,
    pub(super) fence_time: Option<Length>,
    pub(super) suspect_after: Option<Length>,
    pub(super) election_timeout: Option<Length>,
    pub(super) clock_rate_error_per_mille: Option<u32>,
    pub(super) switchover_deadline: Option<Length>,
    pub(super) failover_window: Option<Length>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DnsTable {
    pub(super) origin: String,
    pub(super) contact: Option<String>,
    pub(super) ttl: Option<Length>,
    #[serde(default)]
    pub(super) secondaries: Vec<SocketAddr>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SiteTable {
    pub(super) name: SiteId,
    #[serde(default)]
    pub(super) operator: String,
    #[serde(default)]
    pub(super) jurisdiction: String,
    #[serde(default)]
    pub(super) certifications: Vec<String>,
    pub(super) voter: Option<SocketAddr>,
    pub(super) name_server: Option<NameServerTable>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NameServerTable {
    pub(super) name: NameServerId,
    pub(super) address: SocketAddr,
    pub(super) public: Option<IpAddr>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ServiceTable {
    pub(super) name: ServiceId,
    pub(super) writable: Option<String>,
    pub(super) read_only: Option<String>,
    #[serde(default)]
    pub(super) aliases: Vec<String>,
    pub(super) required: Option<u32>,
    pub(super) on_last_copy: Option<OnLastCopy>,
    #[serde(default)]
    pub(super) client_access: Vec<String>,
    #[serde(default)]
    pub(super) sla: SlaTable,
    #[serde(default)]
    pub(super) instance: Vec<InstanceTable>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct InstanceTable {
    pub(super) name: InstanceId,
    pub(super) site: SiteId,
    pub(super) postgres: SocketAddr,
    pub(super) agent: SocketAddr,
    pub(super) public: Option<IpAddr>,
}
