//! Foreign secondaries: they take the zone whole (AXFR, RFC 5936) and are told when it changed
//! (NOTIFY, RFC 1996). Only those that the zone lists. IXFR (RFC 1995) is answered, as it may be,
//! with the whole zone: it is a handful of names.

use crate::answer::{Answer, Served};
use crate::current::Current;
use crate::respond::{Envelope, unsent};
use failover::zone::Zone;
use hickory_proto::op::{Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::{RData, Record, RecordType};
use hickory_server::net::xfer::Protocol;
use hickory_server::server::{RequestInfo, ResponseHandler, ResponseInfo};
use ring::rand::{SecureRandom, SystemRandom};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Records a message of a transfer: of the largest kind (a name and a text of 255 bytes each)
/// they fill half of what a message may hold.
const CHUNK: usize = 64;
/// How long a secondary has to acknowledge the first NOTIFY; twice as long for each one after.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// The longest wait between two.
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// Answers AXFR and IXFR.
pub async fn transfer<R: ResponseHandler>(
    served: &Served,
    info: &RequestInfo<'_>,
    envelope: &Envelope<'_>,
    mut reply: R,
) -> ResponseInfo {
    let kind = info.query.query_type();
    if !may_transfer(served.zone(), info.src.ip()) {
        tracing::warn!(from = %info.src, "transfer refused: not a listed secondary");
        return envelope.send(&Answer::of(ResponseCode::Refused), reply).await;
    }
    if info.query.name() != served.origin() {
        return envelope.send(&Answer::of(ResponseCode::NotAuth), reply).await;
    }
    if info.protocol == Protocol::Udp && kind == RecordType::AXFR {
        return envelope.send(&Answer::of(ResponseCode::FormErr), reply).await;
    }
    let has = envelope.request().authorities.first().and_then(|record| {
        if let RData::SOA(soa) = &record.data { Some(soa.serial) } else { None }
    });
    // Who is up to date, and who should come again over TCP, is told by the SOA alone (RFC 1995,
    // section 4).
    let current = has.is_some_and(|serial| is_current(serial, served.version()));
    if kind == RecordType::IXFR && (current || info.protocol == Protocol::Udp) {
        let answers = vec![served.soa().clone()];
        let answer = Answer { authoritative: true, answers, ..Answer::default() };
        return envelope.send(&answer, reply).await;
    }
    tracing::info!(to = %info.src, version = served.version(), "transfers the zone");
    let soa = std::iter::once(served.soa());
    let records: Vec<&Record> = soa.clone().chain(served.records()).chain(soa).collect();
    let mut last = unsent(Metadata::response_from_request(info.metadata));
    for chunk in records.chunks(CHUNK) {
        match envelope.stream(chunk, &mut reply).await {
            Some(sent) => last = sent,
            None => break,
        }
    }
    last
}

fn may_transfer(zone: &Zone, asker: IpAddr) -> bool {
    zone.secondaries.iter().any(|listed| listed.ip().to_canonical() == asker.to_canonical())
}

/// Whether serial `has` is `ours` or after it, in the arithmetic of RFC 1982.
fn is_current(has: u32, ours: u32) -> bool {
    has.wrapping_sub(ours) < 1 << 31
}

/// Tells the secondaries of every version that comes to be served, until each has acknowledged it
/// or there is a newer one. Never ends by itself.
pub async fn announce(current: Arc<Current>, listen: Vec<SocketAddr>) {
    let mut changes = current.changes();
    changes.mark_changed();
    let mut telling = JoinSet::new();
    while changes.changed().await.is_ok() {
        telling.abort_all();
        while telling.join_next().await.is_some() {}
        let Some(served) = current.served() else { continue };
        for secondary in &served.zone().secondaries {
            let source = source(&listen, *secondary);
            telling.spawn(tell(Arc::clone(&served), *secondary, source));
        }
    }
}

/// The address that the secondary knows us by.
fn source(listen: &[SocketAddr], secondary: SocketAddr) -> SocketAddr {
    let same_family = |own: &&SocketAddr| own.is_ipv4() == secondary.is_ipv4();
    let own = listen.iter().find(same_family).map(SocketAddr::ip);
    let any: IpAddr = if secondary.is_ipv4() { [0; 4].into() } else { [0_u16; 8].into() };
    SocketAddr::new(own.unwrap_or(any), 0)
}

async fn tell(served: Arc<Served>, secondary: SocketAddr, source: SocketAddr) {
    let mut wait = FIRST_WAIT;
    loop {
        let version = served.version();
        match timeout(wait, notify(&served, secondary, source)).await {
            Ok(Ok(ResponseCode::NoError)) => {
                tracing::info!(%secondary, version, "secondary acknowledged");
                return;
            }
            Ok(Ok(code)) => {
                tracing::warn!(%secondary, version, %code, "secondary does not take NOTIFY");
                return;
            }
            Ok(Err(error)) => {
                tracing::debug!(%secondary, version, %error, "NOTIFY not sent");
                // A closed port answers at once.
                sleep(wait).await;
            }
            Err(_) => tracing::debug!(%secondary, version, "NOTIFY not acknowledged"),
        }
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

/// Sends one NOTIFY and waits for its answer, however long that takes.
async fn notify(
    served: &Served,
    secondary: SocketAddr,
    source: SocketAddr,
) -> io::Result<ResponseCode> {
    let mut id = [0; 2];
    SystemRandom::new().fill(&mut id).map_err(|_| io::Error::other("no random bytes"))?;
    let id = u16::from_be_bytes(id);
    let mut message = Message::new(id, MessageType::Query, OpCode::Notify);
    message.metadata.authoritative = true;
    message.add_query(Query::query(served.origin().into(), RecordType::SOA));
    message.add_answer(served.soa().clone());
    let socket = UdpSocket::bind(source).await?;
    socket.connect(secondary).await?;
    socket.send(&message.to_vec().map_err(io::Error::other)?).await?;
    let mut buffer = [0; 512];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let Ok(answer) = Message::from_vec(buffer.get(..length).unwrap_or_default()) else {
            continue;
        };
        let answers = answer.metadata.message_type == MessageType::Response
            && answer.metadata.op_code == OpCode::Notify
            && answer.metadata.id == id;
        if answers {
            return Ok(answer.metadata.response_code);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc1982_serials_wrap() {
        assert!(is_current(7, 7));
        assert!(is_current(8, 7));
        assert!(!is_current(6, 7));
        assert!(is_current(1, u32::MAX));
        assert!(!is_current(u32::MAX, 1));
    }
}
