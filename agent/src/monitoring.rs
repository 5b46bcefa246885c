//! What the agent tells to those without a certificate: load balancers, and whoever monitors it.
//!
//! Whether clients may be sent here is judged anew for every question, by
//! [`failover::serving`], from the state that the beat fences by.

use crate::identity;
use crate::instance::Instance;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use failover::hook::Level;
use failover::report::Severity;
use failover::serving::{Seen, Serves, Serving, Wanted, serving};
use failover::{Assignment, Local, Moment, Role, Timestamp, lease};
use serde::{Deserialize, Serialize};
use std::io;
use std::sync::Arc;
use wire::clock::now;
use wire::monitoring::{Daemon, Exposition, Metric};

/// Everything it tells.
pub const METRICS: &[Metric] = &[
    Metric::gauge(
        "baton_agent_info",
        &["service", "postgres", "site", "version"],
        "Whose agent this is, and PostgreSQL's version; always 1",
    ),
    Metric::gauge(
        "baton_agent_serves",
        &["as"],
        "What clients may be sent here for: 1 for one of primary, replica and nobody",
    ),
    Metric::gauge(
        "baton_agent_assigned",
        &["role"],
        "What this instance is to be: 1 for one role, 0 for the others",
    ),
    Metric::gauge("baton_agent_epoch", &[], "The epoch of its assignment; absent before the first"),
    Metric::gauge(
        "baton_agent_lease_remaining_seconds",
        &[],
        "For how long this primary may still serve; 0: it may not; absent where it is none",
    ),
    Metric::gauge(
        "baton_agent_lag_bytes",
        &[],
        "As a replica: bytes of log yet to replay, of all that the primary said it has",
    ),
    Metric::gauge(
        "baton_agent_upstream_age_seconds",
        &[],
        "As a standby that streams: since the primary was last heard through the stream",
    ),
    Metric::gauge(
        "baton_agent_pulse_age_seconds",
        &[],
        "As a primary: since the newest commit was begun that enough standbys hold",
    ),
    Metric::gauge(
        "baton_agent_doubt",
        &[],
        "Whether commits are in doubt here of which the end is not written down yet",
    ),
    Metric::gauge("baton_agent_wal_free_bytes", &[], "Room left for the log on this machine"),
    Metric::gauge(
        "baton_agent_notes",
        &["severity"],
        "What the agent says to people, counted: baton status shows the texts",
    ),
    Metric::gauge(
        "baton_agent_probe_age_seconds",
        &[],
        "Since PostgreSQL was last asked and answered; absent while it does not run",
    ),
    Metric::histogram("baton_agent_probe_duration_seconds", "What answered probes took"),
    Metric::counter("baton_agent_probe_failures_total", &[], "Probes that were not answered"),
    Metric::counter(
        "baton_agent_fences_total",
        &[],
        "How often PostgreSQL was stopped at once so that it serves nobody without a lease",
    ),
    Metric::counter(
        "baton_agent_waits_cancelled_total",
        &[],
        "Commits whose wait for the standbys was cancelled",
    ),
    Metric::counter(
        "baton_agent_reports_total",
        &["result"],
        "Reports to the voters: answered by one, or by none",
    ),
    Metric::gauge(
        "baton_agent_voter_answer_age_seconds",
        &[],
        "Since a voter last answered a report; absent until one has",
    ),
];

/// Every role, in the words of the answers.
const ROLES: [&str; 6] = ["idle", "primary", "stopped", "fenced", "sealed", "standby"];

const fn role_name(role: &Role) -> &'static str {
    match role {
        Role::Idle => "idle",
        Role::Primary { .. } => "primary",
        Role::Stopped => "stopped",
        Role::Fenced => "fenced",
        Role::Sealed => "sealed",
        Role::Standby { .. } => "standby",
    }
}

/// The agent as it is asked.
#[derive(Debug)]
pub struct Monitored {
    instance: Arc<Instance>,
    certificate_ends: Timestamp,
}

