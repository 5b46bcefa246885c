//! Raft's own log lines, handed on to ours.

use slog::{Drain, Level, Logger, Never, OwnedKVList, Record};

struct Tracing;

impl Drain for Tracing {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, _: &OwnedKVList) -> Result<(), Never> {
        match record.level() {
            Level::Critical | Level::Error => tracing::error!(target: "raft", "{}", record.msg()),
            Level::Warning => tracing::warn!(target: "raft", "{}", record.msg()),
            // What Raft calls information is noise to an operator.
            Level::Info => tracing::debug!(target: "raft", "{}", record.msg()),
            Level::Debug | Level::Trace => tracing::trace!(target: "raft", "{}", record.msg()),
        }
        Ok(())
    }
}

/// For a voter's process.
pub fn logger() -> Logger {
    Logger::root(Tracing, slog::o!())
}

/// For a simulated world: Raft says nothing.
pub fn silent() -> Logger {
    Logger::root(slog::Discard, slog::o!())
}
