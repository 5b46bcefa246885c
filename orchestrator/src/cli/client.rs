//! Asking the cluster: whichever voter answers first, and one clear line when none does.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use failover::Finding;
use failover::people::wants_code;
use failover::topology::Topology;
use orchestrator::answers::{Accepted, DeclaredTopology, Status};
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use wire::http::{Client, HttpError, Problem};
use wire::role::Kind;
use wire::tls::Identity;

use crate::settings::Settings;
use crate::verbs::{Code, Globals};

/// How long after one voter the next is asked.
const STAGGER: Duration = Duration::from_millis(300);

/// The pause before a cluster without a leader is asked again.
const AGAIN: Duration = Duration::from_millis(250);

/// Why a verb could not be carried out.
#[derive(Debug)]
pub struct Failure {
    /// The exit status.
    pub code: u8,
    /// What is wrong, and what to do.
    pub problem: Problem,
}

impl Failure {
    /// With an exit status.
    pub fn new(code: u8, error: impl Into<String>, remedy: &str) -> Self {
        Self { code, problem: Problem::new(error).with_remedy(remedy) }
    }

    /// Something failed.
    pub fn failed(error: impl Into<String>) -> Self {
        Self::new(wire::exit::FAILED, error, "")
    }

    /// A file or the command line is wrong.
    pub fn config(error: impl Into<String>, remedy: &str) -> Self {
        Self::new(wire::exit::CONFIG, error, remedy)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in self.problem.error.lines() {
            writeln!(f, "baton: {line}")?;
        }
        for finding in &self.problem.findings {
            match serde_json::from_value::<Finding>(finding.clone()) {
                Ok(finding) => writeln!(f, "  - {}", crate::words::finding(&finding))?,
                Err(_) => writeln!(f, "  - {finding}")?,
            }
        }
        if self.problem.remedy.is_empty() {
            return Ok(());
        }
        writeln!(f, "  {}", self.problem.remedy)
    }
}

/// The voters of the configuration.
pub struct Cluster {
    clients: Vec<Client>,
    timeout: Duration,
    /// The code of the command line: good for one request.
    code: Mutex<Option<Code>>,
}

impl Cluster {
    /// Ready to ask; nothing is sent yet.
    pub fn open(settings: &Settings, globals: &Globals) -> Result<Self, Failure> {
        let identity = Identity::load(&settings.tls)
            .map_err(|error| Failure::config(error.to_string(), ""))?;
        if identity.peer().cluster != settings.cluster {
            return Err(Failure::config(
                format!(
                    "{}: the certificate is of the cluster `{}`, the configuration of `{}`",
                    settings.tls.certificate.display(),
                    identity.peer().cluster,
                    settings.cluster
                ),
                "use the configuration and the certificates of one `baton init`",
            ));
        }
        let open = |address: &SocketAddr| Client::new(&identity, Kind::Voter, *address);
        let clients: Result<Vec<_>, _> = settings.voters.iter().map(open).collect();
        let clients = clients.map_err(|error| Failure::config(error.to_string(), ""))?;
        let code = Mutex::new(globals.code.clone());
        Ok(Self { clients, timeout: globals.timeout, code })
    }

    /// Opens with the configuration that the command line names.
    pub fn of(globals: &Globals) -> Result<Self, Failure> {
        Self::open(&Settings::load(globals)?, globals)
    }

    /// The voters, one client each.
    pub fn clients(&self) -> &[Client] {
        &self.clients
    }

    /// How long one answer may take.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Reads something. Voters are raced; one that has no leader is passed over for another.
    pub async fn get<T>(&self, path: &str) -> Result<T, Failure>
    where
        T: DeserializeOwned + Send + 'static,
    {
        let deadline = Instant::now() + self.timeout;
        loop {
            match self.race(path).await {
                Ok(answer) => return Ok(answer),
                // Elections take a moment: the whole time may be used to wait for one.
                Err(errors) if is_leaderless(&errors) && Instant::now() + AGAIN < deadline => {
                    sleep(AGAIN).await;
                }
                Err(errors) => return Err(failure(&errors)),
            }
        }
    }

