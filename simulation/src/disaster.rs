//! Disasters by chance: every kind of fault that the world knows, with its end.

use std::time::Duration;

use failover::Request;
use failover::ids::ServiceId;
use scenarios::script::place::Process;

use crate::clock::At;
use crate::dice::Dice;
use crate::host::{HostFault, Peer};
use crate::network::{Link, Plane};
use crate::world::{Deed, World};

/// Chooses what breaks next.
pub(crate) struct Disasters {
    dice: Dice,
    /// A disk is taken away at most so many times more.
    losses: u32,
    /// Whether clocks may leave what the timing law allows.
    lawless: bool,
}

/// The kinds, each as often as the others.
const KINDS: [fn(&mut Disasters, &mut World); 26] = [
    Disasters::isolate,
    Disasters::isolate,
    Disasters::cut_one_way,
    Disasters::cut_plane,
    Disasters::cut_plane,
    Disasters::worsen,
    Disasters::worsen_all,
    Disasters::kill,
    Disasters::kill,
    Disasters::kill,
    Disasters::power_cut,
    Disasters::power_cut,
    Disasters::destroy,
    Disasters::pause,
    Disasters::pause,
    Disasters::skew,
    Disasters::slow_disk,
    Disasters::full_disk,
    Disasters::cancel,
    Disasters::overrule,
    Disasters::impostor,
    Disasters::stall,
    Disasters::local_sessions,
    Disasters::replay,
    Disasters::operate,
    Disasters::operate,
];

const PARTS: [Process; 6] = [
    Process::Voter,
    Process::Agent,
    Process::Guard,
    Process::Postgres,
    Process::Dns,
    Process::Site,
];

impl Disasters {
    pub(crate) fn new(dice: Dice, lawless: bool) -> Self {
        Self { dice, losses: 1, lawless }
    }

    /// Something breaks.
    pub(crate) fn strike(&mut self, world: &mut World) {
        let kind = self.dice.pick(&KINDS).copied();
        if let Some(kind) = kind {
            kind(self, world);
        }
    }

    /// How long until the next.
    pub(crate) fn pause_between(&mut self) -> Duration {
        let most = match self.dice.roll(4) {
            0 => 1_000,
            1 => 5_000,
            2 => 20_000,
            _ => 60_000,
        };
        Duration::from_millis(self.dice.roll(most))
    }

    /// How long something lasts.
    fn lasts(&mut self) -> u64 {
        let most = match self.dice.roll(5) {
            0 => 500,
            1 => 3_000,
            2 | 3 => 12_000,
            _ => 70_000,
        };
        (100 + self.dice.roll(most)) * 1_000
    }

    fn end(&mut self, world: &World) -> At {
        let lasts = self.lasts();
        world.now().after(lasts)
    }

    fn site(&mut self, world: &World) -> u8 {
        u8::try_from(self.dice.roll(world.sites().len() as u64)).unwrap_or(0)
    }

    fn place(&mut self, world: &World) -> u8 {
        u8::try_from(self.dice.roll(world.sites().len() as u64 + 1)).unwrap_or(0)
    }

    fn host(&mut self, world: &World) -> u8 {
        u8::try_from(self.dice.roll(world.machine_count() as u64)).unwrap_or(0)
    }

    /// More often than not the primary of some service.
    fn likely_primary(&mut self, world: &World) -> u8 {
        let service = usize::try_from(self.dice.roll(world.service_count() as u64)).unwrap_or(0);
        let primary = world.oracle.service(service).and_then(|state| state.primary);
        match primary {
            Some(primary) if self.dice.roll(4) > 0 => u8::try_from(primary).unwrap_or(0),
            _ => self.host(world),
        }
    }

    fn planes(&mut self) -> Vec<Plane> {
        if self.dice.roll(2) == 0 {
            return Plane::ALL.to_vec();
        }
        self.dice.pick(&Plane::ALL).copied().into_iter().collect()
    }

    fn cut(world: &mut World, planes: &[Plane], (from, to): (u8, u8), until: At) {
        world.perform(&Deed::Cut { planes: planes.to_vec(), from, to });
        world.deed_at(until, Deed::Mend { planes: planes.to_vec(), from, to });
    }

    fn isolate(&mut self, world: &mut World) {
        let site = if self.dice.roll(2) == 0 {
            let host = self.likely_primary(world);
            world.machine_place(usize::from(host)).0
        } else {
            self.place(world)
        };
        let (until, planes) = (self.end(world), self.planes());
        for other in 0..=u8::try_from(world.sites().len()).unwrap_or(0) {
            // Clients may see it all the same.
            if other != site && !(other == world.clients_place() && self.dice.roll(2) == 0) {
                Self::cut(world, &planes, (site, other), until);
                Self::cut(world, &planes, (other, site), until);
            }
        }
    }

    fn cut_one_way(&mut self, world: &mut World) {
        let (from, to) = (self.place(world), self.place(world));
        let (until, planes) = (self.end(world), self.planes());
        Self::cut(world, &planes, (from, to), until);
    }

