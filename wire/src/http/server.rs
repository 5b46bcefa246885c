//! Serving: our own accept loop, because the peer's certificate decides before any route does.
//!
//! Everything a stranger can do is bounded before his certificate is known: connections, the time
//! of a handshake, the bytes of a header. Behind the handshake stand our own daemons, whose
//! mistakes are bounded too: bodies, streams, and connections that never ask anything.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::DefaultBodyLimit;
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE};
use hyper::service::{Service, service_fn};
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::Problem;
use crate::clock;
use crate::role::{Kind, Peer, Shown};
use crate::tls::Identity;
use crate::verifier;

const CONNECTIONS: usize = 1_024;
const STREAMS: u32 = 128;
const HANDSHAKE: Duration = Duration::from_secs(5);
const HEADER: Duration = Duration::from_secs(10);
const HEADER_BYTES: u32 = 16 * 1024;
const BODY_BYTES: u64 = 1024 * 1024;
/// Snapshots and batches of log entries travel between voters.
const RAFT_BODY_BYTES: u64 = 16 * 1024 * 1024;
const RAFT_PATH: &str = "/v1/raft";
/// A peer whose machine vanished holds its connection at most the sum of the two.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// How long requests under way may take to finish once we are told to stop.
const DRAIN: Duration = Duration::from_secs(2);
/// How long a refused client may take to fetch the reason.
const LINGER: Duration = Duration::from_secs(1);
/// Strangers may fill one log line in this many milliseconds.
const STRANGER_LOG_MILLIS: u64 = 10_000;

/// Somebody who got no further than the door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TurnedAway {
    /// Where he connected from.
    pub remote: SocketAddr,
    /// Why.
    pub reason: String,
}

/// Is told of everybody who is turned away; must not wait.
type Told = Arc<dyn Fn(TurnedAway) + Send + Sync>;

/// What every connection needs to know.
struct Port {
    acceptor: TlsAcceptor,
    cluster: String,
    allow: &'static [Kind],
    router: Router,
    builder: auto::Builder<TokioExecutor>,
    strangers: Strangers,
    told: Option<Told>,
}

/// Serves `router` on `listener` until `shutdown` turns true; requests under way then have two
/// seconds to finish. The handler of every request finds the [`Peer`] in its extensions, and what
/// it showed ([`Shown`]). A peer of another kind than those in `allow`, of another cluster or
/// without a role is answered 403 and logged. At most 1024 connections, 5 s for a handshake, 10 s
/// for a header, bodies up to 1 MiB (16 MiB on `/v1/raft`). Error answers that are not JSON become
/// a [`Problem`].
///
/// # Errors
/// None today: failures to accept are waited out, because they pass (file descriptors, memory).
pub async fn serve(
    listener: TcpListener,
    identity: Arc<Identity>,
    allow: &'static [Kind],
    router: Router,
    shutdown: watch::Receiver<bool>,
) -> io::Result<()> {
    serve_all(listener, identity, (allow, router, None), shutdown).await
}

/// The same; `told` hears of everybody who is turned away before any route sees him: without a
/// certificate of ours, or with one that may not ask here.
///
/// # Errors
/// As [`serve`].
pub async fn serve_and_tell(
    listener: TcpListener,
    identity: Arc<Identity>,
    allow: &'static [Kind],
    router: Router,
    shutdown: watch::Receiver<bool>,
    told: impl Fn(TurnedAway) + Send + Sync + 'static,
) -> io::Result<()> {
    serve_all(listener, identity, (allow, router, Some(Arc::new(told))), shutdown).await
}

