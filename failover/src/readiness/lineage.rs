//! Every standby is of this cluster, and its history is a part of the primary's.

use super::Check;
use super::facts::Facts;
use super::finding::{Findings, Level};
use crate::fitness;

pub(super) const CHECK: Check = Check {
    name: "lineage",
    about: "every copy is of this cluster and of the primary's history",
    look,
};

fn look(facts: &Facts<'_>, say: &mut Findings<'_>) {
    let primary = facts.case.primary_report();
    for id in facts.instances() {
        let Some(report) = facts.case.report(id) else { continue };
        let concerns = fitness::concerns(report, primary);
        for concern in concerns.iter().filter(|c| is_ours(&c.check)) {
            let remedy = "it returns by itself once the primary is there; if it does not, see its \
                          agent's notes in `baton status`";
            say.say(Level::Blocks, Some(id), concern.text.as_str(), remedy);
        }
    }
}

fn is_ours(check: &str) -> bool {
    matches!(check, "timeline" | "system-identifier")
}
