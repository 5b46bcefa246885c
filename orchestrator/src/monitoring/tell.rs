//! From the copy that the loop gave to the lines of the table.

use std::collections::BTreeSet;
use std::time::Duration;

use failover::cluster::Step;
use failover::fitness::Promise;
use failover::ids::ServiceId;
use failover::readiness::Level;
use wire::monitoring::Exposition;

use super::Look;
use crate::answers::{InstanceStatus, NameServerStatus, ServiceStatus, VoterStatus};
use crate::replica::{ReadinessQuestion, Sight};
use crate::tally::Tally;

pub(super) fn everything(told: &mut Exposition, look: Look) {
    let Look { mut sight, tally } = look;
    let readiness = sight.readiness.take();
    voter(told, &sight);
    counts(told, &tally);
    for peer in sight.status.voters.iter().filter(|it| it.id != sight.status.answered_by.voter) {
        tell_peer(told, peer);
    }
    for service in &sight.status.services {
        let in_step = sight.in_step.get(&service.service).copied();
        tell_service(told, service, in_step);
        for instance in &service.instances {
            tell_instance(told, service, instance);
        }
    }
    past(told, &sight);
    for server in &sight.status.name_servers {
        tell_name_server(told, server);
    }
    for ((daemon, name), behind) in &sight.behind_ms {
        let ahead = millis(behind.unsigned_abs()) * if *behind > 0 { -1.0 } else { 1.0 };
        told.gauge("baton_clock_offset_seconds", &[daemon, name], ahead);
    }
    if let Some(question) = readiness {
        tell_readiness(told, &question);
    }
}

/// Seconds of whole milliseconds.
fn millis(milliseconds: u64) -> f64 {
    Duration::from_millis(milliseconds).as_secs_f64()
}

fn voter(told: &mut Exposition, sight: &Sight) {
    let status = &sight.status;
    let own = &status.answered_by;
    let site = own.site.as_ref().map(ToString::to_string).unwrap_or_default();
    told.flag("baton_voter_info", &[&own.voter, &own.name, &site], true);
    told.flag("baton_voter_stopped", &[], sight.stopped.is_some());
    told.flag("baton_voter_leads", &[], sight.leads);
    told.flag("baton_voter_leader_known", &[], status.leader.is_some());
    told.number("baton_voter_term", &[], status.term);
    told.number("baton_voter_applied_index", &[], sight.applied.index);
    told.number("baton_voter_committed_index", &[], sight.committed);
    told.number("baton_voter_revision", &[], status.revision.0);
    told.number("baton_voter_zone_serial", &[], u64::from(status.zone_version));
    told.number("baton_voter_audit_records", &[], sight.audit);
}

fn counts(told: &mut Exposition, tally: &Tally) {
    told.counter("baton_voter_proposals_total", &[], tally.proposals);
    told.counter("baton_voter_refusals_total", &[], tally.refusals);
    for (service, count) in &tally.leases {
        told.counter("baton_voter_leases_total", &[service], *count);
    }
}

fn tell_peer(told: &mut Exposition, peer: &VoterStatus) {
    let labels: &[&dyn std::fmt::Display] = &[&peer.id, &peer.name];
    if let Some(age) = peer.age_ms {
        told.gauge("baton_voter_peer_age_seconds", labels, millis(age));
    }
    if let Some(lag) = peer.lag_entries {
        told.number("baton_voter_peer_lag_entries", labels, lag);
    }
}

const STEPS: [Step; 7] = [
    Step::Quiesce,
    Step::CatchUp,
    Step::Seal,
    Step::Promote,
    Step::Prove,
    Step::Redirect,
    Step::Verify,
];

