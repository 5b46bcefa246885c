//! Commits in doubt: acknowledged, perhaps, by the primary alone (F-10, F-11, F-13, F-14).
//!
//! PostgreSQL calls a commit successful whose wait was cancelled, and one made while somebody had
//! overruled the rule. Nobody can take such an acknowledgement back, so it is bounded instead: the
//! agent says up to where such commits may stand, the range is in the log, and until W of the
//! rule's standbys are known to have flushed it, no instance below it becomes primary without a
//! person who names the range (I-12).
//!
//! What settles it: once W of the recorded N have flushed everything up to a position, every set
//! of N - W + 1 holds one of them, which is all that an ordinary acknowledgement means too.

use crate::apply::raise_floor;
use crate::cluster::{Doubt, Service};
use crate::decide::{Case, Finding, Opinion, finding};
use crate::event::{Event, ServiceChange};
use crate::ids::Lsn;
use crate::lost::{self, Loss};
use crate::position::Position;
use crate::quorum;
use crate::report::{Report, Server, Severity};
use crate::steady::can_seal;
use crate::time::Timestamp;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

impl Service {
    /// The range in which commits in doubt stand: behind the first, up to and with the second;
    /// and whether there may be more beyond.
    #[must_use]
    pub fn in_doubt(&self) -> Option<(Lsn, Lsn, bool)> {
        let from = self.doubts.iter().map(|doubt| doubt.from).min()?;
        let to = self.doubts.iter().map(|doubt| doubt.position.lsn).max()?;
        Some((from, to, self.doubts.iter().any(|doubt| doubt.open)))
    }

    /// What the log says of an epoch's commits in doubt once `new` has been told; `None`: nothing
    /// new. A position of another history, which no primary of one epoch can tell, leaves it open
    /// for a person to look at.
    pub(crate) fn in_doubt_after(&self, new: Doubt) -> Option<Doubt> {
        let settled = |floor: &Position| floor.contains(&new.position);
        let Some(known) = self.doubts.iter().find(|doubt| doubt.epoch == new.epoch) else {
            let over = self.is_forgone(new.position.lsn)
                || (!new.open && self.floor.as_ref().is_some_and(settled));
            return (!over).then_some(new);
        };
        // Before anything was flushed for sure, and with the server down, it was told without a
        // place: whatever is told later has one.
        let nowhere = known.position == Position::default();
        let forked = !nowhere && known.position.compare(&new.position).is_none();
        let mut wider = Doubt { open: new.open || forked, ..known.clone() };
        if nowhere || new.position.contains(&known.position) {
            wider.position = new.position;
        }
        (wider != *known).then_some(wider)
    }

    /// Whether W of the rule's holding everything up to a place ends a doubt.
    pub(crate) fn settles(&self, doubt: &Doubt, upto: &Position) -> bool {
        let ended = doubt.epoch < self.epoch;
        let nowhere = doubt.position == Position::default();
        (!doubt.open || ended) && (upto.contains(&doubt.position) || (ended && nowhere))
    }

    /// Whether a person gave up the commits of this epoch up to there.
    #[must_use]
    pub fn is_forgone(&self, lsn: Lsn) -> bool {
        self.forgone.is_some_and(|(epoch, to)| epoch == self.epoch && lsn <= to)
    }
}

/// What is to be recorded of commits in doubt, whatever else goes on: how old the primary's report
/// is does not matter, because what it tells has happened.
pub(crate) fn record(case: &Case<'_>) -> Option<Opinion> {
    let report = report(case)?;
    let service = case.service;
    if report.doubt.is_none() && !report.checks.exposed && service.doubts.is_empty() {
        return None;
    }
    let known = service.doubts.iter().find(|doubt| doubt.epoch == service.epoch);
    let settled =
        |position: &Position| service.floor.as_ref().is_some_and(|floor| floor.contains(position));
    let open = report.checks.exposed;
    // Nothing was acknowledged in an epoch before its marker is durable: what its primary tells
    // then without a place is what the open doubt of an earlier epoch bars already, and settles.
    let before = open && !is_marked(service, report);
    if before && known.is_none() && service.doubts.iter().any(|doubt| doubt.open) {
        return None;
    }
    let news = match (known, &report.doubt) {
        (Some(known), _) if open != known.open => true,
        (Some(known), Some(position)) => !open && !known.position.contains(position),
        (None, Some(position)) => open || !settled(position),
        (None, None) => open,
        (Some(_), None) => false,
    };
    let position = place(service, report);
    let told = Doubt { epoch: service.epoch, from: position.lsn, position, open, at: Timestamp(0) };
    if news && service.in_doubt_after(told.clone()).is_some() {
        return Some(tell(service, report, told.position));
    }
    settle(service, report)
}

