//! What a topology file says when it is right, and exactly what is said when it is wrong.

use std::path::Path;
use std::time::Duration;

use failover::ids::VoterId;
use failover::topology::OnLastCopy;

use super::*;

/// Three sites, one service; every test changes one thing.
pub(crate) const RIGHT: &str = r#"[cluster]
name = "clinic-eu"

[dns]
origin = "DB.clinic.example"
contact = "hostmaster@clinic.example"

[[site]]
name = "arezzo"
voter = "127.0.1.1:7400"
name_server = { name = "ns1", address = "127.0.1.1:5300" }

[[site]]
name = "falkenstein"
voter = "127.0.2.1:7400"

[[site]]
name = "roubaix"
voter = "127.0.3.1:7400"

[[service]]
name = "clinic"
required = 1

[[service.instance]]
name = "arezzo-1"
site = "arezzo"
postgres = "127.0.1.1:5432"
agent = "127.0.1.1:7500"

[[service.instance]]
name = "falkenstein-1"
site = "falkenstein"
postgres = "127.0.2.1:5432"
agent = "127.0.2.1:7500"

[[service.instance]]
name = "roubaix-1"
site = "roubaix"
postgres = "127.0.3.1:5432"
agent = "127.0.3.1:7500"
"#;

fn parsed(text: &str) -> Result<Declared, TopologyError> {
    parse(Path::new("t.toml"), text)
}

fn changed(from: &str, to: &str) -> String {
    assert!(RIGHT.contains(from), "{from}");
    RIGHT.replacen(from, to, 1)
}

#[test]
fn a_right_file_becomes_a_topology() {
    let declared = parsed(RIGHT).expect("it is right");
    let topology = &declared.topology;
    assert_eq!(topology.cluster, "clinic-eu");
    assert_eq!(topology.dns.origin, "db.clinic.example.");
    assert_eq!(topology.dns.contact, "hostmaster.clinic.example.");
    assert_eq!(topology.dns.ttl, Duration::from_secs(5));
    let ids: Vec<_> = declared.voters.iter().map(|(id, v)| (id.0, v.name.as_str())).collect();
    assert_eq!(ids, [(1, "arezzo"), (2, "falkenstein"), (3, "roubaix")]);
    assert_eq!(declared.voters.get(&VoterId(3)).map(|v| v.address.port()), Some(7400));
    let service = topology.services.values().next().expect("one service");
    assert_eq!((service.writable.as_str(), service.read_only.as_str()), ("clinic", "clinic-ro"));
    assert_eq!(service.on_last_copy, OnLastCopy::Block);
    let order: Vec<_> = service.preference.iter().map(ToString::to_string).collect();
    assert_eq!(order, ["arezzo-1", "falkenstein-1", "roubaix-1"]);
}

#[test]
fn the_metro_profile_keeps_the_timing_law() {
    let text = changed("[dns]", "[timing]\nprofile = \"metro\"\nfence_time = \"150ms\"\n\n[dns]");
    let topology = parsed(&text).expect("it is right").topology;
    assert_eq!(topology.timing.heartbeat, Duration::from_millis(100));
    assert_eq!(topology.timing.fence_after, Duration::from_millis(400));
    assert_eq!(topology.timing.fence_time, Duration::from_millis(150));
    assert_eq!(topology.timing.suspect_after, Duration::from_millis(700));
    assert_eq!(topology.dns.ttl, Duration::from_secs(1));
}

