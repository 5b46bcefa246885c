//! Asking one server, again and again, over one connection.
//!
//! A connection can die in silence: a cut cable sends nothing. Two things keep that short. Pings
//! notice it on a connection that is otherwise idle or waiting; and a request that is not answered
//! in time makes the next one start on a new connection, since after an outage the old one may sit
//! in TCP's doubling retransmission pauses long after the network is well again. Where it was only
//! slow, its late answer brings it back: a new one costs three round trips.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, redirect, retry};
use rustls::ClientConfig;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{HttpError, Problem};
use crate::role::Kind;
use crate::tls::Identity;
use crate::verifier;

const PING_INTERVAL: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(2);
/// Data unacknowledged for this long: the kernel gives the connection up.
const SILENCE: Duration = Duration::from_secs(3);
/// Bounds a connection attempt that outlives the request that began it.
const CONNECT: Duration = Duration::from_secs(10);
/// The largest answer we take; a cluster's whole state is far below.
const ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// One pooled HTTP/2 connection with mutual TLS to one server. Clones share it.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    address: SocketAddr,
    tls: Arc<ClientConfig>,
    /// The one in use: each has a connection of its own.
    current: Mutex<Arc<reqwest::Client>>,
}

impl Client {
    /// A client for the server of kind `expected` at `base`. Connects when first used.
    ///
    /// # Errors
    /// [`HttpError::Tls`] when the HTTP stack refuses our TLS configuration.
    pub fn new(identity: &Identity, expected: Kind, base: SocketAddr) -> Result<Self, HttpError> {
        Self::with(identity.client_config(expected), base)
    }

    /// A client for one server only: its certificate must be that of `name`, so that what it
    /// answers is known to be from it.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub fn named(
        identity: &Identity,
        expected: Kind,
        name: &str,
        base: SocketAddr,
    ) -> Result<Self, HttpError> {
        Self::with(identity.client_config_named(expected, Some(name)), base)
    }

    fn with(tls: Arc<ClientConfig>, base: SocketAddr) -> Result<Self, HttpError> {
        let current = Mutex::new(Arc::new(connectable(&tls)?));
        Ok(Self { shared: Arc::new(Shared { address: base, tls, current }) })
    }

    /// Where it connects to.
    pub fn address(&self) -> SocketAddr {
        self.shared.address
    }

    /// GET of JSON; `path` begins with `/` and may carry a query. `timeout` covers everything
    /// from connecting to the last byte.
    ///
    /// # Errors
    /// [`HttpError`]
    pub async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        timeout: Duration,
    ) -> Result<T, HttpError> {
        from_json(&self.send(Method::GET, path, None, [timeout; 2]).await?)
    }

    /// POST of JSON, answered with JSON. `timeout` as for [`Client::get`].
    ///
    /// # Errors
    /// [`HttpError`]
    pub async fn post<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
        timeout: Duration,
    ) -> Result<T, HttpError> {
        self.post_with(path, body, HeaderMap::new(), timeout).await
    }

    /// The same, and later requests start on a new connection from when this one has waited for
    /// `late`, which is below `timeout`.
    ///
    /// # Errors
    /// [`HttpError`]
    pub async fn post_patiently<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
        late: Duration,
        timeout: Duration,
    ) -> Result<T, HttpError> {
        let body = json(body, HeaderMap::new())?;
        from_json(&self.send(Method::POST, path, Some(body), [late, timeout]).await?)
    }

    /// The same with more headers.
    ///
    /// # Errors
    /// [`HttpError`]
    pub async fn post_with<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
        headers: HeaderMap,
        timeout: Duration,
    ) -> Result<T, HttpError> {
        let body = json(body, headers)?;
        from_json(&self.send(Method::POST, path, Some(body), [timeout; 2]).await?)
    }

    /// POST of bytes, answered with bytes. `timeout` as for [`Client::get`].
    ///
    /// # Errors
    /// [`HttpError`]
    pub async fn post_bytes(
        &self,
        path: &str,
        body: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, HttpError> {
        let content = HeaderValue::from_static("application/octet-stream");
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, content)]);
        self.send(Method::POST, path, Some((headers, body)), [timeout; 2]).await
    }

    /// `bounds`: from when on it is late, and how long it is waited for.
    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<(HeaderMap, Bytes)>,
        bounds: [Duration; 2],
    ) -> Result<Bytes, HttpError> {
        let http = Arc::clone(&self.current());
        let url = format!("https://{}{path}", self.shared.address);
        let mut request = http.request(method, url);
        if let Some((headers, bytes)) = body {
            request = request.headers(headers).body(bytes);
        }
        let mut answer = pin!(async { receive(request.send().await?).await });
        // Our own clock of the request: the library's timeout looks the same as its ping's.
        let [late, timeout] = bounds;
        let mut answered = tokio::time::timeout(late, &mut answer).await;
        if answered.is_err() {
            self.abandon(&http);
            answered = tokio::time::timeout(timeout.saturating_sub(late), answer).await;
        }
        match answered {
            Ok(Ok(answer)) => {
                // If it was given up meanwhile, it was only slow: later requests go there again.
                *self.current() = http;
                answer
            }
            Ok(Err(error)) => Err(self.classify(&error)),
            Err(_) => Err(HttpError::Timeout { address: self.shared.address, after: timeout }),
        }
    }

    fn current(&self) -> MutexGuard<'_, Arc<reqwest::Client>> {
        self.shared.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets later requests start on a new connection. Requests under way keep the old one.
    fn abandon(&self, http: &Arc<reqwest::Client>) {
        let mut current = self.current();
        if Arc::ptr_eq(&current, http)
            && let Ok(new) = connectable(&self.shared.tls)
        {
            *current = Arc::new(new);
        }
    }

    fn classify(&self, error: &reqwest::Error) -> HttpError {
        let address = self.shared.address;
        if let Some(tls) = verifier::find(error) {
            return HttpError::Tls(format!("{address}: {}", verifier::explain(tls)));
        }
        let reason = innermost(error);
        // HTTP/2 keeps only the text of an alert that comes after our half of the handshake.
        if reason.contains("received fatal alert") {
            return HttpError::Tls(format!("{address} does not accept our certificate: {reason}"));
        }
        if error.is_connect() {
            let refused = kernel_said(error, io::ErrorKind::ConnectionRefused);
            return HttpError::Connect { refused, address, reason };
        }
        if error.is_builder() {
            return HttpError::Body(reason);
        }
        HttpError::Lost { address, reason }
    }
}

