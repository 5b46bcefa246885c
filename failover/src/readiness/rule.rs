//! The synchronous rule keeps every acknowledged commit outside the primary's site, and PostgreSQL
//! is proven to enforce it.

use super::Check;
use super::facts::Facts;
use super::finding::{Findings, Level};
use alloc::format;

pub(super) const CHECK: Check = Check {
    name: "synchronous-rule",
    about: "every acknowledged commit is at another site, and PostgreSQL is proven to wait for it",
    look,
};

fn look(facts: &Facts<'_>, say: &mut Findings<'_>) {
    let service = facts.case.service;
    let Some(primary) = &service.primary else { return };
    if service.rule.required == 0 || service.rule.enforce.required == 0 {
        let text = "commits do not wait for any standby";
        say.say(Level::Blocks, Some(primary), text, "bring a standby back: `baton status`");
    } else if !service.is_site_safe() {
        let text = "a commit may be acknowledged by the primary's own site alone";
        let remedy = "bring a standby of another site back: `baton status`";
        say.say(Level::Blocks, Some(primary), text, remedy);
    }
    if let Some((from, to, _)) = service.in_doubt() {
        let text = format!("commits at {from}..{to} are in doubt");
        let remedy = "bring a standby back while the primary lives: its flush settles them";
        say.say(Level::Blocks, Some(primary), text, remedy);
    }
    let Some(report) = facts.case.primary_report() else { return };
    if report.enforced != Some(service.rule.generation) {
        let text = "PostgreSQL is not yet proven to enforce the newest rule";
        let remedy = "wait a moment; `baton explain` says what it waits for";
        say.unknown(primary, None, text, remedy);
    }
    for id in service.rule.enforce.instances.iter().filter(|id| !facts.is_primary(id)) {
        let streams = |of: &crate::report::Stream| of.instance == *id && of.streaming;
        if !report.streams.iter().any(streams) {
            let text = "is in the rule and does not stream from the primary";
            let remedy = "see its agent's notes in `baton status`";
            say.say(Level::Warning, Some(id), text, remedy);
        }
    }
}
