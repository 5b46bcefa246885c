//! Whether what a scenario expects holds at this instant.

use std::collections::BTreeSet;
use std::time::Duration;

use failover::cluster::{Cluster, Outcome, Service};
use failover::ids::{InstanceId, ServiceId};
use failover::zone::Data;
use scenarios::script::place::{Places, Process};
use scenarios::script::{Expect, Tier};

use super::deeds::{self, Parts};
use crate::clock::At;
use crate::network::Plane;
use crate::world::World;

/// What is compared with: when the step began, and whether it is to hold all the time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Since {
    pub(crate) at: At,
    pub(crate) always: bool,
}

/// Longer than this without an acknowledged commit, writes do not go on.
const SILENCE: Duration = Duration::from_secs(3);
/// What was under way when a step began may still be acknowledged so much later.
const UNDER_WAY: Duration = Duration::from_secs(1);

/// The first key that does not hold, in words.
pub(crate) fn check(
    world: &World,
    parts: &Parts,
    expect: &Expect,
    since: Since,
) -> Result<(), String> {
    traffic(world, expect, since)?;
    counts(world, expect)?;
    machines(world, parts, expect)?;
    names(world, parts, expect)?;
    voters(world, parts, expect)?;
    let Some(cluster) = deeds::newest(world) else {
        let needs = expect.primary.is_some() || expect.epoch.is_some() || expect.whole.is_some();
        return if needs { Err("no voter runs".into()) } else { Ok(()) };
    };
    for (id, service) in &cluster.services {
        state(world, parts, expect, service)?;
        findings(world, expect, id)?;
        if let Some(demanded) = expect.rolled_back {
            demand("rolled-back", demanded, rolled_back(cluster, id))?;
        }
    }
    if let Some(demanded) = expect.whole {
        match (whole(world, cluster, since), demanded) {
            (Ok(()), true) | (Err(_), false) => {}
            (Err(why), true) => return Err(format!("whole = true: {why}")),
            (Ok(()), false) => return Err("whole = false: it is".into()),
        }
    }
    Ok(())
}

fn demand<T>(key: &str, wanted: T, found: T) -> Result<(), String>
where
    T: Copy + PartialEq + std::fmt::Display,
{
    if wanted == found { Ok(()) } else { Err(format!("{key} = {wanted}: it is {found}")) }
}

fn traffic(world: &World, expect: &Expect, since: Since) -> Result<(), String> {
    let load = &world.options.workload;
    let silence = SILENCE.max(load.every * 3);
    let kinds = [
        ("writes", expect.writes, world.oracle.newest_write()),
        ("reads", expect.reads, world.oracle.newest_read()),
    ];
    for (key, demanded, newest) in kinds {
        let told = newest.map(|(_, told)| told).unwrap_or_default();
        let began = newest.map(|(began, _)| began).unwrap_or_default();
        match demanded {
            Some(true) if since.always => {
                let quiet = world.now().since(told.max(since.at));
                if quiet > silence {
                    return Err(format!("{key} = true: none for {quiet:?}"));
                }
            }
            Some(true) if newest.is_none() || began < since.at => {
                return Err(format!("{key} = true: none since the step began"));
            }
            Some(false) if told > since.at.plus(UNDER_WAY) => {
                return Err(format!("{key} = false: there was one"));
            }
            Some(_) | None => {}
        }
    }
    Ok(())
}

fn counts(world: &World, expect: &Expect) -> Result<(), String> {
    let promotions = world.oracle.promotions();
    if let Some(demanded) = expect.promotions {
        demand("promotions", demanded, promotions)?;
    }
    at_most("promotions", expect.promotions_at_most, promotions)?;
    at_most("elections", expect.elections_at_most, world.oracle.elections())?;
    if let Some(most) = expect.gap(Tier::Sim) {
        let gap = world.oracle.gap(world.now());
        if gap > most {
            return Err(format!("gap-at-most = {most:?}: it was {gap:?}"));
        }
    }
    Ok(())
}

fn at_most(key: &str, most: Option<u32>, found: u32) -> Result<(), String> {
    match most {
        Some(most) if found > most => Err(format!("{key}-at-most = {most}: {found}")),
        _ => Ok(()),
    }
}

fn machines(world: &World, parts: &Parts, expect: &Expect) -> Result<(), String> {
    for place in named(world, parts, expect.fenced.as_ref()) {
        for host in world.hosts_at(place) {
            let serves = world.machine(usize::from(host)).is_some_and(crate::host::Host::admits);
            if serves {
                return Err(format!("fenced: {} lets clients in", name(world, host)));
            }
        }
    }
    for place in named(world, parts, expect.tail_kept.as_ref()) {
        for host in world.hosts_at(place) {
            let state = world.oracle.host(usize::from(host));
            if state.is_none_or(|state| state.kept.is_none()) {
                return Err(format!("tail-kept: {} kept none", name(world, host)));
            }
        }
    }
    Ok(())
}

