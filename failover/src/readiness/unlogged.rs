//! No table is unlogged: it is not replicated, and empty after a failover (F-28).

use super::Check;
use super::facts::Facts;
use super::finding::{Findings, Level};
use crate::checks::ExposureKind;
use alloc::format;

pub(super) const CHECK: Check = Check {
    name: "unlogged-tables",
    about: "no table is unlogged: it would be empty after a failover",
    look,
};

fn look(facts: &Facts<'_>, say: &mut Findings<'_>) {
    let Some(primary) = &facts.case.service.primary else { return };
    let Some(checks) = facts.checks(primary, say) else { return };
    let Some(exposures) = &checks.exposures else { return };
    for exposure in exposures.named.iter().filter(|found| found.kind == ExposureKind::Unlogged) {
        let text = format!("table {}: {}", exposure.name, exposure.detail);
        let remedy = format!("`alter table {} set logged`", table(&exposure.name));
        say.say(Level::Blocks, Some(primary), text, remedy);
    }
}

/// The table without its database.
fn table(name: &str) -> &str {
    name.split_once('.').map_or(name, |(_, table)| table)
}
