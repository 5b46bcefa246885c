//! Is an instance fit to become primary, and does anything lower what is promised? Judged from
//! what agents measure at leisure ([`crate::checks`]), before it is needed.
//!
//! Positions come first: whoever lacks data is never promoted, however fit. Among instances that
//! hold the same, one without a concern is preferred; one that has no room for the log of its own
//! promotion is not promoted at all.

use crate::checks::{Checks, FloorSettings};
use crate::cluster::Service;
use crate::decide::{Case, Finding, finding};
use crate::ids::InstanceId;
use crate::position::Position;
use crate::report::{Report, Server, Severity};
use crate::time::Moment;
use crate::topology::Timing;
use crate::view::View;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// With less room than this, a promotion's own log does not fit: two segments of the usual size.
const NO_ROOM: u64 = 32 << 20;
/// Log received and not replayed that would hold a promotion up.
const BACKLOG: u64 = 64 << 20;
/// What a slot without a limit may hold back before people are told.
const HELD_BACK: u64 = 1 << 30;
const MIB: u64 = 1 << 20;

/// Whether nothing acknowledged can be lost with the primary's site.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "answer", content = "reasons")]
pub enum Promise {
    /// As far as can be known from outside a session: yes.
    Yes,
    /// No: why.
    No(Vec<String>),
    /// Something is not known: what.
    Unknown(Vec<String>),
    /// Nobody was asked.
    #[default]
    Unasked,
}

/// Whether zero loss can be promised for a service now (I-10, I-37).
#[must_use]
pub fn zero_loss(service: &Service, view: &View, timing: &Timing, now: Moment) -> Promise {
    let mut no = Vec::new();
    if service.rule.required == 0 || service.rule.enforce.required == 0 {
        no.push("commits do not wait for any standby".to_string());
    } else if !service.is_site_safe() {
        no.push("a commit may be acknowledged by the primary's own site alone".to_string());
    }
    if let Some((from, to, _)) = service.in_doubt() {
        no.push(format!("commits at {from}..{to} are in doubt"));
    }
    let primary = service.primary.as_ref();
    let report = primary.and_then(|id| view.fresh(id, timing.suspect_after, now));
    let Some(report) = report else {
        let unknown = Promise::Unknown(Vec::from(["the primary is not heard".to_string()]));
        return if no.is_empty() { unknown } else { Promise::No(no) };
    };
    if report.checks.exposed {
        no.push("the synchronous rule is overruled".to_string());
    }
    no.extend(lowered(&report.checks));
    if !no.is_empty() {
        return Promise::No(no);
    }
    let mut unknown = Vec::new();
    if report.enforced != Some(service.rule.generation) {
        unknown.push("PostgreSQL is not yet proven to enforce the rule".to_string());
    }
    if report.checks.exposures.is_none() {
        unknown.push("roles, databases and tables are not examined yet".to_string());
    }
    if unknown.is_empty() { Promise::Yes } else { Promise::Unknown(unknown) }
}

/// What lowers durability, one line each.
fn lowered(checks: &Checks) -> Vec<String> {
    let Some(exposures) = &checks.exposures else { return Vec::new() };
    let mut lines: Vec<String> = exposures
        .named
        .iter()
        .map(|exposure| format!("{} {}: {}", exposure.kind.name(), exposure.name, exposure.detail))
        .collect();
    if exposures.more > 0 {
        lines.push(format!("and {} more", exposures.more));
    }
    if !exposures.unseen.is_empty() {
        lines.push(format!("databases not looked into: {}", exposures.unseen.join(", ")));
    }
    lines
}

/// Everything that is to be told about the fitness of a service's instances.
pub(crate) fn findings(case: &Case<'_>, primary: &Report) -> Vec<Finding> {
    let mut findings: Vec<Finding> = lowered(&primary.checks)
        .into_iter()
        .map(|text| {
            let text = format!("commits may be acknowledged below the rule by {text}");
            finding("durability-floor", Severity::Warning, Some(&primary.instance), text)
        })
        .collect();
    for id in case.service.spec.instances.keys() {
        let report = case.report(id);
        if let Some(report) = report {
            findings.extend(concerns(report, Some(primary)));
        }
    }
    findings
}

