//! What can be done to the world: every fault, its end, and what operators ask for.

use std::time::Duration;

use failover::Request;
use failover::ids::VoterId;
use scenarios::script::place::Process;

use super::{Event, World};
use crate::clock::{At, TRUE_RATE};
use crate::host::{HostFault, Part};
use crate::network::{Link, Plane};
use crate::voter::Voter;

/// Something done to the world.
#[derive(Clone, Debug, PartialEq)]
pub enum Deed {
    /// One direction of a link is cut, on some planes.
    Cut {
        /// Which kinds of traffic.
        planes: Vec<Plane>,
        /// From where.
        from: u8,
        /// To where.
        to: u8,
    },
    /// One direction of a link is whole again.
    Mend {
        /// Which kinds of traffic.
        planes: Vec<Plane>,
        /// From where.
        from: u8,
        /// To where.
        to: u8,
    },
    /// One direction of a link is bad: what is not zero in `how` is set.
    Worsen {
        /// Which kinds of traffic.
        planes: Vec<Plane>,
        /// From where.
        from: u8,
        /// To where.
        to: u8,
        /// How.
        how: Link,
    },
    /// All links are whole.
    MendAll,
    /// Killed at once; a site loses its power.
    Crash {
        /// What.
        process: Process,
        /// Where.
        place: u8,
    },
    /// Started, where it does not run.
    Start {
        /// What.
        process: Process,
        /// Where.
        place: u8,
    },
    /// Killed, and its disk is gone.
    Destroy {
        /// What.
        process: Process,
        /// Where.
        place: u8,
    },
    /// Stopped as by SIGSTOP.
    Pause {
        /// What.
        process: Process,
        /// Where.
        place: u8,
    },
    /// Goes on.
    Resume {
        /// What.
        process: Process,
        /// Where.
        place: u8,
    },
    /// The clocks of all machines of a place.
    Skew {
        /// Where.
        place: u8,
        /// The wall clock jumps by so many milliseconds.
        wall: i64,
        /// The monotonic clock runs so many parts per thousand too fast from now on.
        rate: Option<i32>,
    },
    /// Every flush takes so much longer.
    SlowDisk {
        /// Whose.
        process: Process,
        /// Where.
        place: u8,
        /// How much; zero: as usual.
        by: Duration,
    },
    /// Nothing can be written any more.
    FillDisk {
        /// By whom.
        process: Process,
        /// Where.
        place: u8,
    },
    /// There is room again.
    FreeDisk {
        /// For whom.
        process: Process,
        /// Where.
        place: u8,
    },
    /// Something breaks in one machine with an instance.
    Host {
        /// Which.
        host: u8,
        /// What.
        fault: HostFault,
    },
    /// A session with `synchronous_commit = local` writes one row (F-16).
    LocalSession {
        /// On which machine.
        host: u8,
    },
    /// An operator asks.
    Ask(Box<Request>),
}

impl World {
    /// Does it when its time has come.
    pub fn deed_at(&mut self, at: At, deed: Deed) {
        let index = u32::try_from(self.deeds.len()).unwrap_or(u32::MAX);
        self.deeds.push(Some(deed));
        self.queue.push(at.max(self.now), Event::Deed { index });
    }

    pub(crate) fn deed_due(&mut self, index: u32) {
        let deed = self.deeds.get_mut(index as usize).and_then(Option::take);
        if let Some(deed) = deed {
            self.perform(&deed);
        }
    }