async fn serve_all(
    listener: TcpListener,
    identity: Arc<Identity>,
    (allow, router, told): (&'static [Kind], Router, Option<Told>),
    mut shutdown: watch::Receiver<bool>,
) -> io::Result<()> {
    let port = Arc::new(Port {
        acceptor: TlsAcceptor::from(identity.server_config()),
        cluster: identity.peer().cluster.clone(),
        allow,
        // Our own limits, which know the paths, stand in for axum's.
        router: router.layer(DefaultBodyLimit::disable()),
        builder: builder(),
        strangers: Strangers::default(),
        told,
    });
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let (stop, stopping) = watch::channel(false);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = turned_true(&mut shutdown) => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, remote)) => {
                    let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                        port.turn_away(remote, "refused: all 1024 connections are taken");
                        continue;
                    };
                    let connection = connect(Arc::clone(&port), stream, remote, stopping.clone());
                    connections.spawn(async move {
                        connection.await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections for a moment");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
        }
    }
    drop(listener);
    stop.send_replace(true);
    let drained = async { while connections.join_next().await.is_some() {} };
    if timeout(DRAIN, drained).await.is_err() {
        tracing::debug!(left = connections.len(), "closing connections with requests under way");
    }
    connections.shutdown().await;
    Ok(())
}

/// Also when the sender is gone: nobody is left who could tell us to stop.
async fn turned_true(shutdown: &mut watch::Receiver<bool>) {
    drop(shutdown.wait_for(|stop| *stop).await);
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER)
        .max_buf_size(HEADER_BYTES as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .max_header_list_size(HEADER_BYTES)
        .max_concurrent_streams(STREAMS);
    builder
}

async fn connect(
    port: Arc<Port>,
    stream: TcpStream,
    remote: SocketAddr,
    stopping: watch::Receiver<bool>,
) {
    // Without it a small answer may wait for the acknowledgement of the one before.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%remote, %error, "TCP_NODELAY");
    }
    let accepting = port.acceptor.accept(stream).into_fallible();
    match timeout(HANDSHAKE, accepting).await {
        Ok(Ok(stream)) => converse(&port, stream, remote, stopping).await,
        // A knock: somebody asks whether the port is open, and has nothing to say.
        Ok(Err((error, _))) if error.kind() == io::ErrorKind::UnexpectedEof => {
            tracing::debug!(%remote, "closed without a word");
        }
        Ok(Err((error, stream))) => {
            let reason = match verifier::find(&error) {
                Some(error) => verifier::explain(error),
                None => error.to_string(),
            };
            port.turn_away(remote, &reason);
            linger(stream).await;
        }
        Err(_) => port.turn_away(remote, "no TLS handshake within 5 s"),
    }
}

impl Port {
    fn turn_away(&self, remote: SocketAddr, reason: &str) {
        self.strangers.note(remote, reason);
        self.tell(remote, reason);
    }

    fn tell(&self, remote: SocketAddr, reason: &str) {
        if let Some(told) = &self.told {
            told(TurnedAway { remote, reason: reason.into() });
        }
    }
}

/// Closing a socket with unread bytes resets it, and a reset overtakes the alert that tells the
/// client why: so read on until he hangs up, for a moment.
async fn linger(mut stream: TcpStream) {
    let farewell = async {
        stream.shutdown().await?;
        let mut sink = [0_u8; 1024];
        let mut left = 64_u32;
        while left > 0 && stream.read(&mut sink).await? > 0 {
            left -= 1;
        }
        io::Result::Ok(())
    };
    drop(timeout(LINGER, farewell).await);
}

