//! One client: it goes by the name, appends rows or reads them, and writes down what it was told.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use failover::time::Moment;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{AsyncMessage, Client, Config};
use tokio_postgres_rustls::MakeRustlsConnect;
use wire::clock;

use super::journal::{Item, Journal, Outcome, Read, Write};
use super::resolve::resolve;

/// The timeline that a server writes to; an error on one that does not write.
const TIMELINE: &str =
    "('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int";
/// A connection and its greeting may take this long.
const CONNECT: Duration = Duration::from_millis(1_500);
/// A write that takes longer makes its client ask for the name again.
const PATIENCE: Duration = Duration::from_secs(1);

/// What all clients of a run share.
#[derive(Clone)]
pub(super) struct Clients {
    pub(super) journal: Arc<Journal>,
    pub(super) access: MakeRustlsConnect,
    pub(super) run: Arc<str>,
    pub(super) name: Arc<str>,
    pub(super) port: u16,
    pub(super) stop: watch::Receiver<bool>,
}

/// One client among them.
#[derive(Clone)]
pub(super) struct Me {
    /// Its number.
    pub(super) number: u32,
    /// The name servers it asks, the first one first.
    pub(super) servers: Arc<[SocketAddr]>,
    /// Whether it stands outside all sites.
    pub(super) outside: bool,
    /// Whether it keeps the first address that it was given.
    pub(super) stubborn: bool,
    /// Whether it asks for no more than the primary's own disk (F-16).
    pub(super) local: bool,
    /// The pause between two rounds.
    pub(super) every: Duration,
}

/// A connection.
struct Session {
    client: Client,
    server: SocketAddr,
    warned: Arc<AtomicBool>,
}

