//! What every authoritative name server must answer: a projection of the replicated state.

use crate::cluster::{Cluster, Service};
use crate::ids::{Epoch, NameServerId, ServiceId};
use crate::topology::ServiceSpec;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use serde::{Deserialize, Serialize};

/// The whole zone, as data that a name server can serve without knowing what a service is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Zone {
    /// Counts changes of content: the SOA's serial. Never decreases.
    pub version: u32,
    /// The zone's name, lower case with its final dot.
    pub origin: String,
    /// The responsible mailbox in DNS form.
    pub contact: String,
    /// Time to live of every record, in seconds.
    pub ttl_seconds: u32,
    /// Labels of the name servers, relative to the origin.
    pub name_servers: Vec<NameServerId>,
    /// Records by name relative to the origin, lower case, without a final dot. An empty name
    /// stands for the origin itself.
    pub records: BTreeMap<String, Vec<Data>>,
    /// Who may transfer the zone, and is notified.
    pub secondaries: Vec<SocketAddr>,
    /// The epoch of each service that the zone was made in: no server goes back behind one (I-29).
    pub epochs: BTreeMap<ServiceId, Epoch>,
}

/// One record's data.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Data {
    /// A or AAAA.
    Address(IpAddr),
    /// CNAME: a name relative to the origin.
    Alias(String),
    /// SRV: priority 0, weight 0.
    Service {
        /// The port.
        port: u16,
        /// The target, relative to the origin.
        target: String,
    },
    /// TXT: one string of at most 255 bytes.
    Text(String),
}

/// The zone as the replicated state has it.
#[must_use]
pub fn zone(cluster: &Cluster) -> Zone {
    let dns = &cluster.topology.dns;
    let mut records: BTreeMap<String, Vec<Data>> = BTreeMap::new();
    for (id, server) in &dns.servers {
        let address = server.public.unwrap_or_else(|| server.address.ip());
        records.entry(id.to_string()).or_default().push(Data::Address(address));
    }
    for (id, service) in &cluster.services {
        add_service(&mut records, id, service);
    }
    Zone {
        version: cluster.zone_version,
        origin: dns.origin.clone(),
        contact: dns.contact.clone(),
        ttl_seconds: u32::try_from(dns.ttl.as_secs()).unwrap_or(300).max(1),
        name_servers: dns.servers.keys().cloned().collect(),
        records,
        secondaries: dns.secondaries.clone(),
        epochs: cluster
            .services
            .iter()
            .filter_map(|(id, s)| Some((id.clone(), s.published.as_ref()?.epoch)))
            .collect(),
    }
}

/// The name that drills of name servers move, relative to the zone. No declared name can be it.
#[must_use]
pub fn canary_name(spec: &ServiceSpec) -> String {
    format!("_canary.{}", spec.writable)
}

fn add_service(records: &mut BTreeMap<String, Vec<Data>>, id: &ServiceId, service: &Service) {
    let spec = &service.spec;
    let Some(published) = &service.published else { return };
    let Some(primary) = spec.instances.get(&published.instance) else { return };
    // The read-only name: the standbys that the log counts on; the primary where there is none,
    // so that the name is never empty.
    let mut readers: Vec<_> = service
        .rule
        .instances
        .iter()
        .filter(|instance| **instance != published.instance)
        .filter_map(|instance| spec.instances.get(instance))
        .collect();
    if readers.is_empty() {
        readers.push(primary);
    }
    records.insert(
        spec.writable.clone(),
        vec![
            Data::Address(primary.client_address()),
            Data::Text(format!(
                "service={id} epoch={} primary={}",
                published.epoch, published.instance
            )),
        ],
    );
    records.insert(
        spec.read_only.clone(),
        readers.iter().map(|reader| Data::Address(reader.client_address())).collect(),
    );
    records.insert(
        format!("_postgresql._tcp.{}", spec.writable),
        vec![Data::Service { port: primary.postgres.port(), target: spec.writable.clone() }],
    );
    let mut ports: Vec<_> = readers
        .iter()
        .map(|r| Data::Service { port: r.postgres.port(), target: spec.read_only.clone() })
        .collect();
    ports.sort();
    ports.dedup();
    records.insert(format!("_postgresql._tcp.{}", spec.read_only), ports);
    if let Some(canary) = &service.canary {
        // One that is not declared any more leaves its name to the primary.
        let instance = spec.instances.get(canary).unwrap_or(primary);
        records.insert(canary_name(spec), vec![Data::Address(instance.client_address())]);
    }
    for alias in &spec.aliases {
        records.insert(alias.clone(), vec![Data::Alias(spec.writable.clone())]);
    }
}
