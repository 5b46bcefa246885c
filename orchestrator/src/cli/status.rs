//! `baton status`: everything on one screen, and one verdict under it.
//!
//! Nothing is good by default (I-37): what nobody said, or said too long ago, is `unknown`, and the
//! verdict is good only when everything that should be there was seen lately.

use std::fmt::Write as _;
use std::time::Duration;

use failover::report::{NameServerAnswer, Server, Severity};
use failover::{Role, Timestamp};
use orchestrator::answers::{
    InstanceStatus, NameServerStatus, ServiceStatus, Status as Answer, VoterState, VoterStatus,
};
use wire::clock;

use crate::client::{Cluster, Failure};
use crate::screen::{self, Mood, age, bytes, cell, lines, print, table, tinted};
use crate::verbs::{Globals, Status};
use crate::words;

/// What was said longer ago is unknown now, in milliseconds.
const LIMIT_MS: u64 = 10_000;

/// A name server tells its version at least once in a long poll.
const FOLLOWS_LIMIT_MS: u64 = 40_000;

pub async fn run(globals: &Globals, arguments: &Status) -> Result<u8, Failure> {
    let status = Cluster::of(globals)?.status().await?;
    let problems = problems(&status);
    print(globals.output, &status, &render(&status, &problems, clock::wall()))?;
    let bad = arguments.check && !problems.is_empty();
    Ok(if bad { wire::exit::FAILED } else { wire::exit::OK })
}

