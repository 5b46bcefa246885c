//! A seed that fails, made short: fewer and fewer of the things that were done to its world, as
//! long as the same invariant breaks; the rest written as a scenario.

use std::time::Duration;

use failover::Request as Asked;
use failover::drill::Kind;
use failover::topology::OnLastCopy;
use scenarios::script::expect::Expect;
use scenarios::script::place::{OneOrMore, Place, Places, Process, Processes};
use scenarios::script::setting::{LastCopy, Profile, Setting, Shape, Workload};
use scenarios::script::verb::{self, Verb};
use scenarios::script::{Scenario, Step, Tier};
use wire::config::duration::Text;

use crate::clock::At;
use crate::host::HostFault;
use crate::presets::{Preset, metro};
use crate::seed::{Options, recorded, replayed, setting};
use crate::world::{self, Deed};

/// What was left of a seed.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// What broke, before and after.
    pub violation: String,
    /// How many deeds there were, and how many are left.
    pub deeds: (usize, usize),
    /// The rest.
    pub scenario: Scenario,
    /// Deeds that the language has no word for: the scenario lacks them.
    pub unsaid: Vec<String>,
}

/// Why a seed cannot be made short.
#[derive(Debug, thiserror::Error)]
pub enum ShrinkError {
    /// Nothing is wrong with it.
    #[error("seed {0} fails nothing")]
    Well(u64),
    /// Done again, the same deeds had another effect: chance decided between two of them.
    #[error("seed {0} does not fail when its deeds are done again; run it with --transcript")]
    Fickle(u64),
}

/// Makes a seed short. `tell` hears after each round how many deeds are left.
///
/// # Errors
/// [`ShrinkError`]
pub fn shrink(
    seed: u64,
    options: &Options,
    mut tell: impl FnMut(usize),
) -> Result<Shrunk, ShrinkError> {
    let (violation, deeds, healed) = recorded(seed, options);
    let violation = violation.ok_or(ShrinkError::Well(seed))?;
    let same = |text: Option<String>| text.is_some_and(|text| kind(&text) == kind(&violation));
    let fails = |deeds: &[(At, Deed)]| same(replayed(seed, deeds, healed, options));
    if !fails(&deeds) {
        return Err(ShrinkError::Fickle(seed));
    }
    let all = deeds.len();
    let left = fewer(deeds, fails, &mut tell);
    let (scenario, unsaid) = scenario(seed, &left, &violation);
    Ok(Shrunk { violation, deeds: (all, left.len()), scenario, unsaid })
}

/// The invariant that broke.
fn kind(text: &str) -> &str {
    text.split([':', ' ']).next().unwrap_or_default()
}

/// Delta debugging: leaves out ever smaller parts, as long as it fails without them.
fn fewer(
    mut deeds: Vec<(At, Deed)>,
    fails: impl Fn(&[(At, Deed)]) -> bool,
    tell: &mut impl FnMut(usize),
) -> Vec<(At, Deed)> {
    let mut parts = 2;
    while !deeds.is_empty() {
        let size = deeds.len().div_ceil(parts);
        let mut shorter = None;
        for start in (0..deeds.len()).step_by(size.max(1)) {
            let mut rest = deeds.clone();
            rest.drain(start..(start + size).min(deeds.len()));
            if fails(&rest) {
                shorter = Some(rest);
                break;
            }
        }
        tell(shorter.as_ref().map_or(deeds.len(), Vec::len));
        match shorter {
            Some(rest) => {
                deeds = rest;
                parts = (parts - 1).max(2);
            }
            None if parts >= deeds.len() => break,
            None => parts = (parts * 2).min(deeds.len()),
        }
    }
    deeds
}

