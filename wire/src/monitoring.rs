//! The monitoring port: plain HTTP for those who have no certificate of ours, such as load
//! balancers, Prometheus, and whatever restarts what hangs.
//!
//! Who can reach it may read names, roles and numbers; no secret is told and nothing is changed.
//! It is off unless configured, because nothing should listen that nobody asked for, and because
//! several agents on one machine could not share a default. Everything a stranger can take is
//! bounded: one request a connection, the bytes of it, its time, connections in all and from one
//! address. It never stops its daemon: where the port is taken, that is said, and tried again.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde::Deserialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::{Id, JoinSet};
use tokio::time::{sleep, timeout};

use crate::listen;

mod exposition;
mod process;

pub use exposition::{COMMON, Exposition, Histogram, Kind, Metric};

/// Connections at the same time.
const CONNECTIONS: usize = 64;
/// Of these, from one address.
const CONNECTIONS_EACH: usize = 16;
/// How long a request may take to come.
const HEADER: Duration = Duration::from_secs(2);
/// How long a connection may last, its one answer included.
const WHOLE: Duration = Duration::from_secs(10);
/// The same of a page that stays open; a browser connects again by itself.
const WHOLE_PAGE: Duration = Duration::from_mins(30);
/// The largest request, and what is held of an answer, in bytes.
const BYTES: usize = 8 * 1024;
/// How soon a port that could not be had is tried again.
const AGAIN: Duration = Duration::from_secs(10);

/// The `[monitoring]` table of every daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where to listen, without TLS: a literal address. Whoever reaches it may read.
    pub listen: SocketAddr,
}

/// The `[page]` table of a voter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Page {
    /// Where to listen, without TLS: a literal address. Whoever reaches it may read.
    #[serde(default = "Page::at_home")]
    pub listen: SocketAddr,
}

impl Page {
    /// Reached from the machine itself, and through whatever its operators put in front.
    fn at_home() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 7490))
    }
}

/// What every daemon tells of itself.
pub trait Daemon: Send + Sync + 'static {
    /// Whether its process does what it is for, or should be restarted.
    ///
    /// # Errors
    /// Why it should be.
    fn alive(&self) -> Result<(), String> {
        Ok(())
    }

    /// Whether it can be relied on now.
    ///
    /// # Errors
    /// Why not, in words.
    fn ready(&self) -> Result<(), String>;

    /// Everything it counts and measures, as it is now.
    ///
    /// # Errors
    /// Why it cannot be told.
    fn metrics(&self) -> impl Future<Output = Result<Exposition, String>> + Send;
}

/// A daemon, and who may ask it for everything.
struct Asked<D> {
    daemon: Arc<D>,
    /// One at a time: what is asked for at once by many costs no more than by one after another.
    turn: Semaphore,
}

/// `/livez`, `/readyz` and `/metrics` of a daemon.
pub fn router<D: Daemon>(daemon: Arc<D>) -> Router {
    let asked = Arc::new(Asked { daemon, turn: Semaphore::new(1) });
    Router::new()
        .route("/livez", get(livez::<D>))
        .route("/readyz", get(readyz::<D>))
        .route("/metrics", get(metrics::<D>))
        .with_state(asked)
}

async fn livez<D: Daemon>(State(asked): State<Arc<Asked<D>>>) -> Response {
    told(asked.daemon.alive(), "alive")
}

async fn readyz<D: Daemon>(State(asked): State<Arc<Asked<D>>>) -> Response {
    told(asked.daemon.ready(), "ready")
}

async fn metrics<D: Daemon>(State(asked): State<Arc<Asked<D>>>) -> Response {
    let Ok(_turn) = asked.turn.acquire().await else {
        return told(Err("this daemon is ending".into()), "metrics");
    };
    match asked.daemon.metrics().await {
        Ok(exposition) => {
            ([(header::CONTENT_TYPE, exposition::CONTENT_TYPE)], exposition.text()).into_response()
        }
        Err(reason) => told(Err(reason), "metrics"),
    }
}

