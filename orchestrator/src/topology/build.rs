//! From tables to a topology: everything that only makes sense of several keys together.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use failover::calendar::{Calendar, Entry, Sla};
use failover::cluster::Voter;
use failover::ids::{InstanceId, SiteId, VoterId};
use failover::topology::{
    Dns, Instance, NameServer, OnLastCopy, People, ServiceSpec, Site, Timing, Topology,
};

use super::Declared;
use super::tables::{
    DnsTable, DrillsTable, File, InstanceTable, Length, PeopleTable, Profile, ServiceTable,
    SlaTable, TimingTable,
};

/// How long a service runs elsewhere in a scheduled drill, unless something else is written.
const DWELL: Duration = Duration::from_mins(5);
/// How late a scheduled drill may begin, unless something else is written.
const WITHIN: Duration = Duration::from_hours(1);

/// One thing wrong with a file.
pub(super) struct Problem {
    /// The dotted path of the key.
    pub(super) key: String,
    /// What is wrong, and what would be right.
    pub(super) text: String,
    /// The key is there more than once: the later place is the wrong one.
    pub(super) again: bool,
}

impl Problem {
    pub(super) fn new(key: impl Into<String>, text: impl Into<String>) -> Self {
        Self { key: key.into(), text: text.into(), again: false }
    }

    fn again(key: impl Into<String>, text: impl Into<String>) -> Self {
        Self { again: true, ..Self::new(key, text) }
    }
}

/// Builds the topology, or says everything that is wrong.
pub(super) fn build(file: File) -> Result<Declared, Vec<Problem>> {
    let mut build = Build::default();
    build.cluster_name(&file.cluster.name);
    let mut topology = Topology {
        cluster: file.cluster.name.clone(),
        timing: timing(&file.timing),
        ..Topology::default()
    };
    topology.dns = build.dns(&file.dns, file.timing.profile);
    topology.drills = build.drills(&file.drills);
    topology.people = people(&file.people);
    let voters = build.sites(&file, &mut topology);
    let sla = build.sla("sla", &file.sla, &Sla::default());
    for service in file.service {
        let own = build.sla(&format!("service.{}.sla", service.name), &service.sla, &sla);
        if own != Sla::default() {
            topology.sla.insert(service.name.clone(), own);
        }
        build.service(service, &mut topology);
    }
    if build.problems.is_empty() { Ok(Declared { topology, voters }) } else { Err(build.problems) }
}

/// What is not written is as [`People::default`] has it.
fn people(table: &PeopleTable) -> People {
    let usual = People::default();
    People {
        two_persons: table.two_persons.unwrap_or(usual.two_persons),
        approval_expires: table.approval_expires.map_or(usual.approval_expires, |length| length.0),
        totp: table.totp.unwrap_or(usual.totp),
    }
}

fn timing(table: &TimingTable) -> Timing {
    let base = match table.profile {
        Profile::Default => Timing::default(),
        Profile::Metro => Timing {
            heartbeat: Duration::from_millis(100),
            fence_after: Duration::from_millis(400),
            fence_time: Duration::from_millis(200),
            suspect_after: Duration::from_millis(700),
            election_timeout: Duration::from_millis(300),
            ..Timing::default()
        },
    };
    let or = |written: Option<Length>, otherwise| written.map_or(otherwise, |length| length.0);
    Timing {
        heartbeat: or(table.heartbeat, base.heartbeat),
        fence_after: or(table.fence_after, base.fence_after),
        fence_time: or(table.fence_time, base.fence_time),
        suspect_after: or(table.suspect_after, base.suspect_after),
        election_timeout: or(table.election_timeout, base.election_timeout),
        clock_rate_error_per_mille: table
            .clock_rate_error_per_mille
            .unwrap_or(base.clock_rate_error_per_mille),
        switchover_deadline: or(table.switchover_deadline, base.switchover_deadline),
        failover_window: or(table.failover_window, base.failover_window),
    }
}

/// What was met so far: names and addresses may be there once only.
#[derive(Default)]
struct Build {
    problems: Vec<Problem>,
    addresses: BTreeMap<SocketAddr, String>,
    labels: BTreeMap<String, String>,
    instances: BTreeSet<InstanceId>,
}

impl Build {
    fn wrong(&mut self, key: impl Into<String>, text: impl Into<String>) {
        self.problems.push(Problem::new(key, text));
    }

    fn cluster_name(&mut self, name: &str) {
        if let Err(error) = name.parse::<SiteId>() {
            self.wrong("cluster.name", error.to_string());
        }
    }

