//! `baton dns check`: what every authoritative server answers, against the leader's zone and
//! against each other.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use failover::topology::Topology;
use orchestrator::answers::{DeclaredTopology, ServiceStatus, Status};
use orchestrator::probe::resolver;
use serde::Serialize;
use tokio::task::JoinSet;

use crate::client::{Cluster, Failure};
use crate::screen::{Mood, cell, lines, print, table, tinted};
use crate::settings::Settings;
use crate::verbs::{Dns, DnsVerb, Globals};

/// How long a server may take.
const BOUND: Duration = Duration::from_secs(2);

/// What they answer.
#[derive(Serialize)]
pub struct Answer {
    zone_version: Option<u32>,
    servers: Vec<Asked>,
    agree: bool,
}

/// What one server answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Asked {
    server: String,
    address: SocketAddr,
    serial: Option<u32>,
    names: Vec<Named>,
    /// Why it could not be asked.
    error: Option<String>,
}

/// One name as one server has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Named {
    name: String,
    addresses: Vec<IpAddr>,
}

pub async fn run(globals: &Globals, arguments: &Dns) -> Result<u8, Failure> {
    let DnsVerb::Check { name_server } = &arguments.verb;
    let settings = Settings::load(globals)?;
    // The name servers outlive the voters: without a leader they are compared with each other.
    let known = asked(&settings, globals).await;
    let (topology, status) = match known {
        Ok((topology, status)) => (topology, Some(status)),
        Err(failure) => (settings.topology(None).map_err(|_| failure)?.topology, None),
    };
    let servers = servers(&topology, name_server);
    if servers.is_empty() {
        return Err(Failure::config("no name server is declared", "give --name-server IP:PORT"));
    }
    let (answer, problems) = look(servers, &topology, status.as_ref()).await;
    print(globals.output, &answer, &text(&answer, &problems))?;
    Ok(if answer.agree { wire::exit::OK } else { wire::exit::FAILED })
}

/// What every declared server answers now, and what is wrong with that.
pub async fn everywhere(topology: &Topology, status: Option<&Status>) -> (Answer, Vec<String>) {
    look(servers(topology, &[]), topology, status).await
}

async fn look(
    servers: Vec<(String, SocketAddr)>,
    topology: &Topology,
    status: Option<&Status>,
) -> (Answer, Vec<String>) {
    let names = names(topology);
    let mut asking = JoinSet::new();
    for (label, address) in servers {
        asking.spawn(ask(label, address, topology.dns.origin.clone(), names.clone()));
    }
    let mut servers = asking.join_all().await;
    servers.sort_by(|a, b| a.server.cmp(&b.server));
    let problems = problems(&servers, topology, status);
    let answer = Answer {
        zone_version: status.map(|status| status.zone_version),
        agree: problems.is_empty(),
        servers,
    };
    (answer, problems)
}

async fn asked(settings: &Settings, globals: &Globals) -> Result<(Topology, Status), Failure> {
    let cluster = Cluster::open(settings, globals)?;
    let declared: DeclaredTopology = cluster.get("/v1/topology").await?;
    Ok((declared.topology, cluster.status().await?))
}

fn servers(topology: &Topology, given: &[SocketAddr]) -> Vec<(String, SocketAddr)> {
    if given.is_empty() {
        let declared = topology.dns.servers.iter();
        return declared.map(|(id, server)| (id.to_string(), server.address)).collect();
    }
    given.iter().map(|address| (address.to_string(), *address)).collect()
}

fn names(topology: &Topology) -> Vec<String> {
    let whole = |name: &String| format!("{name}.{}", topology.dns.origin);
    topology.services.values().flat_map(|s| [whole(&s.writable), whole(&s.read_only)]).collect()
}

