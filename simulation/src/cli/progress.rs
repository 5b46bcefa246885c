//! How far something long has come, on standard error; and the work shared among threads.

use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Nothing is said before this.
const PATIENCE: Duration = Duration::from_secs(2);

/// Says how far it has come: rewritten in place on a terminal, a line now and then elsewhere.
pub(crate) struct Progress {
    what: &'static str,
    all: u64,
    began: Instant,
    said: Mutex<Instant>,
    done: AtomicU64,
    on_terminal: bool,
}

impl Progress {
    /// `what`: in the plural.
    pub(crate) fn new(what: &'static str, all: u64) -> Self {
        let now = now();
        let on_terminal = std::io::stderr().is_terminal();
        Self { what, all, began: now, said: Mutex::new(now), done: AtomicU64::new(0), on_terminal }
    }

    /// One more is done.
    pub(crate) fn one(&self) {
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        let every = Duration::from_secs(if self.on_terminal { 1 } else { 15 });
        let Ok(mut said) = self.said.lock() else { return };
        let elapsed = now().duration_since(self.began);
        if elapsed < PATIENCE || now().duration_since(*said) < every {
            return;
        }
        *said = now();
        let (start, end) = if self.on_terminal { ("\r\x1b[K", "") } else { ("", "\n") };
        let mut out = std::io::stderr().lock();
        let seconds = elapsed.as_secs();
        let _ = write!(out, "{start}{done} of {} {} in {seconds} s{end}", self.all, self.what);
        let _ = out.flush();
    }

    /// Something that cannot wait for the end.
    pub(crate) fn say(&self, text: &str) {
        eprintln!("{}{text}", if self.on_terminal { "\r\x1b[K" } else { "" });
    }

    /// Since it began.
    pub(crate) fn elapsed(&self) -> Duration {
        now().duration_since(self.began)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.on_terminal && self.elapsed() >= PATIENCE {
            eprint!("\r\x1b[K");
        }
    }
}

/// Real time: for the person who waits, never for what is simulated.
#[allow(clippy::disallowed_methods)]
fn now() -> Instant {
    Instant::now()
}

/// Does `work` for every item on `jobs` threads; what comes back is in the order of the items.
/// After `work` has said to stop, nothing new is begun.
pub(crate) fn shared<T: Sync, R: Send>(
    items: &[T],
    jobs: usize,
    work: impl Fn(&T) -> (R, bool) + Sync,
) -> Vec<R> {
    let next = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let results: Mutex<Vec<(u64, R)>> = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..jobs.clamp(1, 64) {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let at = usize::try_from(index).unwrap_or(usize::MAX);
                    let Some(item) = items.get(at) else { return };
                    let (result, enough) = work(item);
                    if enough {
                        stop.store(true, Ordering::Relaxed);
                    }
                    if let Ok(mut results) = results.lock() {
                        results.push((index, result));
                    }
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_default();
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}
