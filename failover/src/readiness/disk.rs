//! Every instance has room for its log.

use super::Check;
use super::facts::{Facts, YET};
use super::finding::{Findings, Level};
use crate::fitness;
use crate::report::Severity;

pub(super) const CHECK: Check = Check {
    name: "disk-headroom",
    about: "every instance has room for as much log as its settings allow",
    look,
};

fn look(facts: &Facts<'_>, say: &mut Findings<'_>) {
    for id in facts.instances() {
        let Some(report) = facts.case.report(id) else { continue };
        if facts.checks(id, say).is_none() {
            continue;
        }
        if report.checks.wal_free.is_none() || report.checks.wal_need.is_none() {
            say.unknown(id, None, "the room for the log is not known yet", YET);
        }
        let concerns = fitness::concerns(report, None);
        for concern in concerns.iter().filter(|concern| concern.check == "wal-headroom") {
            let level = match concern.severity {
                Severity::Blocks => Level::Blocks,
                Severity::Warning | Severity::Info => Level::Warning,
            };
            let remedy = "free room where pg_wal lies, or lower max_wal_size and wal_keep_size";
            say.say(level, Some(id), concern.text.as_str(), remedy);
        }
    }
}