fn tell_service(told: &mut Exposition, service: &ServiceStatus, in_step: Option<Duration>) {
    let id = &service.service;
    told.number("baton_service_epoch", &[id], service.epoch.0);
    let step = service.transition.as_ref().map(|transition| transition.step);
    for known in STEPS {
        told.flag("baton_service_transition", &[id, &known.name()], step == Some(known));
    }
    if let Some(age) = in_step.filter(|_| step.is_some()) {
        told.gauge("baton_service_step_age_seconds", &[id], age.as_secs_f64());
    }
    told.flag("baton_service_unacknowledged", &[id], service.unacknowledged.is_some());
    told.flag("baton_service_held", &[id], service.hold.is_some());
    // Before the first primary there is no commit, and nothing is promised of any.
    let runs = service.primary.is_some();
    told.flag("baton_service_single_copy", &[id], runs && service.rule.required == 0);
    told.flag("baton_service_site_safe", &[id], service.is_site_safe);
    let must = u64::from(service.rule.enforce.required);
    told.number("baton_service_rule_required", &[id], must);
    told.number("baton_service_rule_instances", &[id], service.rule.instances.len() as u64);
    match &service.zero_loss {
        Promise::Yes if runs => told.flag("baton_service_zero_loss", &[id], true),
        Promise::No(_) if runs => told.flag("baton_service_zero_loss", &[id], false),
        Promise::Yes | Promise::No(_) | Promise::Unknown(_) | Promise::Unasked => {}
    }
    if let Some(age) = service.lease_age_ms {
        told.gauge("baton_service_lease_age_seconds", &[id], millis(age));
    }
    let findings: BTreeSet<&str> = service.findings.iter().map(|it| it.check.as_str()).collect();
    for finding in findings {
        told.flag("baton_service_finding", &[id, &finding], true);
    }
}

fn tell_instance(told: &mut Exposition, service: &ServiceStatus, instance: &InstanceStatus) {
    let (id, name) = (&service.service, &instance.instance);
    let is_primary = service.primary.as_ref() == Some(name);
    told.flag("baton_service_primary", &[id, name, &instance.site], is_primary);
    told.flag("baton_postgres_in_rule", &[id, name], instance.in_rule);
    if let Some(age) = instance.age_ms {
        told.gauge("baton_postgres_report_age_seconds", &[id, name], millis(age));
    }
    if let Some(admits) = instance.admits {
        told.flag("baton_postgres_admits", &[id, name], admits);
    }
    if let Some(streaming) = instance.streaming {
        told.flag("baton_postgres_streaming", &[id, name], streaming);
    }
    if let Some(lag) = instance.lag_bytes.filter(|_| !is_primary) {
        told.number("baton_postgres_lag_bytes", &[id, name], lag);
    }
}

fn past(told: &mut Exposition, sight: &Sight) {
    for (id, count) in &sight.doubts {
        told.number("baton_service_doubts", &[id], *count as u64);
    }
    for (kind, count) in &sight.transitions {
        let labels: &[&dyn std::fmt::Display] = &[&kind.service, &kind.trigger, &kind.outcome];
        told.number("baton_service_transitions", labels, *count);
    }
}

fn tell_name_server(told: &mut Exposition, server: &NameServerStatus) {
    if let Some(version) = server.follows {
        let version = u64::from(version);
        told.number("baton_name_server_serial", &[&server.server], version);
    }
    if let Some(age) = server.follows_age_ms {
        told.gauge("baton_name_server_report_age_seconds", &[&server.server], millis(age));
    }
}

const fn level(level: Level) -> u64 {
    match level {
        Level::Good => 0,
        Level::Warning => 1,
        Level::Unknown => 2,
        Level::Blocks => 3,
    }
}

fn tell_readiness(told: &mut Exposition, question: &ReadinessQuestion) {
    for service in question.everything() {
        let id: &ServiceId = &service.service;
        for verdict in &service.sites {
            told.number("baton_readiness_level", &[id, &verdict.site], level(verdict.level));
            let total = verdict.rto.as_ref().and_then(|rto| rto.total_ms);
            if let Some(total) = total {
                told.gauge("baton_readiness_rto_seconds", &[id, &verdict.site], millis(total));
            }
        }
        for check in &service.checks {
            told.number("baton_readiness_check_level", &[id, &check.check], level(check.level));
        }
    }
}
