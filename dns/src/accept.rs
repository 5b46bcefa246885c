//! Whether a zone may take the place of the one that is served (I-29). Pure.
//!
//! The voters have decided already; this is the last door, and it stands at the moment of effect
//! (I-20). It refuses what can only come from a voter that lags, from another cluster's state or
//! from a mistake, and never what an operator may do on purpose: a refusal keeps the whole zone
//! back, the next failover included.

use failover::ids::{Epoch, ServiceId};
use failover::zone::{Data, Zone};

/// What to do with a zone that is not refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is the one that is served.
    Same,
    /// It is newer: serve it.
    Newer,
}

/// Why a zone is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Refusal {
    /// Its version is lower than the one served.
    #[error(
        "zone {offered} is older than zone {served}, which is served; if the cluster was made \
         anew, stop this server, remove its zone.json and start it again"
    )]
    Older {
        /// Its version.
        offered: u32,
        /// The version that is served.
        served: u32,
    },
    /// Same version, other content: one of the two is not of this cluster's history.
    #[error("zone {0} differs from the zone {0} that is served")]
    Different(u32),
    /// A service's epoch goes back.
    #[error(
        "zone {version} is of epoch {offered} of service {service}, and epoch {served} is served; \
         if the service was declared anew, stop this server, remove its zone.json and start it \
         again"
    )]
    EpochBack {
        /// The zone's version.
        version: u32,
        /// Whose.
        service: ServiceId,
        /// The epoch in the zone.
        offered: Epoch,
        /// The epoch that is served.
        served: Epoch,
    },
    /// A name that has an address would have none.
    #[error("zone {version} takes every address from `{name}`")]
    Emptied {
        /// The zone's version.
        version: u32,
        /// The name, relative to the origin.
        name: String,
    },
    /// Names with addresses disappear though no service does.
    #[error("zone {version} has no `{name}` any more, and nothing in its place")]
    Vanished {
        /// The zone's version.
        version: u32,
        /// One of the names, relative to the origin.
        name: String,
    },
    /// A writable name points at two instances.
    #[error("zone {version} gives the writable name `{name}` two primaries")]
    TwoPrimaries {
        /// The zone's version.
        version: u32,
        /// The name, relative to the origin.
        name: String,
    },
}

/// Whether `offered` may be served where `served` is now.
///
/// # Errors
/// [`Refusal`]; what is served then stays.
pub fn accept(served: Option<&Zone>, offered: &Zone) -> Result<Verdict, Refusal> {
    let version = offered.version;
    if let Some(name) = two_primaries(offered) {
        return Err(Refusal::TwoPrimaries { version, name });
    }
    let Some(served) = served else { return Ok(Verdict::Newer) };
    if version < served.version {
        return Err(Refusal::Older { offered: version, served: served.version });
    }
    if version == served.version {
        let same = offered == served;
        return if same { Ok(Verdict::Same) } else { Err(Refusal::Different(version)) };
    }
    for (service, epoch) in &served.epochs {
        if let Some(offered) = offered.epochs.get(service)
            && offered < epoch
        {
            let service = service.clone();
            return Err(Refusal::EpochBack { version, service, offered: *offered, served: *epoch });
        }
    }
    for (name, data) in &offered.records {
        let before = served.records.get(name).is_some_and(|data| has_address(data));
        let alias = data.iter().any(|data| matches!(data, Data::Alias(_)));
        if before && !alias && !has_address(data) {
            return Err(Refusal::Emptied { version, name: name.clone() });
        }
    }
    vanished(served, offered)
        .map_or(Ok(Verdict::Newer), |name| Err(Refusal::Vanished { version, name: name.into() }))
}

/// A name that is gone although every service that had one is still there. A service that was
/// taken out takes its names along, and a name may be exchanged for another: that is allowed.
/// Losing all services at once is not: nothing is served then that could be kept back by this.
fn vanished<'z>(served: &'z Zone, offered: &Zone) -> Option<&'z str> {
    let gone = served.epochs.keys().any(|service| !offered.epochs.contains_key(service));
    let fewer = service_names(offered).count() < service_names(served).count();
    if !fewer || (gone && !offered.epochs.is_empty()) {
        return None;
    }
    service_names(served).find(|name| !offered.records.contains_key(*name))
}

/// Names with an address that are not those of name servers.
fn service_names(zone: &Zone) -> impl Iterator<Item = &str> {
    zone.records
        .iter()
        .filter(|(name, data)| {
            has_address(data) && !zone.name_servers.iter().any(|server| server.as_str() == *name)
        })
        .map(|(name, _)| name.as_str())
}

/// A writable name, told by the text beside its address, with two addresses of one family.
fn two_primaries(zone: &Zone) -> Option<String> {
    let writable = |data: &Data| matches!(data, Data::Text(text) if text.starts_with("service="));
    let count = |data: &[Data], four: bool| {
        data.iter().filter(|d| matches!(d, Data::Address(a) if a.is_ipv4() == four)).count()
    };
    zone.records
        .iter()
        .find(|(_, data)| {
            data.iter().any(writable) && (count(data, true) > 1 || count(data, false) > 1)
        })
        .map(|(name, _)| name.clone())
}

