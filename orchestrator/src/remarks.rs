//! What is not as it should be, told from a [`Status`]: by `baton status`, `baton watch` and the
//! page alike.
//!
//! Nothing is good by default (I-37): what nobody said, or said too long ago, is not.

use failover::Role;
use failover::report::{NameServerAnswer, Server, Severity};

use crate::answers::{
    InstanceStatus, NameServerStatus, ServiceStatus, Status, VoterState, VoterStatus,
};
use crate::words::{self, Mood, age};

/// What was said longer ago is unknown now, in milliseconds.
pub const LIMIT_MS: u64 = 10_000;

/// A name server tells its version at least once in a long poll.
pub const FOLLOWS_LIMIT_MS: u64 = 40_000;

/// Everything that is not as it should be, worst first.
pub fn problems(status: &Status) -> Vec<(Mood, String)> {
    let mut found = Vec::new();
    if status.leader.is_none() {
        found.push((
            Mood::Bad,
            "no leader is known: nothing is decided, nothing below is fresh".into(),
        ));
    }
    if status.services.is_empty() {
        found.push((Mood::Bad, "no service is declared: baton apply".into()));
    }
    for voter in &status.voters {
        if let Some(problem) = of_voter(voter) {
            found.push((Mood::Odd, format!("voter {}: {problem}", voter.name)));
        }
    }
    for service in &status.services {
        of_service(service, &mut found);
    }
    for server in &status.name_servers {
        if let Some(problem) = of_name_server(server, status.zone_version) {
            found.push((Mood::Odd, format!("name server {}: {problem}", server.server)));
        }
    }
    for missed in &status.missed_drills {
        let text = format!("drill {} was missed: {}", missed.entry, missed.why);
        found.push((Mood::Odd, text));
    }
    found.sort_by(|(a, _), (b, _)| b.cmp(a));
    found
}

fn of_voter(voter: &VoterStatus) -> Option<String> {
    match voter.state {
        VoterState::Unknown => Some("not heard lately".to_owned()),
        VoterState::Learner => Some("does not vote yet".to_owned()),
        VoterState::Leader | VoterState::Follower => None,
    }
}

/// The same of one service and its instances.
pub fn of_service(service: &ServiceStatus, found: &mut Vec<(Mood, String)>) {
    let name = &service.service;
    let mut say = |mood, text: String| found.push((mood, format!("{name}: {text}")));
    match &service.primary {
        None => say(Mood::Bad, "no primary yet".to_owned()),
        Some(primary) => {
            let there = service.published.as_ref().is_some_and(|p| p.instance == *primary);
            if !there {
                say(Mood::Bad, format!("{primary} is the primary, but not in DNS"));
            }
            if is_old(service.lease_age_ms) {
                say(Mood::Bad, format!("{primary} was given no lease lately"));
            }
        }
    }
    if let Some(transition) = &service.transition {
        let step = transition.step.name();
        say(Mood::Odd, format!("transition {} is at `{step}`", transition.id));
    }
    if let Some(hold) = &service.hold {
        say(Mood::Odd, format!("automation is paused by {}: {}", hold.by, hold.reason));
    }
    if let Some(id) = service.unacknowledged {
        say(
            Mood::Odd,
            format!("failover {id} is not acknowledged: baton report {id}; baton resume {name}"),
        );
    }
    if service.primary.is_some() && !service.is_site_safe {
        say(Mood::Bad, "losing the primary's site could lose acknowledged commits".to_owned());
    }
    for finding in &service.findings {
        if finding.severity > Severity::Info {
            say(words::severity(finding.severity), words::finding(finding));
        }
    }
    for instance in &service.instances {
        of_instance(instance, found);
    }
}

/// The same of one instance.
pub fn of_instance(instance: &InstanceStatus, found: &mut Vec<(Mood, String)>) {
    let name = &instance.instance;
    let mut say = |mood, text: String| found.push((mood, format!("{name}: {text}")));
    if instance.reported.is_none() || is_old(instance.age_ms) {
        say(
            Mood::Bad,
            match instance.age_ms {
                None => "never heard by this leader".to_owned(),
                ms @ Some(_) => format!("not heard for {}", age(ms)),
            },
        );
        return;
    }
    let says = words::server(instance.reported.as_ref());
    match (&instance.assigned, &instance.reported) {
        (Role::Primary { .. }, Some(Server::Writable { admits, .. })) => {
            if !admits {
                say(Mood::Bad, "primary that admits no client".to_owned());
            }
        }
        (Role::Standby { .. }, Some(Server::Recovery { .. })) => {
            if instance.streaming != Some(true) {
                say(Mood::Odd, "does not stream".to_owned());
            } else if !instance.in_rule {
                say(Mood::Odd, "is not in the synchronous rule".to_owned());
            }
        }
        (Role::Sealed, Some(Server::Recovery { .. }))
        | (Role::Fenced | Role::Stopped, Some(Server::Down(_))) => {
            say(Mood::Odd, format!("{says}, for the transition"));
        }
        (assigned, _) => {
            say(Mood::Bad, format!("is to be {}, is {says}", words::role(assigned)));
        }
    }
    for note in &instance.notes {
        if note.severity > Severity::Info {
            say(words::severity(note.severity), format!("{}: {}", note.subject, note.text));
        }
    }
}

/// What is not as it should be with a name server, if anything.
pub fn of_name_server(server: &NameServerStatus, zone: u32) -> Option<String> {
    let asked = server.asked.as_ref().filter(|_| !is_old(server.asked_age_ms));
    match asked {
        Some(NameServerAnswer::Serves { version, .. }) if *version != zone => {
            return Some(format!("answers version {version}, the zone is at {zone}"));
        }
        Some(NameServerAnswer::Serves { .. }) => {}
        Some(NameServerAnswer::Refused) => return Some("refuses".to_owned()),
        Some(NameServerAnswer::Silent) => return Some("does not answer".to_owned()),
        None => return Some("what it answers is unknown".to_owned()),
    }
    let follows =
        server.follows.filter(|_| server.follows_age_ms.is_some_and(|ms| ms <= FOLLOWS_LIMIT_MS));
    match follows {
        Some(version) if version == zone => None,
        Some(version) => Some(format!("follows version {version}, the zone is at {zone}")),
        None => Some("has not been in touch with the voters lately".to_owned()),
    }
}

/// Whether what was said so long ago is unknown now; what was never said is.
pub fn is_old(ms: Option<u64>) -> bool {
    ms.is_none_or(|ms| ms > LIMIT_MS)
}
