//! One instance and everything an action on it needs: the shared object behind every task.

use crate::config::Config;
use crate::guard::client::{Guard, GuardError, Notice, Start};
use crate::guard::{Cause, Exited, Launch, Status};
use crate::history;
use crate::kept::{self, Kept};
use crate::layout::Layout;
use crate::pledge::Promises;
use crate::postgres::{PostgresError, Programs};
use crate::probe::Probe;
use crate::sql::{Access, Connection, SqlError};
use crate::state::{Speaker, State};
use crate::tally::Tally;
use failover::comply::Local;
use failover::report::{Down, Report};
use failover::topology::Timing;
use failover::{Assignment, Epoch, Moment};
use nix::sys::signal::Signal;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use wire::clock::now;

/// Why an action did not come about.
#[derive(Debug, thiserror::Error)]
pub enum PerformError {
    /// SQL failed.
    #[error(transparent)]
    Sql(#[from] SqlError),
    /// One of PostgreSQL's programs failed.
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    /// The guard failed.
    #[error(transparent)]
    Guard(#[from] GuardError),
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] std::io::Error),
    /// The moment has passed: the epoch, the rule or the server is another now (I-20).
    #[error("{0}")]
    Stale(&'static str),
    /// Not yet.
    #[error("{0}")]
    NotYet(String),
}

/// One instance.
#[derive(Debug)]
pub struct Instance {
    /// `agent.toml`.
    pub config: Config,
    /// Where everything is.
    pub layout: Layout,
    /// PostgreSQL's programs.
    pub programs: Programs,
    /// Our PostgreSQL.
    pub access: Access,
    /// What is on disk.
    pub promises: Promises,
    /// Who speaks.
    pub speaker: Speaker,
    /// Something changed that the law should see.
    pub wake: Notify,
    /// PostgreSQL should be probed now.
    pub look: Notify,
    /// A probe has seen the stream.
    pub stream: Notify,
    /// Something changed that the orchestrator should hear.
    pub speak: Notify,
    /// What is measured at leisure should be measured now.
    pub measure: Notify,
    /// It has just cut itself off.
    pub cut: Notify,
    /// What is counted for whoever monitors.
    pub tally: Tally,
    state: Mutex<State>,
    guard: Mutex<Option<Guard>>,
    pub(crate) guard_program: PathBuf,
    pub(crate) kept: Kept,
    leaving: AtomicBool,
    notices: mpsc::UnboundedSender<Notice>,
    /// One proof that commits wait at a time.
    pub proof: tokio::sync::Mutex<()>,
    control: tokio::sync::Mutex<Option<(u64, Arc<Connection>)>>,
    probe: tokio::sync::Mutex<Option<(u64, Probe)>>,
}

impl Instance {
    /// Reads what is on disk; touches nothing of PostgreSQL yet. Notices of the guard come out of
    /// the receiver.
    ///
    /// # Errors
    /// Missing PostgreSQL, an unreadable pledge, an unwritable run directory.
    pub fn open(
        config: Config,
        guard_program: PathBuf,
    ) -> Result<(Arc<Self>, mpsc::UnboundedReceiver<Notice>), PerformError> {
        let programs = Programs::find(config.postgres.bin.as_deref())?;
        let layout = Layout::create(&config.data, &config.run)?;
        crate::identity::install(&config, &layout)?;
        let promises = Promises::load(&layout.pledge())?;
        let (notices, received) = mpsc::unbounded_channel();
        let mut state = State::new(now());
        // What was not recorded when the last agent ended may still go on.
        state.overruled = promises.get().doubt_pending;
        state.assignment = kept::load(&layout);
        let speaker = Speaker {
            service: config.service.clone(),
            instance: config.instance.clone(),
            version: programs.version.clone(),
        };
        let access = Access::new(&layout, config.postgres.listen);
        let instance = Self {
            config,
            layout,
            programs,
            access,
            promises,
            speaker,
            wake: Notify::new(),
            look: Notify::new(),
            stream: Notify::new(),
            speak: Notify::new(),
            measure: Notify::new(),
            cut: Notify::new(),
            tally: Tally::default(),
            state: Mutex::new(state),
            guard: Mutex::new(None),
            guard_program,
            kept: Kept::default(),
            leaving: AtomicBool::new(false),
            notices,
            proof: tokio::sync::Mutex::new(()),
            control: tokio::sync::Mutex::new(None),
            probe: tokio::sync::Mutex::new(None),
        };
        instance.examine();
        Ok((Arc::new(instance), received))
    }

