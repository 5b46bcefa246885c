//! A voter's configuration file, read and checked.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use failover::cluster::Voter;
use failover::ids::{SiteId, VoterId};
use serde::Deserialize;
use wire::config::ConfigError;
use wire::tls::Files;

use crate::alerts::Channel;
use crate::sla;
use crate::traces::Collector;

/// `orchestrator.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The cluster's name.
    pub cluster: String,
    /// This voter's name: that of its certificate.
    pub name: String,
    /// This voter's number, from 1; never used twice.
    pub id: VoterId,
    /// The site it stands in.
    pub site: SiteId,
    /// Where it listens.
    pub listen: SocketAddr,
    /// Where its log is kept.
    pub data: PathBuf,
    /// `true` for a voter that is being added to a group that exists.
    #[serde(default)]
    pub join: bool,
    /// Certificates.
    pub tls: Files,
    /// The initial group, the same in every voter's file.
    #[serde(rename = "voter")]
    pub voters: Vec<Member>,
    /// Raft's numbers.
    #[serde(default)]
    pub raft: Timing,
    /// Where health and metrics are told; nowhere without this table.
    #[serde(default)]
    pub monitoring: Option<wire::monitoring::Settings>,
    /// Where people are told of alerts; without any, no alert is raised.
    #[serde(default, rename = "channel")]
    pub channels: Vec<Channel>,
    /// Where browsers without a certificate may read the page; nowhere without this table.
    #[serde(default)]
    pub page: Option<wire::monitoring::Page>,
    /// Who is told of changes of primary as traces; nobody without this table.
    #[serde(default)]
    pub traces: Option<Collector>,
    /// What availability is worked out from for the page; it shows none without this table.
    #[serde(default)]
    pub sla: Option<sla::Settings>,
    /// The folder with the secret of each person who gives time-based codes.
    #[serde(default = "totp_secrets")]
    pub totp_secrets: PathBuf,
}

fn totp_secrets() -> PathBuf {
    "secrets/totp".into()
}

/// A voter of the initial group.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// Its number.
    pub id: VoterId,
    /// Its name.
    pub name: String,
    /// Its site.
    pub site: SiteId,
    /// Where it listens: a literal address (I-12b).
    pub address: SocketAddr,
}

/// Raft's numbers.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timing {
    /// The election timeout at the least; at the most it is twice this. 100 ms to 60 s.
    #[serde(with = "wire::config::duration")]
    pub election_timeout: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self { election_timeout: Duration::from_secs(1) }
    }
}

impl Config {
    /// Reads and checks `path`; environment variables `BATON_ORCHESTRATOR_…` go above it.
    ///
    /// # Errors
    /// What is wrong, where, and what to do.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let mut config: Self = wire::config::load(path, "BATON_ORCHESTRATOR")?;
        config.check().map_err(|(key, message)| ConfigError::new(path, key, message))?;
        let folder = wire::files::folder_of(path);
        config.data = folder.join(&config.data);
        config.tls = config.tls.within(folder);
        config.channels = config.channels.into_iter().map(|it| it.within(folder)).collect();
        config.traces = config.traces.map(|it| it.within(folder));
        config.totp_secrets = folder.join(&config.totp_secrets);
        config.sla = config.sla.map(|it| it.within(folder));
        Ok(config)
    }

    /// The initial group by number.
    pub fn group(&self) -> BTreeMap<VoterId, Voter> {
        let voter = |member: &Member| Voter {
            name: member.name.clone(),
            site: member.site.clone(),
            address: member.address,
            incarnation: None,
        };
        self.voters.iter().map(|member| (member.id, voter(member))).collect()
    }

    fn check(&self) -> Result<(), (&'static str, String)> {
        let mut names = BTreeSet::new();
        let mut numbers = BTreeSet::new();
        let mut addresses = BTreeSet::new();
        for member in &self.voters {
            let new = [
                names.insert(&member.name),
                numbers.insert(member.id),
                addresses.insert(member.address),
            ];
            if member.id.0 == 0 || new.contains(&false) {
                let message = format!(
                    "id {}: every voter has a number from 1, a name and an address of its own",
                    member.id
                );
                return Err(("voter", message));
            }
        }
        let own = self.voters.iter().find(|member| member.id == self.id);
        match own {
            None if !self.join => {
                let message = format!(
                    "no [[voter]] has number {}; list this voter, or set `join = true` for one \
                     that is being added",
                    self.id
                );
                return Err(("id", message));
            }
            Some(own) if own.name != self.name || own.site != self.site => {
                let message = format!(
                    "`{}` at `{}`, but [[voter]] {} is `{}` at `{}`",
                    self.name, self.site, self.id, own.name, own.site
                );
                return Err(("name", message));
            }
            Some(_) | None => {}
        }
        if !self.join && self.voters.len().is_multiple_of(2) {
            let message = format!(
                "{} of them: use 1, 3 or 5; an even number survives no more than one fewer",
                self.voters.len()
            );
            return Err(("voter", message));
        }
        let mut channels = BTreeSet::new();
        for channel in &self.channels {
            channel.check()?;
            if !channels.insert(&channel.name) {
                return Err(("channel.name", format!("`{}` is there twice", channel.name)));
            }
        }
        if let Some(Err(text)) = self.traces.as_ref().map(Collector::address) {
            return Err(("traces.url", text));
        }
        let timeout = self.raft.election_timeout;
        if !(Duration::from_millis(100)..=Duration::from_mins(1)).contains(&timeout) {
            return Err(("raft.election_timeout", "between 100ms and 60s".into()));
        }
        Ok(())
    }
}