impl Clients {
    /// Connects to a server.
    async fn open(&self, server: SocketAddr) -> Option<Session> {
        let mut config = Config::new();
        config.user("baton_probe").dbname("postgres").application_name("baton-lab");
        config.ssl_mode(SslMode::Require);
        let connecting = async {
            let stream = TcpStream::connect(server).await.ok()?;
            stream.set_nodelay(true).ok()?;
            let mut make = self.access.clone();
            let host = server.ip().to_string();
            let tls = MakeTlsConnect::<TcpStream>::make_tls_connect(&mut make, &host).ok()?;
            config.connect_raw(stream, tls).await.ok()
        };
        let (client, mut connection) = timeout(CONNECT, connecting).await.ok()??;
        let warned = Arc::new(AtomicBool::new(false));
        let heard = Arc::clone(&warned);
        tokio::spawn(async move {
            while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
                if let AsyncMessage::Notice(notice) = message
                    && notice.message().contains("canceling wait")
                {
                    heard.store(true, Ordering::Release);
                }
            }
        });
        Some(Session { client, server, warned })
    }

    /// Whether a server lets a client in and does a query for it.
    pub(super) async fn is_served(&self, server: SocketAddr) -> bool {
        let Some(session) = self.open(server).await else { return false };
        let asked = session.client.simple_query("select 1");
        matches!(timeout(CONNECT, asked).await, Ok(Ok(_)))
    }

    async fn seek(&self, me: &Me, kept: &mut Option<SocketAddr>) -> Option<SocketAddr> {
        if let (true, Some(kept)) = (me.stubborn, *kept) {
            return Some(kept);
        }
        let first = if me.outside { usize::try_from(me.number).unwrap_or(0) } else { 0 };
        let found = resolve(&me.servers, first, &self.name).await?;
        let server = SocketAddr::from((found, self.port));
        *kept = Some(server);
        Some(server)
    }

    fn is_over(&self) -> bool {
        *self.stop.borrow()
    }

    /// Appends rows until the run is over.
    pub(super) async fn write(self, me: Me) {
        let numbers = AtomicU64::new(0);
        let mut session: Option<Arc<Session>> = None;
        let mut kept = None;
        while !self.is_over() {
            sleep(me.every).await;
            let current = match &session {
                Some(session) if !session.client.is_closed() => Arc::clone(session),
                _ => {
                    let Some(server) = self.seek(&me, &mut kept).await else { continue };
                    let Some(opened) = self.open(server).await else { continue };
                    if me.local {
                        let local = opened.client.simple_query("set synchronous_commit = local");
                        if !matches!(timeout(CONNECT, local).await, Ok(Ok(_))) {
                            continue;
                        }
                    }
                    let opened = Arc::new(opened);
                    session = Some(Arc::clone(&opened));
                    opened
                }
            };
            let item = Item { writer: me.number, n: numbers.fetch_add(1, Ordering::Relaxed) };
            let mut sent = self.send(&me, Arc::clone(&current), item);
            loop {
                match timeout(PATIENCE, &mut sent).await {
                    Ok(Ok(true)) => break,
                    Ok(Ok(false) | Err(_)) => {
                        session = None;
                        break;
                    }
                    Err(_) => {
                        if self.is_over() {
                            break;
                        }
                        // The write stays open: its answer counts whenever it comes.
                        if self.seek(&me, &mut kept).await != Some(current.server) {
                            session = None;
                            break;
                        }
                    }
                }
            }
        }
    }

    /// Sends one row; true when it was acknowledged.
    fn send(&self, me: &Me, session: Arc<Session>, item: Item) -> JoinHandle<bool> {
        let (journal, run, me) = (Arc::clone(&self.journal), Arc::clone(&self.run), me.clone());
        let (outside, local) = (me.outside && !me.stubborn, me.local);
        let over = self.stop.clone();
        tokio::spawn(async move {
            journal.sent(item);
            let sent = clock::now();
            let query = format!(
                "insert into baton_probe.items (run, writer, n) values ('{run}', {}, {}) \
                 returning {TIMELINE} as timeline",
                item.writer, item.n
            );
            session.warned.store(false, Ordering::Release);
            let answer = session.client.simple_query(&query).await;
            let (outcome, timeline) = judge(&answer, local, session.warned.load(Ordering::Acquire));
            if outcome == Outcome::Unknown && *over.borrow() {
                // Ended by the end of the run.
                return false;
            }
            let server = session.server;
            let done = clock::now();
            journal.wrote(Write { item, outside, sent, done, server, timeline, outcome });
            matches!(outcome, Outcome::Acked | Outcome::Warned | Outcome::Local)
        })
    }

    /// Reads the newest rows until the run is over.
    pub(super) async fn read(self, me: Me) {
        let mut session: Option<Session> = None;
        let mut kept = None;
        let mut asked_name = clock::now();
        while !self.is_over() {
            sleep(me.every).await;
            let now = clock::now();
            // As a pool does that looks at the name now and then.
            if !me.stubborn && now.since(asked_name) > Duration::from_secs(1) {
                asked_name = now;
                let found = self.seek(&me, &mut kept).await;
                session = session.filter(|session| found.is_none_or(|it| it == session.server));
            }
            if session.as_ref().is_none_or(|session| session.client.is_closed()) {
                let Some(server) = self.seek(&me, &mut kept).await else { continue };
                session = self.open(server).await;
            }
            let Some(current) = &session else { continue };
            if !self.look(&me, current).await {
                session = None;
            }
        }
    }

    async fn look(&self, me: &Me, session: &Session) -> bool {
        let query = format!(
            "select writer, n, {TIMELINE} from baton_probe.items where run = '{}' \
             order by id desc limit 200",
            self.run
        );
        let sent: Moment = clock::now();
        let Ok(Ok(messages)) = timeout(CONNECT, session.client.simple_query(&query)).await else {
            return false;
        };
        let done = clock::now();
        let mut rows = Vec::new();
        let mut timeline = None;
        for message in &messages {
            let tokio_postgres::SimpleQueryMessage::Row(row) = message else { continue };
            let number = |index: usize| row.get(index).and_then(|text| text.parse::<u64>().ok());
            if let (Some(writer), Some(n), Some(on)) = (number(0), number(1), number(2)) {
                rows.push(Item { writer: u32::try_from(writer).unwrap_or(u32::MAX), n });
                timeline = u32::try_from(on).ok();
            }
        }
        if let Some(timeline) = timeline {
            let outside = me.outside && !me.stubborn;
            let server = session.server;
            let read = Read { outside, sent, done, server, timeline };
            self.journal.read(read, rows.into_iter());
        }
        true
    }
}

type Answer = Result<Vec<tokio_postgres::SimpleQueryMessage>, tokio_postgres::Error>;

/// What a client knows of its write by the answer.
fn judge(answer: &Answer, local: bool, warned: bool) -> (Outcome, Option<u32>) {
    match answer {
        Ok(messages) => {
            let timeline = messages.iter().find_map(|message| {
                let tokio_postgres::SimpleQueryMessage::Row(row) = message else { return None };
                row.get(0)?.parse().ok()
            });
            let outcome = if local {
                Outcome::Local
            } else if warned {
                Outcome::Warned
            } else {
                Outcome::Acked
            };
            (outcome, timeline)
        }
        // An error of the statement means that nothing was committed; an error that ends the
        // session may have come while a finished commit waited for its standbys.
        Err(error) => match error.as_db_error() {
            Some(said) if said.severity() == "ERROR" => (Outcome::Refused, None),
            Some(_) | None => (Outcome::Unknown, None),
        },
    }
}