fn has_address(data: &[Data]) -> bool {
    data.iter().any(|data| matches!(data, Data::Address(_)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn address(last: u8) -> Data {
        Data::Address([127, 0, last, 1].into())
    }

    fn text(service: &str) -> Data {
        Data::Text(format!("service={service} epoch=4 primary={service}-1"))
    }

    fn id(name: &str) -> ServiceId {
        name.parse().expect("a name")
    }

    /// Two services in epoch 4, version 10, one name server.
    fn served() -> Zone {
        let records = [
            ("ns1", vec![address(1)]),
            ("clinic", vec![address(1), text("clinic")]),
            ("clinic-ro", vec![address(2)]),
            ("lab", vec![address(2), text("lab")]),
        ];
        Zone {
            version: 10,
            name_servers: vec!["ns1".parse().expect("a name")],
            records: records.into_iter().map(|(name, data)| (name.into(), data)).collect(),
            epochs: BTreeMap::from([(id("clinic"), Epoch(4)), (id("lab"), Epoch(4))]),
            ..Zone::default()
        }
    }

    fn check(change: impl FnOnce(&mut Zone), expect: &Result<Verdict, Refusal>) {
        let mut offered = served();
        offered.version = 11;
        change(&mut offered);
        assert_eq!(&accept(Some(&served()), &offered), expect);
    }

    #[test]
    fn i29_the_first_zone_is_taken() {
        assert_eq!(accept(None, &served()), Ok(Verdict::Newer));
    }

    #[test]
    fn i29_a_newer_zone_takes_the_place() {
        check(|_| (), &Ok(Verdict::Newer));
        check(
            |zone| {
                zone.epochs.insert(id("clinic"), Epoch(5));
                zone.records.insert("clinic".into(), vec![address(3), text("clinic")]);
            },
            &Ok(Verdict::Newer),
        );
    }

    #[test]
    fn i29_an_older_version_is_refused() {
        check(|zone| zone.version = 9, &Err(Refusal::Older { offered: 9, served: 10 }));
    }

    #[test]
    fn i29_the_same_version_changes_nothing() {
        check(|zone| zone.version = 10, &Ok(Verdict::Same));
        check(
            |zone| {
                zone.version = 10;
                zone.records.clear();
            },
            &Err(Refusal::Different(10)),
        );
    }

    #[test]
    fn i29_an_epoch_never_goes_back() {
        let refusal = Refusal::EpochBack {
            version: 11,
            service: id("lab"),
            offered: Epoch(3),
            served: Epoch(4),
        };
        let back = |zone: &mut Zone| {
            zone.epochs.insert(id("lab"), Epoch(3));
        };
        check(back, &Err(refusal));
    }

    #[test]
    fn i29_a_name_is_never_emptied() {
        let emptied = |name: &str| Refusal::Emptied { version: 11, name: name.into() };
        let vanished = |name: &str| Refusal::Vanished { version: 11, name: name.into() };
        check(
            |zone| drop(zone.records.insert("clinic-ro".into(), vec![])),
            &Err(emptied("clinic-ro")),
        );
        check(
            |zone| drop(zone.records.insert("lab".into(), vec![text("lab")])),
            &Err(emptied("lab")),
        );
        check(|zone| drop(zone.records.remove("lab")), &Err(vanished("lab")));
        check(
            |zone| {
                zone.records.clear();
                zone.epochs.clear();
            },
            &Err(vanished("clinic")),
        );
    }

    #[test]
    fn i29_a_writable_name_never_has_two_primaries() {
        let refusal = Refusal::TwoPrimaries { version: 11, name: "clinic".into() };
        check(
            |zone| zone.records.get_mut("clinic").expect("a name").push(address(9)),
            &Err(refusal),
        );
        check(
            |zone| zone.records.get_mut("clinic-ro").expect("a name").push(address(9)),
            &Ok(Verdict::Newer),
        );
    }

    #[test]
    fn what_an_operator_does_on_purpose_is_taken() {
        // A service is taken out, with its names.
        check(
            |zone| {
                zone.epochs.remove(&id("lab"));
                zone.records.remove("lab");
            },
            &Ok(Verdict::Newer),
        );
        // A name is exchanged for another, or becomes an alias of another.
        check(
            |zone| {
                let data = zone.records.remove("lab").expect("a name");
                zone.records.insert("laboratory".into(), data);
            },
            &Ok(Verdict::Newer),
        );
        check(
            |zone| {
                let data = zone.records.insert("lab".into(), vec![Data::Alias("x".into())]);
                zone.records.insert("x".into(), data.expect("a name"));
            },
            &Ok(Verdict::Newer),
        );
        // A name server is taken out.
        check(
            |zone| {
                zone.records.remove("ns1");
                zone.name_servers.clear();
            },
            &Ok(Verdict::Newer),
        );
    }
}