/// Whether PostgreSQL serves clients as what it is to be.
///
/// # Errors
/// Why it does not.
pub fn ready(instance: &Instance) -> Result<(), String> {
    let serving = Standing::of(instance).serving();
    if serving.serves == Serves::Nobody { Err(serving.why_not) } else { Ok(()) }
}

/// What is served now, and in which epoch.
pub fn level(instance: &Instance) -> Level {
    let standing = Standing::of(instance);
    let epoch = standing.assignment.as_ref().map(|known| known.epoch).unwrap_or_default();
    Level { serves: standing.serving().serves, epoch }
}

/// All that an answer rests on, of one instant.
struct Standing {
    assignment: Option<Assignment>,
    local: Local,
    seen: Seen,
    now: Moment,
}

impl Standing {
    fn of(instance: &Instance) -> Self {
        let memory = instance.promises.get();
        let state = instance.state();
        // Only now: a wait for the lock must not make a lease look younger.
        let now = now();
        Self {
            assignment: state.assignment.clone(),
            local: state.local(&instance.layout, &memory),
            seen: state.seen(now),
            now,
        }
    }

    fn serving(&self) -> Serving {
        serving(self.assignment.as_ref(), &self.local, &self.seen, self.now)
    }

    /// For how long it may still serve as the primary, in seconds.
    fn lease_seconds(&self) -> Option<f64> {
        let known = self.assignment.as_ref()?;
        let primary = matches!(known.role, Role::Primary { .. });
        let end = lease::expires(&self.local, &known.timing).filter(|_| primary)?;
        Some(end.since(self.now).as_secs_f64())
    }
}

impl Monitored {
    /// Of an instance; nothing is done before somebody asks.
    ///
    /// # Errors
    /// The certificate cannot be read.
    pub fn new(instance: &Arc<Instance>) -> io::Result<Self> {
        let files = identity::installed(&instance.layout);
        let certificate = wire::tls::Identity::load(&files).map_err(io::Error::other)?;
        Ok(Self { instance: Arc::clone(instance), certificate_ends: certificate.not_after() })
    }

    /// Everything that can be asked.
    pub fn router(self) -> Router {
        let instance = Arc::clone(&self.instance);
        let health = Router::new()
            .route("/primary", get(primary))
            .route("/replica", get(replica))
            .route("/read-only", get(read_only))
            .with_state(instance);
        wire::monitoring::router(Arc::new(self)).merge(health)
    }

    fn tell_server(&self, told: &mut Exposition, standing: &Standing) {
        let state = self.instance.state();
        let since = |at: Moment| standing.now.since(at).as_secs_f64();
        if state.facts.is_some() {
            told.gauge("baton_agent_probe_age_seconds", &[], since(state.looked));
        }
        if let Some(at) = state.committed.filter(|_| state.proven.is_some()) {
            told.gauge("baton_agent_pulse_age_seconds", &[], since(at));
        }
        if let Some(free) = state.checks.wal_free {
            told.number("baton_agent_wal_free_bytes", &[], free);
        }
        for (severity, name) in
            [(Severity::Info, "info"), (Severity::Warning, "warning"), (Severity::Blocks, "blocks")]
        {
            let count = state.notes.values().filter(|note| note.severity == severity).count();
            told.number("baton_agent_notes", &[&name], count as u64);
        }
        let unwritten = state.unwritten;
        drop(state);
        let doubt = self.instance.promises.get().doubt_pending || unwritten;
        told.flag("baton_agent_doubt", &[], doubt);
    }

    fn tell_counts(&self, told: &mut Exposition, standing: &Standing) {
        let tally = &self.instance.tally;
        told.histogram("baton_agent_probe_duration_seconds", &tally.probes);
        told.counter("baton_agent_probe_failures_total", &[], tally.probe_failures());
        told.counter("baton_agent_fences_total", &[], tally.fences());
        told.counter("baton_agent_waits_cancelled_total", &[], tally.waits_cancelled());
        for (result, count) in tally.reports() {
            told.counter("baton_agent_reports_total", &[&result], count);
        }
        if let Some(at) = tally.heard() {
            let age = standing.now.since(at).as_secs_f64();
            told.gauge("baton_agent_voter_answer_age_seconds", &[], age);
        }
    }
}