    fn dns(&mut self, table: &DnsTable, profile: Profile) -> Dns {
        let origin = absolute(&table.origin);
        if !is_domain(&origin) {
            self.wrong(
                "dns.origin",
                format!(
                    "`{}` is not a domain name: write the zone that baton answers for, as in \
                     \"db.clinic.example.\"",
                    table.origin.escape_debug()
                ),
            );
        }
        let contact = match &table.contact {
            Some(written) => absolute(&written.replacen('@', ".", 1)),
            None => format!("hostmaster.{origin}"),
        };
        if !is_domain(&contact) {
            self.wrong(
                "dns.contact",
                format!(
                    "`{}` is not a mailbox: write \"hostmaster@clinic.example\" or \
                     \"hostmaster.clinic.example.\"",
                    contact.escape_debug()
                ),
            );
        }
        let ttl = table.ttl.map_or(
            match profile {
                Profile::Default => Duration::from_secs(5),
                Profile::Metro => Duration::from_secs(1),
            },
            |length| length.0,
        );
        if ttl.subsec_millis() != 0 || !(1..=300).contains(&ttl.as_secs()) {
            self.wrong(
                "dns.ttl",
                "a time to live is a whole number of seconds from \"1s\" to \"300s\"",
            );
        }
        Dns {
            origin,
            contact,
            ttl,
            servers: BTreeMap::new(),
            secondaries: table.secondaries.clone(),
        }
    }

    /// What is not written is as [`Calendar::default`] has it.
    fn drills(&mut self, table: &DrillsTable) -> Calendar {
        let usual = Calendar::default();
        let time_zone = self.time_zone("drills", table.time_zone.as_ref(), &usual.time_zone);
        let mut schedule = BTreeMap::new();
        for entry in &table.schedule {
            let declared = Entry {
                kind: entry.kind,
                service: entry.service.clone(),
                to: entry.to.clone(),
                dwell: entry.dwell.map_or(DWELL, |length| length.0),
                at_most: entry.at_most.map(|length| length.0),
                when: entry.when,
                within: entry.within.map_or(WITHIN, |length| length.0),
            };
            if schedule.insert(entry.name.clone(), declared).is_some() {
                let text = format!("two entries are called `{}`: rename one", entry.name);
                self.problems.push(Problem::again(format!("drills.schedule.{}", entry.name), text));
            }
        }
        Calendar {
            time_zone,
            protected: table.protected.clone().unwrap_or(usual.protected),
            blackouts: table.blackouts.clone(),
            schedule,
        }
    }

    /// What is not written is as `usual` has it.
    fn sla(&mut self, key: &str, table: &SlaTable, usual: &Sla) -> Sla {
        let time_zone = self.time_zone(key, table.time_zone.as_ref(), &usual.time_zone);
        let hours = table.hours.clone().unwrap_or_else(|| usual.hours.clone());
        if table.hours.as_ref().is_some_and(Vec::is_empty) {
            let text = "with no hours nothing is promised: write hours = [\"mon-sun 00:00-24:00\"]";
            self.wrong(format!("{key}.hours"), text);
        }
        Sla {
            time_zone,
            hours,
            holidays: table.holidays.clone().unwrap_or_else(|| usual.holidays.clone()),
            objective: table.objective.unwrap_or(usual.objective),
        }
    }

    fn time_zone(&mut self, table: &str, written: Option<&String>, usual: &str) -> String {
        let Some(time_zone) = written else { return usual.to_owned() };
        if !crate::calendar::knows(time_zone) {
            let text =
                format!("`{}` is no time zone, as \"Europe/Rome\" is", time_zone.escape_debug());
            self.wrong(format!("{table}.time_zone"), text);
        }
        time_zone.clone()
    }

    fn sites(&mut self, file: &File, topology: &mut Topology) -> BTreeMap<VoterId, Voter> {
        let mut voters = BTreeMap::new();
        for site in &file.site {
            let key = format!("site.{}", site.name);
            let described = Site {
                operator: site.operator.clone(),
                jurisdiction: site.jurisdiction.clone(),
                certifications: site.certifications.clone(),
            };
            if topology.sites.insert(site.name.clone(), described).is_some() {
                let text = format!("two sites are called `{}`: rename one", site.name);
                self.problems.push(Problem::again(key, text));
                continue;
            }
            if let Some(address) = site.voter {
                self.address(format!("{key}.voter"), address);
                let id = VoterId(voters.len() as u64 + 1);
                let (name, site) = (site.name.to_string(), site.name.clone());
                voters.insert(id, Voter { name, site, address, incarnation: None });
            }
            if let Some(server) = &site.name_server {
                self.address(format!("{key}.name_server.address"), server.address);
                self.label(format!("{key}.name_server.name"), server.name.as_str());
                let (address, public) = (server.address, server.public);
                let entry = NameServer { site: site.name.clone(), address, public };
                topology.dns.servers.insert(server.name.clone(), entry);
            }
        }
        self.voter_count(file);
        voters
    }

    fn voter_count(&mut self, file: &File) {
        let voters = file.site.iter().filter(|site| site.voter.is_some()).count();
        if matches!(voters, 3 | 5) {
            return;
        }
        let last = file.site.last().map_or("site".to_owned(), |site| format!("site.{}", site.name));
        self.wrong(
            last,
            format!(
                "{voters} of {} sites have a `voter`: three or five are needed, so that a majority \
                 outlives the loss of any site (a site without data may have one: a witness)",
                file.site.len()
            ),
        );
    }

