//! What a cluster looks like: its sites, one service, and where everything stands.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use super::network::{self, Spot};
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

/// The names of the demo's sites.
pub fn site_names() -> Vec<&'static str> {
    SITES.iter().map(|site| site.name).collect()
}

/// The sites of scenarios, in the order of preference.
pub const LETTERS: [Site; 5] =
    [letter("a", 1), letter("b", 2), letter("c", 3), letter("d", 4), letter("e", 5)];

const fn letter(name: &'static str, number: u8) -> Site {
    let name_server = match number {
        1 => "ns1",
        2 => "ns2",
        3 => "ns3",
        4 => "ns4",
        _ => "ns5",
    };
    let loopback = Ipv4Addr::new(127, 0, number, 1);
    Site { name, operator: "", jurisdiction: "", loopback, name_server }
}

/// What kind of cluster it is.
#[derive(Clone, Debug)]
pub struct Shape {
    /// The sites, in the order of preference.
    pub sites: &'static [Site],
    /// How many of them hold data: the first ones.
    pub data: usize,
    /// W of the rule.
    pub required: u32,
    /// `block` or `single-copy`.
    pub on_last_copy: &'static str,
    /// Lines of the table `[timing]`.
    pub timing: String,
    /// Foreign name servers that are told of changes.
    pub secondaries: Vec<SocketAddr>,
    /// Who may connect, beside the probe; empty: the product's default.
    pub access: Vec<String>,
}

impl Shape {
    /// The demo's, with a timing profile.
    pub fn demo(profile: &str) -> Self {
        Self {
            sites: &SITES,
            data: SITES.len(),
            required: 1,
            on_last_copy: "block",
            timing: format!("profile = \"{profile}\"\n"),
            secondaries: Vec::new(),
            access: Vec::new(),
        }
    }

    /// The names of the sites.
    pub fn names(&self) -> Vec<&'static str> {
        self.sites.iter().map(|site| site.name).collect()
    }

    /// Those that hold data.
    pub fn holders(&self) -> &'static [Site] {
        self.sites.get(..self.data).unwrap_or(self.sites)
    }
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

    /// Where at a site it stands.
    pub const fn spot(self) -> Spot {
        match self {
            Self::Voter => Spot::Voter,
            Self::Agent => Spot::Database,
            Self::Names => Spot::Names,
        }
    }

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
    /// What kind of cluster it is.
    pub shape: Shape,
    /// Whether sites have networks of their own, and each daemon in them its own address.
    pub networks: bool,
}

impl Layout {
    /// The address of somebody at a site; nowhere (`0.0.0.0`) for a site that is none of this
    /// cluster.
    pub fn address(&self, site: &str, spot: Spot) -> Ipv4Addr {
        let sites = self.shape.sites;
        let Some(index) = sites.iter().position(|known| known.name == site) else {
            return Ipv4Addr::UNSPECIFIED;
        };
        if self.networks {
            return network::address(index, spot);
        }
        sites.get(index).map_or(Ipv4Addr::UNSPECIFIED, |site| site.loopback)
    }

    /// The site whose PostgreSQL has this address.
    pub fn site_of(&self, address: Ipv4Addr) -> Option<&'static str> {
        let own = |site: &&Site| self.address(site.name, Spot::Database) == address;
        self.shape.sites.iter().find(own).map(|site| site.name)
    }

    /// Where a site's PostgreSQL listens.
    pub fn postgres(&self, site: &str) -> SocketAddr {
        SocketAddr::from((self.address(site, Spot::Database), self.ports.postgres))
    }

    /// Where a site's name server answers.
    pub fn name_server(&self, site: &str) -> SocketAddr {
        SocketAddr::from((self.address(site, Spot::Names), self.ports.names))
    }

    /// Where a site's voter shows the page.
    pub fn page(&self, site: &str) -> SocketAddr {
        SocketAddr::from((self.address(site, Spot::Voter), self.ports.page))
    }

    /// The agent's own folder at a site: sockets, settings, logs.
    pub fn run(&self, site: &str) -> PathBuf {
        self.daemon(site, Kind::Agent).0.join("run")
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
    pub fn topology(&self) -> String {
        let shape = &self.shape;
        let mut text = format!(
            "[cluster]\nname = \"clinic-eu\"\n\n[people]\ntwo_persons = false\n\n[timing]\n{}\n\
             [dns]\norigin = \"{ORIGIN}\"\ncontact = \"hostmaster.clinic.example.\"\n\
             ttl = \"5s\"\n",
            shape.timing
        );
        if !shape.secondaries.is_empty() {
            let _ = writeln!(text, "secondaries = {}", list(&shape.secondaries));
        }
        for site in shape.sites {
            let _ = write!(
                text,
                "\n[[site]]\nname = \"{}\"\noperator = \"{}\"\njurisdiction = \"{}\"\n\
                 voter = \"{}:{}\"\nname_server = {{ name = \"{}\", address = \"{}\" }}\n",
                site.name,
                site.operator,
                site.jurisdiction,
                self.address(site.name, Spot::Voter),
                self.ports.voter,
                site.name_server,
                self.name_server(site.name),
            );
        }
        let _ = write!(
            text,
            "\n[[service]]\nname = \"{SERVICE}\"\nwritable = \"{SERVICE}\"\n\
             read_only = \"{SERVICE}-ro\"\nrequired = {}\non_last_copy = \"{}\"\n",
            shape.required, shape.on_last_copy
        );
        if !shape.access.is_empty() {
            let _ = writeln!(text, "client_access = {}", list(&shape.access));
        }
        for site in shape.holders() {
            let _ = write!(
                text,
                "\n[[service.instance]]\nname = \"{}\"\nsite = \"{}\"\n\
                 postgres = \"{}\"\nagent = \"{}:{}\"\n",
                site.instance(),
                site.name,
                self.postgres(site.name),
                self.address(site.name, Spot::Database),
                self.ports.agent
            );
        }
        text
    }
}

/// Values as a list of TOML.
fn list<T: std::fmt::Display>(values: &[T]) -> String {
    let words: Vec<String> = values.iter().map(|value| format!("\"{value}\"")).collect();
    format!("[{}]", words.join(", "))
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
            shape: Shape::demo("metro"),
            networks: true,
        };
        let text = layout.topology();
        assert_eq!(text.matches("[[site]]").count(), 3);
        assert_eq!(text.matches("[[service.instance]]").count(), 3);
        assert!(text.contains("profile = \"metro\""));
        let (folder, file) = layout.daemon("arezzo", Kind::Agent);
        assert_eq!(file, folder.join("agent.toml"));
        assert!(folder.ends_with("arezzo/agent-arezzo-1"));
    }
}
