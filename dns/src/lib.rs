//! An authoritative name server whose zone is a function of the orchestrators' state.
//!
//! A client of baton finds the primary by name. So the last step of a failover is that every
//! name server gives the new address, and the first duty of a name server is to keep answering:
//! it holds the newest zone it has seen, in memory and on disk, needs nobody to serve it (I-31)
//! and never goes back behind it (I-29). It does not know what a service is; it serves records.
//!
//! The way of a change: [`follow`] gets it from a voter, [`mod@accept`] judges it, [`store`] writes
//! it, [`current`] swaps it in, [`transfer`] tells foreign secondaries. The way of a question:
//! [`serve`] reads it, [`respond`] opens the envelope, [`mod@answer`] knows the answer.
//!
//! Absent on purpose: recursion, caching, delegations, DNSSEC, dynamic update, and an opinion on
//! which instance is the primary.

pub mod accept;
pub mod answer;
pub mod config;
pub mod current;
pub mod follow;
pub mod keep;
pub mod monitoring;
pub mod respond;
pub mod serve;
pub mod store;
pub mod tally;
pub mod transfer;

use crate::config::Config;
use crate::current::Current;
use crate::monitoring::Monitored;
use crate::respond::Responder;
use crate::serve::{Limits, Sockets};
use crate::store::Store;
use crate::tally::Tally;
use anyhow::Context;
use failover::ids::NameServerId;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::watch;
use wire::http::Client;
use wire::role::Kind;
use wire::tls::Identity;

/// A name server with its sockets open, before its first answer.
#[derive(Debug)]
pub struct NameServer {
    current: Arc<Current>,
    tally: Arc<Tally>,
    sockets: Vec<Sockets>,
    limits: Limits,
}

impl NameServer {
    /// Opens the sockets and takes up the last good zone. Without one, or with a damaged one, it
    /// starts all the same and says so: until a voter is reached it answers SERVFAIL, and askers
    /// go to another server.
    ///
    /// # Errors
    /// When an address cannot be listened on: says which, and by whom it is held.
    pub async fn open(listen: &[SocketAddr], current: Current) -> anyhow::Result<Self> {
        let mut sockets = Vec::with_capacity(listen.len());
        for address in listen {
            sockets.push(Sockets::bind(*address).await?);
        }
        match current.restore() {
            Ok(true) => tracing::info!(version = current.version(), "serves the zone on disk"),
            Ok(false) => tracing::info!("no zone on disk; answers SERVFAIL until a voter has one"),
            Err(error) => tracing::error!(%error, "the zone on disk is not served"),
        }
        let (current, tally) = (Arc::new(current), Arc::default());
        Ok(Self { current, tally, sockets, limits: Limits::default() })
    }

    /// The same with other limits.
    #[must_use]
    pub fn limited(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Where it answers.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.sockets.iter().map(Sockets::address).collect()
    }

    /// What it serves.
    pub fn current(&self) -> &Arc<Current> {
        &self.current
    }

    /// What it counts.
    pub fn tally(&self) -> &Arc<Tally> {
        &self.tally
    }

    /// Answers, follows `voters` as `name` and tells secondaries, until `shutdown` turns true.
    pub async fn run(
        self,
        name: NameServerId,
        voters: Vec<Client>,
        mut shutdown: watch::Receiver<bool>,
    ) {
        let listen = self.addresses();
        let tally = Arc::clone(&self.tally);
        let responder = Arc::new(Responder::counting(Arc::clone(&self.current), tally));
        let work = async {
            tokio::join!(
                serve::serve(self.sockets, responder, self.limits),
                follow::follow(name, voters, (Arc::clone(&self.current), Arc::clone(&self.tally))),
                transfer::announce(Arc::clone(&self.current), listen),
            )
        };
        tokio::select! {
            _ = work => {}
            _ = shutdown.wait_for(|stop| *stop) => {}
        }
    }
}

/// Runs a name server as configured until `shutdown` turns true.
///
/// # Errors
/// When it cannot start; never once it answers.
pub async fn run(
    config: Config,
    identity: Identity,
    shutdown: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let origin = config.origin()?;
    let store = Store::open(&config.data).context("data")?;
    let server = NameServer::open(&config.listen, Current::new(store, origin.as_ref())).await?;
    let clients = config.voters.iter().map(|voter| Client::new(&identity, Kind::Voter, *voter));
    let clients = clients.collect::<Result<Vec<_>, _>>()?;
    let Config { name, listen, voters, monitoring, .. } = config;
    let monitored = Arc::new(Monitored {
        current: Arc::clone(server.current()),
        tally: Arc::clone(server.tally()),
        certificate_ends: identity.not_after(),
    });
    let router = wire::monitoring::router(monitored);
    tokio::spawn(wire::monitoring::serve(monitoring, router, shutdown.clone()));
    tracing::info!(%name, ?listen, ?voters, "answers");
    server.run(name, clients, shutdown).await;
    Ok(())
}
