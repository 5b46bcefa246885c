//! A voter's own eyes: it knocks at the ports of the primaries, and asks name servers.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use failover::ids::{InstanceId, NameServerId, SiteId, VoterId};
use failover::report::{Knock, Observation, Port};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use wire::clock;
use wire::role::CertificateEnd;

use crate::ask;
use crate::projection::Ports;
use crate::routes::Routes;

/// How long a port may take to answer.
const KNOCK: Duration = Duration::from_millis(500);
/// After an agent's port was refused, and PostgreSQL's was not: how soon it is tried again. A
/// machine's processes do not all die in the same instant.
const AGAIN: Duration = Duration::from_millis(50);
/// How many times.
const TIMES: u32 = 40;
/// How often a voter tells of itself.
const ONESELF: Duration = Duration::from_secs(10);
/// How often name servers are asked while a transition waits for them.
const URGENT: Duration = Duration::from_millis(20);
/// How often otherwise.
const QUIET: Duration = Duration::from_secs(5);

/// Knocks at a primary when somebody has a reason: its report is overdue, its connection broke, a
/// standby lost its stream.
pub async fn knock(routes: Arc<Routes>, site: SiteId, mut looks: mpsc::Receiver<InstanceId>) {
    let eyes = Arc::new(Eyes { routes, site, busy: Mutex::default(), open: Mutex::default() });
    while let Some(instance) = looks.recv().await {
        let ports = eyes.routes.projection.borrow().primaries.get(&instance).copied();
        let Some(ports) = ports else { continue };
        if lock(&eyes.busy).insert(instance.clone()) {
            let eyes = eyes.clone();
            tokio::spawn(async move {
                eyes.look_at(&instance, ports).await;
                lock(&eyes.busy).remove(&instance);
            });
        }
    }
}

/// Tells the leader what this voter knows of itself: its clock, and how long its certificate is
/// good.
pub async fn tell_of_oneself(routes: Arc<Routes>, voter: VoterId, until: CertificateEnd) {
    loop {
        let wall = clock::wall();
        let certificate_seconds = until.left(wall);
        routes.observe(Observation::Voter { voter, wall, certificate_seconds }).await;
        sleep(ONESELF).await;
    }
}

struct Eyes {
    routes: Arc<Routes>,
    site: SiteId,
    /// Instances that are being looked at.
    busy: Mutex<BTreeSet<InstanceId>>,
    /// Instances whose agent's port was open the last time, and the leader was told so.
    open: Mutex<BTreeSet<InstanceId>>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Eyes {
    async fn look_at(&self, instance: &InstanceId, ports: Ports) {
        for _ in 0..TIMES {
            let agent = port(ports.agent).await;
            // PostgreSQL answers a connection with a process: not for nothing. `Silent`
            // stands for a port that was not asked.
            let postgres =
                if agent == Port::Refused { port(ports.postgres).await } else { Port::Silent };
            let news = if agent == Port::Open {
                lock(&self.open).insert(instance.clone())
            } else {
                lock(&self.open).remove(instance);
                true
            };
            if news {
                let knock = Knock {
                    target: instance.clone(),
                    from: self.site.clone(),
                    agent,
                    postgres,
                    age: Duration::ZERO,
                };
                self.routes.observe(Observation::Knocked(knock)).await;
            }
            if agent != Port::Refused || postgres == Port::Refused {
                return;
            }
            sleep(AGAIN).await;
        }
    }
}

async fn port(address: SocketAddr) -> Port {
    match timeout(KNOCK, TcpStream::connect(address)).await {
        Ok(Ok(_)) => Port::Open,
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => Port::Refused,
        Ok(Err(_)) | Err(_) => Port::Silent,
    }
}

/// As leader, asks every name server what it answers: all the time while a transition waits for
/// them, now and then otherwise. A slow one does not hold the others up.
pub async fn ask_name_servers(routes: Arc<Routes>) {
    let mut changes = routes.projection.clone();
    let mut standing = routes.standing.clone();
    let busy: Arc<Mutex<BTreeSet<NameServerId>>> = Arc::default();
    loop {
        let leads = standing.borrow_and_update().leads;
        let projection = changes.borrow_and_update().clone();
        let asked = projection.name_servers.iter().filter(|_| leads);
        for (server, address) in asked {
            if !lock(&busy).insert(server.clone()) {
                continue;
            }
            let (routes, busy) = (routes.clone(), busy.clone());
            let (projection, server, address) = (projection.clone(), server.clone(), *address);
            tokio::spawn(async move {
                let origin = &projection.zone.origin;
                let answer =
                    ask::name_server(address, origin, &projection.names, &projection.canaries)
                        .await;
                lock(&busy).remove(&server);
                routes.observe(Observation::Asked { server, answer }).await;
            });
        }
        let pause = if leads && projection.redirecting { URGENT } else { QUIET };
        tokio::select! {
            () = sleep(pause) => {}
            changed = changes.changed() => if changed.is_err() { return },
            changed = standing.changed() => if changed.is_err() { return },
        }
    }
}
