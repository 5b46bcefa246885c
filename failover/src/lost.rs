//! Is the primary lost? Positive evidence acts at once; silence must be waited out, and a live
//! stream is proof of life.

use crate::cluster::Service;
use crate::decide::{Finding, finding};
use crate::hang;
use crate::ids::{InstanceId, SiteId};
use crate::quorum;
use crate::report::{Down, Port, Report, Server, Severity};
use crate::time::{Moment, millis};
use crate::topology::Timing;
use crate::view::View;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

/// What the evidence says of a primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Nothing is wrong, or not enough: the findings say what is looked at.
    No(Vec<Finding>),
    /// It is lost, and why.
    Yes(String),
    /// It is silent, and so were too many of those that would know whether it lives: people may
    /// take it for lost, the law does not yet.
    Unwitnessed(String),
}

/// Judges the primary of a service.
#[must_use]
pub fn judge(
    service: &Service,
    primary: &InstanceId,
    view: &View,
    timing: &Timing,
    now: Moment,
) -> Loss {
    if let Some(report) = view.fresh(primary, timing.fence_after, now)
        && let Some(cause) = confessed(service, report, timing)
    {
        return Loss::Yes(cause);
    }
    let refused = refused_from(service, primary, view, timing, now);
    if refused.len() >= 2 {
        let sites: Vec<&str> = refused.iter().map(SiteId::as_str).collect();
        return Loss::Yes(format!(
            "{primary}: the ports of agent and PostgreSQL refuse, seen from {}",
            sites.join(" and ")
        ));
    }
    silent(service, primary, view, timing, now)
}

/// Whether the former primary is known to answer no reader any more: its agent says that nothing
/// of it runs, its ports refuse, or every proof it may still hold has run out (layer 3). Writes
/// are safe without this; readers are not.
#[must_use]
pub fn serves_nobody(
    service: &Service,
    former: &InstanceId,
    view: &View,
    timing: &Timing,
    now: Moment,
) -> bool {
    let down = view.fresh(former, timing.fence_after, now).is_some_and(|report| {
        matches!(report.server, Server::Down(_) | Server::Absent | Server::Refused(_))
    });
    let sign = last_sign(former, view, now).min(witnessed(service, former, view, timing, now));
    let run_out = view.silence(former, now).min(sign) >= timing.suspect_after;
    down || run_out || refused_from(service, former, view, timing, now).len() >= 2
}

/// What the primary's own agent says against it.
fn confessed(service: &Service, report: &Report, timing: &Timing) -> Option<String> {
    let primary = &report.instance;
    // Before it accepted its epoch it is a candidate on its way, and its server may well be down.
    let accepted = report.pledge.granted == service.epoch;
    let hangs = report.checks.hangs;
    if accepted && hangs >= hang::patience(timing) {
        let hangs = millis(hangs);
        return Some(format!(
            "{primary}: PostgreSQL has not answered, or its disk has not taken a commit, for \
             {hangs} ms, says its agent"
        ));
    }
    match &report.server {
        Server::Down(Down::Crashed) if accepted => {
            Some(format!("{primary}: PostgreSQL died, says its agent"))
        }
        // With no transition open it had accepted: one that never heard of its epoch is an empty
        // machine in its place.
        Server::Absent if accepted || service.transition.is_none() => {
            Some(format!("{primary}: its data directory is gone"))
        }
        Server::Refused(why) if accepted => {
            Some(format!("{primary}: its data directory cannot be used: {why}"))
        }
        Server::Absent
        | Server::Refused(_)
        | Server::Down(_)
        | Server::Starting
        | Server::Recovery { .. }
        | Server::Writable { .. } => None,
    }
}

/// The sites, other than the primary's own, from which both ports were seen to refuse after the
/// primary was last heard.
fn refused_from(
    service: &Service,
    primary: &InstanceId,
    view: &View,
    timing: &Timing,
    now: Moment,
) -> BTreeSet<SiteId> {
    let home = service.site_of(primary);
    let heard = view.reports.get(primary).map_or(Moment(0), |heard| heard.at);
    let limit = (timing.heartbeat * 2).max(Duration::from_secs(1));
    view.knocks
        .iter()
        .filter(|((target, from), (at, knock))| {
            *at > heard
                && now.since(*at) < limit
                && knock.agent == Port::Refused
                && knock.postgres == Port::Refused
                && target == primary
                && Some(from) != home
        })
        .map(|((_, from), _)| from.clone())
        .collect()
}

