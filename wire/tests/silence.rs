//! A network that swallows everything is noticed, and forgotten once it is well again.

mod place;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::routing::{get, post};
use axum::{Json, Router};
use place::{Place, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use wire::http::{Client, HttpError};
use wire::role::Kind;

/// Passes bytes on to `server`, each after a while, until the switch is thrown: connections of
/// before that stay open and pass nothing more, later ones work. Counts them.
async fn cable(
    server: SocketAddr,
    cut: watch::Receiver<bool>,
    takes: Duration,
) -> (SocketAddr, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let connections = Arc::clone(&count);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            connections.fetch_add(1, Ordering::SeqCst);
            let far = TcpStream::connect(server).await.expect("the server is there");
            let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
            let born_after = *cut.borrow();
            for (mut from, mut to) in [(near_in, far_out), (far_in, near_out)] {
                let cut = cut.clone();
                tokio::spawn(async move {
                    let mut buffer = [0_u8; 4096];
                    while let Ok(1..) = from.peek(&mut buffer).await {
                        if *cut.borrow() && !born_after {
                            std::future::pending::<()>().await;
                        }
                        tokio::time::sleep(takes).await;
                        let Ok(count) = from.read(&mut buffer).await else { return };
                        if to.write_all(buffer.get(..count).unwrap_or_default()).await.is_err() {
                            return;
                        }
                    }
                });
            }
        }
    });
    (address, count)
}

#[tokio::test]
async fn a_cut_cable_ends_long_polls_and_does_not_stop_the_next_request() {
    let place = Place::new();
    let router = Router::new()
        .route("/never", get(|| async { std::future::pending::<()>().await }))
        .route("/here", get(|| async { Json(true) }));
    let server = Server::start(place.identity("voter/arezzo"), &[Kind::Agent], router).await;
    let (scissors, cut) = watch::channel(false);
    let (address, _) = cable(server.address, cut, Duration::ZERO).await;
    let identity = place.identity("agent/arezzo-1");
    let client = Client::new(&identity, Kind::Voter, address).expect("a client");
    let polling = tokio::spawn({
        let client = client.clone();
        async move { client.get::<()>("/never", Duration::from_mins(1)).await }
    });
    let soon = Duration::from_secs(5);
    assert!(client.get::<bool>("/here", soon).await.expect("answered"));
    scissors.send_replace(true);

    let short = Duration::from_millis(200);
    let error = client.get::<bool>("/here", short).await.expect_err("swallowed");
    assert!(matches!(error, HttpError::Timeout { .. }), "{error}");
    assert!(client.get::<bool>("/here", soon).await.expect("on a new connection"));

    let bound = Duration::from_secs(15);
    let error = tokio::time::timeout(bound, polling).await.expect("noticed by pings");
    let error = error.expect("no panic").expect_err("no answer");
    assert!(matches!(error, HttpError::Lost { .. }), "{error}");
    server.stop().await;
}

#[tokio::test]
async fn a_slow_cable_is_kept() {
    let place = Place::new();
    let router = Router::new().route("/here", post(|| async { Json(true) }));
    let server = Server::start(place.identity("voter/arezzo"), &[Kind::Agent], router).await;
    let (_scissors, cut) = watch::channel(false);
    let (address, count) = cable(server.address, cut, Duration::from_millis(100)).await;
    let identity = place.identity("agent/arezzo-1");
    let client = Client::new(&identity, Kind::Voter, address).expect("a client");
    let (late, bound) = (Duration::from_millis(20), Duration::from_secs(20));
    for _ in 0..3 {
        let answer = client.post_patiently::<_, bool>("/here", &(), late, bound).await;
        assert!(answer.expect("answered, if late"));
    }
    assert_eq!(count.load(Ordering::SeqCst), 1, "a late answer brings its connection back");
    server.stop().await;
}
