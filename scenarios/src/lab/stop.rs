//! Waiting, and being told to stop: every pause of the lab ends at once on Ctrl-C, so that what
//! was started can be ended by the ordinary way out (errors go up, guards clean up).

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use failover::time::Moment;
use nix::sys::signal::Signal;
use tokio::signal::unix::{SignalKind, signal};
use wire::clock;

/// A person (or the system) asked the lab to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped(pub Signal);

impl std::fmt::Display for Stopped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "stopped by {}", self.0)
    }
}

impl std::error::Error for Stopped {}

/// Whether to stop; shared by all threads.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<(Mutex<Option<Signal>>, Condvar)>);

impl Stop {
    /// Turns SIGINT, SIGTERM and SIGHUP into a request to stop. Handlers, not a signal mask:
    /// children would inherit the mask and be deaf themselves.
    ///
    /// # Errors
    /// When the kernel refuses the handlers or the thread.
    pub fn on_signals() -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let stop = Self::default();
        let told = stop.clone();
        let (mut interrupt, mut terminate, mut hangup) = {
            let _inside = runtime.enter();
            (
                signal(SignalKind::interrupt())?,
                signal(SignalKind::terminate())?,
                signal(SignalKind::hangup())?,
            )
        };
        let listen = async move {
            loop {
                let heard = tokio::select! {
                    _ = interrupt.recv() => Signal::SIGINT,
                    _ = terminate.recv() => Signal::SIGTERM,
                    _ = hangup.recv() => Signal::SIGHUP,
                };
                told.tell(heard);
            }
        };
        let thread = std::thread::Builder::new().name("signals".into());
        thread.spawn(move || runtime.block_on(listen))?;
        Ok(stop)
    }

    /// Ends every pause, now and later.
    pub fn tell(&self, signal: Signal) {
        let (flag, bell) = &*self.0;
        *flag.lock().unwrap_or_else(PoisonError::into_inner) = Some(signal);
        bell.notify_all();
    }

    /// Whether a stop was asked for.
    ///
    /// # Errors
    /// [`Stopped`]
    pub fn check(&self) -> Result<(), Stopped> {
        self.pause(Duration::ZERO)
    }

    /// Lets `duration` pass.
    ///
    /// # Errors
    /// [`Stopped`], at once, when a stop is asked for.
    pub fn pause(&self, duration: Duration) -> Result<(), Stopped> {
        let (flag, bell) = &*self.0;
        let held = flag.lock().unwrap_or_else(PoisonError::into_inner);
        let (held, _) = bell
            .wait_timeout_while(held, duration, |signal| signal.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        held.map_or(Ok(()), |signal| Err(Stopped(signal)))
    }

    /// Asks `look` again and again until it has something, at most for `bound`.
    ///
    /// # Errors
    /// [`Stopped`]; the error of `look`; or, past the bound, a sentence with `what`.
    pub fn until<T>(
        &self,
        what: &str,
        bound: Duration,
        every: Duration,
        mut look: impl FnMut() -> anyhow::Result<Option<T>>,
    ) -> anyhow::Result<T> {
        let began = clock::now();
        loop {
            if let Some(found) = look()? {
                return Ok(found);
            }
            if clock::now().since(began) > bound {
                anyhow::bail!("{what}: not within {} s", bound.as_secs());
            }
            self.pause(every)?;
        }
    }
}

/// Lets a short time pass where a stop must not cut the work short: while cleaning up.
pub fn breathe(duration: Duration) {
    let bell = Condvar::new();
    let lock = Mutex::new(());
    let held = lock.lock().unwrap_or_else(PoisonError::into_inner);
    let _ = bell.wait_timeout_while(held, duration, |()| true);
}

/// `look` until it is true or `bound` has passed; not interruptible. Returns whether it became so.
pub fn settles(bound: Duration, every: Duration, mut look: impl FnMut() -> bool) -> bool {
    let until: Moment = clock::now().after(bound);
    loop {
        if look() {
            return true;
        }
        if clock::now() > until {
            return false;
        }
        breathe(every);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_ends_when_told() {
        let stop = Stop::default();
        let other = stop.clone();
        let told = std::thread::spawn(move || other.tell(Signal::SIGINT));
        assert_eq!(stop.pause(Duration::from_mins(1)), Err(Stopped(Signal::SIGINT)));
        told.join().expect("the thread only tells");
        assert!(stop.check().is_err());
    }

    #[test]
    fn until_gives_up_and_says_what_for() {
        let stop = Stop::default();
        let never = stop.until::<()>("the sun", Duration::ZERO, Duration::ZERO, || Ok(None));
        assert!(never.expect_err("it never came").to_string().contains("the sun"));
    }
}
