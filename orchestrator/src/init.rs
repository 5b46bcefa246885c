//! `baton init`: from a topology file to a folder that is ready to be carried to the machines.
//!
//! Everything is made in memory first and written only when all of it is there, so that an error
//! leaves nothing behind. With [`Mode::Update`] whatever exists stays: keys are never replaced.

mod configs;
mod units;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use failover::cluster::Voter;
use failover::ids::{InstanceId, ServiceId, SiteId, VoterId};
use failover::people::Role;
use failover::topology::{Instance, NameServer, ServiceSpec};
use wire::ca::{Authority, CaError, Leaf};
use wire::files::{write_durably, write_secret};
use wire::role::Peer;

use crate::codes;
use crate::topology::Declared;

/// Whether the folder may have something in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It must be empty or absent.
    New,
    /// What is there is kept, what is missing is added.
    Update,
}

/// What to make, and for where.
#[derive(Clone, Debug)]
pub struct Plan<'a> {
    /// What the file declares.
    pub declared: &'a Declared,
    /// The file's own text: copied.
    pub source: &'a str,
    /// Where to write.
    pub folder: &'a Path,
    /// Whether something may be there.
    pub mode: Mode,
    /// The name in the first admin's certificate: it signs every request in the history.
    pub operator: &'a str,
    /// Who else gets a certificate.
    pub people: &'a [Person],
    /// Who gets a secret for an authenticator.
    pub totp: &'a [PersonName],
    /// Where a site's folder will lie on its machines, for the unit files.
    pub home: &'a Path,
    /// Where the programs will lie on the machines, for the unit files.
    pub programs: &'a Path,
}

/// A person who gets a certificate: `NAME:ROLE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// The name in it.
    pub name: String,
    /// The role in it.
    pub role: Role,
}

impl FromStr for Person {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let roles = || Role::ALL.map(Role::as_str).join(", ");
        let (name, role) = text
            .split_once(':')
            .ok_or_else(|| format!("write NAME:ROLE; roles are {}", roles()))?;
        let role = Role::named(role)
            .ok_or_else(|| format!("`{role}` is no role; there are {}", roles()))?;
        let person = Self { name: name.to_owned(), role };
        PersonName::from_str(name).map(|_| person)
    }
}

/// A person, by the name in his certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PersonName(pub String);

impl FromStr for PersonName {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        // What baton does by itself stands under these in the record.
        let taken = ["baton", "calendar"].contains(&name);
        let fits = Peer::parse(&format!("baton://c/operator/{name}")).is_some();
        if taken || !fits || name.starts_with('.') {
            return Err(format!(
                "`{name}` cannot be a person's name: use 1 to 63 of letters, digits, -, _ and ., \
                 no . first, and not `baton` or `calendar`"
            ));
        }
        Ok(Self(name.to_owned()))
    }
}

impl Person {
    /// What stands in a certificate behind the cluster's name.
    fn path(&self) -> String {
        format!("operator/{}/{}", self.name, self.role)
    }
}

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Files that are new, relative to the folder.
    pub new: Vec<PathBuf>,
    /// Files that were there and are what they should be.
    pub kept: Vec<PathBuf>,
    /// Files that were there and are not what the topology gives now: the new text lies beside
    /// them with the ending `.new`.
    pub differing: Vec<PathBuf>,
}

