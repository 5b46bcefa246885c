//! No replication slot has lost its log, and none fills the disk.

use super::Check;
use super::facts::Facts;
use super::finding::{Findings, Level};
use crate::fitness;

pub(super) const CHECK: Check = Check {
    name: "slots",
    about: "no replication slot has lost its log, or holds it back without a limit",
    look,
};

fn look(facts: &Facts<'_>, say: &mut Findings<'_>) {
    for id in facts.instances() {
        if facts.checks(id, say).is_none() {
            continue;
        }
        let Some(report) = facts.case.report(id) else { continue };
        let concerns = fitness::concerns(report, None);
        for concern in concerns.iter().filter(|concern| concern.check == "slot-limit") {
            let remedy = "drop the slot if nobody reads it (`pg_drop_replication_slot`), and set \
                          max_slot_wal_keep_size";
            say.say(Level::Warning, Some(id), concern.text.as_str(), remedy);
        }
    }
}