fn scenario(seed: u64, deeds: &[(At, Deed)], violation: &str) -> (Scenario, Vec<String>) {
    let (_, preset, options) = setting(seed, false);
    let topology = preset.topology();
    let sites: Vec<String> = topology.sites.keys().map(ToString::to_string).collect();
    let start = deeds.first().map_or(At(0), |(at, _)| *at);
    let mut unsaid = Vec::new();
    let mut steps = Vec::new();
    for (at, deed) in deeds {
        match said(&sites, &preset, deed) {
            Some(verb) => steps.push(Step {
                at: Duration::from_millis(u64::try_from(at.since(start).as_millis()).unwrap_or(0)),
                live: None,
                only: None,
                verb,
                line: 0,
            }),
            None => unsaid.push(format!("{deed:?}")),
        }
    }
    let last = steps.last().map_or(Duration::ZERO, |step: &Step| step.at);
    let healed = last + Duration::from_secs(20);
    for verb in
        [Verb::Heal(verb::Heal::default()), everything(Verb::Resume), everything(Verb::Start)]
    {
        steps.push(Step { at: healed, live: None, only: None, verb, line: 0 });
    }
    let outcome = Expect {
        within: Some(Text(Duration::from_mins(3))),
        whole: Some(true),
        ..Expect::default()
    };
    let made = Scenario {
        name: format!("seed-{seed}"),
        id: format!("seed-{seed}"),
        summary: format!("What is left of seed {seed}, which broke this: {violation}"),
        replays: None,
        tiers: vec![Tier::Sim],
        also: Vec::new(),
        setting: said_setting(seed, &preset, &options),
        steps,
        outcome,
        file: "seed.toml".into(),
    };
    (made, unsaid)
}

fn said_setting(seed: u64, preset: &Preset, options: &world::Options) -> Setting {
    let tight = preset.timing.heartbeat == metro().heartbeat;
    Setting {
        topology: match (preset.sites, preset.data_sites) {
            (5, _) => Shape::FiveVoters,
            (_, 2) => Shape::PairAndWitness,
            _ => Shape::ThreeSites,
        },
        required: preset.required,
        on_last_copy: match preset.on_last_copy {
            OnLastCopy::Block => LastCopy::Block,
            OnLastCopy::SingleCopy => LastCopy::SingleCopy,
        },
        timing: if tight { Profile::Metro } else { Profile::Default },
        failover_window: Some(Text(preset.timing.failover_window)),
        services: u32::try_from(preset.services).unwrap_or(1),
        seed,
        workload: Workload {
            writers: options.workload.writers,
            every: options.workload.every,
            readers: options.workload.readers,
            stubborn: options.workload.stubborn,
        },
        ..Setting::default()
    }
}

fn everything(verb: fn(verb::Target) -> Verb) -> Verb {
    let process = Processes::from_one(Process::Site);
    verb(verb::Target { process, site: Places::from_one(Place::All) })
}

/// A deed in the language; `None`: it has no word for it.
fn said(sites: &[String], preset: &Preset, deed: &Deed) -> Option<Verb> {
    let site = |place: u8| match sites.get(usize::from(place)) {
        Some(name) => Places::from_one(Place::Site(name.clone())),
        None => Places::from_one(Place::Clients),
    };
    let target = |one: &Process, place: &u8| verb::Target {
        process: Processes::from_one(*one),
        site: site(*place),
    };
    Some(match deed {
        Deed::Cut { planes, from, to } => Verb::CutOneWay(verb::Link {
            from: site(*from),
            to: site(*to),
            planes: OneOrMore(planes.clone()),
        }),
        Deed::Mend { planes, from, to } => Verb::Heal(verb::Heal {
            from: Some(site(*from)),
            to: Some(site(*to)),
            planes: OneOrMore(planes.clone()),
        }),
        Deed::MendAll => Verb::Heal(verb::Heal::default()),
        Deed::Worsen { planes, from, to, how } => Verb::Lose(verb::Lose {
            from: site(*from),
            to: site(*to),
            planes: OneOrMore(planes.clone()),
            percent: how.loss,
            duplicate: how.duplicate,
            reorder: how.reorder,
            corrupt: how.corrupt,
        }),
        Deed::Crash { process, place } => Verb::Crash(target(process, place)),
        Deed::Start { process, place } => Verb::Start(target(process, place)),
        Deed::Destroy { process, place } => Verb::Destroy(target(process, place)),
        Deed::Pause { process, place } => Verb::Pause(target(process, place)),
        Deed::Resume { process, place } => Verb::Resume(target(process, place)),
        Deed::FillDisk { process, place } => Verb::FillDisk(target(process, place)),
        Deed::FreeDisk { process, place } => Verb::FreeDisk(target(process, place)),
        Deed::SlowDisk { process, place, by } => {
            let verb::Target { process, site } = target(process, place);
            Verb::SlowDisk(verb::SlowDisk { process, site, by: *by })
        }
        Deed::Skew { place, wall, rate } => {
            let millis = Duration::from_millis(wall.unsigned_abs());
            let (forward, back) =
                if *wall >= 0 { (millis, Duration::ZERO) } else { (Duration::ZERO, millis) };
            Verb::Skew(verb::Skew { site: site(*place), forward, back, rate: rate.unwrap_or(0) })
        }
        Deed::Host { host, fault } => return in_machine(preset, *host, fault),
        Deed::LocalSession { host } => Verb::LocalSession(verb::For {
            site: of_machine(preset, *host)?,
            lasts: Duration::from_millis(500),
        }),
        Deed::Ask(request) => return asked(request),
    })
}