/// Why nothing was written (or, for [`InitError::Io`], not everything).
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// Something is there already.
    #[error(
        "{} is not empty: nothing was changed; give an empty folder, or --update to add what is \
         new to this one",
        .0.display()
    )]
    NotEmpty(PathBuf),
    /// An update needs the authority that signed what is there.
    #[error("{}: {reason}; without it nothing can be added to this cluster", file.display())]
    Authority {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A certificate could not be made.
    #[error(transparent)]
    Certificate(#[from] CaError),
    /// A secret could not be made.
    #[error("a secret for an authenticator: {0}")]
    Totp(String),
    /// The folder cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// One file to be there.
struct Entry {
    path: PathBuf,
    text: String,
    secret: bool,
    /// Whether an existing file of other content is worth a `.new`.
    compared: bool,
}

/// Writes the folder.
///
/// # Errors
/// [`InitError`]; only [`InitError::Io`] can leave files behind.
pub fn init(plan: &Plan<'_>) -> Result<Written, InitError> {
    if plan.mode == Mode::New && !is_empty(plan.folder)? {
        return Err(InitError::NotEmpty(plan.folder.to_owned()));
    }
    let mut making = Making::begin(plan)?;
    making.plain("topology.toml", plan.source.to_owned());
    making.operator()?;
    for person in plan.people {
        making.person(person)?;
    }
    let voters = making.numbered_voters();
    for (id, voter, joins) in &voters {
        making.orchestrator(*id, voter, *joins, &voters)?;
    }
    for person in plan.totp {
        making.totp(&person.0)?;
    }
    for site in plan.declared.topology.sites.keys() {
        making.probe(site)?;
    }
    for (id, server) in &plan.declared.topology.dns.servers {
        making.name_server(id.as_str(), server)?;
    }
    for (service, spec) in &plan.declared.topology.services {
        for (id, instance) in &spec.instances {
            making.agent(service, spec, id, instance)?;
        }
    }
    write(plan.folder, &making.entries)
}

fn is_empty(folder: &Path) -> Result<bool, InitError> {
    match fs::read_dir(folder) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(source) => Err(InitError::Io { path: folder.to_owned(), source }),
    }
}

/// The files collected so far.
struct Making<'a> {
    plan: &'a Plan<'a>,
    authority: Authority,
    entries: Vec<Entry>,
}

impl<'a> Making<'a> {
    fn begin(plan: &'a Plan<'a>) -> Result<Self, InitError> {
        let (certificate, key) = (plan.folder.join("ca/ca.crt"), plan.folder.join("ca/ca.key"));
        let authority = if plan.mode == Mode::Update && !is_empty(plan.folder)? {
            let read = |file: &Path| {
                fs::read_to_string(file).map_err(|error| InitError::Authority {
                    file: file.to_owned(),
                    reason: error.to_string(),
                })
            };
            Authority::load(&read(&certificate)?, &read(&key)?)?
        } else {
            Authority::create(&plan.declared.topology.cluster)?
        };
        let mut making = Self { plan, authority, entries: Vec::new() };
        let (text, key) =
            (making.authority.certificate_pem().to_owned(), making.authority.key_pem());
        making.pem("ca/ca.crt", text, false);
        making.pem("ca/ca.key", key, true);
        Ok(making)
    }

    fn plain(&mut self, path: impl Into<PathBuf>, text: String) {
        self.entries.push(Entry { path: path.into(), text, secret: false, compared: true });
    }

    fn pem(&mut self, path: impl Into<PathBuf>, text: String, secret: bool) {
        self.entries.push(Entry { path: path.into(), text, secret, compared: false });
    }

    /// A certificate with its key, unless both are there. Keys outlive updates.
    fn certificate(&mut self, folder: &str, stem: &str, leaf: &Leaf) -> Result<(), InitError> {
        let certificate = PathBuf::from(folder).join(format!("{stem}.crt"));
        let key = PathBuf::from(folder).join(format!("{stem}.key"));
        let there = |path: &Path| self.plan.folder.join(path).exists();
        if there(&certificate) && there(&key) {
            return Ok(());
        }
        let issued = self.authority.issue(leaf)?;
        self.pem(certificate, issued.certificate_pem, false);
        self.pem(key, issued.key_pem, true);
        Ok(())
    }

    fn daemon(&mut self, folder: &str, leaf: &Leaf) -> Result<(), InitError> {
        self.certificate(folder, "tls", leaf)?;
        let authority = self.authority.certificate_pem().to_owned();
        self.pem(PathBuf::from(folder).join("ca.crt"), authority, false);
        Ok(())
    }

    fn leaf(&self, common_name: String, kind: &str, name: &str) -> Leaf {
        let uri = format!("baton://{}/{kind}/{name}", self.plan.declared.topology.cluster);
        Leaf { common_name, uri, addresses: Vec::new(), names: Vec::new() }
    }

