//! What happens between two looks of whoever monitors: counted where it happens, read by
//! [`crate::monitoring`] alone.

use failover::Moment;
use failover::report::Down;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use wire::clock::now;
use wire::monitoring::Histogram;

/// Bounds of what a probe takes, in seconds.
const PROBE: [f64; 11] = [0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0];

/// The counts of one run of the agent.
#[derive(Debug)]
pub struct Tally {
    /// What answered probes took.
    pub probes: Histogram,
    probe_failures: AtomicU64,
    fences: AtomicU64,
    waits_cancelled: AtomicU64,
    answered: AtomicU64,
    unanswered: AtomicU64,
    /// When a voter last answered, in microseconds of the monotonic clock.
    heard: AtomicU64,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            probes: Histogram::new(PROBE),
            probe_failures: AtomicU64::default(),
            fences: AtomicU64::default(),
            waits_cancelled: AtomicU64::default(),
            answered: AtomicU64::default(),
            unanswered: AtomicU64::default(),
            heard: AtomicU64::default(),
        }
    }
}

fn add(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

fn read(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}

impl Tally {
    /// PostgreSQL was asked for its facts and answered, after so long.
    pub fn probed(&self, took: Duration) {
        self.probes.observe(took.as_secs_f64());
    }

    /// It did not answer.
    pub fn probe_failed(&self) {
        add(&self.probe_failures);
    }

    /// PostgreSQL ended.
    pub fn ended(&self, down: &Down) {
        if *down == Down::Fenced {
            add(&self.fences);
        }
    }

    /// A commit's wait for its standbys was cancelled.
    pub fn wait_cancelled(&self) {
        add(&self.waits_cancelled);
    }

    /// A voter answered a report.
    pub fn report_answered(&self) {
        add(&self.answered);
        self.heard.store(now().0, Ordering::Relaxed);
    }

    /// No voter answered a report.
    pub fn report_unanswered(&self) {
        add(&self.unanswered);
    }

    /// Probes that were not answered.
    pub fn probe_failures(&self) -> u64 {
        read(&self.probe_failures)
    }

    /// How often PostgreSQL was stopped at once, on purpose.
    pub fn fences(&self) -> u64 {
        read(&self.fences)
    }

    /// Waits of commits that were cancelled.
    pub fn waits_cancelled(&self) -> u64 {
        read(&self.waits_cancelled)
    }

    /// Reports by what became of them.
    pub fn reports(&self) -> [(&'static str, u64); 2] {
        [("answered", read(&self.answered)), ("unanswered", read(&self.unanswered))]
    }

    /// When a voter last answered; `None`: not in this run.
    pub fn heard(&self) -> Option<Moment> {
        Some(Moment(read(&self.heard))).filter(|at| at.0 > 0)
    }
}
