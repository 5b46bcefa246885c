//! No session starts below the durability floor, as far as that can be seen from outside it (I-10).

use super::Check;
use super::facts::{Facts, YET};
use super::finding::{Findings, Level};
use crate::checks::ExposureKind;
use alloc::format;

pub(super) const CHECK: Check = Check {
    name: "durability-floor",
    about: "no setting makes sessions acknowledge commits before the standbys have them",
    look,
};

fn look(facts: &Facts<'_>, say: &mut Findings<'_>) {
    let Some(primary) = &facts.case.service.primary else { return };
    let Some(report) = facts.case.primary_report() else { return };
    if report.checks.exposed {
        let text = "the synchronous rule is overruled by somebody";
        let remedy = "find who sets synchronous_standby_names or synchronous_commit: the agent's \
                      log has the time";
        say.say(Level::Blocks, Some(primary), text, remedy);
    }
    let Some(checks) = facts.checks(primary, say) else { return };
    let Some(exposures) = &checks.exposures else {
        let text = "roles, databases and functions are not examined yet";
        say.unknown(primary, None, text, YET);
        return;
    };
    for exposure in exposures.named.iter().filter(|found| found.kind != ExposureKind::Unlogged) {
        let text = format!(
            "commits may be acknowledged below the rule by {} {}: {}",
            exposure.kind.name(),
            exposure.name,
            exposure.detail
        );
        say.say(Level::Blocks, Some(primary), text, remedy(exposure.kind));
    }
    if exposures.more > 0 {
        let text = format!("and {} more", exposures.more);
        say.say(Level::Blocks, Some(primary), text, "remove those that are named: more are told");
    }
    if !exposures.unseen.is_empty() {
        let text = format!("databases not looked into: {}", exposures.unseen.join(", "));
        let remedy = "let `postgres` connect to them over the agent's socket";
        say.unknown(primary, None, text, remedy);
    }
}

const fn remedy(kind: ExposureKind) -> &'static str {
    match kind {
        ExposureKind::Server => "remove the setting from the server's files",
        ExposureKind::RoleOrDatabase => "`alter role … reset`, `alter database … reset`",
        ExposureKind::Function => "`alter function … reset`",
        ExposureKind::Unlogged => "`alter table … set logged`",
    }
}