    fn cut_plane(&mut self, world: &mut World) {
        let (one, other) = (self.place(world), self.place(world));
        let (until, planes) = (self.end(world), self.planes());
        Self::cut(world, &planes, (one, other), until);
        Self::cut(world, &planes, (other, one), until);
    }

    fn bad_link(&mut self) -> Link {
        let mut link = Link::default();
        let percent = |dice: &mut Dice, most: u64| u8::try_from(dice.roll(most)).unwrap_or(0);
        match self.dice.roll(6) {
            0 => link.loss = percent(&mut self.dice, 60),
            1 => link.duplicate = percent(&mut self.dice, 60),
            2 => link.reorder = percent(&mut self.dice, 60),
            3 => link.corrupt = percent(&mut self.dice, 30),
            4 => {
                link.delay = u32::try_from(self.dice.roll(400_000)).unwrap_or(0);
                link.jitter = u32::try_from(self.dice.roll(300_000)).unwrap_or(0);
            }
            _ => {
                link.loss = percent(&mut self.dice, 20);
                link.duplicate = percent(&mut self.dice, 20);
                link.reorder = percent(&mut self.dice, 20);
            }
        }
        link
    }

    fn make_bad(&mut self, world: &mut World, from: u8, to: u8, how: Link, until: At) {
        let planes = self.planes();
        world.perform(&Deed::Worsen { planes: planes.clone(), from, to, how });
        world.deed_at(until, Deed::Mend { planes, from, to });
    }

    fn worsen(&mut self, world: &mut World) {
        let (from, to) = (self.place(world), self.place(world));
        let (how, until) = (self.bad_link(), self.end(world));
        self.make_bad(world, from, to, how, until);
        self.make_bad(world, to, from, how, until);
    }

    fn worsen_all(&mut self, world: &mut World) {
        let (how, until) = (self.bad_link(), self.end(world));
        let places = world.clients_place();
        for from in 0..=places {
            for to in 0..=places {
                self.make_bad(world, from, to, how, until);
            }
        }
    }

    fn process(&mut self) -> Process {
        self.dice.pick(&PARTS).copied().unwrap_or(Process::Voter)
    }

    fn kill(&mut self, world: &mut World) {
        let drawn = self.process();
        let process = if drawn == Process::Site { Process::Postgres } else { drawn };
        let place = if self.dice.roll(2) == 0 {
            let host = self.likely_primary(world);
            world.machine_place(usize::from(host)).0
        } else {
            self.site(world)
        };
        world.perform(&Deed::Crash { process, place });
        world.deed_at(self.end(world), Deed::Start { process, place });
    }

    fn power_cut(&mut self, world: &mut World) {
        let host = self.likely_primary(world);
        let place = match self.dice.roll(3) {
            0 => self.site(world),
            _ => world.machine_place(usize::from(host)).0,
        };
        world.perform(&Deed::Crash { process: Process::Site, place });
        world.deed_at(self.end(world), Deed::Start { process: Process::Site, place });
    }

    /// Only from a cluster that is whole, and only once: what is on no disk any more nobody keeps.
    fn destroy(&mut self, world: &mut World) {
        if self.losses == 0 || !world.is_whole() || !world.all_caught_up() {
            return self.power_cut(world);
        }
        self.losses -= 1;
        let process = match self.dice.roll(3) {
            0 => Process::Voter,
            1 => Process::Postgres,
            _ => Process::Site,
        };
        let place = self.site(world);
        world.perform(&Deed::Destroy { process, place });
        world.deed_at(self.end(world), Deed::Start { process, place });
        if process == Process::Postgres {
            world.deed_at(
                world.now().after(200_000),
                Deed::Start { process: Process::Agent, place },
            );
        }
    }

    fn pause(&mut self, world: &mut World) {
        let process = self.process();
        let host = self.likely_primary(world);
        let place = match self.dice.roll(2) {
            0 => self.site(world),
            _ => world.machine_place(usize::from(host)).0,
        };
        world.perform(&Deed::Pause { process, place });
        world.deed_at(self.end(world), Deed::Resume { process, place });
    }

    fn skew(&mut self, world: &mut World) {
        let place = self.site(world);
        let hour = 3_600_000;
        let wall = match self.dice.roll(4) {
            0 => hour,
            1 => -hour,
            2 => -26 * 365 * 24 * hour,
            _ => 10 * 365 * 24 * hour,
        };
        let bent = self.dice.roll(2) == 0;
        let rate = match self.dice.roll(3) {
            0 if self.lawless => -600,
            1 => 45,
            _ => -45,
        };
        world.perform(&Deed::Skew { place, wall, rate: None });
        if bent {
            world.perform(&Deed::Skew { place, wall: 0, rate: Some(rate) });
            world.deed_at(self.end(world), Deed::Skew { place, wall: 0, rate: Some(0) });
        }
    }

    fn disk_of(&mut self) -> Process {
        match self.dice.roll(3) {
            0 => Process::Voter,
            1 => Process::Postgres,
            _ => Process::Site,
        }
    }

