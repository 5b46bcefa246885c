//! `agent.toml`.

use crate::hooks::{self, Hook};
use crate::settings;
use failover::{InstanceId, ServiceId, SiteId};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use wire::config::ConfigError;

/// The file, with every path made absolute.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The cluster's name: that of the certificates.
    pub cluster: String,
    /// The service this instance belongs to.
    pub service: ServiceId,
    /// The instance's name: that of the agent's certificate.
    pub instance: InstanceId,
    /// The site it stands in.
    pub site: SiteId,
    /// Where the agent listens.
    pub listen: SocketAddr,
    /// PostgreSQL's data directory.
    pub data: PathBuf,
    /// The agent's own directory: promises, sockets, logs.
    pub run: PathBuf,
    /// PostgreSQL.
    pub postgres: Postgres,
    /// The agent's certificate.
    pub tls: wire::tls::Files,
    /// The voters, the nearest first.
    pub voters: Vec<SocketAddr>,
    /// A watchdog device for the guard to feed while PostgreSQL serves: `/dev/watchdog`. Without
    /// this key none is touched; what it is set to resets the machine.
    #[serde(default)]
    pub watchdog: Option<PathBuf>,
    /// Where health and metrics are told; nowhere without this table.
    #[serde(default)]
    pub monitoring: Option<wire::monitoring::Settings>,
    /// Programs to run when this instance begins to serve something else.
    #[serde(default, rename = "hook")]
    pub hooks: Vec<Hook>,
    /// It is a copy beside an instance: it listens nowhere and streams under a name of no rule.
    #[serde(skip)]
    pub rehearses: bool,
}

/// The `[postgres]` table.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Postgres {
    /// The folder of PostgreSQL's programs; found by itself when not given.
    #[serde(default)]
    pub bin: Option<PathBuf>,
    /// Where PostgreSQL listens.
    pub listen: SocketAddr,
    /// The user of the operating system to become when started as root.
    #[serde(default = "postgres_user")]
    pub user: String,
    /// Settings of PostgreSQL, as in `postgresql.conf`.
    #[serde(default)]
    pub settings: BTreeMap<String, Setting>,
}

/// One value of `[postgres.settings]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Setting {
    /// `on` or `off`.
    Switch(bool),
    /// A whole number.
    Number(i64),
    /// A fraction.
    Fraction(f64),
    /// Anything else.
    Text(String),
}

impl Setting {
    /// As PostgreSQL reads it.
    pub fn text(&self) -> String {
        match self {
            Self::Switch(true) => "on".to_owned(),
            Self::Switch(false) => "off".to_owned(),
            Self::Number(number) => number.to_string(),
            Self::Fraction(number) => number.to_string(),
            Self::Text(text) => text.clone(),
        }
    }
}

fn postgres_user() -> String {
    "postgres".to_owned()
}

/// Reads and checks the file.
///
/// # Errors
/// [`ConfigError`] with file, line, key and remedy.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let path = &path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let mut config: Config = wire::config::load(path, "BATON_AGENT")?;
    let text = std::fs::read_to_string(path).unwrap_or_default();
    for name in config.postgres.settings.keys() {
        if let Some(reason) = settings::refusal(name) {
            return Err(at(path, &text, &format!("postgres.settings.{name}"), name, &reason));
        }
    }
    if config.voters.is_empty() {
        let reason = "names no voter: list their literal addresses, as in [\"192.0.2.10:7400\"]";
        return Err(at(path, &text, "voters", "voters", reason));
    }
    if let Err(reason) = hooks::check(&config.hooks) {
        return Err(at(path, &text, "hook", "[[hook]]", &reason));
    }
    let folder = path.parent().unwrap_or(Path::new("/"));
    config.data = folder.join(&config.data);
    config.run = folder.join(&config.run);
    config.tls = config.tls.within(folder);
    config.postgres.bin = config.postgres.bin.map(|bin| folder.join(bin));
    Ok(config)
}

fn at(path: &Path, text: &str, key: &str, word: &str, reason: &str) -> ConfigError {
    let start = line_of(text, word);
    ConfigError::at(path, text, start..start + word.len(), key, reason)
}

/// Where the line that sets `word` begins; 0 when it came from the environment.
fn line_of(text: &str, word: &str) -> usize {
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let key = line.split('=').next().unwrap_or_default().trim().trim_matches('"');
        if line.contains('=') && key == word {
            return start + (line.len() - line.trim_start().len());
        }
        start += line.len();
    }
    0
}