    /// What is known now.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest assignment's timing; the defaults before the first.
    pub fn timing(&self) -> Timing {
        self.state().assignment.as_ref().map(|a| a.timing.clone()).unwrap_or_default()
    }

    /// The newest assignment.
    ///
    /// # Errors
    /// [`PerformError::Stale`] before the first.
    pub fn assignment(&self) -> Result<Assignment, PerformError> {
        self.state().assignment.clone().ok_or(PerformError::Stale("nothing was assigned yet"))
    }

    /// The account to the law.
    pub fn local(&self) -> Local {
        let memory = self.promises.get();
        self.state().local(&self.layout, &memory)
    }

    /// The account to the orchestrator.
    pub fn report(&self) -> Report {
        let memory = self.promises.get();
        self.state().report(&self.layout, &memory, &self.speaker, now())
    }

    /// An assignment arrived. One older than the newest known, or of an epoch before the pledge,
    /// is an echo (I-20). True: it is news.
    pub fn hear(&self, assignment: Assignment) -> bool {
        let granted = self.promises.get().pledge.granted;
        if assignment.instance != self.config.instance || assignment.epoch < granted {
            return false;
        }
        let mut state = self.state();
        let known = state.assignment.as_ref();
        if known.is_some_and(|known| assignment.revision < known.revision) {
            return false;
        }
        let news = known != Some(&assignment);
        let first = !state.informed;
        state.informed = true;
        if news {
            if let Ok(bytes) = serde_json::to_vec_pretty(&assignment) {
                drop(crate::layout::replace(&self.layout.assignment(), &bytes));
            }
            state.assignment = Some(assignment);
            state.assigned = Some(now());
        }
        drop(state);
        if news || first {
            self.wake.notify_one();
            self.speak.notify_one();
        }
        news
    }

    /// The orchestrator granted the lease of an epoch to a report sent at `sent`.
    pub fn lease(&self, epoch: Epoch, sent: Moment) {
        if epoch != self.promises.get().pledge.granted {
            return;
        }
        let mut state = self.state();
        let first = state.leased.is_none();
        state.leased = state.leased.max(Some(sent));
        let waits = first || !state.configured.admits || state.pid.is_none();
        drop(state);
        if waits {
            self.wake.notify_one();
        }
    }

    /// Looks at the data directory: whose it is, and whether it may be touched.
    pub fn examine(&self) {
        let memory = self.promises.get();
        let refusal = refusal(&self.layout, memory.system_identifier);
        let control = history::control(&self.layout.data).ok();
        let mut state = self.state();
        state.refusal = refusal;
        state.system_identifier = control.map(|control| control.system_identifier);
        state.read_files(&self.layout);
        if memory.stopped
            && state.pid.is_none()
            && let Some(end) = control.and_then(|c| history::clean_end(&self.layout.data, &c))
        {
            state.down = Down::Clean(end);
        }
    }

    /// Connects to the guard, or starts one; takes over the PostgreSQL it may be running.
    ///
    /// # Errors
    /// [`GuardError`]
    pub async fn attach(&self) -> Result<(), GuardError> {
        // One that is just ending may still be met.
        for _ in 0..4 {
            match self.attach_once().await {
                Err(GuardError::Gone) => {}
                done => return done,
            }
        }
        self.attach_once().await
    }

    async fn attach_once(&self) -> Result<(), GuardError> {
        let start = Start {
            program: &self.guard_program,
            layout: &self.layout,
            watchdog: self.config.watchdog.clone(),
        };
        let (guard, status) = Guard::attach(&start, self.notices.clone()).await?;
        *self.guard.lock().unwrap_or_else(PoisonError::into_inner) = Some(guard);
        self.take_over(&status);
        Ok(())
    }

