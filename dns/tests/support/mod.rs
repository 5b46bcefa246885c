//! A name server in this process, a zone for it, and the two ways to ask it something.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

pub mod voters;

use dns::NameServer;
use dns::current::Current;
use dns::serve::Limits;
use dns::store::Store;
use failover::ids::Epoch;
use failover::zone::{Data, Zone};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use wire::http::Client;

/// Longer than anything here takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);
pub const ORIGIN: &str = "db.clinic.example.";

/// The zone of one service in its first epoch, with a few names that only tests want.
pub fn zone(version: u32) -> Zone {
    let primary: IpAddr = [127, 0, 1, 1].into();
    let mut zone = Zone {
        version,
        origin: ORIGIN.into(),
        contact: "hostmaster.clinic.example.".into(),
        ttl_seconds: 5,
        name_servers: vec![name("ns1"), name("ns2")],
        epochs: BTreeMap::from([(name("clinic"), Epoch(1))]),
        ..Zone::default()
    };
    let records = [
        ("ns1", vec![address([127, 0, 1, 1]), Data::Address("2001:db8::1".parse().unwrap())]),
        ("ns2", vec![address([127, 0, 2, 1])]),
        ("clinic", vec![Data::Address(primary), Data::Text("service=clinic epoch=1".into())]),
        ("clinic-ro", vec![address([127, 0, 2, 1]), address([127, 0, 3, 1])]),
        ("_postgresql._tcp.clinic", vec![service(5432, "clinic")]),
        ("patients", vec![Data::Alias("clinic".into())]),
        ("old-patients", vec![Data::Alias("patients".into())]),
        ("dangling", vec![Data::Alias("nowhere".into())]),
        ("loop-a", vec![Data::Alias("loop-b".into())]),
        ("loop-b", vec![Data::Alias("loop-a".into())]),
        ("six", vec![Data::Address("2001:db8::6".parse().unwrap())]),
        ("many", (1..=60).map(|last| address([10, 0, 0, last])).collect()),
        ("crowd", (1..=100).map(|last| address([10, 0, 0, last])).collect()),
        ("_sip._tcp.many", vec![service(5060, "many")]),
    ];
    zone.records = records.into_iter().map(|(name, data)| (name.into(), data)).collect();
    zone
}

/// The zone after a failover: the writable name points elsewhere.
pub fn moved(version: u32, epoch: u64, to: [u8; 4]) -> Zone {
    let mut zone = zone(version);
    zone.epochs = BTreeMap::from([(name("clinic"), Epoch(epoch))]);
    let text = Data::Text(format!("service=clinic epoch={epoch}"));
    zone.records.insert("clinic".into(), vec![address(to), text]);
    zone
}

pub fn name<T: std::str::FromStr>(text: &str) -> T
where
    T::Err: std::fmt::Debug,
{
    text.parse().expect("a name")
}

pub fn address(address: [u8; 4]) -> Data {
    Data::Address(address.into())
}

fn service(port: u16, target: &str) -> Data {
    Data::Service { port, target: target.into() }
}

/// A server that runs until it is dropped or stopped.
pub struct Running {
    pub address: SocketAddr,
    pub current: Arc<Current>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Running {
    pub async fn start(data: &Path, voters: Vec<Client>) -> Self {
        Self::start_at("127.0.0.1:0", data, voters, None, Limits::default()).await
    }

    pub async fn start_at(
        listen: &str,
        data: &Path,
        voters: Vec<Client>,
        origin: Option<Name>,
        limits: Limits,
    ) -> Self {
        let current = Current::new(Store::open(data).unwrap(), origin.as_ref());
        let server = NameServer::open(&[listen.parse().unwrap()], current).await.unwrap();
        let server = server.limited(limits);
        let address = server.addresses()[0];
        let current = Arc::clone(server.current());
        let (stop, stopping) = watch::channel(false);
        let task = tokio::spawn(server.run(name("ns1"), voters, stopping));
        Self { address, current, stop, task }
    }

    /// Serving `zone`, with `data` as its folder.
    pub async fn serving(data: &Path, zone: Zone) -> Self {
        let running = Self::start(data, Vec::new()).await;
        running.current.offer(zone).await.unwrap();
        running
    }

    pub async fn stop(self) {
        self.stop.send_replace(true);
        timeout(PATIENCE, self.task).await.expect("stops").expect("without a panic");
    }

    /// What the server says about a name, over UDP.
    pub async fn ask(&self, name: &str, kind: RecordType) -> Message {
        parse(&self.datagram(&question(name, kind).to_vec().unwrap()).await)
    }

    /// The answer to any bytes, over UDP.
    pub async fn datagram(&self, message: &[u8]) -> Vec<u8> {
        let socket = socket_to(self.address).await;
        socket.send(message).await.unwrap();
        receive(&socket).await
    }

    /// The answer to any bytes, over TCP.
    pub async fn stream(&self, message: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        write(&mut stream, message).await;
        read(&mut stream).await.expect("an answer")
    }
}

pub async fn socket_to(address: SocketAddr) -> UdpSocket {
    let any = if address.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
    let socket = UdpSocket::bind(any).await.unwrap();
    socket.connect(address).await.unwrap();
    socket
}

pub async fn receive(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = vec![0; 65_535];
    let length = timeout(PATIENCE, socket.recv(&mut buffer)).await.expect("in time").unwrap();
    buffer.truncate(length);
    buffer
}

pub async fn write(stream: &mut TcpStream, message: &[u8]) {
    let length = u16::try_from(message.len()).unwrap();
    stream.write_all(&[&length.to_be_bytes(), message].concat()).await.unwrap();
}

/// The next message of a connection; `None` when the server closed it.
pub async fn read(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let read = async {
        let mut message = vec![0; usize::from(stream.read_u16().await.ok()?)];
        stream.read_exact(&mut message).await.ok()?;
        Some(message)
    };
    timeout(PATIENCE, read).await.expect("in time")
}

/// A question; a name without a final dot is relative to the zone.
pub fn question(name: &str, kind: RecordType) -> Message {
    let name = if name.ends_with('.') { name.into() } else { format!("{name}.{ORIGIN}") };
    let mut message = Message::new(0x1234, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

pub fn parse(bytes: &[u8]) -> Message {
    Message::from_vec(bytes).expect("a message")
}

/// The records of a section as text, sorted: `name ttl class type data`.
pub fn lines(records: &[hickory_proto::rr::Record]) -> Vec<String> {
    let mut lines: Vec<_> = records.iter().map(ToString::to_string).collect();
    lines.sort();
    lines
}

/// Waits until `condition` holds.
pub async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let wait = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}

/// A server of `zone`, and its folder.
pub async fn serving(zone: Zone) -> (TempDir, Running) {
    let data = tempfile::tempdir().unwrap();
    let running = Running::serving(data.path(), zone).await;
    (data, running)
}

/// A question with an OPT record.
pub fn with_edns(mut message: Message, payload: u16) -> Vec<u8> {
    let mut edns = Edns::new();
    edns.set_max_payload(payload);
    message.set_edns(edns);
    message.to_vec().unwrap()
}
