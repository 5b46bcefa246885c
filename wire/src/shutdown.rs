//! How a daemon learns that it should stop.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// Turns true, once, when SIGTERM or SIGINT arrives. SIGHUP is swallowed: closing the terminal
/// that started a daemon must not stop it. Needs a running tokio runtime.
pub fn on_signal() -> watch::Receiver<bool> {
    let (stop, stopping) = watch::channel(false);
    let mut terminate = listen(SignalKind::terminate());
    let mut interrupt = listen(SignalKind::interrupt());
    let mut hangup = listen(SignalKind::hangup());
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => { stop.send_replace(true); }
                _ = interrupt.recv() => { stop.send_replace(true); }
                _ = hangup.recv() => {}
            }
        }
    });
    stopping
}

fn listen(kind: SignalKind) -> Signal {
    signal(kind).expect("these signals may be caught and the runtime has its signal driver on")
}
