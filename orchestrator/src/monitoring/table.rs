//! The table of what a voter tells.

use wire::monitoring::Metric;

const SERVICE: &[&str] = &["service"];
const INSTANCE: &[&str] = &["service", "postgres"];
const VOTER: &[&str] = &["voter", "name"];

/// Everything it tells. What rests on reports and observations is told by the leader alone.
pub const METRICS: &[Metric] = &[
    Metric::gauge("baton_voter_info", &["voter", "name", "site"], "Who this voter is; always 1"),
    Metric::gauge(
        "baton_voter_stopped",
        &[],
        "Whether this voter has stopped acting: its log says why",
    ),
    Metric::gauge("baton_voter_leads", &[], "Whether this voter leads"),
    Metric::gauge("baton_voter_leader_known", &[], "Whether this voter knows a leader"),
    Metric::gauge("baton_voter_term", &[], "Raft's term; it grows with every election"),
    Metric::gauge("baton_voter_applied_index", &[], "The newest entry of the log applied here"),
    Metric::gauge("baton_voter_committed_index", &[], "The newest entry known to be committed"),
    Metric::gauge("baton_voter_revision", &[], "Events that had an effect, as applied here"),
    Metric::gauge(
        "baton_voter_zone_serial",
        &[],
        "Version of the zone that name servers should serve",
    ),
    Metric::gauge("baton_voter_audit_records", &[], "Length of the audit chain here"),
    Metric::counter(
        "baton_voter_proposals_total",
        &[],
        "Entries of the log proposed by this voter",
    ),
    Metric::counter(
        "baton_voter_refusals_total",
        &[],
        "Requests of operators that were refused by this voter as leader",
    ),
    Metric::counter("baton_voter_leases_total", SERVICE, "Leases given by this voter as leader"),
    Metric::gauge("baton_voter_peer_age_seconds", VOTER, "Since another voter was last heard here"),
    Metric::gauge(
        "baton_voter_peer_lag_entries",
        VOTER,
        "Leader only: entries of the log that another voter has not acknowledged",
    ),
    Metric::gauge(
        "baton_service_epoch",
        SERVICE,
        "The service's epoch: it counts changes of primary",
    ),
    Metric::gauge(
        "baton_service_primary",
        &["service", "postgres", "site"],
        "Whether this instance holds the epoch: 1 for the primary, 0 for the others",
    ),
    Metric::gauge(
        "baton_service_transition",
        &["service", "step"],
        "Whether a change of primary stands at this step; all 0: none is open",
    ),
    Metric::gauge(
        "baton_service_step_age_seconds",
        SERVICE,
        "Leader only: for how long an open change of primary has stood at its step",
    ),
    Metric::gauge(
        "baton_service_transitions",
        &["service", "trigger", "outcome"],
        "Changes of primary since the service was declared; open ones move to another outcome",
    ),
    Metric::gauge(
        "baton_service_unacknowledged",
        SERVICE,
        "Whether the last automatic failover is not acknowledged: baton resume does",
    ),
    Metric::gauge("baton_service_held", SERVICE, "Whether a person paused automation"),
    Metric::gauge(
        "baton_service_single_copy",
        SERVICE,
        "Whether commits are acknowledged that exist on the primary alone",
    ),
    Metric::gauge(
        "baton_service_site_safe",
        SERVICE,
        "Whether acknowledged commits are always outside the primary's site, too",
    ),
    Metric::gauge("baton_service_rule_required", SERVICE, "Standbys that must flush a commit"),
    Metric::gauge("baton_service_rule_instances", SERVICE, "Standbys that count for the rule"),
    Metric::gauge(
        "baton_service_doubts",
        SERVICE,
        "Ranges of commits that may have been acknowledged without the rule",
    ),
    Metric::gauge(
        "baton_service_zero_loss",
        SERVICE,
        "Leader only: whether zero loss is promised; absent while that is not known",
    ),
    Metric::gauge(
        "baton_service_lease_age_seconds",
        SERVICE,
        "Leader only: since the primary was last given a lease; absent until it was",
    ),
    Metric::gauge(
        "baton_service_finding",
        &["service", "finding"],
        "Leader only: 1 for each condition that baton explain names now",
    ),
    Metric::gauge(
        "baton_postgres_in_rule",
        INSTANCE,
        "Whether the synchronous rule counts on this instance",
    ),
    Metric::gauge(
        "baton_postgres_report_age_seconds",
        INSTANCE,
        "Leader only: since its agent last reported; absent until it has",
    ),
    Metric::gauge(
        "baton_postgres_admits",
        INSTANCE,
        "Leader only: whether it admits clients, as it last said",
    ),
    Metric::gauge(
        "baton_postgres_streaming",
        INSTANCE,
        "Leader only: whether it streams, as the primary says",
    ),
    Metric::gauge(
        "baton_postgres_lag_bytes",
        INSTANCE,
        "Leader only: bytes of log it is behind the primary; absent where not comparable",
    ),
    Metric::gauge(
        "baton_name_server_serial",
        &["name_server"],
        "Leader only: version of the zone that this name server says it serves",
    ),
    Metric::gauge(
        "baton_name_server_report_age_seconds",
        &["name_server"],
        "Leader only: since this name server last said so",
    ),
    Metric::gauge(
        "baton_clock_offset_seconds",
        &["daemon", "name"],
        "Leader only: how far another machine's clock is ahead of the leader's",
    ),
    Metric::gauge(
        "baton_readiness_level",
        &["service", "site"],
        "Leader only: could the site be lost now: 0 good, 1 warning, 2 unknown, 3 no",
    ),
    Metric::gauge(
        "baton_readiness_rto_seconds",
        &["service", "site"],
        "Leader only: predicted recovery time if the site is lost; absent where not known",
    ),
    Metric::gauge(
        "baton_readiness_check_level",
        &["service", "check"],
        "Leader only: the worst that a check found: 0 good, 1 warning, 2 unknown, 3 blocks",
    ),
];
