//! Connections to our own PostgreSQL, over its Unix socket.

use crate::layout::Layout;
use crate::settings::SUPERUSER;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio_postgres::{AsyncMessage, Client, NoTls};

/// SQL failed.
#[derive(Debug, thiserror::Error)]
pub enum SqlError {
    /// PostgreSQL or its driver said so.
    #[error("{}", explain(.0))]
    Postgres(#[from] tokio_postgres::Error),
    /// No answer in time; whether it took effect is not known.
    #[error("PostgreSQL did not answer in time")]
    Timeout,
    /// The answer was not of the form expected.
    #[error("PostgreSQL's answer cannot be read: {0}")]
    Answer(&'static str),
}

/// The driver's own text leaves out what the server said.
fn explain(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(|| error.to_string(), |db| db.message().to_owned())
}

/// How to reach it.
#[derive(Clone, Debug)]
pub struct Access {
    config: tokio_postgres::Config,
}

/// One open connection; closed when dropped. What it waits for then goes on waiting in the server.
#[derive(Debug)]
pub struct Connection {
    client: Client,
    warnings: Arc<AtomicU64>,
}

impl Access {
    /// The socket in the layout's folder.
    pub fn new(layout: &Layout, listen: SocketAddr) -> Self {
        let mut config = tokio_postgres::Config::new();
        config
            .host_path(&layout.sockets)
            .port(listen.port())
            .user(SUPERUSER)
            .dbname("postgres")
            .application_name("baton-agent")
            .connect_timeout(Duration::from_secs(2));
        Self { config }
    }

    /// The same server, another database.
    #[must_use]
    pub fn of_database(&self, name: &str) -> Self {
        let mut config = self.config.clone();
        config.dbname(name);
        Self { config }
    }

    /// Connects; at most two seconds.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn connect(&self) -> Result<Connection, SqlError> {
        let connecting = self.config.connect(NoTls);
        let (client, mut connection) = tokio::time::timeout(Duration::from_secs(2), connecting)
            .await
            .map_err(|_| SqlError::Timeout)??;
        let warnings = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&warnings);
        tokio::spawn(async move {
            while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
                if let AsyncMessage::Notice(notice) = message
                    && notice.severity() == "WARNING"
                {
                    counter.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        Ok(Connection { client, warnings })
    }
}

impl Connection {
    /// The driver's client.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// How many warnings have come: a commit whose wait was cancelled says so in one, and only
    /// there (F-10).
    pub fn warnings(&self) -> u64 {
        self.warnings.load(Ordering::SeqCst)
    }

    /// Statements without a result, waited for at most `bound`.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn execute(&self, statements: &str, bound: Duration) -> Result<(), SqlError> {
        let running = self.client.batch_execute(statements);
        Ok(tokio::time::timeout(bound, running).await.map_err(|_| SqlError::Timeout)??)
    }

    /// The first column of the first row, as text; `None` where it is null or there is no row.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn text(&self, query: &str, bound: Duration) -> Result<Option<String>, SqlError> {
        let running = self.client.simple_query(query);
        let messages =
            tokio::time::timeout(bound, running).await.map_err(|_| SqlError::Timeout)??;
        Ok(messages.iter().find_map(|message| {
            let tokio_postgres::SimpleQueryMessage::Row(row) = message else { return None };
            row.try_get(0).ok().flatten().map(str::to_owned)
        }))
    }
}
