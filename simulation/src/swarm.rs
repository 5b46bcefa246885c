//! Many seeds, on several threads.

use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::coverage::Coverage;
use crate::seed::{Options, SeedReport, run_seed};

/// What came of many seeds.
#[derive(Clone, Debug, Default)]
pub struct Swarm {
    /// How many were run.
    pub seeds: u64,
    /// The time that passed in their worlds.
    pub simulated: Duration,
    /// The time that passed here.
    pub took: Duration,
    /// What came about in all of them.
    pub coverage: Coverage,
    /// Commits that clients were told of.
    pub acknowledged: u64,
    /// Promotions.
    pub promotions: u64,
    /// Those in which something must not have been, by seed; without transcripts.
    pub failed: Vec<SeedReport>,
    /// Seeds by cluster.
    pub clusters: std::collections::BTreeMap<&'static str, u64>,
}

impl Swarm {
    /// Whether nothing was violated and every kind of fault came about.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.failed.is_empty() && self.coverage.missing().is_empty()
    }

    fn take(&mut self, report: SeedReport) {
        self.seeds += 1;
        self.simulated += report.simulated;
        self.acknowledged += report.acknowledged;
        self.promotions += u64::from(report.promotions);
        self.coverage.add(&report.coverage);
        *self.clusters.entry(report.cluster).or_insert(0) += 1;
        if report.violation.is_some() {
            self.failed.push(report);
        }
    }
}

impl fmt::Display for Swarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.took.as_secs_f64().max(0.001);
        let hours = self.simulated.as_secs_f64() / 3_600.0;
        for (name, count) in self.coverage.iter() {
            writeln!(f, "{count:>10}  {name}")?;
        }
        for (name, count) in &self.clusters {
            writeln!(f, "{count:>10}  cluster: {name}")?;
        }
        for report in &self.failed {
            let text = report.violation.as_deref().unwrap_or_default();
            writeln!(f, "violation: seed {} {text} ({})", report.seed, report.cluster)?;
        }
        for name in self.coverage.missing() {
            writeln!(f, "never came about: {name}")?;
        }
        write!(
            f,
            "{} seeds, {hours:.1} simulated hours in {seconds:.1} s: {:.1} seeds a second, {:.0} \
             simulated hours a minute; {} commits acknowledged, {} promotions, {} violations",
            self.seeds,
            f64::from(u32::try_from(self.seeds).unwrap_or(u32::MAX)) / seconds,
            hours / seconds * 60.0,
            self.acknowledged,
            self.promotions,
            self.failed.len()
        )
    }
}

/// Runs seeds `from..from + count` on `jobs` threads; `first`: ends at the first violation;
/// `within`: ends when this much time has passed here; `each`: is told of every seed as it ends.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "how long the runs take is no part of any run")]
pub fn run(
    from: u64,
    count: u64,
    jobs: usize,
    first: bool,
    within: Option<Duration>,
    options: &Options,
    each: impl Fn(&SeedReport) + Sync,
) -> Swarm {
    let began = Instant::now();
    let next = AtomicU64::new(from);
    let enough = AtomicBool::new(false);
    let all = Mutex::new(Swarm::default());
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                let mut own = Swarm::default();
                while !enough.load(Ordering::Relaxed)
                    && within.is_none_or(|limit| began.elapsed() < limit)
                {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from.saturating_add(count) {
                        break;
                    }
                    let report = run_seed(seed, options);
                    each(&report);
                    if first && report.violation.is_some() {
                        enough.store(true, Ordering::Relaxed);
                    }
                    own.take(report);
                }
                let mut all = all.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                merge(&mut all, own);
            });
        }
    });
    let mut swarm = all.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    swarm.failed.sort_by_key(|report| report.seed);
    swarm.took = began.elapsed();
    swarm
}

fn merge(all: &mut Swarm, own: Swarm) {
    all.seeds += own.seeds;
    all.simulated += own.simulated;
    all.acknowledged += own.acknowledged;
    all.promotions += own.promotions;
    all.coverage.add(&own.coverage);
    for (name, count) in own.clusters {
        *all.clusters.entry(name).or_insert(0) += count;
    }
    all.failed.extend(own.failed);
}
