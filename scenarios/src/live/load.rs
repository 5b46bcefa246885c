//! The clients of a run: at the place outside, and one of each kind inside every site that holds
//! data. Each place is a thread that lives in its network.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::watch;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::client::{Clients, Me};
use super::journal::Journal;
use super::resolve::ask;
use crate::lab::cluster::Cluster;
use crate::lab::layout::writable_name;
use crate::lab::network::{self, CLIENTS, Spot};
use crate::script::setting::Workload;

/// How often a client outside writes: often enough to feel every gap.
const WRITE: Duration = Duration::from_millis(40);
/// How often a client outside reads.
const READ: Duration = Duration::from_millis(100);
/// How often one inside a site does either.
const INSIDE: Duration = Duration::from_millis(150);
/// Fewer clients outside would leave gaps of their own.
const FEWEST: u32 = 3;

/// The clients. Dropped: ended.
pub struct Load {
    clients: Clients,
    stop: watch::Sender<bool>,
    places: Vec<JoinHandle<()>>,
    numbers: AtomicU32,
    /// What they were told.
    pub journal: Arc<Journal>,
}

/// What a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Writes,
    Reads,
}

impl std::fmt::Debug for Load {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Load").field("places", &self.places.len()).finish_non_exhaustive()
    }
}

impl Load {
    /// Starts the clients of `workload` on `cluster`, whose table is there.
    ///
    /// # Errors
    /// When the probe's certificate cannot be used or a place cannot be entered.
    pub fn start(cluster: &Cluster, run: &str, workload: &Workload) -> Result<Self> {
        let journal = Arc::new(Journal::default());
        let (stop, stopped) = watch::channel(false);
        let clients = Clients {
            journal: Arc::clone(&journal),
            access: access(&cluster.layout.folder)?,
            run: run.into(),
            name: writable_name().into(),
            port: cluster.layout.ports.postgres,
            stop: stopped,
        };
        let numbers = AtomicU32::new(1);
        let mut load = Self { clients, stop, places: Vec::new(), numbers, journal };
        load.outside(cluster, workload)?;
        for site in cluster.layout.shape.holders() {
            let plan = [(Kind::Writes, INSIDE), (Kind::Reads, INSIDE)];
            let all = plan.map(|(kind, every)| (kind, load.client(cluster, site.name, every)));
            load.place(cluster, site.name, all.into())?;
        }
        Ok(load)
    }

    fn outside(&mut self, cluster: &Cluster, workload: &Workload) -> Result<()> {
        let writers = workload.writers.max(FEWEST);
        let readers = workload.readers.max(1);
        let mut all = Vec::new();
        for (kind, count, every) in [(Kind::Writes, writers, WRITE), (Kind::Reads, readers, READ)] {
            for index in 0..count {
                let mut me = self.client(cluster, CLIENTS, every);
                // The last ones are the stubborn ones, and one is left that is not.
                let stubborn = (count * u32::from(workload.stubborn)).div_ceil(100);
                me.stubborn = index + stubborn >= count && index > 0;
                all.push((kind, me));
            }
        }
        self.place(cluster, CLIENTS, all)
    }

    fn client(&self, cluster: &Cluster, site: &str, every: Duration) -> Me {
        let layout = &cluster.layout;
        let mut names = layout.shape.names();
        // Its own site's name server first.
        names.sort_by_key(|name| *name != site);
        let servers: Vec<SocketAddr> = names.iter().map(|name| layout.name_server(name)).collect();
        Me {
            number: self.numbers.fetch_add(1, Ordering::Relaxed),
            servers: servers.into(),
            outside: site == CLIENTS,
            stubborn: false,
            local: false,
            every,
        }
    }

    fn place(&mut self, cluster: &Cluster, site: &str, all: Vec<(Kind, Me)>) -> Result<()> {
        let namespace = cluster.network()?.namespace(site, Spot::Clients);
        let clients = self.clients.clone();
        let mut over = clients.stop.clone();
        let work = move || {
            if network::enter(&namespace).is_err() {
                return;
            }
            let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build()
            else {
                return;
            };
            runtime.block_on(async move {
                for (kind, me) in all {
                    let clients = clients.clone();
                    match kind {
                        Kind::Writes => tokio::spawn(clients.write(me)),
                        Kind::Reads => tokio::spawn(clients.read(me)),
                    };
                }
                let _ = over.wait_for(|over| *over).await;
                // Answers that are on their way still count.
                tokio::time::sleep(Duration::from_millis(300)).await;
            });
        };
        let thread = std::thread::Builder::new().name(format!("clients {site}")).spawn(work)?;
        self.places.push(thread);
        Ok(())
    }

    /// A session at a site that asks for no more than the primary's own disk (F-16), for a while.
    ///
    /// # Errors
    /// When its place cannot be entered.
    pub fn local_session(&mut self, cluster: &Cluster, site: &str) -> Result<()> {
        let mut me = self.client(cluster, site, Duration::from_millis(100));
        me.local = true;
        // It went there while the name still pointed there, and stays.
        me.stubborn = true;
        self.place(cluster, site, vec![(Kind::Writes, me)])
    }

    /// Whether PostgreSQL at `server` serves a client that comes from `site`.
    ///
    /// # Errors
    /// When the place cannot be entered.
    pub fn is_served(&self, cluster: &Cluster, site: &str, server: SocketAddr) -> Result<bool> {
        let clients = self.clients.clone();
        cluster.network()?.inside(site, Spot::Clients, move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.is_ok_and(|runtime| runtime.block_on(clients.is_served(server)))
        })
    }

    /// What the name servers of `sites` answer to clients outside, in that order.
    ///
    /// # Errors
    /// When the place cannot be entered.
    pub fn names(
        &self,
        cluster: &Cluster,
        servers: &[SocketAddr],
    ) -> Result<Vec<Option<std::net::Ipv4Addr>>> {
        let name = Arc::clone(&self.clients.name);
        cluster.network()?.inside(CLIENTS, Spot::Clients, move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let Ok(runtime) = runtime else { return vec![None; servers.len()] };
            runtime.block_on(async {
                let mut answers = Vec::new();
                for server in servers {
                    answers.push(ask(*server, &name).await);
                }
                answers
            })
        })
    }

    /// Ends all clients.
    pub fn end(&mut self) {
        self.stop.send_replace(true);
        for place in self.places.drain(..) {
            let _ = place.join();
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.end();
    }
}

fn access(folder: &Path) -> Result<MakeRustlsConnect> {
    let operator = folder.join("operator");
    let files = wire::tls::Files {
        ca: operator.join("ca.crt"),
        certificate: operator.join("probe.crt"),
        key: operator.join("probe.key"),
    };
    let client = wire::tls::postgres_client(&files)
        .with_context(|| format!("the probe's certificate in {}", operator.display()))?;
    Ok(MakeRustlsConnect::new(rustls::ClientConfig::clone(&client)))
}