fn names(world: &World, parts: &Parts, expect: &Expect) -> Result<(), String> {
    for place in named(world, parts, expect.dns_answers.as_ref()) {
        let answers = world.servers.iter().any(|server| {
            server.place == place && server.runs && !addresses(world, server, 0).is_empty()
        });
        if !answers {
            return Err(format!("dns-answers: none at {}", site(world, place)));
        }
    }
    if let Some(demanded) = expect.dns_agrees {
        demand("dns-agrees", demanded, agree(world))?;
    }
    Ok(())
}

fn addresses(
    world: &World,
    server: &crate::world::NameServer,
    service: usize,
) -> Vec<std::net::IpAddr> {
    let Some(state) = world.oracle.service(service) else { return Vec::new() };
    let data = server.served.as_ref().and_then(|zone| zone.records.get(&state.writable));
    let given = data.into_iter().flatten().filter_map(|data| match data {
        Data::Address(address) => Some(*address),
        Data::Alias(_) | Data::Service { .. } | Data::Text(_) => None,
    });
    given.collect()
}

/// Whether each name server that clients can ask gives the primary of the newest epoch.
fn agree(world: &World) -> bool {
    let clients = world.clients_place();
    let asked = world.servers.iter().filter(|server| {
        let cut = world.network.is_cut(Plane::Dns, clients, server.place)
            || world.network.is_cut(Plane::Dns, server.place, clients);
        server.runs && !server.paused && !cut
    });
    let services = 0..world.oracle.services.len();
    asked.into_iter().all(|server| {
        services.clone().all(|service| {
            let primary = world.oracle.service(service).and_then(|state| state.primary);
            let given = addresses(world, server, service);
            let hosts: Vec<usize> = given
                .iter()
                .filter_map(|address| world.addresses.get(address))
                .map(|host| usize::from(*host))
                .collect();
            primary.is_some_and(|primary| hosts == [primary])
        })
    })
}

fn voters(world: &World, parts: &Parts, expect: &Expect) -> Result<(), String> {
    if let Some(demanded) = expect.leaderless {
        demand("leaderless", demanded, !is_led(world))?;
    }
    if let (Some(demanded), Some(cluster)) = (expect.voters, deeds::newest(world)) {
        let count = u32::try_from(cluster.voters.len()).unwrap_or(u32::MAX);
        demand("voters", demanded, count)?;
    }
    let Some(stopped) = &expect.stopped else { return Ok(()) };
    for place in deeds::places(world, parts, &stopped.site, None) {
        for process in &stopped.process {
            if runs(world, *process, place) {
                return Err(format!("stopped: the {process} at {} runs", site(world, place)));
            }
        }
    }
    Ok(())
}

fn runs(world: &World, process: Process, place: u8) -> bool {
    let machine_on = world.hosts_at(place).iter().any(|host| world.machines[usize::from(*host)].on);
    match process {
        Process::Voter => world.voters.iter().any(|voter| {
            let acts = |running: &crate::voter::Running| running.replica.stopped().is_none();
            voter.place == place && voter.process.as_deref().is_some_and(acts)
        }),
        Process::Dns => world.servers.iter().any(|server| server.place == place && server.runs),
        Process::Agent | Process::Guard | Process::Site => machine_on,
        Process::Postgres => world.hosts_at(place).iter().any(|host| {
            let ports = world.machines[usize::from(*host)].host.ports();
            ports.1 == failover::report::Port::Open
        }),
    }
}

/// Whether a voter leads whom a majority of the group follows.
fn is_led(world: &World) -> bool {
    let Some(cluster) = deeds::newest(world) else { return false };
    let group = cluster.voters.len().max(1);
    let running = || {
        world
            .voters
            .iter()
            .filter(|voter| voter.powered && !voter.paused)
            .filter_map(|voter| voter.process.as_ref().map(|process| (voter.id, process)))
    };
    running().filter(|(_, process)| process.standing.leads).any(|(leader, leading)| {
        let term = leading.replica.term();
        let follow = running().filter(|(_, process)| {
            process.standing.leader == Some(leader) && process.replica.term() == term
        });
        follow.count() * 2 > group
    })
}