    fn operator(&mut self) -> Result<(), InitError> {
        let name = self.plan.operator;
        let leaf = self.leaf(format!("operator-{name}"), "operator", name);
        self.certificate("operator", "operator", &leaf)?;
        // No role of ours: it opens PostgreSQL's door and no other.
        let leaf = self.leaf("baton_probe".to_owned(), "probe", "probe");
        self.certificate("operator", "probe", &leaf)?;
        let authority = self.authority.certificate_pem().to_owned();
        self.pem("operator/ca.crt", authority, false);
        self.plain("operator/baton.toml", configs::operator(self.plan.declared));
        Ok(())
    }

    /// The probe writers of a site: one a service, each of which writes wherever the primary is.
    fn probe(&mut self, site: &SiteId) -> Result<(), InitError> {
        let folder = format!("{site}/probe");
        let leaf = self.leaf("baton_probe".to_owned(), "probe", "probe");
        self.certificate(&folder, "probe", &leaf)?;
        let authority = self.authority.certificate_pem().to_owned();
        self.pem(format!("{folder}/ca.crt"), authority, false);
        self.plain(format!("{folder}/baton.toml"), configs::probe(self.plan.declared));
        self.plain(format!("{folder}/topology.toml"), self.plan.source.to_owned());
        for service in self.plan.declared.topology.services.keys() {
            let unit = units::probe(&self.places(site), service.as_str());
            self.plain(format!("{site}/systemd/baton-probe@{service}.service"), unit);
        }
        Ok(())
    }

    /// A folder of their own, to be handed over.
    fn person(&mut self, person: &Person) -> Result<(), InitError> {
        let folder = format!("people/{}-{}", person.name, person.role);
        let leaf = Leaf {
            common_name: format!("{}-{}", person.role, person.name),
            uri: format!("baton://{}/{}", self.plan.declared.topology.cluster, person.path()),
            addresses: Vec::new(),
            names: Vec::new(),
        };
        self.certificate(&folder, "operator", &leaf)?;
        let authority = self.authority.certificate_pem().to_owned();
        self.pem(format!("{folder}/ca.crt"), authority, false);
        self.plain(format!("{folder}/baton.toml"), configs::person(self.plan.declared));
        Ok(())
    }

    /// The secret of a person's authenticator: every voter has the same. One that is there stays,
    /// and is not handed over again.
    fn totp(&mut self, person: &str) -> Result<(), InitError> {
        let place = |folder: &str| PathBuf::from(folder).join("totp").join(person);
        let voters = self.plan.declared.voters.values();
        let mut places: Vec<PathBuf> =
            voters.map(|voter| place(&format!("{}/orchestrator/secrets", voter.site))).collect();
        let handed = place("");
        let there = places.iter().chain([&handed]);
        let known =
            there.into_iter().find_map(|it| fs::read_to_string(self.plan.folder.join(it)).ok());
        let text = if let Some(known) = known {
            known
        } else {
            places.push(handed);
            let url = codes::enrol(&self.plan.declared.topology.cluster, person);
            format!("{}\n", url.map_err(InitError::Totp)?)
        };
        for place in places {
            self.pem(place, text.clone(), true);
        }
        Ok(())
    }

    /// Each voter with its number and whether it joins a group that is already there. A voter
    /// that has a folder keeps the number in it; a new one gets a number above all of them.
    fn numbered_voters(&self) -> Vec<(VoterId, Voter, bool)> {
        let known = |voter: &Voter| {
            let file = format!("{}/orchestrator/orchestrator.toml", voter.site);
            let text = fs::read_to_string(self.plan.folder.join(file)).ok()?;
            let table: toml::Table = text.parse().ok()?;
            u64::try_from(table.get("id")?.as_integer()?).ok()
        };
        let declared = self.plan.declared.voters.iter();
        let found: Vec<_> = declared.map(|(id, voter)| (*id, voter, known(voter))).collect();
        let Some(mut highest) = found.iter().filter_map(|(_, _, known)| *known).max() else {
            return found.into_iter().map(|(id, voter, _)| (id, voter.clone(), false)).collect();
        };
        let mut number = |known: Option<u64>| {
            known.map_or_else(
                || {
                    highest += 1;
                    (VoterId(highest), true)
                },
                |id| (VoterId(id), false),
            )
        };
        found
            .into_iter()
            .map(|(_, voter, known)| {
                let (id, joins) = number(known);
                (id, voter.clone(), joins)
            })
            .collect()
    }

