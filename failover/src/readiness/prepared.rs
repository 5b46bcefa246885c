//! No transaction was prepared and forgotten: it survives a failover, and goes on holding its
//! locks.

use super::Check;
use super::facts::{Facts, YET};
use super::finding::{Findings, Level};
use alloc::format;
use core::time::Duration;

pub(super) const CHECK: Check = Check {
    name: "prepared-transactions",
    about: "no prepared transaction waits for its end: it would go on holding locks",
    look,
};

/// A coordinator ends what it prepared within this time, or has forgotten it.
const FORGOTTEN: Duration = Duration::from_mins(1);

fn look(facts: &Facts<'_>, say: &mut Findings<'_>) {
    let Some(primary) = &facts.case.service.primary else { return };
    if facts.checks(primary, say).is_none() {
        return;
    }
    let Some(surveyed) = facts.surveyed(primary) else { return };
    let Some(prepared) = surveyed.survey.prepared else {
        say.unknown(primary, None, "prepared transactions are not counted yet", YET);
        return;
    };
    if prepared.count > 0 && prepared.oldest >= FORGOTTEN {
        let text = format!(
            "{} prepared, the oldest {} s ago and not ended",
            prepared.count,
            prepared.oldest.as_secs()
        );
        let remedy = "have its coordinator end it, or `rollback prepared`: see pg_prepared_xacts";
        say.say(Level::Warning, Some(primary), text, remedy);
    }
}
