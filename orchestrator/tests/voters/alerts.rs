//! Alerts of real voters, told to real listeners: once, to everybody who wants to know, whoever
//! leads; until they are over.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use failover::Request;
use failover::alert::AlertKey;
use orchestrator::answers::{Accepted, Alerts, ChannelsTested, TestChannels};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use wire::http::Client;

use crate::http::{Group, SOON, code, declare, get};
use crate::on_record::{Baton, complaint};

/// Longer than a voter waits before it says that nobody leads.
const LEADERLESS: Duration = Duration::from_secs(90);

/// Somebody who is told.
#[derive(Clone, Default)]
pub(crate) struct Listener {
    heard: Arc<Mutex<Vec<String>>>,
    /// It turns away whatever comes.
    pub(crate) fails: Arc<AtomicBool>,
}

impl Listener {
    pub(crate) fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn hears(&self, what: String) {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }

    pub(crate) async fn until(&self, limit: Duration, done: impl Fn(&str) -> bool) -> String {
        let waiting = async {
            loop {
                if let Some(found) = self.heard().into_iter().find(|it| done(it)) {
                    return found;
                }
                sleep(Duration::from_millis(50)).await;
            }
        };
        let found = timeout(limit, waiting).await;
        found.unwrap_or_else(|_| panic!("never heard: {:#?}", self.heard()))
    }

    /// Takes what is posted.
    pub(crate) async fn http(&self) -> SocketAddr {
        let (socket, address) = bound().await;
        let own = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = socket.accept().await {
                let own = own.clone();
                tokio::spawn(async move { own.one_post(stream).await });
            }
        });
        address
    }

    async fn one_post(&self, stream: TcpStream) -> Option<()> {
        let mut stream = BufReader::new(stream);
        let mut length = 0;
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).await.ok()?;
            if line.trim().is_empty() {
                break;
            }
            let lower = line.to_ascii_lowercase();
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse().ok()?;
            }
            if lower.starts_with("authorization:") {
                self.hears(line.trim().to_owned());
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.ok()?;
        let fails = self.fails.load(Ordering::SeqCst);
        let status = if fails { "503 Service Unavailable" } else { "202 Accepted" };
        if !fails {
            self.hears(String::from_utf8(body).ok()?);
        }
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        stream.get_mut().write_all(answer.as_bytes()).await.ok()
    }

    /// Takes mail.
    async fn smtp(&self) -> SocketAddr {
        let (socket, address) = bound().await;
        let own = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = socket.accept().await {
                let own = own.clone();
                tokio::spawn(async move { own.one_mail(stream).await });
            }
        });
        address
    }

    async fn one_mail(&self, stream: TcpStream) -> Option<()> {
        let mut stream = BufReader::new(stream);
        stream.get_mut().write_all(b"220 here\r\n").await.ok()?;
        let (mut data, mut mail) = (false, String::new());
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await.ok()? == 0 {
                return None;
            }
            let answer = match line.trim_end() {
                "." if data => {
                    data = false;
                    self.hears(std::mem::take(&mut mail));
                    "250 taken\r\n"
                }
                text if data => {
                    mail.push_str(text);
                    mail.push('\n');
                    continue;
                }
                "DATA" => {
                    data = true;
                    "354 go on\r\n"
                }
                "QUIT" => return stream.get_mut().write_all(b"221 bye\r\n").await.ok(),
                _ => "250 yes\r\n",
            };
            stream.get_mut().write_all(answer.as_bytes()).await.ok()?;
        }
    }
}

async fn bound() -> (TcpListener, SocketAddr) {
    let socket = TcpListener::bind("127.0.0.1:0").await.expect("loopback has ports");
    let address = socket.local_addr().expect("it is bound");
    (socket, address)
}

/// Whether a web hook was told this.
fn says(text: &str, key: &str, state: &str) -> bool {
    let told: Value = serde_json::from_str(text).unwrap_or_default();
    told.get("alert") == Some(&key.into()) && told.get("state") == Some(&state.into())
}