    /// The status; preferably of a voter that knows a leader.
    pub async fn status(&self) -> Result<Status, Failure> {
        let mut best: Option<Status> = None;
        let mut errors = Vec::new();
        let mut answers = self.ask_all("/v1/status");
        let deadline = Instant::now() + self.timeout;
        loop {
            let patience = if best.is_some() { Instant::now() + STAGGER } else { deadline };
            tokio::select! {
                answer = answers.join_next() => match answer {
                    None => break,
                    Some(Ok((_, Ok(status)))) => {
                        let status: Status = status;
                        if status.leader.is_some() { return Ok(status); }
                        best.get_or_insert(status);
                    }
                    Some(Ok((address, Err(error)))) => errors.push((address, error)),
                    Some(Err(_)) => {}
                },
                () = sleep_until(patience) => break,
            }
        }
        best.ok_or_else(|| failure(&errors))
    }

    /// Asks every voter at once.
    pub fn ask_all<T>(&self, path: &str) -> JoinSet<(SocketAddr, Result<T, HttpError>)>
    where
        T: DeserializeOwned + Send + 'static,
    {
        let mut asked = JoinSet::new();
        for client in &self.clients {
            self.spawn(&mut asked, client.clone(), path);
        }
        asked
    }

    fn spawn<T>(
        &self,
        asked: &mut JoinSet<(SocketAddr, Result<T, HttpError>)>,
        client: Client,
        path: &str,
    ) where
        T: DeserializeOwned + Send + 'static,
    {
        let (path, timeout) = (Arc::<str>::from(path), self.timeout);
        asked.spawn(async move { (client.address(), client.get(&path, timeout).await) });
    }

    async fn race<T>(&self, path: &str) -> Result<T, Vec<(SocketAddr, HttpError)>>
    where
        T: DeserializeOwned + Send + 'static,
    {
        let mut asked = JoinSet::new();
        let mut waiting = self.clients.iter();
        let mut errors = Vec::new();
        let mut next = waiting.next();
        while next.is_some() || !asked.is_empty() {
            if let Some(client) = next.take() {
                self.spawn(&mut asked, client.clone(), path);
            }
            tokio::select! {
                Some(answer) = asked.join_next() => match answer {
                    Ok((_, Ok(answer))) => return Ok(answer),
                    Ok((address, Err(error))) => {
                        let last = is_definite(&error);
                        errors.push((address, error));
                        if last { break; }
                        next = waiting.next();
                    }
                    Err(_) => next = waiting.next(),
                },
                () = sleep(STAGGER), if waiting.len() > 0 => next = waiting.next(),
            }
        }
        Err(errors)
    }

    /// Asks for a change, of one voter that is known to answer: never twice, unless it is certain
    /// that the first was not carried out.
    pub async fn request(&self, request: &failover::Request) -> Result<Accepted, Failure> {
        let mut deadline = Instant::now() + self.timeout;
        let mut code = self.code.lock().unwrap_or_else(PoisonError::into_inner).take();
        loop {
            let mut errors = Vec::new();
            let (clients, topology) = self.answering().await;
            let wanted = topology.is_some_and(|topology| wants_code(&topology, request));
            if wanted && code.is_none() {
                code = Code::typed()?;
                deadline = Instant::now() + self.timeout;
            }
            let headers = || code.iter().map(Code::header).collect();
            for client in clients {
                match client.post_with("/v1/requests", request, headers(), self.timeout).await {
                    Ok(accepted) => return Ok(accepted),
                    Err(error @ HttpError::Connect { .. }) => {
                        errors.push((client.address(), error));
                    }
                    Err(error) if is_no_leader(&error) => errors.push((client.address(), error)),
                    Err(error) => return Err(failure_of(&error)),
                }
            }
            if Instant::now() + AGAIN >= deadline {
                return Err(failure(&errors));
            }
            sleep(AGAIN).await;
        }
    }

