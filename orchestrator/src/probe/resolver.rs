//! A small resolver that asks authoritative servers directly, and nobody else.
//!
//! Clients of a geo-redundant service must not hang on one dead name server, so the servers are
//! raced: the next is asked 50 ms after the last, or at once when that one refuses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// How long after one server the next is asked.
pub const STAGGER: Duration = Duration::from_millis(50);

/// A question without an answer is asked again after this long.
const AGAIN: Duration = Duration::from_millis(250);

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// The text is not a domain name.
    #[error("`{0}` is not a domain name")]
    Name(String),
    /// The server's machine answered that nothing listens there.
    #[error("{0} refuses")]
    Refused(SocketAddr),
    /// Nothing came back in time.
    #[error("{0} does not answer")]
    Silent(SocketAddr),
    /// The server answered with an error, or with something that is no answer.
    #[error("{server} answers {what}")]
    Answered {
        /// Who.
        server: SocketAddr,
        /// What.
        what: String,
    },
    /// There is nobody to ask.
    #[error("no name server is known: give --name-server IP:PORT")]
    Nobody,
}

/// Where a service is, as one server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Address and port to connect to.
    pub address: SocketAddr,
    /// How long the answer may be kept.
    pub ttl: Duration,
    /// Which server said so.
    pub by: SocketAddr,
}

/// The authoritative servers and the order to ask them in.
#[derive(Clone, Debug)]
pub struct Resolver {
    servers: Vec<SocketAddr>,
    first: usize,
}

impl Resolver {
    /// A resolver that knows these servers.
    pub fn new(servers: Vec<SocketAddr>) -> Self {
        Self { servers, first: 0 }
    }

    /// Begins with the next server from now on: what the first said led nowhere.
    pub fn rotate(&mut self) {
        self.first = (self.first + 1) % self.servers.len().max(1);
    }

    /// Address and port of `name` from the first server that gives one within `bound`.
    ///
    /// # Errors
    /// The last server's [`ResolveError`].
    pub async fn place(&self, name: &str, bound: Duration) -> Result<Place, ResolveError> {
        let mut waiting: Vec<SocketAddr> = self.servers.clone();
        let first = self.first.min(waiting.len());
        waiting.rotate_left(first);
        let mut waiting = waiting.into_iter();
        let mut asked: JoinSet<Result<Place, ResolveError>> = JoinSet::new();
        let mut last = ResolveError::Nobody;
        let mut next = waiting.next();
        while next.is_some() || !asked.is_empty() {
            if let Some(server) = next.take() {
                let name = name.to_owned();
                asked.spawn(async move { place_by(server, &name, bound).await });
            }
            tokio::select! {
                Some(answer) = asked.join_next() => match answer {
                    Ok(Ok(place)) => return Ok(place),
                    Ok(Err(error)) => { last = error; next = waiting.next(); }
                    Err(_) => next = waiting.next(),
                },
                () = sleep(STAGGER), if waiting.len() > 0 => next = waiting.next(),
            }
        }
        Err(last)
    }
}

/// Address (A, else AAAA) and port (SRV `_postgresql._tcp`) of a name, from one server.
async fn place_by(server: SocketAddr, name: &str, bound: Duration) -> Result<Place, ResolveError> {
    let service = format!("_postgresql._tcp.{name}");
    let (addresses, ports) =
        tokio::join!(addresses(server, name, bound), ask(server, &service, RecordType::SRV, bound));
    let (address, ttl) = addresses?.into_iter().next().ok_or_else(|| ResolveError::Answered {
        server,
        what: format!("that {name} has no address"),
    })?;
    let port = ports?
        .iter()
        .find_map(|record| if let RData::SRV(srv) = &record.data { Some(srv.port) } else { None });
    let address = SocketAddr::new(address, port.unwrap_or(5432));
    Ok(Place { address, ttl: Duration::from_secs(ttl.into()), by: server })
}

