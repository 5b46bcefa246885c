//! What a topology must keep to; the crate's one fallible function.

use crate::ids::{InstanceId, SiteId};
use crate::topology::{Dns, OnLastCopy, ServiceSpec, Timing, Topology};
use alloc::collections::BTreeMap;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;

/// One thing wrong with a topology.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The dotted path of the key: `service.clinic.required`.
    pub key: String,
    /// What is wrong and what would be right.
    pub text: String,
}

/// Checks a topology: names, addresses, policies and the timing law.
///
/// # Errors
/// Everything that is wrong, not only the first.
pub fn validate(topology: &Topology) -> Result<(), Vec<Problem>> {
    let mut problems = Vec::new();
    let mut say = |key: &str, text: String| problems.push(Problem { key: key.to_string(), text });
    timing_law(&topology.timing, &mut say);
    dns(&topology.dns, topology, &mut say);
    addresses(topology, &mut say);
    crate::calendar::validate(topology, &mut say);
    let expires = topology.people.approval_expires;
    if !(Duration::from_mins(1)..=Duration::from_hours(24)).contains(&expires) {
        let text = format!("{} s is not within 1 min and 24 h", expires.as_secs());
        say("people.approval_expires", text);
    }
    let mut names: BTreeMap<&str, String> = BTreeMap::new();
    for label in topology.dns.servers.keys() {
        names.insert(label.as_str(), format!("name server {label}"));
    }
    let mut instances: BTreeSet<&InstanceId> = BTreeSet::new();
    for (id, spec) in &topology.services {
        let key = format!("service.{id}");
        service(&key, spec, &topology.sites, &mut say);
        let aliases = spec.aliases.iter();
        for name in aliases.chain([&spec.writable, &spec.read_only]) {
            relative_name(&key, name, &mut say);
            if let Some(other) = names.insert(name, format!("service {id}")) {
                say(&key, format!("the name `{name}` is taken by {other}; names are unique"));
            }
        }
        for instance in spec.instances.keys() {
            if !instances.insert(instance) {
                let text = format!("instance `{instance}` is declared twice; names are unique");
                say(&format!("{key}.instance"), text);
            }
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

/// The timing law as one line, with its numbers; `doctor` prints it.
#[must_use]
pub fn law(timing: &Timing) -> String {
    format!(
        "fence_after {} ms + fence_time {} ms + clock rate error {} ms < suspect_after {} ms; \
         heartbeat {} ms * 4 <= suspect_after; election_timeout {} ms < suspect_after",
        timing.fence_after.as_millis(),
        timing.fence_time.as_millis(),
        rate_error(timing).as_millis(),
        timing.suspect_after.as_millis(),
        timing.heartbeat.as_millis(),
        timing.election_timeout.as_millis(),
    )
}

/// How far two clocks may drift apart while one of them counts `suspect_after`.
fn rate_error(timing: &Timing) -> Duration {
    timing.suspect_after.saturating_mul(timing.clock_rate_error_per_mille.min(1000)) / 1000
}

fn timing_law(timing: &Timing, say: &mut impl FnMut(&str, String)) {
    let ms = |duration: Duration| duration.as_millis();
    let bounds = [
        ("heartbeat", timing.heartbeat, 50, 60_000),
        ("fence_after", timing.fence_after, 100, 600_000),
        ("fence_time", timing.fence_time, 10, 60_000),
        ("suspect_after", timing.suspect_after, 200, 600_000),
        ("election_timeout", timing.election_timeout, 100, 60_000),
        ("switchover_deadline", timing.switchover_deadline, 500, 3_600_000),
        ("failover_window", timing.failover_window, 0, 604_800_000),
    ];
    for (key, value, least, most) in bounds {
        if ms(value) < least || ms(value) > most {
            let text = format!("{} ms is not within {least} ms and {most} ms", ms(value));
            say(&format!("timing.{key}"), text);
        }
    }
    if timing.clock_rate_error_per_mille > 200 {
        say("timing.clock_rate_error_per_mille", "must be at most 200".to_string());
    }
    let fenced =
        timing.fence_after.saturating_add(timing.fence_time).saturating_add(rate_error(timing));
    if fenced >= timing.suspect_after {
        let text = format!(
            "fence_after + fence_time + clock rate error = {} ms must be less than suspect_after \
             = {} ms, or a primary that was replaced would still answer readers; raise \
             suspect_after or lower fence_after",
            ms(fenced),
            ms(timing.suspect_after)
        );
        say("timing.suspect_after", text);
    }
    if timing.heartbeat.saturating_mul(4) > timing.suspect_after {
        let text = format!(
            "four heartbeats of {} ms are more than suspect_after = {} ms; lower heartbeat",
            ms(timing.heartbeat),
            ms(timing.suspect_after)
        );
        say("timing.heartbeat", text);
    }
    if timing.election_timeout >= timing.suspect_after {
        let text = format!(
            "{} ms must be less than suspect_after = {} ms",
            ms(timing.election_timeout),
            ms(timing.suspect_after)
        );
        say("timing.election_timeout", text);
    }
}

fn dns(dns: &Dns, topology: &Topology, say: &mut impl FnMut(&str, String)) {
    let secs = dns.ttl.as_secs();
    if !(1..=300).contains(&secs) || dns.ttl.subsec_nanos() != 0 {
        say("dns.ttl", "must be whole seconds from 1s to 300s".to_string());
    }
    for (key, name) in [("dns.origin", &dns.origin), ("dns.contact", &dns.contact)] {
        let labels = name.strip_suffix('.').unwrap_or("");
        if name.len() > 200 || !labels.split('.').all(is_label) {
            say(key, format!("`{name}` is not a lower-case domain name with its final dot"));
        }
    }
    for (id, server) in &dns.servers {
        if !topology.sites.contains_key(&server.site) {
            say("dns.servers", format!("{id} stands in the unknown site `{}`", server.site));
        }
    }
}

fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

fn relative_name(key: &str, name: &str, say: &mut impl FnMut(&str, String)) {
    if name.len() > 200 || !name.split('.').all(is_label) {
        let text = format!("`{name}` is not a lower-case name relative to the zone");
        say(key, text);
    }
}

fn addresses(topology: &Topology, say: &mut impl FnMut(&str, String)) {
    let mut taken: BTreeMap<SocketAddr, String> = BTreeMap::new();
    let mut take = |key: String, address: SocketAddr| {
        if address.port() == 0 || address.ip().is_unspecified() {
            say(&key, format!("{address} is not an address that others can reach"));
        } else if let Some(other) = taken.insert(address, key.clone()) {
            say(&key, format!("{address} is used twice, also by {other}"));
        }
    };
    for (id, server) in &topology.dns.servers {
        take(format!("dns.servers.{id}"), server.address);
    }
    for spec in topology.services.values() {
        for (id, instance) in &spec.instances {
            take(format!("instance.{id}.postgres"), instance.postgres);
            take(format!("instance.{id}.agent"), instance.agent);
        }
    }
}

fn service(
    key: &str,
    spec: &ServiceSpec,
    sites: &BTreeMap<SiteId, crate::topology::Site>,
    say: &mut impl FnMut(&str, String),
) {
    let used: BTreeSet<&SiteId> = spec.instances.values().map(|instance| &instance.site).collect();
    for site in used.iter().filter(|site| !sites.contains_key(**site)) {
        say(&format!("{key}.instance"), format!("unknown site `{site}`"));
    }
    if used.len() < 2 {
        let text = "instances in at least two sites are needed: one site is one disaster";
        say(&format!("{key}.instance"), text.to_string());
    }
    let standbys = spec.instances.len().saturating_sub(1);
    let required = spec.required as usize;
    if required == 0 || required > standbys {
        let text = format!(
            "{required} acknowledgements of {standbys} standbys: it must be from 1 to {standbys}"
        );
        say(&format!("{key}.required"), text);
    }
    if spec.on_last_copy == OnLastCopy::SingleCopy && required > 1 {
        let text = "more than one required acknowledgement contradicts `single-copy`";
        say(&format!("{key}.on_last_copy"), text.to_string());
    }
    let listed: BTreeSet<&InstanceId> = spec.preference.iter().collect();
    if listed.len() != spec.preference.len() || !listed.iter().copied().eq(spec.instances.keys()) {
        say(&format!("{key}.preference"), "must list every instance once".to_string());
    }
    for (number, line) in spec.client_access.iter().enumerate() {
        if names_secret(line) {
            let text = "a secret in it would stand in every voter's log and audit record for \
                        ever, and it is not shown here: use scram-sha-256, cert, ldap with \
                        ldapprefix and ldapsuffix, or pam, whose secrets stay on the machine; and \
                        change this one, since it was written down";
            say(&format!("{key}.client_access.{number}"), text.to_string());
            continue;
        }
        let kind = line.split_whitespace().next().unwrap_or("");
        let plain = !line.contains(['\n', '\r', '\0']);
        if !plain || !matches!(kind, "host" | "hostssl" | "hostnossl" | "local") {
            let text = format!("`{}` is not a line of pg_hba.conf", line.escape_debug());
            say(&format!("{key}.client_access.{number}"), text);
        }
    }
}

/// Whether a line of pg_hba.conf sets an option that holds a secret: `ldapbindpasswd`,
/// `radiussecrets`, and whatever a later PostgreSQL calls like that.
fn names_secret(line: &str) -> bool {
    let plain = line.replace('"', "").to_lowercase();
    let names = plain.match_indices('=').filter_map(|(at, _)| plain.get(..at));
    let mut names = names.filter_map(|before| before.trim_end().rsplit([' ', '\t', ',']).next());
    names.any(|name| ["passw", "secret"].iter().any(|word| name.contains(word)))
}

#[cfg(test)]
mod tests {
    use super::names_secret;

    #[test]
    fn options_with_secrets_are_known_however_they_are_written() {
        for line in [
            "host all all ::/0 ldap ldapserver=l ldapbinddn=cn ldapbindpasswd=hush",
            "host all all ::/0 ldap \"ldapbindpasswd\"=hush",
            "host all all ::/0 ldap \"ldapbindpasswd=two words\"",
            "hostssl all all ::/0 radius radiusservers=r radiussecrets=\"a,b\"",
            "hostssl all all ::/0 oauth client_secret=hush",
        ] {
            assert!(names_secret(line), "{line}");
        }
        for line in [
            "hostssl clinic clinic 0.0.0.0/0 scram-sha-256",
            "host all secretary 0.0.0.0/0 password",
            "host all secretary ::/0 ldap ldapserver=l ldapprefix=\"cn=\" ldapsuffix=\",dc=x\"",
            "hostssl all all ::/0 cert map=passwords",
        ] {
            assert!(!names_secret(line), "{line}");
        }
    }
}