    /// The clients, those first that answer at once; and what is declared.
    async fn answering(&self) -> (Vec<Client>, Option<Topology>) {
        let mut asked: JoinSet<(SocketAddr, Result<DeclaredTopology, HttpError>)> =
            self.ask_all("/v1/topology");
        let mut order = self.clients.clone();
        let mut declared = None;
        let until = Instant::now() + self.timeout;
        loop {
            tokio::select! {
                answer = asked.join_next() => match answer {
                    Some(Ok((address, Ok(told)))) => {
                        declared = Some(told.topology);
                        order.sort_by_key(|client| client.address() != address);
                        break;
                    }
                    Some(_) => {}
                    None => break,
                },
                () = sleep_until(until) => break,
            }
        }
        (order, declared)
    }
}

fn is_no_leader(error: &HttpError) -> bool {
    matches!(error, HttpError::Status { code: 503, .. })
}

fn is_leaderless(errors: &[(SocketAddr, HttpError)]) -> bool {
    errors.iter().any(|(_, error)| is_no_leader(error))
}

/// Another voter would say the same.
fn is_definite(error: &HttpError) -> bool {
    matches!(error, HttpError::Status { code: 400..=499, .. } | HttpError::Body(_))
}

/// The one line for what every voter said.
fn failure(errors: &[(SocketAddr, HttpError)]) -> Failure {
    if let Some((_, error)) = errors.iter().find(|(_, error)| is_definite(error)) {
        return failure_of(error);
    }
    if is_leaderless(errors) {
        return Failure::new(
            wire::exit::UNREACHABLE,
            format!("the cluster has no leader; {}", each(errors)),
            "a majority of the voters must run and reach each other: start those that are down \
             (services that run go on without them)",
        );
    }
    let tls = errors.iter().find(|(_, error)| matches!(error, HttpError::Tls(_)));
    if let Some((address, error)) = tls {
        return Failure::new(
            wire::exit::UNREACHABLE,
            format!("{address}: {error}"),
            "use the certificate and the authority of this cluster's `baton init`",
        );
    }
    Failure::new(
        wire::exit::UNREACHABLE,
        format!("no voter can be reached; {}", each(errors)),
        "see that the orchestrators run and that this machine may connect to them \
         (services that run go on without them)",
    )
}

fn each(errors: &[(SocketAddr, HttpError)]) -> String {
    if errors.is_empty() {
        return "none answered in time".to_owned();
    }
    let one = |(address, error): &(SocketAddr, HttpError)| match error {
        HttpError::Connect { refused: true, .. } => format!("{address} refuses"),
        HttpError::Connect { reason, .. } => format!("{address}: {reason}"),
        HttpError::Timeout { .. } => format!("{address} does not answer"),
        HttpError::Status { problem, .. } => format!("{address}: {}", problem.error),
        HttpError::Lost { .. } | HttpError::Tls(_) | HttpError::Body(_) => {
            format!("{address}: {error}")
        }
    };
    errors.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// What it means to whoever asked.
pub fn failure_of(error: &HttpError) -> Failure {
    match error {
        HttpError::Status { code, problem } => {
            let code = match code {
                404 => wire::exit::CONFIG,
                // At the door, or by the leader.
                403 | 409 => wire::exit::REFUSED,
                503 | 504 => wire::exit::IN_DOUBT,
                _ => wire::exit::FAILED,
            };
            Failure { code, problem: problem.clone() }
        }
        HttpError::Timeout { .. } | HttpError::Lost { .. } => Failure::new(
            wire::exit::IN_DOUBT,
            format!("the request was sent, its outcome is not known: {error}"),
            "look with `baton status` and `baton history` before you ask again",
        ),
        HttpError::Connect { .. } | HttpError::Tls(_) => {
            Failure::new(wire::exit::UNREACHABLE, error.to_string(), "")
        }
        HttpError::Body(_) => Failure::failed(error.to_string()),
    }
}
