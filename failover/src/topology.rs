//! What an operator declares: sites, services, names and timing.

use crate::calendar::{Calendar, Sla};
use crate::ids::{InstanceId, NameServerId, ServiceId, SiteId};
use crate::time::millis;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use serde::{Deserialize, Serialize};

/// The declared cluster: versioned, replicated, replaced whole by compare-and-set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Topology {
    /// The cluster's name; part of every certificate.
    pub cluster: String,
    /// Sites by name.
    pub sites: BTreeMap<SiteId, Site>,
    /// The zone that baton answers for.
    pub dns: Dns,
    /// The timing law's numbers.
    pub timing: Timing,
    /// Services by name.
    pub services: BTreeMap<ServiceId, ServiceSpec>,
    /// When drills are held, and when none may be.
    #[serde(default, skip_serializing_if = "Calendar::is_default")]
    pub drills: Calendar,
    /// When services are promised to be there, where that is not as [`Sla::default`] has it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sla: BTreeMap<ServiceId, Sla>,
    /// What people may do alone.
    #[serde(default, skip_serializing_if = "People::is_default")]
    pub people: People,
}

/// What people may do alone (I-33).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct People {
    /// What lowers durability or destroys needs a second person. Otherwise an admin does it alone.
    pub two_persons: bool,
    /// For how long the second may say yes. 1 min to 24 h.
    #[serde(rename = "approval_expires_ms", with = "millis")]
    pub approval_expires: Duration,
    /// Whoever changes something gives a time-based code (RFC 6238) beside the certificate.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub totp: bool,
}

impl Default for People {
    fn default() -> Self {
        Self { two_persons: true, approval_expires: Duration::from_mins(10), totp: false }
    }
}

impl Topology {
    /// When a service is promised to be there.
    #[must_use]
    pub fn sla_of(&self, service: &ServiceId) -> Sla {
        self.sla.get(service).cloned().unwrap_or_default()
    }
}

impl People {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A data centre.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Site {
    /// Who runs it; shown, never judged.
    pub operator: String,
    /// Where it is in law; shown, never judged.
    pub jurisdiction: String,
    /// What it is certified for; shown, never judged.
    pub certifications: Vec<String>,
}

/// The zone and who answers for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dns {
    /// The zone's name, lower case with its final dot: `db.clinic.example.`
    pub origin: String,
    /// The responsible mailbox in DNS form: `hostmaster.clinic.example.`
    pub contact: String,
    /// How long a resolver may keep an answer. 1 to 300 s.
    #[serde(rename = "ttl_ms", with = "millis")]
    pub ttl: Duration,
    /// The authoritative servers, by the label of their NS record.
    pub servers: BTreeMap<NameServerId, NameServer>,
    /// Foreign secondaries: they may transfer the zone and are notified of changes.
    pub secondaries: Vec<SocketAddr>,
}

impl Default for Dns {
    fn default() -> Self {
        Self {
            origin: String::from("."),
            contact: String::from("hostmaster."),
            ttl: Duration::from_secs(5),
            servers: BTreeMap::new(),
            secondaries: Vec::new(),
        }
    }
}

/// One authoritative name server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NameServer {
    /// The site it stands in.
    pub site: SiteId,
    /// Where it answers (UDP and TCP).
    pub address: SocketAddr,
    /// What its A or AAAA record says, where that is not `address` (behind a translation).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public: Option<IpAddr>,
}

/// The numbers of the timing law; [`crate::policy::validate`] checks how they stand to each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timing {
    /// How often an agent reports. 50 ms to 60 s.
    #[serde(rename = "heartbeat_ms", with = "millis")]
    pub heartbeat: Duration,
    /// After this long without proof that it may serve, a primary is fenced (layer 3).
    #[serde(rename = "fence_after_ms", with = "millis")]
    pub fence_after: Duration,
    /// The longest that an immediate stop of PostgreSQL takes.
    #[serde(rename = "fence_time_ms", with = "millis")]
    pub fence_time: Duration,
    /// The silence that counts as loss.
    #[serde(rename = "suspect_after_ms", with = "millis")]
    pub suspect_after: Duration,
    /// Raft's election timeout at the least; at the most it is twice this.
    #[serde(rename = "election_timeout_ms", with = "millis")]
    pub election_timeout: Duration,
    /// How much faster or slower than true a clock may run, in parts per thousand. 0 to 200.
    pub clock_rate_error_per_mille: u32,
    /// How long a switchover may take up to its point of no return before it rolls back.
    #[serde(rename = "switchover_deadline_ms", with = "millis")]
    pub switchover_deadline: Duration,
    /// At most one automatic failover a service in this time, unless acknowledged (I-25).
    #[serde(rename = "failover_window_ms", with = "millis")]
    pub failover_window: Duration,
}

impl Timing {
    /// Reports that are further apart leave a gap. What a standby received in a shorter one, it
    /// told as that much older than it was: a primary that is silent for `suspect_after` by such
    /// words has had no proof that it may serve for `fence_after`.
    #[must_use]
    pub fn gap(&self) -> Duration {
        self.suspect_after.saturating_sub(self.fence_after).max(self.heartbeat * 2)
    }
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(500),
            fence_after: Duration::from_secs(2),
            fence_time: Duration::from_millis(500),
            suspect_after: Duration::from_secs(3),
            election_timeout: Duration::from_secs(1),
            clock_rate_error_per_mille: 50,
            switchover_deadline: Duration::from_secs(10),
            failover_window: Duration::from_mins(10),
        }
    }
}

/// What happens when no synchronous standby is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnLastCopy {
    /// Commits wait until a standby is back: nothing acknowledged exists in one place only.
    Block,
    /// The service goes on with one copy: recorded, shown, alarmed; automation stops.
    SingleCopy,
}

/// A declared service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceSpec {
    /// Relative name that always points at the primary: `clinic`.
    pub writable: String,
    /// Relative name over the standbys of the rule: `clinic-ro`.
    pub read_only: String,
    /// Further relative names, CNAMEs of `writable`.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// W of the synchronous rule: how many standbys flush a commit before it is acknowledged. >= 1.
    pub required: u32,
    /// What happens when no synchronous standby is left.
    pub on_last_copy: OnLastCopy,
    /// Lines of `pg_hba.conf` for the clients, admitted while the instance may serve them.
    #[serde(default)]
    pub client_access: Vec<String>,
    /// Instances by name.
    pub instances: BTreeMap<InstanceId, Instance>,
    /// Instances in the order of preference: the first is the first primary.
    pub preference: Vec<InstanceId>,
}

/// One PostgreSQL server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Instance {
    /// The site it stands in.
    pub site: SiteId,
    /// Where PostgreSQL listens.
    pub postgres: SocketAddr,
    /// Where its agent listens.
    pub agent: SocketAddr,
    /// The address that DNS gives to clients, where that is not `postgres`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public: Option<IpAddr>,
}

impl Instance {
    /// The address that DNS gives to clients.
    #[must_use]
    pub fn client_address(&self) -> IpAddr {
        self.public.unwrap_or_else(|| self.postgres.ip())
    }
}
