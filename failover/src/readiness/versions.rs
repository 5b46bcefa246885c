//! All instances run the same PostgreSQL.

use super::Check;
use super::facts::Facts;
use super::finding::{Findings, Level};
use alloc::format;

pub(super) const CHECK: Check = Check {
    name: "versions",
    about: "every instance runs the primary's version of PostgreSQL",
    look,
};

fn look(facts: &Facts<'_>, say: &mut Findings<'_>) {
    let Some(primary) = facts.case.primary_report() else { return };
    for id in facts.instances() {
        let Some(report) = facts.case.report(id) else { continue };
        if report.version == primary.version {
            continue;
        }
        let same_major = major(&report.version) == major(&primary.version);
        let level = if same_major { Level::Warning } else { Level::Blocks };
        let text = format!("runs {}, the primary {}", report.version, primary.version);
        say.say(level, Some(id), text, "upgrade PostgreSQL there, standbys first");
    }
}

fn major(version: &str) -> Option<&str> {
    version.split('.').next()
}
