//! Changes of primary as traces, told to a collector of OpenTelemetry (OTLP over HTTP, in JSON):
//! one trace a change, one span a step, once it is over.
//!
//! What is told follows from the record alone, its identifiers too: whoever leads tells the same,
//! and a collector that is told twice knows it. Nothing waits for a collector: this runs on a
//! thread of its own, and what cannot be told for ten minutes is not told.

mod spans;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use failover::Timestamp;
use failover::cluster::{Outcome, Record};
use failover::ids::TransitionId;
use reqwest::Url;
use serde::Deserialize;
use serde_json::Value;
use wire::clock;

use crate::answers::Transitions;
use crate::outside::{self, WEB};
use crate::replica::{Query, Reply};
use crate::routes::{Question, Routes};

/// How often it is looked for changes that are over.
const EVERY: Duration = Duration::from_secs(2);
/// The longest pause after a failure.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// How long ago a change may have ended that is told yet.
const KEPT: Duration = Duration::from_mins(10);

/// `[traces]` in a voter's configuration file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Collector {
    /// Its address, whole: with the usual path it ends with `/v1/traces`.
    pub url: String,
    /// A file with a bearer token.
    #[serde(default)]
    pub secret_file: Option<PathBuf>,
    /// Whose certificates are trusted there (PEM); without it, those of the machine's own store.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// Whether it may be spoken to without TLS. On this machine it always may.
    #[serde(default)]
    pub plain: bool,
}

impl Collector {
    /// The same with paths from `folder`.
    pub(crate) fn within(mut self, folder: &Path) -> Self {
        for path in [&mut self.secret_file, &mut self.ca] {
            *path = path.as_ref().map(|path| folder.join(path));
        }
        self
    }

    /// Where it is.
    ///
    /// # Errors
    /// What is wrong with the address, and what would be right.
    pub(crate) fn address(&self) -> Result<Url, String> {
        outside::address(&self.url, WEB, self.plain)
    }

    async fn take(&self, body: &Value) -> Result<(), String> {
        let token = self.secret_file.as_deref().map(outside::secret).transpose()?;
        let answer =
            outside::post(self.address()?, self.ca.as_deref(), token.as_deref(), body).await?;
        // A collector may take a request and none of what is in it (OTLP, "partial success").
        let refused = &answer["partialSuccess"];
        let count = &refused["rejectedSpans"];
        // 64-bit numbers are text in JSON, and some write them as numbers.
        let some = count.as_i64().or_else(|| count.as_str()?.parse().ok()).unwrap_or(0);
        if some == 0 {
            return Ok(());
        }
        Err(format!("it refused {some} spans: {}", refused["errorMessage"]))
    }
}

/// Whoever tells them.
pub struct Traces {
    /// The way to the voter's loop.
    pub routes: Arc<Routes>,
    /// The cluster's name.
    pub cluster: String,
    /// Who is told.
    pub collector: Collector,
}

impl Traces {
    /// Tells until the process ends.
    ///
    /// # Errors
    /// There is no thread for it.
    pub fn start(self) -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let tell = move || runtime.block_on(self.tell());
        std::thread::Builder::new().name("traces".into()).spawn(tell).map(drop)
    }

    async fn tell(self) {
        let mut told = BTreeSet::new();
        let mut looked = None;
        let mut pause = EVERY;
        loop {
            tokio::time::sleep(pause).await;
            let revision = self.routes.projection.borrow().revision;
            if !self.routes.standing.borrow().leads {
                looked = None;
                continue;
            }
            if looked == Some(revision) {
                continue;
            }
            match self.tell_new(&mut told).await {
                Ok(whole) => {
                    looked = whole.then_some(revision);
                    pause = EVERY;
                }
                Err(why) => {
                    tracing::warn!("a trace was not told: {why}");
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// Tells what is over and was not told; `false`: that could not be seen.
    async fn tell_new(&self, told: &mut BTreeSet<TransitionId>) -> Result<bool, String> {
        let reply = self.routes.ask_here(Question::Query(Query::Transitions)).await;
        let Reply::Found(value) = reply else { return Ok(false) };
        let Ok(Transitions { transitions }) = serde_json::from_value(value) else {
            return Ok(false);
        };
        told.retain(|id| transitions.iter().any(|record| record.id == *id));
        let wall = clock::wall();
        let new = transitions.iter().filter(|it| is_over(it) && is_new(it, wall));
        for record in new {
            if told.contains(&record.id) {
                continue;
            }
            let trace = spans::of(&self.cluster, self.routes.name(), record);
            self.collector.take(&trace).await?;
            tracing::debug!(transition = %record.id, "its trace is told");
            told.insert(record.id);
        }
        Ok(true)
    }
}

fn is_over(record: &Record) -> bool {
    record.outcome != Outcome::Open
}

fn is_new(record: &Record, wall: Timestamp) -> bool {
    let ended = record.steps.last().map_or(Timestamp(0), |step| step.at);
    u128::from(wall.0.saturating_sub(ended.0).unsigned_abs()) < KEPT.as_millis()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_is_spoken_to_over_tls_or_on_this_machine() {
        let parsed = |text: &str| toml::from_str::<Collector>(text).map(|it| it.address());
        let ok = |text| parsed(text).expect("a table").expect("an address");
        ok("url = 'https://collector.example.org/v1/traces'\nca = 'ca.pem'");
        ok("url = 'http://[::1]:4318/v1/traces'");
        ok("url = 'http://collector:4318/v1/traces'\nplain = true");
        for (text, word) in [
            ("url = 'http://collector:4318/v1/traces'", "plain = true"),
            ("url = 'grpc://collector:4317'", "https, http"),
            ("url = 'collector'", "not an address"),
        ] {
            let said = parsed(text).expect("a table").expect_err(text);
            assert!(said.contains(word), "{text}: {said}");
        }
        parsed("url = 'https://a'\nurll = 'b'").expect_err("an unknown key");
    }
}
