//! No certificate expires soon.

use super::Check;
use super::facts::{Facts, YET};
use super::finding::{Findings, Level};
use crate::ids::InstanceId;
use alloc::format;
use alloc::string::ToString;
use core::time::Duration;

pub(super) const CHECK: Check = Check {
    name: "certificates",
    about: "every agent's, voter's and name server's certificate is good for more than 30 days",
    look,
};

const DAY: i64 = 86_400;
const SOON: i64 = 30 * DAY;
/// What a certificate's holder says of it is good for this long: it can only come nearer its end.
const TOLD: Duration = Duration::from_mins(10);
const REMEDY: &str = "make a new one: docs/operating.md, A certificate expires";

fn look(facts: &Facts<'_>, say: &mut Findings<'_>) {
    for id in facts.instances().filter(|id| facts.case.report(id).is_some()) {
        let Some(surveyed) = facts.surveyed(id) else {
            say.unknown(id, None, "its certificate is not told yet", YET);
            continue;
        };
        let passed = facts.case.now.since(surveyed.at);
        match surveyed.survey.certificate_seconds {
            None => say.unknown(id, None, "its certificate is not told", YET),
            Some(left) => judge(say, Some(id), "its", left, passed),
        }
    }
    for (voter, _) in facts.voters.seats.iter().filter(|(_, (_, heard))| *heard) {
        let name = facts.case.cluster.voters.get(voter);
        let name = name.map_or_else(|| format!("voter {voter}"), |v| format!("voter {}", v.name));
        match facts.case.view.voters.get(voter) {
            Some((at, said)) if facts.case.now.since(*at) < TOLD => {
                let passed = facts.case.now.since(*at);
                judge(say, None, &format!("{name}'s"), said.certificate_seconds, passed);
            }
            Some(_) | None => {
                let text = format!("{name}'s certificate is not told");
                say.say(Level::Unknown, None, text, YET);
            }
        }
    }
    for server in facts.case.cluster.topology.dns.servers.keys() {
        match facts.case.view.presented.get(server) {
            Some((at, left)) if facts.case.now.since(*at) < TOLD => {
                let whose = format!("name server {server}'s");
                judge(say, None, &whose, *left, facts.case.now.since(*at));
            }
            Some(_) | None => {
                let text = format!("name server {server}'s certificate was not seen");
                let remedy = "see that it reaches a voter: `baton dns check`";
                say.say(Level::Unknown, None, text, remedy);
            }
        }
    }
}

fn judge(
    say: &mut Findings<'_>,
    id: Option<&InstanceId>,
    whose: &str,
    left: i64,
    passed: Duration,
) {
    let left = left.saturating_sub(i64::try_from(passed.as_secs()).unwrap_or(i64::MAX));
    if left <= 0 {
        let text = format!("{whose} certificate has expired");
        say.say(Level::Blocks, id, text, REMEDY);
    } else if left < SOON {
        let days = (left / DAY).to_string();
        say.say(Level::Warning, id, format!("{whose} certificate has {days} days left"), REMEDY);
    }
}
