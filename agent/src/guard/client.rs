//! The agent's end of the guard's socket.

use super::{Exited, Launch, Order, Status, Word};
use crate::layout::Layout;
use crate::processes;
use failover::Moment;
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};

/// What comes from the guard unasked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// PostgreSQL ended, and nothing of it is left.
    Exited(Exited),
    /// The guard itself is gone.
    Lost,
}

/// How often it is looked whether a guard that does not answer is stopped.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// After so many looks one that is not known to be stopped is stuck all the same.
const PATIENCE: u32 = 6;

type Asked = (Order, oneshot::Sender<Word>);

/// The guard was not there, or refused.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// The connection is gone.
    #[error("the guard is gone")]
    Gone,
    /// It could not be started.
    #[error("cannot start the guard: {0}")]
    Start(#[from] io::Error),
    /// It refused.
    #[error("the guard refused: {0}")]
    Refused(String),
}

/// A connection to the guard.
#[derive(Clone, Debug)]
pub struct Guard {
    orders: mpsc::UnboundedSender<Asked>,
}

/// How to reach or start a guard.
#[derive(Clone, Debug)]
pub struct Start<'a> {
    /// The program that has the `guard` subcommand.
    pub program: &'a Path,
    /// Where its socket, lock and log are.
    pub layout: &'a Layout,
    /// A watchdog device for it to feed.
    pub watchdog: Option<PathBuf>,
}

impl Guard {
    /// Connects to the guard; starts one where there is none, after whatever still runs in the
    /// data directory without a guard has been killed.
    ///
    /// # Errors
    /// [`GuardError`]
    pub async fn attach(
        start: &Start<'_>,
        notices: mpsc::UnboundedSender<Notice>,
    ) -> Result<(Self, Status), GuardError> {
        let socket = start.layout.guard_socket();
        if let Ok(stream) = UnixStream::connect(&socket).await {
            let pid = stream.peer_cred()?.pid().and_then(|pid| u32::try_from(pid).ok());
            if let Some(answer) = Self::greet(stream, notices.clone(), pid).await {
                return answer;
            }
            tracing::error!(pid, "the guard is there and does not answer: ending it");
            end_guard(&socket, pid).await;
        }
        processes::end_within(&start.layout.data).await;
        launch(start)?;
        let stream = connect(&socket).await?;
        Self::greet(stream, notices, None).await.unwrap_or(Err(GuardError::Gone))
    }

    /// Asks how things stand. `None`: no answer, from a guard that is stopped or stuck. It keeps
    /// no deadline, and whoever waits for it fences nobody.
    async fn greet(
        stream: UnixStream,
        notices: mpsc::UnboundedSender<Notice>,
        pid: Option<u32>,
    ) -> Option<Result<(Self, Status), GuardError>> {
        let (orders, asked) = mpsc::unbounded_channel();
        let talk = tokio::spawn(converse(stream, asked, notices));
        let guard = Self { orders };
        let mut asking = Box::pin(guard.status());
        for _ in 0..PATIENCE {
            if let Ok(status) = tokio::time::timeout(LOOK_EVERY, &mut asking).await {
                drop(asking);
                return Some(status.map(|status| (guard, status)));
            }
            let stopped = pid.and_then(processes::stat).is_some_and(|stat| stat.state == 'T');
            if stopped {
                break;
            }
        }
        // Its end is no news to whoever ends it.
        talk.abort();
        drop(talk.await);
        None
    }

    async fn ask(&self, order: Order) -> Result<Word, GuardError> {
        let (answer, answered) = oneshot::channel();
        self.orders.send((order, answer)).map_err(|_| GuardError::Gone)?;
        match answered.await.map_err(|_| GuardError::Gone)? {
            Word::Failed(reason) => Err(GuardError::Refused(reason)),
            word @ (Word::Done | Word::Status(_) | Word::Exited(_)) => Ok(word),
        }
    }