fn told(standing: Result<(), String>, what: &str) -> Response {
    match standing {
        Ok(()) => format!("{what}\n").into_response(),
        Err(reason) => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("not {what}: {reason}\n")).into_response()
        }
    }
}

/// Serves `router` where `settings` say, nowhere without any, until `shutdown` turns true.
pub async fn serve(settings: Option<Settings>, router: Router, shutdown: watch::Receiver<bool>) {
    let Some(Settings { listen }) = settings else { return };
    open("monitoring port", listen, (router, WHOLE), shutdown).await;
}

/// The same for a page that stays open.
pub async fn serve_page(page: Option<Page>, router: Router, shutdown: watch::Receiver<bool>) {
    let Some(Page { listen }) = page else { return };
    if !listen.ip().is_loopback() {
        tracing::warn!(%listen, "whoever reaches the page's port may read it, without TLS");
    }
    open("page", listen, (router, WHOLE_PAGE), shutdown).await;
}

async fn open(
    what: &str,
    listen: SocketAddr,
    (router, whole): (Router, Duration),
    mut shutdown: watch::Receiver<bool>,
) {
    loop {
        match listen::tcp(listen).await {
            Ok(listener) => {
                tracing::info!(%listen, "{what} open");
                return take(listener, (router, whole), shutdown).await;
            }
            Err(error) => tracing::error!(%error, "{what} closed: nobody can look at this daemon"),
        }
        tokio::select! {
            () = sleep(AGAIN) => {}
            () = stopped(&mut shutdown) => return,
        }
    }
}

/// The same on a port that is open already.
pub async fn accept(listener: TcpListener, router: Router, shutdown: watch::Receiver<bool>) {
    take(listener, (router, WHOLE), shutdown).await;
}

async fn take(
    listener: TcpListener,
    (router, whole): (Router, Duration),
    mut shutdown: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    let mut from: HashMap<Id, IpAddr> = HashMap::new();
    loop {
        tokio::select! {
            () = stopped(&mut shutdown) => return,
            Some(ended) = connections.join_next_with_id() => {
                let id = match ended {
                    Ok((id, ())) => id,
                    Err(error) => error.id(),
                };
                from.remove(&id);
            }
            // Who is one too many waits until another is done; that takes seconds at most.
            accepted = listener.accept(), if connections.len() < CONNECTIONS => match accepted {
                Ok((stream, remote)) => {
                    let ip = remote.ip().to_canonical();
                    let taken = from.values().filter(|other| **other == ip).count();
                    if taken < CONNECTIONS_EACH {
                        let task = connections.spawn(converse(stream, router.clone(), whole));
                        from.insert(task.id(), ip);
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections for a moment");
                    sleep(Duration::from_millis(100)).await;
                }
            },
        }
    }
}

/// Also when the sender is gone: nobody is left who could tell us to stop.
async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    drop(shutdown.wait_for(|stop| *stop).await);
}

/// One request, one answer.
async fn converse(stream: TcpStream, router: Router, whole: Duration) {
    let service = service_fn(|request| answer(router.clone(), request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER)
        .max_buf_size(BYTES)
        .keep_alive(false)
        // Simple askers close their half once they have asked.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service);
    match timeout(whole, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a monitoring connection ended"),
        Err(_) => tracing::debug!("a monitoring connection took too long"),
    }
}

async fn answer(router: Router, request: Request<Incoming>) -> Result<Response, Infallible> {
    // Nobody has anything to send here: what comes after the header is not read.
    let mut request = request.map(|_unread| Body::empty());
    if *request.method() == Method::OPTIONS {
        // What HAProxy asks with unless told otherwise: it wants the status alone.
        *request.method_mut() = Method::HEAD;
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let text = "nothing can be changed here: GET, HEAD or OPTIONS\n";
        return Ok((StatusCode::METHOD_NOT_ALLOWED, text).into_response());
    }
    TowerToHyperService::new(router).call(request).await
}
