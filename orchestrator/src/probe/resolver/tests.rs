//! The resolver against small name servers on the loopback network.

use hickory_proto::rr::rdata::{A, SRV};

use super::*;

/// Answers every A with `address` and every SRV with port 6543; from then on, for ever.
async fn server(address: Ipv4Addr) -> SocketAddr {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let here = socket.local_addr().expect("bound");
    tokio::spawn(async move {
        let mut buffer = [0_u8; 1_500];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            let Some(bytes) = buffer.get(..length) else { continue };
            let Ok(question) = Message::from_vec(bytes) else { continue };
            // Something else first: the resolver must not be taken in.
            drop(socket.send_to(b"nonsense", from).await);
            drop(socket.send_to(&reply(&question, address), from).await);
        }
    });
    here
}

fn reply(question: &Message, address: Ipv4Addr) -> Vec<u8> {
    let mut answer = question.clone().into_response();
    if let Some(query) = question.queries.first() {
        let name = query.name().clone();
        let data = if query.query_type() == RecordType::A {
            Some(RData::A(A(address)))
        } else {
            let service = query.query_type() == RecordType::SRV;
            service.then(|| RData::SRV(SRV::new(0, 0, 6_543, name.clone())))
        };
        answer.answers.extend(data.map(|data| Record::from_rdata(name, 5, data)));
    }
    answer.to_vec().expect("a small message")
}

/// A port where nothing listens.
async fn closed() -> SocketAddr {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    socket.local_addr().expect("bound")
}

const NAME: &str = "clinic.db.example.";
const BOUND: Duration = Duration::from_secs(20);

#[tokio::test]
async fn address_and_port_come_from_the_zone() {
    let server = server(Ipv4Addr::new(192, 0, 2, 7)).await;
    let place = Resolver::new(vec![server]).place(NAME, BOUND).await.expect("it answers");
    assert_eq!(place.address, ([192, 0, 2, 7], 6_543).into());
    assert_eq!((place.ttl, place.by), (Duration::from_secs(5), server));
}

#[tokio::test]
async fn a_server_that_refuses_costs_nothing() {
    let living = server(Ipv4Addr::new(192, 0, 2, 8)).await;
    let resolver = Resolver::new(vec![closed().await, living]);
    let place = resolver.place(NAME, BOUND).await.expect("the second answers");
    assert_eq!(place.by, living);
}

#[tokio::test]
async fn a_silent_server_costs_one_stagger() {
    let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let living = server(Ipv4Addr::new(192, 0, 2, 9)).await;
    let resolver = Resolver::new(vec![silent.local_addr().expect("bound"), living]);
    let before = wire::clock::now();
    let place = resolver.place(NAME, BOUND).await.expect("the second answers");
    assert_eq!(place.by, living);
    assert!(wire::clock::now().since(before) < BOUND / 2, "it did not wait for the silent one");
}

#[tokio::test]
async fn rotation_begins_with_another() {
    let (one, two) =
        (server(Ipv4Addr::new(192, 0, 2, 1)).await, server(Ipv4Addr::new(192, 0, 2, 2)).await);
    let mut resolver = Resolver::new(vec![one, two]);
    resolver.rotate();
    assert_eq!(resolver.place(NAME, BOUND).await.expect("it answers").by, two);
}

#[tokio::test]
async fn nobody_answering_says_who() {
    let dead = closed().await;
    let error = Resolver::new(vec![dead]).place(NAME, BOUND).await.expect_err("nobody is there");
    assert_eq!(error, ResolveError::Refused(dead));
    let error = Resolver::new(Vec::new()).place(NAME, BOUND).await.expect_err("nobody at all");
    assert_eq!(error, ResolveError::Nobody);
}
