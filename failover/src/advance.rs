//! A transition is open: is its step done, and what then?

use crate::cluster::{Step, Transition, Trigger};
use crate::decide::{Case, Finding, Opinion, finding};
use crate::event::ServiceChange;
use crate::ids::{InstanceId, NameServerId};
use crate::lost::{self, Loss};
use crate::quorum;
use crate::report::{Down, NameServerAnswer, Report, Server, Severity};
use crate::seal::seal;
use crate::time::Moment;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

pub(crate) fn advance(case: &Case<'_>, transition: &Transition) -> Opinion {
    match transition.step {
        Step::Quiesce => quiesce(case, transition),
        Step::CatchUp => catch_up(case),
        Step::Seal => seal(case, transition),
        Step::Promote | Step::Prove | Step::Redirect | Step::Verify => forward(case, transition),
    }
}

pub(crate) fn waiting(
    check: &str,
    instance: Option<&InstanceId>,
    text: impl Into<String>,
) -> Opinion {
    Opinion::wait(vec![finding(check, Severity::Info, instance, text)])
}

fn done(cause: impl Into<String>) -> Opinion {
    Opinion::propose(ServiceChange::StepDone, cause)
}

fn overdue(case: &Case<'_>) -> bool {
    case.view.in_step(case.id, case.now) >= case.timing.switchover_deadline
}

fn quiesce(case: &Case<'_>, transition: &Transition) -> Opinion {
    if overdue(case) {
        return Opinion::propose(ServiceChange::Aborted, "the primary was not ready in time");
    }
    // It still serves, and what ends a primary ends its switchover: a failover begins at once.
    if let Some(primary) = &case.service.primary
        && let Loss::Yes(cause) =
            lost::judge(case.service, primary, case.view, case.timing, case.now)
    {
        return Opinion::propose(ServiceChange::Aborted, format!("the primary was lost: {cause}"));
    }
    let Some(report) = case.primary_report() else {
        return waiting("switchover-ready", None, "waiting for the primary's report");
    };
    if matches!(report.server, Server::Down(_)) {
        return Opinion::propose(ServiceChange::Aborted, "the primary's PostgreSQL went down");
    }
    let target = transition.target.as_ref();
    let ready = target.is_none_or(|target| {
        report.streams.iter().any(|s| s.instance == *target && s.streaming && s.caught_up)
    });
    if report.prepared == Some(case.service.epoch) && ready {
        return done("checkpoint written, candidate caught up");
    }
    waiting("switchover-ready", target, "waiting for the checkpoint and the candidate")
}

fn catch_up(case: &Case<'_>) -> Opinion {
    match case.primary_report().map(|report| &report.server) {
        Some(Server::Down(Down::Clean(position))) => done(format!("stopped cleanly at {position}")),
        Some(Server::Down(Down::Crashed)) => {
            Opinion::propose(ServiceChange::Aborted, "the primary died while stopping")
        }
        Some(_) | None if overdue(case) => {
            Opinion::propose(ServiceChange::Aborted, "the clean stop took too long")
        }
        Some(_) | None => waiting("clean-stop", None, "waiting for the primary's clean stop"),
    }
}

/// Past the point of no return: forward only. If the new primary is lost on the way, the next
/// transition takes over; a half-done one is never held up by a hold or a brake (I-25).
fn forward(case: &Case<'_>, transition: &Transition) -> Opinion {
    let Some(primary) = &case.service.primary else { return Opinion::default() };
    if let Loss::Yes(cause) = lost::judge(case.service, primary, case.view, case.timing, case.now)
        && transition.trigger != Trigger::Bootstrap
    {
        let bars = crate::steady::infeasible(case, true);
        if bars.is_empty() {
            return Opinion::propose(
                ServiceChange::started(Trigger::PrimaryLost, None, Step::Seal),
                format!("{cause}, in the middle of transition {}", transition.id),
            );
        }
    }
    let Some(report) = case.primary_report() else {
        return waiting("primary-report", Some(primary), "waiting for its report");
    };
    if let Some(identified) = crate::steady::identify(case, report) {
        return identified;
    }
    match transition.step {
        Step::Promote => promoted(case, primary, report),
        Step::Prove => proven(case, primary, report),
        Step::Redirect => redirected(case),
        Step::Verify => verified(case, report),
        Step::Quiesce | Step::CatchUp | Step::Seal => Opinion::default(),
    }
}

