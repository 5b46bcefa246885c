//! Name servers: what they serve never goes back (I-29), and they go on serving it whoever else is
//! alive (I-31).

use std::collections::BTreeMap;
use std::net::IpAddr;

use failover::ids::{Epoch, ServiceId};
use failover::zone::{Data, Zone};

use super::Oracle;

/// What a name server served last.
#[derive(Clone, Debug, Default)]
pub(super) struct Served {
    version: u32,
    epochs: BTreeMap<ServiceId, Epoch>,
    /// What each service's writable name stood for.
    writable: BTreeMap<ServiceId, Vec<IpAddr>>,
}

impl Oracle {
    /// A name server serves a zone.
    pub(crate) fn served(&mut self, server: u8, zone: &Zone, restarted: bool) {
        let Some(known) = self.servers.get_mut(usize::from(server)) else { return };
        let mut wrong = None;
        if zone.version < known.version {
            let how = if restarted { "after a restart " } else { "" };
            wrong = Some(format!(
                "I-29: name server {server} {how}went back from zone {} to {}",
                known.version, zone.version
            ));
        }
        known.version = zone.version;
        for (service, epoch) in &zone.epochs {
            let before = known.epochs.insert(service.clone(), *epoch);
            if before.is_some_and(|before| before > *epoch) {
                wrong = Some(format!("I-29: name server {server} went back to epoch {epoch}"));
            }
        }
        for (index, name) in self.names.iter().enumerate() {
            let Some(state) = self.services.get(index) else { continue };
            let data = zone.records.get(&state.writable).map(Vec::as_slice).unwrap_or_default();
            let address = |data: &Data| match data {
                Data::Address(address) => Some(*address),
                Data::Alias(_) | Data::Service { .. } | Data::Text(_) => None,
            };
            let given: Vec<IpAddr> = data.iter().filter_map(address).collect();
            let count = given.len();
            let before = known.writable.insert(name.clone(), given).map_or(0, |all| all.len());
            if count > 1 || (before > 0 && count == 0) {
                wrong = Some(format!("I-29: name server {server} gives {count} addresses"));
            }
        }
        if let Some(text) = wrong {
            self.violate(&text);
        }
    }

    pub(crate) fn name_server_wiped(&mut self, server: u8) {
        if let Some(known) = self.servers.get_mut(usize::from(server)) {
            *known = Served::default();
        }
    }

    /// A name server that runs was asked for a service's writable name.
    pub(crate) fn name_asked(&mut self, server: u8, service: usize, given: &[IpAddr]) {
        let Some(known) = self.servers.get(usize::from(server)) else { return };
        let Some(name) = self.names.get(service) else { return };
        let good = known.writable.get(name).map(Vec::as_slice).unwrap_or_default();
        if given != good {
            let text = format!(
                "I-31: name server {server} was asked for {name} and gave {given:?}; what it \
                 served last was {good:?}, zone {}",
                known.version
            );
            self.violate(&text);
        }
    }
}
