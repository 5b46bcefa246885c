//! The operator's configuration: whom to ask, as whom.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use orchestrator::topology::{self, Declared};
use serde::Deserialize;
use wire::tls::Files;

use crate::client::Failure;
use crate::verbs::Globals;

/// `baton.toml`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    cluster: String,
    voters: Vec<SocketAddr>,
    tls: Files,
    topology: Option<PathBuf>,
}

/// The configuration with its paths made whole.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The file it came from.
    pub file: PathBuf,
    /// The cluster's name.
    pub cluster: String,
    /// Where voters listen. At least one.
    pub voters: Vec<SocketAddr>,
    /// The operator's certificate.
    pub tls: Files,
    /// The topology file, if the configuration names one.
    pub topology: Option<PathBuf>,
}

impl Settings {
    /// Finds and reads the configuration.
    pub fn load(globals: &Globals) -> Result<Self, Failure> {
        let path = match &globals.config {
            Some(path) => path.clone(),
            None => found()?,
        };
        if !path.exists() {
            return Err(Failure::config(
                format!("{}: there is no such file", path.display()),
                "give the operator's baton.toml with --config or BATON_CONFIG (`baton init` writes \
                 it to DIR/operator)",
            ));
        }
        let file: File = wire::config::load(&path, "BATON_CLI")
            .map_err(|error| Failure::config(error.to_string(), ""))?;
        if file.voters.is_empty() {
            return Err(Failure::config(
                format!("{}: voters: there are none", path.display()),
                "list the addresses of the voters: voters = [\"192.0.2.1:7400\"]",
            ));
        }
        let beside = |other: &Path| wire::config::beside(&path, other);
        let tls = Files {
            ca: beside(&file.tls.ca),
            certificate: beside(&file.tls.certificate),
            key: beside(&file.tls.key),
        };
        let topology = file.topology.as_deref().map(beside);
        Ok(Self { file: path, cluster: file.cluster, voters: file.voters, tls, topology })
    }

    /// A file in the configuration's folder.
    pub fn beside(&self, name: &str) -> PathBuf {
        wire::config::beside(&self.file, Path::new(name))
    }

    /// Reads the topology: `given`, else the one the configuration names.
    pub fn topology(&self, given: Option<&Path>) -> Result<Declared, Failure> {
        let path = given.or(self.topology.as_deref()).ok_or_else(|| {
            Failure::config(
                "no topology file is known".to_owned(),
                "give one, or name it in baton.toml: topology = \"../topology.toml\"",
            )
        })?;
        topology::read(path).map_err(|error| Failure::config(error.to_string(), ""))
    }
}

fn found() -> Result<PathBuf, Failure> {
    let home = std::env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config")));
    let mut places = vec![PathBuf::from("baton.toml")];
    places.extend(home.map(|home| home.join("baton/baton.toml")));
    places.push(PathBuf::from("/etc/baton/baton.toml"));
    if let Some(path) = places.iter().find(|path| path.exists()) {
        return Ok(path.clone());
    }
    let looked: Vec<_> = places.iter().map(|path| path.display().to_string()).collect();
    Err(Failure::config(
        format!("no configuration: looked for {}", looked.join(", ")),
        "give the operator's baton.toml with --config or BATON_CONFIG (`baton init` writes it to \
         DIR/operator)",
    ))
}
