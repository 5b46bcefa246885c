//! The guard's own process: plain threads, so that nothing but the kernel decides when it runs.

use super::watchdog::Device;
use super::{Cause, Exited, Launch, Order, Status, Word};
use crate::processes;
use failover::Moment;
use failover::lease::{self, Watchdog};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The shortest timeout of a watchdog is a second.
const FEED_EVERY: Duration = Duration::from_millis(250);

/// How long a guard waits for the agent that started it. That agent connects within milliseconds,
/// or has died.
const COMES_WITHIN: Duration = Duration::from_secs(10);

/// What the guard is started with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it listens.
    pub socket: PathBuf,
    /// Only one guard at a time holds this file.
    pub lock: PathBuf,
    /// A watchdog device, which resets the machine when the deadline passes and nothing helps.
    pub watchdog: Option<PathBuf>,
}

struct Inner {
    child: Option<Pid>,
    cause: Cause,
    deadline: Option<Moment>,
    last: Option<Exited>,
    agent: Option<UnixStream>,
    /// Counts agents served.
    served: u64,
    /// The watchdog, where there is one.
    device: Option<Device>,
}

struct Guard {
    inner: Mutex<Inner>,
    started: Condvar,
    timer: TimerFd,
}

/// Runs until told to end. Returns at once, without error, when another guard is already there.
pub fn run(settings: &Settings) -> io::Result<()> {
    // Leaving the agent's session keeps a terminal's Ctrl-C away; failure means it has its own.
    let _ = nix::unistd::setsid();
    let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&settings.lock)?;
    let Ok(_held) = Flock::lock(lock, FlockArg::LockExclusiveNonblock) else { return Ok(()) };
    nix::sys::prctl::set_child_subreaper(true)?;
    let terminate = block_signals()?;
    drop(std::fs::remove_file(&settings.socket));
    let listener = UnixListener::bind(&settings.socket)?;
    std::fs::set_permissions(&settings.socket, std::fs::Permissions::from_mode(0o600))?;
    let guard = Arc::new(Guard::new(settings.watchdog.as_deref().map(Device::new))?);
    thread(&guard, Guard::reap)?;
    thread(&guard, Guard::watch_deadline)?;
    thread(&guard, move |guard| {
        let _ = terminate.wait();
        guard.end();
    })?;
    thread(&guard, Guard::expect_an_agent)?;
    if settings.watchdog.is_some() {
        thread(&guard, Guard::feed)?;
    }
    for stream in listener.incoming() {
        let stream = stream?;
        thread(&guard, move |guard| guard.serve(stream))?;
    }
    Ok(())
}

/// SIGTERM is taken by a thread of its own; hang-ups and interrupts mean nothing here.
fn block_signals() -> io::Result<SigSet> {
    let mut terminate = SigSet::empty();
    terminate.add(Signal::SIGTERM);
    let mut blocked = terminate;
    blocked.add(Signal::SIGHUP);
    blocked.add(Signal::SIGINT);
    blocked.add(Signal::SIGPIPE);
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&blocked), None)?;
    Ok(terminate)
}

fn thread(guard: &Arc<Guard>, body: impl FnOnce(&Guard) + Send + 'static) -> io::Result<()> {
    let guard = Arc::clone(guard);
    std::thread::Builder::new().stack_size(128 * 1024).spawn(move || body(&guard)).map(drop)
}

