//! `baton status`: everything on one screen, and one verdict under it.
//!
//! Nothing is good by default (I-37): what nobody said, or said too long ago, is `unknown`, and the
//! verdict is good only when everything that should be there was seen lately.

use std::fmt::Write as _;
use std::time::Duration;

use failover::report::NameServerAnswer;
use failover::{Role, Timestamp};
use orchestrator::answers::{InstanceStatus, ServiceStatus, Status as Answer};
use orchestrator::remarks::{is_old, of_instance, of_name_server, problems};
use wire::clock;

use crate::client::{Cluster, Failure};
use crate::screen::{self, Mood, age, bytes, cell, lines, print, table, tinted};
use crate::verbs::{Globals, Status};
use crate::words;

pub async fn run(globals: &Globals, arguments: &Status) -> Result<u8, Failure> {
    let status = Cluster::of(globals)?.status().await?;
    let problems = problems(&status);
    print(globals.output, &status, &render(&status, &problems, clock::wall()))?;
    let bad = arguments.check && !problems.is_empty();
    Ok(if bad { wire::exit::FAILED } else { wire::exit::OK })
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