    /// Does it now.
    pub fn perform(&mut self, deed: &Deed) {
        self.coverage.deed(deed);
        if let Some(record) = &mut self.record
            && !matches!(deed, Deed::Ask(_))
        {
            record.push((self.now, deed.clone()));
        }
        if !matches!(deed, Deed::LocalSession { .. }) {
            self.say(|| format!("{deed:?}"));
        }
        self.blind(deed);
        match deed {
            Deed::Cut { planes, from, to } => {
                self.relink(planes, *from, *to, |link| link.cut = true);
                self.ping_all();
            }
            Deed::Mend { planes, from, to } => {
                self.relink(planes, *from, *to, |link| *link = Link::default());
                self.release_held();
            }
            Deed::Worsen { planes, from, to, how } => {
                self.relink(planes, *from, *to, |link| worsen(link, *how));
            }
            Deed::MendAll => self.mend_all(),
            Deed::Crash { process, place } => self.crash(*process, *place),
            Deed::Start { process, place } => self.start(*process, *place),
            Deed::Destroy { process, place } => self.destroy(*process, *place),
            Deed::Pause { process, place } => self.pause(*process, *place),
            Deed::Resume { process, place } => self.resume(*process, *place),
            Deed::Skew { place, wall, rate } => self.skew(*place, *wall, *rate),
            Deed::SlowDisk { process, place, by } => self.slow_disk(*process, *place, *by),
            Deed::FillDisk { process, place } => self.fill_disk(*process, *place, true),
            Deed::FreeDisk { process, place } => self.fill_disk(*process, *place, false),
            Deed::Host { host, fault } => {
                self.oracle.faulted(*host, fault, &self.machines, self.now);
                self.fault(*host, *fault);
            }
            Deed::LocalSession { host } => {
                let commit = self.next_commit;
                self.next_commit += 1;
                self.oracle.local(commit);
                self.fault(*host, HostFault::LocalSession { commit });
            }
            Deed::Ask(request) => {
                self.ask((**request).clone(), Duration::from_secs(10));
            }
        }
        let calm = self.is_calm();
        self.oracle.disturbed(!calm || disturbs(deed), calm, self.now);
    }

    fn relink(&mut self, planes: &[Plane], from: u8, to: u8, change: impl Fn(&mut Link)) {
        for plane in planes {
            self.network.change(self.now, *plane, (from, to), &change);
        }
    }

    fn mend_all(&mut self) {
        let places = u8::try_from(self.network.places()).unwrap_or(0);
        for from in 0..places {
            for to in 0..places {
                self.relink(&Plane::ALL, from, to, |link| *link = Link::default());
            }
        }
        self.release_held();
    }

    /// The machines of a place, as indices.
    pub(crate) fn hosts_at(&self, place: u8) -> Vec<u8> {
        let all = (0_u8..).zip(&self.machines);
        all.filter(|(_, machine)| machine.place == place).map(|(host, _)| host).collect()
    }

    fn servers_at(&self, place: u8) -> Vec<usize> {
        let all = self.servers.iter().enumerate();
        all.filter(|(_, server)| server.place == place).map(|(index, _)| index).collect()
    }

    /// The voter of a place.
    pub(crate) fn voters_at(&self, place: u8) -> Vec<usize> {
        self.current.get(usize::from(place)).map(|index| usize::from(*index)).into_iter().collect()
    }

    /// A new voter, with an empty disk and a number never used before, takes the machine of the
    /// one that stood there. It joins once an operator has removed that one and added this one.
    pub fn replace_voter(&mut self, place: u8) -> Option<(VoterId, failover::cluster::Voter)> {
        let index = *self.current.get(usize::from(place))?;
        self.stop_voter(index, false);
        let old = &self.voters[usize::from(index)];
        let id = VoterId(self.voters.iter().map(|voter| voter.id.0).max().unwrap_or(0) + 1);
        let mut described = old.described.clone();
        described.name = format!("voter-{}-{id}", described.site);
        described.incarnation = None;
        let mut voter = Voter::new(id, described.clone(), place, old.clock);
        voter.joins = true;
        voter.wipe(&[]);
        let new = self.voters.len();
        self.voters.push(voter);
        self.current[usize::from(place)] = u8::try_from(new).unwrap_or(u8::MAX);
        self.start_voter(new);
        Some((id, described))
    }

    /// The number of the voter that stands at a place.
    #[must_use]
    pub fn voter_at(&self, place: u8) -> Option<VoterId> {
        let index = *self.current.get(usize::from(place))?;
        Some(self.voters[usize::from(index)].id)
    }

