//! Voters as a name server sees them: small HTTP servers with real certificates, told by the test
//! what they have applied.

use super::PATIENCE;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::{Json, Router, routing::get};
use failover::zone::Zone;
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;
use wire::ca::{Authority, Leaf};
use wire::http::{Client, Problem};
use wire::role::Kind;
use wire::tls::{Files, Identity};

/// Certificates of one cluster.
pub struct Cluster {
    folder: tempfile::TempDir,
    authority: Authority,
}

impl Cluster {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::create("clinic-eu").unwrap();
        std::fs::write(folder.path().join("ca.crt"), authority.certificate_pem()).unwrap();
        Self { folder, authority }
    }

    /// Where the certificates lie: `ca.crt`, `KIND-NAME.crt` and `.key`.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn identity(&self, kind: &str, name: &str) -> Identity {
        let leaf = Leaf {
            common_name: format!("{kind}-{name}"),
            uri: format!("baton://clinic-eu/{kind}/{name}"),
            addresses: vec![[127, 0, 0, 1].into()],
            names: Vec::new(),
        };
        let issued = self.authority.issue(&leaf).unwrap();
        let at = |end: &str| self.folder.path().join(format!("{kind}-{name}.{end}"));
        std::fs::write(at("crt"), issued.certificate_pem).unwrap();
        wire::files::write_secret(&at("key"), issued.key_pem.as_bytes()).unwrap();
        let ca = self.folder.path().join("ca.crt");
        Identity::load(&Files { ca, certificate: at("crt"), key: at("key") }).unwrap()
    }

    pub fn clients(&self, voters: &[&Voter]) -> Vec<Client> {
        let own = self.identity("dns", "ns1");
        voters.iter().map(|v| Client::new(&own, Kind::Voter, v.address).unwrap()).collect()
    }
}

#[derive(Deserialize)]
struct Ask {
    after: u32,
    server: String,
    have: u32,
}

/// What a voter knows.
pub struct Knows {
    zone: watch::Sender<Zone>,
    have: watch::Sender<Option<(String, u32)>>,
    asked: watch::Sender<u64>,
}

pub struct Voter {
    pub address: SocketAddr,
    pub knows: Arc<Knows>,
    pub stop: watch::Sender<bool>,
}

impl Voter {
    pub async fn start(cluster: &Cluster, name: &str, zone: Zone) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::start_on(listener, cluster, name, zone)
    }

    pub fn start_on(listener: TcpListener, cluster: &Cluster, name: &str, zone: Zone) -> Self {
        Self::start_as(listener, cluster.identity("voter", name), zone)
    }

    /// With any certificate.
    pub fn start_as(listener: TcpListener, identity: Identity, zone: Zone) -> Self {
        let address = listener.local_addr().unwrap();
        let knows = Arc::new(Knows {
            zone: watch::Sender::new(zone),
            have: watch::Sender::new(None),
            asked: watch::Sender::new(0),
        });
        let router = Router::new().route("/v1/zone", get(answer)).with_state(Arc::clone(&knows));
        let identity = Arc::new(identity);
        let (stop, stopping) = watch::channel(false);
        tokio::spawn(wire::http::serve(listener, identity, &[Kind::Dns], router, stopping));
        Self { address, knows, stop }
    }

    pub fn applies(&self, zone: Zone) {
        self.knows.zone.send_replace(zone);
    }

    /// Waits until the name server said that it serves `version`.
    pub async fn hears(&self, version: u32) {
        let mut have = self.knows.have.subscribe();
        let said = Some((String::from("ns1"), version));
        let wait = have.wait_for(|have| *have == said);
        timeout(PATIENCE, wait).await.expect("in time").unwrap();
    }

    /// Waits until the name server has dealt with an answer that was given after this call.
    pub async fn is_asked_again(&self) {
        let mut asked = self.knows.asked.subscribe();
        let now = *asked.borrow();
        let wait = asked.wait_for(|count| *count >= now + 2);
        timeout(PATIENCE, wait).await.expect("in time").unwrap();
    }
}

async fn answer(
    State(knows): State<Arc<Knows>>,
    Query(ask): Query<Ask>,
) -> Result<Json<Zone>, (StatusCode, Json<Problem>)> {
    knows.have.send_replace(Some((ask.server, ask.have)));
    knows.asked.send_modify(|count| *count += 1);
    let mut zone = knows.zone.subscribe();
    if zone.borrow().version == 0 {
        return Err((StatusCode::SERVICE_UNAVAILABLE, Json(Problem::new("nothing applied yet"))));
    }
    // Held back for as long as a voter does, unless it lags: then it answers what it has.
    let newer = timeout(Duration::from_secs(20), zone.wait_for(|z| z.version != ask.after)).await;
    let zone = newer.map(|zone| zone.unwrap().clone());
    Ok(Json(zone.unwrap_or_else(|_| knows.zone.borrow().clone())))
}
