//! What the name server tells to whoever monitors it: see `docs/metrics.md`.

use crate::current::Current;
use crate::tally::Tally;
use failover::Timestamp;
use std::sync::Arc;
use wire::clock;
use wire::monitoring::{Daemon, Exposition, Metric};

/// Everything it tells.
pub const METRICS: &[Metric] = &[
    Metric::gauge(
        "baton_dns_zone_serial",
        &[],
        "Version and SOA serial of the zone that is served; 0 before the first",
    ),
    Metric::gauge(
        "baton_dns_zone_age_seconds",
        &[],
        "Since a voter last gave the zone that is served; absent until one has",
    ),
    Metric::counter(
        "baton_dns_zones_refused_total",
        &[],
        "Zones that voters gave and that are not served, because they go back or cannot be kept",
    ),
    Metric::gauge(
        "baton_dns_voter_followed",
        &["voter"],
        "Whether the last request to the voter at this address was answered",
    ),
    Metric::counter(
        "baton_dns_queries_total",
        &["transport", "result"],
        "Questions answered, by result",
    ),
];

/// The name server as it is asked.
#[derive(Debug)]
pub struct Monitored {
    /// What it serves.
    pub current: Arc<Current>,
    /// What it counts.
    pub tally: Arc<Tally>,
    /// When its certificate ends.
    pub certificate_ends: Timestamp,
}

impl Daemon for Monitored {
    fn ready(&self) -> Result<(), String> {
        if self.current.served().is_some() {
            return Ok(());
        }
        Err("it has no zone yet and answers SERVFAIL: no voter gave it one".into())
    }

    async fn metrics(&self) -> Result<Exposition, String> {
        let mut told = Exposition::new(METRICS);
        told.daemon("dns", env!("CARGO_PKG_VERSION"), self.certificate_ends);
        told.number("baton_dns_zone_serial", &[], u64::from(self.current.version()));
        if let Some(at) = self.tally.confirmed_at() {
            let age = clock::now().since(at).as_secs_f64();
            told.gauge("baton_dns_zone_age_seconds", &[], age);
        }
        told.counter("baton_dns_zones_refused_total", &[], self.tally.refusals());
        for (voter, follows) in self.tally.voters() {
            told.flag("baton_dns_voter_followed", &[&voter], follows);
        }
        for (transport, result, count) in self.tally.answers() {
            told.counter("baton_dns_queries_total", &[&transport, &result], count);
        }
        Ok(told)
    }
}
