//! One question to one name server, by a real packet.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use failover::ids::ServiceId;
use failover::report::NameServerAnswer;
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::net::UdpSocket;
use tokio::time::timeout;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_millis(300);
/// No answer of ours is longer.
const LARGEST: usize = 4_096;

/// Asks for the zone's serial and for each writable name and canary; an address says which family
/// is wanted.
pub async fn name_server(
    address: SocketAddr,
    origin: &str,
    names: &[(ServiceId, String, IpAddr)],
    canaries: &[(ServiceId, String, IpAddr)],
) -> NameServerAnswer {
    match timeout(PATIENCE, ask_all(address, origin, names, canaries)).await {
        Ok(Ok(Some(answer))) => answer,
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
            NameServerAnswer::Refused
        }
        Ok(Ok(None) | Err(_)) | Err(_) => NameServerAnswer::Silent,
    }
}

async fn ask_all(
    address: SocketAddr,
    origin: &str,
    names: &[(ServiceId, String, IpAddr)],
    canaries: &[(ServiceId, String, IpAddr)],
) -> io::Result<Option<NameServerAnswer>> {
    let any: SocketAddr = if address.is_ipv4() {
        (Ipv4Addr::UNSPECIFIED, 0).into()
    } else {
        (Ipv6Addr::UNSPECIFIED, 0).into()
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(address).await?;
    let soa = ask(&socket, origin, RecordType::SOA).await?;
    let serial = soa.iter().find_map(|record| {
        if let RData::SOA(soa) = &record.data { Some(soa.serial) } else { None }
    });
    let Some(version) = serial else { return Ok(None) };
    let writable = addresses(&socket, names).await?;
    let canaries = addresses(&socket, canaries).await?;
    Ok(Some(NameServerAnswer::Serves { version, writable, canaries }))
}

async fn addresses(
    socket: &UdpSocket,
    names: &[(ServiceId, String, IpAddr)],
) -> io::Result<Vec<(ServiceId, Vec<IpAddr>)>> {
    let mut found = Vec::new();
    for (service, name, family) in names {
        let kind = if family.is_ipv4() { RecordType::A } else { RecordType::AAAA };
        let records = ask(socket, name, kind).await?;
        let addresses = records.iter().filter_map(|record| record.data.ip_addr()).collect();
        found.push((service.clone(), addresses));
    }
    Ok(found)
}

/// The answer section for one question; empty unless the server speaks for the zone.
async fn ask(socket: &UdpSocket, name: &str, kind: RecordType) -> io::Result<Vec<Record>> {
    let name = Name::from_str(name).map_err(io::Error::other)?;
    let mut id = [0_u8; 2];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut id)
        .map_err(|_| io::Error::other("no random bytes"))?;
    let id = u16::from_be_bytes(id);
    let mut question = Message::new(id, MessageType::Query, OpCode::Query);
    question.add_query(Query::query(name.clone(), kind));
    let bytes = question.to_vec().map_err(io::Error::other)?;
    socket.send(&bytes).await?;
    let mut buffer = [0_u8; LARGEST];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let packet = buffer.get(..length).unwrap_or_default();
        // What cannot be read, or answers something else, is not our answer: go on waiting.
        let Ok(answer) = Message::from_vec(packet) else { continue };
        let ours = answer
            .queries
            .first()
            .is_some_and(|query| query.name == name && query.query_type == kind);
        if answer.metadata.id != id || !ours {
            continue;
        }
        let speaks =
            answer.metadata.authoritative && answer.metadata.response_code == ResponseCode::NoError;
        return Ok(if speaks { answer.answers } else { Vec::new() });
    }
}
