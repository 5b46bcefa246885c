//! Bytes that are no question, by datagram and by connection: nothing stops, nothing grows.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod support;

use hickory_proto::op::MessageType;
use hickory_proto::rr::RecordType;
use support::{parse, question, read, receive, serving, socket_to, with_edns, zone};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// Repeatable bytes (xorshift).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[3]
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end).unwrap()).unwrap()
    }
}

fn resident_pages() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i27_garbage_by_datagram_neither_stops_nor_grows_it() {
    let (_data, server) = serving(zone(7)).await;
    let good = with_edns(question("clinic", RecordType::A), 1232);
    let socket = socket_to(server.address).await;
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    let mut buffer = vec![0; 65_535];
    let mut before = 0;
    for round in 0..60_000 {
        let mut message = good.clone();
        if round % 3 == 0 {
            message = (0..dice.below(200)).map(|_| dice.byte()).collect();
        } else {
            for _ in 0..=dice.below(4) {
                let at = dice.below(message.len());
                message[at] = dice.byte();
            }
            message.truncate(message.len() - dice.below(2) * dice.below(message.len()));
        }
        socket.send(&message).await.unwrap();
        if round % 100 == 0 {
            // All that came before has been read when this is answered: nothing was dropped.
            let answer = server.ask("clinic", RecordType::A).await;
            assert_eq!(answer.answers.len(), 1);
            while socket.try_recv(&mut buffer).is_ok() {}
        }
        if round == 10_000 {
            before = resident_pages();
        }
    }
    // 16 MB: what other tests of this process use meanwhile.
    assert!(resident_pages() < before + 4096, "grew from {before} to {} pages", resident_pages());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i27_garbage_by_connection_neither_stops_nor_grows_it() {
    let (_data, server) = serving(zone(7)).await;
    let mut dice = Dice(42);
    for round in 0..500 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let length = dice.below(300);
        let mut message: Vec<u8> = (0..length).map(|_| dice.byte()).collect();
        if round % 2 == 0 {
            // A length that fits, so that the garbage is read as a message.
            let rest = u16::try_from(length).unwrap();
            message.splice(0..0, rest.to_be_bytes());
        }
        // The server may close first.
        drop(stream.write_all(&message).await);
        drop(stream.shutdown().await);
        while read(&mut stream).await.is_some() {}
    }
    let asked = question("clinic", RecordType::A).to_vec().unwrap();
    assert_eq!(parse(&server.stream(&asked).await).answers.len(), 1);
}

#[tokio::test]
async fn i27_an_answer_is_never_answered() {
    let (_data, server) = serving(zone(7)).await;
    let socket = socket_to(server.address).await;
    let mut answer = question("clinic", RecordType::A);
    answer.metadata.message_type = MessageType::Response;
    socket.send(&answer.to_vec().unwrap()).await.unwrap();
    let mut garbage = vec![0xFF; 40];
    garbage[2] = 0x80;
    socket.send(&garbage).await.unwrap();
    // Datagrams of one socket come in order: the next answer is to the question.
    socket.send(&question("clinic", RecordType::TXT).to_vec().unwrap()).await.unwrap();
    let first = parse(&receive(&socket).await);
    assert_eq!(first.queries[0].query_type(), RecordType::TXT);
}