/// What is changed, into what, and all that is then said.
const WRONG: &[(&str, &str, &str)] = &[
    (
        "name = \"roubaix\"",
        "name = \"arezzo\"",
        "t.toml:18:8: site.arezzo: two sites are called `arezzo`: rename one\n",
    ),
    (
        "site = \"roubaix\"",
        "site = \"rubaix\"",
        "t.toml:39:8: service.clinic.instance.roubaix-1.site: no [[site]] is called `rubaix`; \
         there is arezzo, falkenstein, roubaix",
    ),
    (
        "agent = \"127.0.3.1:7500\"",
        "agent = \"127.0.2.1:5432\"",
        "t.toml:41:9: service.clinic.instance.roubaix-1.agent: 127.0.2.1:5432 is already the \
         address of service.clinic.instance.falkenstein-1.postgres: give each its own",
    ),
    (
        "voter = \"127.0.3.1:7400\"\n",
        "",
        "t.toml:18:8: site.roubaix: 2 of 3 sites have a `voter`: three or five are needed, so \
         that a majority outlives the loss of any site (a site without data may have one: a \
         witness)",
    ),
    (
        "name = \"roubaix-1\"",
        "name = \"arezzo-1\"",
        "t.toml:38:8: service.clinic.instance.arezzo-1: two instances are called `arezzo-1`: a \
         name is unique in the whole cluster, because it is in the instance's certificate",
    ),
    (
        "required = 1",
        "required = 3",
        "t.toml:23:12: service.clinic.required: `required` is how many standbys flush a commit \
         before it is acknowledged: with 3 instances it can be 1 to 2",
    ),
    (
        "required = 1",
        "writable = \"Clinic_1\"",
        "t.toml:23:12: service.clinic.writable: `Clinic_1` is not a DNS label: use 1 to 63 of \
         a-z, 0-9 and -, beginning and ending with a letter or digit",
    ),
    (
        "required = 1",
        "aliases = [\"ns1\"]",
        "t.toml:23:12: service.clinic.aliases.0: the name `ns1` is already \
         site.arezzo.name_server.name: names in the zone are unique",
    ),
    (
        "required = 1",
        "client_access = [\"local all all peer\", \"host all all ::/0 ldap ldapbindpasswd=x\"]",
        "t.toml:23:40: service.clinic.client_access.1: a secret in it would stand in every \
         voter's log and audit record for ever, and it is not shown here: use scram-sha-256",
    ),
    (
        "contact = \"hostmaster@clinic.example\"",
        "ttl = \"10m\"",
        "t.toml:6:7: dns.ttl: a time to live is a whole number of seconds from \"1s\" to \"300s\"",
    ),
    (
        "site = \"roubaix\"",
        "site = \"falkenstein\"",
        "t.toml:22:8: service.clinic.on_last_copy: with data in exactly two sites you must say \
         what happens when one is lost: on_last_copy = \"block\" (commits wait until it is back, \
         nothing can be lost) or on_last_copy = \"single-copy\" (the service goes on with one \
         copy, and says so)",
    ),
];

#[test]
fn errors_of_meaning_name_line_key_and_remedy() {
    for (from, to, said) in WRONG {
        let error = parsed(&changed(from, to)).expect_err(to).to_string();
        assert!(error.starts_with(said.trim_end()), "{to}\nsays  {error}\nnot   {said}");
    }
}

#[test]
fn two_services_of_one_name_are_told_at_the_second() {
    let again = "\n[[service]]\nname = \"clinic\"\n";
    let error = parsed(&format!("{RIGHT}{again}")).expect_err("twice").to_string();
    assert_eq!(error, "t.toml:44:8: service.clinic: two services are called `clinic`: rename one");
}

#[test]
fn errors_of_form_name_line_and_candidates() {
    for (from, to, place, words) in [
        ("required = 1", "requird = 1", "t.toml:23:1", &["requird", "required"][..]),
        ("[dns]", "[timing]\nheartbeat = \"500\"\n[dns]", "t.toml:5:13", &["heartbeat", "500ms"]),
        ("[dns]", "[timing]\nheartbeat = 500\n[dns]", "t.toml:5:13", &["heartbeat"]),
        ("name = \"roubaix-1\"", "name = \"Roubaix_1\"", "t.toml:38:8", &["Roubaix_1", "a-z"]),
        ("agent = \"127.0.3.1:7500\"", "agent = \"roubaix\"", "t.toml:41:9", &["agent"]),
        ("required = 1", "on_last_copy = \"wait\"", "t.toml:23:16", &["block", "single-copy"]),
    ] {
        let error = parsed(&changed(from, to)).expect_err(to).to_string();
        assert!(error.starts_with(place), "{to}: {error}");
        for word in words {
            assert!(error.contains(word), "{to}: {error} should say {word}");
        }
    }
}

#[test]
fn a_violated_timing_law_is_refused() {
    let text = changed("[dns]", "[timing]\nfence_after = \"3s\"\n\n[dns]");
    let error = parsed(&text).expect_err("fenced too late").to_string();
    assert!(error.starts_with("t.toml:4:2: timing.suspect_after: fence_after + "), "{error}");
}

#[test]
fn everything_wrong_is_told_at_once_in_the_order_of_the_file() {
    let text = changed("required = 1", "required = 9").replace("127.0.3.1:7500", "127.0.3.1:7400");
    let error = parsed(&text).expect_err("two things").to_string();
    let lines: Vec<_> = error.lines().collect();
    assert_eq!(lines.len(), 2, "{error}");
    assert!(lines.first().is_some_and(|line| line.contains("required")), "{error}");
}

#[test]
fn a_difference_names_its_key() {
    let now = parsed(RIGHT).expect("right").topology;
    let then = parsed(&changed("required = 1", "required = 2")).expect("right").topology;
    assert!(diff(&now, &now).is_empty());
    let keys: Vec<_> = diff(&now, &then).into_iter().map(|d| d.key).collect();
    assert_eq!(keys, ["services.clinic.required"]);
}

