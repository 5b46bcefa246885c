//! Two processes' worth of mutual TLS and HTTP on loopback: who gets in, and what goes wrong how.

mod place;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use place::{Place, SOON, Server, leaf};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use wire::ca::Authority;
use wire::http::{Client, HttpError, Problem};
use wire::role::{Kind, Peer};
use wire::tls::Identity;

const AGENTS: &[Kind] = &[Kind::Agent];

fn router() -> Router {
    let refuse = || async { (StatusCode::CONFLICT, Json(Problem::new("no").with_remedy("wait"))) };
    Router::new()
        .route("/who", get(|Extension(peer): Extension<Peer>| async move { Json(peer.name) }))
        .route("/double/{n}", get(|Path(n): Path<u64>| async move { Json(n * 2) }))
        .route(
            "/sum",
            post(|Json(all): Json<Vec<u64>>| async move { Json(all.iter().sum::<u64>()) }),
        )
        .route("/v1/raft", post(|body: Bytes| async move { body }))
        .route("/refuse", post(refuse))
        .route("/never", get(|| async { std::future::pending::<()>().await }))
}

async fn voter(place: &Place) -> Server {
    Server::start(place.identity("voter/arezzo"), AGENTS, router()).await
}

fn client(identity: &Identity, server: &Server) -> Client {
    Client::new(identity, Kind::Voter, server.address).expect("a client")
}

async fn who(client: &Client) -> Result<String, HttpError> {
    client.get("/who", SOON).await
}

