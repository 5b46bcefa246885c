//! From a verb of the language to what is done to the world.

use std::time::Duration;

use failover::cluster::Cluster;
use failover::drill::Kind;
use failover::ids::{ServiceId, VoterId};
use failover::topology::ServiceSpec;
use failover::{Lsn, Request};
use scenarios::script::Verb;
use scenarios::script::place::{Place, Places, Planes, Process};
use scenarios::script::verb::{Ask, Harm, Heal, Impostor, Request as Wish, Target};

use crate::clock::At;
use crate::host::{HostFault, Peer};
use crate::network::Link;
use crate::world::{Deed, World};

/// How long a service runs elsewhere in a drill.
const DWELL: Duration = Duration::from_secs(20);
/// A local session commits this often.
const SESSION: Duration = Duration::from_millis(500);
/// A copy that is called stale lacks so many records that were reported as flushed.
const STALE: u64 = 20;

/// The parts that sites played when the scenario began, as places of the world.
#[derive(Clone, Debug)]
pub(crate) struct Parts {
    primary: u8,
    standby: u8,
    third: u8,
}

impl Parts {
    /// By the preference of the first service; the third may be a witness.
    pub(crate) fn of(world: &World) -> Option<Self> {
        let spec = world.topology.services.values().next()?;
        let place = |index: usize| {
            let instance = spec.preference.get(index)?;
            world.place_of(&spec.instances.get(instance)?.site)
        };
        let (primary, standby) = (place(0)?, place(1)?);
        let sites = 0..world.clients_place();
        let witness = sites.into_iter().find(|site| *site != primary && *site != standby);
        let third = place(2).or(witness)?;
        Some(Self { primary, standby, third })
    }
}

