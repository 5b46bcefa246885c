//! No standby has much to replay before it could be promoted.

use super::Check;
use super::facts::Facts;
use super::finding::{Findings, Level};
use crate::fitness;

pub(super) const CHECK: Check =
    Check { name: "replay", about: "every standby replays, and has little left to replay", look };

fn look(facts: &Facts<'_>, say: &mut Findings<'_>) {
    for id in facts.instances().filter(|id| !facts.is_primary(id)) {
        let Some(report) = facts.case.report(id) else { continue };
        if facts.surveyed(id).is_some_and(|surveyed| surveyed.survey.paused) {
            let text = "its replay was paused by somebody: it goes on only once it is sealed";
            say.say(Level::Warning, Some(id), text, "`select pg_wal_replay_resume()` there");
        }
        let concerns = fitness::concerns(report, None);
        for concern in concerns.iter().filter(|concern| concern.check == "replay-backlog") {
            let remedy = "look for what holds its replay up: long queries of readers, a slow disk";
            say.say(Level::Warning, Some(id), concern.text.as_str(), remedy);
        }
    }
}