#[tokio::test]
async fn an_agent_is_known_by_its_certificate() {
    let place = Place::new();
    let server = voter(&place).await;
    let agent = client(&place.identity("agent/arezzo-1"), &server);
    assert_eq!(who(&agent).await.expect("answered"), "arezzo-1");
    assert_eq!(agent.get::<u64>("/double/21", SOON).await.expect("answered"), 42);
    assert_eq!(agent.post::<_, u64>("/sum", &[1, 2, 3], SOON).await.expect("answered"), 6);
    server.stop().await;
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused_by_both_sides() {
    let (place, other) = (Place::new(), Place::new());
    let server = voter(&place).await;
    // The client does not trust the server.
    let stranger = client(&other.identity("agent/arezzo-1"), &server);
    let error = who(&stranger).await.expect_err("refused");
    assert!(
        matches!(&error, HttpError::Tls(text) if text.contains("another authority")),
        "{error}"
    );
    // The client trusts the server, the server does not trust the client.
    let trusting = Authority::create("clinic-eu").expect("made");
    let issued = trusting.issue(&leaf("clinic-eu", "agent/arezzo-1")).expect("issued");
    let both = format!("{}{}", trusting.certificate_pem(), place.authority.certificate_pem());
    let mut files = place.write("trusting", &issued);
    files.ca = place.path("both.crt");
    std::fs::write(&files.ca, both).expect("written");
    let stranger = client(&Identity::load(&files).expect("its own authority"), &server);
    let error = who(&stranger).await.expect_err("refused");
    assert!(
        matches!(&error, HttpError::Tls(text) if text.contains("does not accept our certificate")),
        "{error}"
    );
    server.stop().await;
}

#[tokio::test]
async fn a_client_of_another_kind_or_cluster_is_answered_403() {
    let place = Place::new();
    let server = voter(&place).await;
    let operator = client(&place.identity("operator/alice"), &server);
    let error = who(&operator).await.expect_err("refused");
    let HttpError::Status { code: 403, problem } = error else { panic!("{error}") };
    assert!(problem.error.contains("baton://clinic-eu/operator/alice"), "{problem:?}");
    assert!(problem.remedy.contains("kind agent"), "{problem:?}");
    server.stop().await;

    let issued = place.authority.issue(&leaf("other-eu", "voter/arezzo")).expect("issued");
    let files = place.write("other", &issued);
    let other = Arc::new(Identity::load(&files).expect("loads"));
    let server = Server::start(Arc::clone(&other), AGENTS, router()).await;
    let agent = client(&place.identity("agent/arezzo-1"), &server);
    let error = who(&agent).await.expect_err("refused");
    assert!(matches!(&error, HttpError::Tls(text) if text.contains("other-eu")), "{error}");
    let issued = place.authority.issue(&leaf("other-eu", "agent/a")).expect("issued");
    let same = Identity::load(&place.write("same", &issued)).expect("loads");
    assert_eq!(who(&client(&same, &server)).await.expect("of one cluster"), "a");
    server.stop().await;
}

#[tokio::test]
async fn a_server_of_another_kind_is_refused() {
    let place = Place::new();
    let server = Server::start(place.identity("agent/arezzo-2"), AGENTS, router()).await;
    let agent = client(&place.identity("agent/arezzo-1"), &server);
    let error = who(&agent).await.expect_err("refused");
    assert!(
        matches!(&error, HttpError::Tls(text)
            if text.contains("kind voter") && text.contains("baton://clinic-eu/agent/arezzo-2")),
        "{error}"
    );
    server.stop().await;
}

#[tokio::test]
async fn a_server_at_an_address_not_in_its_certificate_is_refused() {
    let place = Place::new();
    let mut elsewhere = leaf("clinic-eu", "voter/arezzo");
    elsewhere.addresses = vec!["127.0.9.9".parse().expect("an address")];
    let issued = place.authority.issue(&elsewhere).expect("issued");
    let identity = Identity::load(&place.write("elsewhere", &issued)).expect("loads");
    let server = Server::start(Arc::new(identity), AGENTS, router()).await;
    let error = who(&client(&place.identity("agent/a"), &server)).await.expect_err("refused");
    assert!(matches!(&error, HttpError::Tls(text) if text.contains("127.0.0.1")), "{error}");
    server.stop().await;
}

#[tokio::test]
async fn refusals_arrive_as_problems() {
    let place = Place::new();
    let server = voter(&place).await;
    let agent = client(&place.identity("agent/arezzo-1"), &server);
    let error = agent.post::<_, ()>("/refuse", &(), SOON).await.expect_err("refused");
    let HttpError::Status { code: 409, problem } = error else { panic!("{error}") };
    assert_eq!((problem.error.as_str(), problem.remedy.as_str()), ("no", "wait"));
    for (path, code) in [("/nowhere", 404), ("/sum", 405), ("/double/x", 400)] {
        let error = agent.get::<()>(path, SOON).await.expect_err("refused");
        let HttpError::Status { code: found, problem } = error else { panic!("{error}") };
        assert_eq!(found, code, "{path}");
        assert!(problem.error.contains(path), "{problem:?}");
    }
    let error = agent.get::<u64>("/who", SOON).await.expect_err("not a number");
    assert!(matches!(error, HttpError::Body(_)), "{error}");
    server.stop().await;
}

#[tokio::test]
async fn bodies_are_bounded_by_path() {
    let place = Place::new();
    let server = voter(&place).await;
    let agent = client(&place.identity("agent/arezzo-1"), &server);
    let two_mebibytes = Bytes::from(vec![b'1'; 2 * 1024 * 1024]);
    let error = agent.post_bytes("/sum", two_mebibytes.clone(), SOON).await.expect_err("refused");
    assert!(matches!(error, HttpError::Status { code: 413, .. }), "{error}");
    let echo = agent.post_bytes("/v1/raft", two_mebibytes.clone(), SOON).await.expect("answered");
    assert_eq!(echo, two_mebibytes);
    let too_much = Bytes::from(vec![b'1'; 17 * 1024 * 1024]);
    let error = agent.post_bytes("/v1/raft", too_much, SOON).await.expect_err("refused");
    assert!(matches!(error, HttpError::Status { code: 413, .. }), "{error}");
    assert_eq!(who(&agent).await.expect("the connection lives on"), "arezzo-1");
    server.stop().await;
}

#[tokio::test]
async fn garbage_on_the_port_does_no_harm() {
    let place = Place::new();
    let server = voter(&place).await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        let mut garbage = TcpStream::connect(server.address).await.expect("connects");
        garbage.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n\0\xff garbage").await.expect("sent");
        let mut rest = Vec::new();
        // Closed, with an alert or by a reset.
        drop(tokio::time::timeout(SOON, garbage.read_to_end(&mut rest)).await.expect("closed"));
        silent.push(TcpStream::connect(server.address).await.expect("connects"));
    }
    let agent = client(&place.identity("agent/arezzo-1"), &server);
    assert_eq!(who(&agent).await.expect("answered"), "arezzo-1");
    server.stop().await;
}