impl Daemon for Monitored {
    fn ready(&self) -> Result<(), String> {
        ready(&self.instance)
    }

    async fn metrics(&self) -> Result<Exposition, String> {
        let mut told = Exposition::new(METRICS);
        told.daemon("agent", env!("CARGO_PKG_VERSION"), self.certificate_ends);
        let (config, speaker) = (&self.instance.config, &self.instance.speaker);
        told.flag(
            "baton_agent_info",
            &[&speaker.service, &speaker.instance, &config.site, &speaker.version],
            true,
        );
        let standing = Standing::of(&self.instance);
        let serving = standing.serving();
        for serves in Serves::ALL {
            let name = serves.name();
            told.flag("baton_agent_serves", &[&name], *serves == serving.serves);
        }
        let assigned = standing.assignment.as_ref();
        for role in ROLES {
            let is_it = assigned.is_some_and(|known| role_name(&known.role) == role);
            told.flag("baton_agent_assigned", &[&role], is_it);
        }
        if let Some(known) = assigned {
            told.number("baton_agent_epoch", &[], known.epoch.0);
        }
        if let Some(seconds) = standing.lease_seconds() {
            told.gauge("baton_agent_lease_remaining_seconds", &[], seconds);
        }
        if let Some(lag) = serving.lag_bytes {
            told.number("baton_agent_lag_bytes", &[], lag);
        }
        if let Some(behind) = standing.seen.behind {
            let age = behind.age.as_secs_f64();
            told.gauge("baton_agent_upstream_age_seconds", &[], age);
        }
        self.tell_server(&mut told, &standing);
        self.tell_counts(&mut told, &standing);
        Ok(told)
    }
}

/// What is asked for, besides the path.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    /// A replica may be at most so many bytes behind.
    lag: Option<u64>,
}

/// The body of every answer about this instance.
#[derive(Debug, Serialize)]
struct Health<'a> {
    service: &'a str,
    postgres: &'a str,
    /// What clients may be sent here for.
    serves: &'static str,
    /// What it is to be.
    assigned: Option<&'static str>,
    epoch: Option<u64>,
    /// As a replica, where it is known.
    lag_bytes: Option<u64>,
    /// As a primary: for how long it may still serve.
    lease_seconds: Option<f64>,
    /// Why the answer is no.
    #[serde(skip_serializing_if = "Option::is_none")]
    why_not: Option<String>,
}

async fn primary(State(instance): State<Arc<Instance>>) -> Response {
    health(&instance, Wanted::Primary)
}

async fn replica(
    State(instance): State<Arc<Instance>>,
    Query(Parameters { lag }): Query<Parameters>,
) -> Response {
    health(&instance, Wanted::Replica(lag))
}

async fn read_only(
    State(instance): State<Arc<Instance>>,
    Query(Parameters { lag }): Query<Parameters>,
) -> Response {
    health(&instance, Wanted::ReadOnly(lag))
}

fn health(instance: &Instance, wanted: Wanted) -> Response {
    let standing = Standing::of(instance);
    let serving = standing.serving();
    let suits = serving.suits(wanted);
    let status = if suits.is_ok() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let assigned = standing.assignment.as_ref();
    let health = Health {
        service: instance.speaker.service.as_str(),
        postgres: instance.speaker.instance.as_str(),
        serves: serving.serves.name(),
        assigned: assigned.map(|known| role_name(&known.role)),
        epoch: assigned.map(|known| known.epoch.0),
        lag_bytes: serving.lag_bytes,
        lease_seconds: standing.lease_seconds(),
        why_not: suits.err(),
    };
    (status, Json(health)).into_response()
}
