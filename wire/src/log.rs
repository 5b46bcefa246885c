//! Logs: to standard error, so that standard output stays for answers.

use std::io::IsTerminal;

use tracing_subscriber::filter::{EnvFilter, LevelFilter};

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people: coloured where standard error is a terminal.
    Pretty,
    /// One JSON object a line, for collectors.
    Json,
    /// Pretty on a terminal, compact lines without colour elsewhere.
    #[default]
    Auto,
}

/// Starts logging for the whole process. `BATON_LOG`, else `RUST_LOG`, is the filter (as in
/// `info,wire=debug`); without either, `info`. A second call changes nothing.
pub fn init(format: Format) {
    let terminal = std::io::stderr().is_terminal();
    let base = tracing_subscriber::fmt().with_env_filter(filter()).with_writer(std::io::stderr);
    let started = match format {
        Format::Json => base.json().flatten_event(true).with_current_span(false).try_init(),
        Format::Pretty => base.with_ansi(terminal).try_init(),
        Format::Auto if terminal => base.with_ansi(true).try_init(),
        Format::Auto => base.compact().with_ansi(false).try_init(),
    };
    drop(started);
}

fn filter() -> EnvFilter {
    let text = ["BATON_LOG", "RUST_LOG"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok().filter(|text| !text.is_empty()))
        .unwrap_or_default();
    EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).parse_lossy(text)
}