    /// Whether the voter at a place refuses to act for good.
    #[must_use]
    pub fn is_outcast(&self, place: u8) -> bool {
        let index = self.current.get(usize::from(place)).copied().unwrap_or(0);
        let process = self.voters[usize::from(index)].process.as_ref();
        process.is_some_and(|process| process.standing.stopped && process.retry.is_none())
    }

    fn crash(&mut self, process: Process, place: u8) {
        match process {
            Process::Voter => {
                for voter in self.voters_at(place) {
                    self.stop_voter(u8::try_from(voter).unwrap_or(0), false);
                }
            }
            Process::Agent => self.fault_all(place, &HostFault::CrashAgent),
            Process::Guard => self.fault_all(place, &HostFault::CrashGuard),
            Process::Postgres => self.fault_all(place, &HostFault::CrashPostgres),
            Process::Dns => {
                for server in self.servers_at(place) {
                    self.stop_name_server(server);
                }
            }
            Process::Site => {
                for voter in self.voters_at(place) {
                    self.stop_voter(u8::try_from(voter).unwrap_or(0), true);
                    self.voters[voter].powered = false;
                }
                for host in self.hosts_at(place) {
                    self.power_cut(usize::from(host));
                }
                for server in self.servers_at(place) {
                    self.stop_name_server(server);
                    self.servers[server].on = false;
                }
            }
        }
    }

    fn start(&mut self, process: Process, place: u8) {
        match process {
            Process::Voter => {
                for voter in self.voters_at(place) {
                    self.start_voter(voter);
                }
            }
            Process::Agent | Process::Guard => self.fault_all(place, &HostFault::StartAgent),
            // Its agent starts it.
            Process::Postgres => {}
            Process::Dns => {
                for server in self.servers_at(place) {
                    self.start_name_server(server);
                }
            }
            Process::Site => {
                for voter in self.voters_at(place) {
                    self.voters[voter].powered = true;
                    self.start_voter(voter);
                }
                for host in self.hosts_at(place) {
                    self.boot(usize::from(host));
                }
                for server in self.servers_at(place) {
                    self.servers[server].on = true;
                    self.start_name_server(server);
                }
            }
        }
    }

    fn destroy(&mut self, process: Process, place: u8) {
        self.crash(process, place);
        if matches!(process, Process::Voter | Process::Site) {
            let initial: Vec<u64> = self.common.group.keys().map(|id| id.0).collect();
            for voter in self.voters_at(place) {
                self.voters[voter].wipe(&initial);
            }
            self.forget_all();
        }
        if matches!(process, Process::Postgres | Process::Site | Process::Agent) {
            for host in self.hosts_at(place) {
                self.oracle.wiped(host, &self.machines);
                self.fault(host, HostFault::Wipe);
            }
        }
        if matches!(process, Process::Dns | Process::Site) {
            for server in self.servers_at(place) {
                self.servers[server].disk = None;
                self.oracle.name_server_wiped(u8::try_from(server).unwrap_or(0));
            }
        }
    }

    fn pause(&mut self, process: Process, place: u8) {
        if matches!(process, Process::Voter | Process::Site) {
            for voter in self.voters_at(place) {
                self.voters[voter].paused = true;
            }
        }
        if matches!(process, Process::Dns | Process::Site) {
            for server in self.servers_at(place) {
                self.servers[server].paused = true;
            }
        }
        if let Some(part) = part(process) {
            self.fault_all(place, &HostFault::Pause(part));
        }
    }

    fn resume(&mut self, process: Process, place: u8) {
        if matches!(process, Process::Voter | Process::Site) {
            for voter in self.voters_at(place) {
                self.voters[voter].paused = false;
                self.carry_out(u8::try_from(voter).unwrap_or(0));
            }
        }
        if matches!(process, Process::Dns | Process::Site) {
            for server in self.servers_at(place) {
                self.resume_name_server(server);
            }
        }
        if let Some(part) = part(process) {
            self.fault_all(place, &HostFault::Resume(part));
        }
    }