    /// The guard's deadline is what the last agent's evidence was worth, so the evidence can be
    /// read back from it: a restart of the agent neither ends nor extends a lease.
    fn take_over(&self, status: &Status) {
        let timing = self.timing();
        // The agent before may have been cut off when it died: that is over with it.
        crate::isolate::thaw(self, status.pid);
        let mut state = self.state();
        if let Some(pid) = status.pid {
            state.begin_life(pid);
            // The agent before may have died in the middle of a clean stop.
            state.serves = self.promises.get().stopped;
            if let Some(end) = status.deadline_at.map(Moment) {
                state.committed = Some(end.before(crate::guard::patience(&timing)));
            }
        } else if let Some(last) = &status.last {
            let down = Self::judge(&self.layout, last, state.stopping);
            state.end_life(down, now());
        }
        drop(state);
        self.look.notify_one();
        self.wake.notify_one();
    }

    /// The guard.
    ///
    /// # Errors
    /// [`GuardError::Gone`] while there is none.
    pub fn guard(&self) -> Result<Guard, GuardError> {
        let guard = self.guard.lock().unwrap_or_else(PoisonError::into_inner);
        guard.clone().ok_or(GuardError::Gone)
    }

    /// Leaves the guard and PostgreSQL to themselves; the agent is about to end.
    pub fn leave(&self) {
        self.leaving.store(true, Ordering::SeqCst);
        *self.guard.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn judge(layout: &Layout, exited: &Exited, stopping: bool) -> Down {
        let control = history::control(&layout.data).ok();
        let clean = control.filter(|_| exited.code == Some(0) || stopping);
        if let Some(end) = clean.and_then(|control| history::clean_end(&layout.data, &control)) {
            return Down::Clean(end);
        }
        match exited.cause {
            Cause::Itself => Down::Crashed,
            Cause::Ordered | Cause::Deadline => Down::Fenced,
        }
    }

    /// PostgreSQL ended.
    pub fn note_exit(&self, exited: &Exited) {
        let mut state = self.state();
        state.ended = Some(exited.pid);
        if state.pid != Some(exited.pid) {
            return;
        }
        let down = Self::judge(&self.layout, exited, state.stopping);
        tracing::warn!(?exited, ?down, "PostgreSQL ended");
        self.tally.ended(&down);
        // Whoever starts it again, it admits nobody (I-13, F-12).
        if let Err(error) = crate::admission::close(&self.layout) {
            tracing::error!(%error, "clients cannot be shut out");
        }
        state.end_life(down, now());
        state.read_files(&self.layout);
        drop(state);
        self.speak.notify_one();
        self.wake.notify_one();
    }

    /// The guard is gone: what it guarded must not go on without it. Kills everything of
    /// PostgreSQL and starts a new guard.
    pub async fn replace_guard(&self) {
        *self.guard.lock().unwrap_or_else(PoisonError::into_inner) = None;
        if self.leaving.load(Ordering::SeqCst) {
            return;
        }
        tracing::error!("the guard is gone: fencing PostgreSQL");
        crate::processes::end_within(&self.layout.data).await;
        self.note_fenced();
        while let Err(error) = self.attach().await {
            if self.leaving.load(Ordering::SeqCst) {
                return;
            }
            tracing::error!(%error, "cannot start a guard");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        self.wake.notify_one();
    }

    /// Nothing of PostgreSQL runs any more, by our own hand and without the guard's word.
    pub fn note_fenced(&self) {
        let mut state = self.state();
        if state.pid.is_some() {
            self.tally.ended(&Down::Fenced);
            state.end_life(Down::Fenced, now());
        }
        drop(state);
        self.speak.notify_one();
    }

    /// Removes what a killed postmaster left, if it is dead.
    pub fn forget_locks(&self) {
        let port = self.config.postgres.listen.port();
        let socket = self.layout.sockets.join(format!(".s.PGSQL.{port}.lock"));
        crate::processes::forget_locks(&[self.layout.data.join("postmaster.pid"), socket]);
    }

    /// Starts PostgreSQL with the files as they are.
    ///
    /// # Errors
    /// [`PerformError`]
    pub async fn start(&self) -> Result<(), PerformError> {
        let text = |path: PathBuf| path.display().to_string();
        let data = text(self.layout.data.clone());
        let config_file = format!("config_file={}", text(self.layout.postgresql_conf()));
        let program = text(self.programs.path("postgres"));
        let launch = Launch {
            argv: vec![program, "-D".into(), data, "-c".into(), config_file],
            env: vec![("LC_ALL".into(), "C".into()), ("PGDATESTYLE".into(), "ISO".into())],
            cwd: self.layout.data.clone(),
            log: self.layout.log(),
        };
        // PostgreSQL would say only in its log that its port is taken, and not by whom.
        crate::processes::end_strangers(&self.layout.data).await;
        if !self.config.rehearses {
            let free = wire::http::bind(self.config.postgres.listen).await;
            drop(free.map_err(|error| PerformError::NotYet(error.to_string()))?);
        }
        self.forget_locks();
        let guard = self.guard()?;
        guard.refresh(None).await?;
        self.promises.update(|memory| memory.stopped = false)?;
        guard.start(launch).await?;
        let status = guard.status().await?;
        let mut state = self.state();
        // It may have ended already; then the notice has told, or will.
        if let Some(pid) = status.pid.filter(|pid| state.ended != Some(*pid)) {
            state.begin_life(pid);
        } else {
            state.end_life(Down::Crashed, now());
        }
        state.read_files(&self.layout);
        drop(state);
        self.look.notify_one();
        Ok(())
    }

    /// Makes PostgreSQL read its files again.
    ///
    /// # Errors
    /// [`GuardError`]
    pub async fn reload(&self) -> Result<(), GuardError> {
        self.state().read_files(&self.layout);
        self.guard()?.signal(Signal::SIGHUP).await
    }

    /// The kept connection for actions.
    ///
    /// # Errors
    /// [`SqlError`]
    pub async fn control(&self) -> Result<Arc<Connection>, SqlError> {
        let life = self.state().life;
        let mut kept = self.control.lock().await;
        if let Some((of, connection)) = kept.as_ref()
            && *of == life
            && !connection.client().is_closed()
        {
            return Ok(Arc::clone(connection));
        }
        let connection = Arc::new(self.access.connect().await?);
        *kept = Some((life, Arc::clone(&connection)));
        Ok(connection)
    }

    /// Probes PostgreSQL once. `Ok(false)`: it does not run.
    ///
    /// # Errors
    /// [`SqlError`] while it does not answer.
    pub async fn look_now(&self) -> Result<bool, SqlError> {
        let (life, running) = {
            let state = self.state();
            (state.life, state.pid.is_some())
        };
        let mut kept = self.probe.lock().await;
        if !running {
            *kept = None;
            return Ok(false);
        }
        if kept.as_ref().is_none_or(|(of, _)| *of != life) {
            *kept = Some((life, Probe::connect(&self.access).await?));
        }
        let (began, commit) = (now(), self.state().commit);
        let Some((_, probe)) = kept.as_ref() else { return Ok(false) };
        let look = probe.look(commit.map_or(0, |(session, _)| session));
        let bound = Duration::from_secs(2);
        match tokio::time::timeout(bound, look).await.unwrap_or(Err(SqlError::Timeout)) {
            Ok(facts) => {
                let mut state = self.state();
                if state.life == life {
                    state.note_answer(commit.filter(|_| facts.writes), now());
                    state.note_facts(facts, began, &self.layout);
                    state.read_files(&self.layout);
                }
                Ok(true)
            }
            Err(error) => {
                *kept = None;
                Err(error)
            }
        }
    }
}

/// A directory is ours when we remember making it; everything else is refused, untouched.
fn refusal(layout: &Layout, ours: Option<failover::SystemIdentifier>) -> Option<String> {
    let data = layout.data.display();
    let remedy = "move it away, or point `data` in agent.toml elsewhere";
    if !layout.has_cluster() {
        let empty =
            std::fs::read_dir(&layout.data).map_or(true, |mut found| found.next().is_none());
        return (!empty).then(|| format!("{data} holds files but no PostgreSQL cluster: {remedy}"));
    }
    let control = match history::control(&layout.data) {
        Ok(control) => control,
        Err(error) => return Some(format!("{data}/global/pg_control: {error}")),
    };
    match ours {
        None => Some(format!("{data} was not made by this agent: {remedy}")),
        Some(ours) if ours != control.system_identifier => Some(format!(
            "{data} is of system identifier {}, ours is {ours}: {remedy}",
            control.system_identifier
        )),
        Some(_) => None,
    }
}