const CALENDAR: &str = r#"
[drills]
time_zone = "Europe/Paris"
protected = ["mon-fri 08:00-20:00"]
blackouts = ["2026-12-20..2027-01-07"]

[[drills.schedule]]
name = "quarterly"
kind = "switchover"
service = "clinic"
to = "roubaix-1"
when = "first sun 03:00"
dwell = "10m"
"#;

#[test]
fn a_calendar_of_drills_is_declared_or_is_the_usual_one() {
    let usual = parsed(RIGHT).expect("right").topology;
    assert!(usual.drills.is_default());
    let text = serde_json::to_string(&usual).expect("JSON");
    assert!(!text.contains("drills"), "what was not declared is not told to older voters");
    let drills = parsed(&format!("{RIGHT}{CALENDAR}")).expect("right").topology.drills;
    assert_eq!((drills.time_zone.as_str(), drills.protected.len()), ("Europe/Paris", 1));
    let entry = drills.schedule.values().next().expect("there is one");
    assert_eq!((entry.dwell, entry.within), (Duration::from_mins(10), Duration::from_hours(1)));
    assert_eq!(entry.when.to_string(), "first sun 03:00");
    let differ = parsed(&format!("{RIGHT}{CALENDAR}")).expect("right").topology;
    let keys: Vec<_> = diff(&usual, &differ).into_iter().map(|d| d.key).collect();
    assert!(keys.iter().any(|key| key == "drills.schedule.quarterly.when"), "{keys:?}");
}

#[test]
fn what_is_wrong_with_a_calendar_names_line_and_key() {
    for (from, to, said) in [
        ("Europe/Paris", "Europe/Pariss", "t.toml:44:13: drills.time_zone: `Europe/Pariss` is no"),
        ("mon-fri 08:00-20:00", "mon-fri 8-20", "t.toml:45:13: drills.protected"),
        ("first sun 03:00", "fifth sun 03:00", "t.toml:53:8"),
        ("roubaix-1\"\nwhen", "roubaix-9\"\nwhen", "t.toml:52:6: drills.schedule.quarterly.to: "),
        (
            "service = \"clinic\"",
            "service = \"x\"",
            "t.toml:51:11: drills.schedule.quarterly.service",
        ),
        (
            "dwell = \"10m\"",
            "dwell = \"25h\"",
            "t.toml:54:9: drills.schedule.quarterly.dwell: at most",
        ),
        ("dwell", "dwel", "t.toml:54:1"),
    ] {
        let text = format!("{RIGHT}{}", CALENDAR.replacen(from, to, 1));
        let error = parsed(&text).expect_err(to).to_string();
        assert!(error.starts_with(said), "{to}: {error}");
    }
}

const PROMISED: &str = r#"
[service.sla]
objective = "99.9 %"

[sla]
time_zone = "Europe/Paris"
hours = ["mon-sun 00:00-24:00"]
holidays = ["2026-12-25"]
"#;

#[test]
fn hours_of_service_are_declared_for_all_and_for_one_or_are_the_usual_ones() {
    let clinic = "clinic".parse().expect("a name");
    let usual = parsed(RIGHT).expect("right").topology;
    assert_eq!(usual.sla_of(&clinic), failover::calendar::Sla::default());
    let text = serde_json::to_string(&usual).expect("JSON");
    assert!(!text.contains("sla"), "what was not declared is not told to older voters");
    let declared = parsed(&format!("{RIGHT}{PROMISED}")).expect("right").topology;
    let sla = declared.sla_of(&clinic);
    assert_eq!((sla.objective.0, sla.time_zone.as_str()), (999_000, "Europe/Paris"));
    assert_eq!((sla.hours.len(), sla.holidays.len()), (1, 1));
    let keys: Vec<_> = diff(&usual, &declared).into_iter().map(|d| d.key).collect();
    assert!(keys.iter().any(|key| key == "sla.clinic.objective"), "{keys:?}");
}

#[test]
fn what_is_wrong_with_hours_of_service_names_line_and_key() {
    for (from, to, said) in [
        ("99.9 %", "99,9", "t.toml:44:13: service[0].sla.objective"),
        ("Europe/Paris", "Paris", "t.toml:47:13: sla.time_zone: `Paris` is no time zone"),
        ("\"mon-sun 00:00-24:00\"", "", "t.toml:48:1: sla.hours: with no hours nothing"),
        ("\"2026-12-25\"", "\"Christmas\"", "t.toml:49:12: sla.holidays[0]"),
        ("objective", "objektive", "t.toml:44:1"),
    ] {
        let text = format!("{RIGHT}{}", PROMISED.replacen(from, to, 1));
        let error = parsed(&text).expect_err(to).to_string();
        assert!(error.starts_with(said), "{to}: {error}");
    }
}
