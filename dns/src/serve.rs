//! The sockets. Decoding, dispatch and encoding are hickory's; its own server is not used because
//! it bounds neither connections nor tasks. Here nothing grows with what strangers send: one
//! datagram is answered before the next is read, a connection holds one message, and there are at
//! most so many connections.

use crate::keep::keep;
use crate::respond::{PAYLOAD, Responder, Sighted, sight};
use hickory_proto::rr::Record;
use hickory_proto::serialize::binary::BinEncoder;
use hickory_server::net::runtime::TokioTime;
use hickory_server::net::{NetError, xfer::Protocol};
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponse;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::{sleep, timeout};
use wire::listen::{self, BindError};

/// The longest message that is read: a question with every option there is fits four times.
const LONGEST_QUESTION: usize = 4096;
/// What strangers may take of us.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at the same time, over all addresses.
    pub connections: usize,
    /// Of these, from one address.
    pub connections_each: usize,
    /// How long a connection may be silent between two messages (RFC 7766, section 6.2.3).
    pub idle: Duration,
    /// How long a message may take once begun, in either direction.
    pub message: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 256,
            connections_each: 32,
            idle: Duration::from_secs(10),
            message: Duration::from_secs(5),
        }
    }
}

/// One address, both ways.
#[derive(Debug)]
pub struct Sockets {
    udp: UdpSocket,
    tcp: TcpListener,
    address: SocketAddr,
}

impl Sockets {
    /// Opens both sockets of an address. Port 0: any port that is free for both.
    ///
    /// # Errors
    /// [`BindError`] says which, and by whom it is held.
    pub async fn bind(address: SocketAddr) -> Result<Self, BindError> {
        let mut attempts = if address.port() == 0 { 16 } else { 1 };
        loop {
            let tcp = listen::tcp(address).await?;
            let own = tcp.local_addr().map_err(|source| BindError {
                address,
                reason: source.to_string(),
                source,
            })?;
            attempts -= 1;
            match listen::udp(own).await {
                Ok(udp) => return Ok(Self { udp, tcp, address: own }),
                Err(error) if attempts == 0 => return Err(error),
                Err(_) => {}
            }
        }
    }

    /// Where it answers.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Answers on all `sockets`. Never ends by itself; nothing goes on once it is dropped.
pub async fn serve(sockets: Vec<Sockets>, responder: Arc<Responder>, limits: Limits) {
    let connections = Arc::new(Connections { limits, counts: Mutex::default() });
    let mut tasks = tokio::task::JoinSet::new();
    for Sockets { udp, tcp, .. } in sockets {
        let (udp, answers) = (Arc::new(udp), Arc::clone(&responder));
        tasks.spawn(keep("answering datagrams", move || {
            datagrams(Arc::clone(&udp), Arc::clone(&answers))
        }));
        tasks.spawn(accept(tcp, Arc::clone(&responder), Arc::clone(&connections)));
    }
    while tasks.join_next().await.is_some() {}
}

async fn datagrams(socket: Arc<UdpSocket>, responder: Arc<Responder>) {
    let mut buffer = vec![0; LONGEST_QUESTION];
    loop {
        let (message, from) = match socket.recv_from(&mut buffer).await {
            Ok((length, from)) => (buffer.get(..length).unwrap_or_default().to_vec(), from),
            Err(error) => {
                tracing::debug!(%error, "cannot receive");
                sleep(Duration::from_millis(10)).await;
                continue;
            }
        };
        let datagram = Datagram { socket: Arc::clone(&socket), to: from };
        match sight(message, from, Protocol::Udp) {
            Sighted::Nothing => {}
            Sighted::Error(header) => {
                responder.tally().refused_at_sight(Protocol::Udp, header);
                datagram.send(&header);
            }
            Sighted::Question(request) => {
                responder.handle_request::<_, TokioTime>(&request, datagram).await;
            }
        }
    }
}

/// Where the answer to a datagram goes.
#[derive(Clone)]
struct Datagram {
    socket: Arc<UdpSocket>,
    to: SocketAddr,
}

impl Datagram {
    /// Sends at once or not at all: an address that does not resolve must not make others wait,
    /// and who asks by datagram asks again.
    fn send(&self, bytes: &[u8]) {
        if let Err(error) = self.socket.try_send_to(bytes, self.to) {
            tracing::debug!(to = %self.to, %error, "answer not sent");
        }
    }
}

#[async_trait::async_trait]
impl ResponseHandler for Datagram {
    async fn send_response<'a>(
        &mut self,
        response: MessageResponse<
            '_,
            'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
        >,
    ) -> Result<ResponseInfo, NetError> {
        let mut bytes = Vec::with_capacity(512);
        let mut encoder = BinEncoder::new(&mut bytes);
        encoder.set_max_size(PAYLOAD);
        let info = response.destructive_emit(&mut encoder)?;
        self.send(&bytes);
        Ok(info)
    }
}