impl Guard {
    fn new(device: Option<Device>) -> nix::Result<Self> {
        let inner = Inner {
            child: None,
            cause: Cause::Itself,
            deadline: None,
            last: None,
            agent: None,
            served: 0,
            device,
        };
        Ok(Self {
            inner: Mutex::new(inner),
            started: Condvar::new(),
            timer: TimerFd::new(ClockId::CLOCK_BOOTTIME, TimerFlags::TFD_CLOEXEC)?,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves when nobody comes.
    fn expect_an_agent(&self) {
        let nobody = |inner: &mut Inner| inner.served == 0;
        let waited = self.started.wait_timeout_while(self.lock(), COMES_WITHIN, nobody);
        leave_if_idle(&mut waited.unwrap_or_else(PoisonError::into_inner).0);
    }

    /// Waits for the child; when it ends, ends every orphan of it, and only then tells the agent.
    fn reap(&self) {
        loop {
            let mut inner = self.lock();
            while inner.child.is_none() {
                inner = self.started.wait(inner).unwrap_or_else(PoisonError::into_inner);
            }
            let child = inner.child;
            drop(inner);
            let Ok(status) = waitpid(None, None) else { continue };
            if status.pid() == child {
                end_orphans();
                self.note_exit(status);
            }
        }
    }

    fn note_exit(&self, status: WaitStatus) {
        let mut inner = self.lock();
        let code = if let WaitStatus::Exited(_, code) = status { Some(code) } else { None };
        let signal = if let WaitStatus::Signaled(_, signal, _) = status {
            Some(signal as i32)
        } else {
            None
        };
        let pid = inner.child.take().map_or(0, |pid| pid.as_raw().unsigned_abs());
        let exited = Exited { pid, code, signal, cause: inner.cause };
        inner.last = Some(exited.clone());
        inner.deadline = None;
        if let Some(agent) = inner.agent.as_mut() {
            drop(say(agent, &Word::Exited(exited)));
        }
        leave_if_idle(&mut inner);
    }

    /// Keeps the hardware watchdog as the law says, several times within its shortest timeout.
    /// Under the lock: a guard that is stuck feeds nothing.
    fn feed(&self) {
        let Ok(timer) = TimerFd::new(ClockId::CLOCK_BOOTTIME, TimerFlags::TFD_CLOEXEC) else {
            return;
        };
        let every = TimeSpec::from_duration(FEED_EVERY);
        if timer.set(Expiration::Interval(every), TimerSetTimeFlags::empty()).is_err() {
            return;
        }
        loop {
            let mut inner = self.lock();
            let wish = lease::watchdog(inner.child.is_some(), inner.deadline, wire::clock::now());
            match (&mut inner.device, wish) {
                (Some(device), Watchdog::Feed) => device.feed(),
                (Some(device), Watchdog::Off) => device.off(),
                (Some(_), Watchdog::Starve) | (None, _) => {}
            }
            drop(inner);
            if timer.wait().is_err() {
                return;
            }
        }
    }

    fn watch_deadline(&self) {
        loop {
            if self.timer.wait().is_err() {
                continue;
            }
            let mut inner = self.lock();
            if inner.deadline.is_some_and(|deadline| deadline <= wire::clock::now()) {
                // It stays until nothing runs any more: the watchdog goes by it.
                kill_tree(&mut inner, Cause::Deadline);
            }
        }
    }

    /// Serves one agent. A new agent takes the place of the old one, whose orders no longer count.
    fn serve(&self, stream: UnixStream) {
        let Ok(reader) = stream.try_clone() else { return };
        let mut inner = self.lock();
        inner.served += 1;
        let own = inner.served;
        if let Some(previous) = inner.agent.replace(stream) {
            drop(previous.shutdown(Shutdown::Both));
        }
        drop(inner);
        self.converse(reader, own);
        let mut inner = self.lock();
        if inner.served == own {
            inner.agent = None;
            leave_if_idle(&mut inner);
        }
    }

    fn converse(&self, reader: UnixStream, own: u64) {
        for line in BufReader::new(reader).lines() {
            let Ok(line) = line else { return };
            // The answer is written under the lock, so that it cannot overtake an exit.
            let mut inner = self.lock();
            if inner.served != own {
                // What it still had to say is no longer for us, and its answers for nobody.
                return;
            }
            let word = match serde_json::from_str::<Order>(&line) {
                Ok(Order::End) => {
                    drop(inner);
                    self.end();
                    return;
                }
                Ok(order) => self.obey(&mut inner, order),
                Err(error) => Word::Failed(format!("not an order: {error}")),
            };
            if let Some(agent) = inner.agent.as_mut() {
                drop(say(agent, &word));
            }
        }
    }

    fn obey(&self, inner: &mut Inner, order: Order) -> Word {
        match order {
            Order::Start(launch) => self.start(inner, &launch),
            Order::Signal(number) => {
                // One that is read late must not wake what is due to be killed.
                if inner.deadline.is_some_and(|deadline| deadline <= wire::clock::now()) {
                    kill_tree(inner, Cause::Deadline);
                    return Word::Failed("the deadline has passed".into());
                }
                let sent = inner.child.ok_or(Errno::ESRCH).and_then(|child| {
                    Signal::try_from(number).and_then(|signal| kill(child, signal))
                });
                sent.map_or_else(|error| Word::Failed(error.to_string()), |()| Word::Done)
            }
            Order::Kill => {
                kill_tree(inner, Cause::Ordered);
                Word::Done
            }
            Order::Refresh(until) => {
                inner.deadline = until.map(Moment);
                if inner.deadline.is_some_and(|deadline| deadline <= wire::clock::now()) {
                    kill_tree(inner, Cause::Deadline);
                }
                match self.arm(inner.deadline) {
                    Ok(()) => Word::Done,
                    Err(error) => Word::Failed(error.to_string()),
                }
            }
            Order::Status | Order::End => Word::Status(Status {
                pid: inner.child.map(|pid| pid.as_raw().unsigned_abs()),
                deadline_at: inner.deadline.map(|deadline| deadline.0),
                last: inner.last.clone(),
            }),
        }
    }

    fn arm(&self, deadline: Option<Moment>) -> nix::Result<()> {
        let Some(deadline) = deadline else { return self.timer.unset() };
        let at = TimeSpec::from_duration(Duration::from_micros(deadline.0));
        self.timer.set(Expiration::OneShot(at), TimerSetTimeFlags::TFD_TIMER_ABSTIME)
    }

    /// While a child is being started nothing is reaped: the reaper waits for `started`.
    fn start(&self, inner: &mut Inner, launch: &Launch) -> Word {
        if let Some(child) = inner.child {
            return Word::Failed(format!("process {child} is still running"));
        }
        match spawn(launch) {
            Ok(child) => {
                inner.child = Some(child);
                inner.cause = Cause::Itself;
                self.started.notify_all();
                Word::Done
            }
            Err(error) => Word::Failed(error.to_string()),
        }
    }

    fn end(&self) {
        let mut inner = self.lock();
        kill_tree(&mut inner, Cause::Ordered);
        end_orphans();
        leave(&mut inner);
    }
}

/// With nothing to guard and nobody to serve, there is no reason to stay.
fn leave_if_idle(inner: &mut Inner) {
    if inner.child.is_none() && inner.agent.is_none() {
        leave(inner);
    }
}

/// Ends this process, the watchdog switched off before: nothing is left that it is there for.
fn leave(inner: &mut Inner) -> ! {
    if let Some(device) = &mut inner.device {
        device.off();
    }
    std::process::exit(0);
}

fn spawn(launch: &Launch) -> io::Result<Pid> {
    let (program, arguments) = launch
        .argv
        .split_first()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no program named"))?;
    let log: File = OpenOptions::new().create(true).append(true).open(&launch.log)?;
    let child = Command::new(program)
        .args(arguments)
        .envs(launch.env.iter().cloned())
        .current_dir(&launch.cwd)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .spawn()?;
    let number = i32::try_from(child.id()).unwrap_or(0);
    Ok(Pid::from_raw(number))
}

/// The postmaster first, so that it forks no more; then its children, which would notice by
/// themselves, but later.
fn kill_tree(inner: &mut Inner, cause: Cause) {
    let Some(child) = inner.child else { return };
    inner.cause = cause;
    let children = processes::children(child.as_raw().unsigned_abs());
    let _ = kill(child, Signal::SIGKILL);
    for pid in children {
        processes::kill_now(pid);
    }
}

/// As a subreaper the guard inherits whatever a dead postmaster leaves; it ends and reaps all of
/// it, until there is none.
fn end_orphans() {
    loop {
        for pid in processes::children(std::process::id()) {
            processes::kill_now(pid);
        }
        if waitpid(None, None) == Err(Errno::ECHILD) {
            return;
        }
    }
}

fn say(stream: &mut UnixStream, word: &Word) -> io::Result<()> {
    let mut line = serde_json::to_vec(word)?;
    line.push(b'\n');
    stream.write_all(&line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Child;

    fn guarding() -> (Guard, Child) {
        let child = Command::new("sleep").arg("60").spawn().unwrap();
        let guard = Guard::new(None).unwrap();
        guard.lock().child = Some(Pid::from_raw(child.id().cast_signed()));
        (guard, child)
    }

    #[test]
    fn i03_a_deadline_that_has_passed_is_kept_at_once() {
        for until in [0, wire::clock::now().before(Duration::from_millis(1)).0] {
            let (guard, mut child) = guarding();
            let mut inner = guard.lock();
            let later = wire::clock::now().after(Duration::from_mins(1)).0;
            assert_eq!(guard.obey(&mut inner, Order::Refresh(Some(later))), Word::Done);
            assert!(child.try_wait().unwrap().is_none());
            // As read by a guard that was stopped since it was sent.
            assert_eq!(guard.obey(&mut inner, Order::Refresh(Some(until))), Word::Done);
            assert_eq!(child.wait().unwrap().signal(), Some(Signal::SIGKILL as i32));
            assert_eq!(inner.cause, Cause::Deadline);
        }
    }

    #[test]
    fn i13_a_signal_that_is_read_after_the_deadline_wakes_nobody() {
        let (guard, mut child) = guarding();
        let mut inner = guard.lock();
        inner.deadline = Some(wire::clock::now().before(Duration::from_millis(1)));
        let word = guard.obey(&mut inner, Order::Signal(Signal::SIGHUP as i32));
        assert!(matches!(word, Word::Failed(_)), "{word:?}");
        assert_eq!(child.wait().unwrap().signal(), Some(Signal::SIGKILL as i32));
        assert_eq!(inner.cause, Cause::Deadline);
    }

    #[test]
    fn i20_orders_of_an_agent_that_was_replaced_are_not_obeyed() {
        let (guard, mut child) = guarding();
        let (mut replaced, served) = UnixStream::pair().unwrap();
        let (current, mut words) = UnixStream::pair().unwrap();
        for order in [Order::Refresh(None), Order::Kill] {
            let mut line = serde_json::to_vec(&order).unwrap();
            line.push(b'\n');
            replaced.write_all(&line).unwrap();
        }
        let deadline = Some(wire::clock::now().after(Duration::from_mins(1)));
        {
            let mut inner = guard.lock();
            inner.served = 2;
            inner.agent = Some(current);
            inner.deadline = deadline;
        }
        guard.converse(served, 1);
        assert!(child.try_wait().unwrap().is_none());
        assert_eq!(guard.lock().deadline, deadline);
        words.set_nonblocking(true).unwrap();
        let mut said = [0];
        assert!(
            std::io::Read::read(&mut words, &mut said).is_err(),
            "an answer to another's order"
        );
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
