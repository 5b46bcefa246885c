//! Where the name points, asked as a client's resolver would.

use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::net::UdpSocket;
use tokio::time::timeout;

/// How long one name server is waited for.
const PATIENCE: Duration = Duration::from_millis(200);

/// The first address that one of `servers` gives for `name`, asked in turn from the one at
/// `first` on.
pub(super) async fn resolve(servers: &[SocketAddr], first: usize, name: &str) -> Option<Ipv4Addr> {
    for turn in 0..servers.len() {
        let server = servers.get((first + turn) % servers.len())?;
        if let Some(address) = ask(*server, name).await {
            return Some(address);
        }
    }
    None
}

/// What one name server answers; `None`: nothing, or no address.
pub(super) async fn ask(server: SocketAddr, name: &str) -> Option<Ipv4Addr> {
    let socket = UdpSocket::bind("0.0.0.0:0").await.ok()?;
    socket.connect(server).await.ok()?;
    let mut question = Message::new(7, MessageType::Query, OpCode::Query);
    question.add_query(Query::query(Name::from_str(name).ok()?, RecordType::A));
    socket.send(&question.to_vec().ok()?).await.ok()?;
    let mut buffer = [0_u8; 1_500];
    let length = timeout(PATIENCE, socket.recv(&mut buffer)).await.ok()?.ok()?;
    let answer = Message::from_vec(buffer.get(..length)?).ok()?;
    let address = |data: &RData| if let RData::A(address) = data { Some(address.0) } else { None };
    answer.answers.iter().find_map(|record| address(&record.data))
}