    fn slow_disk(&mut self, world: &mut World) {
        let (process, place) = (self.disk_of(), self.site(world));
        let by = Duration::from_millis(20 + self.dice.roll(3_000));
        world.perform(&Deed::SlowDisk { process, place, by });
        let again = Deed::SlowDisk { process, place, by: Duration::ZERO };
        world.deed_at(self.end(world), again);
    }

    fn full_disk(&mut self, world: &mut World) {
        let (process, place) = (self.disk_of(), self.site(world));
        world.perform(&Deed::FillDisk { process, place });
        world.deed_at(self.end(world), Deed::FreeDisk { process, place });
    }

    fn cancel(&mut self, world: &mut World) {
        let host = self.likely_primary(world);
        // A wait worth cancelling: its standbys do not answer.
        let place = world.machine_place(usize::from(host)).0;
        let until = self.end(world);
        for other in 0..u8::try_from(world.sites().len()).unwrap_or(0) {
            if other != place && self.dice.roll(3) > 0 {
                Self::cut(world, &[Plane::Wal], (other, place), until);
            }
        }
        let at = world.now().after(self.dice.roll(2_500_000));
        world.deed_at(at, Deed::Host { host, fault: HostFault::CancelWaits });
    }

    fn overrule(&mut self, world: &mut World) {
        let host = self.likely_primary(world);
        world.perform(&Deed::Host { host, fault: HostFault::EmptySetting });
    }

    fn impostor(&mut self, world: &mut World) {
        let from = Peer(self.likely_primary(world));
        let (host, other) = (self.host(world), self.host(world));
        // Under its own name it would be the instance itself.
        let count = u8::try_from(world.machine_count()).unwrap_or(1);
        let name = Peer(if other == host { (other + 1) % count } else { other });
        let fault = HostFault::Impostor { from, name, stolen: false };
        world.perform(&Deed::Host { host, fault });
    }

    fn stall(&mut self, world: &mut World) {
        let host = self.likely_primary(world);
        let lasts = Duration::from_micros(self.lasts());
        world.perform(&Deed::Host { host, fault: HostFault::StallCheckpointer(lasts) });
    }

    fn local_sessions(&mut self, world: &mut World) {
        let host = self.likely_primary(world);
        let mut at = world.now();
        for _ in 0..self.dice.between(1, 12) {
            at = at.after(100_000 + self.dice.roll(800_000));
            world.deed_at(at, Deed::LocalSession { host });
        }
    }

    fn replay(&mut self, world: &mut World) {
        let host = self.host(world);
        let lasts = Duration::from_micros(self.lasts().min(15_000_000));
        let fault = match self.dice.roll(2) {
            0 => HostFault::LongQuery(lasts),
            _ => HostFault::SlowReplay(lasts),
        };
        world.perform(&Deed::Host { host, fault });
    }

    fn operate(&mut self, world: &mut World) {
        let index = usize::try_from(self.dice.roll(world.service_count() as u64)).unwrap_or(0);
        let Some(service) = world.service_name(index) else { return };
        let reason = || "because".to_owned();
        let request = match self.dice.roll(8) {
            0..=3 => {
                let to = match self.dice.roll(3) {
                    0 => None,
                    _ => world.instance_of(index, self.dice.draw()),
                };
                Request::Switchover { service, to, reason: reason() }
            }
            4 => Request::Failover { service, reason: reason() },
            5 => {
                let resume = Request::Resume { service: service.clone(), reason: reason() };
                world.deed_at(self.end(world), Deed::Ask(Box::new(resume)));
                Request::Hold { service, reason: reason() }
            }
            _ => Request::Resume { service, reason: reason() },
        };
        world.perform(&Deed::Ask(Box::new(request)));
    }
}

/// What heals everything: every link, every process, every disk.
pub(crate) fn heal(world: &mut World) {
    world.forget_deeds();
    world.perform(&Deed::MendAll);
    let talkative = std::mem::take(&mut world.options.talkative);
    for place in 0..u8::try_from(world.sites().len()).unwrap_or(0) {
        let all = Process::Site;
        for process in PARTS {
            world.perform(&Deed::Resume { process, place });
        }
        for process in [Process::Voter, Process::Postgres, all] {
            world.perform(&Deed::FreeDisk { process, place });
            world.perform(&Deed::SlowDisk { process, place, by: Duration::ZERO });
        }
        world.perform(&Deed::Skew { place, wall: 0, rate: Some(0) });
        for process in [all, Process::Voter, Process::Agent, Process::Dns] {
            world.perform(&Deed::Start { process, place });
        }
    }
    world.options.talkative = talkative;
}

/// Every service's automation goes on, and its last failover is acknowledged.
pub(crate) fn resume_all(world: &mut World) {
    let services: Vec<ServiceId> =
        (0..world.service_count()).filter_map(|index| world.service_name(index)).collect();
    for service in services {
        let reason = "all is healed".to_owned();
        world.ask(Request::Resume { service, reason }, Duration::from_secs(30));
    }
}