async fn ask(operator: &Client, request: Request) -> Accepted {
    operator.post("/v1/requests", &request, SOON).await.expect("granted")
}

fn because(hold: bool) -> Request {
    let (service, reason) = ("clinic".parse().expect("a name"), "works in the hall".to_owned());
    if hold { Request::Hold { service, reason } } else { Request::Resume { service, reason } }
}

async fn alerts(operator: &Client) -> Alerts {
    get(operator, "/v1/alerts").await.expect("an answer")
}

/// Waits until the record says so.
async fn until(operator: &Client, done: impl Fn(&Alerts) -> bool) -> Alerts {
    let waiting = async {
        loop {
            let told = alerts(operator).await;
            if done(&told) {
                return told;
            }
            sleep(Duration::from_millis(100)).await;
        }
    };
    match timeout(SOON, waiting).await {
        Ok(told) => told,
        Err(late) => panic!("{late}: {:#?}", alerts(operator).await),
    }
}

struct Listeners {
    hook: Listener,
    pager: Listener,
    mail: Listener,
}

/// Three voters and those whom they tell.
async fn group() -> (Group, Listeners, tempfile::TempDir) {
    let all = Listeners {
        hook: Listener::default(),
        pager: Listener::default(),
        mail: Listener::default(),
    };
    let secrets = tempfile::tempdir().expect("a folder");
    let key = secrets.path().join("key");
    std::fs::write(&key, "r0uting-k3y\n").expect("it can be written");
    let (hook, pager, mail) =
        (all.hook.http().await, all.pager.http().await, all.mail.smtp().await);
    let key = key.display();
    let more = format!(
        "[[channel]]\nname = \"hook\"\nkind = \"webhook\"\nurl = \"http://{hook}/s3cr3t-path\"\n\
         secret_file = \"{key}\"\n\
         [[channel]]\nname = \"pager\"\nkind = \"pagerduty\"\nurl = \"http://{pager}/v2\"\n\
         secret_file = \"{key}\"\nleast = \"critical\"\n\
         [[channel]]\nname = \"mail\"\nkind = \"smtp\"\nurl = \"smtp://{mail}\"\n\
         from = \"baton@example.org\"\nto = [\"on-call@example.org\"]\n"
    );
    (Group::start_saying(&more), all, secrets)
}

#[tokio::test]
async fn everybody_is_told_once_whoever_leads_and_when_it_is_over() {
    let (mut group, listeners, _secrets) = group().await;
    let operator = group.client(0, "operator", "alice");
    let leader = group.elected(&operator).await;
    declare(&group, &operator).await;

    // One channel fails at first: it is tried again, and what it was is on record meanwhile.
    listeners.hook.fails.store(true, Ordering::SeqCst);
    ask(&operator, because(true)).await;
    let mail = listeners.mail.until(SOON, |text| text.contains("clinic is held by alice")).await;
    assert!(mail.contains("Subject: [WARNING] test: clinic is held by alice"), "{mail}");
    assert!(mail.contains("baton resume clinic"), "{mail}");
    let key: AlertKey = "clinic/held".parse().expect("a key");
    let failed = |told: &Alerts| {
        told.alerts
            .get(&key)
            .and_then(|it| it.told.get("hook"))
            .is_some_and(|it| it.failed.is_some())
    };
    let told = until(&operator, failed).await;
    let why = told.alerts[&key].told["hook"].failed.clone().unwrap_or_default();
    assert_eq!(why, "it answered 503 Service Unavailable");
    listeners.hook.fails.store(false, Ordering::SeqCst);
    let heard = listeners.hook.until(SOON, |text| says(text, "clinic/held", "firing")).await;
    let heard: Value = serde_json::from_str(&heard).expect("JSON");
    assert_eq!(heard["summary"], "clinic is held by alice: works in the hall");
    assert!(listeners.hook.heard().contains(&"authorization: Bearer r0uting-k3y".to_owned()));
    let all = |told: &Alerts| {
        let it = told.alerts.get(&key).map(|it| &it.told);
        it.is_some_and(|it| {
            it.len() == 2 && it.values().all(|it| it.standing.is_some() && it.failed.is_none())
        })
    };
    until(&operator, all).await;
    assert_eq!(listeners.pager.heard(), [""; 0], "it wants to hear of what is critical only");

    // A person takes it on; nobody can take on what does not stand.
    let reason = "it is me".to_owned();
    let request = Request::Acknowledge { alert: key.clone(), reason: reason.clone() };
    assert_eq!(
        ask(&operator, request.clone()).await.text,
        "alert clinic/held is acknowledged: it is me"
    );
    assert_eq!(code(operator.post::<_, Accepted>("/v1/requests", &request, SOON).await), 409);
    let other = Request::Acknowledge { alert: "clinic/moon".parse().expect("a key"), reason };
    assert_eq!(code(operator.post::<_, Accepted>("/v1/requests", &other, SOON).await), 409);

    // The next leader tells nobody again.
    group.kill(leader);
    let next = (leader + 1) % 3;
    let operator = group.client(next, "operator", "alice");
    group.elected_but(&operator, leader).await;
    until(&operator, |told| told.alerts.get(&key).is_some_and(|it| it.acknowledged.is_some()))
        .await;
    let said = alerts(&operator).await.alerts[&key].acknowledged.clone().expect("it is on record");
    assert_eq!(said.by, "alice");
    sleep(Duration::from_secs(5)).await;
    ask(&operator, because(false)).await;
    listeners.hook.until(SOON, |text| says(text, "clinic/held", "resolved")).await;
    listeners.mail.until(SOON, |text| text.contains("Subject: [OVER] test: clinic is held")).await;
    until(&operator, |told| !told.alerts.contains_key(&key)).await;
    let heard = listeners.hook.heard();
    let times = heard.iter().filter(|text| says(text, "clinic/held", "firing")).count();
    assert_eq!(times, 1, "{heard:#?}");
}

