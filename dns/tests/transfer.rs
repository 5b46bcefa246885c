//! Foreign secondaries: AXFR (RFC 5936), IXFR (RFC 1995) and NOTIFY (RFC 1996), seen from the
//! secondary's side.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod support;

use failover::zone::Zone;
use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::SOA;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use std::net::SocketAddr;
use support::{
    ORIGIN, PATIENCE, Running, address, lines, moved, parse, question, read, until, write, zone,
};
use tempfile::TempDir;
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::time::timeout;

/// Serves `zone` with one listed secondary, whose port is the socket's.
async fn with_secondary(mut zone: Zone) -> (TempDir, Running, UdpSocket) {
    let secondary = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    zone.secondaries = vec![secondary.local_addr().unwrap()];
    let data = tempfile::tempdir().unwrap();
    let running = Running::serving(data.path(), zone).await;
    (data, running, secondary)
}

fn ixfr(serial: u32) -> Vec<u8> {
    let mut asked = question(ORIGIN, RecordType::IXFR);
    let soa = SOA::new(Name::root(), Name::root(), serial, 0, 0, 0, 0);
    let owner = Name::from_ascii(ORIGIN).unwrap();
    asked.add_authority(Record::from_rdata(owner, 0, RData::SOA(soa)));
    asked.to_vec().unwrap()
}

fn serial(record: &Record) -> Option<u32> {
    if let RData::SOA(soa) = &record.data { Some(soa.serial) } else { None }
}

/// Reads messages until the second SOA; how many there were, and all their records.
async fn take(stream: &mut TcpStream) -> (usize, Vec<Record>) {
    let mut records = Vec::new();
    let mut messages = 0;
    while records.iter().filter_map(serial).count() < 2 {
        let message = parse(&read(stream).await.expect("a message"));
        assert_eq!(message.metadata.response_code, ResponseCode::NoError);
        assert!(message.metadata.authoritative);
        messages += 1;
        records.extend(message.answers);
    }
    (messages, records)
}

#[tokio::test]
async fn rfc5936_2_2_a_transfer_is_the_zone_between_two_soas() {
    let (_data, server, _secondary) = with_secondary(zone(7)).await;
    for asked in [question(ORIGIN, RecordType::AXFR).to_vec().unwrap(), ixfr(6)] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        write(&mut stream, &asked).await;
        let (_, records) = take(&mut stream).await;
        assert_eq!(records.first().and_then(serial), Some(7));
        assert_eq!(records.last().and_then(serial), Some(7));
        let lines = lines(&records);
        let served = zone(7).records.values().map(Vec::len).sum::<usize>();
        assert_eq!(lines.len(), served + 2 + 2, "records, two NS, two SOA");
        for line in [
            "clinic.db.clinic.example. 5 IN A 127.0.1.1",
            "patients.db.clinic.example. 5 IN CNAME clinic.db.clinic.example.",
            "db.clinic.example. 5 IN NS ns2.db.clinic.example.",
        ] {
            assert!(lines.iter().any(|have| have == line), "{line}");
        }
        // The connection goes on.
        write(&mut stream, &question("clinic", RecordType::A).to_vec().unwrap()).await;
        assert_eq!(parse(&read(&mut stream).await.unwrap()).answers.len(), 1);
    }
}

#[tokio::test]
async fn rfc5936_2_2_a_large_zone_takes_many_messages() {
    let mut large = zone(7);
    for number in 0..20_000_u32 {
        let [_, a, b, c] = number.to_be_bytes();
        large.records.insert(format!("host-{number}"), vec![address([10, a, b, c])]);
    }
    let (_data, server, _secondary) = with_secondary(large).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    write(&mut stream, &question(ORIGIN, RecordType::AXFR).to_vec().unwrap()).await;
    let (messages, records) = take(&mut stream).await;
    assert!(messages > 100, "{messages}");
    assert!(records.len() > 20_000);
}