    fn service(&mut self, table: ServiceTable, topology: &mut Topology) {
        let key = format!("service.{}", table.name);
        if topology.services.contains_key(&table.name) {
            let text = format!("two services are called `{}`: rename one", table.name);
            self.problems.push(Problem::again(key, text));
            return;
        }
        let writable = table.writable.clone().unwrap_or_else(|| table.name.to_string());
        let read_only = table.read_only.clone().unwrap_or_else(|| format!("{writable}-ro"));
        self.label(format!("{key}.writable"), &writable);
        // A name derived from a wrong one is not worth a line of its own.
        if table.read_only.is_some() || is_label(&writable) {
            self.label(format!("{key}.read_only"), &read_only);
        }
        for (number, alias) in table.aliases.iter().enumerate() {
            self.label(format!("{key}.aliases.{number}"), alias);
        }
        let mut instances = BTreeMap::new();
        let mut preference = Vec::new();
        for instance in &table.instance {
            self.instance(&key, instance, topology);
            preference.push(instance.name.clone());
            let InstanceTable { name, site, postgres, agent, public } = instance.clone();
            instances.insert(name, Instance { site, postgres, agent, public });
        }
        let required = self.required(&key, table.required, instances.len());
        let on_last_copy = self.on_last_copy(&key, &table);
        let spec = ServiceSpec {
            writable,
            read_only,
            aliases: table.aliases,
            required,
            on_last_copy,
            client_access: table.client_access,
            instances,
            preference,
        };
        topology.services.insert(table.name, spec);
    }

    fn required(&mut self, service: &str, written: Option<u32>, instances: usize) -> u32 {
        let required = written.unwrap_or(1);
        if instances == 0 {
            self.wrong(service, "a service needs at least one [[service.instance]]");
        } else if required == 0 || required as usize > instances.saturating_sub(1).max(1) {
            self.wrong(
                format!("{service}.required"),
                format!(
                    "`required` is how many standbys flush a commit before it is acknowledged: \
                     with {instances} instances it can be 1 to {}",
                    instances.saturating_sub(1).max(1)
                ),
            );
        }
        required
    }

    fn instance(&mut self, service: &str, instance: &InstanceTable, topology: &Topology) {
        let key = format!("{service}.instance.{}", instance.name);
        if !self.instances.insert(instance.name.clone()) {
            let text = format!(
                "two instances are called `{}`: a name is unique in the whole cluster, because it \
                 is in the instance's certificate",
                instance.name
            );
            self.problems.push(Problem::again(key, text));
            return;
        }
        if !topology.sites.contains_key(&instance.site) {
            let known: Vec<_> = topology.sites.keys().map(ToString::to_string).collect();
            self.wrong(
                format!("{key}.site"),
                format!("no [[site]] is called `{}`; there is {}", instance.site, listed(&known)),
            );
        }
        self.address(format!("{key}.postgres"), instance.postgres);
        self.address(format!("{key}.agent"), instance.agent);
    }

    fn on_last_copy(&mut self, service: &str, table: &ServiceTable) -> OnLastCopy {
        let sites: BTreeSet<_> = table.instance.iter().map(|instance| &instance.site).collect();
        if table.on_last_copy.is_none() && sites.len() == 2 {
            self.wrong(
                format!("{service}.on_last_copy"),
                "with data in exactly two sites you must say what happens when one is lost: \
                 on_last_copy = \"block\" (commits wait until it is back, nothing can be lost) or \
                 on_last_copy = \"single-copy\" (the service goes on with one copy, and says so)",
            );
        }
        table.on_last_copy.unwrap_or(OnLastCopy::Block)
    }

    fn address(&mut self, key: String, address: SocketAddr) {
        if address.port() == 0 || address.ip().is_unspecified() {
            self.wrong(key, format!("`{address}` is not an address that others can reach"));
            return;
        }
        match self.addresses.get(&address) {
            Some(first) => {
                let text =
                    format!("{address} is already the address of {first}: give each its own");
                self.wrong(key, text);
            }
            None => {
                self.addresses.insert(address, key);
            }
        }
    }

    fn label(&mut self, key: String, label: &str) {
        if !is_label(label) {
            let text = format!(
                "`{}` is not a DNS label: use 1 to 63 of a-z, 0-9 and -, beginning and ending with \
                 a letter or digit",
                label.escape_debug()
            );
            self.wrong(key, text);
            return;
        }
        match self.labels.get(label) {
            Some(first) => {
                let text =
                    format!("the name `{label}` is already {first}: names in the zone are unique");
                self.wrong(key, text);
            }
            None => {
                self.labels.insert(label.to_owned(), key);
            }
        }
    }
}

fn listed(words: &[String]) -> String {
    match words {
        [] => "none".to_owned(),
        words => words.join(", "),
    }
}

fn absolute(name: &str) -> String {
    format!("{}.", name.trim_end_matches('.').to_ascii_lowercase())
}

fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    (1..=63).contains(&bytes.len())
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
        && bytes.first() != Some(&b'-')
        && bytes.last() != Some(&b'-')
}

fn is_domain(name: &str) -> bool {
    name.len() <= 200 && name.trim_end_matches('.').split('.').all(is_label)
}
