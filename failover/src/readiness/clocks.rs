//! All clocks agree. They decide nothing (I-23); but logs, reports and certificates are read by
//! them.

use super::Check;
use super::facts::{Facts, YET};
use super::finding::{Findings, Level};
use alloc::format;

pub(super) const CHECK: Check = Check {
    name: "clocks",
    about: "every clock is within a second of the leader's: reports and logs are read by them",
    look,
};

/// What a clock may be apart from the leader's, the way of its word included, in milliseconds.
const APART: i64 = 1_000;

fn look(facts: &Facts<'_>, say: &mut Findings<'_>) {
    for id in facts.instances().filter(|id| facts.case.report(id).is_some()) {
        match facts.surveyed(id).and_then(|surveyed| surveyed.behind_ms) {
            None => say.unknown(id, None, "its clock is not compared yet", YET),
            Some(behind) if behind.saturating_abs() > APART => {
                say.say(Level::Warning, Some(id), apart("its clock", behind), REMEDY);
            }
            Some(_) => {}
        }
    }
    for voter in facts.voters.seats.keys() {
        let said = facts.case.view.voters.get(voter).and_then(|(_, said)| said.behind_ms);
        let Some(behind) = said.filter(|behind| behind.saturating_abs() > APART) else { continue };
        let name = facts.case.cluster.voters.get(voter).map_or("", |voter| voter.name.as_str());
        let text = apart(&format!("the clock of voter {name}"), behind);
        say.say(Level::Warning, None, text, REMEDY);
    }
}

const REMEDY: &str = "see that its machine's time is synchronised: `chronyc tracking`";

fn apart(whose: &str, behind: i64) -> alloc::string::String {
    let direction = if behind > 0 { "behind" } else { "ahead of" };
    format!("{whose} is {} ms {direction} the leader's", behind.saturating_abs())
}