fn silent(
    service: &Service,
    primary: &InstanceId,
    view: &View,
    timing: &Timing,
    now: Moment,
) -> Loss {
    let silence = view.silence(primary, now);
    if silence < timing.suspect_after {
        let severity =
            if silence > timing.heartbeat * 3 { Severity::Warning } else { Severity::Info };
        let heard = finding(
            "primary-heard",
            severity,
            Some(primary),
            format!(
                "heard {} ms ago; silence counts as loss after {} ms",
                millis(silence),
                millis(timing.suspect_after)
            ),
        );
        return Loss::No(hanging(primary, view, timing).into_iter().chain([heard]).collect());
    }
    // A stream that lives, or lived a moment ago, is proof of life: while the primary's commits
    // were acknowledged it may serve readers, and does so for up to `fence_after` longer.
    let sign = last_sign(primary, view, now);
    if sign < timing.suspect_after {
        let streams = streams_from(service, primary, view);
        return Loss::No(vec![finding(
            "primary-streams",
            Severity::Blocks,
            Some(primary),
            format!(
                "not heard for {} ms, but {} received from it {} ms ago: its agent or the way to \
                 it is lost, the database lives; `baton switchover` moves it in order",
                millis(silence),
                streams.unwrap_or("a standby"),
                millis(sign)
            ),
        )]);
    }
    let cause = format!(
        "{primary}: silent for {} ms, and no standby has received from it for {} ms",
        millis(silence),
        millis(sign)
    );
    if witnessed(service, primary, view, timing, now) >= timing.suspect_after {
        Loss::Yes(cause)
    } else {
        Loss::Unwitnessed(cause)
    }
}

/// How long ago any standby received from a primary, by what standbys told.
fn last_sign(primary: &InstanceId, view: &View, now: Moment) -> Duration {
    now.since(view.signs.get(primary).copied().unwrap_or(view.since))
}

/// For how long enough of the rule's instances would know of a sign of life: as many as must be
/// sealed. If none of them received, no commit of the primary was acknowledged.
fn witnessed(
    service: &Service,
    primary: &InstanceId,
    view: &View,
    timing: &Timing,
    now: Moment,
) -> Duration {
    // A single copy's commits wait for nobody: no standby could tell that it serves.
    let Some(needed) = quorum::needed(&service.rule) else { return Duration::MAX };
    let mut known: Vec<Duration> = (service.rule.instances.iter())
        .map(|witness| vouches(witness, primary, view, timing, now))
        .collect();
    known.sort_unstable_by(|a, b| b.cmp(a));
    known.get(needed - 1).copied().unwrap_or_default()
}

/// For how long an instance knows that nothing came from a primary. It knows what its agent saw
/// at the newest look that PostgreSQL answered: while that stands still, the agent goes on
/// reporting what it last saw, and a stream of which nothing was seen may live.
pub(crate) fn vouches(
    witness: &InstanceId,
    primary: &InstanceId,
    view: &View,
    timing: &Timing,
    now: Moment,
) -> Duration {
    let Some(heard) = view.heard(witness, timing.gap(), now) else { return Duration::ZERO };
    let Some(looked) = heard.report.looked else { return Duration::ZERO };
    let silence = now.since(heard.at);
    // Whoever holds a stream that has not ended knows for how long nothing came over it, though
    // nobody heard him meanwhile.
    let receiver = heard.report.receiver.as_ref();
    let receiver = receiver.filter(|it| it.streaming && it.upstream == *primary);
    let attached = receiver.map_or(Duration::ZERO, |receiver| receiver.age + silence);
    let told = now.since(heard.steadily).max(attached);
    let unseen = silence.saturating_add(looked).saturating_sub(timing.gap());
    told.min(last_sign(primary, view, now)).saturating_sub(unseen)
}

/// It hangs, and not for long enough yet.
fn hanging(primary: &InstanceId, view: &View, timing: &Timing) -> Option<Finding> {
    let hangs = view.reports.get(primary)?.report.checks.hangs;
    (hangs > timing.heartbeat * 3).then(|| {
        finding(
            "primary-hangs",
            Severity::Warning,
            Some(primary),
            format!(
                "has not answered, or its disk has not taken a commit, for {} ms; that counts as \
                 loss after {} ms",
                millis(hangs),
                millis(hang::patience(timing))
            ),
        )
    })
}

fn streams_from<'a>(service: &'a Service, primary: &InstanceId, view: &View) -> Option<&'a str> {
    service
        .spec
        .instances
        .keys()
        .find(|standby| {
            view.reports
                .get(*standby)
                .and_then(|heard| heard.report.receiver.as_ref())
                .is_some_and(|receiver| receiver.streaming && receiver.upstream == *primary)
        })
        .map(InstanceId::as_str)
}
