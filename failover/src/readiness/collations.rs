//! Every machine sorts as the one on which the indexes were made.

use super::Check;
use super::facts::Facts;
use super::finding::{Findings, Level};
use alloc::format;

pub(super) const CHECK: Check = Check {
    name: "collations",
    about: "every machine sorts text as the indexes were made: same version of each collation",
    look,
};

fn look(facts: &Facts<'_>, say: &mut Findings<'_>) {
    for id in facts.instances() {
        let Some(software) = facts.software(id, say) else { continue };
        for collation in &software.collations {
            let text = format!(
                "{} was sorted by version {}, this machine has {}: its indexes may miss rows",
                collation.name, collation.recorded, collation.actual
            );
            let remedy = "bring its libc or ICU to the version of the others; or, once all have \
                          the new one, reindex on the primary and refresh the collation's version";
            say.say(Level::Blocks, Some(id), text, remedy);
        }
    }
}