fn state(world: &World, parts: &Parts, expect: &Expect, service: &Service) -> Result<(), String> {
    if let Some(demanded) = expect.epoch {
        demand("epoch", demanded, service.epoch.0)?;
    }
    if let Some(demanded) = &expect.primary {
        let place = service.primary.as_ref().and_then(|primary| place_of(world, service, primary));
        let allowed = deeds::places(world, parts, demanded, None);
        if !place.is_some_and(|place| allowed.contains(&place)) {
            let found = place.map_or("nobody", |place| site(world, place));
            return Err(format!("primary = {demanded}: it is at {found}"));
        }
    }
    if let Some(demanded) = expect.transition {
        demand("transition", demanded, service.transition.is_some())?;
    }
    if let Some(demanded) = expect.required {
        demand("required", demanded, service.rule.enforce.required)?;
    }
    if let Some(least) = expect.doubts
        && service.doubts.len() < least as usize
    {
        return Err(format!("doubts = {least}: {} recorded", service.doubts.len()));
    }
    if let Some(demanded) = &expect.rule {
        let wanted: BTreeSet<u8> =
            deeds::places(world, parts, demanded, None).into_iter().collect();
        let named = service.rule.enforce.instances.iter();
        let found: BTreeSet<u8> =
            named.filter_map(|instance| place_of(world, service, instance)).collect();
        if wanted != found {
            let rule = failover::quorum::describe(&service.rule);
            return Err(format!("rule = {demanded}: it is {rule}"));
        }
    }
    Ok(())
}

fn findings(world: &World, expect: &Expect, service: &ServiceId) -> Result<(), String> {
    if expect.finding.is_none() && expect.no_finding.is_none() {
        return Ok(());
    }
    let leading = world.voters.iter().filter_map(|voter| voter.process.as_ref());
    let leading = leading.filter(|process| process.standing.leads);
    let leader = leading.max_by_key(|process| process.replica.term());
    let found: BTreeSet<&str> = leader
        .map(|process| process.replica.findings(service))
        .unwrap_or_default()
        .iter()
        .map(|finding| finding.check.as_str())
        .collect();
    let all: Vec<&str> = found.iter().copied().collect();
    match &expect.finding {
        Some(name) if !found.contains(name.as_str()) => {
            return Err(format!("finding = {name}: there are {}", all.join(", ")));
        }
        _ => {}
    }
    match &expect.no_finding {
        Some(name) if found.contains(name.as_str()) => Err(format!("no-finding = {name}: it is")),
        _ => Ok(()),
    }
}

fn rolled_back(cluster: &Cluster, service: &ServiceId) -> bool {
    let records = cluster.transitions.values().rev();
    let newest = records.into_iter().find(|record| record.service == *service);
    newest.is_some_and(|record| match record.outcome {
        Outcome::Aborted(_) => true,
        // The former primary may also be granted the next epoch.
        Outcome::Done => record.from == record.to,
        Outcome::Open | Outcome::Superseded(_) => false,
    })
}

/// One primary, nothing open, everybody in the rule, names right, writes acknowledged.
fn whole(world: &World, cluster: &Cluster, since: Since) -> Result<(), String> {
    for voter in &world.voters {
        let member = cluster.voters.contains_key(&voter.id);
        let acts = voter.process.as_ref().is_some_and(|it| it.replica.stopped().is_none());
        if member && !(voter.powered && !voter.paused && acts) {
            return Err(format!("{} does not run", voter.name));
        }
    }
    if !is_led(world) {
        return Err("no voter leads".into());
    }
    for service in cluster.services.values() {
        let Some(primary) = &service.primary else { return Err("no primary".into()) };
        if service.transition.is_some() {
            return Err("a transition is open".into());
        }
        let rule = &service.rule;
        let all: BTreeSet<&InstanceId> =
            service.spec.instances.keys().filter(|instance| *instance != primary).collect();
        let named: BTreeSet<&InstanceId> = rule.enforce.instances.iter().collect();
        let recorded: BTreeSet<&InstanceId> = rule.instances.iter().collect();
        if named != all || recorded != all || rule.enforce.required != service.spec.required {
            return Err(format!("the rule is {}", failover::quorum::describe(rule)));
        }
        if service.published.as_ref().map(|published| published.epoch) != Some(service.epoch) {
            return Err("the newest epoch is not published".into());
        }
    }
    if !agree(world) {
        return Err("the name servers do not agree".into());
    }
    let told = world.oracle.newest_write().map(|(began, _)| began).unwrap_or_default();
    if told < since.at {
        return Err("no commit since the last step".into());
    }
    Ok(())
}

fn place_of(world: &World, service: &Service, instance: &InstanceId) -> Option<u8> {
    service.site_of(instance).and_then(|site| world.place_of(site))
}

fn named(world: &World, parts: &Parts, places: Option<&Places>) -> Vec<u8> {
    places.map(|places| deeds::places(world, parts, places, None)).unwrap_or_default()
}

fn site(world: &World, place: u8) -> &str {
    world.sites().get(usize::from(place)).map_or("outside", |site| site.as_str())
}

fn name(world: &World, host: u8) -> &str {
    world.instances.get(usize::from(host)).map_or("?", InstanceId::as_str)
}
