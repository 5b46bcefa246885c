//! Every instance may stream from every other: from the new primary, and back (F-29).

use super::Check;
use super::facts::{Facts, STALE, YET};
use super::finding::{Findings, Level};
use crate::ids::InstanceId;
use crate::survey::{Login, Purpose};
use alloc::format;
use core::time::Duration;

pub(super) const CHECK: Check = Check {
    name: "replication-login",
    about: "every instance can log in at every other for replication, in both directions",
    look,
};

const REMEDY: &str = "check the network between the two, the role `baton-INSTANCE`, and that both \
                      certificates are of the cluster's authority";

fn look(facts: &Facts<'_>, say: &mut Findings<'_>) {
    each(facts, Purpose::Replication, say, |say, from, to, failure| {
        // Who survives the loss of the primary must be able to follow whoever takes over.
        let level = if facts.is_primary(from) || facts.is_primary(to) {
            Level::Warning
        } else {
            Level::Blocks
        };
        let text = format!("{from} cannot log in for replication: {failure}");
        say.say(level, Some(to), text, REMEDY);
    });
}

/// Calls `failed` for each login for a purpose that failed, from whom and at whom; says which are
/// not known.
pub(super) fn each(
    facts: &Facts<'_>,
    purpose: Purpose,
    say: &mut Findings<'_>,
    failed: impl Fn(&mut Findings<'_>, &InstanceId, &InstanceId, &str),
) {
    for from in facts.instances().filter(|from| facts.case.report(from).is_some()) {
        for to in facts.instances().filter(|to| *to != from && facts.case.report(to).is_some()) {
            match known(facts, from, to, purpose) {
                None => {
                    let text = format!("{from} has not tried to log in yet");
                    say.unknown(to, None, text, YET);
                }
                Some((_, age, false)) => {
                    let text = format!("{from} did not try to log in again");
                    say.unknown(to, Some(age), text, STALE);
                }
                Some((login, _, true)) => {
                    if let Some(failure) = &login.failure {
                        failed(say, from, to, failure);
                    }
                }
            }
        }
    }
}

/// The login, how old it is, and whether it still counts.
fn known<'a>(
    facts: &Facts<'a>,
    from: &InstanceId,
    to: &InstanceId,
    purpose: Purpose,
) -> Option<(&'a Login, Duration, bool)> {
    let surveyed = facts.surveyed(from)?;
    let tried = |login: &&Login| login.to == *to && login.purpose == purpose;
    let login = surveyed.survey.logins.iter().find(tried)?;
    let age = facts.age(surveyed, login.age);
    Some((login, age, Facts::is_fresh(&surveyed.survey, age)))
}