fn promoted(case: &Case<'_>, primary: &InstanceId, report: &Report) -> Opinion {
    match &report.server {
        Server::Writable { position, .. } if report.pledge.granted == case.service.epoch => {
            done(format!("{primary} is writable, {position}"))
        }
        Server::Absent
        | Server::Refused(_)
        | Server::Down(_)
        | Server::Starting
        | Server::Recovery { .. }
        | Server::Writable { .. } => {
            waiting("promoted", Some(primary), "waiting until it is out of recovery")
        }
    }
}

fn proven(case: &Case<'_>, primary: &InstanceId, report: &Report) -> Opinion {
    match &report.proof {
        Some(proof) if proof.epoch == case.service.epoch => {
            done(format!("marker durable under {}", quorum::describe(&case.service.rule)))
        }
        Some(_) | None => waiting(
            "proven",
            Some(primary),
            format!(
                "waiting for its first commit to be flushed on {}",
                quorum::describe(&case.service.rule)
            ),
        ),
    }
}

/// The newest answer of a name server, if it came after the step began.
fn asked<'a>(case: &'a Case<'_>, server: &NameServerId) -> Option<&'a NameServerAnswer> {
    let began = case.view.step_began(case.id).unwrap_or(Moment(0));
    case.view.name_servers.get(server).filter(|(at, _)| *at >= began).map(|(_, answer)| answer)
}

fn redirected(case: &Case<'_>) -> Opinion {
    let mut behind: Vec<Finding> = Vec::new();
    let mut absent: Vec<&str> = Vec::new();
    let mut current = 0_usize;
    let servers = &case.cluster.topology.dns.servers;
    for server in servers.keys() {
        match asked(case, server) {
            Some(NameServerAnswer::Serves { version, .. })
                if *version >= case.cluster.zone_version =>
            {
                current += 1;
            }
            Some(NameServerAnswer::Refused | NameServerAnswer::Silent) => {
                absent.push(server.as_str());
            }
            Some(NameServerAnswer::Serves { .. }) | None => behind.push(finding(
                "name-server",
                Severity::Info,
                None,
                format!("{server} does not serve zone {} yet", case.cluster.zone_version),
            )),
        }
    }
    // A server that is slow to be asked is not waited for longer than silence counts as loss.
    let patient = case.view.in_step(case.id, case.now) < case.timing.suspect_after;
    if (behind.is_empty() || !patient) && (current > 0 || servers.is_empty()) {
        let unreachable = if absent.is_empty() {
            String::new()
        } else {
            format!("; not reachable: {}", absent.join(", "))
        };
        return done(format!(
            "{current} of {} name servers serve zone {}{unreachable}",
            servers.len(),
            case.cluster.zone_version
        ));
    }
    Opinion::wait(behind)
}

fn verified(case: &Case<'_>, report: &Report) -> Opinion {
    let Some(primary) = &case.service.primary else { return Opinion::default() };
    let expected =
        case.service.spec.instances.get(primary).map(crate::topology::Instance::client_address);
    for server in case.cluster.topology.dns.servers.keys() {
        let Some(NameServerAnswer::Serves { writable, .. }) = asked(case, server) else { continue };
        let agrees = writable.iter().any(|(service, addresses)| {
            service == case.id && addresses.iter().copied().eq(expected)
        });
        if !agrees {
            return waiting("name-server", None, format!("{server} answers another address"));
        }
    }
    let began = case.view.in_step(case.id, case.now);
    let admits = matches!(report.server, Server::Writable { admits: true, .. });
    let since = report.proof.is_some_and(|proof| {
        proof.epoch == case.service.epoch && proof.age < began.max(Duration::from_millis(1))
    });
    if admits && (since || began >= case.timing.heartbeat * 2) {
        return done("every name server that answers agrees, clients are admitted, commits last");
    }
    waiting("verified", Some(primary), "waiting for a durable commit after the redirection")
}
