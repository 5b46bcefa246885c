//! Every name server gives the same answer, and one is left without each site.

use super::Check;
use super::facts::Facts;
use super::finding::{Findings, Level};
use crate::ids::NameServerId;
use crate::report::NameServerAnswer;
use crate::zone::{Data, zone};
use alloc::format;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;

pub(super) const CHECK: Check = Check {
    name: "dns-agreement",
    about: "every name server gives the primary's address, and one is left without any one site",
    look,
};

/// A leader asks every five seconds.
const ASKED: Duration = Duration::from_secs(30);
const REMEDY: &str = "`baton dns check` asks each; its log says whom it cannot follow";

fn look(facts: &Facts<'_>, say: &mut Findings<'_>) {
    let servers = &facts.case.cluster.topology.dns.servers;
    if servers.is_empty() {
        let text = "no name server is declared: nobody would tell clients of a new primary";
        say.say(Level::Blocks, None, text, "declare `name_server` of each site");
    }
    let known: Vec<(&NameServerId, Option<bool>)> =
        servers.keys().map(|server| (server, answers(facts, server, say))).collect();
    for site in facts.case.cluster.topology.sites.keys().filter(|_| !servers.is_empty()) {
        let away = |id: &NameServerId| servers.get(id).is_some_and(|s| s.site != *site);
        let left = || known.iter().filter(|(id, _)| away(id)).map(|(_, answers)| *answers);
        if left().any(|answers| answers == Some(true)) {
            continue;
        }
        if left().any(|answers| answers.is_none()) {
            let text = format!("without {site}: whether a name server is left is not known");
            say.of_site(site, Level::Unknown, text, REMEDY);
        } else {
            let text = format!("without {site} no name server is left that answers rightly");
            say.of_site(site, Level::Blocks, text, "run name servers at two sites or more");
        }
    }
}

/// Whether it answers as it should; what it does otherwise is said. `None`: not known.
fn answers(facts: &Facts<'_>, server: &NameServerId, say: &mut Findings<'_>) -> Option<bool> {
    let Some((at, answer)) = facts.case.view.name_servers.get(server) else {
        let text = format!("{server} has not been asked yet");
        say.say(Level::Unknown, None, text, "wait a few seconds");
        return None;
    };
    let age = facts.case.now.since(*at);
    if age > ASKED {
        let text = format!("{server} was asked {} s ago and not since", age.as_secs());
        say.say(Level::Unknown, None, text, REMEDY);
        return None;
    }
    match answer {
        NameServerAnswer::Serves { writable, .. } => {
            let of = writable.iter().find(|(service, _)| service == facts.case.id);
            let given = of.map(|(_, addresses)| addresses.as_slice()).unwrap_or_default();
            let right = addresses(facts);
            if given.is_empty() || given.iter().any(|one| !right.contains(one)) {
                let text = format!("{server} gives {given:?} for the service, and not {right:?}");
                say.say(Level::Blocks, None, text, REMEDY);
                return Some(false);
            }
            Some(true)
        }
        NameServerAnswer::Refused => {
            say.say(Level::Warning, None, format!("{server} refuses: it does not run"), REMEDY);
            Some(false)
        }
        NameServerAnswer::Silent => {
            say.say(Level::Warning, None, format!("{server} does not answer"), REMEDY);
            Some(false)
        }
    }
}

/// What the writable name must resolve to.
fn addresses(facts: &Facts<'_>) -> Vec<IpAddr> {
    let records = zone(facts.case.cluster).records.remove(&facts.case.service.spec.writable);
    let each = records.into_iter().flatten().filter_map(|data| match data {
        Data::Address(address) => Some(address),
        Data::Alias(_) | Data::Service { .. } | Data::Text(_) => None,
    });
    each.collect()
}