/// The newest report of the primary, if it accepted the present epoch.
fn report<'a>(case: &'a Case<'_>) -> Option<&'a Report> {
    let primary = case.service.primary.as_ref()?;
    let report = &case.view.reports.get(primary)?.report;
    (report.pledge.granted == case.service.epoch).then_some(report)
}

/// Up to where commits may be in doubt, as far as the primary's report tells.
fn place(service: &Service, report: &Report) -> Position {
    let end = written(report).cloned();
    let doubt = report.doubt.clone();
    let known = if report.checks.exposed { end.or(doubt) } else { doubt.or(end) };
    known.or(service.floor.clone()).unwrap_or_default()
}

/// Whether the marker of the present epoch is durable.
fn is_marked(service: &Service, report: &Report) -> bool {
    report.proof.is_some_and(|proof| proof.epoch == service.epoch)
}

fn tell(service: &Service, report: &Report, position: Position) -> Opinion {
    let open = report.checks.exposed;
    let floor = service.floor.as_ref().map_or(Lsn(0), |floor| floor.lsn);
    let from = quorum::flushed(&service.rule, &report.streams).unwrap_or(floor);
    let from = from.max(floor).min(position.lsn);
    let cause = if open {
        format!("{} says so, and not yet up to where", report.instance)
    } else {
        format!("{} says so; no instance below it is promoted", report.instance)
    };
    Opinion::propose(ServiceChange::Doubted { position, from, open }, cause)
}

fn written(report: &Report) -> Option<&Position> {
    match &report.server {
        Server::Writable { position, .. } => Some(position),
        Server::Absent
        | Server::Refused(_)
        | Server::Down(_)
        | Server::Starting
        | Server::Recovery { .. } => None,
    }
}

fn settle(service: &Service, report: &Report) -> Option<Opinion> {
    let flushed = quorum::flushed(&service.rule, &report.streams)?;
    let end = written(report)?;
    let upto = Position { lsn: flushed.min(end.lsn), ..end.clone() };
    // An earlier epoch's doubt has ended with it, open or not: its primary took the next epoch
    // itself, and the marker of that stands behind everything it ever acknowledged.
    let earlier = service.doubts.iter().any(|doubt| doubt.epoch < service.epoch);
    if earlier && !is_marked(service, report) {
        return None;
    }
    let settles = service.doubts.iter().any(|doubt| service.settles(doubt, &upto));
    settles.then(|| {
        let rule = quorum::describe(&service.rule);
        Opinion::propose(ServiceChange::Settled { upto }, format!("flushed on {rule}"))
    })
}

/// Why a change of primary could lose commits in doubt, if so: none of those that could be
/// promoted is known to hold them.
pub(crate) fn bars(case: &Case<'_>) -> Option<Finding> {
    let service = case.service;
    let exposed = report(case).is_some_and(|report| {
        report.checks.exposed && !service.is_forgone(place(service, report).lsn)
    });
    let open = exposed || service.doubts.iter().any(|doubt| doubt.open);
    if service.doubts.is_empty() && !open {
        return None;
    }
    let held = !open && service.spec.instances.keys().any(|id| holds(case, id));
    (!held).then(|| {
        let range = range(service);
        finding(
            "doubt",
            Severity::Blocks,
            service.primary.as_ref(),
            format!(
                "commits at {range} may have been acknowledged and no other instance is known to \
                 hold them: the return of the primary keeps them; {}",
                remedy(case)
            ),
        )
    })
}

