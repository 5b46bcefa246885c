//! No page with a wrong checksum was read.

use super::Check;
use super::facts::Facts;
use super::finding::{Findings, Level};
use alloc::format;

pub(super) const CHECK: Check =
    Check { name: "checksums", about: "no page with a wrong checksum was read anywhere", look };

fn look(facts: &Facts<'_>, say: &mut Findings<'_>) {
    for id in facts.instances() {
        let Some(checks) = facts.checks(id, say) else { continue };
        if checks.checksum_failures > 0 {
            let text = format!("{} pages with a wrong checksum", checks.checksum_failures);
            let remedy = "distrust its disk; move the primary away if it is the primary, and copy \
                          it anew";
            say.say(Level::Warning, Some(id), text, remedy);
        }
    }
}