/// All addresses of a name with their time to live in seconds, from one server, sorted.
///
/// # Errors
/// [`ResolveError`]
pub async fn addresses(
    server: SocketAddr,
    name: &str,
    bound: Duration,
) -> Result<Vec<(IpAddr, u32)>, ResolveError> {
    let mut found = Vec::new();
    for kind in [RecordType::A, RecordType::AAAA] {
        for record in ask(server, name, kind, bound).await? {
            if let RData::A(a) = &record.data {
                found.push((IpAddr::V4(a.0), record.ttl));
            } else if let RData::AAAA(aaaa) = &record.data {
                found.push((IpAddr::V6(aaaa.0), record.ttl));
            }
        }
        if !found.is_empty() {
            break;
        }
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// The serial of a zone, from one server.
///
/// # Errors
/// [`ResolveError`]
pub async fn serial(
    server: SocketAddr,
    origin: &str,
    bound: Duration,
) -> Result<u32, ResolveError> {
    let records = ask(server, origin, RecordType::SOA, bound).await?;
    let serial = records.iter().find_map(|record| {
        if let RData::SOA(soa) = &record.data { Some(soa.serial) } else { None }
    });
    let none = || ResolveError::Answered { server, what: format!("no SOA for {origin}") };
    serial.ok_or_else(none)
}

/// Asks one server one question over UDP, again every 250 ms within `bound`; over TCP when the
/// answer did not fit. Records of a name that does not exist: none.
///
/// # Errors
/// [`ResolveError`]
pub async fn ask(
    server: SocketAddr,
    name: &str,
    kind: RecordType,
    bound: Duration,
) -> Result<Vec<Record>, ResolveError> {
    let mut question = Message::query();
    let mut asked = Name::from_str(name).map_err(|_| ResolveError::Name(name.to_owned()))?;
    asked.set_fqdn(true);
    question.add_query(Query::query(asked, kind));
    let bytes = question.to_vec().map_err(|_| ResolveError::Name(name.to_owned()))?;
    let exchanged = timeout(bound, exchange(server, &question, &bytes)).await;
    let answer = exchanged.map_err(|_| ResolveError::Silent(server))??;
    let code = answer.metadata.response_code;
    if matches!(code, ResponseCode::NoError | ResponseCode::NXDomain) {
        Ok(answer.answers)
    } else {
        Err(ResolveError::Answered { server, what: code.to_string() })
    }
}

async fn exchange(
    server: SocketAddr,
    question: &Message,
    bytes: &[u8],
) -> Result<Message, ResolveError> {
    let answer = over_udp(server, question, bytes).await?;
    if answer.metadata.truncation { over_tcp(server, question, bytes).await } else { Ok(answer) }
}

/// A socket failed: on a connected UDP socket that is the other machine's refusal.
fn failed(server: SocketAddr) -> impl Fn(std::io::Error) -> ResolveError {
    move |error| {
        if error.kind() == std::io::ErrorKind::ConnectionRefused {
            ResolveError::Refused(server)
        } else {
            ResolveError::Answered { server, what: error.to_string() }
        }
    }
}

async fn over_udp(
    server: SocketAddr,
    question: &Message,
    bytes: &[u8],
) -> Result<Message, ResolveError> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await.map_err(failed(server))?;
    socket.connect(server).await.map_err(failed(server))?;
    let mut buffer = vec![0_u8; 4_096];
    loop {
        socket.send(bytes).await.map_err(failed(server))?;
        let again = sleep(AGAIN);
        tokio::pin!(again);
        loop {
            tokio::select! {
                received = socket.recv(&mut buffer) => {
                    let length = received.map_err(failed(server))?;
                    if let Some(answer) = answer_to(question, buffer.get(..length)) {
                        return Ok(answer);
                    }
                }
                () = &mut again => break,
            }
        }
    }
}

async fn over_tcp(
    server: SocketAddr,
    question: &Message,
    bytes: &[u8],
) -> Result<Message, ResolveError> {
    let mut stream = TcpStream::connect(server).await.map_err(failed(server))?;
    let length = u16::try_from(bytes.len()).map_err(|_| ResolveError::Nobody)?;
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend_from_slice(bytes);
    stream.write_all(&framed).await.map_err(failed(server))?;
    let length = stream.read_u16().await.map_err(failed(server))?;
    let mut body = vec![0_u8; length.into()];
    stream.read_exact(&mut body).await.map_err(failed(server))?;
    let no_answer = || ResolveError::Answered { server, what: "something else".to_owned() };
    answer_to(question, Some(&body)).ok_or_else(no_answer)
}

/// The message, if it answers this very question. Anything else on the socket is skipped: late
/// answers and forgeries.
fn answer_to(question: &Message, bytes: Option<&[u8]>) -> Option<Message> {
    let answer = Message::from_vec(bytes?).ok()?;
    let fits = answer.metadata.message_type == MessageType::Response
        && answer.metadata.id == question.metadata.id
        && answer.queries == question.queries;
    fits.then_some(answer)
}

#[cfg(test)]
mod tests;