/// The site of a machine: instances are in the order of their names, service by service.
fn of_machine(preset: &Preset, host: u8) -> Option<Places> {
    let topology = preset.topology();
    let mut all = topology.services.values().flat_map(|spec| spec.instances.values());
    let declared = all.nth(usize::from(host))?;
    Some(Places::from_one(Place::Site(declared.site.to_string())))
}

fn in_machine(preset: &Preset, host: u8, fault: &HostFault) -> Option<Verb> {
    let site = of_machine(preset, host)?;
    Some(match fault {
        HostFault::CancelWaits => Verb::Cancel(verb::Cancel { site, by: verb::Canceller::Client }),
        HostFault::EmptySetting => Verb::EmptySetting(verb::At { site }),
        HostFault::StallCheckpointer(lasts) => {
            Verb::StallCheckpointer(verb::For { site, lasts: *lasts })
        }
        HostFault::LongQuery(lasts) => Verb::LongQuery(verb::For { site, lasts: *lasts }),
        HostFault::Impostor { name, stolen, .. } => {
            let name = of_machine(preset, name.0)?;
            let certificate = stolen.then(|| name.clone());
            Verb::Impostor(verb::Impostor { site, name, certificate })
        }
        HostFault::CrashAgent
        | HostFault::CrashGuard
        | HostFault::CrashPostgres
        | HostFault::StartAgent
        | HostFault::Pause(_)
        | HostFault::Resume(_)
        | HostFault::SlowDisk(_)
        | HostFault::FillDisk
        | HostFault::DiskFreed
        | HostFault::LocalSession { .. }
        | HostFault::SlowReplay(_)
        | HostFault::LoseFlushed(_)
        | HostFault::ClockJump(_)
        | HostFault::ClockRate(_)
        | HostFault::Wipe => return None,
    })
}

fn asked(request: &Asked) -> Option<Verb> {
    let request = match request {
        Asked::Switchover { .. } => verb::Request::Switchover,
        Asked::Failover { .. } => verb::Request::Failover,
        Asked::Hold { .. } => verb::Request::Hold,
        Asked::Resume { .. } => verb::Request::Resume,
        Asked::Forgo { .. } => verb::Request::Forgo,
        Asked::AcceptLoss { .. } => verb::Request::AcceptLoss,
        Asked::Drill { kind: Kind::Isolate, .. } => verb::Request::Isolate,
        Asked::Apply { .. }
        | Asked::Drill { .. }
        | Asked::AbortDrill { .. }
        | Asked::Acknowledge { .. }
        | Asked::AddVoter { .. }
        | Asked::RemoveVoter { .. }
        | Asked::Approve { .. }
        | Asked::Withdraw { .. } => return None,
    };
    let answer = verb::Answer::Any;
    Some(Verb::Ask(verb::Ask {
        request,
        to: None,
        required: None,
        answer,
        naming: None,
        within: None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_needed_is_left() {
        let deed = |place| Deed::Crash { process: Process::Voter, place };
        let deeds: Vec<(At, Deed)> = (0..40).map(|at| (At(u64::from(at)), deed(at))).collect();
        let needed = [3_u8, 17, 31];
        let fails = |left: &[(At, Deed)]| {
            needed.iter().all(|place| left.iter().any(|(_, it)| *it == deed(*place)))
        };
        let left = fewer(deeds, fails, &mut |_| {});
        let places: Vec<u64> = left.iter().map(|(at, _)| at.0).collect();
        assert_eq!(places, [3, 17, 31]);
    }
}
