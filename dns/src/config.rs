//! `dns.toml`, read and checked: what passes here can be started.

use anyhow::{Context, bail};
use failover::ids::{NameServerId, SiteId};
use hickory_proto::rr::Name;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use wire::role::Kind;
use wire::tls::{Files, Identity};

/// The file as it is written; paths in it are relative to its folder.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The cluster's name, as in the certificate.
    pub cluster: String,
    /// This server's name: the label of its NS record, and the name in its certificate.
    pub name: NameServerId,
    /// The site it stands in.
    pub site: SiteId,
    /// Where it answers, UDP and TCP: literal addresses with ports.
    pub listen: Vec<SocketAddr>,
    /// The folder of the last good zone.
    pub data: PathBuf,
    /// The voters to follow: literal addresses.
    pub voters: Vec<SocketAddr>,
    /// The only zone that this server may serve, where that is to be certain before the first one
    /// comes: questions about other names are then refused from the start.
    #[serde(default)]
    pub origin: Option<String>,
    /// The certificate.
    pub tls: Files,
    /// Where health and metrics are told; nowhere without this table.
    #[serde(default)]
    pub monitoring: Option<wire::monitoring::Settings>,
}

/// More than any cluster has.
const MOST: usize = 16;

impl Config {
    /// Reads the file, and variables `BATON_DNS_...` above it.
    ///
    /// # Errors
    /// Says the file, the line, the key and what to do.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let mut config: Self = wire::config::load(path, "BATON_DNS")?;
        config.data = wire::config::beside(path, &config.data);
        let folder = wire::config::beside(path, Path::new(""));
        config.tls = config.tls.within(&folder);
        config.check().with_context(|| path.display().to_string())?;
        Ok(config)
    }

    fn check(&self) -> anyhow::Result<()> {
        for (key, addresses) in [("listen", &self.listen), ("voters", &self.voters)] {
            let distinct: BTreeSet<_> = addresses.iter().collect();
            if distinct.len() < addresses.len() {
                bail!("{key}: an address stands there twice; remove one");
            }
            if !(1..=MOST).contains(&addresses.len()) {
                bail!("{key}: has {} addresses; give 1 to {MOST}", addresses.len());
            }
            if let Some(address) = addresses.iter().find(|address| address.port() == 0) {
                bail!("{key}: {address} has no port; DNS has 53, a voter 7400");
            }
        }
        self.origin()?;
        Ok(())
    }

    /// `origin` as a name.
    ///
    /// # Errors
    /// When it is none.
    pub fn origin(&self) -> anyhow::Result<Option<Name>> {
        let Some(text) = &self.origin else { return Ok(None) };
        let mut name = Name::from_ascii(text)
            .with_context(|| format!("origin: `{}` is not a name", text.escape_debug()))?;
        if name.is_root() {
            bail!("origin: the root is not ours; write the zone's name, as in \"db.example.\"");
        }
        name.set_fqdn(true);
        Ok(Some(name))
    }

    /// Loads the certificate and sees that it is this server's.
    ///
    /// # Errors
    /// Says which file, and what to do.
    pub fn identity(&self) -> anyhow::Result<Identity> {
        let identity = Identity::load(&self.tls)?;
        let peer = identity.peer();
        let ours = peer.kind == Kind::Dns
            && peer.cluster == self.cluster
            && peer.name == self.name.as_str();
        if !ours {
            bail!(
                "{}: speaks for {peer}, and this is baton://{}/dns/{}; use the certificate that \
                 was made for this server",
                self.tls.certificate.display(),
                self.cluster,
                self.name
            );
        }
        Ok(identity)
    }
}
