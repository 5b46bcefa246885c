//! Every machine has the programs of the extensions that the data needs.

use super::Check;
use super::facts::Facts;
use super::finding::{Findings, Level};
use crate::survey::Software;
use alloc::format;
use alloc::vec::Vec;

pub(super) const CHECK: Check = Check {
    name: "extensions",
    about: "every machine has the files of every installed extension, in one version",
    look,
};

fn look(facts: &Facts<'_>, say: &mut Findings<'_>) {
    let primary = facts.case.service.primary.as_ref();
    let theirs = primary.and_then(|id| facts.software(id, say));
    for id in facts.instances() {
        let own = if facts.is_primary(id) { theirs } else { facts.software(id, say) };
        let Some(own) = own else { continue };
        for extension in &own.extensions {
            let there = theirs.and_then(|theirs| version(theirs, &extension.name));
            match (&extension.available, there) {
                (None, _) => {
                    let text = format!(
                        "has no files of extension {} {}, which a database has",
                        extension.name, extension.installed
                    );
                    let remedy = "install the extension's package on that machine";
                    say.say(Level::Blocks, Some(id), text, remedy);
                }
                (Some(own), Some(there)) if own != there => {
                    let text = format!(
                        "has version {own} of extension {}, the primary's machine {there}",
                        extension.name
                    );
                    let remedy = "install the same version of its package on every machine";
                    say.say(Level::Warning, Some(id), text, remedy);
                }
                (Some(_), _) => {}
            }
        }
        for library in theirs.map(preloads).unwrap_or_default() {
            if !preloads(own).contains(&library) {
                let text = format!("does not preload {library}, the primary does");
                let remedy = "set the same shared_preload_libraries in every agent.toml";
                say.say(Level::Warning, Some(id), text, remedy);
            }
        }
        if !own.unseen.is_empty() {
            let text = format!("databases not looked into: {}", own.unseen.join(", "));
            let remedy = "let `postgres` connect to them over the agent's socket";
            say.unknown(id, None, text, remedy);
        }
    }
}

fn version<'a>(of: &'a Software, name: &str) -> Option<&'a str> {
    of.extensions.iter().find(|found| found.name == name)?.available.as_deref()
}

fn preloads(of: &Software) -> Vec<&str> {
    of.preloads.split(',').map(str::trim).filter(|name| !name.is_empty()).collect()
}
