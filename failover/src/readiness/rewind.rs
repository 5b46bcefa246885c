//! A former primary can be rewound, so that it is back in seconds and not after a whole copy
//! (F-30).

use super::Check;
use super::facts::{Facts, YET};
use super::finding::{Findings, Level};
use super::logins;
use crate::survey::Purpose;
use alloc::format;

pub(super) const CHECK: Check = Check {
    name: "rewind-ready",
    about: "a former primary could be rewound: hints or checksums, full pages, grants, logins",
    look,
};

fn look(facts: &Facts<'_>, say: &mut Findings<'_>) {
    for id in facts.instances() {
        let Some(checks) = facts.checks(id, say) else { continue };
        let Some(rewind) = checks.rewind else {
            say.unknown(id, None, "the prerequisites of a rewind are not looked at yet", YET);
            continue;
        };
        let lacks = [
            (rewind.hints, "wal_log_hints or data checksums", "set wal_log_hints = on"),
            (rewind.full_pages, "full_page_writes", "set full_page_writes = on"),
            (
                rewind.granted,
                "a grant on the functions of pg_rewind",
                "grant execute on pg_ls_dir, pg_stat_file and pg_read_binary_file to every role \
                 of `baton_instances`",
            ),
        ];
        for (_, what, remedy) in lacks.iter().filter(|(there, ..)| !there) {
            let text = format!("lacks {what}: no rewind, a failed primary is copied anew");
            say.say(Level::Warning, Some(id), text, *remedy);
        }
    }
    logins::each(facts, Purpose::Rewind, say, |say, from, to, failure| {
        let text = format!("{from} cannot log in for a rewind: {failure}");
        let remedy = "`hostssl postgres +baton_instances all cert` must stand in its pg_hba.conf";
        say.say(Level::Warning, Some(to), text, remedy);
    });
}
