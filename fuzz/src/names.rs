//! Name servers: what strangers ask them (I-27), and what they take from voters and from their
//! own disk (I-29).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use dns::accept::{Verdict, accept};
use dns::answer::{Question, Served, answer};
use dns::current::Current;
use dns::respond::{PAYLOAD, Responder, Sighted, sight};
use dns::store::Store;
use failover::Epoch;
use failover::zone::{Data, Zone};
use hickory_proto::op::Message;
use hickory_proto::rr::{DNSClass, Name, Record, RecordType};
use hickory_proto::serialize::binary::BinEncoder;
use hickory_server::net::runtime::TokioTime;
use hickory_server::net::{NetError, xfer::Protocol};
use hickory_server::server::{RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponse;

use crate::place;

/// A zone of every kind of record, with aliases that lead nowhere and in circles.
fn zone() -> Zone {
    let address = |last: u8| Data::Address([10, 0, 0, last].into());
    let records: [(&str, Vec<Data>); 10] = [
        ("ns1", vec![address(1), Data::Address("2001:db8::1".parse().expect("an address"))]),
        ("clinic", vec![address(1), Data::Text("service=clinic epoch=1".into())]),
        ("clinic-ro", vec![address(2), address(3)]),
        ("_postgresql._tcp.clinic", vec![Data::Service { port: 5432, target: "clinic".into() }]),
        ("db", vec![Data::Alias("clinic".into())]),
        ("dangling", vec![Data::Alias("nowhere".into())]),
        ("loop-a", vec![Data::Alias("loop-b".into())]),
        ("loop-b", vec![Data::Alias("loop-a".into())]),
        ("crowd", (1..=100).map(address).collect()),
        ("_sip._tcp.crowd", vec![Data::Service { port: 5060, target: "crowd".into() }]),
    ];
    Zone {
        version: 7,
        origin: "db.example.".into(),
        contact: "hostmaster.example.".into(),
        ttl_seconds: 5,
        name_servers: vec![place::server(0), place::server(1)],
        records: records.into_iter().map(|(name, data)| (name.into(), data)).collect(),
        secondaries: vec![secondary()],
        epochs: BTreeMap::from([(place::service(), Epoch(1))]),
    }
}

/// Who may transfer the zone.
fn secondary() -> SocketAddr {
    ([10, 9, 9, 9], 53).into()
}

/// One server with that zone, and one with none.
static RESPONDERS: LazyLock<[Responder; 2]> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("baton-fuzz-dns-{}", std::process::id()));
    let current = |name: &str| {
        let store = Store::open(&folder.join(name)).expect("a folder");
        Current::new(store, None)
    };
    let serving = Store::open(&folder.join("serving")).expect("a folder");
    serving.save(&zone()).expect("a zone is written");
    let serving = current("serving");
    assert!(serving.restore().is_ok_and(|found| found), "the zone is served");
    let empty = current("empty");
    drop(std::fs::remove_dir_all(&folder));
    [Responder::new(Arc::new(serving)), Responder::new(Arc::new(empty))]
});

/// Where answers go: a list.
#[derive(Clone, Default)]
struct Answers {
    datagram: bool,
    sent: Arc<Mutex<Vec<Vec<u8>>>>,
}

#[async_trait::async_trait]
impl ResponseHandler for Answers {
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
        if self.datagram {
            encoder.set_max_size(PAYLOAD);
        }
        let info = response.destructive_emit(&mut encoder)?;
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).push(bytes);
        Ok(info)
    }
}

/// Nothing here waits for anything, so the first look finds it done.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("a question waits for something"),
    }
}

/// A message from a stranger. The first byte: by which way, and whether a zone is served.
pub fn dns_packet(bytes: &[u8]) {
    let Some((way, message)) = bytes.split_first() else { return };
    let datagram = way & 1 == 0;
    let protocol = if datagram { Protocol::Udp } else { Protocol::Tcp };
    let from = if way & 2 == 0 { ([127, 0, 0, 1], 4000).into() } else { secondary() };
    let responder = &RESPONDERS[usize::from(way >> 2 & 1)];
    match sight(message.to_vec(), from, protocol) {
        Sighted::Nothing => {}
        Sighted::Error(header) => {
            assert_eq!(header[..2], message[..2], "another question's answer");
            assert!(header[2] & 0x80 != 0 && header[4..] == [0; 8], "not a bare answer");
        }
        Sighted::Question(request) => {
            let answers = Answers { datagram, ..Answers::default() };
            at_once(responder.handle_request::<_, TokioTime>(&request, answers.clone()));
            let sent = answers.sent.lock().unwrap_or_else(PoisonError::into_inner);
            let edns = request.edns.is_some();
            for answer in sent.iter() {
                check(message, answer, datagram, edns);
            }
            assert!(!sent.is_empty(), "a question without an answer");
        }
    }
}

/// What every answer is, whatever was asked.
fn check(message: &[u8], bytes: &[u8], datagram: bool, edns: bool) {
    let answer = Message::from_vec(bytes).expect("we can read our own answers");
    assert_eq!(bytes[..2], message[..2], "another question's answer");
    assert!(bytes[2] & 0x80 != 0, "not an answer");
    let most = if !datagram {
        usize::from(u16::MAX)
    } else if edns {
        usize::from(PAYLOAD)
    } else {
        512
    };
    assert!(bytes.len() <= most, "{} bytes and at most {most}", bytes.len());
    assert_eq!(answer.edns.is_some(), edns, "EDNS is answered with EDNS");
}

/// Zones as voters send them and as the disk keeps them, one a line: each offered after the one
/// before. What is accepted can be asked about every name it has.
pub fn zone_file(bytes: &[u8]) {
    let mut served: Option<Served> = None;
    for line in bytes.split(|byte| *byte == b'\n').take(8) {
        drop(dns::store::decode(line));
        let Ok(zone) = serde_json::from_slice::<Zone>(line) else { continue };
        let kept = framed(line);
        assert_eq!(dns::store::decode(kept.as_bytes()), Ok(zone.clone()), "the disk changes it");
        let before = served.as_ref().map(Served::zone);
        let Ok(verdict) = accept(before, &zone) else { continue };
        if let Some(before) = before {
            assert!(zone.version >= before.version, "I-29: an older zone");
            let back = before
                .epochs
                .iter()
                .any(|(id, epoch)| zone.epochs.get(id).is_some_and(|offered| offered < epoch));
            assert!(!back, "I-29: an older epoch");
        }
        if verdict == Verdict::Newer
            && let Ok(compiled) = Served::new(zone)
        {
            ask(&compiled);
            served = Some(compiled);
        }
    }
}

fn framed(zone: &[u8]) -> String {
    let text = String::from_utf8_lossy(zone);
    let text = text.trim();
    format!(r#"{{"format":1,"crc32":{},"zone":{text}}}"#, crc32fast::hash(text.as_bytes()))
}

fn ask(served: &Served) {
    let origin = &served.zone().origin;
    for relative in served.zone().records.keys().take(8) {
        let Ok(name) = Name::from_ascii(format!("{relative}.{origin}")) else { continue };
        for kind in [RecordType::A, RecordType::AAAA, RecordType::SRV, RecordType::ANY] {
            let question = Question { name: &name, kind, class: DNSClass::IN, turn: 3 };
            let _answer = answer(served, &question);
        }
    }
}