#[tokio::test]
async fn refused_silent_and_lost_are_told_apart() {
    let place = Place::new();
    let identity = place.identity("agent/arezzo-1");
    let server = voter(&place).await;
    let agent = client(&identity, &server);
    let short = Duration::from_millis(200);
    let error = agent.get::<()>("/never", short).await.expect_err("no answer");
    assert!(matches!(error, HttpError::Timeout { .. }), "{error}");
    assert_eq!(who(&agent).await.expect("answered"), "arezzo-1");
    let stopped = server.address;
    let waiting = tokio::spawn({
        let agent = agent.clone();
        async move { agent.get::<()>("/never", Duration::from_mins(1)).await }
    });
    assert_eq!(who(&agent).await.expect("answered"), "arezzo-1");
    server.stop().await;
    let error = tokio::time::timeout(SOON, waiting).await.expect("noticed at once");
    let error = error.expect("no panic").expect_err("no answer");
    assert!(
        matches!(error, HttpError::Lost { .. } | HttpError::Connect { refused: true, .. }),
        "{error}"
    );
    let error = who(&agent).await.expect_err("nobody there");
    assert!(
        matches!(error, HttpError::Connect { refused: true, address, .. } if address == stopped),
        "{error}"
    );

    // Accepts and never says a word.
    let mute = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = mute.local_addr().expect("bound");
    let agent = Client::new(&identity, Kind::Voter, address).expect("a client");
    let error = agent.get::<()>("/who", short).await.expect_err("no answer");
    assert!(matches!(error, HttpError::Timeout { .. }), "{error}");
}

#[tokio::test]
async fn a_server_that_comes_back_is_found_again() {
    let place = Place::new();
    let server = voter(&place).await;
    let address = server.address;
    let agent = client(&place.identity("agent/arezzo-1"), &server);
    assert_eq!(who(&agent).await.expect("answered"), "arezzo-1");
    server.stop().await;
    assert!(who(&agent).await.is_err());
    let listener = wire::http::bind(address).await.expect("free again");
    let (stop, stopping) = tokio::sync::watch::channel(false);
    let identity = place.identity("voter/arezzo");
    let done = tokio::spawn(wire::http::serve(listener, identity, AGENTS, router(), stopping));
    assert_eq!(who(&agent).await.expect("answered"), "arezzo-1");
    stop.send_replace(true);
    done.await.expect("no panic").expect("no error");
}

#[tokio::test]
async fn requests_under_way_may_finish_at_shutdown() {
    let place = Place::new();
    let (begun, finish) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (inside, go) = (Arc::clone(&begun), Arc::clone(&finish));
    let slow = move || {
        let (inside, go) = (Arc::clone(&inside), Arc::clone(&go));
        async move {
            inside.notify_one();
            go.notified().await;
            Json("done")
        }
    };
    let router = Router::new().route("/slow", get(slow));
    let server = Server::start(place.identity("voter/arezzo"), AGENTS, router).await;
    let agent = client(&place.identity("agent/arezzo-1"), &server);
    let asked = tokio::spawn(async move { agent.get::<String>("/slow", SOON).await });
    begun.notified().await;
    server.stop.send_replace(true);
    finish.notify_one();
    assert_eq!(asked.await.expect("no panic").expect("answered"), "done");
    server.stop().await;
}

#[tokio::test]
async fn many_requests_share_one_connection() {
    let place = Place::new();
    let server = voter(&place).await;
    let agent = client(&place.identity("agent/arezzo-1"), &server);
    who(&agent).await.expect("answered");
    let asked = (0..100_u64).map(|n| {
        let agent = agent.clone();
        tokio::spawn(async move { agent.get::<u64>(&format!("/double/{n}"), SOON).await })
    });
    for (n, answer) in asked.collect::<Vec<_>>().into_iter().enumerate() {
        let answer = answer.await.expect("no panic").expect("answered");
        assert_eq!(usize::try_from(answer), Ok(2 * n));
    }
    server.stop().await;
}
