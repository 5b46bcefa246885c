//! What came about in a run: faults, steps, findings and branches, by name.

use scenarios::script::place::Process;
use std::collections::BTreeMap;
use std::fmt;

use crate::host::{Fact, HostFault, Release};
use crate::oracle::Oracle;
use crate::world::Deed;

/// How often each thing came about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    counts: BTreeMap<&'static str, u64>,
}

impl Coverage {
    /// It came about.
    pub fn hit(&mut self, name: &'static str) {
        *self.counts.entry(name).or_insert(0) += 1;
    }

    /// How often it did.
    #[must_use]
    pub fn count(&self, name: &str) -> u64 {
        self.counts.get(name).copied().unwrap_or(0)
    }

    /// Adds what came about in another run.
    pub fn add(&mut self, other: &Self) {
        for (name, count) in &other.counts {
            *self.counts.entry(name).or_insert(0) += count;
        }
    }

    /// Everything, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.counts.iter().map(|(name, count)| (*name, *count))
    }

    /// Kinds of fault that never came about.
    #[must_use]
    pub fn missing(&self) -> Vec<&'static str> {
        FAULTS.iter().copied().filter(|name| self.count(name) == 0).collect()
    }

    pub(crate) fn deed(&mut self, deed: &Deed) {
        self.hit(deed_name(deed));
    }

    pub(crate) fn fault(&mut self, fault: &HostFault) {
        self.hit(fault_name(fault));
    }

    pub(crate) fn fact(&mut self, fact: &Fact) {
        match fact {
            Fact::Began { action } => self.hit(action),
            Fact::Done { action: _, done: false } => self.hit("action: failed"),
            Fact::Step { name, .. } => self.hit(name),
            Fact::Writable { promoted: true, .. } => self.hit("fact: promoted"),
            Fact::Writable { promoted: false, .. } => self.hit("fact: started as primary"),
            Fact::Ended { fenced: true } => self.hit("fact: fenced"),
            Fact::Posed { .. } => self.hit("fact: an impostor streams"),
            Fact::Cloned => self.hit("fact: cloned"),
            Fact::Rewound { .. } => self.hit("fact: rewound"),
            Fact::Quarantined => self.hit("fact: quarantined"),
            Fact::TailKept { .. } => self.hit("fact: tail kept"),
            Fact::Released { how, .. } => self.hit(match how {
                Release::Cancelled => "fact: wait cancelled",
                Release::Emptied => "fact: released by an emptied setting",
                Release::NeverWaited => "fact: never waited",
                Release::Posed | Release::Stolen => "fact: released by an impostor",
            }),
            Fact::Done { .. }
            | Fact::Ended { .. }
            | Fact::Admitted { .. }
            | Fact::ClientsClosed
            | Fact::Wrote { .. }
            | Fact::Proven { .. }
            | Fact::Enforced { .. }
            | Fact::Setting { .. }
            | Fact::Pledged { .. }
            | Fact::Sealed { .. }
            | Fact::Received { .. }
            | Fact::StartedBroken
            | Fact::Isolated
            | Fact::Wiped => {}
        }
    }

    pub(crate) fn applied(&mut self, oracle: &Oracle) {
        for name in oracle.reached() {
            self.hit(name);
        }
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, count) in &self.counts {
            writeln!(f, "{count:>10}  {name}")?;
        }
        Ok(())
    }
}

/// Every kind of fault that a swarm must have seen.
const FAULTS: &[&str] = &[
    "fault: cut",
    "fault: bad link",
    "fault: kill a voter",
    "fault: kill an agent",
    "fault: kill a guard",
    "fault: kill PostgreSQL",
    "fault: kill a name server",
    "fault: power cut",
    "fault: destroy a voter's disk",
    "fault: destroy a site",
    "fault: destroy an instance",
    "fault: pause a voter",
    "fault: pause an agent",
    "fault: pause a guard",
    "fault: pause PostgreSQL",
    "fault: pause a name server",
    "fault: pause a site",
    "fault: wall clock",
    "fault: clock rate",
    "fault: slow disk",
    "fault: full disk",
    "fault: waits cancelled",
    "fault: setting emptied",
    "fault: impostor",
    "fact: an impostor streams",
    "fault: checkpointer stalled",
    "fault: local session",
    "fault: long query",
    "fault: slow replay",
    "operator asks",
];

const fn deed_name(deed: &Deed) -> &'static str {
    match deed {
        Deed::Cut { .. } => "fault: cut",
        Deed::Mend { .. } | Deed::MendAll => "mended",
        Deed::Worsen { .. } => "fault: bad link",
        Deed::Crash { process, .. } => match process {
            Process::Voter => "fault: kill a voter",
            Process::Agent => "fault: kill an agent",
            Process::Guard => "fault: kill a guard",
            Process::Postgres => "fault: kill PostgreSQL",
            Process::Dns => "fault: kill a name server",
            Process::Site => "fault: power cut",
        },
        Deed::Start { .. } => "started",
        Deed::Destroy { process, .. } => match process {
            Process::Voter => "fault: destroy a voter's disk",
            Process::Site => "fault: destroy a site",
            Process::Agent | Process::Guard | Process::Postgres => "fault: destroy an instance",
            Process::Dns => "fault: destroy a name server",
        },
        Deed::Pause { process, .. } => match process {
            Process::Voter => "fault: pause a voter",
            Process::Agent => "fault: pause an agent",
            Process::Guard => "fault: pause a guard",
            Process::Postgres => "fault: pause PostgreSQL",
            Process::Dns => "fault: pause a name server",
            Process::Site => "fault: pause a site",
        },
        Deed::Resume { .. } => "resumed",
        Deed::Skew { rate: None, .. } => "fault: wall clock",
        Deed::Skew { .. } => "fault: clock rate",
        Deed::SlowDisk { .. } => "fault: slow disk",
        Deed::FillDisk { .. } => "fault: full disk",
        Deed::FreeDisk { .. } => "disk freed",
        Deed::Host { .. } => "fault: in a machine",
        Deed::LocalSession { .. } => "fault: local session",
        Deed::Ask(_) => "operator asks",
    }
}

const fn fault_name(fault: &HostFault) -> &'static str {
    match fault {
        HostFault::CrashAgent => "machine: agent killed",
        HostFault::CrashGuard => "machine: guard killed",
        HostFault::CrashPostgres => "machine: PostgreSQL killed",
        HostFault::StartAgent => "machine: agent started",
        HostFault::Pause(_) => "machine: paused",
        HostFault::Resume(_) => "machine: resumed",
        HostFault::SlowDisk(_) => "machine: slow disk",
        HostFault::FillDisk => "machine: disk full",
        HostFault::DiskFreed => "machine: disk freed",
        HostFault::CancelWaits => "fault: waits cancelled",
        HostFault::EmptySetting => "fault: setting emptied",
        HostFault::Impostor { .. } => "fault: impostor",
        HostFault::StallCheckpointer(_) => "fault: checkpointer stalled",
        HostFault::LocalSession { .. } => "machine: local session",
        HostFault::LongQuery(_) => "fault: long query",
        HostFault::SlowReplay(_) => "fault: slow replay",
        HostFault::LoseFlushed(_) => "machine: flushed WAL lost",
        HostFault::ClockJump(_) => "machine: wall clock set",
        HostFault::ClockRate(_) => "machine: clock rate",
        HostFault::Wipe => "machine: wiped",
    }
}
