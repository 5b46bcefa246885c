//! One connection to PostgreSQL, known to be writable when it was made.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{AsyncMessage, Client, Config, SimpleQueryMessage, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::journal::Outcome;

/// Whether a server may be connected to at all is known after this long.
const CONNECT: Duration = Duration::from_millis(250);

/// The whole of TLS, authentication and the first queries may take this long.
const GREET: Duration = Duration::from_secs(2);

/// Creates what the probe writes to, in the schema that its role owns. (Creating the schema too,
/// even with `if not exists`, would need a right on the database that the role does not have.)
const CREATE: &str = "create table if not exists baton_probe.writes \
    (run text, n bigint, at timestamptz, primary key (run, n))";

const INSERT: &str =
    "insert into baton_probe.writes (run, n, at) values ($1, $2, clock_timestamp())";

/// Why a connection is of no use.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// Nothing came back in time: perhaps a black hole.
    #[error("{0} does not answer")]
    Silent(SocketAddr),
    /// No connection: the kernel said why.
    #[error("{0}: {1}")]
    Connect(SocketAddr, std::io::Error),
    /// The server takes no writes.
    #[error("{0} is read-only")]
    ReadOnly(SocketAddr),
    /// PostgreSQL or TLS said no.
    #[error("{0}: {1}")]
    Postgres(SocketAddr, String),
}

/// How to connect: the probe's certificate.
#[derive(Clone)]
pub struct Access {
    tls: MakeRustlsConnect,
    config: Config,
}

impl Access {
    /// Access as `baton_probe` with a certificate.
    ///
    /// # Errors
    /// When the certificate files cannot be used.
    pub fn new(files: &wire::tls::Files) -> Result<Self, wire::tls::TlsError> {
        let client = wire::tls::postgres_client(files)?;
        let tls = MakeRustlsConnect::new(rustls::ClientConfig::clone(&client));
        let mut config = Config::new();
        config
            .user("baton_probe")
            .dbname("postgres")
            .application_name("baton-probe")
            .ssl_mode(SslMode::Require);
        Ok(Self { tls, config })
    }

    /// A bare connection: its messages other than answers go to `notices`.
    ///
    /// # Errors
    /// [`SessionError`]
    pub async fn connect(
        &self,
        server: SocketAddr,
        notices: Option<mpsc::UnboundedSender<(SocketAddr, String)>>,
    ) -> Result<Client, SessionError> {
        let connecting = timeout(CONNECT, TcpStream::connect(server));
        let stream = connecting
            .await
            .map_err(|_| SessionError::Silent(server))?
            .map_err(|error| SessionError::Connect(server, error))?;
        // One small message at a time: waiting for more would only add delay.
        stream.set_nodelay(true).map_err(|error| SessionError::Connect(server, error))?;
        let mut make = self.tls.clone();
        let host = server.ip().to_string();
        let tls = MakeTlsConnect::<TcpStream>::make_tls_connect(&mut make, &host)
            .map_err(|error| SessionError::Postgres(server, error.to_string()))?;
        let greeting = timeout(GREET, self.config.connect_raw(stream, tls));
        let (client, mut connection) = greeting
            .await
            .map_err(|_| SessionError::Silent(server))?
            .map_err(|error| SessionError::Postgres(server, explain(&error)))?;
        tokio::spawn(async move {
            while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
                if let (AsyncMessage::Notice(notice), Some(notices)) = (message, &notices) {
                    let text = format!("{}: {}", notice.severity(), notice.message());
                    // Nobody listens any more: then nobody wants to know.
                    drop(notices.send((server, text)));
                }
            }
        });
        Ok(client)
    }
}

/// A writable connection with the insert prepared.
pub struct Session {
    client: Client,
    insert: Statement,
    /// Where it leads.
    pub server: SocketAddr,
}

impl Session {
    /// Connects, makes sure that the server takes writes, and that the table is there.
    ///
    /// # Errors
    /// [`SessionError`]
    pub async fn open(
        access: &Access,
        server: SocketAddr,
        notices: mpsc::UnboundedSender<(SocketAddr, String)>,
    ) -> Result<Arc<Self>, SessionError> {
        let client = access.connect(server, Some(notices)).await?;
        let greeted = timeout(GREET, Self::greet(&client, server)).await;
        let insert = greeted.map_err(|_| SessionError::Silent(server))??;
        Ok(Arc::new(Self { client, insert, server }))
    }

    async fn greet(client: &Client, server: SocketAddr) -> Result<Statement, SessionError> {
        let said = |error: tokio_postgres::Error| SessionError::Postgres(server, explain(&error));
        // Both questions travel together.
        let (recovery, insert) =
            tokio::join!(client.simple_query("select pg_is_in_recovery()"), client.prepare(INSERT));
        let writable = recovery.map_err(said)?.iter().any(
            |message| matches!(message, SimpleQueryMessage::Row(row) if row.get(0) == Some("f")),
        );
        if !writable {
            return Err(SessionError::ReadOnly(server));
        }
        match insert {
            Err(error) if is_missing(&error) => {
                client.batch_execute(CREATE).await.map_err(said)?;
                client.prepare(INSERT).await.map_err(said)
            }
            other => other.map_err(said),
        }
    }

    /// Writes one row and commits it. What is known of it afterwards, and what was said.
    pub async fn insert(&self, run: &str, n: u64) -> (Outcome, Option<String>) {
        let number = i64::try_from(n).unwrap_or(i64::MAX);
        match self.client.execute(&self.insert, &[&run, &number]).await {
            Ok(_) => (Outcome::Acked, None),
            Err(error) => (judge(&error), Some(explain(&error))),
        }
    }

    /// Whether the connection has ended.
    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }
}

/// An error of the statement means that nothing was committed. An error that ends the session may
/// have come while a finished commit waited for its standbys: that one is unknown.
fn judge(error: &tokio_postgres::Error) -> Outcome {
    match error.as_db_error() {
        Some(said) if said.severity() == "ERROR" => Outcome::Refused,
        Some(_) | None => Outcome::Unknown,
    }
}

fn is_missing(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&SqlState::UNDEFINED_TABLE)
}

/// An error with what is behind it, in one line.
pub(super) fn explain(error: &tokio_postgres::Error) -> String {
    if let Some(said) = error.as_db_error() {
        return format!("{}: {}", said.severity(), said.message());
    }
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}