#[tokio::test]
async fn rfc5936_5_others_are_refused() {
    let (_data, server, _secondary) = with_secondary(zone(7)).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut stranger = socket.connect(server.address).await.unwrap();
    for asked in [question(ORIGIN, RecordType::AXFR).to_vec().unwrap(), ixfr(6)] {
        write(&mut stranger, &asked).await;
        let answer = parse(&read(&mut stranger).await.unwrap());
        assert_eq!(answer.metadata.response_code, ResponseCode::Refused);
        assert!(answer.answers.is_empty());
    }
}

#[tokio::test]
async fn rfc5936_3_4_only_the_whole_zone_and_only_over_tcp() {
    let (_data, server, _secondary) = with_secondary(zone(7)).await;
    for name in ["clinic", "example.com."] {
        let asked = question(name, RecordType::AXFR).to_vec().unwrap();
        let answer = parse(&server.stream(&asked).await);
        assert_eq!(answer.metadata.response_code, ResponseCode::NotAuth, "{name}");
    }
    let answer = server.ask(ORIGIN, RecordType::AXFR).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::FormErr);
}

#[tokio::test]
async fn rfc1995_4_one_soa_for_who_is_current_or_asks_by_datagram() {
    let (_data, server, _secondary) = with_secondary(zone(7)).await;
    let current = parse(&server.stream(&ixfr(7)).await);
    let datagram = parse(&server.datagram(&ixfr(3)).await);
    for answer in [current, datagram] {
        assert_eq!(answer.answers.len(), 1);
        assert_eq!(serial(&answer.answers[0]), Some(7));
    }
}

async fn notification(secondary: &UdpSocket) -> (Message, SocketAddr) {
    let mut buffer = vec![0; 512];
    let received = timeout(PATIENCE, secondary.recv_from(&mut buffer)).await;
    let (length, from) = received.expect("in time").unwrap();
    (parse(&buffer[..length]), from)
}

#[tokio::test]
async fn rfc1996_3_a_secondary_is_told_until_it_acknowledges() {
    let (_data, server, secondary) = with_secondary(zone(7)).await;
    let (first, _) = notification(&secondary).await;
    assert_eq!(first.metadata.op_code, OpCode::Notify);
    assert_eq!(first.metadata.message_type, MessageType::Query);
    assert!(first.metadata.authoritative);
    assert_eq!(first.queries[0].query_type(), RecordType::SOA);
    assert_eq!(first.queries[0].name().to_string(), ORIGIN);
    assert_eq!(serial(&first.answers[0]), Some(7));

    // Not acknowledged: told again.
    let (second, from) = notification(&secondary).await;
    assert_eq!(serial(&second.answers[0]), Some(7));
    // An answer to another message does not count.
    let mut wrong = second.clone().into_response();
    wrong.metadata.id = second.metadata.id.wrapping_add(1);
    secondary.send_to(&wrong.to_vec().unwrap(), from).await.unwrap();
    let (third, from) = notification(&secondary).await;
    let answer = third.clone().into_response();
    secondary.send_to(&answer.to_vec().unwrap(), from).await.unwrap();

    // A change is told at once, and the old version no more.
    let mut next = moved(8, 2, [127, 0, 2, 1]);
    next.secondaries = vec![secondary.local_addr().unwrap()];
    server.current.offer(next).await.unwrap();
    until("version 8 is told", || async {
        serial(&notification(&secondary).await.0.answers[0]) == Some(8)
    })
    .await;
}

#[tokio::test]
async fn rfc1996_3_11_secondaries_are_told_after_a_restart() {
    let (data, server, secondary) = with_secondary(zone(7)).await;
    let (told, from) = notification(&secondary).await;
    let answer = told.into_response().to_vec().unwrap();
    secondary.send_to(&answer, from).await.unwrap();
    server.stop().await;
    let _server = Running::start(data.path(), Vec::new()).await;
    assert_eq!(serial(&notification(&secondary).await.0.answers[0]), Some(7));
}