async fn converse(
    port: &Port,
    stream: TlsStream<TcpStream>,
    remote: SocketAddr,
    mut stopping: watch::Receiver<bool>,
) {
    let (_, session) = stream.get_ref();
    let certificate = session.peer_certificates().and_then(|chain| chain.first());
    let shown = certificate.map(|der| Shown::of(der, remote));
    let admitted = admit(port, certificate).map(|peer| (peer, shown));
    if let Err(problem) = &admitted {
        tracing::warn!(%remote, "refused: {}", problem.error);
        port.tell(remote, &problem.error);
    }
    let h2 = session.alpn_protocol() == Some(b"h2");
    let builder = port.builder.clone();
    let builder = if h2 { builder.http2_only() } else { builder.http1_only() };
    let asked = Arc::new(AtomicBool::new(false));
    let answering = Arc::clone(&asked);
    let service = service_fn(move |request| {
        answering.store(true, Ordering::Relaxed);
        answer(port.router.clone(), admitted.clone(), request)
    });
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    // A connection is made to ask: one that has not asked by then will not.
    let mut patience = std::pin::pin!(tokio::time::sleep(HEADER));
    let mut waiting = true;
    let mut draining = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%remote, %error, "connection ended");
                }
                return;
            }
            () = patience.as_mut(), if waiting => {
                waiting = false;
                if !asked.load(Ordering::Relaxed) {
                    return;
                }
            }
            () = turned_true(&mut stopping), if !draining => {
                draining = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// Who the peer is, or why it may not pass.
fn admit(port: &Port, certificate: Option<&impl AsRef<[u8]>>) -> Result<Peer, Problem> {
    let Some(peer) = certificate.and_then(|der| Peer::of_certificate(der.as_ref())) else {
        return Err(Problem::new("the certificate carries no role")
            .with_remedy("use a certificate with a URI of the form baton://CLUSTER/KIND/NAME"));
    };
    if peer.cluster != port.cluster {
        let ours = &port.cluster;
        return Err(Problem::new(format!("{peer} is not of the cluster {ours}")));
    }
    if !port.allow.contains(&peer.kind) {
        let mut allowed: Vec<_> = port.allow.iter().map(|kind| kind.as_str()).collect();
        allowed.dedup();
        let allowed = allowed.join(" or ");
        return Err(Problem::new(format!("{peer} may not ask here"))
            .with_remedy(format!("use a certificate of kind {allowed}")));
    }
    Ok(peer)
}

async fn answer(
    router: Router,
    admitted: Result<(Peer, Option<Shown>), Problem>,
    request: Request<Incoming>,
) -> Result<Response, Infallible> {
    let (peer, shown) = match admitted {
        Ok(admitted) => admitted,
        Err(problem) => return Ok((StatusCode::FORBIDDEN, Json(problem)).into_response()),
    };
    let limit = if request.uri().path() == RAFT_PATH { RAFT_BODY_BYTES } else { BODY_BYTES };
    if request.body().size_hint().lower() > limit {
        return Ok(too_large(limit));
    }
    let most = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut request = request.map(|body| Body::new(Limited::new(body, most)));
    request.extensions_mut().insert(peer);
    if let Some(shown) = shown {
        request.extensions_mut().insert(shown);
    }
    let what = format!("{} {}", request.method(), request.uri().path());
    let response = TowerToHyperService::new(router).call(request).await?;
    Ok(in_our_form(response, &what).await)
}

fn too_large(limit: u64) -> Response {
    let problem = Problem::new(format!("the body is larger than {limit} bytes"));
    (StatusCode::PAYLOAD_TOO_LARGE, Json(problem)).into_response()
}

/// Error answers of the router itself (no such path, unreadable body) come as plain text: make
/// them a [`Problem`], as every error answer is.
async fn in_our_form(response: Response, what: &str) -> Response {
    let status = response.status();
    let json = response.headers().get(CONTENT_TYPE).is_some_and(|value| {
        value.to_str().is_ok_and(|value| value.starts_with("application/json"))
    });
    if json || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let text = match Limited::new(body, 4_096).collect().await {
        Ok(body) => String::from_utf8_lossy(&body.to_bytes()).into_owned(),
        Err(_) => String::new(),
    };
    let reason = if text.is_empty() { status.to_string() } else { text };
    parts.headers.remove(CONTENT_LENGTH);
    parts.headers.remove(CONTENT_TYPE);
    (parts, Json(Problem::new(format!("{what}: {reason}")))).into_response()
}

/// Those who fail before they have a name. They may be a port scanner, so they get one line of
/// log in ten seconds, which counts the rest.
#[derive(Default)]
struct Strangers {
    /// `clock::now` in milliseconds, when the next line may be written.
    next: AtomicU64,
    unsaid: AtomicU64,
}

impl Strangers {
    fn note(&self, remote: SocketAddr, reason: &str) {
        let now = clock::now().0 / 1_000;
        let next = self.next.load(Ordering::Relaxed);
        let until = now + STRANGER_LOG_MILLIS;
        let ours = now >= next
            && self
                .next
                .compare_exchange(next, until, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if ours {
            let unsaid = self.unsaid.swap(0, Ordering::Relaxed);
            tracing::warn!(%remote, unsaid, "connection without a valid certificate: {reason}");
        } else {
            self.unsaid.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(%remote, "connection without a valid certificate: {reason}");
        }
    }
}