/// How many connections there are, by where they come from.
#[derive(Debug)]
struct Connections {
    limits: Limits,
    counts: Mutex<BTreeMap<IpAddr, usize>>,
}

/// One connection's place; given back when dropped.
struct Place {
    connections: Arc<Connections>,
    from: IpAddr,
}

impl Connections {
    fn place(self: &Arc<Self>, from: IpAddr) -> Option<Place> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = counts.values().sum();
        let each = counts.get(&from).copied().unwrap_or(0);
        if all >= self.limits.connections || each >= self.limits.connections_each {
            return None;
        }
        counts.insert(from, each + 1);
        Some(Place { connections: Arc::clone(self), from })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.connections.counts.lock().unwrap_or_else(PoisonError::into_inner);
        match counts.get_mut(&self.from) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(counts.remove(&self.from)),
        }
    }
}

async fn accept(tcp: TcpListener, responder: Arc<Responder>, connections: Arc<Connections>) {
    let mut tasks = tokio::task::JoinSet::new();
    loop {
        match tcp.accept().await {
            Ok((stream, from)) => {
                // Who is one too many is told at once and may come again.
                if let Some(place) = connections.place(from.ip().to_canonical()) {
                    tasks.spawn(converse(stream, from, Arc::clone(&responder), place));
                }
            }
            // Out of files, most likely: they come back with the connections that end.
            Err(error) => {
                tracing::debug!(%error, "cannot accept");
                sleep(Duration::from_millis(100)).await;
            }
        }
        while tasks.try_join_next().is_some() {}
    }
}

async fn converse(stream: TcpStream, from: SocketAddr, responder: Arc<Responder>, place: Place) {
    drop(stream.set_nodelay(true));
    let (mut read, write) = stream.into_split();
    let limits = place.connections.limits;
    let broken = AtomicBool::new(false);
    let stream = Stream(Arc::new(Writer { half: write.into(), broken, patience: limits.message }));
    while let Some(message) = next_message(&mut read, limits).await {
        match sight(message, from, Protocol::Tcp) {
            Sighted::Nothing => break,
            Sighted::Error(header) => {
                responder.tally().refused_at_sight(Protocol::Tcp, header);
                drop(stream.send(&header).await);
            }
            Sighted::Question(request) => ask(&responder, &request, stream.clone()).await,
        }
        if stream.0.broken.load(Ordering::Relaxed) {
            break;
        }
    }
    drop(place);
}

async fn ask(responder: &Responder, request: &Request, stream: Stream) {
    responder.handle_request::<_, TokioTime>(request, stream).await;
}

/// The next message; `None` when the connection is to be closed.
async fn next_message(read: &mut OwnedReadHalf, limits: Limits) -> Option<Vec<u8>> {
    let length = usize::from(timeout(limits.idle, read.read_u16()).await.ok()?.ok()?);
    if length > LONGEST_QUESTION {
        return None;
    }
    let mut message = vec![0; length];
    timeout(limits.message, read.read_exact(&mut message)).await.ok()?.ok()?;
    Some(message)
}

struct Writer {
    half: tokio::sync::Mutex<OwnedWriteHalf>,
    /// A message was cut short: what comes after could not be told apart.
    broken: AtomicBool,
    /// How long a message may take.
    patience: Duration,
}

/// Where the answers of a connection go: each after its length (RFC 1035, section 4.2.2).
#[derive(Clone)]
struct Stream(Arc<Writer>);

impl Stream {
    async fn send(&self, bytes: &[u8]) -> io::Result<()> {
        let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
        let framed = [&length.to_be_bytes(), bytes].concat();
        let mut half = self.0.half.lock().await;
        let sent = timeout(self.0.patience, half.write_all(&framed)).await;
        let sent = sent.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        if sent.is_err() {
            self.0.broken.store(true, Ordering::Relaxed);
        }
        sent
    }
}

#[async_trait::async_trait]
impl ResponseHandler for Stream {
    async fn send_response<'a>(
        &mut self,
        response: MessageResponse<
            '_,
            'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
        >,
    ) -> Result<ResponseInfo, NetError> {
        let mut bytes = Vec::with_capacity(512);
        let info = response.destructive_emit(&mut BinEncoder::new(&mut bytes))?;
        self.send(&bytes).await?;
        Ok(info)
    }
}