#[tokio::test]
async fn a_voter_without_a_leader_tells_by_itself_and_a_test_arrives() {
    let (mut group, listeners, _secrets) = group().await;
    let operator = group.client(0, "operator", "alice");
    group.elected(&operator).await;

    let only = TestChannels { channel: None };
    let told: ChannelsTested = operator.post("/v1/alerts/test", &only, SOON).await.expect("told");
    let outcomes: Vec<(&str, bool)> =
        told.channels.iter().map(|it| (it.channel.as_str(), it.failed.is_none())).collect();
    assert_eq!(outcomes, [("hook", true), ("pager", true), ("mail", true)], "{told:?}");
    listeners.pager.until(SOON, |text| text.contains("[TEST]")).await;
    let agent = group.client(0, "agent", "s1-1");
    let refused = agent.post::<_, ChannelsTested>("/v1/alerts/test", &only, SOON).await;
    assert_eq!(code(refused), 403);
    let baton = Baton::of(&group, "vera/viewer").run(&["alerts", "test"]);
    assert_eq!(baton.status.code(), Some(4), "refused at the door: {}", complaint(&baton));
    listeners.pager.fails.store(true, Ordering::SeqCst);
    let only = TestChannels { channel: Some("pager".into()) };
    let told: ChannelsTested = operator.post("/v1/alerts/test", &only, SOON).await.expect("told");
    assert_eq!(told.channels.len(), 1);
    let why = told.channels[0].failed.clone().expect("it fails");
    assert_eq!(why, "it answered 503 Service Unavailable");
    listeners.pager.fails.store(false, Ordering::SeqCst);

    group.kill(1);
    group.kill(2);
    let event = listeners.pager.until(LEADERLESS, |text| text.contains("knows of no leader")).await;
    let event: Value = serde_json::from_str(&event).expect("JSON");
    assert_eq!(event["event_action"], "trigger");
    assert_eq!(event["dedup_key"], "baton/test/cluster/no-leader");
    assert_eq!(event["routing_key"], "r0uting-k3y");
    assert_eq!(event["payload"]["severity"], "critical");
    let log = group.log(0);
    assert!(!log.contains("r0uting-k3y") && !log.contains("s3cr3t-path"), "{log}");
}