    fn orchestrator(
        &mut self,
        id: VoterId,
        voter: &Voter,
        joins: bool,
        group: &[(VoterId, Voter, bool)],
    ) -> Result<(), InitError> {
        let folder = format!("{}/orchestrator", voter.site);
        let mut leaf = self.leaf(format!("voter-{}", voter.name), "voter", &voter.name);
        leaf.addresses.push(voter.address.ip());
        self.daemon(&folder, &leaf)?;
        let text = configs::orchestrator(&self.plan.declared.topology, id, voter, joins, group);
        self.plain(format!("{folder}/orchestrator.toml"), text);
        let unit = units::orchestrator(&self.places(&voter.site));
        self.plain(format!("{}/systemd/baton-orchestrator.service", voter.site), unit);
        Ok(())
    }

    fn name_server(&mut self, name: &str, server: &NameServer) -> Result<(), InitError> {
        let folder = format!("{}/dns", server.site);
        let mut leaf = self.leaf(format!("dns-{name}"), "dns", name);
        leaf.addresses.push(server.address.ip());
        self.daemon(&folder, &leaf)?;
        let text = configs::name_server(self.plan.declared, name, server);
        self.plain(format!("{folder}/dns.toml"), text);
        let unit = units::name_server(&self.places(&server.site));
        self.plain(format!("{}/systemd/baton-dns.service", server.site), unit);
        Ok(())
    }

    fn agent(
        &mut self,
        service: &ServiceId,
        spec: &ServiceSpec,
        id: &InstanceId,
        instance: &Instance,
    ) -> Result<(), InitError> {
        let folder = format!("{}/agent-{id}", instance.site);
        // PostgreSQL's role name is the certificate's CN; clients dial the names or addresses.
        let mut leaf = self.leaf(format!("baton-{id}"), "agent", id.as_str());
        leaf.addresses =
            vec![instance.agent.ip(), instance.postgres.ip(), instance.client_address()];
        leaf.addresses.dedup();
        let origin = self.plan.declared.topology.dns.origin.trim_end_matches('.');
        leaf.names = [&spec.writable, &spec.read_only]
            .into_iter()
            .chain(&spec.aliases)
            .map(|name| format!("{name}.{origin}"))
            .collect();
        self.daemon(&folder, &leaf)?;
        let text = configs::agent(self.plan.declared, service, id, instance);
        self.plain(format!("{folder}/agent.toml"), text);
        let unit = units::agent(&self.places(&instance.site), id.as_str());
        self.plain(format!("{}/systemd/baton-agent@{id}.service", instance.site), unit);
        Ok(())
    }

    fn places(&self, site: &SiteId) -> units::Places<'a> {
        units::Places {
            cluster: &self.plan.declared.topology.cluster,
            site: site.to_string(),
            home: self.plan.home,
            programs: self.plan.programs,
        }
    }
}

fn write(folder: &Path, entries: &[Entry]) -> Result<Written, InitError> {
    let mut written = Written::default();
    for entry in entries {
        let path = folder.join(&entry.path);
        match fs::read(&path) {
            Ok(there) if !entry.compared || there == entry.text.as_bytes() => {
                written.kept.push(entry.path.clone());
            }
            Ok(_) => {
                let mut beside = path.into_os_string();
                beside.push(".new");
                put(Path::new(&beside), entry)?;
                written.differing.push(entry.path.clone());
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                put(&path, entry)?;
                written.new.push(entry.path.clone());
            }
            Err(source) => return Err(InitError::Io { path, source }),
        }
    }
    Ok(written)
}

fn put(path: &Path, entry: &Entry) -> Result<(), InitError> {
    let failed = |source| InitError::Io { path: path.to_owned(), source };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    let write = if entry.secret { write_secret } else { write_durably };
    write(path, entry.text.as_bytes()).map_err(failed)
}

#[cfg(test)]
mod tests;
