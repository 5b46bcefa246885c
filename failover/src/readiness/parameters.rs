//! No standby has less of what hot standby needs than its primary (F-27).

use super::Check;
use super::facts::{Facts, YET};
use super::finding::{Findings, Level};
use crate::fitness;
use alloc::format;

pub(super) const CHECK: Check = Check {
    name: "parameters",
    about: "no standby has lower limits than its primary: its replay would stop",
    look,
};

fn look(facts: &Facts<'_>, say: &mut Findings<'_>) {
    let primary = facts.case.primary_report();
    let known = facts.case.service.primary.as_ref().and_then(|id| facts.checks(id, say));
    for id in facts.instances().filter(|id| !facts.is_primary(id)) {
        let Some(checks) = facts.checks(id, say) else { continue };
        if checks.floor.is_none() {
            say.unknown(id, None, "its settings are not read yet", YET);
        }
        if known.is_none() {
            continue;
        }
        if let Some((name, own, theirs)) = fitness::lower_setting(checks, primary) {
            let text = format!("{name} is {own}, the primary's is {theirs}: its replay stops");
            let remedy = format!(
                "set {name} = {theirs} or more under [postgres.settings] of its agent.toml, and \
                 start it anew"
            );
            say.say(Level::Blocks, Some(id), text, remedy);
        }
    }
}
