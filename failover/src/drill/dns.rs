//! The drill of name servers: a name that no client uses is moved, and all of them must say so.

use super::judge::{Opinion, done, end};
use super::{Drill, FOLLOW_WITHIN, Outcome, Stage};
use crate::decide::{Case, Finding, finding};
use crate::ids::NameServerId;
use crate::report::{NameServerAnswer, Severity};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::IpAddr;

/// There or back: is every declared name server where the canary is?
pub(super) fn moved(case: &Case<'_>, drill: &Drill) -> Opinion {
    if let Some(abort) = &drill.abort {
        return end(Outcome::Aborted(abort.reason.clone()));
    }
    let instance = drill.points_at().and_then(|at| case.service.spec.instances.get(at));
    let Some(expected) = instance.map(crate::topology::Instance::client_address) else {
        let why = "whom the name was to point at is not declared any more";
        return end(Outcome::Failed(why.to_string()));
    };
    let servers = &case.cluster.topology.dns.servers;
    let behind: Vec<Finding> =
        servers.keys().filter_map(|server| behind(case, drill, server, expected)).collect();
    if behind.is_empty() {
        let name = crate::zone::canary_name(&case.service.spec);
        let text = format!("{} name servers say that {name} is at {expected}", servers.len());
        return if drill.stage == Stage::Back { end(Outcome::Passed) } else { done(text) };
    }
    if case.view.drilled(drill, case.now) < FOLLOW_WITHIN {
        return Opinion::Wait(behind);
    }
    let each: Vec<&str> = behind.iter().map(|finding| finding.text.as_str()).collect();
    let (within, all) = (FOLLOW_WITHIN.as_secs(), each.join("; "));
    end(Outcome::Failed(format!("after {within} s: {all}")))
}

/// What a name server says otherwise.
fn behind(
    case: &Case<'_>,
    drill: &Drill,
    server: &NameServerId,
    expected: IpAddr,
) -> Option<Finding> {
    let told = case.view.name_servers.get(server);
    let since = case.now.before(case.view.drilled(drill, case.now));
    let text: String = match told.filter(|(at, _)| *at >= since).map(|(_, answer)| answer) {
        None => format!("{server} has not been asked since"),
        Some(NameServerAnswer::Refused) => format!("{server} refuses"),
        Some(NameServerAnswer::Silent) => format!("{server} does not answer"),
        Some(NameServerAnswer::Serves { version, canaries, .. }) => {
            let own = canaries.iter().find(|(service, _)| service == case.id);
            let given = own.map(|(_, addresses)| addresses.as_slice()).unwrap_or_default();
            if *version >= case.cluster.zone_version && given == [expected] {
                return None;
            }
            format!("{server} serves zone {version} and gives {given:?}, not {expected}")
        }
    };
    Some(finding("name-server", Severity::Info, None, text))
}
