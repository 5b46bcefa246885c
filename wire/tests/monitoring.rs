//! The monitoring port from outside: what is told, and what a stranger can take of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use wire::monitoring::{self, Daemon, Exposition, Metric, Settings};

const SOON: Duration = Duration::from_secs(20);
const TABLE: &[Metric] = &[Metric::gauge("baton_well", &[], "Whether all is well")];

#[derive(Default)]
struct Thing {
    ready: AtomicBool,
}

impl Daemon for Thing {
    fn ready(&self) -> Result<(), String> {
        if self.ready.load(Ordering::SeqCst) { Ok(()) } else { Err("it only begins".into()) }
    }

    async fn metrics(&self) -> Result<Exposition, String> {
        let mut exposition = Exposition::new(TABLE);
        exposition.flag("baton_well", &[], true);
        Ok(exposition)
    }
}

/// A port that is served until the sender goes.
struct Port {
    thing: Arc<Thing>,
    address: SocketAddr,
    stop: watch::Sender<bool>,
}

async fn open() -> Port {
    let listener = wire::http::bind("127.0.0.1:0".parse().expect("an address")).await;
    let listener = listener.expect("a port");
    let address = listener.local_addr().expect("bound");
    let (stop, stopping) = watch::channel(false);
    let thing = Arc::new(Thing::default());
    let router = monitoring::router(Arc::clone(&thing));
    tokio::spawn(monitoring::accept(listener, router, stopping));
    Port { thing, address, stop }
}

async fn say(address: SocketAddr, text: &str) -> String {
    let talk = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(text.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        std::io::Result::Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    timeout(SOON, talk).await.expect("in time").expect("an answer")
}

async fn ask(address: SocketAddr, method: &str, path: &str) -> (u16, String) {
    let answer = say(address, &format!("{method} {path} HTTP/1.1\r\nHost: here\r\n\r\n")).await;
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    (status.expect("a status"), body.to_owned())
}

#[tokio::test]
async fn health_is_told_with_the_reason() {
    let port = open().await;
    assert_eq!(ask(port.address, "GET", "/livez").await, (200, "alive\n".into()));
    let not = (503, "not ready: it only begins\n".into());
    assert_eq!(ask(port.address, "GET", "/readyz").await, not);
    port.thing.ready.store(true, Ordering::SeqCst);
    assert_eq!(ask(port.address, "GET", "/readyz").await, (200, "ready\n".into()));
    assert_eq!(ask(port.address, "GET", "/else").await.0, 404);
}

#[tokio::test]
async fn metrics_are_told_in_the_form_of_open_metrics() {
    let port = open().await;
    let answer = say(port.address, "GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n").await;
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    assert!(head.contains("application/openmetrics-text; version=1.0.0"), "{head}");
    assert!(body.ends_with("baton_well 1.0\n# EOF\n"), "{body}");
}

/// HAProxy asks with OPTIONS and HTTP/1.0 unless it is told otherwise, some with HEAD.
#[tokio::test]
async fn load_balancers_that_want_the_status_alone_get_it() {
    let port = open().await;
    for method in ["HEAD", "OPTIONS"] {
        assert_eq!(ask(port.address, method, "/livez").await, (200, String::new()));
        assert_eq!(ask(port.address, method, "/readyz").await, (503, String::new()));
    }
    let old = say(port.address, "OPTIONS /livez HTTP/1.0\r\n\r\n").await;
    assert!(old.starts_with("HTTP/1.0 200"), "{old}");
}

#[tokio::test]
async fn nothing_can_be_changed_there() {
    let port = open().await;
    for method in ["POST", "PUT", "DELETE", "PATCH", "TRACE"] {
        assert_eq!(ask(port.address, method, "/livez").await.0, 405, "{method}");
    }
    let body = "x".repeat(100_000);
    let text = format!("POST /livez HTTP/1.1\r\nContent-Length: 100000\r\n\r\n{body}");
    let mut stream = TcpStream::connect(port.address).await.expect("it listens");
    // It may hang up before it has read all that.
    drop(stream.write_all(text.as_bytes()).await);
    drop(stream);
    assert_eq!(ask(port.address, "GET", "/livez").await.0, 200);
}

#[tokio::test]
async fn i27_a_request_without_end_is_cut_short() {
    let port = open().await;
    let endless = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(100_000));
    let mut stream = TcpStream::connect(port.address).await.expect("it listens");
    drop(stream.write_all(endless.as_bytes()).await);
    let mut answer = Vec::new();
    // A reset or a refusal, never a wait.
    drop(timeout(SOON, stream.read_to_end(&mut answer)).await.expect("in time"));
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    assert_eq!(ask(port.address, "GET", "/livez").await.0, 200);
}

#[tokio::test]
async fn i27_silent_connections_give_their_places_back() {
    let port = open().await;
    let mut silent = Vec::new();
    for _ in 0..16 {
        silent.push(TcpStream::connect(port.address).await.expect("it listens"));
    }
    // One more from the same address is let in only once another has gone: those ask nothing and
    // are sent away by themselves.
    let answered = async {
        loop {
            let mut stream = TcpStream::connect(port.address).await.expect("it listens");
            let asked = stream.write_all(b"GET /livez HTTP/1.1\r\nHost: here\r\n\r\n").await;
            let mut answer = Vec::new();
            let read = stream.read_to_end(&mut answer).await;
            if asked.is_ok() && read.is_ok() && answer.starts_with(b"HTTP/1.1 200") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(SOON, answered).await.expect("places come back");
    for stream in &mut silent {
        let mut rest = Vec::new();
        drop(timeout(SOON, stream.read_to_end(&mut rest)).await.expect("each is sent away"));
    }
}

#[tokio::test]
async fn a_port_that_is_not_wanted_is_not_opened_and_one_that_is_ends_with_its_daemon() {
    let router = || monitoring::router(Arc::new(Thing::default()));
    let (_keep, stopping) = watch::channel(false);
    timeout(SOON, monitoring::serve(None, router(), stopping)).await.expect("at once");

    let port = open().await;
    port.stop.send_replace(true);
    let closed = async { while TcpStream::connect(port.address).await.is_ok() {} };
    timeout(SOON, closed).await.expect("nobody listens any more");
}

#[tokio::test]
async fn a_port_that_is_taken_does_not_end_its_daemon() {
    let taken = open().await;
    let settings = Settings { listen: taken.address };
    let router = monitoring::router(Arc::new(Thing::default()));
    let (stop, stopping) = watch::channel(false);
    let serving = tokio::spawn(monitoring::serve(Some(settings), router, stopping));
    assert_eq!(ask(taken.address, "GET", "/livez").await.0, 200);
    assert!(!serving.is_finished(), "it tries again");
    stop.send_replace(true);
    timeout(SOON, serving).await.expect("in time").expect("no panic");
}