/// Everything that is not as it should be, worst first.
pub fn problems(status: &Answer) -> Vec<(Mood, String)> {
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

fn of_service(service: &ServiceStatus, found: &mut Vec<(Mood, String)>) {
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

fn of_instance(instance: &InstanceStatus, found: &mut Vec<(Mood, String)>) {
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

fn of_name_server(server: &NameServerStatus, zone: u32) -> Option<String> {
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

fn is_old(ms: Option<u64>) -> bool {
    ms.is_none_or(|ms| ms > LIMIT_MS)
}

fn render(status: &Answer, problems: &[(Mood, String)], now: Timestamp) -> String {
    let mut text = heading(status, now);
    text.push_str(&sites(status));
    text.push_str(&voters(status));
    for service in &status.services {
        text.push_str(&of_one_service(service));
    }
    text.push_str(&name_servers(status));
    text.push_str(&drill(status));
    text.push('\n');
    for (mood, problem) in problems {
        let _ = writeln!(text, "{}", tinted(&format!("! {problem}"), *mood));
    }
    let verdict = match problems.iter().map(|(mood, _)| *mood).max() {
        None => tinted("all is well", Mood::Good),
        Some(Mood::Bad) => tinted(&format!("NOT WELL: {} problems", problems.len()), Mood::Bad),
        Some(_) => tinted(&format!("works, with {} remarks", problems.len()), Mood::Odd),
    };
    let _ = writeln!(text, "{verdict}");
    text
}

fn heading(status: &Answer, now: Timestamp) -> String {
    let leader = match (&status.leader, status.led_for_ms) {
        (Some(leader), Some(ms)) => {
            format!("leader {} for {}", leader.name, screen::span(Duration::from_millis(ms)))
        }
        (Some(leader), None) => format!("leader {}", leader.name),
        (None, _) => "NO LEADER".to_owned(),
    };
    let off = now.0.abs_diff(status.at.0);
    let clock = if off > 2_000 {
        format!(" · its clock differs by {}", screen::span(Duration::from_millis(off)))
    } else {
        String::new()
    };
    format!(
        "{} · {leader} · term {} · revision {} · topology {} · zone {} · told by {}{clock}\n",
        if status.cluster.is_empty() { "(no topology applied)" } else { &status.cluster },
        status.term,
        status.revision,
        status.topology_version,
        status.zone_version,
        status.answered_by.name,
    )
}

fn sites(status: &Answer) -> String {
    if status.sites.is_empty() {
        return String::new();
    }
    let mut rows = table(&["SITE", "operator", "law", "voter", "name server", "instances"]);
    for (id, site) in &status.sites {
        let here = |other: Option<&failover::SiteId>| other == Some(id);
        let voter = status.voters.iter().find(|voter| here(voter.site.as_ref()));
        let server = status.name_servers.iter().find(|server| here(Some(&server.site)));
        let instances: Vec<_> = status
            .services
            .iter()
            .flat_map(|service| &service.instances)
            .filter(|instance| here(Some(&instance.site)))
            .map(|instance| instance.instance.to_string())
            .collect();
        rows.add_row([
            id.to_string(),
            or_dash(site.operator.clone()),
            or_dash(site.jurisdiction.clone()),
            voter.map_or_else(|| "-".to_owned(), |voter| words::voter(voter.state).0.to_owned()),
            server.map_or_else(|| "-".to_owned(), |server| server.server.to_string()),
            if instances.is_empty() { "witness only".to_owned() } else { instances.join(", ") },
        ]);
    }
    format!("\n{}", lines(&rows))
}

fn or_dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}

fn voters(status: &Answer) -> String {
    let mut rows = table(&["VOTER", "name", "address", "state", "heard", "behind"]);
    for voter in &status.voters {
        let (state, mood) = words::voter(voter.state);
        let itself = voter.id == status.answered_by.voter;
        rows.add_row([
            cell(voter.id, Mood::Plain),
            cell(&voter.name, Mood::Plain),
            cell(voter.address.map_or_else(|| "-".to_owned(), |a| a.to_string()), Mood::Plain),
            cell(state, mood),
            cell(if itself { "itself".to_owned() } else { age(voter.age_ms) }, Mood::Plain),
            cell(
                voter.lag_entries.map_or_else(|| "-".to_owned(), |lag| format!("{lag} entries")),
                Mood::Plain,
            ),
        ]);
    }
    format!("\n{}", lines(&rows))
}

fn of_one_service(service: &ServiceStatus) -> String {
    let names = |set: &std::collections::BTreeSet<failover::InstanceId>| {
        let names: Vec<_> = set.iter().map(ToString::to_string).collect();
        if names.is_empty() { "nobody".to_owned() } else { names.join(", ") }
    };
    let rule = &service.rule;
    let lease = service.lease_age_ms.map_or_else(
        || "lease unknown".to_owned(),
        |ms| format!("lease given {} ago", age(Some(ms))),
    );
    let mut text = format!(
        "\nSERVICE {} · epoch {} · primary {} · {lease}\n",
        service.service,
        service.epoch,
        service.primary.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string),
    );
    let _ = writeln!(
        text,
        "  synchronous rule {}: {} of {}{} · {}",
        rule.generation,
        rule.required,
        names(&rule.instances),
        if rule.enforce.instances == rule.instances && rule.enforce.required == rule.required {
            String::new()
        } else {
            format!(" (enforcing {} of {})", rule.enforce.required, names(&rule.enforce.instances))
        },
        if service.is_site_safe {
            "survives the loss of a site"
        } else {
            "NOT SAFE against the loss of its site"
        },
    );
    let _ = writeln!(text, "  zero loss: {}", words::promise(&service.zero_loss));
    if let Some(published) = &service.published {
        let _ = writeln!(
            text,
            "  DNS: {} -> {} since epoch {}",
            service.writable, published.instance, published.epoch
        );
    }
    let mut rows = table(&[
        "INSTANCE", "site", "assigned", "reported", "position", "lag", "stream", "rule", "clients",
        "age",
    ]);
    for instance in &service.instances {
        rows.add_row(instance_row(instance));
    }
    text.push_str(&lines(&rows));
    text
}

fn instance_row(instance: &InstanceStatus) -> Vec<comfy_table::Cell> {
    let old = is_old(instance.age_ms);
    let reported = words::server(instance.reported.as_ref());
    let mut problems = Vec::new();
    of_instance(instance, &mut problems);
    let mood = problems.iter().map(|(mood, _)| *mood).max().unwrap_or(Mood::Good);
    let yes = |known: Option<bool>| match known {
        _ if old => "unknown",
        None => "-",
        Some(true) => "yes",
        Some(false) => "no",
    };
    let reported = match (&instance.reported, old) {
        (Some(_), true) => format!("unknown (was {reported})"),
        (Some(_) | None, _) => reported,
    };
    let position = instance
        .position
        .as_ref()
        .map_or_else(|| "unknown".to_owned(), |p| format!("{}/{}", p.timeline, p.lsn));
    let lag = match instance.lag_bytes {
        _ if old => "unknown".to_owned(),
        None if matches!(instance.assigned, Role::Primary { .. }) => "-".to_owned(),
        None => "unknown".to_owned(),
        Some(count) => bytes(count),
    };
    vec![
        cell(&instance.instance, Mood::Plain),
        cell(&instance.site, Mood::Plain),
        cell(words::role(&instance.assigned), Mood::Plain),
        cell(reported, mood),
        cell(position, Mood::Plain),
        cell(lag, Mood::Plain),
        cell(yes(instance.streaming), Mood::Plain),
        cell(if instance.in_rule { "counts" } else { "-" }, Mood::Plain),
        cell(yes(instance.admits), Mood::Plain),
        cell(age(instance.age_ms), if old { Mood::Bad } else { Mood::Plain }),
    ]
}

fn drill(status: &Answer) -> String {
    let Some(drill) = &status.drill else { return String::new() };
    let given_up = if drill.given_up { ", given up" } else { "" };
    let waits = drill.waits.first().map_or_else(String::new, |f| format!(" · {}", f.text));
    format!(
        "\nDRILL {} ({}) of {} · at {}{given_up}{waits}\n",
        drill.drill,
        drill.kind.name(),
        drill.service,
        drill.stage.name()
    )
}

fn name_servers(status: &Answer) -> String {
    if status.name_servers.is_empty() {
        return String::new();
    }
    let mut rows =
        table(&["NAME SERVER", "site", "address", "version", "answers", "age", "follows", "age"]);
    for server in &status.name_servers {
        let mood = if of_name_server(server, status.zone_version).is_none() {
            Mood::Good
        } else {
            Mood::Bad
        };
        let version = match &server.asked {
            Some(NameServerAnswer::Serves { version, .. }) => version.to_string(),
            Some(NameServerAnswer::Refused | NameServerAnswer::Silent) | None => "-".to_owned(),
        };
        rows.add_row([
            cell(&server.server, Mood::Plain),
            cell(&server.site, Mood::Plain),
            cell(server.address, Mood::Plain),
            cell(version, mood),
            cell(words::name_server(server.asked.as_ref()), mood),
            cell(age(server.asked_age_ms), Mood::Plain),
            cell(
                server.follows.map_or_else(|| "unknown".to_owned(), |v| v.to_string()),
                Mood::Plain,
            ),
            cell(age(server.follows_age_ms), Mood::Plain),
        ]);
    }
    format!("\n{}", lines(&rows))
}

#[cfg(test)]
mod tests;
