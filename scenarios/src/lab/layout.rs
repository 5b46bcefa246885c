//! What the lab's cluster looks like: three sites, one service, and where everything stands.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use super::ports::Ports;

/// The service that the lab protects.
pub const SERVICE: &str = "clinic";

/// The zone that the lab's name servers answer for.
pub const ORIGIN: &str = "db.clinic.example.";

/// One site. Its voter has its name, its instance is `NAME-1`.
#[derive(Clone, Debug)]
pub struct Site {
    /// Its name.
    pub name: &'static str,
    /// Who runs it (shown, never judged).
    operator: &'static str,
    jurisdiction: &'static str,
    /// Its address on this machine's loopback network.
    loopback: Ipv4Addr,
    /// The label of its name server.
    name_server: &'static str,
}

/// The sites; the first holds the first primary.
pub const SITES: [Site; 3] = [
    Site {
        name: "arezzo",
        operator: "Aruba",
        jurisdiction: "IT",
        loopback: Ipv4Addr::new(127, 0, 1, 1),
        name_server: "ns1",
    },
    Site {
        name: "falkenstein",
        operator: "Hetzner",
        jurisdiction: "DE",
        loopback: Ipv4Addr::new(127, 0, 2, 1),
        name_server: "ns2",
    },
    Site {
        name: "roubaix",
        operator: "OVH",
        jurisdiction: "FR",
        loopback: Ipv4Addr::new(127, 0, 3, 1),
        name_server: "ns3",
    },
];

/// The names of the sites.
pub fn site_names() -> Vec<&'static str> {
    SITES.iter().map(|site| site.name).collect()
}

impl Site {
    /// Its instance.
    pub fn instance(&self) -> String {
        format!("{}-1", self.name)
    }
}

/// Loopback addresses of the sites.
pub fn loopbacks() -> Vec<Ipv4Addr> {
    SITES.iter().map(|site| site.loopback).collect()
}

/// The three kinds of daemon at a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `baton-orchestrator`
    Voter,
    /// `baton-agent`, PostgreSQL's parent
    Agent,
    /// `baton-dns`
    Names,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Voter, Self::Agent, Self::Names];

    /// Its program.
    pub const fn program(self) -> &'static str {
        match self {
            Self::Voter => "baton-orchestrator",
            Self::Agent => "baton-agent",
            Self::Names => "baton-dns",
        }
    }
}

/// Where everything of a run stands.
#[derive(Debug)]
pub struct Layout {
    /// What `baton init` writes.
    pub folder: PathBuf,
    /// The ports.
    pub ports: Ports,
    /// An address for each of [`SITES`].
    pub addresses: Vec<Ipv4Addr>,
}

impl Layout {
    /// A site's address. Sites of [`SITES`] only; anything else is nowhere (`0.0.0.0`).
    pub fn address(&self, site: &str) -> Ipv4Addr {
        let index = SITES.iter().position(|known| known.name == site);
        index.and_then(|index| self.addresses.get(index)).copied().unwrap_or(Ipv4Addr::UNSPECIFIED)
    }

    /// Where a site's PostgreSQL listens.
    pub fn postgres(&self, site: &str) -> SocketAddr {
        SocketAddr::from((self.address(site), self.ports.postgres))
    }

    /// Where a site's name server answers.
    pub fn name_server(&self, site: &str) -> SocketAddr {
        SocketAddr::from((self.address(site), self.ports.names))
    }

    /// The folder of a daemon and its configuration file.
    pub fn daemon(&self, site: &str, kind: Kind) -> (PathBuf, PathBuf) {
        let (folder, file) = match kind {
            Kind::Voter => ("orchestrator".to_owned(), "orchestrator.toml"),
            Kind::Agent => (format!("agent-{site}-1"), "agent.toml"),
            Kind::Names => ("dns".to_owned(), "dns.toml"),
        };
        let folder = self.folder.join(site).join(folder);
        let file = folder.join(file);
        (folder, file)
    }

    /// PostgreSQL's data directory at a site.
    pub fn data(&self, site: &str) -> PathBuf {
        self.daemon(site, Kind::Agent).0.join("pgdata")
    }

    /// The operator's configuration.
    pub fn operator(&self) -> PathBuf {
        self.folder.join("operator/baton.toml")
    }

    /// The log of a daemon.
    pub fn log(&self, site: &str, kind: Kind) -> PathBuf {
        self.folder.join(site).join(format!("{}.log", kind.program()))
    }

    /// The topology, as an operator would write it.
    pub fn topology(&self, profile: &str) -> String {
        let mut text = format!(
            "[cluster]\nname = \"clinic-eu\"\n\n[timing]\nprofile = \"{profile}\"\n\n\
             [dns]\norigin = \"{ORIGIN}\"\ncontact = \"hostmaster.clinic.example.\"\nttl = \"5s\"\n"
        );
        for site in &SITES {
            let address = self.address(site.name);
            let _ = write!(
                text,
                "\n[[site]]\nname = \"{}\"\noperator = \"{}\"\njurisdiction = \"{}\"\n\
                 voter = \"{address}:{}\"\n\
                 name_server = {{ name = \"{}\", address = \"{address}:{}\" }}\n",
                site.name,
                site.operator,
                site.jurisdiction,
                self.ports.voter,
                site.name_server,
                self.ports.names
            );
        }
        let _ = write!(
            text,
            "\n[[service]]\nname = \"{SERVICE}\"\nwritable = \"{SERVICE}\"\n\
             read_only = \"{SERVICE}-ro\"\nrequired = 1\non_last_copy = \"block\"\n"
        );
        for site in &SITES {
            let address = self.address(site.name);
            let _ = write!(
                text,
                "\n[[service.instance]]\nname = \"{}\"\nsite = \"{}\"\n\
                 postgres = \"{address}:{}\"\nagent = \"{address}:{}\"\n",
                site.instance(),
                site.name,
                self.ports.postgres,
                self.ports.agent
            );
        }
        text
    }
}

/// The writable name of the service, whole.
pub fn writable_name() -> String {
    format!("{SERVICE}.{ORIGIN}")
}

/// Whether two paths name one folder.
pub fn same_folder(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_topology_names_everything_once() {
        let layout = Layout {
            folder: "/x".into(),
            ports: Ports::usual(),
            addresses: vec![Ipv4Addr::LOCALHOST; 3],
        };
        let text = layout.topology("metro");
        assert_eq!(text.matches("[[site]]").count(), 3);
        assert_eq!(text.matches("[[service.instance]]").count(), 3);
        assert!(text.contains("profile = \"metro\""));
        let (folder, file) = layout.daemon("arezzo", Kind::Agent);
        assert_eq!(file, folder.join("agent.toml"));
        assert!(folder.ends_with("arezzo/agent-arezzo-1"));
    }
}