fn connectable(tls: &Arc<ClientConfig>) -> Result<reqwest::Client, HttpError> {
    reqwest::Client::builder()
        .tls_backend_preconfigured(ClientConfig::clone(tls))
        .http2_prior_knowledge()
        .http2_keep_alive_interval(PING_INTERVAL)
        .http2_keep_alive_timeout(PING_TIMEOUT)
        .http2_keep_alive_while_idle(true)
        .tcp_nodelay(true)
        .tcp_keepalive(None)
        .tcp_user_timeout(SILENCE)
        .connect_timeout(CONNECT)
        .pool_max_idle_per_host(1)
        .pool_idle_timeout(None)
        // Peers are reached directly and answer for themselves; loops retry, calls do not.
        .no_proxy()
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .referer(false)
        .build()
        .map_err(|error| HttpError::Tls(innermost(&error)))
}

/// The whole body of an answer, or what the server had against the request.
async fn receive(
    mut response: reqwest::Response,
) -> Result<Result<Bytes, HttpError>, reqwest::Error> {
    let status = response.status();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > ANSWER_BYTES {
            return Ok(Err(HttpError::Body(format!("answer larger than {ANSWER_BYTES} bytes"))));
        }
        body.extend_from_slice(&chunk);
    }
    if status.is_success() {
        return Ok(Ok(body.into()));
    }
    let problem = serde_json::from_slice(&body).unwrap_or_else(|_| {
        let text = String::from_utf8_lossy(&body);
        Problem::new(if text.is_empty() { status.to_string() } else { text.trim().to_owned() })
    });
    Ok(Err(HttpError::Status { code: status.as_u16(), problem }))
}

fn json<B: Serialize>(body: &B, mut headers: HeaderMap) -> Result<(HeaderMap, Bytes), HttpError> {
    let body = serde_json::to_vec(body).map_err(|error| HttpError::Body(error.to_string()))?;
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok((headers, body.into()))
}

fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, HttpError> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut reader)
        .map_err(|error| HttpError::Body(format!("unexpected answer: {error}")))?;
    reader.end().map_err(|error| HttpError::Body(format!("unexpected answer: {error}")))?;
    Ok(value)
}

/// The last error of the chain: the one that knows what happened.
fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

fn kernel_said(error: &(dyn Error + 'static), kind: io::ErrorKind) -> bool {
    let mut link = Some(error);
    while let Some(error) = link {
        if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == kind) {
            return true;
        }
        link = error.source();
    }
    false
}