/// What speaks against promoting an instance, or against what would come after; each with its
/// stable name.
#[must_use]
pub fn concerns(report: &Report, primary: Option<&Report>) -> Vec<Finding> {
    let checks = &report.checks;
    let mut found = Vec::new();
    let mut say = |check: &str, severity: Severity, text: String| {
        found.push(finding(check, severity, Some(&report.instance), text));
    };
    if let Some(free) = checks.wal_free {
        let need = checks.wal_need.unwrap_or(0);
        if has_no_room(checks) {
            let text = format!("{} MiB left for the log: it cannot be promoted", free / MIB);
            say("wal-headroom", Severity::Blocks, text);
        } else if free < need {
            let text = format!(
                "{} MiB left for the log, which may grow to {} MiB by its settings",
                free / MIB,
                need / MIB
            );
            say("wal-headroom", Severity::Warning, text);
        }
    }
    if let Some((name, own, theirs)) = lower_setting(checks, primary) {
        let text = format!(
            "{name} is {own}, the primary's is {theirs}: replay stops when the primary's takes \
             effect; set it at least as high"
        );
        say("hot-standby-settings", Severity::Warning, text);
    }
    if let Some(rewind) = checks.rewind {
        let lacks = [
            (rewind.hints, "wal_log_hints or data checksums"),
            (rewind.full_pages, "full_page_writes"),
            (rewind.granted, "a grant on the functions of pg_rewind"),
        ];
        for (_, what) in lacks.iter().filter(|(there, _)| !there) {
            let text = format!("lacks {what}: no rewind, a failed primary is copied anew");
            say("rewind-ready", Severity::Warning, text);
        }
    }
    for slot in &checks.slots {
        if slot.lost {
            let text = format!("slot {} has lost log that it needs", slot.name);
            say("slot-limit", Severity::Warning, text);
        } else if checks.slot_limit.is_none() && slot.holds > HELD_BACK {
            let text = format!(
                "slot {} holds {} MiB back and nothing limits it: set max_slot_wal_keep_size",
                slot.name,
                slot.holds / MIB
            );
            say("slot-limit", Severity::Warning, text);
        }
    }
    if checks.checksum_failures > 0 {
        let text = format!("{} pages with a wrong checksum", checks.checksum_failures);
        say("checksum-failures", Severity::Warning, text);
    }
    if let Server::Recovery { position, replayed, .. } = &report.server {
        let backlog = position.lsn.bytes_since(*replayed);
        if backlog > BACKLOG {
            let text = format!("{} MiB received and not replayed yet", backlog / MIB);
            say("replay-backlog", Severity::Warning, text);
        }
        if let Some(primary) = primary.filter(|primary| primary.instance != report.instance) {
            if report.system_identifier != primary.system_identifier {
                say("system-identifier", Severity::Warning, "is of another cluster".to_string());
            } else if let Some(text) = apart(position, primary) {
                say("timeline", Severity::Warning, text);
            }
        }
    }
    found
}

/// Its history is not a part of the primary's.
fn apart(position: &Position, primary: &Report) -> Option<String> {
    let Server::Writable { position: end, .. } = &primary.server else { return None };
    // Its report may be newer than the primary's: only the histories are compared.
    let behind = Position { lsn: position.lsn.min(end.lsn), ..position.clone() };
    end.compare(&behind).is_none().then(|| {
        format!("stands at {position}, which is not in the history of the primary at {end}")
    })
}

/// The first setting in which a standby has less than its primary.
pub(crate) fn lower_setting<'a>(
    checks: &Checks,
    primary: Option<&Report>,
) -> Option<(&'a str, u32, u32)> {
    let (own, theirs) = (checks.floor?, primary?.checks.floor?);
    let each = |floor: FloorSettings| {
        [
            ("max_connections", floor.max_connections),
            ("max_worker_processes", floor.max_worker_processes),
            ("max_wal_senders", floor.max_wal_senders),
            ("max_prepared_transactions", floor.max_prepared_transactions),
            ("max_locks_per_transaction", floor.max_locks_per_transaction),
        ]
    };
    each(own)
        .into_iter()
        .zip(each(theirs))
        .find(|((_, own), (_, theirs))| own < theirs)
        .map(|((name, own), (_, theirs))| (name, own, theirs))
}

/// A promotion writes log of its own, and a server that cannot write log stops.
#[must_use]
pub fn has_no_room(checks: &Checks) -> bool {
    checks.wal_free.is_some_and(|free| free < NO_ROOM)
}

/// The names of the concerns that put a candidate behind one that holds the same without them.
pub(crate) fn against(case: &Case<'_>, id: &InstanceId) -> Vec<String> {
    let newest = |id: &InstanceId| case.view.reports.get(id).map(|heard| &heard.report);
    let primary = case.service.primary.as_ref().and_then(newest);
    let Some(report) = newest(id) else { return Vec::new() };
    // Histories are compared by the choice itself, from sealed positions.
    let mut names: Vec<String> = concerns(report, primary)
        .into_iter()
        .map(|concern| concern.check)
        .filter(|check| check != "timeline")
        .collect();
    names.dedup();
    names
}