    /// Starts PostgreSQL.
    ///
    /// # Errors
    /// [`GuardError`]
    pub async fn start(&self, launch: Launch) -> Result<(), GuardError> {
        self.ask(Order::Start(launch)).await.map(drop)
    }

    /// Sends the postmaster a signal.
    ///
    /// # Errors
    /// [`GuardError`]
    pub async fn signal(&self, signal: nix::sys::signal::Signal) -> Result<(), GuardError> {
        self.ask(Order::Signal(signal as i32)).await.map(drop)
    }

    /// Kills everything of PostgreSQL; a notice tells when it is done.
    ///
    /// # Errors
    /// [`GuardError`]
    pub async fn kill(&self) -> Result<(), GuardError> {
        self.ask(Order::Kill).await.map(drop)
    }

    /// How things stand.
    ///
    /// # Errors
    /// [`GuardError`]
    pub async fn status(&self) -> Result<Status, GuardError> {
        match self.ask(Order::Status).await? {
            Word::Status(status) => Ok(status),
            other @ (Word::Done | Word::Failed(_) | Word::Exited(_)) => {
                Err(GuardError::Refused(format!("{other:?}")))
            }
        }
    }

    /// Moves the deadline; `None`: there is none.
    ///
    /// # Errors
    /// [`GuardError`]
    pub async fn refresh(&self, until: Option<Moment>) -> Result<(), GuardError> {
        self.ask(Order::Refresh(until.map(|until| until.0))).await.map(drop)
    }

    /// Kills everything and ends the guard.
    pub async fn end(&self) {
        // It answers by going away.
        drop(self.ask(Order::End).await);
    }
}

/// Ends a guard by force and waits until its socket and lock are free, for a moment: what it
/// guarded, its successor ends before anything else.
async fn end_guard(socket: &Path, pid: Option<u32>) {
    if let Some(pid) = pid {
        processes::kill_now(pid);
    }
    for _ in 0..100 {
        if UnixStream::connect(socket).await.is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
}

fn launch(start: &Start<'_>) -> io::Result<()> {
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(start.layout.run.join("guard.log"))?;
    let mut command = tokio::process::Command::new(start.program);
    command
        .arg("guard")
        .arg("--socket")
        .arg(start.layout.guard_socket())
        .arg("--lock")
        .arg(start.layout.run.join("guard.lock"));
    if let Some(device) = &start.watchdog {
        command.arg("--watchdog").arg(device);
    }
    command
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .kill_on_drop(false)
        .spawn()
        .map(drop)
}

async fn connect(socket: &Path) -> Result<UnixStream, GuardError> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for _ in 0..1_000 {
        match UnixStream::connect(socket).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    Err(last.into())
}

/// Carries orders out and words in, until either end is gone.
async fn converse(
    stream: UnixStream,
    mut asked: mpsc::UnboundedReceiver<Asked>,
    notices: mpsc::UnboundedSender<Notice>,
) {
    let (reader, mut writer) = stream.into_split();
    let waiting: Arc<Mutex<VecDeque<oneshot::Sender<Word>>>> = Arc::default();
    let queue = Arc::clone(&waiting);
    let words = notices.clone();
    let reading = async move {
        let mut lines = BufReader::new(reader).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            match serde_json::from_str(&line) {
                Ok(Word::Exited(exited)) => drop(words.send(Notice::Exited(exited))),
                Ok(word) => {
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                    if let Some(answer) = next {
                        drop(answer.send(word));
                    }
                }
                Err(error) => tracing::error!(%error, "the guard said something strange"),
            }
        }
    };
    let writing = async move {
        while let Some((order, answer)) = asked.recv().await {
            let Ok(mut line) = serde_json::to_vec(&order) else { continue };
            line.push(b'\n');
            waiting.lock().unwrap_or_else(PoisonError::into_inner).push_back(answer);
            if writer.write_all(&line).await.is_err() {
                return false;
            }
        }
        true
    };
    tokio::select! {
        () = reading => drop(notices.send(Notice::Lost)),
        left = writing => if !left { drop(notices.send(Notice::Lost)) },
    }
}