/// Whether an instance that could be sealed says that it holds every commit in doubt.
fn holds(case: &Case<'_>, id: &crate::ids::InstanceId) -> bool {
    let primary = case.service.primary.as_ref() == Some(id);
    let report = case.report(id);
    let position = report.and_then(|report| match &report.server {
        Server::Recovery { position, .. } => Some(position),
        Server::Absent
        | Server::Refused(_)
        | Server::Down(_)
        | Server::Starting
        | Server::Writable { .. } => None,
    });
    !primary
        && can_seal(case, id)
        && position
            .is_some_and(|at| case.service.doubts.iter().all(|doubt| at.contains(&doubt.position)))
}

/// The range in words, as `baton forgo` takes it.
fn range(service: &Service) -> String {
    service.in_doubt().map_or_else(
        || String::from("an unknown position"),
        |(from, to, open)| format!("{from}..{to}{}", if open { " and beyond" } else { "" }),
    )
}

fn remedy(case: &Case<'_>) -> String {
    case.service.in_doubt().map_or_else(String::new, |(from, to, _)| {
        format!("`baton forgo {} --range {from}..{to}` gives them up", case.id)
    })
}

/// For people, while commits are in doubt and the primary lives.
pub(crate) fn shown(case: &Case<'_>) -> Option<Finding> {
    let service = case.service;
    let exposed = report(case).is_some_and(|report| report.checks.exposed);
    (exposed || !service.doubts.is_empty()).then(|| {
        finding(
            "doubt",
            Severity::Warning,
            service.primary.as_ref(),
            format!(
                "commits at {} may have been acknowledged without {}; that ends by itself once \
                 the standbys have flushed them",
                range(service),
                quorum::describe(&service.rule)
            ),
        )
    })
}

/// A person gives commits in doubt up: only by their exact range, and only when the primary that
/// has them is lost.
pub(crate) fn forgo(
    case: &Case<'_>,
    (from, to): (Lsn, Lsn),
) -> Result<ServiceChange, Vec<Finding>> {
    let refuse = |text: String| Err(vec![finding("doubt", Severity::Blocks, None, text)]);
    let Some((known_from, known_to, _)) = case.service.in_doubt() else {
        return refuse(String::from("no commit is in doubt"));
    };
    if (known_from, known_to) != (from, to) {
        return refuse(format!(
            "in doubt is {known_from}..{known_to}, not {from}..{to}: name exactly what is given up"
        ));
    }
    if case.service.transition.is_none()
        && let Some(primary) = &case.service.primary
        && let Loss::No(mut findings) =
            lost::judge(case.service, primary, case.view, case.timing, case.now)
    {
        let text = "the primary is not lost: its standbys will have the commits by themselves";
        findings.insert(0, finding("doubt", Severity::Blocks, Some(primary), text));
        return Err(findings);
    }
    Ok(ServiceChange::Forgone { from, to })
}

/// One doubt an epoch: a later one widens it.
pub(crate) fn doubted(
    service: &mut Service,
    event: &Event,
    (position, from, open): (&Position, Lsn, bool),
) -> Option<String> {
    let new =
        Doubt { epoch: service.epoch, from, position: position.clone(), open, at: event.stamp.at };
    let text = format!("commits at {new} may have been acknowledged without the rule");
    let doubt = service.in_doubt_after(new)?;
    match service.doubts.iter_mut().find(|known| known.epoch == doubt.epoch) {
        Some(known) => *known = doubt,
        None => service.doubts.push(doubt),
    }
    Some(text)
}

/// W of the rule's are known to hold everything up to there.
pub(crate) fn settled(service: &mut Service, upto: &Position) -> Option<String> {
    let mut left = service.doubts.clone();
    left.retain(|doubt| !service.settles(doubt, upto));
    if left == service.doubts {
        return None;
    }
    service.doubts = left;
    raise_floor(service, Some(upto));
    Some(format!("no commit up to {upto} is in doubt any more"))
}

/// Only the very range that was named: one that has widened since is not given up unseen.
pub(crate) fn forgone(service: &mut Service, (from, to): (Lsn, Lsn)) -> Option<String> {
    let (known_from, known_to, _) = service.in_doubt()?;
    if (known_from, known_to) != (from, to) {
        return None;
    }
    service.doubts.clear();
    service.forgone = Some((service.epoch, to));
    Some(format!("commits at {from}..{to}, perhaps acknowledged, are given up"))
}