async fn ask(server: String, address: SocketAddr, origin: String, names: Vec<String>) -> Asked {
    let mut answer = Asked { server, address, serial: None, names: Vec::new(), error: None };
    match resolver::serial(address, &origin, BOUND).await {
        Ok(serial) => answer.serial = Some(serial),
        Err(error) => {
            answer.error = Some(error.to_string());
            return answer;
        }
    }
    for name in names {
        match resolver::addresses(address, &name, BOUND).await {
            Ok(found) => {
                let addresses = found.into_iter().map(|(address, _)| address).collect();
                answer.names.push(Named { name, addresses });
            }
            Err(error) => answer.error = Some(error.to_string()),
        }
    }
    answer
}

/// Everything in which the servers differ from the state, or from each other.
fn problems(servers: &[Asked], topology: &Topology, status: Option<&Status>) -> Vec<String> {
    let mut problems = Vec::new();
    for server in servers {
        if let Some(error) = &server.error {
            problems.push(format!("{}: {error}", server.server));
            continue;
        }
        if let Some(status) = status
            && server.serial != Some(status.zone_version)
        {
            let serial = server.serial.unwrap_or_default();
            problems.push(format!(
                "{}: serial {serial}, the leader's zone is at {}",
                server.server, status.zone_version
            ));
        }
        for service in status.into_iter().flat_map(|status| &status.services) {
            problems.extend(against_state(server, topology, service));
        }
    }
    let answering = || servers.iter().filter(|server| server.error.is_none());
    let serials: BTreeSet<_> = answering().map(|server| server.serial).collect();
    let names: BTreeSet<_> = answering().map(|server| &server.names).collect();
    if serials.len() > 1 || names.len() > 1 {
        problems.push("the servers do not agree with each other".to_owned());
    }
    problems
}

fn against_state(server: &Asked, topology: &Topology, service: &ServiceStatus) -> Option<String> {
    let spec = topology.services.get(&service.service)?;
    let published = service.published.as_ref()?;
    let wanted = spec.instances.get(&published.instance)?.client_address();
    let name = format!("{}.{}", spec.writable, topology.dns.origin);
    let said = server.names.iter().find(|named| named.name == name)?;
    if said.addresses == [wanted] {
        return None;
    }
    let said: Vec<_> = said.addresses.iter().map(ToString::to_string).collect();
    Some(format!(
        "{}: {name} is {}, the primary {} is at {wanted}",
        server.server,
        if said.is_empty() { "nothing".to_owned() } else { said.join(", ") },
        published.instance,
    ))
}

fn text(answer: &Answer, problems: &[String]) -> String {
    let mut rows = table(&["NAME SERVER", "address", "serial", "name", "addresses"]);
    for server in &answer.servers {
        let serial = server.serial.map_or_else(|| "-".to_owned(), |serial| serial.to_string());
        if let Some(error) = &server.error {
            rows.add_row([
                cell(&server.server, Mood::Plain),
                cell(server.address, Mood::Plain),
                cell(&serial, Mood::Plain),
                cell("-", Mood::Plain),
                cell(error, Mood::Bad),
            ]);
        }
        for named in &server.names {
            let addresses: Vec<_> = named.addresses.iter().map(ToString::to_string).collect();
            rows.add_row([
                cell(&server.server, Mood::Plain),
                cell(server.address, Mood::Plain),
                cell(&serial, Mood::Plain),
                cell(&named.name, Mood::Plain),
                cell(addresses.join(", "), Mood::Plain),
            ]);
        }
    }
    let mut text = lines(&rows);
    text.push('\n');
    for problem in problems {
        text.push_str(&tinted(&format!("! {problem}\n"), Mood::Bad));
    }
    let verdict = match (problems.is_empty(), answer.zone_version) {
        (true, Some(version)) => {
            tinted(&format!("all agree with the leader's zone, version {version}"), Mood::Good)
        }
        (true, None) => tinted("all agree with each other; the leader cannot be asked", Mood::Odd),
        (false, _) => tinted("the name servers do not all say the same", Mood::Bad),
    };
    text.push_str(&verdict);
    text
}
