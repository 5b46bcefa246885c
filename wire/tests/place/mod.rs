//! A cluster's certificates in a temporary folder, and servers on loopback.
#![allow(dead_code, reason = "every test file uses a part of it")]

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use wire::ca::{Authority, Issued, Leaf};
use wire::http::{bind, serve};
use wire::role::Kind;
use wire::tls::{Files, Identity};

pub const SOON: Duration = Duration::from_secs(10);

pub struct Place {
    pub folder: TempDir,
    pub authority: Authority,
}

impl Place {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let authority = Authority::create("clinic-eu").expect("an authority");
        fs::write(folder.path().join("ca.crt"), authority.certificate_pem()).expect("written");
        Self { folder, authority }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, issued: &Issued) -> Files {
        let files = Files {
            ca: self.path("ca.crt"),
            certificate: self.path(&format!("{name}.crt")),
            key: self.path(&format!("{name}.key")),
        };
        fs::write(&files.certificate, &issued.certificate_pem).expect("written");
        wire::files::write_secret(&files.key, issued.key_pem.as_bytes()).expect("written");
        files
    }

    /// The files of a peer `KIND/NAME` that serves on loopback.
    pub fn files(&self, role: &str) -> Files {
        let issued = self.authority.issue(&leaf("clinic-eu", role)).expect("issued");
        self.write(&role.replace('/', "-"), &issued)
    }

    pub fn identity(&self, role: &str) -> Arc<Identity> {
        Arc::new(Identity::load(&self.files(role)).expect("an identity"))
    }
}

pub fn leaf(cluster: &str, role: &str) -> Leaf {
    Leaf {
        common_name: role.replace('/', "-"),
        uri: format!("baton://{cluster}/{role}"),
        addresses: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
        names: vec![],
    }
}

pub struct Server {
    pub address: SocketAddr,
    pub stop: watch::Sender<bool>,
    pub done: JoinHandle<std::io::Result<()>>,
}

impl Server {
    pub async fn start(identity: Arc<Identity>, allow: &'static [Kind], router: Router) -> Self {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = bind(any).await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (stop, stopping) = watch::channel(false);
        let done = tokio::spawn(serve(listener, identity, allow, router, stopping));
        Self { address, stop, done }
    }

    pub async fn stop(self) {
        self.stop.send_replace(true);
        let done = tokio::time::timeout(SOON, self.done).await.expect("stops soon");
        done.expect("no panic").expect("no error");
    }
}
