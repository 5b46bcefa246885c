//! A cluster of three sites for whatever needs one: an instance at each, a voter at each.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use failover::cluster::{Cluster, Voter};
use failover::event::{Change, Event, Stamp};
use failover::topology::{Dns, Instance, NameServer, OnLastCopy, ServiceSpec, Site, Topology};
use failover::{InstanceId, NameServerId, ServiceId, SiteId, VoterId, apply};

pub(crate) const NAMES: [&str; 3] = ["a", "b", "c"];

pub(crate) fn instance(index: usize) -> InstanceId {
    NAMES[index % NAMES.len()].parse().expect("a name")
}

pub(crate) fn site(index: usize) -> SiteId {
    NAMES[index % NAMES.len()].parse().expect("a name")
}

pub(crate) fn service() -> ServiceId {
    "clinic".parse().expect("a name")
}

pub(crate) fn server(index: usize) -> NameServerId {
    format!("ns{}", index % NAMES.len() + 1).parse().expect("a name")
}

pub(crate) fn voter(id: u64) -> Voter {
    Voter {
        name: format!("v{id}"),
        site: site(usize::try_from(id).unwrap_or(0)),
        address: ([127, 0, 0, 1], 7400).into(),
        incarnation: None,
    }
}

fn topology(required: u32, on_last_copy: OnLastCopy) -> Topology {
    let place = |index: usize| Instance {
        site: site(index),
        postgres: ([127, 0, 0, 1], 5432).into(),
        agent: ([127, 0, 0, 1], 7500).into(),
        public: None,
    };
    let all = 0..NAMES.len();
    let spec = ServiceSpec {
        writable: "clinic".into(),
        read_only: "clinic-ro".into(),
        aliases: vec!["db".into()],
        required,
        on_last_copy,
        client_access: vec![],
        instances: all.clone().map(|index| (instance(index), place(index))).collect(),
        preference: all.clone().map(instance).collect(),
    };
    let name_server = |index: usize| NameServer {
        site: site(index),
        address: ([127, 0, 0, 1], 53).into(),
        public: None,
    };
    Topology {
        cluster: "test".into(),
        sites: all.clone().map(|index| (site(index), Site::default())).collect(),
        dns: Dns {
            origin: "db.example.".into(),
            contact: "hostmaster.example.".into(),
            ttl: Duration::from_secs(5),
            servers: all.map(|index| (server(index), name_server(index))).collect(),
            secondaries: Vec::new(),
        },
        services: BTreeMap::from([(service(), spec)]),
        ..Topology::default()
    }
}

static CLUSTERS: LazyLock<Vec<Cluster>> = LazyLock::new(|| {
    let laws = [
        (1, OnLastCopy::Block),
        (1, OnLastCopy::SingleCopy),
        (2, OnLastCopy::Block),
        (2, OnLastCopy::SingleCopy),
    ];
    laws.into_iter().map(|(required, on_last)| declared(topology(required, on_last))).collect()
});

fn declared(topology: Topology) -> Cluster {
    let mut cluster = Cluster::default();
    let mut change = |change| {
        let (stamp, by, cause) = (Stamp::default(), "x".into(), "y".into());
        let event = Event { stamp, by, cause, plan: None, authority: None, change };
        assert!(apply(&mut cluster, &event), "declaring has an effect");
    };
    for id in 1..=3 {
        change(Change::VoterSet { id: VoterId(id), voter: voter(id) });
    }
    change(Change::Topology { expected: 0, topology: Box::new(topology) });
    cluster
}

/// A declared cluster without a primary yet: one of a few laws about copies.
pub(crate) fn cluster(which: u8) -> Cluster {
    CLUSTERS[usize::from(which) % CLUSTERS.len()].clone()
}
