//! The clusters that runs are played on.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use failover::ids::{InstanceId, SiteId};
use failover::topology::{
    Dns, Instance, NameServer, OnLastCopy, People, ServiceSpec, Site, Timing, Topology,
};

/// What makes one cluster another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preset {
    /// How many sites; each has a voter and a name server.
    pub sites: usize,
    /// How many of them hold data: the first ones.
    pub data_sites: usize,
    /// How many services; each has an instance at every site that holds data.
    pub services: usize,
    /// W of the rule.
    pub required: u32,
    /// What happens when no synchronous standby is left.
    pub on_last_copy: OnLastCopy,
    /// The timing law's numbers.
    pub timing: Timing,
}

impl Default for Preset {
    fn default() -> Self {
        Self {
            sites: 3,
            data_sites: 3,
            services: 1,
            required: 1,
            on_last_copy: OnLastCopy::Block,
            timing: Timing::default(),
        }
    }
}

/// The timing of sites that stand close together.
#[must_use]
pub fn metro() -> Timing {
    Timing {
        heartbeat: Duration::from_millis(100),
        fence_after: Duration::from_millis(400),
        fence_time: Duration::from_millis(200),
        suspect_after: Duration::from_secs(1),
        election_timeout: Duration::from_millis(700),
        ..Timing::default()
    }
}

fn name<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}

fn address(site: usize, service: usize, port: u16) -> SocketAddr {
    let octet = |number: usize| u8::try_from(number + 1).unwrap_or(u8::MAX);
    SocketAddr::new(IpAddr::from([10, octet(service), octet(site), 10]), port)
}

impl Preset {
    /// The name of a site, in the order of preference: as the language of scenarios has it.
    #[must_use]
    pub fn site(index: usize) -> String {
        let names = scenarios::script::setting::NAMES;
        names.get(index).map_or_else(|| format!("site-{index}"), ToString::to_string)
    }

    /// The topology.
    #[must_use]
    pub fn topology(&self) -> Topology {
        let sites = (0..self.sites).filter_map(|site| name::<SiteId>(&Self::site(site)));
        let servers = (0..self.sites).filter_map(|site| {
            let server = NameServer {
                site: name(&Self::site(site))?,
                address: address(site, 199, 53),
                public: None,
            };
            Some((name(&format!("ns-{}", Self::site(site)))?, server))
        });
        let services = (0..self.services).filter_map(|service| {
            let spec = self.service(service);
            Some((name(&spec.writable)?, spec))
        });
        Topology {
            cluster: "simulated".into(),
            sites: sites.map(|site| (site, Site::default())).collect(),
            dns: Dns {
                origin: "db.example.".into(),
                contact: "hostmaster.example.".into(),
                servers: servers.collect(),
                ..Dns::default()
            },
            timing: self.timing.clone(),
            services: services.collect(),
            // One operator is simulated.
            people: People { two_persons: false, ..People::default() },
            ..Topology::default()
        }
    }

    fn service(&self, service: usize) -> ServiceSpec {
        let title = |site: usize| match service {
            0 => format!("{}-1", Self::site(site)),
            other => format!("{}-{}", Self::site(site), other + 1),
        };
        let called = match service {
            0 => "clinic".to_owned(),
            other => format!("clinic-{}", other + 1),
        };
        let instances = (0..self.data_sites).filter_map(|site| {
            let declared = Instance {
                site: name(&Self::site(site))?,
                postgres: address(site, service, 5_432),
                agent: address(site, service, 7_500),
                public: None,
            };
            Some((name::<InstanceId>(&title(site))?, declared))
        });
        ServiceSpec {
            read_only: format!("{called}-ro"),
            writable: called,
            aliases: Vec::new(),
            required: self.required,
            on_last_copy: self.on_last_copy,
            client_access: Vec::new(),
            instances: instances.collect(),
            preference: (0..self.data_sites).filter_map(|site| name(&title(site))).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_is_valid() {
        let presets = [
            Preset::default(),
            Preset { data_sites: 2, ..Preset::default() },
            Preset { sites: 5, required: 2, ..Preset::default() },
            Preset { services: 2, timing: metro(), ..Preset::default() },
        ];
        for preset in presets {
            assert_eq!(failover::policy::validate(&preset.topology()), Ok(()), "{preset:?}");
        }
    }
}