/// The places that are meant; `other` is the other end of a link, for `rest`.
pub(crate) fn places(
    world: &World,
    parts: &Parts,
    meant: &Places,
    other: Option<&Places>,
) -> Vec<u8> {
    let mut found = Vec::new();
    for place in meant {
        match place {
            Place::Primary => found.push(parts.primary),
            Place::Standby => found.push(parts.standby),
            Place::Third => found.push(parts.third),
            Place::Clients => found.push(world.clients_place()),
            Place::CurrentPrimary => found.extend(primaries(world)),
            Place::Leader => found.extend(leader(world)),
            Place::All => found.extend(0..world.clients_place()),
            Place::Rest => {
                let named = other.map(|other| places(world, parts, other, None));
                let named = named.unwrap_or_default();
                found.extend((0..world.clients_place()).filter(|place| !named.contains(place)));
            }
            Place::Site(name) => {
                let at = world.sites().iter().position(|site| site.as_str() == name);
                found.extend(at.and_then(|at| u8::try_from(at).ok()));
            }
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// The newest state that any voter has applied, running or frozen.
pub(crate) fn newest(world: &World) -> Option<&Cluster> {
    let running = world.voters.iter().filter_map(|voter| voter.process.as_ref());
    running.map(|process| process.replica.cluster()).max_by_key(|cluster| cluster.revision)
}

/// The places that hold the primaries of the newest epochs.
pub(crate) fn primaries(world: &World) -> Vec<u8> {
    let machines = world.oracle.services.iter().filter_map(|service| service.primary);
    machines.map(|machine| world.machine_place(machine).0).collect()
}

/// The place of the voter that leads, of the highest term if several say so.
pub(crate) fn leader(world: &World) -> Option<u8> {
    let leading = world.voters.iter().filter_map(|voter| {
        let process = voter.process.as_ref()?;
        let leads = process.standing.leads && voter.powered;
        leads.then(|| (process.replica.term(), voter.place))
    });
    leading.max().map(|(_, place)| place)
}

/// What a verb does now, in this order, each after its delay. `Err`: the simulated world cannot
/// do it. Expectations and requests are not deeds.
pub(crate) fn of(
    world: &World,
    parts: &Parts,
    verb: &Verb,
) -> Result<Vec<(Duration, Deed)>, String> {
    let now = |deeds: Vec<Deed>| Ok(deeds.into_iter().map(|deed| (Duration::ZERO, deed)).collect());
    let on = |it: &Target, deed: fn(Process, u8) -> Deed| now(each(world, parts, it, deed));
    match verb {
        Verb::Cut(it) => now(pairs(world, parts, &it.from, &it.to, true)
            .map(|(from, to)| Deed::Cut { planes: it.planes.0.clone(), from, to })
            .collect()),
        Verb::CutOneWay(it) => now(pairs(world, parts, &it.from, &it.to, false)
            .map(|(from, to)| Deed::Cut { planes: it.planes.0.clone(), from, to })
            .collect()),
        Verb::Heal(it) => now(heal(world, parts, it)),
        Verb::Lose(it) => {
            let how = Link {
                loss: it.percent,
                duplicate: it.duplicate,
                reorder: it.reorder,
                corrupt: it.corrupt,
                ..Link::default()
            };
            now(worsen(world, parts, (&it.from, &it.to, &it.planes), how))
        }
        Verb::Delay(it) => {
            let micros = |time: Duration| u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
            let how = Link { delay: micros(it.by), jitter: micros(it.jitter), ..Link::default() };
            now(worsen(world, parts, (&it.from, &it.to, &it.planes), how))
        }
        Verb::Crash(it) => on(it, |process, place| Deed::Crash { process, place }),
        Verb::Start(it) => on(it, |process, place| Deed::Start { process, place }),
        Verb::Restart(it) => {
            let mut deeds = each(world, parts, it, |process, place| Deed::Crash { process, place });
            deeds.extend(each(world, parts, it, |process, place| Deed::Start { process, place }));
            now(deeds)
        }
        Verb::Destroy(it) => on(it, |process, place| Deed::Destroy { process, place }),
        Verb::Pause(it) => on(it, |process, place| Deed::Pause { process, place }),
        Verb::Resume(it) => on(it, |process, place| Deed::Resume { process, place }),
        Verb::FillDisk(it) => on(it, |process, place| Deed::FillDisk { process, place }),
        Verb::FreeDisk(it) => on(it, |process, place| Deed::FreeDisk { process, place }),
        Verb::SlowDisk(it) => {
            let target = Target { process: it.process.clone(), site: it.site.clone() };
            now(each(world, parts, &target, |process, place| Deed::SlowDisk {
                process,
                place,
                by: it.by,
            }))
        }
        Verb::Skew(it) => {
            let millis = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
            let wall = millis(it.forward) - millis(it.back);
            let rate = (it.rate != 0).then_some(it.rate);
            let all = places(world, parts, &it.site, None).into_iter();
            now(all.map(|place| Deed::Skew { place, wall, rate }).collect())
        }
        Verb::Damage(_)
        | Verb::Cancel(_)
        | Verb::EmptySetting(_)
        | Verb::Impostor(_)
        | Verb::StallCheckpointer(_)
        | Verb::LocalSession(_)
        | Verb::LongQuery(_) => in_machines(world, parts, verb),
        Verb::Storm(_) => Err("the simulated name servers are never too busy to answer".into()),
        Verb::Ask(_) | Verb::Expect(_) | Verb::Always(_) => Ok(Vec::new()),
    }
}

fn in_machines(world: &World, parts: &Parts, verb: &Verb) -> Result<Vec<(Duration, Deed)>, String> {
    let hosts = |site: &Places| -> Vec<u8> {
        let places = places(world, parts, site, None);
        places.into_iter().flat_map(|place| world.hosts_at(place)).collect()
    };
    let to_all = |site: &Places, fault: HostFault| {
        let deeds = hosts(site).into_iter().map(|host| Deed::Host { host, fault });
        Ok(deeds.map(|deed| (Duration::ZERO, deed)).collect())
    };
    match verb {
        Verb::Cancel(it) => to_all(&it.site, HostFault::CancelWaits),
        Verb::EmptySetting(it) => to_all(&it.site, HostFault::EmptySetting),
        Verb::StallCheckpointer(it) => to_all(&it.site, HostFault::StallCheckpointer(it.lasts)),
        Verb::LongQuery(it) => {
            // The product's settings end a query that holds replay up for longer than 500 ms; here
            // the next one is always about to begin.
            let held = Duration::from_millis(500);
            let times = u32::try_from(it.lasts.as_millis() / 1_000).unwrap_or(0);
            Ok(again(&hosts(&it.site), held * 2, times, &|host| {
                let fault = HostFault::LongQuery(held);
                Deed::Host { host, fault }
            }))
        }
        Verb::LocalSession(it) => {
            let times = u32::try_from(it.lasts.as_millis() / SESSION.as_millis()).unwrap_or(0);
            Ok(again(&hosts(&it.site), SESSION, times, &|host| Deed::LocalSession { host }))
        }
        Verb::Damage(it) => match it.how {
            Harm::Stale => to_all(&it.site, HostFault::LoseFlushed(STALE)),
            Harm::FlippedLog | Harm::Foreign | Harm::Pages => {
                Err("the simulated disks cannot be damaged in this way".into())
            }
        },
        Verb::Impostor(it) => Ok(impostor(world, parts, it)),
        Verb::Cut(_)
        | Verb::CutOneWay(_)
        | Verb::Heal(_)
        | Verb::Lose(_)
        | Verb::Delay(_)
        | Verb::Crash(_)
        | Verb::Start(_)
        | Verb::Restart(_)
        | Verb::Destroy(_)
        | Verb::Pause(_)
        | Verb::Resume(_)
        | Verb::Skew(_)
        | Verb::SlowDisk(_)
        | Verb::FillDisk(_)
        | Verb::FreeDisk(_)
        | Verb::Storm(_)
        | Verb::Ask(_)
        | Verb::Expect(_)
        | Verb::Always(_) => Ok(Vec::new()),
    }
}

fn heal(world: &World, parts: &Parts, it: &Heal) -> Vec<Deed> {
    match (&it.from, &it.to) {
        (Some(from), Some(to)) => pairs(world, parts, from, to, true)
            .map(|(from, to)| Deed::Mend { planes: it.planes.0.clone(), from, to })
            .collect(),
        _ => vec![Deed::MendAll],
    }
}

fn worsen(
    world: &World,
    parts: &Parts,
    (from, to, on): (&Places, &Places, &Planes),
    how: Link,
) -> Vec<Deed> {
    pairs(world, parts, from, to, true)
        .map(|(from, to)| Deed::Worsen { planes: on.0.clone(), from, to, how })
        .collect()
}

fn impostor(world: &World, parts: &Parts, it: &Impostor) -> Vec<(Duration, Deed)> {
    let hosts = |site: &Places| -> Vec<u8> {
        let places = places(world, parts, site, None);
        places.into_iter().flat_map(|place| world.hosts_at(place)).collect()
    };
    let certificate = it.certificate.as_ref().unwrap_or(&it.site);
    let stolen = certificate == &it.name;
    let mut deeds = Vec::new();
    let primaries = world.oracle.services.iter().filter_map(|service| service.primary);
    for (from, name) in primaries.zip(hosts(&it.name)) {
        let from = Peer(u8::try_from(from).unwrap_or(0));
        let fault = HostFault::Impostor { from, name: Peer(name), stolen };
        let running = hosts(&it.site).into_iter();
        deeds.extend(running.map(|host| (Duration::ZERO, Deed::Host { host, fault })));
    }
    deeds
}

/// The same in each of these machines, so many times.
fn again(
    hosts: &[u8],
    every: Duration,
    times: u32,
    deed: &dyn Fn(u8) -> Deed,
) -> Vec<(Duration, Deed)> {
    let when = (0..times).map(|time| every * time);
    when.flat_map(|after| hosts.iter().map(move |host| (after, deed(*host)))).collect()
}

fn each(
    world: &World,
    parts: &Parts,
    target: &Target,
    deed: impl Fn(Process, u8) -> Deed,
) -> Vec<Deed> {
    let places = places(world, parts, &target.site, None);
    let all = target.process.iter().flat_map(|one| places.iter().map(move |place| (*one, *place)));
    all.map(|(one, place)| deed(one, place)).collect()
}

fn pairs(
    world: &World,
    parts: &Parts,
    from: &Places,
    to: &Places,
    both_ways: bool,
) -> impl Iterator<Item = (u8, u8)> {
    let ones = places(world, parts, from, Some(to));
    let others = places(world, parts, to, Some(from));
    let mut all = Vec::new();
    for one in &ones {
        for other in others.iter().filter(|other| *other != one) {
            all.push((*one, *other));
            if both_ways {
                all.push((*other, *one));
            }
        }
    }
    all.sort_unstable();
    all.dedup();
    all.into_iter()
}

/// The request of an operator about one service, made of what the newest state says; `None`: it
/// cannot be worded now.
pub(crate) fn request(
    world: &mut World,
    parts: &Parts,
    ask: &Ask,
    (service, spec): (&ServiceId, &ServiceSpec),
) -> Option<Request> {
    let service = service.clone();
    let reason = String::from("the scenario asks for it");
    let to = ask.to.as_ref().map(|to| places(world, parts, to, None)).unwrap_or_default();
    if ask.request == Wish::AddVoter {
        let (id, voter) = newcomer(world, *to.first()?)?;
        return Some(Request::AddVoter { id, voter, reason });
    }
    let cluster = newest(world)?;
    Some(match ask.request {
        Wish::Switchover => {
            let instance = spec.preference.iter().find(|instance| {
                let declared = spec.instances.get(*instance);
                let place = declared.and_then(|declared| world.place_of(&declared.site));
                place.is_some_and(|place| to.contains(&place))
            });
            Request::Switchover { service, to: instance.cloned(), reason }
        }
        Wish::Failover => Request::Failover { service, reason },
        Wish::Hold => Request::Hold { service, reason },
        Wish::Resume => Request::Resume { service, reason },
        Wish::Forgo => {
            let doubts = &cluster.services.get(&service)?.doubts;
            let from = doubts.iter().map(|doubt| doubt.from).min().unwrap_or(Lsn(0));
            let upto = doubts.iter().map(|doubt| doubt.position.lsn).max()?;
            Request::Forgo { service, from, to: upto, reason }
        }
        Wish::AcceptLoss => {
            let loss = world.loss(&service)?;
            let (kept, bytes) = (loss.kept, loss.bytes);
            Request::AcceptLoss { service, kept, bytes, reason }
        }
        Wish::Isolate => drill(Kind::Isolate, service, reason),
        Wish::RestorePath => drill(Kind::RestorePath, service, reason),
        Wish::Apply => {
            // Whoever leads knows of none yet.
            let none = cluster.topology_version == 0;
            let known = if none { &*world.topology } else { &cluster.topology };
            let mut topology = Box::new(known.clone());
            for spec in topology.services.values_mut() {
                spec.required = ask.required.unwrap_or(spec.required);
            }
            Request::Apply { expected: cluster.topology_version, topology, reason }
        }
        Wish::RemoveVoter => Request::RemoveVoter { id: world.voter_at(*to.first()?)?, reason },
        Wish::AddVoter => return None,
    })
}

/// The voter that stands there and is no member yet; a new one with an empty disk, if it is one.
fn newcomer(world: &mut World, place: u8) -> Option<(VoterId, failover::cluster::Voter)> {
    let id = world.voter_at(place)?;
    let standing = world.voters.iter().find(|voter| voter.id == id)?;
    if standing.joins {
        return Some((id, standing.described.clone()));
    }
    world.replace_voter(place)
}

/// How long after the start a step is.
pub(crate) fn when(start: At, after: Duration) -> At {
    start.plus(after)
}

fn drill(kind: Kind, service: ServiceId, reason: String) -> Request {
    let (dwell, despite_hours) = (DWELL, true);
    Request::Drill { kind, service, to: None, dwell, at_most: None, despite_hours, reason }
}