    fn skew(&mut self, place: u8, wall: i64, rate: Option<i32>) {
        let now = self.now;
        let rate = rate.map(|rate| {
            let rate = i64::try_from(TRUE_RATE).unwrap_or(0) + i64::from(rate) * 1_000;
            u64::try_from(rate).unwrap_or(1_000)
        });
        for voter in self.voters_at(place) {
            let clock = &mut self.voters[voter].clock;
            clock.jump(wall);
            if let Some(rate) = rate {
                clock.set_rate(now, rate);
            }
        }
        if wall != 0 {
            self.fault_all(place, &HostFault::ClockJump(wall));
        }
        if let Some(rate) = rate {
            self.fault_all(place, &HostFault::ClockRate(rate));
        }
    }

    fn slow_disk(&mut self, process: Process, place: u8, by: Duration) {
        if matches!(process, Process::Voter | Process::Site) {
            for voter in self.voters_at(place) {
                self.voters[voter].disk.slow = by;
            }
        }
        if matches!(process, Process::Postgres | Process::Agent | Process::Site) {
            self.fault_all(place, &HostFault::SlowDisk(by));
        }
    }

    fn fill_disk(&mut self, process: Process, place: u8, full: bool) {
        if matches!(process, Process::Voter | Process::Site) {
            for voter in self.voters_at(place) {
                self.voters[voter].disk.full = full;
            }
        }
        if matches!(process, Process::Dns | Process::Site) {
            for server in self.servers_at(place) {
                self.servers[server].full = full;
            }
        }
        if matches!(process, Process::Postgres | Process::Agent | Process::Site) {
            let fault = if full { HostFault::FillDisk } else { HostFault::DiskFreed };
            self.fault_all(place, &fault);
        }
    }

    fn fault_all(&mut self, place: u8, fault: &HostFault) {
        for host in self.hosts_at(place) {
            self.oracle.faulted(host, fault, &self.machines, self.now);
            self.fault(host, *fault);
        }
    }
}

/// Whether it could keep a voter or an agent from what it has to do.
fn disturbs(deed: &Deed) -> bool {
    match deed {
        Deed::Cut { planes, .. } | Deed::Mend { planes, .. } | Deed::Worsen { planes, .. } => {
            planes.iter().any(|plane| matches!(plane, Plane::Raft | Plane::Health))
        }
        Deed::Host { fault, .. } => !matches!(
            fault,
            HostFault::CancelWaits
                | HostFault::EmptySetting
                | HostFault::Impostor { .. }
                | HostFault::StallCheckpointer(_)
                | HostFault::LongQuery(_)
                | HostFault::SlowReplay(_)
        ),
        Deed::LocalSession { .. } | Deed::Ask(_) => false,
        Deed::MendAll
        | Deed::Crash { .. }
        | Deed::Start { .. }
        | Deed::Destroy { .. }
        | Deed::Pause { .. }
        | Deed::Resume { .. }
        | Deed::Skew { .. }
        | Deed::SlowDisk { .. }
        | Deed::FillDisk { .. }
        | Deed::FreeDisk { .. } => true,
    }
}

fn part(process: Process) -> Option<Part> {
    match process {
        Process::Agent => Some(Part::Agent),
        Process::Guard => Some(Part::Guard),
        Process::Postgres => Some(Part::Postgres),
        Process::Site => Some(Part::All),
        Process::Voter | Process::Dns => None,
    }
}

fn worsen(link: &mut Link, how: Link) {
    let set = |field: &mut u8, value: u8| {
        if value > 0 {
            *field = value;
        }
    };
    set(&mut link.loss, how.loss);
    set(&mut link.duplicate, how.duplicate);
    set(&mut link.reorder, how.reorder);
    set(&mut link.corrupt, how.corrupt);
    if how.delay > 0 || how.jitter > 0 {
        link.delay = how.delay;
        link.jitter = how.jitter;
    }
}
